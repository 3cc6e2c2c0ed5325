"""Serve pages that ask a live model, to this machine only (`interp explore RUN`, `interp graph … --serve`), and show a
text box in a notebook (`interp.explore(run)`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
