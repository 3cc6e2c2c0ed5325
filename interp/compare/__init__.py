"""Find a feature again in dictionaries of other models, seeds, widths and checkpoints, and the texts in which it fires.

In: feature stores, codes of the same tokens, or decoders. Out: small results with intervals, each with its null.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
