"""After pre-training: what tuning on conversations teaches and makes the model forget, and what optimising for a
preference does.

In: DataFrames with one row per seed and step. Out: plotly Figures; lines are means over the seeds, with each seed as a
thin line in the background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    check_columns,
    escape_markup,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd


def tuning_curves(curves: pd.DataFrame) -> go.Figure:
    """Draw tuning on conversations: shares of held-out prompts, and losses, against steps.

    curves: seed, step, ended, right (shares), plain_loss, response_loss (nats a token).
    """
    check_columns(curves, "seed", "step", "ended", "right", "plain_loss", "response_loss")
    fig = make_subplots(cols=2, horizontal_spacing=0.15)
    shares = {"ended": ("says &lt;end> in time", BLUE), "right": ("right answer", GREEN)}
    losses = {"response_loss": ("responses", PURPLE), "plain_loss": ("pre-training text", VERMILLION)}
    for col, lines in enumerate((shares, losses), 1):
        for column, (name, colour) in lines.items():
            _lines(fig, curves, column, name, colour, col)
    with_style(fig, "Tuning on conversations: what is learnt, what is forgotten", x="steps of tuning", height=380)
    fig.update_yaxes(title_text="share of held-out prompts", tickformat=".0%", range=[-0.03, 1.05], col=1)
    fig.update_yaxes(title_text="loss (nats a token)", rangemode="tozero", col=2)
    return fig.update_layout(meta={"min_width": 600})


def task_bars(shares: pd.DataFrame) -> go.Figure:
    """Draw the share of right answers by task: a bar per task is the mean over seeds, and each seed is a dot.

    shares: task, seed, right (share), held (what is held out, "facts" or "word lists").
    """
    check_columns(shares, "task", "seed", "right", "held")
    means = shares.groupby(["held", "task"], sort=True)["right"].mean()
    fig = go.Figure()
    for held, colour in zip(sorted(set(shares["held"])), (BLUE, ORANGE), strict=False):
        part = means[held].sort_values(ascending=False)
        fig.add_bar(
            x=list(map(escape_markup, part.index)),
            y=part.to_numpy(),
            name=f"held-out {escape_markup(held)}",
            opacity=0.75,
            marker_color=colour,
        )
    dots = dict(mode="markers", marker=dict(color=INK, size=5), name="one seed")
    fig.add_scatter(x=list(map(escape_markup, shares["task"])), y=shares["right"], **dots)
    with_style(fig, "Right answers to held-out prompts after tuning", y="answered to the letter")
    return fig.update_yaxes(tickformat=".0%", range=[0, 1.05])


def preference_curves(curves: pd.DataFrame) -> go.Figure:
    """Draw the optimisation for a preference: log-probabilities of held-out pairs, divergence, and the behaviour of the
    policy.

    curves: seed, step, chosen, rejected (nats a response), kl (nats a response), wins, right (shares).
    """
    check_columns(curves, "seed", "step", "chosen", "rejected", "kl", "wins", "right")
    fig = make_subplots(cols=3, horizontal_spacing=0.11)
    for column, name, colour, col in (
        ("chosen", "chosen", BLUE, 1),
        ("rejected", "rejected", VERMILLION, 1),
        ("kl", "KL from SFT", PURPLE, 2),
        ("wins", "preferred to SFT", GREEN, 3),
        ("right", "right answer", ORANGE, 3),
    ):
        _lines(fig, curves, column, name, colour, col)
    with_style(fig, "Direct preference optimisation, step by step", x="steps", height=416)
    fig.update_yaxes(title_text="log-probability (nats a response)", title_standoff=4, col=1)
    fig.update_yaxes(title_text="divergence (nats a response)", rangemode="tozero", title_standoff=4, col=2)
    fig.update_yaxes(title_text="share", tickformat=".0%", range=[0, 1.05], title_standoff=4, col=3)
    return fig.update_layout(margin_t=92, meta={"min_width": 600})  # the legend takes two lines


def gold_against_divergence(policies: pd.DataFrame, best_of_n: pd.DataFrame | None = None) -> go.Figure:
    """Draw the gold reward against the divergence that it cost, on the way of each β, and of best-of-n. The axis runs
    with the root of the divergence, along which best-of-n is close to a parabola (Gao et al. 2023, arXiv 2210.10760).

    policies: beta, seed, step, kl (nats a response), gold; best_of_n: n, seed, kl, gold.
    """
    check_columns(policies, "beta", "seed", "step", "kl", "gold")
    fig = go.Figure()
    for beta, colour in zip(sorted(set(policies["beta"])), (VERMILLION, BLUE, GREEN, SKY), strict=False):
        part = policies[policies["beta"] == beta]
        for _, run in part.groupby("seed"):
            thin = dict(mode="lines", line=dict(color=colour, width=1), opacity=0.3, showlegend=False, hoverinfo="skip")
            fig.add_scatter(x=run["kl"] ** 0.5, y=run["gold"], **thin)
        mean = part.groupby("step")[["kl", "gold"]].mean()
        style = dict(mode="lines+markers", line=dict(color=colour, width=2), marker_size=6, customdata=mean["kl"])
        style["hovertemplate"] = "KL %{customdata:.2f}, gold %{y:.2f}"
        fig.add_scatter(x=mean["kl"] ** 0.5, y=mean["gold"], name=f"DPO, β = {beta:g}", **style)
    if best_of_n is not None:
        mean = best_of_n.groupby("n")[["kl", "gold"]].mean()
        style = dict(mode="lines+markers", line=dict(color=INK, width=1.5, dash="dot"), customdata=mean.index)
        style["hovertemplate"] = "best of %{customdata}: gold %{y:.2f}"
        fig.add_scatter(x=mean["kl"] ** 0.5, y=mean["gold"], name=f"best of 1 to {mean.index.max()}", **style)
    title = "Gold reward against the distance from where tuning began"
    with_style(
        fig, title, x="KL from the SFT model (nats a response)", y="gold reward (mean of a response)", height=400
    )
    ticks = [0, 1, 4, 10, 25, 50, 100, 200, 400]
    return fig.update_xaxes(tickvals=[tick**0.5 for tick in ticks], ticktext=[str(tick) for tick in ticks])


def _lines(fig: go.Figure, curves: pd.DataFrame, column: str, name: str, colour: str, col: int) -> None:
    for _, run in curves.groupby("seed"):
        thin = go.Scatter(x=run["step"], y=run[column], mode="lines", line=dict(color=colour, width=1))
        fig.add_trace(thin.update(opacity=0.3, showlegend=False, hoverinfo="skip"), row=1, col=col)
    mean = curves.groupby("step")[column].mean()
    style = dict(mode="lines+markers", line=dict(color=colour, width=2), marker_size=5)
    fig.add_trace(go.Scatter(x=mean.index, y=mean.to_numpy(), name=name, **style), row=1, col=col)
