"""The verdict beside its nulls: what share of each dictionary's latents is called what.

In: the shares that `interp.controls` writes (a row a dictionary and verdict). Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import INK, VERDICT_COLOURS, need, styled

if TYPE_CHECKING:
    import pandas as pd

LEAST_SHARE = 0.005


def verdict_shares(shares: pd.DataFrame) -> go.Figure:
    """A bar a dictionary and verdict: full up to the share that is sure of it, pale up to the share that has it at all,
    each with its 95 % interval; verdicts that do not go by a probability are full. Those that no dictionary has on more
    than 0.5 % of its latents are left out."""
    need(shares, "dictionary", "verdict", "share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high")
    names = list(dict.fromkeys(shares["dictionary"]))
    largest = shares.groupby("verdict")["share"].max()
    verdicts = [verdict for verdict in VERDICT_COLOURS if largest.get(verdict, 0) > LEAST_SHARE]
    fig = go.Figure().update_layout(barmode="overlay")
    step = 0.8 / max(len(verdicts), 1)
    for i, verdict in enumerate(verdicts):
        rows = shares[shares["verdict"] == verdict].set_index("dictionary").reindex(names)
        place = np.arange(len(names)) + (i - (len(verdicts) - 1) / 2) * step
        look = dict(width=0.8 * step, orientation="h", marker_color=VERDICT_COLOURS[verdict], legendgroup=verdict)
        parted = bool(rows["sure_share"].notna().any())
        all_, name = _interval(rows, "share", "ci_low", "ci_high"), verdict.replace("_", " ")
        sure = _interval(rows, "sure_share", "sure_low", "sure_high") if parted else all_
        fig.add_bar(x=sure["x"], y=place, name=name, hoverinfo="skip", **look)
        if parted:
            rest = all_["x"] - sure["x"]
            fig.add_bar(x=rest, base=sure["x"], y=place, opacity=0.4, showlegend=False, hoverinfo="skip", **look)
            fig.add_scatter(y=place - 0.18 * step, name=f"surely {name}", **_whisker(sure, names))
        fig.add_scatter(y=place + (0.18 * step if parted else 0), name=name, **_whisker(all_, names))
    for k in range(1, len(names)):
        fig.add_hline(y=k - 0.5, line=dict(color="#e6e6e6", width=1))
    styled(
        fig,
        "Verdicts of the dictionary and of its nulls",
        x="share of those that fire (95 % CI); pale: unsure",
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


def _interval(rows: pd.DataFrame, at: str, low: str, high: str) -> dict[str, np.ndarray]:
    values = rows[[at, low, high]].fillna(0).to_numpy(float)
    return dict(zip(("x", "low", "high"), values.T, strict=True))


def _whisker(part: dict[str, np.ndarray], names: list[str]) -> dict[str, Any]:
    """An interval on a bar, in ink so that it is seen on the full part and on the pale."""
    error = dict(type="data", symmetric=False, array=part["high"] - part["x"], arrayminus=part["x"] - part["low"])
    return dict(
        x=part["x"],
        mode="markers",
        marker=dict(color=INK, size=4),
        error_x=error | dict(color=INK, thickness=1, width=0),
        showlegend=False,
        customdata=list(zip(names, part["low"], part["high"], strict=True)),
        hovertemplate="%{customdata[0]}: %{x:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})",
    )
