"""Curves of a training run and the quality of what came out.

In: the rows of a `metrics.jsonl` as a DataFrame; a quality table with one row a dictionary. Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import BLUE, GREEN, GREY, SEQUENCE, VERMILLION, need, styled

if TYPE_CHECKING:
    import pandas as pd

# column → what a reader is told, and the format of its numbers
QUALITY_COLUMNS = {
    "dictionary": ("dictionary", ""),
    "l0": ("L0 (latents a token)", ".1f"),
    "fvu": ("FVU", ".3f"),
    "ce_clean": ("CE, model (nats)", ".3f"),
    "ce_spliced": ("CE, spliced (nats)", ".3f"),
    "ce_mean_ablated": ("CE, mean-ablated (nats)", ".3f"),
    "ce_zero_ablated": ("CE, zero-ablated (nats)", ".3f"),
    "ce_recovered_mean": ("CE recovered, vs mean", ".1%"),
    "ce_recovered_zero": ("CE recovered, vs zero", ".1%"),
    "dead_share": ("dead", ".1%"),
    "ultra_low_share": ("ultra-low", ".1%"),
    "n_tokens": ("tokens", ",.0f"),
}


def model_training(
    metrics: pd.DataFrame, *, unigram: float | None = None, bigram: float | None = None, name: str = "the model"
) -> go.Figure:
    """Loss of a language model against tokens seen, with the corpus's own n-gram cross-entropies as lines to beat."""
    need(metrics, "tokens", "loss")
    fig = go.Figure()
    fig.add_scatter(
        x=metrics["tokens"],
        y=metrics["loss"],
        mode="lines",
        name="training",
        line=dict(color=BLUE, width=1),
        opacity=0.55,
    )
    if "val_loss" in metrics:
        rows = metrics.dropna(subset=["val_loss"])
        style = dict(line=dict(color=VERMILLION, width=2), marker_size=5)
        fig.add_scatter(x=rows["tokens"], y=rows["val_loss"], mode="lines+markers", name="validation", **style)
    for value, text, dash in ((unigram, "unigram", "dot"), (bigram, "bigram", "dash")):
        if value is not None:
            fig.add_hline(
                y=value,
                line=dict(color=GREY, dash=dash, width=1.5),
                annotation_text=f"{text} {value:.2f}",
                annotation_position="top right",
                annotation_font_size=11,
            )
    return styled(fig, f"Training of {name}", x="tokens seen", y="cross-entropy (nats a token)")


def sae_training(metrics: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """FVU, L0 and the share of dead latents against tokens seen; a mapping (name → metrics) overlays several runs."""
    runs = metrics if isinstance(metrics, Mapping) else {"": metrics}
    panels = {"fvu": "FVU", "l0": "L0 (latents)", "dead": "dead (share)"}
    fig = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for (name, table), colour in zip(runs.items(), SEQUENCE * len(runs), strict=False):
        need(table, "tokens", *panels)
        for row, column in enumerate(panels, 1):
            fig.add_scatter(
                x=table["tokens"],
                y=table[column],
                mode="lines",
                line=dict(color=colour, width=1.5),
                name=name or column,
                legendgroup=name,
                showlegend=bool(name) and row == 1,
                row=row,
                col=1,
            )
    styled(fig, "Training of the dictionary", height=480)
    for row, title in enumerate(panels.values(), 1):
        fig.update_yaxes(title_text=title, rangemode="tozero", row=row, col=1)
    fig.update_yaxes(tickformat=".2~%", row=3, col=1)
    return fig.update_xaxes(title_text="tokens seen", row=3, col=1)


def quality_bars(quality: pd.DataFrame) -> go.Figure:
    """What each dictionary keeps: variance explained (1 − FVU) and CE loss recovered against mean-ablation."""
    need(quality, "dictionary", "fvu", "ce_recovered_mean", "l0")
    names = [f"{name}<br>L0 {l0:.0f}" for name, l0 in zip(quality["dictionary"], quality["l0"], strict=True)]
    fig = go.Figure()
    measures = {"variance explained": 1 - quality["fvu"], "CE recovered": quality["ce_recovered_mean"]}
    for (measure, values), colour in zip(measures.items(), (BLUE, GREEN), strict=True):
        fig.add_bar(
            x=names,
            y=values,
            name=measure,
            marker_color=colour,
            text=values,
            texttemplate="%{text:.3f}",
            textposition="outside",
            cliponaxis=False,
        )
    fig.update_layout(barmode="group", bargap=0.35)
    styled(fig, "Quality of the dictionaries", x="dictionary", y="share kept (1 = all)")
    highest = max(1.0, *(float(values.max()) for values in measures.values()))
    lowest = min(0.0, *(float(values.min()) for values in measures.values()))
    return fig.update_yaxes(range=[lowest * 1.1, highest * 1.12])


def quality_table(quality: pd.DataFrame) -> go.Figure:
    """The quality table as a figure: one column a dictionary, one row a measure."""
    need(quality, "dictionary")
    measures = [column for column in QUALITY_COLUMNS if column in quality and column != "dictionary"]
    cells = [[QUALITY_COLUMNS[column][0] for column in measures]]
    for _, row in quality.iterrows():
        cells.append([format(row[column], QUALITY_COLUMNS[column][1]) for column in measures])
    header = dict(values=["measure", *quality["dictionary"]], align=["left", "right"], fill_color="white", font_size=12)
    fig = go.Figure(
        go.Table(
            header=header | dict(line_color=GREY, height=26),
            cells=dict(values=cells, align=["left", "right"], fill_color="white", line_color="#e6e6e6", height=24),
            columnwidth=[2, *[1] * len(quality)],
        )
    )
    styled(fig, "Quality of the dictionaries", height=120 + 24 * len(measures))
    return fig.update_layout(margin=dict(l=4, r=4, t=48, b=8))
