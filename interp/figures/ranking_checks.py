"""How far a ranking can be trusted: verdicts beside their nulls, calibration, every score against the truth.

In: the verdict shares that `interp.controls` writes (a row a dictionary and verdict), and the tables of
`interp.benchmark`. Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import GREY, INK, SEQUENCE, VERDICT_COLOURS, need, styled, verdict_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

MIN_SHARE = 0.005


def verdict_shares(shares: pd.DataFrame) -> go.Figure:
    """A bar a dictionary and verdict: full up to the share that is sure of it, pale up to the share that has it at all,
    each with its 95 % interval; verdicts that do not go by a probability are full. Those that no dictionary has on more
    than 0.5 % of its latents are left out."""
    need(shares, "dictionary", "verdict", "share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high")
    names = list(dict.fromkeys(shares["dictionary"]))
    largest = shares.groupby("verdict")["share"].max()
    verdicts = [verdict for verdict in VERDICT_COLOURS if largest.get(verdict, 0) > MIN_SHARE]
    fig = go.Figure().update_layout(barmode="overlay")
    step = 0.8 / max(len(verdicts), 1)
    for i, verdict in enumerate(verdicts):
        rows = shares[shares["verdict"] == verdict].set_index("dictionary").reindex(names)
        place = np.arange(len(names)) + (i - (len(verdicts) - 1) / 2) * step
        look = dict(width=0.8 * step, orientation="h", marker_color=VERDICT_COLOURS[verdict], legendgroup=verdict)
        parted = bool(rows["sure_share"].notna().any())
        all_, name = _interval(rows, "share", "ci_low", "ci_high"), verdict_name(verdict)
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
