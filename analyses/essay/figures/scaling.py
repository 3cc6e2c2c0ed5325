"""Scaling laws: loss against size on logarithmic axes, with the laws fitted to all but the largest.

In: losses by size and seed, fitted laws (callables of size), the known floor, curves as a DataFrame. Out: plotly
Figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from interp.figures.theme import BLUE, COLOUR_SCALE, GREEN, INK, VERMILLION, check_columns, escape_markup, with_style

if TYPE_CHECKING:
    import pandas as pd

LINES = {"power law": (BLUE, "solid"), "exponential": (VERMILLION, "dash"), "stretched": (GREEN, "dot")}
NAMES = {"power law": "power law", "exponential": "exponential in N", "stretched": "exponential in √N"}


def scaling_law(
    x: np.ndarray,
    loss: np.ndarray,
    laws: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    floor: float,
    *,
    title: str,
    x_title: str,
    symbol: str,
) -> go.Figure:
    """Draw loss minus `floor` against size, with a dot per seed, and the line of each law. Dots of the largest size, to
    which no law is fitted, are open.

    x: [size], ascending.
    loss: [size, seed], in nats per token.
    laws: by the names of `LINES`. If a law falls below the floor, its line leaves the figure.
    """
    above = np.asarray(loss) - floor
    fig = go.Figure()
    along = np.geomspace(x[0] * 0.9, x[-1] * 1.25, 200)
    low = above[above > 0].min() / 1.6
    for name, law in laws.items():
        height = law(along) - floor
        colour, dash = LINES[name]
        shown = np.where(height > low, height, np.nan)
        line = dict(color=colour, dash=dash, width=2)
        label = NAMES[name].replace("N", escape_markup(symbol))
        fig.add_trace(go.Scatter(x=along, y=shown, mode="lines", line=line, name=label, hoverinfo="skip"))
    fig.add_traces(_dots(x, above))
    with_style(fig, title, x=f"{escape_markup(x_title)} (log)", y="loss − floor (nats a token, log)", height=396)
    top = above.max() * 1.25
    fig.update_xaxes(type="log", tickformat="~s", tickvals=_ticks(along[0], along[-1], (1, 2, 5)))
    fig.update_yaxes(type="log", tickvals=_ticks(low, top, (1, 2, 5)), range=np.log10([low, top]).tolist())
    return fig.update_layout(margin_t=92, meta={"min_width": 600})  # the legend takes two lines


def compute_curves(curves: pd.DataFrame, floor: float) -> go.Figure:
    """Draw loss minus `floor` of models of several sizes while they train, against the compute spent.

    curves: columns parameters, flops, loss (nats a token); one line per size, from light to dark.
    """
    check_columns(curves, "parameters", "flops", "loss")
    sizes = sorted(curves["parameters"].unique())
    colours = sample_colorscale(COLOUR_SCALE, np.linspace(0, 0.92, len(sizes)).tolist())
    fig = go.Figure()
    for size, colour in zip(sizes, colours, strict=True):
        part = curves[curves["parameters"] == size]
        line = dict(color=colour, width=2)
        fig.add_trace(go.Scatter(x=part["flops"], y=part["loss"] - floor, mode="lines", line=line, name=_short(size)))
        first = dict(x=np.log10(part["flops"].iloc[0]), y=np.log10(max(part["loss"].iloc[0] - floor, 1e-6)))
        look = dict(showarrow=False, yanchor="bottom", font=dict(size=11, color=INK))
        fig.add_annotation(**first, text=_short(size), **look)
    with_style(fig, "Loss above the floor while training, by size", x="training compute (FLOP, log)")
    above = curves["loss"] - floor
    fig.update_layout(showlegend=False)
    fig.update_xaxes(type="log", exponentformat="power", dtick=1)
    fig.update_yaxes(
        type="log",
        title_text="loss − floor (nats a token, log)",
        tickvals=_ticks(above.min() / 1.2, above.max(), (1, 2, 5)),
    )
    return fig


def _dots(x: np.ndarray, above: np.ndarray) -> list[go.Scatter]:
    """Return one a size and seed: those that the laws were fitted to, and those of the largest size."""
    fitted = dict(color=INK, size=7, opacity=0.75)
    held_out = dict(color="white", size=10, line=dict(color=INK, width=1.8), symbol="diamond")
    hover = "%{x:,.0f}: %{y:.3f} nats above the floor<extra></extra>"
    return [
        go.Scatter(
            x=np.repeat(x[part], above.shape[1]),
            y=above[part].ravel(),
            mode="markers",
            marker=marker,
            name=name,
            hovertemplate=hover,
        )
        for name, part, marker in (("fitted", slice(None, -1), fitted), ("held out", slice(-1, None), held_out))
    ]


def _short(size: float) -> str:
    return f"{size / 1000:.1f}k" if size < 9950 else f"{size / 1000:.0f}k"


def _ticks(low: float, high: float, digits: tuple[int, ...]) -> list[float]:
    every = [digit * 10.0**power for power in range(-9, 16) for digit in digits]
    return [tick for tick in every if low <= tick <= high]
