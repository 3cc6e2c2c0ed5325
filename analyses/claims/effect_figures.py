"""Figures of `feature_effects` (features of labels, ablated and held) and of `rules_at_work`."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import (
    BLUE,
    COLOUR_SCALE,
    GREY,
    INK,
    SEQUENCE,
    VERMILLION,
    check_columns,
    escape_markup,
    with_panel_titles,
    with_style,
)


def context_effects(rows: pd.DataFrame) -> go.Figure:
    """Draw what a label's feature does: on the left how much the loss rises without it, in the label and off it; on the
    right how much of what the model writes is in the label when it is held, by multiples of its maximum.

    rows: a row a label and seed: label, inside, off (nats), free (share as the model is), pinned (multiple → share).
    """
    check_columns(rows, "label", "inside", "off", "free", "pinned")
    labels = list(dict.fromkeys(rows["label"]))
    names = [escape_markup(label) for label in labels]
    fig = make_subplots(cols=2, subplot_titles=["ablated", "held"], horizontal_spacing=0.22)
    for column, name, colour in (("inside", "in the label", BLUE), ("off", "off it", VERMILLION)):
        values = [rows[column][rows["label"] == label] for label in labels]
        mean, spread = [v.mean() for v in values], [v.std() for v in values]
        error = dict(type="data", array=spread, color=INK, thickness=1)
        fig.add_bar(x=names, y=mean, error_y=error, name=name, marker_color=colour, row=1, col=1)
    for label, colour in zip(labels, SEQUENCE[2:] * len(labels), strict=False):
        seeds_of_label = rows[rows["label"] == label]
        pinned = pd.DataFrame(list(seeds_of_label["pinned"]))
        x = ["free", *(f"{float(multiple):g} ×" for multiple in pinned)]
        y = [seeds_of_label["free"].mean(), *pinned.mean()]
        look = dict(mode="lines+markers", line=dict(color=colour, width=2))
        fig.add_scatter(x=x, y=y, name=escape_markup(label), **look, row=1, col=2)
    fig.add_hline(0.8, line=dict(color=GREY, width=1, dash="dot"), row=1, col=2)
    with_panel_titles(with_style(fig, "What the features of labels do", height=400))
    fig.update_layout(barmode="group")
    fig.update_yaxes(title_text="rise of the loss (nats a token)", row=1, col=1)
    fig.update_yaxes(title_text="texts in the label", tickformat=".0%", range=[-0.03, 1.03], row=1, col=2)
    fig.update_xaxes(title_text="label", row=1, col=1)
    return fig.update_xaxes(title_text="held at, of its maximum", row=1, col=2)


def rules_at_work(latents: pd.DataFrame) -> go.Figure:
    """Draw how often latents fire where their rules hold, in the text and on text that the rules generate; the darker,
    the more of the text's rows another latent took.

    latents: a row a latent: fires, sensitivity, absorbed (shares)."""
    check_columns(latents, "fires", "sensitivity", "absorbed")
    bar = dict(title=dict(text="taken by another", side="right"), thickness=10, outlinewidth=0, tickformat=".0%")
    look = dict(
        color=latents["absorbed"], colorscale=COLOUR_SCALE, reversescale=True, size=6, opacity=0.8, colorbar=bar
    )
    fig = go.Figure()
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=dict(color=GREY, width=1, dash="dot"), showlegend=False)
    fig.add_scatter(x=latents["fires"], y=latents["sensitivity"], mode="markers", marker=look, showlegend=False)
    with_style(fig, "Do latents fire where their rules say?", height=420)
    share = dict(tickformat=".0%", range=[-0.03, 1.03])
    fig.update_xaxes(title_text="fires where the rule holds in the text", **share)
    return fig.update_yaxes(title_text="fires on text that the rule generates", **share)
