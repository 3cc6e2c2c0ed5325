"""How far a ranking can be trusted: verdicts beside their nulls, calibration, every score against the truth.

In: the verdict shares that `interp.controls` writes (a row a dictionary and verdict), and the tables of
`interp.benchmark`. Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import GREY, INK, SEQUENCE, VERDICT_COLOURS, escaped, need, styled, verdict_name

if TYPE_CHECKING:
    import pandas as pd

MIN_SHARE = 0.005


def verdict_shares(shares: pd.DataFrame) -> go.Figure:
    """A bar a dictionary and verdict: full up to the share that is sure of it, pale up to the share that has it at all,
    each with its 95 % interval; verdicts that do not go by a probability are full. Those that no dictionary has on more
    than 0.5 % of its latents are left out."""
    columns = ["share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high"]
    need(shares, "dictionary", "verdict", *columns)
    names = list(dict.fromkeys(shares["dictionary"]))
    largest = shares.groupby("verdict")["share"].max()
    verdicts = [verdict for verdict in VERDICT_COLOURS if largest.get(verdict, 0) > MIN_SHARE]
    fig = go.Figure().update_layout(barmode="overlay")
    step = 0.8 / max(len(verdicts), 1)
    for i, verdict in enumerate(verdicts):
        rows = shares[shares["verdict"] == verdict].set_index("dictionary").reindex(names)
        place = np.arange(len(names)) + (i - (len(verdicts) - 1) / 2) * step
        look = dict(width=0.8 * step, orientation="h", marker_color=VERDICT_COLOURS[verdict], legendgroup=verdict)
        name = verdict_name(verdict)
        parted = bool(rows["sure_share"].notna().any())
        share, low, high, sure, sure_low, sure_high = rows[columns].fillna(0).to_numpy(float).T
        fig.add_bar(x=sure if parted else share, y=place, name=name, hoverinfo="skip", **look)
        if parted:
            fig.add_bar(x=share - sure, base=sure, y=place, opacity=0.4, showlegend=False, hoverinfo="skip", **look)
            fig.add_scatter(y=place - 0.18 * step, name=f"surely {name}", **_whisker(sure, sure_low, sure_high, names))
        fig.add_scatter(y=place + (0.18 * step if parted else 0), name=name, **_whisker(share, low, high, names))
    for k in range(1, len(names)):
        fig.add_hline(y=k - 0.5, line=dict(color="#e6e6e6", width=1))
    styled(fig, "Verdicts of the dictionary and of its nulls", y="dictionary", height=150 + 62 * len(names))
    fig.update_xaxes(
        title_text="share of those that fire (95 % CI); pale: unsure", tickformat=".0%", rangemode="tozero"
    )
    lines = dict(tickvals=list(range(len(names))), ticktext=list(map(escaped, names)), range=[len(names) - 0.5, -0.5])
    return fig.update_yaxes(**lines, showgrid=False, ticks="")


def calibration_curve(curves: pd.DataFrame | Mapping[str, pd.DataFrame], *, title: str = "Calibration") -> go.Figure:
    """Of latents with probability p, the share that has one meaning, with 95 % intervals; on the diagonal is right.

    One curve, or several by name (`scorecard.calibration_curve`).
    """
    named = curves if isinstance(curves, Mapping) else {"": curves}
    fig = go.Figure()
    fig.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=dict(color=GREY, dash="dot"), showlegend=False, hoverinfo="skip"
    )
    for (name, curve), colour in zip(named.items(), SEQUENCE, strict=False):
        need(curve, "p", "share", "low", "high", "n")
        fig.add_scatter(
            x=curve["p"],
            y=curve["share"],
            mode="lines+markers",
            name=escaped(name),
            showlegend=bool(name),
            error_y=_error(curve["share"], curve["low"], curve["high"], color=colour),
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
        fig.add_scatter(
            x=rows["auroc"],
            y=[_words(score) for score in rows.index],
            mode="markers",
            name=escaped(name),
            error_x=_error(rows["auroc"], rows["auroc_low"], rows["auroc_high"]),
            marker=dict(color=colour, size=7),
        )
    fig.add_vline(x=0.5, line=dict(color=GREY, dash="dot"))
    fig.update_yaxes(categoryorder="array", categoryarray=list(map(_words, order)))
    x = "AUROC, one meaning against several (matched for frequency)"
    return styled(fig, title, x=x, height=120 + 22 * len(order))


def _words(score: str) -> str:
    return escaped(score.replace("_", " "))


def _error(at: Any, low: Any, high: Any, **look: Any) -> dict[str, Any]:
    """An interval as plotly wants it: its distances from the point."""
    return dict(type="data", symmetric=False, array=high - at, arrayminus=at - low, thickness=1, **look)


def _whisker(share: np.ndarray, low: np.ndarray, high: np.ndarray, names: list[str]) -> dict[str, Any]:
    """An interval on a bar, in ink so that it is seen on the full part and on the pale."""
    return dict(
        x=share,
        mode="markers",
        marker=dict(color=INK, size=4),
        error_x=_error(share, low, high, color=INK, width=0),
        showlegend=False,
        customdata=list(zip(map(escaped, names), low, high, strict=True)),
        hovertemplate="%{customdata[0]}: %{x:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})",
    )
