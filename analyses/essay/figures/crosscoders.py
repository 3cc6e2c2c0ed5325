"""What a tuning changed, seen through crosscoders: exclusive latents counted, and one latent at the end of a turn.

In: DataFrames and arrays that `model_diffs` measured. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import BLUE, GREY, INK, VERMILLION, check_columns, escape_markup, token_label, with_style

if TYPE_CHECKING:
    import pandas as pd

COLOURS = (BLUE, VERMILLION)
"""The colour of each crosscoder."""
EXCLUSIVE, MAX_NU_ERROR, MAX_NU_RECONSTRUCTION = 0.1, 0.2, 0.5
"""Relative norms this near to an end are exclusive to a model; up to these, latent scaling calls a latent genuine."""


def exclusive_counts(counts: pd.DataFrame) -> go.Figure:
    """Draw latents called exclusive to either model, and those that latent scaling keeps: one dot per seed.

    counts: pair, crosscoder, seed, exclusive, genuine.
    """
    check_columns(counts, "pair", "crosscoder", "seed", "exclusive", "genuine")
    pairs = list(dict.fromkeys(counts["pair"]))
    fig = make_subplots(
        cols=len(pairs), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(map(escape_markup, pairs))
    )
    for col, pair in enumerate(pairs, 1):
        for kind, colour in zip(dict.fromkeys(counts["crosscoder"]), COLOURS, strict=False):
            part = counts[(counts["pair"] == pair) & (counts["crosscoder"] == kind)]
            for column, opacity in (("exclusive", 0.35), ("genuine", 1.0)):
                bar = go.Bar(
                    x=[escape_markup(kind)], y=[part[column].mean()], marker_color=colour, opacity=opacity, name=column
                )
                fig.add_trace(bar.update(showlegend=False, width=0.6), row=1, col=col)
                dots = dict(mode="markers", marker=dict(color=INK, size=5, symbol="circle"), showlegend=False)
                fig.add_trace(go.Scatter(x=[escape_markup(kind)] * len(part), y=part[column], **dots), row=1, col=col)
    with_style(fig, "Latents called exclusive (pale) and kept by latent scaling (full)", height=380)
    fig.update_annotations(font_size=12)
    fig.update_yaxes(title_text="latents", col=1)
    return fig.update_layout(barmode="overlay", meta={"min_width": 600})


def latent_on_turns(turns: Sequence[Sequence[str]], values: Sequence[Sequence[float]], title: str) -> go.Figure:
    """Draw how strongly one latent fires on each token of a few conversations, one per row."""
    width = max(map(len, turns))
    grid = np.full((len(turns), width), np.nan)
    for row, each in enumerate(values):
        grid[row, : len(each)] = each
    text = [[token_label(token) for token in turn] + [""] * (width - len(turn)) for turn in turns]
    heat = go.Heatmap(z=grid, text=text, texttemplate="%{text}", textfont_size=9, colorscale="Blues", zmin=0, xgap=1)
    fig = go.Figure(heat.update(ygap=3, colorbar=dict(title="activation", thickness=10), hoverongaps=False))
    with_style(fig, title, x="place in the conversation (tokens)", height=110 + 34 * len(turns))
    fig.update_yaxes(autorange="reversed", showticklabels=False, ticks="", showgrid=False)
    return fig.update_xaxes(showgrid=False).update_layout(meta={"min_width": 900}, width=None, autosize=True)


def ablated_end(probabilities: Mapping[str, tuple[float, float]]) -> go.Figure:
    """Draw the probability of `<end>` where it is expected, as it is and with one latent's share taken out.

    probabilities: name → (where it is expected, elsewhere in responses).
    """
    fig = go.Figure()
    for i, (name, colour) in enumerate((("where &lt;end> is expected", BLUE), ("elsewhere in responses", GREY))):
        fig.add_bar(
            x=list(map(escape_markup, probabilities)),
            y=[p[i] for p in probabilities.values()],
            name=name,
            marker_color=colour,
        )
    with_style(fig, "What the latent does", y="mean probability of &lt;end>")
    return fig.update_yaxes(range=[0, 1.05])


def relative_norms(tables: pd.DataFrame) -> go.Figure:
    """Draw how many latents of a crosscoder write how much to the second model: a row a pair of models, a colour a
    crosscoder, all seeds together.

    tables: pair, crosscoder, relative_norm, as `diff_table` has it. The shaded ends are the latents that are
    called exclusive.
    """
    check_columns(tables, "pair", "crosscoder", "relative_norm")
    pairs = list(dict.fromkeys(tables["pair"]))
    titles = list(map(escape_markup, pairs))
    fig = make_subplots(rows=len(pairs), shared_xaxes=True, vertical_spacing=0.3 / len(pairs), subplot_titles=titles)
    edges, most = np.linspace(0, 1, 51), 10
    for row, pair in enumerate(pairs, 1):
        for kind, colour in zip(dict.fromkeys(tables["crosscoder"]), COLOURS, strict=False):
            part = tables[(tables["pair"] == pair) & (tables["crosscoder"] == kind)]
            counts = np.histogram(part["relative_norm"], edges)[0]
            most = max(most, counts.max())
            style = dict(mode="lines", line=dict(color=colour, width=1.8, shape="hvh"), legendgroup=escape_markup(kind))
            # On a logarithmic axis an empty bin is a line on the floor.
            trace = go.Scatter(
                x=(edges[1:] + edges[:-1]) / 2, y=np.maximum(counts, 0.5), name=escape_markup(kind), **style
            )
            fig.add_trace(trace.update(showlegend=row == 1), row=row, col=1)
        for ends in ((0, EXCLUSIVE), (1 - EXCLUSIVE, 1)):
            fig.add_vrect(*ends, fillcolor=GREY, opacity=0.15, line_width=0, row=row, col=1)
    with_style(fig, "Whose the latents are", height=120 + 150 * len(pairs))
    fig.update_yaxes(type="log", title_text="latents", range=[-0.35, np.log10(most) + 0.2])
    fig.update_yaxes(tickvals=[0.5, 1, 10, 100, 1000, 10_000], ticktext=["0", "1", "10", "100", "1,000", "10,000"])
    fig.update_xaxes(range=[0, 1], title_text="relative norm (0: first model alone, 1: second alone)", row=len(pairs))
    fig.update_annotations(font_size=12, x=0, xanchor="left")
    legend = dict(y=1.0, yanchor="bottom", x=1, xanchor="right")
    return fig.update_layout(legend=legend, meta={"min_width": 600})


def latent_scaling(tables: pd.DataFrame) -> go.Figure:
    """Draw the exclusive latents of the second model: how much of each is nevertheless in the first one's error and
    reconstruction. Inside the frame both are small: the latent is genuine.

    tables: crosscoder, kind, nu_error, nu_reconstruction.
    """
    check_columns(tables, "crosscoder", "kind", "nu_error", "nu_reconstruction")
    fig = go.Figure()
    for kind, colour in zip(dict.fromkeys(tables["crosscoder"]), COLOURS, strict=False):
        part = tables[(tables["crosscoder"] == kind) & (tables["kind"] == "second")]
        style = dict(mode="markers", marker=dict(color=colour, size=6, opacity=0.6))
        x, y = (part[name].clip(-0.3, 1.3) for name in ("nu_reconstruction", "nu_error"))
        fig.add_scatter(x=x, y=y, name=f"{escape_markup(kind)} ({len(part)})", **style)
    frame = dict(x0=-0.35, x1=MAX_NU_RECONSTRUCTION, y0=-0.35, y1=MAX_NU_ERROR)
    fig.add_shape(type="rect", **frame, line=dict(color=INK, width=1, dash="dot"))
    fig.add_annotation(x=-0.34, y=-0.34, text="genuine", showarrow=False, xanchor="left", yanchor="bottom")
    with_style(fig, "Latents called exclusive to the second model", height=400)
    fig.update_xaxes(title_text="ν<sub>r</sub>: share in the first model's reconstruction", range=[-0.35, 1.35])
    return fig.update_yaxes(title_text="ν<sub>ε</sub>: share in the first model's error", range=[-0.35, 1.35])
