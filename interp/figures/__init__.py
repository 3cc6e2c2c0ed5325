"""Draw results as figures: `figures.<noun>(table, …)` returns a plotly Figure with titles and units, and `figures.save`
writes it.

In: the tables of the other packages. A function that draws a figure computes no statistics, and neither shows nor saves
it.

A figure is a function under `@figure`, in a module here or in your own script. The names of its parameters say which
results it draws (`features`, `ranking`, `concepts`, …). `analyses/make_figures.py` passes the results of a run by these
names. `__init__.pyi` lists the library's figures with their modules, each of which is loaded when it is first used.
"""

from importlib import import_module
from typing import Any

import lazy_loader

_load, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Return a name of the stub or, if it is none, the figure of this name in a user's script."""
    if name in __all__ or name.startswith("_"):
        return _load(name)
    figures = _load("all_figures")()
    if name not in figures:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=import_module(__name__))
    return figures[name]


def __dir__() -> list[str]:
    return sorted({*__all__, *_load("all_figures")()})
