"""For how many features does a neuron fire, and why: losses of assignments, what training finds, weights and shares.

In: tables and arrays of the analyses of polysemantic neurons. Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.essay.figures.superposition import SPARSITY_AXIS, lines_over_sparsity
from interp.figures.theme import BLUE, GREY, INK, SEQUENCE, VERMILLION, check_columns, escape_markup, with_style

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

FEATURE_NAMES = {0: "none", 1: "one feature", 2: "two features"}
SYMBOLS = {0: "x", 1: "circle", 2: "diamond"}


def assignment_losses(
    table: pd.DataFrame,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str = "Best loss of every assignment of a binary neuron",
) -> go.Figure:
    """Draw one mark per assignment, its best loss against how often the neuron fires, under cross-entropy and MSE.

    `table`: columns case, fires, mass, features, cross-entropy, MSE. `curves`: case → firing probability and the
    cross-entropy that follows from it alone."""
    check_columns(table, "case", "fires", "mass", "features", "cross-entropy", "MSE")
    fig = make_subplots(cols=2, subplot_titles=["cross-entropy", "mean squared error"], horizontal_spacing=0.13)
    for (case, (mass, loss)), colour in zip(curves.items(), SEQUENCE, strict=False):
        fig.add_scatter(
            x=mass, y=loss, mode="lines", line=dict(color=colour, width=1), showlegend=False, hoverinfo="skip"
        )
        for features, words in FEATURE_NAMES.items():
            rows = table[(table["case"] == case) & (table["features"] == features)]
            for col, loss_name in enumerate(("cross-entropy", "MSE"), 1):
                fig.add_scatter(
                    x=rows["mass"],
                    y=rows[loss_name],
                    customdata=list(map(escape_markup, rows["fires"])),
                    mode="markers",
                    name=f"{escape_markup(case)}, {words}",
                    showlegend=col == 1,
                    marker=dict(color=colour, symbol=SYMBOLS[features], size=9, line=dict(color="white", width=0.5)),
                    hovertemplate="fires for %{customdata}<br>P = %{x:.2f}<br>loss %{y:.4f}<extra></extra>",
                    row=1,
                    col=col,
                )
    fig = with_style(fig, title, x="probability that the neuron fires", height=420)
    fig.update_yaxes(title_text="loss (nats)", row=1, col=1)
    fig.update_yaxes(title_text="loss (squared error)", row=1, col=2)
    fig.update_yaxes(rangemode="tozero")
    return fig.update_layout(legend=dict(y=-0.22, yanchor="top", entrywidth=150), margin_b=130, meta={"min_width": 600})


def restart_shares(table: pd.DataFrame, *, title: str = "How many neurons fire for two of four features") -> go.Figure:
    """Draw share of restarts with two features a side, before and after training; columns case, loss, stage, share,
    low, high."""
    check_columns(table, "case", "loss", "stage", "share", "low", "high")
    fig = go.Figure()
    for (stage, rows), colour in zip(table.groupby("stage", sort=False), (GREY, BLUE), strict=False):
        error = dict(
            type="data", symmetric=False, array=rows["high"] - rows["share"], arrayminus=rows["share"] - rows["low"]
        )
        fig.add_bar(
            x=[[f"{escape_markup(case)} features" for case in rows["case"]], list(map(escape_markup, rows["loss"]))],
            y=rows["share"],
            name=escape_markup(stage),
            marker_color=colour,
            error_y=error | {"thickness": 1, "color": INK},
        )
    fig = with_style(fig, title, y="share of restarts (95 % over seeds)")
    return fig.update_yaxes(range=[0, 1])


def real_neuron(
    curves: np.ndarray,
    *,
    best: float,
    shown: int = 30,
    title: str = "A neuron with real values against the best switch",
) -> go.Figure:
    """Draw loss [step, restart] of neurons with real values; `best`: what no switch undercuts, in nats."""
    at = np.unique(np.geomspace(1, len(curves), 200).astype(int)) - 1
    fig = go.Figure()
    for restart in range(min(shown, curves.shape[1])):
        fig.add_scatter(
            x=at + 1,
            y=curves[at, restart],
            mode="lines",
            line=dict(color=BLUE, width=1),
            opacity=0.4,
            name="real-valued neurons, one line a restart",
            showlegend=restart == 0,
            hoverinfo="skip",
        )
    fig.add_scatter(
        x=[1, len(curves)],
        y=[best, best],
        mode="lines",
        line=dict(color=VERMILLION, dash="dash"),
        name=f"best switch, {best:.3f} nats",
    )
    fig.update_xaxes(type="log", dtick=1)
    fig.update_yaxes(type="log", dtick=1, exponentformat="power")
    return with_style(fig, title, x="step", y="cross-entropy (nats)")


def polysemantic_shares(
    tables: Mapping[str, pd.DataFrame], *, title: str = "Share of polysemantic neurons against sparsity"
) -> go.Figure:
    """Draw one line per task; columns density, share, low, high (95 % over seeds)."""
    fig = go.Figure()
    lines_over_sparsity(fig, tables, "share")
    with_style(fig, title, x=SPARSITY_AXIS, y="polysemantic neurons (share)")
    return fig.update_yaxes(range=[-0.03, 1.03])


def neuron_weights(
    panels: Mapping[str, np.ndarray], *, title: str = "What each neuron reads, from dense to sparse features"
) -> go.Figure:
    """Draw a stacked bar per neuron with the size of each input weight, in one colour per feature. `panels`: name → W
    [m, n].

    Bars that show one colour are monosemantic neurons; neurons are sorted by their largest feature."""
    fig = make_subplots(
        cols=len(panels), subplot_titles=list(map(escape_markup, panels)), shared_yaxes=True, horizontal_spacing=0.03
    )
    n = max(W.shape[1] for W in panels.values())
    palette = (*SEQUENCE, INK, "#b8860b", "#7a5195")
    for col, W in enumerate(panels.values(), 1):
        order = np.argsort(np.abs(W).argmax(1), kind="stable")
        for feature in range(W.shape[1]):
            fig.add_bar(
                x=[str(neuron + 1) for neuron in range(len(W))],
                y=np.abs(W[order, feature]),
                name=f"feature {feature + 1}",
                legendgroup=str(feature),
                showlegend=col == 1 and n <= len(palette),
                marker=dict(color=palette[feature % len(palette)], line=dict(color="white", width=0.5)),
                hovertemplate=f"feature {feature + 1}: %{{y:.2f}}<extra></extra>",
                row=1,
                col=col,
            )
    fig = with_style(fig, title, x="neuron", height=400)
    fig.update_yaxes(title_text="input weight, stacked |W|", row=1, col=1)
    fig.update_layout(barmode="stack", legend=dict(y=-0.2, yanchor="top", traceorder="normal"), margin_b=110)
    return fig.update_layout(meta={"min_width": 600})


def loss_ratios(
    table: pd.DataFrame, *, title: str = "Trained networks against monosemantic ones built by hand"
) -> go.Figure:
    """Draw loss of the best trained network over that of the best network of monosemantic neurons; columns task,
    density, ratio, low, high (95 % over seeds)."""
    check_columns(table, "task", "density", "ratio", "low", "high")
    fig = go.Figure()
    lines_over_sparsity(fig, {str(task): rows for task, rows in table.groupby("task", sort=False)}, "ratio")
    fig.add_hline(y=1, line=dict(color=GREY, dash="dot"))
    fig.update_yaxes(type="log", tickvals=[0.2, 0.5, 1, 2, 5, 10])
    return with_style(fig, title, x=SPARSITY_AXIS, y="loss / monosemantic loss")
