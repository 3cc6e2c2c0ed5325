"""A character model seen from outside and inside: what leaks, how its samples read, and its neurons on a line of text.

In: arrays of what was measured, with characters along their axes. Out: plotly Figures, some with sliders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.essay.figures.learning import with_characters
from analyses.essay.figures.slider import with_slider
from interp.figures.theme import (
    BLUE,
    COLOUR_SCALE,
    GREY,
    VERMILLION,
    check_columns,
    escape_markup,
    token_label,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd


def leak(changes: Mapping[str, np.ndarray], text: str) -> go.Figure:
    """Draw how much the logits at each place change when one character is exchanged: a panel a model.

    changes: name → [changed place, place], the largest absolute change of a logit; exact zeros stay white.
    """
    fig = make_subplots(
        rows=1, cols=len(changes), subplot_titles=list(map(escape_markup, changes)), horizontal_spacing=0.08
    )
    logs = {name: np.log10(np.where(change > 0, change, np.nan)) for name, change in changes.items()}
    top = max(float(np.nanmax(log)) for log in logs.values())
    powers = list(range(-6, 3))
    ticks = dict(tickvals=powers, ticktext=[f"10<sup>{power}</sup>" for power in powers])
    bar = dict(title=dict(text="largest<br>change<br>of a logit"), thickness=12, **ticks)
    for column, log in enumerate(logs.values(), 1):
        hover = "exchanged %{y}, read at %{x}: 10^%{z:.1f}<extra></extra>"
        trace = go.Heatmap(
            z=log.astype(np.float32), zmin=top - 4, zmax=top, colorscale=COLOUR_SCALE, hovertemplate=hover
        )
        fig.add_trace(trace.update(colorbar=bar, showscale=column == len(changes)), row=1, col=column)
    fig.update_annotations(font_size=12)
    with_style(fig, "Which predictions change when one character is exchanged", height=380)
    fig.update_layout(meta={"min_width": 600})
    places = dict(tickvals=list(range(len(text))), ticktext=[token_label(each) for each in text], tickangle=0, ticks="")
    small = dict(size=10, family="Menlo, Consolas, monospace")
    fig.update_xaxes(**places, tickfont=small, showgrid=False, title_text="prediction after")
    fig.update_yaxes(**places, tickfont=small, showgrid=False, autorange="reversed")
    return fig.update_yaxes(title_text="character exchanged", row=1, col=1)


def twin_losses(losses: pd.DataFrame) -> go.Figure:
    """Draw two ways to ask the same models: with the answer among the input, and without it. Bars are means over seeds,
    whiskers reach from the lowest to the highest.

    losses: model, question, loss (nats a character), a row a seed.
    """
    check_columns(losses, "model", "question", "loss")
    fig = go.Figure()
    looks = ((VERMILLION, "black"), (BLUE, "white"))
    for (question, table), (colour, ink) in zip(losses.groupby("question", sort=False), looks, strict=False):
        seeds = table.groupby("model", sort=False)["loss"]
        means, reach = seeds.mean(), dict(array=seeds.max() - seeds.mean(), arrayminus=seeds.mean() - seeds.min())
        bar = go.Bar(
            x=list(map(escape_markup, means.index)), y=means, name=escape_markup(question), marker_color=colour
        )
        bar.update(offsetgroup=escape_markup(question), insidetextfont_color=ink)
        bar.update(error_y=dict(symmetric=False, thickness=1.5, **reach), cliponaxis=False)
        fig.add_trace(bar.update(text=means, texttemplate="%{text:.2f}", textposition="auto", insidetextanchor="start"))
    with_style(fig, "Held-out loss of the same models, asked two ways", x="attention", y="loss (nats a character)")
    return fig.update_layout(barmode="group", bargap=0.4).update_yaxes(range=[0, 1.1 * losses["loss"].max()])


def generation_quality(samples: pd.DataFrame, *, real_distance: float, real_share: float) -> go.Figure:
    """Draw the distance of the samples' bigrams from those of the corpus, and the samples' share of real words, during
    training. There is one line per seed. A dotted line shows the same for real text of the same length.

    samples: round, seed, distance, word_share.
    """
    check_columns(samples, "round", "seed", "distance", "word_share")
    panels = (("distance", "bigram distance (√JS, bits)", real_distance), ("word_share", "real words", real_share))
    fig = make_subplots(rows=1, cols=2, horizontal_spacing=0.15)
    for column, (name, title, real) in enumerate(panels, 1):
        _seed_lines(fig, samples, name, column)
        note = dict(annotation_text="real text", annotation_font_size=11, annotation_position="bottom right")
        fig.add_hline(y=real, line=dict(color=GREY, dash="dot", width=1.5), row=1, col=column, **note)
        fig.update_yaxes(title_text=title, row=1, col=column)
    with_style(fig, "What the model writes as it trains")
    fig.update_yaxes(rangemode="tozero").update_yaxes(tickformat=".0%", range=[0, 1.05], row=1, col=2)
    return _round_axes(fig, samples).update_layout(meta={"min_width": 600}, showlegend=False)


def unit_contrast(measured: pd.DataFrame, null: Mapping[str, float], titles: Mapping[str, str]) -> go.Figure:
    """Draw measures of a model's units during training, with one line per seed. A dotted line is the 99th percentile of
    the shuffled models.

    measured: round, seed and a column a measure; null, titles: measure → level, axis title.
    """
    check_columns(measured, "round", "seed", *titles)
    fig = make_subplots(rows=1, cols=len(titles), horizontal_spacing=0.13)
    for column, (name, title) in enumerate(titles.items(), 1):
        _seed_lines(fig, measured, name, column)
        fig.add_hline(y=null[name], line=dict(color=VERMILLION, dash="dot", width=1.5), row=1, col=column)
        fig.update_yaxes(title_text=title, row=1, col=column)
    fig.add_scatter(
        x=[None], y=[None], mode="lines", line=dict(color=BLUE, width=1.5), name="trained (one line per seed)"
    )
    dotted = dict(color=VERMILLION, dash="dot", width=1.5)
    fig.add_scatter(x=[None], y=[None], mode="lines", line=dotted, name="shuffled weights, 99th percentile")
    with_style(fig, "How sharply MLP units tell characters apart", height=340)
    return _round_axes(fig, measured).update_yaxes(rangemode="tozero").update_layout(meta={"min_width": 600})


def neuron_heatmaps(acts: Mapping[str, np.ndarray], text: str, *, top: float) -> go.Figure:
    """Draw activations of the same units on a line of text, a panel a moment of training, all on one scale up to `top`.

    acts: moment → [character, unit], after the activation function. The panels stand one below the other, so that the
    line can be read along them.
    """
    fig = make_subplots(
        rows=len(acts), cols=1, shared_xaxes=True, subplot_titles=list(map(escape_markup, acts)), vertical_spacing=0.07
    )
    for row, values in enumerate(acts.values(), 1):
        fig.add_trace(_neurons(values, top), row=row, col=1)
    fig.update_annotations(font_size=12, x=0, xanchor="left")
    with_style(fig, "MLP units on a line of text", height=120 + 170 * len(acts))
    with_characters(fig, text).update_yaxes(showgrid=False, title_text="unit", nticks=4)
    return fig.update_xaxes(title_text="text, a character a place", row=len(acts))


def neuron_slider(acts: Mapping[str, np.ndarray], text: str, *, top: float) -> go.Figure:
    """Draw `neuron_heatmaps` with a slider for the round of training.
    acts: round → [character, unit]."""
    frames = {moment: [_neurons(values, top)] for moment, values in acts.items()}
    last = list(frames)[-1]
    fig = with_style(go.Figure(frames[last]), "MLP units on a line of text: drag through training", height=400)
    with_characters(fig, text).update_yaxes(showgrid=False, title_text="unit", nticks=5)
    fig.update_xaxes(title_text="text, a character a place")
    return with_slider(fig, frames, prefix="rounds of training: ", active=len(frames) - 1)


def _neurons(values: np.ndarray, top: float) -> go.Heatmap:
    bar = dict(title=dict(text="activation", side="right"), thickness=12, len=1)
    hover = "unit %{y}: %{z:.2f}<extra></extra>"
    rounded = np.round(np.asarray(values).T, 2).astype(np.float32)
    return go.Heatmap(z=rounded, zmin=0, zmax=top, colorscale=COLOUR_SCALE, colorbar=bar, hovertemplate=hover)


def _seed_lines(fig: go.Figure, table: pd.DataFrame, column: str, place: int) -> None:
    for _, one in table.groupby("seed", sort=False):
        style = dict(mode="lines+markers", line=dict(color=BLUE, width=1.5), marker_size=5, showlegend=False)
        fig.add_scatter(x=one["round"], y=one[column], **style, row=1, col=place)


def _round_axes(fig: go.Figure, table: pd.DataFrame) -> go.Figure:
    last = int(table["round"].max())
    return fig.update_xaxes(title_text="rounds of training", tickvals=np.linspace(0, last, 6).round().tolist())
