"""One dictionary's features, and one feature: firing densities, activations, logit effects.

In: the tables of a FeatureStore (`features`, `histograms`, `intervals`). Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from interp.figures.theme import BLUE, GREY, ORANGE, SEQUENCE, VERMILLION, label, need, styled

if TYPE_CHECKING:
    import pandas as pd


def density_histogram(
    features: pd.DataFrame | Mapping[str, pd.DataFrame], *, ultra_low: float = 1e-5, bin_width: float = 0.2
) -> go.Figure:
    """log10 of the share of tokens on which each latent fires. Dead latents stand apart as a spike on the left, and the
    range below `ultra_low` is shaded. A mapping (name → table) overlays dictionaries or checkpoints as lines."""
    tables = features if isinstance(features, Mapping) else {"": features}
    for table in tables.values():
        need(table, "density")
    densities = {name: np.nan_to_num(table["density"].to_numpy(float)) for name, table in tables.items()}
    logs = {name: np.log10(d[d > 0]) for name, d in densities.items()}
    lowest = min((values.min() for values in logs.values() if len(values)), default=-1.0)
    edges = np.arange(np.floor(min(lowest, np.log10(ultra_low)) / bin_width) * bin_width, bin_width, bin_width)
    spike = edges[0] - 4 * bin_width

    fig = go.Figure()
    for (name, values), colour in zip(logs.items(), SEQUENCE * len(logs), strict=False):
        counts, _ = np.histogram(values, edges)
        centres = (edges[:-1] + edges[1:]) / 2
        dead = int((densities[name] == 0).sum())
        if len(tables) == 1:
            fig.add_bar(x=centres, y=counts, width=bin_width * 0.92, marker_color=BLUE, showlegend=False)
            fig.add_bar(x=[spike], y=[dead], width=bin_width * 0.92, marker_color=GREY, showlegend=False)
            share = dead / max(len(densities[name]), 1)
            text = f"dead<br>{dead:,} ({share:.1%})"
            fig.add_annotation(x=spike, y=dead, text=text, showarrow=False, yshift=16, font_size=11)
        else:
            fig.add_scatter(x=edges[:-1], y=counts, mode="lines", line=dict(shape="hv", color=colour), name=name)
            fig.add_scatter(x=[spike], y=[dead], mode="markers", marker_color=colour, showlegend=False)
    return _mark_ultra_low(fig, densities, ultra_low, edges[0], spike)


def _mark_ultra_low(fig: go.Figure, densities: Mapping[str, np.ndarray], ultra_low: float, left: float, spike: float):
    counts = {name: int(((d > 0) & (d < ultra_low)).sum()) for name, d in densities.items()}
    text = ", ".join(f"{name} {n:,}".strip() for name, n in counts.items())
    threshold = float(np.log10(ultra_low))
    fig.add_vrect(x0=left, x1=threshold, fillcolor=ORANGE, opacity=0.14, line_width=0, layer="below")
    fig.add_annotation(
        x=threshold,
        y=1,
        yref="y domain",
        xanchor="right",
        yanchor="top",
        showarrow=False,
        font_size=11,
        text=f"ultra-low<br>{text}",
        align="right",
    )
    ticks = list(range(int(np.ceil(left)), 1))
    styled(fig, "Firing density of the latents", x="density (share of tokens, log scale)", y="latents")
    fig.update_xaxes(tickvals=[spike, *ticks], ticktext=["0", *(f"10<sup>{t}</sup>" for t in ticks)])
    if len(densities) > 1:
        fig.add_annotation(x=spike, y=0, yref="y domain", yanchor="bottom", text="dead", showarrow=False, font_size=11)
    return fig


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


def _one_latent(table: pd.DataFrame, latent: int | None, name: str) -> pd.DataFrame:
    if latent is not None and "latent" in table:
        table = table[table["latent"] == latent]
    if table.empty or ("latent" in table and table["latent"].nunique() > 1):
        which = "the rows of one latent" if latent is None else f"rows of latent {latent}"
        raise ValueError(f"the figure draws {which} of the table {name}; it was given {len(table)} rows of others")
    return table


def logit_bars(feature: Mapping[str, Any] | pd.Series, vocab: Sequence[str], *, n: int = 10) -> go.Figure:
    """The tokens that one latent raises and lowers the most, from its row of the table `features`.
    Effects are direct: the decoder row through the final norm's scale and the unembedding."""
    need(feature, "top_logit_tokens", "top_logits", "bottom_logit_tokens", "bottom_logits")
    if feature["top_logit_tokens"] is None:
        raise ValueError("this feature store has no logit effects; scan with model= (or from_codes with W_U=) for them")
    fig = go.Figure()
    sides = [("top", "raised", BLUE), ("bottom", "lowered", VERMILLION)]
    rows: list[str] = []
    for side, name, colour in sides:
        tokens, values = list(feature[f"{side}_logit_tokens"])[:n], list(feature[f"{side}_logits"])[:n]
        places = list(range(len(rows), len(rows) + len(tokens)))
        fig.add_bar(x=values, y=places, orientation="h", marker_color=colour, name=name)
        rows += [label(vocab[token]) for token in tokens]
    latent = feature["latent"] if "latent" in feature else None
    title = "Logit effects" if latent is None else f"Logit effects of latent {int(latent)}"
    styled(fig, title, x="direct effect (logits per unit of activation)", y="token", height=120 + 18 * len(rows))
    fig.add_vline(x=0, line=dict(color=GREY, width=1))
    return fig.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, autorange="reversed", showgrid=False)
