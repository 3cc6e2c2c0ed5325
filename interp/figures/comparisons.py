"""What dictionaries have in common: how well another one's best latent follows each.

In: tables of `interp.compare`. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import GREY, INK, SEQUENCE, escaped, need, styled

if TYPE_CHECKING:
    import pandas as pd
MIN_PAIRS = 5
"""Of a bin, for it to be drawn."""


def universality(tables: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """The share of latents whose best match in another dictionary is correlated above each r; dots are the medians.

    tables: correlation and null, as `compare.universality` makes them; by name, where there are several.
    """
    fig = _shares_above(tables, "correlation", "null", "shifted text")
    styled(fig, "Is there such a latent in the other?", height=380)
    fig.update_xaxes(title_text="largest correlation with a latent of the other, r", range=[-0.02, 1.02])
    return fig.update_yaxes(title_text="share of latents above r", tickformat=".0%", range=[-0.02, 1.02])


def matched_cosines(tables: pd.DataFrame | Mapping[str, pd.DataFrame], *, threshold: float = 0.7) -> go.Figure:
    """The share of latents whose match in another dictionary has a decoder cosine above each value, beside what random
    directions reach.

    tables: cosine and chance, as `compare.stability` makes them; by name, where there are several.
    """
    fig = _shares_above(tables, "cosine", "chance", "random directions")
    fig.add_vline(threshold, line=dict(color=INK, width=1, dash="dash"))
    styled(fig, "Does another seed find the same directions?", height=380)
    fig.update_xaxes(title_text="|cosine| with the one latent that it is matched to", range=[-0.02, 1.02])
    return fig.update_yaxes(title_text="share of latents above", tickformat=".0%", range=[-0.02, 1.02])


def neighbourhoods(tables: pd.DataFrame | Mapping[str, pd.DataFrame], *, n_bins: int = 12) -> go.Figure:
    """How similar the contexts of two latents are, by the cosine of their directions: the mean of bins, with the middle
    half of the pairs; bins of few pairs are left out.

    tables: cosine and similarity of pairs, as `compare.neighbourhoods` makes them; by name, where there are several.
    """
    named = tables if isinstance(tables, Mapping) else {"pairs of latents": tables}
    fig = go.Figure()
    for (name, table), colour in zip(named.items(), SEQUENCE * len(named), strict=False):
        need(table, "cosine", "similarity")
        low, high = table["cosine"].min(), table["cosine"].max()
        at = np.minimum(((table["cosine"] - low) / max(high - low, 1e-12) * n_bins).astype(int), n_bins - 1)
        bins = table.groupby(at).agg(x=("cosine", "mean"), y=("similarity", "mean"), n=("cosine", "size"))
        bins = bins[bins["n"] >= MIN_PAIRS]
        lower, upper = (table.groupby(at)["similarity"].quantile(q).loc[bins.index] for q in (0.25, 0.75))
        band = dict(x=[*bins["x"], *bins["x"][::-1]], y=[*upper, *lower[::-1]], fill="toself")
        fig.add_scatter(**band, line_width=0, fillcolor=colour, opacity=0.2, hoverinfo="skip", showlegend=False)
        texts = [f"{n:,} pairs" for n in bins["n"]]
        style = dict(mode="lines+markers", line=dict(color=colour, width=2), name=escaped(name), showlegend=True)
        fig.add_scatter(x=bins["x"], y=bins["y"], text=texts, **style)
    styled(fig, "Directions and contexts of pairs of latents", height=380)
    fig.update_xaxes(title_text="cosine of the decoder rows of two latents")
    return fig.update_yaxes(title_text="similarity of their contexts (cosine)")


def _shares_above(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame], column: str, null: str, null_name: str
) -> go.Figure:
    """A line a table, and its null dotted."""
    named = tables if isinstance(tables, Mapping) else {"matches": tables}
    fig = go.Figure()
    for i, ((name, table), colour) in enumerate(zip(named.items(), SEQUENCE * len(named), strict=False)):
        need(table, column, null)
        dotted = dict(color=GREY if len(named) == 1 else colour, width=1.5, dash="dot")
        _above(fig, table[column], dict(color=colour, width=2), name=escaped(name))
        _above(fig, table[null], dotted, name=f"{null_name} (dotted)", showlegend=i == len(named) - 1)
    return fig


def _above(fig: go.Figure, values: pd.Series, line: dict, **named: Any) -> None:
    """The share of values above each of them, with a dot at the median."""
    ordered = np.sort(values.dropna().to_numpy(float))
    share = 1 - np.arange(len(ordered)) / max(len(ordered), 1)
    fig.add_scatter(x=ordered, y=share, mode="lines", line=line, **named)
    if len(ordered):
        dot = dict(color=line["color"], size=8)
        fig.add_scatter(x=[np.median(ordered)], y=[0.5], mode="markers", marker=dot, showlegend=False)
