"""What a tuning changed, seen through crosscoders: exclusive latents counted, and one latent of the end of a turn.

In: DataFrames and arrays of what `model_diffs` measured. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.comparisons import COLOURS
from interp.figures.theme import BLUE, GREY, INK, escaped, label, need, styled

if TYPE_CHECKING:
    import pandas as pd


def exclusive_counts(counts: pd.DataFrame) -> go.Figure:
    """Latents called exclusive to either model, and those that latent scaling keeps: one dot a seed.

    counts: pair, crosscoder, seed, exclusive, genuine.
    """
    need(counts, "pair", "crosscoder", "seed", "exclusive", "genuine")
    pairs = list(dict.fromkeys(counts["pair"]))
    fig = make_subplots(
        cols=len(pairs), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(map(escaped, pairs))
    )
    for col, pair in enumerate(pairs, 1):
        for kind, colour in zip(dict.fromkeys(counts["crosscoder"]), COLOURS, strict=False):
            part = counts[(counts["pair"] == pair) & (counts["crosscoder"] == kind)]
            for column, opacity in (("exclusive", 0.35), ("genuine", 1.0)):
                bar = go.Bar(
                    x=[escaped(kind)], y=[part[column].mean()], marker_color=colour, opacity=opacity, name=column
                )
                fig.add_trace(bar.update(showlegend=False, width=0.6), row=1, col=col)
                dots = dict(mode="markers", marker=dict(color=INK, size=5, symbol="circle"), showlegend=False)
                fig.add_trace(go.Scatter(x=[escaped(kind)] * len(part), y=part[column], **dots), row=1, col=col)
    styled(fig, "Latents called exclusive (pale) and kept by latent scaling (full)", height=380)
    fig.update_annotations(font_size=12)
    fig.update_yaxes(title_text="latents", col=1)
    return fig.update_layout(barmode="overlay", meta={"min_width": 600})


def latent_on_turns(turns: Sequence[Sequence[str]], values: Sequence[Sequence[float]], title: str) -> go.Figure:
    """How strongly one latent fires on each token of a few conversations, one a row."""
    width = max(map(len, turns))
    grid = np.full((len(turns), width), np.nan)
    for row, each in enumerate(values):
        grid[row, : len(each)] = each
    text = [[label(token) for token in turn] + [""] * (width - len(turn)) for turn in turns]
    heat = go.Heatmap(z=grid, text=text, texttemplate="%{text}", textfont_size=9, colorscale="Blues", zmin=0, xgap=1)
    fig = go.Figure(heat.update(ygap=3, colorbar=dict(title="activation", thickness=10), hoverongaps=False))
    styled(fig, title, x="place in the conversation (tokens)", height=110 + 34 * len(turns))
    fig.update_yaxes(autorange="reversed", showticklabels=False, ticks="", showgrid=False)
    return fig.update_xaxes(showgrid=False).update_layout(meta={"min_width": 900}, width=None, autosize=True)


def ablated_end(probabilities: Mapping[str, tuple[float, float]]) -> go.Figure:
    """The probability of `<end>` where it is expected, as it is and with one latent's share taken out.

    probabilities: name → (where it is expected, elsewhere in responses).
    """
    fig = go.Figure()
    for i, (name, colour) in enumerate((("where &lt;end> is expected", BLUE), ("elsewhere in responses", GREY))):
        fig.add_bar(
            x=list(map(escaped, probabilities)),
            y=[p[i] for p in probabilities.values()],
            name=name,
            marker_color=colour,
        )
    styled(fig, "What the latent does", y="mean probability of &lt;end>")
    return fig.update_yaxes(range=[0, 1.05])
