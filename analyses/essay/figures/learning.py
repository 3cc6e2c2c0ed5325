"""How a model learns: what a classifier says about the plane as it trains, and the loss as it falls.

In: arrays of what was recorded, DataFrames of what a training wrote. Out: plotly Figures, some with sliders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.essay.figures.slider import with_slider
from interp.figures.theme import (
    BLUE,
    GREY,
    INK,
    SEQUENCE,
    VERMILLION,
    check_columns,
    escape_markup,
    token_label,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd

REGIONS = ((0.0, "#7fb7d9"), (0.499, "#e4eff6"), (0.501, "#faece2"), (1.0, "#eaae80"))
"""Pale blue and vermillion, so that points of the full colours stand out."""

CURVES = (("loss", VERMILLION, 1), ("accuracy", BLUE, 2))
"""Column, colour and row of the curves next to a classifier's regions."""


def decision_regions(
    regions: np.ndarray, axis: np.ndarray, points: np.ndarray, classes: np.ndarray, titles: Sequence[str]
) -> go.Figure:
    """Draw small multiples of a classifier in the plane, three in a row, with the points from which it learns.

    regions: [panel, y, x], the probability of class 1 on the grid that `axis` spans both ways; points: [point, 2];
    classes: [point], 0 or 1. The line is where the probability is a half.
    """
    rows = math.ceil(len(regions) / 3)
    fig = make_subplots(
        rows=rows,
        cols=3,
        subplot_titles=list(map(escape_markup, titles)),
        horizontal_spacing=0.05,
        vertical_spacing=0.14,
    )
    for i, region in enumerate(regions):
        place = dict(row=i // 3 + 1, col=i % 3 + 1)
        fig.add_trace(_region(region, axis), **place)
        for trace in _points(points, classes, size=3, legend=i == 0):
            fig.add_trace(trace, **place)
    fig.update_annotations(font_size=12)
    with_style(fig, "Decision regions as the classifier trains", height=90 + 215 * rows)
    fig.update_layout(meta={"min_width": 600}, margin=dict(l=48, r=16))
    fig.update_layout(legend=dict(y=-0.1, yanchor="top"), title_pad_b=8)
    _square(fig, axis)
    for i in range(rows):
        fig.update_yaxes(title_text="y", title_standoff=0, row=i + 1, col=1)
    return fig.update_xaxes(title_text="x", title_standoff=0, row=rows)


def decision_slider(
    regions: np.ndarray,
    axis: np.ndarray,
    points: np.ndarray,
    classes: np.ndarray,
    curves: pd.DataFrame,
    *,
    opened: int | None = None,
) -> go.Figure:
    """Draw one classifier to be dragged through its training: its regions next to its loss and its accuracy.

    regions: [row, y, x], one per row of `curves`, whose columns are iteration, loss (nats), accuracy (held out).
    """
    check_columns(curves, "iteration", "loss", "accuracy")
    specs = [[{"rowspan": 2}, {}], [None, {}]]
    fig = make_subplots(rows=2, cols=2, specs=specs, column_widths=[0.58, 0.42], horizontal_spacing=0.13)
    opened = len(curves) - 1 if opened is None else opened
    moving = [[_region(regions[i], axis), *_reached(curves, i)] for i in range(len(curves))]
    fig.add_traces(moving[opened])
    fig.add_traces(_points(points, classes, size=5, legend=True))
    for column, colour, row in CURVES:
        line = go.Scatter(x=curves["iteration"], y=curves[column], mode="lines", line=dict(color=colour, width=1.5))
        fig.add_trace(line.update(showlegend=False, hovertemplate="%{x}: %{y:.3f}<extra></extra>"), row=row, col=2)
    frames = {str(it): traces for it, traces in zip(curves["iteration"], moving, strict=True)}
    with_style(fig, "A classifier as it trains: drag through the iterations", height=400)
    with_slider(fig, frames, prefix="iteration ", active=opened)
    fig.update_layout(meta={"min_width": 600})
    _square(fig, axis, row=1, col=1)
    fig.update_xaxes(title_text="x", row=1, col=1)
    fig.update_yaxes(title_text="y", row=1, col=1)
    fig.update_yaxes(title_text="loss (nats)", range=[0, 1.25 * curves["loss"].max()], row=1, col=2)
    fig.update_yaxes(title_text="held-out accuracy", range=[0, 1.2], tickvals=[0, 0.5, 1], row=2, col=2)
    return fig.update_xaxes(title_text="iteration", row=2, col=2)


def _reached(curves: pd.DataFrame, i: int) -> list[go.Scatter]:
    """Return a dot on each curve at row `i`, with its value."""
    side = "top center" if i < len(curves) * 0.8 else "top left"
    return [
        go.Scatter(
            x=[curves["iteration"].iloc[i]],
            y=[curves[column].iloc[i]],
            xaxis=f"x{row + 1}",
            yaxis=f"y{row + 1}",
            mode="markers+text",
            text=[f"{curves[column].iloc[i]:.2f}"],
            textposition=side,
            marker=dict(color=colour, size=9),
            showlegend=False,
        )
        for column, colour, row in CURVES
    ]


def loss_curves(curves: Mapping[str, pd.DataFrame], lines: Mapping[str, float], *, title: str, unit: str) -> go.Figure:
    """Draw held-out loss of trainings against the characters seen, with levels such as the corpus's own n-gram
    cross-entropies to beat; the training loss is pale in the background.

    curves: name → columns tokens, loss, val_loss (NaN if it was not measured), in `unit`.
    """
    fig = go.Figure()
    for (name, table), colour in zip(curves.items(), SEQUENCE, strict=False):
        check_columns(table, "tokens", "loss", "val_loss")
        pale = dict(mode="lines", line=dict(color=colour, width=1), opacity=0.3, showlegend=False, hoverinfo="skip")
        fig.add_scatter(x=table["tokens"], y=table["loss"], **pale)
        held_out = table.dropna(subset=["val_loss"])
        style = dict(mode="lines+markers", line=dict(color=colour, width=2), marker_size=5)
        fig.add_scatter(x=held_out["tokens"], y=held_out["val_loss"], name=escape_markup(name), **style)
    for text, value in lines.items():
        note = dict(
            annotation_text=f"{escape_markup(text)} {value:.2f}",
            annotation_position="top right",
            annotation_font_size=11,
        )
        fig.add_hline(y=value, line=dict(color=GREY, dash="dot", width=1.5), **note)
    with_style(fig, title, x="characters seen (logarithmic)", y=unit)
    return fig.update_xaxes(type="log", exponentformat="SI", dtick=1).update_yaxes(rangemode="tozero")


def character_losses(text: str, losses: Mapping[str, np.ndarray], *, unit: str = "bits") -> go.Figure:
    """Draw −log p of each character of `text`, as bars side by side for each model. Their mean is the loss. losses:
    name → [character], NaN if nothing was predicted."""
    fig = go.Figure()
    for (name, values), colour in zip(losses.items(), (GREY, BLUE, VERMILLION), strict=False):
        fig.add_bar(x=list(range(len(text))), y=values, name=escape_markup(name), marker_color=colour)
    with_style(fig, "What each character costs", x="text, a character a place", y=f"−log p of the character ({unit})")
    return with_characters(fig, text).update_layout(barmode="group", bargap=0.15, bargroupgap=0)


def with_characters(fig: go.Figure, text: str) -> go.Figure:
    """Return `fig` with `text` along its x axes, one character per tick."""
    ticks = dict(tickvals=list(range(len(text))), ticktext=[token_label(each) for each in text], tickangle=0, ticks="")
    return fig.update_xaxes(**ticks, tickfont=dict(size=11, family="Menlo, Consolas, monospace"), showgrid=False)


def _region(region: np.ndarray, axis: np.ndarray) -> go.Contour:
    """Return the region in ten-thousandths. With two bytes per place, many frames stay small, and the line stays smooth
    where p is flat."""
    small = np.round(10_000 * np.asarray(region)).astype(np.uint16)
    trace = go.Contour(x=axis, y=axis, z=small, zmin=0, zmax=10_000, colorscale=REGIONS, showscale=False)
    half = dict(coloring="heatmap", start=5000, end=5000, size=1, showlines=True)
    return trace.update(contours=half, line=dict(color=INK, width=1.5), hoverinfo="skip")


def _points(points: np.ndarray, classes: np.ndarray, *, size: int, legend: bool) -> list[go.Scatter]:
    traces = []
    for which, colour in enumerate((BLUE, VERMILLION)):
        x, y = points[classes == which].T
        look = dict(mode="markers", marker=dict(color=colour, size=size, line=dict(color="white", width=0.5)))
        traces.append(go.Scatter(x=x, y=y, name=f"class {which}", showlegend=legend, hoverinfo="skip", **look))
    return traces


def _square(fig: go.Figure, axis: np.ndarray, **place: int) -> None:
    ends = [float(axis[0]), float(axis[-1])]
    fig.update_xaxes(range=ends, constrain="domain", showgrid=False, nticks=4, **place)
    fig.update_yaxes(range=ends, constrain="domain", showgrid=False, nticks=4, **place)
    for panel in fig.select_xaxes(**place):
        fig.update_yaxes(scaleanchor=panel.plotly_name.replace("axis", ""), **place) if place else None
