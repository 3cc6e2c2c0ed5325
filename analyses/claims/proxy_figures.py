"""Figures that compare features with what a label makes likely: specificity, sensitivity, feature against neuron,
sizes.

In: tables of `analyses.claims.towards_monosemanticity`. Out: a plotly Figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SEQUENCE,
    SKY,
    VERMILLION,
    check_columns,
    escape_markup,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd


def specificity(intervals: pd.DataFrame, *, label: str, name: str) -> go.Figure:
    """Draw what the firings of each slice of a latent's range are on, as stacked bars, and their mean log-likelihood
    ratio.

    intervals: a row a slice, with low, high, n, inside, likely, other (shares of its firings), proxy (nats).
    """
    check_columns(intervals, "low", "high", "n", "inside", "likely", "other", "proxy")
    fig = make_subplots(specs=[[{"secondary_y": True}]])
    centres, widths = (intervals.low + intervals.high) / 2, intervals.high - intervals.low
    parts = (
        ("inside", f"in {escape_markup(label)}", BLUE),
        ("likely", f"elsewhere, on a token likelier in {escape_markup(label)}", SKY),
        ("other", "elsewhere, on another token", ORANGE),
    )
    hover = dict(customdata=intervals.n, hovertemplate="%{y:.1%} of %{customdata:,} firings<extra></extra>")
    for column, text, colour in parts:
        fig.add_bar(x=centres, y=intervals[column], width=widths * 0.94, name=text, marker_color=colour, **hover)
    line = dict(color=INK, width=2)
    look = dict(mode="lines+markers", line=line, marker=dict(size=6, color="white", line=line))
    name_right = "mean log-likelihood ratio (right)"
    fig.add_scatter(x=centres, y=intervals.proxy, name=name_right, secondary_y=True, **look)
    with_style(fig, f"Specificity for {label}: {name}", x="activation", y="share of the firings", height=460)
    fig.update_layout(barmode="stack", margin=dict(r=72, b=150), legend=dict(y=-0.24, yanchor="top"))
    fig.update_yaxes(range=[0, 1.12], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1], secondary_y=False)
    lowest, highest = min(0.0, intervals.proxy.min()), max(0.0, intervals.proxy.max())
    span = max(highest - lowest, 1e-6)
    right = dict(range=[lowest - 0.05 * span, highest + 0.22 * span], tickformat=".2~f", nticks=6, showgrid=False)
    fig.update_yaxes(title_text="log P(token | label) / P(token) (nats)", secondary_y=True, **right)
    for centre, n in zip(centres, intervals.n, strict=True):
        fig.add_annotation(x=centre, y=1.01, yanchor="bottom", text=_short(int(n)), showarrow=False, font_size=10)
    return fig


def sensitivity(curves: pd.DataFrame, *, evidence: bool = False) -> go.Figure:
    """Draw share of each label's tokens on which a latent fires above a threshold, one panel a label.

    curves: label, who (one line each), low (threshold) and sensitivity, or `evidence`, the share weighted by evidence.
    """
    column = "evidence" if evidence else "sensitivity"
    check_columns(curves, "label", "who", "low", column)
    labels, who = list(dict.fromkeys(curves.label)), list(dict.fromkeys(curves.who))
    n_rows = math.ceil(len(labels) / 2)
    fig = make_subplots(
        n_rows,
        2,
        subplot_titles=list(map(escape_markup, labels)),
        vertical_spacing=0.28 / n_rows,
        horizontal_spacing=0.1,
        shared_yaxes=True,
    )
    for i, label in enumerate(labels):
        for name, colour in zip(who, (BLUE, VERMILLION, *SEQUENCE[2:]), strict=False):
            rows = curves[(curves.label == label) & (curves.who == name)]
            look = dict(
                mode="lines+markers",
                line=dict(color=colour, width=2),
                name=escape_markup(name),
                legendgroup=escape_markup(name),
            )
            trace = go.Scatter(x=rows.low / rows.high.max(), y=rows[column], showlegend=i == 0, **look)
            fig.add_trace(trace, row=i // 2 + 1, col=i % 2 + 1)
    what = "evidence" if evidence else "tokens"
    with_style(fig, "Sensitivity: what of a label is found above a threshold", height=140 + 200 * n_rows)
    fig.update_layout(legend=dict(y=1.07, yanchor="bottom"), margin=dict(t=100))
    fig.update_yaxes(range=[0, 1.03], tickformat=".0%")
    for row in range(1, n_rows + 1):
        fig.update_yaxes(title_text=f"share of the label's {what}", row=row, col=1)
    return fig.update_xaxes(title_text="threshold (share of the maximum)", row=n_rows)


def feature_against_neuron(table: pd.DataFrame, *, margin: float = 0.2) -> go.Figure:
    """Draw how well the best latent of each dictionary follows each label, next to the best neuron; one mark per seed.

    table: label, dictionary ("neurons" among them), r. Dotted: what a feature needs, the neuron's r + margin.
    """
    check_columns(table, "label", "dictionary", "r")
    labels, names = list(dict.fromkeys(table.label)), list(dict.fromkeys(table.dictionary))
    fig = go.Figure()
    step = 0.7 / max(1, len(names))
    for k, name in enumerate(names):
        rows = table[table.dictionary == name]
        place = (k - (len(names) - 1) / 2) * step
        mark = dict(size=9, color=GREY if name == "neurons" else SEQUENCE[k % len(SEQUENCE)], opacity=0.85)
        height = [labels.index(label) + place for label in rows.label]
        fig.add_scatter(
            x=rows.r, y=height, mode="markers", name=escape_markup(name), marker=mark, hovertemplate="r %{x:.3f}"
        )
    best = table[table.dictionary == "neurons"].groupby("label").r.max()
    for i, label in enumerate(labels):
        if label in best and best[label] + margin <= 1:
            needed = best[label] + margin
            fig.add_shape(type="line", x0=needed, x1=needed, y0=i - 0.4, y1=i + 0.4, line=dict(color=INK, dash="dot"))
    for i in range(1, len(labels)):
        fig.add_hline(y=i - 0.5, line=dict(color="#e6e6e6", width=1))
    title = f"Best latent against best neuron (dotted: the neuron's r + {margin:g})"
    with_style(fig, title, x="r with the log-likelihood proxy, held-out half", y="label", height=205 + 80 * len(labels))
    fig.update_layout(margin_t=105)  # the legend takes two lines
    fig.update_xaxes(range=[min(0.0, table.r.min()) - 0.03, 1.03])
    fig.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=list(map(escape_markup, labels)), showgrid=False, ticks=""
    )
    return fig.update_yaxes(range=[len(labels) - 0.5, -0.5])


def sizes_table(rows: pd.DataFrame, *, columns: Mapping[str, str], formats: Sequence[str]) -> go.Figure:
    """Draw a table of dictionaries and their results, one line each.
    columns: name in `rows` → heading.
    formats: Python's format of each column."""
    check_columns(rows, *columns)
    cells = [
        ["" if value != value else escape_markup(format(value, spec)) for value in rows[name]]
        for name, spec in zip(columns, formats, strict=True)
    ]
    sides, widths = ["left", *["right"] * (len(columns) - 1)], [2.6, *[1.0] * (len(columns) - 1)]
    header = dict(
        values=[f"<b>{escape_markup(text)}</b>" for text in columns.values()], align="left", fill_color="#eef1f5"
    )
    body = dict(values=cells, align=sides, fill_color="white", line_color="#e6e6e6", height=26)
    fig = go.Figure(go.Table(header=header, cells=body, columnwidth=widths))
    with_style(fig, "Dictionaries of each size, and the neurons", height=150 + 27 * len(rows))
    return fig.update_layout(margin=dict(l=16, r=16, b=16))


def _short(n: int) -> str:
    return f"{n / 1000:.0f}k" if n >= 10_000 else f"{n / 1000:.1f}k" if n >= 1000 else str(n)
