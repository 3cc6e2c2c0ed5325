"""Results → figures: `figures.<noun>(table, …)` gives a plotly Figure with titles and units; `figures.save` writes one.

In: the tables that the other rooms make. Nothing is computed, shown or saved while a figure is drawn.

A figure is a public function of a module here whose annotation says that it returns a `go.Figure`; there is no list to
keep. The names of its parameters say which results it draws (`features`, `ranking`, `concepts`, …), and by them the
gallery of `analyses/make_figures.py` hands it those of a run. Modules are read when the first figure is asked for.
"""

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

TOOLS = ("theme", "print_layout", "saving")
"""Modules of how a figure looks and is written, which draw none."""


@cache
def all_figures() -> dict[str, Callable[..., Any]]:
    """Every figure by its name, in alphabetical order."""
    modules = [
        import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__) if module.name not in TOOLS
    ]
    by_name = {name: value for module in modules for name, value in vars(module).items() if _is_figure(name, value)}
    return dict(sorted(by_name.items()))


def _is_figure(name: str, function: Any) -> bool:
    if name.startswith("_") or not inspect.isfunction(function):
        return False
    if function.__module__.startswith("plotly.") or function.__module__.rpartition(".")[2] in TOOLS:
        return False
    from plotly.graph_objects import Figure

    return inspect.signature(function).return_annotation in ("go.Figure", "Figure", Figure)


def __getattr__(name: str) -> Any:
    """A figure, or one of the two functions that write results."""
    if name == "save":
        from interp.figures.saving import save

        return save
    if name == "quality_latex":
        from interp.figures.dictionaries import quality_latex

        return quality_latex
    if name.startswith("_") or name not in all_figures():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=import_module(__name__))
    return all_figures()[name]


def __dir__() -> list[str]:
    return [*all_figures(), "all_figures", "quality_latex", "save"]
