"""Paired prompts: the odds of two pronouns in the text, and after a prompt in the model.

In: tables with one noun per row and natural log odds he : she. Out: a plotly Figure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.essay.figures.slider import with_slider
from interp.figures.theme import BLUE, GREY, INK, VERMILLION, check_columns, escape_markup, with_style

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

_RATIOS = (1, 3, 10, 40)
_TICKS = {math.log(r): f"{r} : 1" for r in _RATIOS} | {-math.log(r): f"1 : {r}" for r in _RATIOS}
_ODDS = dict(tickvals=list(_TICKS), ticktext=list(_TICKS.values()))


def paired_odds(
    tables: Mapping[str, pd.DataFrame],
    *,
    model: str = "model",
    balanced: str = "balanced",
    prompt: str = "“The … said that”",
    title: str = "Odds of “he” : “she” in the text and after the prompt",
) -> go.Figure:
    """Draw each noun's odds in the model against those in the text, log–log: trained on the text as it is, and on the
    text and its pronoun-swapped twin. On the dotted line the two agree. One table per seed, with a slider over them.

    A table has `noun`, `he`, `she` (counts), `corpus` and both models' log odds, `only_plays` (drawn open) and `label`
    (named in the figure).
    """
    names = {"Trained on the text as written": model, "Trained on balanced text": balanced}
    for table in tables.values():
        check_columns(table, "noun", "he", "she", "corpus", "only_plays", "label", *names.values())
    fig = make_subplots(1, 2, subplot_titles=list(names), shared_yaxes=True, horizontal_spacing=0.06)
    reach = 1.06 * max(float(table[["corpus", *names.values()]].abs().to_numpy().max()) for table in tables.values())
    frames = {seed: _panels(table, list(names.values()), reach) for seed, table in tables.items()}
    for trace in next(iter(frames.values())):
        fig.add_trace(trace)
    with_style(fig, title, height=420)
    fig.update_xaxes(**_ODDS, range=[-reach, reach], title_text="in the text, he : she", tickfont_size=11)
    fig.update_yaxes(**_ODDS, range=[-reach, reach])
    fig.update_yaxes(title_text=f"after {escape_markup(prompt)}, he : she", row=1, col=1)
    fig.update_layout(margin_t=96, legend_y=1.08, meta={"min_width": 600})
    fig.update_annotations(font_size=13)
    return with_slider(fig, frames, prefix="") if len(frames) > 1 else fig


def _panels(table: pd.DataFrame, columns: list[str], reach: float) -> list[go.Scatter]:
    traces = []
    for place, (column, colour) in enumerate(zip(columns, (BLUE, VERMILLION), strict=True)):
        axes = dict(xaxis="x" if place == 0 else "x2", yaxis="y" if place == 0 else "y2")
        line = dict(color=GREY, dash="dot", width=1)
        ends = [-reach, reach]
        traces.append(go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False, **axes))
        for only_plays, part in ((False, table[~table["only_plays"]]), (True, table[table["only_plays"]])):
            named = part["label"] if place == 0 else part["label"] & False
            traces.append(
                go.Scatter(
                    x=part["corpus"],
                    y=part[column],
                    mode="markers+text",
                    text=[
                        escape_markup(noun) if shown else "" for noun, shown in zip(part["noun"], named, strict=True)
                    ],
                    textposition=[_side(x, y, reach) for x, y in zip(part["corpus"], part[column], strict=True)],
                    textfont=dict(size=11, color=INK),
                    marker=dict(size=8, color=colour, symbol="circle-open" if only_plays else "circle"),
                    name="nouns of the plays alone" if only_plays else "nouns with planted odds",
                    showlegend=place == 0,
                    customdata=_hover(part, column),
                    hovertemplate="<b>%{customdata[0]}</b><br>text: %{customdata[1]} he, %{customdata[2]} she"
                    "<br>odds in the text %{customdata[3]:.3g} : 1, "
                    "in the model %{customdata[4]:.3g} : 1<extra></extra>",
                    **axes,
                )
            )
    return traces


def _side(x: float, y: float, reach: float) -> str:
    """Return the side of a point for its name: away from the diagonal, and inside the plot."""
    if abs(x) > 0.7 * reach:
        return "top right" if y > x else "bottom left"
    return "middle left" if y > x else "middle right"


def _hover(part: pd.DataFrame, column: str) -> list[list[object]]:
    rows = zip(part["noun"], part["he"], part["she"], part["corpus"], part[column], strict=True)
    return [
        [escape_markup(noun), int(he), int(she), math.exp(text), math.exp(model)] for noun, he, she, text, model in rows
    ]


def odds_dumbbell(
    table: pd.DataFrame,
    *,
    model: str = "model",
    balanced: str = "balanced",
    title: str = "Odds of “he” : “she” after “The … said that”, before and after balancing",
) -> go.Figure:
    """Draw a row per noun, sorted by its odds in the text (short stroke): the model's odds before and after."""
    check_columns(table, "noun", "corpus", model, balanced)
    table = table.sort_values("corpus")
    nouns = list(map(escape_markup, table["noun"]))
    fig = go.Figure()
    fig.add_vline(x=0, line=dict(color=GREY, width=1, dash="dot"))
    xs = [x for pair in zip(table[model], table[balanced], strict=True) for x in (*pair, None)]
    ys = [y for noun in nouns for y in (noun, noun, None)]
    fig.add_scatter(x=xs, y=ys, mode="lines", line=dict(color="#c9ced6", width=2), showlegend=False, hoverinfo="skip")
    looks = (
        ("corpus", "in the text", dict(symbol="line-ns", size=10, line=dict(color=INK, width=2))),
        (model, "model, text as written", dict(size=8, color=BLUE)),
        (balanced, "model, balanced text", dict(size=8, color=VERMILLION)),
    )
    for column, name, marker in looks:
        fig.add_scatter(
            x=table[column],
            y=nouns,
            mode="markers",
            name=name,
            marker=marker,
            customdata=[math.exp(x) for x in table[column]],
            hovertemplate="%{y}: %{customdata:.3g} : 1<extra>" + name + "</extra>",
        )
    with_style(fig, title, x="odds he : she (log scale)", height=120 + 16 * len(nouns))
    fig.update_xaxes(**_ODDS)
    fig.update_yaxes(tickfont_size=11, dtick=1, range=[-0.7, len(nouns) - 0.3])
    return fig.update_layout(legend_y=1.0)
