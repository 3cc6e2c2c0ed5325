"""Two by two: what an ingredient does at the first stage of training, at the second, and at both.

In: tables of shares with 95 % intervals (`mean`, `low`, `high`). Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import BLUE, GREEN, GREY, INK, ORANGE, VERMILLION, check_columns, escape_markup, with_style

if TYPE_CHECKING:
    import pandas as pd

ARM_COLOURS = (GREY, ORANGE, BLUE, GREEN)
_ARM_SYMBOLS = ("circle", "diamond", "square", "triangle-up")


def stage_effects(
    effects: pd.DataFrame, *, title: str = "What code changes at each stage, problems of held-out sizes"
) -> go.Figure:
    """Draw effects on the share of solved problems, in percentage points, from the columns task, effect, mean, low,
    high."""
    check_columns(effects, "task", "effect", "mean", "low", "high")
    tasks = list(dict.fromkeys(effects["task"]))[::-1]
    names = list(dict.fromkeys(effects["effect"]))
    fig = go.Figure()
    fig.add_vline(x=0, line=dict(color=GREY, width=1))
    for place, (name, colour) in enumerate(zip(names, (BLUE, ORANGE, VERMILLION), strict=False)):
        part = effects[effects["effect"] == name]
        offset = 0.24 * ((len(names) - 1) / 2 - place)
        fig.add_scatter(
            x=100 * part["mean"],
            y=[tasks.index(task) + offset for task in part["task"]],
            error_x=_bars(part),
            mode="markers",
            name=escape_markup(name),
            marker=dict(size=9, color=colour, symbol="diamond" if name == "interaction" else "circle"),
            customdata=list(map(escape_markup, part["task"])),
            hovertemplate="%{customdata}: %{x:+.1f} points<extra>" + escape_markup(name) + "</extra>",
        )
    with_style(fig, title, x="change in problems solved (percentage points, 95 % interval)")
    return fig.update_yaxes(
        tickvals=list(range(len(tasks))), ticktext=list(map(escape_markup, tasks)), range=[-0.6, len(tasks) - 0.4]
    )


def stage_sizes(
    table: pd.DataFrame, held_out: Collection[int], *, title: str = "Problems solved by size, by where the code was"
) -> go.Figure:
    """Draw a panel per task: the share solved against the problem's size, a line an arm; held-out sizes are shaded.
    Columns arm, task, size, mean, low, high."""
    check_columns(table, "arm", "task", "size", "mean", "low", "high")
    tasks = list(dict.fromkeys(table["task"]))
    fig = make_subplots(
        1, len(tasks), subplot_titles=list(map(escape_markup, tasks)), shared_yaxes=True, horizontal_spacing=0.03
    )
    for column, task in enumerate(tasks, 1):
        for trace in _lines(table[table["task"] == task], "size", legend=column == 1):
            fig.add_trace(trace, row=1, col=column)
        for size in held_out:
            fig.add_vrect(size - 0.4, size + 0.4, fillcolor="#e9ecf0", line_width=0, layer="below", row=1, col=column)
    with_style(fig, title, height=380)
    fig.update_xaxes(title_text="characters in the answer", dtick=1)
    fig.update_yaxes(range=[-3, 103])
    fig.update_yaxes(title_text="solved without a mistake (%)", col=1)
    fig.update_annotations(font_size=13)
    return fig.update_layout(margin_t=96, legend=dict(title_text="code in ", y=1.08), meta={"min_width": 600})


def stage_curves(
    table: pd.DataFrame, *, title: str = "Problems of held-out sizes solved, as tuning goes on"
) -> go.Figure:
    """Draw a line per arm: the share solved against the tuning tokens seen. Columns arm, tokens, mean, low, high."""
    check_columns(table, "arm", "tokens", "mean", "low", "high")
    fig = go.Figure(_lines(table, "tokens", legend=True))
    with_style(fig, title, x="tuning tokens (characters)", y="solved (%, 95 % interval)")
    fig.update_yaxes(rangemode="tozero")
    return fig.update_layout(legend_title_text="code in ")


def _lines(table: pd.DataFrame, x: str, *, legend: bool) -> list[go.Scatter]:
    arms = list(dict.fromkeys(table["arm"]))
    traces = []
    for arm, colour, symbol in zip(arms, ARM_COLOURS, _ARM_SYMBOLS, strict=False):
        part = table[table["arm"] == arm]
        traces.append(
            go.Scatter(
                x=part[x],
                y=100 * part["mean"],
                error_y=_bars(part),
                mode="lines+markers",
                name=escape_markup(arm),
                legendgroup=escape_markup(arm),
                showlegend=legend,
                line=dict(color=colour, width=2),
                marker=dict(size=7, symbol=symbol, line=dict(color=INK, width=0.5)),
                hovertemplate="%{y:.0f} %<extra>" + escape_markup(arm) + "</extra>",
            )
        )
    return traces


def _bars(part: pd.DataFrame) -> dict[str, object]:
    """Return error bars in per cent."""
    high, low = 100 * (part["high"] - part["mean"]), 100 * (part["mean"] - part["low"])
    return dict(type="data", symmetric=False, array=high, arrayminus=low, thickness=1, width=3)
