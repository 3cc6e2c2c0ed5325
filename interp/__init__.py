"""interp: a dictionary-learning workbench for language models.

The public names stand in `__init__.pyi`, each with the module that it comes from, which is loaded when the name is
first used: importing the package is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
