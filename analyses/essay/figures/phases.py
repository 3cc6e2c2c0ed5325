"""How features in superposition arrange themselves as they grow sparser, and the phases of one feature.

In: tables and arrays of the analyses of superposition. Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.essay.figures.superposition import SPARSITY_AXIS, TICKS
from interp.figures.theme import BLUE, GREY, INK, SKY, VERMILLION, check_columns, escape_markup, with_style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

PHASE_COLOURS = ("#f2f2f2", SKY, VERMILLION)
LINES = {"3/4": 3 / 4, "2/3": 2 / 3, "1/2": 1 / 2, "2/5": 2 / 5, "3/8": 3 / 8}


def geometry(
    dims: pd.DataFrame,
    features: pd.DataFrame,
    density: tuple[np.ndarray, np.ndarray],
    *,
    title: str = "Dimensions a feature takes up, against sparsity",
) -> go.Figure:
    """Draw D* = m/‖W‖² above, with one line per seed. Below is the dimensionality of each kept feature, with its
    density on the right.

    `dims`: columns seed, inverse, d_star. `features`: inverse, dimensionality. `density`: dimensionality and height."""
    check_columns(dims, "seed", "inverse", "d_star")
    check_columns(features, "inverse", "dimensionality")
    fig = make_subplots(
        rows=2,
        cols=2,
        column_widths=[0.82, 0.18],
        row_heights=[0.4, 0.6],
        shared_xaxes="columns",
        specs=[[{}, None], [{}, {}]],
        horizontal_spacing=0.02,
        vertical_spacing=0.06,
    )
    for _, rows in dims.groupby("seed"):
        line = dict(mode="lines+markers", marker_size=4, line=dict(color=BLUE, width=1))
        fig.add_scatter(x=rows["inverse"], y=rows["d_star"], **line, row=1, col=1)
    fig.add_hline(y=0.5, line=dict(color=GREY, dash="dot"), row=1, col=1)
    dots = dict(mode="markers", marker=dict(color=INK, size=3, opacity=0.35), hoverinfo="skip")
    fig.add_scatter(x=features["inverse"], y=features["dimensionality"], **dots, row=2, col=1)
    area = dict(mode="lines", fill="tozerox", line=dict(color=BLUE, width=1), hoverinfo="skip")
    fig.add_scatter(x=density[1], y=density[0], **area, row=2, col=2)
    _shape_lines(fig)
    fig = with_style(fig, title, height=560)
    fig.update_xaxes(type="log", tickvals=TICKS, row=1, col=1)
    fig.update_xaxes(type="log", tickvals=TICKS, title_text=SPARSITY_AXIS, row=2, col=1)
    fig.update_xaxes(showticklabels=False, ticks="", title_text="density", row=2, col=2)
    fig.update_yaxes(title_text="D* = m / ‖W‖²", range=[0, 1.08], row=1, col=1)
    fig.update_yaxes(title_text="dimensionality of a feature", range=[0, 1.02], row=2, col=1)
    fig.update_yaxes(range=[0, 1.02], showticklabels=False, ticks="", row=2, col=2)
    return fig.update_layout(margin_r=44, showlegend=False)


def _shape_lines(fig: go.Figure) -> None:
    """Draw a line at the dimensionality of each regular shape, with its name at the right edge."""
    apart = {"2/5": 4, "3/8": -4}
    font = dict(color=INK, size=10)
    for name, at in LINES.items():
        fig.add_hline(y=at, line=dict(color=VERMILLION, width=0.8, dash="dot"), row=2)
        place = dict(x=1, xref="x3 domain", y=at, yref="y3", xanchor="left", xshift=3, yshift=apart.get(name, 0))
        fig.add_annotation(text=name, showarrow=False, font=font, **place)


def phase_diagram(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    density: Sequence[float],
    importance: Sequence[float],
    states: Sequence[str],
    *,
    title: str = "What becomes of one more feature",
) -> go.Figure:
    """Draw the state of the extra feature as maps.
    panels: name → its state, [importance, density], by the closed form or after training."""
    names = [f"{escape_markup(name)}, {kind}" for name in panels for kind in ("closed form", "trained")]
    fig = make_subplots(
        rows=len(panels),
        cols=2,
        subplot_titles=names,
        horizontal_spacing=0.06,
        vertical_spacing=0.13,
        shared_xaxes=True,
        shared_yaxes=True,
    )
    for row, (predicted, trained) in enumerate(panels.values(), 1):
        for col, z in enumerate((predicted, trained), 1):
            fig.add_trace(_states(z, density, importance, states), row=row, col=col)
        at, where = np.nonzero(predicted != trained)
        cross = dict(symbol="x-thin", color=INK, size=5, line_width=1)
        look = dict(mode="markers", marker=cross, name="differs from the closed form", showlegend=row == 1)
        fig.add_scatter(x=np.asarray(density)[where], y=np.asarray(importance)[at], **look, row=row, col=2)
    for state, colour in zip(states, PHASE_COLOURS, strict=True):
        square = dict(symbol="square", color=colour, size=11, line=dict(color=GREY, width=1))
        fig.add_scatter(x=[None], y=[None], mode="markers", name=escape_markup(state), marker=square)
    fig = with_style(fig, title, height=110 + 250 * len(panels))
    fig.update_xaxes(type="log", tickvals=[0.01, 0.03, 0.1, 0.3, 1], showgrid=False, range=_edges(density))
    fig.update_yaxes(type="log", tickvals=[0.1, 0.3, 1, 3, 10], showgrid=False, range=_edges(importance))
    fig.update_xaxes(title_text="density 1 − S", row=len(panels))
    fig.update_yaxes(title_text="relative importance", col=1)
    return fig.update_layout(legend=dict(y=-0.14, yanchor="top"), margin_b=100, meta={"min_width": 600})


def _states(z: np.ndarray, density: Sequence[float], importance: Sequence[float], states: Sequence[str]) -> go.Heatmap:
    """Draw cells [importance, density] in the colours of their states."""
    scale = [(at / 3 + step / 3, colour) for at, colour in enumerate(PHASE_COLOURS) for step in (0, 1)]
    hover = "density %{x:.3f}<br>importance %{y:.2f}<br>%{text}<extra></extra>"
    heat = go.Heatmap(x=density, y=importance, z=z, zmin=-0.5, zmax=2.5, colorscale=scale, showscale=False)
    return heat.update(text=np.array(list(map(escape_markup, states)))[z], hovertemplate=hover)


def _edges(values: Sequence[float]) -> list[float]:
    """Return the edges of cells around these values, in powers of ten, as a log axis has its range."""
    powers = np.log10(values)
    half = (powers[-1] - powers[0]) / (len(powers) - 1) / 2
    return [powers[0] - half, powers[-1] + half]
