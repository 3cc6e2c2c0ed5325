"""Register figures by name."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

import plotly.graph_objects as go

from interp.runtime.registry import register

Draw = TypeVar("Draw", bound=Callable[..., go.Figure])

FIGURES: dict[str, Callable[..., go.Figure]] = {}
"""The functions that draw figures, by name, of the modules that have been imported."""


def figure(function: Draw) -> Draw:
    """Register the function below as the figure of its name. Raises ValueError if another figure has this name."""
    draw: Callable[..., go.Figure] = function
    register(FIGURES, function.__name__, draw, "the figure", lambda draw: draw)
    return function


def all_figures() -> dict[str, Callable[..., go.Figure]]:
    """Return every figure by its name, in alphabetical order."""
    from interp import figures

    for module in iter_modules(figures.__path__):
        import_module(f"{figures.__name__}.{module.name}")
    return dict(sorted(FIGURES.items()))
