"""Measure the effects of features: run the model with changed latents, and measure the change of its predictions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
