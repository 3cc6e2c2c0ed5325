"""Give results to other tools: Neuronpedia, Delphi, viewers of attribution graphs, the Hugging Face hub.

What other tools have made is read where it belongs: dictionaries in `sae.formats`, language models in `models`,
attribution graphs in `effects.graph_files`, codes of any producer in `codes`, activations in `activations`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
