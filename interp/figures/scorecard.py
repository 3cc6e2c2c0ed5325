"""How far a ranking can be trusted: calibration, and every score against the truth.

In: tables of `interp.benchmark`. Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from interp.figures.theme import GREY, SEQUENCE, need, styled

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


def calibration_curve(curves: pd.DataFrame | Mapping[str, pd.DataFrame], *, title: str = "Calibration") -> go.Figure:
    """Of latents with probability p, the share that has one meaning, with 95 % intervals; on the diagonal is right.

    One curve, or several by name (`scorecard.calibration_curve`).
    """
    named = {"": curves} if not hasattr(curves, "items") or hasattr(curves, "columns") else dict(curves)
    fig = go.Figure()
    fig.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=dict(color=GREY, dash="dot"), showlegend=False, hoverinfo="skip"
    )
    for (name, curve), colour in zip(named.items(), SEQUENCE, strict=False):
        need(curve, "p", "share", "low", "high", "n")
        error = dict(
            type="data", symmetric=False, array=curve["high"] - curve["share"], arrayminus=curve["share"] - curve["low"]
        )
        fig.add_scatter(
            x=curve["p"],
            y=curve["share"],
            mode="lines+markers",
            name=name,
            showlegend=bool(name),
            error_y=error | {"color": colour, "thickness": 1},
            line=dict(color=colour),
            customdata=curve["n"],
            hovertemplate="probability %{x:.2f}<br>one meaning %{y:.2f}<br>%{customdata} latents<extra></extra>",
        )
    fig.update_xaxes(range=[-0.02, 1.02])
    fig.update_yaxes(range=[-0.02, 1.02])
    return styled(fig, title, x="probability of one meaning", y="share with one meaning (95 %)")


def score_comparison(tables: Mapping[str, pd.DataFrame], *, title: str = "Every score against the truth") -> go.Figure:
    """AUROC of each score, one meaning against several, with 95 % intervals; one colour a world, the best in the mean
    of its worlds on top."""
    import pandas as pd

    for table in tables.values():
        need(table, "score", "auroc", "auroc_low", "auroc_high")
    order = list(pd.concat(tables.values()).groupby("score")["auroc"].mean().sort_values().index)
    fig = go.Figure()
    for (name, table), colour in zip(tables.items(), SEQUENCE, strict=False):
        rows = table.set_index("score").reindex(order).dropna(subset=["auroc"])
        error = dict(
            type="data",
            symmetric=False,
            array=rows["auroc_high"] - rows["auroc"],
            arrayminus=rows["auroc"] - rows["auroc_low"],
            thickness=1,
        )
        fig.add_scatter(
            x=rows["auroc"],
            y=[score.replace("_", " ") for score in rows.index],
            mode="markers",
            name=name,
            error_x=error,
            marker=dict(color=colour, size=7),
        )
    fig.add_vline(x=0.5, line=dict(color=GREY, dash="dot"))
    fig.update_yaxes(categoryorder="array", categoryarray=[score.replace("_", " ") for score in order])
    return styled(
        fig, title, x="AUROC, one meaning against several (matched for frequency)", height=120 + 22 * len(order)
    )
