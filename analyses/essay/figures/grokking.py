"""Networks that memorise first and learn the rule later: accuracy, the waves of the first layer, weights on noise.

In: DataFrames and arrays of what was recorded. Out: plotly Figures, one with a slider.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.essay.figures.slider import with_slider
from interp.figures.theme import BLUE, COLOUR_SCALE, GREY, INK, VERMILLION, check_columns, escape_markup, with_style

if TYPE_CHECKING:
    import pandas as pd

SETS = {"train": ("examples it was shown", BLUE), "test": ("examples it was not", VERMILLION)}
_SHARED = dict(shared_yaxes=True, shared_xaxes=True, vertical_spacing=0.1, horizontal_spacing=0.06)
DIVERGING = ((0.0, VERMILLION), (0.5, "white"), (1.0, BLUE))


def grokking_curves(table: pd.DataFrame) -> go.Figure:
    """Draw accuracy and loss on both sets against the step, with one column per weight decay and one line per seed.

    table: columns step, decay, seed, train_accuracy, test_accuracy, train_loss, test_loss (nats).
    """
    check_columns(
        table, "step", "decay", "seed", *(f"{part}_{measure}" for part in SETS for measure in ("accuracy", "loss"))
    )
    decays = sorted(table["decay"].unique(), reverse=True)
    titles = [f"weight decay {decay:g}" for decay in decays]
    fig = make_subplots(rows=2, cols=len(decays), subplot_titles=titles, **_SHARED)
    for column, decay in enumerate(decays):
        for k, (_, run) in enumerate(table[(table["decay"] == decay) & (table["step"] > 0)].groupby("seed")):
            for part, (words, colour) in SETS.items():
                look = dict(mode="lines", line=dict(color=colour, width=1.3), legendgroup=part, name=words)
                for row, measure in ((1, "accuracy"), (2, "loss")):
                    y = run[f"{part}_{measure}"].clip(lower=1e-8 if measure == "loss" else None)
                    legend = k == column == 0 and row == 1
                    trace = go.Scatter(x=run["step"], y=y, showlegend=legend, **look)
                    fig.add_trace(trace, row=row, col=column + 1)
    fig.update_annotations(font_size=12)
    with_style(fig, "Learning to add modulo a prime", height=460)
    fig.update_layout(meta={"min_width": 600}, margin_t=96, legend=dict(y=1.09))
    fig.update_xaxes(type="log", exponentformat="power", dtick=1)
    fig.update_xaxes(title_text="step (log)", row=2)
    fig.update_yaxes(title_text="right answers", tickformat=".0%", range=[-0.03, 1.05], row=1, col=1)
    losses = table.loc[table["step"] > 0, ["train_loss", "test_loss"]].clip(lower=1e-8).to_numpy()
    ends = [np.log10(losses.min()) - 0.3, np.log10(losses.max()) + 0.3]
    fig.update_yaxes(type="log", exponentformat="power", dtick=3, range=ends, row=2)
    return fig.update_yaxes(title_text="loss (nats, log)", row=2, col=1)


def spectrum_slider(curves: pd.DataFrame, power: np.ndarray) -> go.Figure:
    """Draw one network to be dragged through its training: each frequency's share of its first layer, above its
    accuracy.

    curves: columns step, train_accuracy, test_accuracy; power: [row, frequency], one row a row of `curves`.
    """
    check_columns(curves, "step", "train_accuracy", "test_accuracy")
    fig = make_subplots(rows=2, cols=1, row_heights=[0.62, 0.38], vertical_spacing=0.27)
    frequencies, steps = np.arange(1, power.shape[1] + 1), curves["step"].to_numpy()
    moving = [_spectrum_at(i, curves, power) for i in range(len(steps))]
    fig.add_traces(moving[-1])
    with_style(fig, "Waves in the first layer while it learns to add", height=480)
    fig.update_layout(bargap=0.25, legend=dict(y=0.31, yanchor="bottom"))
    ticks = [1, *range(5, len(frequencies) + 1, 5)]
    across = dict(range=[0.2, len(frequencies) + 0.8], tickvals=ticks, title_standoff=4)
    fig.update_xaxes(title_text="frequency (turns over the numbers 0 … p − 1)", **across, row=1)
    fig.update_yaxes(title_text="share of the power", tickformat=".0%", range=[0, 1.05 * power.max()], row=1)
    fig.update_xaxes(title_text="step", tickformat="~s", row=2)
    fig.update_yaxes(title_text="right answers", tickformat=".0%", range=[-0.04, 1.06], row=2)
    frames = {f"{step:,}": traces for step, traces in zip(steps, moving, strict=True)}
    return with_slider(fig, frames, prefix="step ", active=len(steps) - 1)


def _spectrum_at(i: int, curves: pd.DataFrame, power: np.ndarray) -> list[go.Bar | go.Scatter]:
    """Return the bars at row `i`; below them both accuracies whole, and a line at its step."""
    steps, below = curves["step"].to_numpy(), dict(mode="lines", xaxis="x2", yaxis="y2")
    hover = "frequency %{x}: %{y:.1%}<extra></extra>"
    bars = go.Bar(x=np.arange(1, power.shape[1] + 1), y=power[i], marker_color=GREY, hovertemplate=hover)
    lines = [
        go.Scatter(x=steps, y=curves[f"{part}_accuracy"], line=dict(color=colour, width=2), name=words, **below)
        for part, (words, colour) in SETS.items()
    ]
    marker = go.Scatter(x=[steps[i]] * 2, y=[0, 1], line=dict(color=INK, width=1.5, dash="dot"), **below)
    return [bars.update(showlegend=False), *lines, marker.update(showlegend=False, hoverinfo="skip")]


def cumulative_power(spectra: Mapping[str, np.ndarray], *, share: float = 0.9) -> go.Figure:
    """Draw how much of the power the largest frequencies hold together, one line per seed.

    spectra: name → [seed, frequency], shares that sum to 1.
    """
    fig = go.Figure()
    named = {escape_markup(name): power for name, power in spectra.items()}
    for (name, power), colour in zip(named.items(), (GREY, VERMILLION, BLUE), strict=False):
        cumulative = np.sort(power, axis=1)[:, ::-1].cumsum(1)
        for k, line in enumerate(cumulative):
            look = dict(mode="lines+markers", line=dict(color=colour, width=1.5), marker_size=4, legendgroup=name)
            fig.add_trace(go.Scatter(x=np.arange(1, len(line) + 1), y=line, name=name, showlegend=k == 0, **look))
    fig.add_hline(y=share, line=dict(color=INK, width=1, dash="dot"))
    with_style(fig, "Power held by the largest frequencies", x="frequencies, largest first", y="share of the power")
    fig.update_xaxes(tickvals=[1, *range(3, power.shape[1] + 1, 3)])
    return fig.update_yaxes(tickformat=".0%", range=[0, 1.03])


def sum_responses(maps: np.ndarray, titles: Sequence[str]) -> go.Figure:
    """Draw what hidden units answer to every pair, two panels a row.

    maps: [panel, a, b], each drawn on a scale of its own maximum.
    """
    rows = math.ceil(len(maps) / 2)
    fig = make_subplots(
        rows=rows,
        cols=2,
        subplot_titles=list(map(escape_markup, titles)),
        horizontal_spacing=0.12,
        vertical_spacing=0.12,
    )
    for i, panel in enumerate(maps):
        heat = go.Heatmap(z=np.round(panel / max(panel.max(), 1e-12), 3), zmin=0, zmax=1, colorscale=COLOUR_SCALE)
        heat.update(showscale=i == 0, colorbar=dict(title=dict(text="activation / its maximum", side="right"), len=0.6))
        fig.add_trace(heat, row=i // 2 + 1, col=i % 2 + 1)
    fig.update_annotations(font_size=12)
    with_style(fig, "Two hidden units over all pairs (a, b)", height=100 + 240 * rows)
    fig.update_layout(meta={"min_width": 600})
    fig.update_xaxes(constrain="domain", showgrid=False)
    fig.update_yaxes(constrain="domain", showgrid=False)
    for i in range(len(maps)):
        axis = "" if i == 0 else str(i + 1)
        fig.layout[f"yaxis{axis}"].update(
            scaleanchor=f"x{axis}", title_text="a" if i % 2 == 0 else "", title_standoff=4
        )
    return fig.update_xaxes(title_text="b", title_standoff=4, row=rows)


def parity_weights(weights: Mapping[str, np.ndarray], n_relevant: int) -> go.Figure:
    """Draw first layers as maps, two in a row: units by the bits that they read. The line separates the bits that
    matter from all others.

    weights: title → [unit, bit]. Units are put in the order of their weight on the bits that matter.
    """
    rows = math.ceil(len(weights) / 2)
    fig = make_subplots(
        rows=rows,
        cols=2,
        subplot_titles=list(map(escape_markup, weights)),
        horizontal_spacing=0.1,
        vertical_spacing=0.16,
    )
    for i, W in enumerate(weights.values()):
        order = np.argsort(-np.abs(W[:, :n_relevant]).sum(1))
        place = dict(row=i // 2 + 1, col=i % 2 + 1)
        limit = float(np.abs(W).max())
        z = W[order] / max(limit, 1e-12)
        bits, units = np.arange(1, W.shape[1] + 1), np.arange(1, len(W) + 1)
        heat = go.Heatmap(z=np.round(z, 3), x=bits, y=units, zmin=-1, zmax=1, colorscale=DIVERGING)
        heat.update(
            showscale=i == 0, colorbar=dict(title=dict(text="weight / largest of its map", side="right"), len=0.6)
        )
        fig.add_trace(heat, **place)
        fig.add_vline(x=n_relevant + 0.5, line=dict(color=INK, width=1, dash="dot"), **place)
    fig.update_annotations(font_size=12)
    with_style(fig, f"First layer of the parity network: {n_relevant} bits matter", height=90 + 190 * rows)
    fig.update_layout(meta={"min_width": 600})
    fig.update_xaxes(showgrid=False)
    fig.update_yaxes(showgrid=False, autorange="reversed")
    fig.update_yaxes(title_text="unit", title_standoff=4, col=1)
    return fig.update_xaxes(title_text="bit", title_standoff=4, row=rows)


def parity_curves(steps: np.ndarray, runs: Mapping[str, Mapping[str, np.ndarray]]) -> go.Figure:
    """Draw accuracy on both sets, and the weight on distractors, against the step, with one column per condition and
    one line per seed.

    runs: condition → train_accuracy, test_accuracy and distractor_share, each [record, seed].
    """
    fig = make_subplots(rows=2, cols=len(runs), subplot_titles=list(map(escape_markup, runs)), **_SHARED)
    for column, run in enumerate(runs.values()):
        drawn = [(1, run[f"{part}_accuracy"], words, colour) for part, (words, colour) in SETS.items()]
        for row, values, name, colour in [*drawn, (2, run["distractor_share"], "weight on other bits", GREY)]:
            for k, line in enumerate(values.T):
                look = dict(mode="lines", line=dict(color=colour, width=1.3), legendgroup=name, name=name)
                fig.add_trace(go.Scatter(x=steps, y=line, showlegend=k == column == 0, **look), row=row, col=column + 1)
    fig.update_annotations(font_size=12)
    with_style(fig, "Parity of a few bits among many", height=440)
    fig.update_layout(meta={"min_width": 600}, margin_t=96, legend=dict(y=1.09))
    fig.update_xaxes(title_text="step", row=2)
    fig.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    fig.update_yaxes(title_text="right answers", row=1, col=1)
    return fig.update_yaxes(title_text="share of Σ|W|", row=2, col=1)
