"""Features in superposition: what interferes with what, how many are kept, their polygons in two dimensions.

In: arrays and tables of the analyses of superposition. Out: a plotly Figure. W is [m, n], with one column per feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.essay.figures.slider import with_slider
from interp.figures.theme import (
    BLUE,
    COLOUR_SCALE,
    GREY,
    INK,
    ORANGE,
    SEQUENCE,
    check_columns,
    escape_markup,
    with_style,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

DIVERGING = "RdBu"
SPARSITY_AXIS = "1 / (1 − S), S: share of inputs at which a feature is 0"
TICKS = [1, 2, 3, 5, 10, 20, 30, 50, 100, 300, 1000]


def gram_heatmaps(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str = "WᵀW of a linear model (left) and of ReLU models",
) -> go.Figure:
    """Draw small multiples of models. WᵀW is on top. Below it is the length of each feature's column, coloured by
    superposition, which is how far the other features reach along it. The biases are at the bottom.
    panels: name → W [m, n] and b [n]."""
    names = list(panels)
    fig = make_subplots(
        rows=3,
        cols=len(names),
        row_heights=[0.5, 0.27, 0.23],
        subplot_titles=list(map(escape_markup, names)),
        horizontal_spacing=0.035,
        vertical_spacing=0.09,
        shared_yaxes=True,
        shared_xaxes=True,
    )
    for col, (W, b) in enumerate(panels.values(), 1):
        bias = go.Bar(x=np.arange(1, len(b) + 1), y=b, marker_color=ORANGE, showlegend=False)
        for row, trace in enumerate((_gram(W), _norms(W).update(showlegend=False), bias), 1):
            fig.add_trace(trace, row=row, col=col)
    fig = with_style(fig, title, height=480)
    fig.update_annotations(font_size=12)
    _gram_axes(fig, row=1)
    fig.update_yaxes(title_text="feature", row=1, col=1)
    fig.update_yaxes(title_text="‖W<sub>i</sub>‖", row=2, col=1)
    fig.update_yaxes(title_text="bias", row=3, col=1)
    fig.update_yaxes(range=[0, 1.35], row=2)
    fig.update_yaxes(range=_reach(panels), row=3)
    fig.update_xaxes(title_text="feature", row=3)
    fig.update_layout(
        coloraxis=_diverging(y=0.77, length=0.48),
        coloraxis2=_shared(y=0.27, length=0.42),
        margin_r=90,
        meta={"min_width": 600},
    )
    return fig


def gram_slider(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    prefix: str = "S = ",
    active: int = 0,
    title: str = "WᵀW and biases as features grow sparser",
) -> go.Figure:
    """Draw a panel per step of a slider: WᵀW, next to it the biases, and the lengths coloured by superposition."""
    labels = list(panels)
    fig = make_subplots(
        cols=3,
        column_widths=[0.5, 0.2, 0.3],
        subplot_titles=["WᵀW", "bias b", "‖W<sub>i</sub>‖"],
        horizontal_spacing=0.06,
        shared_yaxes=True,
    )
    for col, trace in enumerate(_slide(*panels[labels[active]]), 1):
        fig.add_trace(trace, row=1, col=col)
    fig = with_style(fig, title, height=380)
    _gram_axes(fig, row=1)
    fig.update_yaxes(title_text="feature", row=1, col=1)
    fig.update_xaxes(title_text="feature", row=1, col=1)
    fig.update_xaxes(range=_reach(panels), title_text="bias", row=1, col=2)
    fig.update_xaxes(range=[0, 1.35], title_text="length", row=1, col=3)
    fig.update_yaxes(autorange="reversed")
    fig.update_layout(
        coloraxis=_diverging(y=0.76, length=0.48),
        coloraxis2=_shared(y=0.24, length=0.48),
        showlegend=False,
        margin_r=90,
        meta={"min_width": 600},
    )
    return with_slider(fig, {name: _slide(*panel) for name, panel in panels.items()}, prefix=prefix, active=active)


def features_kept(
    tables: Mapping[str, pd.DataFrame], m: int, *, title: str = "Features that a model keeps in few dimensions"
) -> go.Figure:
    """Draw features with ‖W_i‖ > ½, one line per model; columns density, kept, low, high (95 % over seeds)."""
    fig = go.Figure()
    fig.add_hline(
        y=m,
        line=dict(color=GREY, dash="dot"),
        annotation_text=f"{m} dimensions",
        annotation_position="bottom left",
        annotation_font_color=INK,
    )
    lines_over_sparsity(fig, tables, "kept")
    return with_style(fig, title, x=SPARSITY_AXIS, y="features with ‖W<sub>i</sub>‖ > ½").update_yaxes(
        rangemode="tozero"
    )


def lines_over_sparsity(fig: go.Figure, tables: Mapping[str, pd.DataFrame], column: str) -> None:
    """Draw a line per table, with the interval low to high at each 1 / density = 1 / (1 − S). The axis is
    logarithmic."""
    for (name, table), colour in zip(tables.items(), SEQUENCE, strict=False):
        check_columns(table, "density", column, "low", "high")
        middle = table[column]
        error = dict(type="data", symmetric=False, array=table["high"] - middle, arrayminus=middle - table["low"])
        fig.add_scatter(
            x=1 / table["density"],
            y=middle,
            mode="lines+markers",
            name=escape_markup(name),
            line=dict(color=colour),
            error_y=error | {"thickness": 1, "color": colour},
        )
    fig.update_xaxes(type="log", tickvals=TICKS)


def feature_polygons(
    panels: Mapping[str, np.ndarray],
    *,
    prefix: str = "S = ",
    active: int = 0,
    title: str = "Features in two dimensions as they grow sparser",
) -> go.Figure:
    """Draw columns of W [2, n] as arrows from the origin, the darkest the most important; drag the slider over
    sparsity."""
    fig = go.Figure(_arrows(panels[list(panels)[active]]))
    fig = with_style(fig, title, x="hidden dimension 1", y="hidden dimension 2", height=460)
    fig.update_xaxes(range=[-1.35, 1.35], constrain="domain")
    fig.update_yaxes(range=[-1.35, 1.35], scaleanchor="x", constrain="domain")
    return with_slider(fig, {name: _arrows(W) for name, W in panels.items()}, prefix=prefix, active=active)


def polygon_multiples(
    panels: Mapping[str, np.ndarray], *, title: str = "Features in two dimensions as they grow sparser"
) -> go.Figure:
    """Draw the polygons side by side, for paper."""
    fig = make_subplots(
        cols=len(panels), subplot_titles=list(map(escape_markup, panels)), horizontal_spacing=0.02, shared_yaxes=True
    )
    for col, W in enumerate(panels.values(), 1):
        for trace in _arrows(W):
            fig.add_trace(trace, row=1, col=col)
    fig = with_style(fig, title, height=230)
    fig.update_xaxes(range=[-1.4, 1.4], showticklabels=False, ticks="")
    fig.update_yaxes(range=[-1.4, 1.4], showticklabels=False, ticks="")
    for col in range(1, len(panels) + 1):
        fig.update_yaxes(scaleanchor=f"x{col if col > 1 else ''}", row=1, col=col)
    return fig.update_layout(margin=dict(l=16, b=24), meta={"min_width": 600})


def _slide(W: np.ndarray, b: np.ndarray) -> list:
    n = np.arange(1, len(b) + 1)
    bias = go.Bar(x=b, y=n, orientation="h", marker_color=ORANGE, hovertemplate="b = %{x:.2f}<extra></extra>")
    return [_gram(W), bias, _norms(W, horizontal=True)]


def _gram(W: np.ndarray) -> go.Heatmap:
    n = np.arange(1, W.shape[1] + 1)
    return go.Heatmap(
        z=W.T @ W,
        x=n,
        y=n,
        coloraxis="coloraxis",
        hovertemplate="features %{x}, %{y}: %{z:.2f}<extra></extra>",
    )


def _norms(W: np.ndarray, *, horizontal: bool = False) -> go.Bar:
    """Draw bars of ‖W_i‖, coloured by Σ_{j ≠ i} (Ŵ_i · W_j)²."""
    norm = np.linalg.norm(W, axis=0)
    along = (W / np.maximum(norm, 1e-9)).T @ W
    shared = np.square(along).sum(1) - norm**2
    n = np.arange(1, len(norm) + 1)
    sides = dict(x=norm, y=n, orientation="h") if horizontal else dict(x=n, y=norm)
    return go.Bar(
        **sides,
        marker=dict(color=shared, coloraxis="coloraxis2"),
        customdata=shared,
        hovertemplate="length and feature: %{x:.3g}, %{y:.3g}<br>superposition %{customdata:.2f}<extra></extra>",
    )


def _arrows(W: np.ndarray) -> list:
    n = W.shape[1]
    traces = []
    for feature in range(n):
        x, y = W[:, feature]
        traces.append(
            go.Scatter(
                x=[0, x],
                y=[0, y],
                mode="lines+markers",
                showlegend=False,
                name=f"feature {feature + 1}",
                line=dict(color=_shade(feature, n), width=3),
                marker=dict(color=_shade(feature, n), opacity=1, size=[0, 10], symbol="arrow", angleref="previous"),
                hovertemplate="%{x:.2f}, %{y:.2f}",
            )
        )
    return traces


def _shade(feature: int, n: int) -> str:
    """Return a colour between blue, for the most important feature, and orange."""
    share = feature / max(n - 1, 1)
    ends = [(int(BLUE[k : k + 2], 16), int(ORANGE[k : k + 2], 16)) for k in (1, 3, 5)]
    return f"rgb({','.join(str(round(low + share * (high - low))) for low, high in ends)})"


def _gram_axes(fig: go.Figure, row: int) -> None:
    fig.update_yaxes(autorange="reversed", row=row)
    fig.update_xaxes(showgrid=False, row=row)
    fig.update_yaxes(showgrid=False, row=row)


def _reach(panels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Return a range that holds all biases."""
    reach = 1.1 * max(float(np.abs(b).max()) for _, b in panels.values())
    return [-reach, reach]


def _diverging(*, y: float, length: float) -> dict:
    bar = dict(title="WᵀW", y=y, len=length, thickness=10, tickvals=[-1, 0, 1])
    return dict(colorscale=DIVERGING, cmin=-1.1, cmax=1.1, colorbar=bar)


def _shared(*, y: float, length: float) -> dict:
    bar = dict(title="super-<br>position", y=y, len=length, thickness=10, tickvals=[0, 0.5, 1])
    return dict(colorscale=COLOUR_SCALE, cmin=0, cmax=1, colorbar=bar)
