"""Figures of one latent: how strongly it fires, what it writes to the logits, and the text it fires on.

In: its rows of a FeatureStore's tables (`histograms`, `intervals`, `features`), or tokens with an activation each. Out:
a plotly Figure, or HTML that needs nothing else. Every token is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from interp.figures.theme import BLUE, GREY, VERMILLION, label, need, styled, visible

if TYPE_CHECKING:
    import pandas as pd


class HighlightedText(str):
    """One HTML fragment, which notebooks draw."""

    def _repr_html_(self) -> str:
        return str(self)


def highlighted_text(
    tokens: Sequence[str], values: Sequence[float], *, firing: int | None = None, scale: float | None = None
) -> HighlightedText:
    """`tokens` shaded by `values`; `firing` is the index of the token to outline, `scale` the value with the full shade
    (default: the largest here). Values show when the pointer rests on a token."""
    if len(tokens) != len(values):
        raise ValueError(f"{len(tokens)} tokens and {len(values)} values: give one value a token")
    scale = scale or max(max(values, default=0.0), 1e-12)
    parts = []
    for index, (token, value) in enumerate(zip(tokens, values, strict=True)):
        shade = min(max(value / scale, 0.0), 1.0)
        style = f"background:rgba(230,159,0,{0.1 + 0.75 * shade:.2f});" if value > 0 else ""
        if index == firing:
            style += "outline:1.5px solid #8a5a00;border-radius:2px;"
        title = f' title="{value:.3g}"' if value else ""
        parts.append(f'<bdi style="{style}"{title}>{html.escape(visible(token))}</bdi>')
    body = "<wbr>".join(parts)
    style = "font-family:ui-monospace,monospace;font-size:13px;line-height:1.7;direction:ltr;overflow-wrap:anywhere"
    return HighlightedText(f'<div style="{style}">{body}</div>')


def activation_histogram(
    histogram: pd.DataFrame, *, latent: int | None = None, intervals: pd.DataFrame | None = None, n_bins: int = 32
) -> go.Figure:
    """How strongly one latent fires, from its rows of the table `histograms` (geometric bins, so a log axis), drawn in
    at most `n_bins` bars. `intervals` (its rows of that table) marks where the intervals of the examples begin."""
    histogram = _one_latent(histogram, latent, "histograms")
    need(histogram, "low", "high", "n")
    edges, counts = merged_bins(histogram["low"], histogram["high"], histogram["n"], at_most=n_bins)
    fig = go.Figure(
        go.Bar(
            x=edges[:-1],
            y=counts,
            width=np.diff(edges),
            offset=0,
            marker=dict(color=BLUE, line=dict(width=0.5, color="white")),
            customdata=np.stack([edges[:-1], edges[1:]], 1),
            hovertemplate="%{customdata[0]:.3g} to %{customdata[1]:.3g}<br>%{y:,} firings<extra></extra>",
        )
    )
    if intervals is not None:
        for edge in _one_latent(intervals, latent, "intervals")["low"]:
            if edge > edges[0]:
                fig.add_vline(x=float(edge), line=dict(color=GREY, width=1, dash="dot"))
    title = "Activations" if latent is None else f"Activations of latent {latent}"
    styled(fig, title, x="activation (log scale)", y="firings (tokens)", height=300)
    return fig.update_xaxes(type="log", range=np.log10(edges[[0, -1]]).tolist(), dtick="D2", tickformat=".3~g")


def merged_bins(low: ArrayLike, high: ArrayLike, n: ArrayLike, *, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges and counts of at most `at_most` bins, each the sum of as many neighbours; bins must touch each other.
    A first bin that reaches down to 0 is cut at half its upper edge, since a log axis has no 0."""
    lows, highs, counts = np.asarray(low, float), np.asarray(high, float), np.asarray(n)
    step = -(-len(counts) // at_most)
    first = lows[0] if lows[0] > 0 else highs[0] / 2
    edges = np.concatenate([[first], lows[step::step], highs[-1:]])
    return edges, np.add.reduceat(counts, np.arange(0, len(counts), step))


def logit_bars(feature: Mapping[str, Any] | pd.Series, vocab: Sequence[str], *, n: int = 10) -> go.Figure:
    """The largest positive and negative logits of one latent, from its row of the table `features`. Effects are
    direct: the decoder row through the final norm's scale and the unembedding."""
    need(feature, "top_logit_tokens", "top_logits", "bottom_logit_tokens", "bottom_logits")
    if feature["top_logit_tokens"] is None:
        raise ValueError("this feature store has no logit effects; scan with model= (or from_codes with W_U=) for them")
    fig = go.Figure()
    sides = [("top", "positive logits", BLUE), ("bottom", "negative logits", VERMILLION)]
    rows: list[str] = []
    for side, name, colour in sides:
        tokens, values = list(feature[f"{side}_logit_tokens"])[:n], list(feature[f"{side}_logits"])[:n]
        places = list(range(len(rows), len(rows) + len(tokens)))
        fig.add_bar(x=values, y=places, orientation="h", marker_color=colour, name=name)
        rows += [label(_counted(vocab[token])) for token in tokens]
    latent = feature["latent"] if "latent" in feature else None
    title = "Logit effects" if latent is None else f"Logit effects of latent {int(latent)}"
    styled(fig, title, x="direct effect (logits per unit of activation)", y="token", height=120 + 18 * len(rows))
    fig.add_vline(x=0, line=dict(color=GREY, width=1))
    return fig.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, autorange="reversed", showgrid=False)


def _counted(token: str) -> str:
    """Long runs of white space, which would push the bars aside, as one with their number."""
    return re.sub(r"(\s)\1{4,}", lambda run: f"{run[1]}×{len(run[0])}", token)


def _one_latent(table: pd.DataFrame, latent: int | None, name: str) -> pd.DataFrame:
    if latent is not None and "latent" in table:
        table = table[table["latent"] == latent]
    if table.empty or ("latent" in table and table["latent"].nunique() > 1):
        which = "the rows of one latent" if latent is None else f"rows of latent {latent}"
        raise ValueError(f"the figure draws {which} of the table {name}; it was given {len(table)} rows of others")
    return table
