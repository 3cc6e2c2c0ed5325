"""Register figures by name."""

from collections.abc import Callable
from typing import TypeVar

import plotly.graph_objects as go

from interp.runtime.registry import register

Draw = TypeVar("Draw", bound=Callable[..., go.Figure])

FIGURES: dict[str, Callable[..., go.Figure]] = {}
"""The functions that draw figures, by name. `figures.all_figures` first imports the modules that register them."""


def figure(function: Draw) -> Draw:
    """Register the function below as the figure of its name. Raises ValueError if another figure has this name."""
    draw: Callable[..., go.Figure] = function
    register(FIGURES, function.__name__, draw, "the figure", lambda draw: draw)
    return function
