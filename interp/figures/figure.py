"""Register figures by name."""

from collections.abc import Callable
from typing import TypeVar

import plotly.graph_objects as go

from interp.runtime.registry import import_files, register

Draw = TypeVar("Draw", bound=Callable[..., go.Figure])

FIGURES: dict[str, Callable[..., go.Figure]] = {}
"""The functions that draw figures, by name, of the modules that have been imported."""


def figure(function: Draw) -> Draw:
    """Register the function below as the figure of its name. Raises ValueError if another figure has this name."""
    draw: Callable[..., go.Figure] = function
    register(FIGURES, function.__name__, draw, "figure", lambda draw: draw)
    return function


def all_figures() -> dict[str, Callable[..., go.Figure]]:
    """Return every figure by its name, in alphabetical order."""
    from interp import figures

    import_files(figures.__name__, figures.__path__)
    return dict(sorted(FIGURES.items()))
