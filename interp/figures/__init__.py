"""Draw results as figures: `figures.<noun>(table, …)` returns a plotly Figure with titles and units, and `figures.save`
writes it.

In: the tables of the other packages. A function that draws a figure computes no statistics, and neither shows nor saves
it.

A figure is a function under `@figure`, in a module here or in your own script. The names of its parameters say which
results it draws (`features`, `ranking`, `concepts`, …). `analyses/make_figures.py` passes the results of a run by these
names. The modules are imported when the first figure is requested, so importing the package is quick.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any


def all_figures() -> dict[str, Callable[..., Any]]:
    """Return every figure by its name, in alphabetical order."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    from interp.figures.figure import FIGURES

    return dict(sorted(FIGURES.items()))


def __getattr__(name: str) -> Any:
    """Return a figure, or one of the two functions that write results."""
    if name == "save":
        from interp.figures.saving import save

        return save
    if name == "quality_latex":
        from interp.figures.dictionaries import quality_latex

        return quality_latex
    if name.startswith("_") or name not in (figures := all_figures()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=import_module(__name__))
    return figures[name]


def __dir__() -> list[str]:
    return [*all_figures(), "all_figures", "quality_latex", "save"]
