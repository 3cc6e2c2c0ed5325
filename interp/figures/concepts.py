"""What the best latent for each labelled concept detects, beside the best neuron.

In: the concept table of a run, a row a label (`metrics.measures.concept_table`). Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from interp.figures.label_places import with_placed_names
from interp.figures.theme import BLUE, GREY, VERMILLION, decades, escaped, need, styled

if TYPE_CHECKING:
    import pandas as pd


def concept_scatter(concepts: pd.DataFrame) -> go.Figure:
    """For each labelled concept, the held-out F1 of the best feature against that of the best neuron. Concepts are
    named where there is room; the pointer names the others, and `concept_dots` all of them."""
    need(concepts, "label", "f1_feature", "f1_neuron")
    fig = go.Figure()
    fig.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=dict(color=GREY, dash="dot", width=1), hoverinfo="skip", showlegend=False
    )
    _named_points(fig, concepts, concepts["f1_neuron"], "feature %{y:.3f}, neuron %{x:.3f}")
    styled(fig, "Concepts: best feature against best neuron", x="F1 of the best neuron (held out)", height=520)
    fig.update_yaxes(title_text="F1 of the best feature (held out)", range=[-0.03, 1.05])
    return with_placed_names(fig.update_xaxes(range=[-0.03, 1.05]))


def concept_dots(concepts: pd.DataFrame) -> go.Figure:
    """The same a row a concept, so that each is named: best feature and best neuron, the best detected on top."""
    need(concepts, "label", "f1_feature", "f1_neuron")
    rows = concepts.sort_values("f1_feature", ascending=False, kind="stable")
    places = np.arange(len(rows))
    fig = go.Figure()
    ends = rows[["f1_neuron", "f1_feature"]].to_numpy(float)
    line = np.column_stack([ends, np.full(len(rows), np.nan)]).ravel()
    style = dict(mode="lines", line=dict(color="#c9ced6", width=2), hoverinfo="skip", showlegend=False)
    fig.add_scatter(x=line, y=np.repeat(places, 3), **style)
    for column, name, colour in (("f1_neuron", "best neuron", VERMILLION), ("f1_feature", "best feature", BLUE)):
        marker = dict(color=colour, size=7)
        fig.add_scatter(x=rows[column], y=places, mode="markers", name=name, marker=marker)
    height = 130 + 15 * len(rows)
    styled(fig, "Concepts: best feature and best neuron", x="F1 (held out)", y="concept", height=height)
    fig.update_xaxes(range=[-0.02, 1.02])
    return fig.update_yaxes(
        tickvals=places, ticktext=_names(rows), range=[len(rows) - 0.4, -0.6], showgrid=False, ticks=""
    )


def concept_frequency(concepts: pd.DataFrame, *, n_tokens: int) -> go.Figure:
    """How well the best feature detects a concept against how frequent the concept is: a dictionary that only has what
    is frequent rises from left to right. n_tokens: of the scan, whose labels `n_label` counts."""
    need(concepts, "label", "f1_feature", "n_label")
    fig = go.Figure()
    share = concepts["n_label"].to_numpy(float) / max(n_tokens, 1)
    _named_points(fig, concepts, share, "on %{x:.2%} of tokens, F1 %{y:.3f}")
    styled(fig, "Concepts: detection against frequency", x="share of tokens (log scale)", height=420)
    fig.update_yaxes(title_text="F1 of the best feature (held out)", range=[-0.03, 1.05])
    logs = np.log10(share[share > 0]) if (share > 0).any() else np.array([-1.0])
    fig.update_xaxes(type="log", range=[logs.min() - 0.25, logs.max() + 0.25])
    fig.update_xaxes(**decades(10 ** logs.min(), 10 ** logs.max()))
    return with_placed_names(fig)


def _named_points(fig: go.Figure, concepts: pd.DataFrame, x: pd.Series | np.ndarray, hover: str) -> None:
    """A dot a concept at the F1 of its best feature, with its name."""
    fig.add_scatter(
        x=x,
        y=concepts["f1_feature"],
        mode="markers+text",
        text=_names(concepts),
        textfont_size=11,
        marker=dict(color=BLUE, size=7),
        showlegend=False,
        hovertemplate=f"%{{hovertext}}<br>{hover}<extra></extra>",
    )


def _names(concepts: pd.DataFrame) -> list[str]:
    """Names as a reader writes them: their spaces are spaces, not the marks of a token's."""
    return [escaped(str(name).replace("_", " ")) for name in concepts["label"]]
