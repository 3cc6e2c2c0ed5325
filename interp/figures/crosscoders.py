"""What a crosscoder over two models shows: whose its latents are, and which of the exclusive ones are genuine.

In: DataFrames as `interp.compare.diff_table` makes them, with columns that say of what. Out: plotly Figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import BLUE, GREY, INK, VERMILLION, escaped, need, styled

if TYPE_CHECKING:
    import pandas as pd

COLOURS = (BLUE, VERMILLION)


def relative_norms(tables: pd.DataFrame, *, exclusive: float = 0.1) -> go.Figure:
    """How many latents write how much to the second model: a row a pair of models, a colour a crosscoder,
    all seeds together.

    tables: pair, crosscoder, relative_norm. The shaded ends are the latents that are called exclusive.
    """
    need(tables, "pair", "crosscoder", "relative_norm")
    pairs = list(dict.fromkeys(tables["pair"]))
    fig = make_subplots(
        rows=len(pairs), shared_xaxes=True, vertical_spacing=0.3 / len(pairs), subplot_titles=list(map(escaped, pairs))
    )
    edges, most = np.linspace(0, 1, 51), 10
    for row, pair in enumerate(pairs, 1):
        for kind, colour in zip(dict.fromkeys(tables["crosscoder"]), COLOURS, strict=False):
            part = tables[(tables["pair"] == pair) & (tables["crosscoder"] == kind)]
            counts = np.histogram(part["relative_norm"], edges)[0]
            most = max(most, counts.max())
            style = dict(mode="lines", line=dict(color=colour, width=1.8, shape="hvh"), legendgroup=escaped(kind))
            # On a logarithmic axis an empty bin is a line on the floor.
            trace = go.Scatter(x=(edges[1:] + edges[:-1]) / 2, y=np.maximum(counts, 0.5), name=escaped(kind), **style)
            fig.add_trace(trace.update(showlegend=row == 1), row=row, col=1)
        for ends in ((0, exclusive), (1 - exclusive, 1)):
            fig.add_vrect(*ends, fillcolor=GREY, opacity=0.15, line_width=0, row=row, col=1)
    styled(fig, "Whose the latents are", height=120 + 150 * len(pairs))
    fig.update_yaxes(type="log", title_text="latents", range=[-0.35, np.log10(most) + 0.2])
    fig.update_yaxes(tickvals=[0.5, 1, 10, 100, 1000, 10_000], ticktext=["0", "1", "10", "100", "1,000", "10,000"])
    fig.update_xaxes(range=[0, 1], title_text="relative norm (0: first model alone, 1: second alone)", row=len(pairs))
    fig.update_annotations(font_size=12, x=0, xanchor="left")
    legend = dict(y=1.0, yanchor="bottom", x=1, xanchor="right")
    return fig.update_layout(legend=legend, meta={"min_width": 600})


def latent_scaling(tables: pd.DataFrame, *, nu_error: float = 0.2, nu_reconstruction: float = 0.5) -> go.Figure:
    """The exclusive latents of the second model: how much of each is nevertheless in the first one's error and
    reconstruction. Inside the frame both are small: the latent is genuine.

    tables: crosscoder, kind, nu_error, nu_reconstruction.
    """
    need(tables, "crosscoder", "kind", "nu_error", "nu_reconstruction")
    fig = go.Figure()
    for kind, colour in zip(dict.fromkeys(tables["crosscoder"]), COLOURS, strict=False):
        part = tables[(tables["crosscoder"] == kind) & (tables["kind"] == "second")]
        style = dict(
            mode="markers", marker=dict(color=colour, size=6, opacity=0.6), name=f"{escaped(kind)} ({len(part)})"
        )
        fig.add_scatter(x=part["nu_reconstruction"].clip(-0.3, 1.3), y=part["nu_error"].clip(-0.3, 1.3), **style)
    edge = dict(color=INK, width=1, dash="dot")
    fig.add_shape(type="rect", x0=-0.35, x1=nu_reconstruction, y0=-0.35, y1=nu_error, line=edge)
    fig.add_annotation(x=-0.34, y=-0.34, text="genuine", showarrow=False, xanchor="left", yanchor="bottom")
    styled(fig, "Latents called exclusive to the second model", height=400)
    fig.update_xaxes(title_text="ν<sub>r</sub>: share in the first model's reconstruction", range=[-0.35, 1.35])
    return fig.update_yaxes(title_text="ν<sub>ε</sub>: share in the first model's error", range=[-0.35, 1.35])
