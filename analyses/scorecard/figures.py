"""Figures of the scorecard: probabilities and scores against the truth about planted latents.

In: tables of `analyses.scorecard.scores`. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from interp.figures.theme import BARE_TRACE, GREY, plain_name, with_colours, with_style


def calibration_curve(curves: pd.DataFrame | Mapping[str, pd.DataFrame], *, title: str = "Calibration") -> go.Figure:
    """Draw the share of latents with probability p that has one meaning, with 95 % intervals; on the diagonal is right.

    One curve, or several by name (`scorecard.calibration_curve`).
    """
    fig = go.Figure()
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=dict(color=GREY, dash="dot"), **BARE_TRACE)
    for name, curve, colour in with_colours(curves, "p", "share", "low", "high", "n"):
        fig.add_scatter(
            x=curve["p"],
            y=curve["share"],
            mode="lines+markers",
            name=name,
            showlegend=bool(name),
            error_y=_error(curve["share"], curve["low"], curve["high"], color=colour),
            line=dict(color=colour),
            customdata=curve["n"],
            hovertemplate="probability %{x:.2f}<br>one meaning %{y:.2f}<br>%{customdata} latents<extra></extra>",
        )
    fig.update_xaxes(range=[-0.02, 1.02]).update_yaxes(range=[-0.02, 1.02])
    return with_style(fig, title, x="probability of one meaning", y="share with one meaning (95 %)")


def score_comparison(tables: Mapping[str, pd.DataFrame], *, title: str = "Every score against the truth") -> go.Figure:
    """Draw AUROC of each score, one meaning against several, with 95 % intervals; one colour a world, the best in the
    mean of its worlds on top."""
    import pandas as pd

    named = list(with_colours(tables, "score", "auroc", "auroc_low", "auroc_high"))
    order = list(pd.concat(tables.values()).groupby("score")["auroc"].mean().sort_values().index)
    fig = go.Figure()
    for name, table, colour in named:
        rows = table.set_index("score").reindex(order).dropna(subset=["auroc"])
        error = _error(rows["auroc"], rows["auroc_low"], rows["auroc_high"])
        look = dict(mode="markers", marker=dict(color=colour, size=7), error_x=error, name=name)
        fig.add_scatter(x=rows["auroc"], y=list(map(plain_name, rows.index)), **look)
    fig.add_vline(x=0.5, line=dict(color=GREY, dash="dot"))
    fig.update_yaxes(categoryorder="array", categoryarray=list(map(plain_name, order)))
    return with_style(fig, title, x="AUROC (matched for frequency)", height=120 + 22 * len(order))


def _error(at: Any, low: Any, high: Any, **look: Any) -> dict[str, Any]:
    """Return an interval as plotly wants it: its distances from the point."""
    return dict(type="data", symmetric=False, array=high - at, arrayminus=at - low, thickness=1, **look)
