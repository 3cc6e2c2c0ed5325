"""Activations of any model: harvested through hooks into a store and read in batches, or streamed and never stored."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
