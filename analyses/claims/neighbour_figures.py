"""The figure of `neighbouring_features`: are the contexts of similar directions similar?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.figures.theme import BARE_TRACE, with_colours, with_style

MIN_PAIRS = 5
"""Fewest pairs in a bin that is drawn."""


def neighbourhoods(tables: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw how similar the contexts of two latents are, by the cosine of their directions: the mean of bins, with the
    middle half of the pairs; bins of few pairs are left out.

    tables: cosine and similarity of pairs, as `neighbourhoods` makes them; by name, where there are several.
    """
    fig, n_bins = go.Figure(), 12
    for name, table, colour in with_colours(tables, "cosine", "similarity", alone="pairs of latents"):
        low, high = table["cosine"].min(), table["cosine"].max()
        at = np.minimum(((table["cosine"] - low) / max(high - low, 1e-12) * n_bins).astype(int), n_bins - 1)
        bins = table.groupby(at).agg(x=("cosine", "mean"), y=("similarity", "mean"), n=("cosine", "size"))
        bins = bins[bins["n"] >= MIN_PAIRS]
        lower, upper = (table.groupby(at)["similarity"].quantile(q).loc[bins.index] for q in (0.25, 0.75))
        band = dict(x=[*bins["x"], *bins["x"][::-1]], y=[*upper, *lower[::-1]], fill="toself")
        fig.add_scatter(**band, line_width=0, fillcolor=colour, opacity=0.2, **BARE_TRACE)
        texts = [f"{n:,} pairs" for n in bins["n"]]
        style = dict(mode="lines+markers", line=dict(color=colour, width=2), name=name, showlegend=True)
        fig.add_scatter(x=bins["x"], y=bins["y"], text=texts, **style)
    title, x = "Directions and contexts of pairs of latents", "cosine of the decoder rows of two latents"
    return with_style(fig, title, x=x, y="similarity of their contexts (cosine)", height=380)
