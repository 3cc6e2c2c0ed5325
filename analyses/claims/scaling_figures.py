"""Figures of `analyses.claims.dictionary_scaling`: error by compute, and presence of concepts by their frequency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.figures.theme import INK, SEQUENCE, check_columns, with_style


def scaling_frontier(grid: pd.DataFrame) -> go.Figure:
    """Draw a line per width: width, compute, fvu, frontier of one seed's dictionaries; the frontier in black."""
    check_columns(grid, "width", "compute", "fvu", "frontier")
    fig = go.Figure()
    for (width, rows), colour in zip(grid.groupby("width"), SEQUENCE * 9, strict=False):
        look = dict(mode="lines+markers", line=dict(color=colour, width=1.5), name=f"{width:,} latents")
        fig.add_scatter(x=rows["compute"], y=rows["fvu"], **look)
    best = grid[grid["frontier"]].sort_values("compute")
    look = dict(mode="lines", line=dict(color=INK, width=3, dash="dot"), name="frontier")
    fig.add_scatter(x=best["compute"], y=best["fvu"], **look)
    with_style(fig, "Error by compute", y="variance unexplained (share, log scale)", height=400)
    fig.update_xaxes(type="log", title_text="compute (log₁₀ of latents × tokens)")
    fig.update_xaxes(**_decade_ticks(grid["compute"].min(), grid["compute"].max()))
    return fig.update_yaxes(type="log").update_layout(margin_t=84)  # the legend has two lines


def completeness_curves(
    present: Mapping[int, Sequence[np.ndarray]], frequency: np.ndarray, *, n_bins: int = 12
) -> go.Figure:
    """Draw the share of concepts that dictionaries of each width have, by their frequency; all seeds together.

    present: by width, one mask over the concepts a seed. frequency: of each concept, a share of the tokens.
    """
    fig = go.Figure()
    logs = np.log(frequency)
    at = np.minimum(((logs - logs.min()) / max(float(np.ptp(logs)), 1e-12) * n_bins).astype(int), n_bins - 1)
    bins = np.unique(at)
    x = [float(np.exp(logs[at == b].mean())) for b in bins]
    for (width, masks), colour in zip(present.items(), SEQUENCE * 9, strict=False):
        share = np.mean(masks, 0)
        y = [float(share[at == b].mean()) for b in bins]
        fig.add_scatter(x=x, y=y, mode="lines+markers", line=dict(color=colour, width=2), name=f"{width:,} latents")
    fig.add_hline(0.5, line=dict(color=INK, width=1, dash="dot"))
    with_style(fig, "Which concepts have a feature", y="share of concepts present", height=380)
    fig.update_xaxes(type="log", title_text="frequency of the concept (log₁₀ of the share of tokens)")
    fig.update_xaxes(**_decade_ticks(min(x), max(x)))
    return fig.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])


def _decade_ticks(low: float, high: float) -> dict[str, list]:
    """Return ticks at the powers of ten from `low` to `high`, which are above 0. The labels are the exponents alone,
    and the axis title has log₁₀. A superscript would have 70 % of the size of other letters, which is below 7 points in
    print."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return {"tickvals": [10.0**power for power in powers], "ticktext": [_with_minus_sign(power) for power in powers]}


def _with_minus_sign(number: int) -> str:
    """Return a whole number with a minus sign as wide as a plus."""
    return str(number).replace("-", "−")
