"""The verdict beside its nulls: what share of each dictionary's latents is called what.

In: the shares that `interp.nulls` writes (a row a dictionary and verdict). Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from interp.figures.theme import GREY, VERDICT_COLOURS, need, styled

if TYPE_CHECKING:
    import pandas as pd

LEAST_SHARE = 0.005


def verdict_shares(shares: pd.DataFrame) -> go.Figure:
    """A line a dictionary, on it the share of each verdict with its 95 % interval; verdicts that no dictionary has on
    more than 0.5 % of its latents are left out."""
    need(shares, "dictionary", "verdict", "share", "ci_low", "ci_high")
    names = list(dict.fromkeys(shares["dictionary"]))
    largest = shares.groupby("verdict")["share"].max()
    verdicts = [verdict for verdict in VERDICT_COLOURS if largest.get(verdict, 0) > LEAST_SHARE]
    fig = go.Figure()
    step = 0.7 / max(len(verdicts), 1)
    for i, verdict in enumerate(verdicts):
        rows = shares[shares["verdict"] == verdict].set_index("dictionary").reindex(names).fillna(0)
        place = (i - (len(verdicts) - 1) / 2) * step
        fig.add_scatter(
            x=rows["share"],
            y=[k + place for k in range(len(names))],
            mode="markers",
            name=verdict.replace("_", " "),
            marker=dict(color=VERDICT_COLOURS.get(verdict, GREY), size=8),
            error_x=dict(
                type="data",
                symmetric=False,
                array=rows["ci_high"] - rows["share"],
                arrayminus=rows["share"] - rows["ci_low"],
                thickness=2,
                width=0,
            ),
            customdata=list(zip(names, rows["ci_low"], rows["ci_high"], strict=True)),
            hovertemplate="%{customdata[0]}: %{x:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})",
        )
    for k in range(1, len(names)):
        fig.add_hline(y=k - 0.5, line=dict(color="#e6e6e6", width=1))
    styled(
        fig,
        "Verdicts of the dictionary and of its nulls",
        x="share of those that fire (95 % CI)",
        height=150 + 62 * len(names),
    )
    fig.update_xaxes(tickformat=".0%", rangemode="tozero")
    return fig.update_yaxes(
        title_text="dictionary",
        tickvals=list(range(len(names))),
        ticktext=names,
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        ticks="",
    )
