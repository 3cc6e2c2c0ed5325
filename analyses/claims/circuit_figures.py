"""Draw which feature makes which other feature fire, within a dictionary and between two, and how well steering is
predicted.

In: tables of `interp.effects` and of the analyses in this folder. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    INK,
    VERMILLION,
    WIDTH,
    check_columns,
    token_label,
    with_panel_titles,
    with_style,
)

_NODE, _GAP = 22, 64
"""Height of a node in pixels, and of the margin around all nodes."""


def steering_scores(table: pd.DataFrame) -> go.Figure:
    """Draw how much more of its concept the model writes when a latent is held, at doses of equal KL, against two
    predictions: by the latent's output, and by its input.

    table: the columns output, input and success of `steering_scores` and `steering_success`, with a row per latent."""
    check_columns(table, "output", "input", "success")
    titles = {"output": "predicted rise of its concept", "input": "its firing predicted by the token (R²)"}
    panels = ["by what it puts out", "by what it reads"]
    fig = make_subplots(cols=2, shared_yaxes=True, subplot_titles=panels, horizontal_spacing=0.08)
    for col, (name, title) in enumerate(titles.items(), 1):
        look: dict[str, Any] = dict(color=BLUE, size=5, opacity=0.6, line_width=0)
        hover = [f"latent {latent}" for latent in table["latent"]] if "latent" in table else None
        style = dict(mode="markers", marker=look, text=hover, showlegend=False)
        fig.add_scatter(x=table[name], y=table["success"], **style, row=1, col=col)
        fig.update_xaxes(title_text=title, row=1, col=col)
    with_panel_titles(with_style(fig, "How well will a latent steer?", height=380))
    return fig.update_yaxes(title_text="rise of its concept in what is written", col=1)


def circuit(
    edges: pd.DataFrame, *, names: Mapping[tuple[str, int], str] | None = None, max_edges: int = 24, title: str = ""
) -> go.Figure:
    """Draw features of one dictionary on the left, those of the next on the right, and which makes which fire. The
    thickness of a band is the strength of the edge. It is blue if the edge raises the activation, and red if it lowers
    it.

    edges: a row per edge of `effects.feature_edges`, with upstream and downstream (latents) and effect. The `max_edges`
    strongest are drawn.
    names: the name of each ("upstream" | "downstream", latent). A latent without a name has its number.
    """
    check_columns(edges, "upstream", "downstream", "effect")
    shown = edges.loc[edges["effect"].abs().sort_values(ascending=False, kind="stable").index[:max_edges]]
    sides = {side: _ordered(shown, side) for side in ("upstream", "downstream")}
    given_names = names or {}
    tallest = max(map(len, sides.values()))
    place = {
        (side, latent): (x, (i + 0.5) * tallest / len(latents))
        for x, (side, latents) in enumerate(sides.items())
        for i, latent in enumerate(latents)
    }
    strongest = max(float(shown["effect"].abs().max()), 1e-12)
    along = np.linspace(0, 1, 24)
    level = along * along * (3 - 2 * along)  # a curve that is horizontal at both ends
    fig = go.Figure()
    for up, down, effect in zip(shown["upstream"], shown["downstream"], shown["effect"], strict=True):
        (x0, y0), (x1, y1), size = place["upstream", up], place["downstream", down], abs(effect) / strongest
        line = dict(color=BLUE if effect > 0 else VERMILLION, width=0.6 + 6 * size)
        look = dict(mode="lines", line=line, opacity=0.25 + 0.55 * size)
        fig.add_scatter(x=x0 + (x1 - x0) * along, y=y0 + (y1 - y0) * level, **look, **BARE_TRACE)
    for (side, latent), at in place.items():
        _named_dot(fig, at, given_names.get((side, latent), f"#{latent}"), left=side == "upstream")
    with_style(fig, title or "Which feature makes which other fire", height=_GAP + 40 + _NODE * tallest)
    off = dict(showticklabels=False, showgrid=False, showline=False, ticks="")
    fig.update_xaxes(range=[-1.1, 2.1], tickvals=[0, 1], ticktext=["earlier layer", "later layer"], **off)
    fig.update_xaxes(showticklabels=True)
    return fig.update_yaxes(range=[tallest, 0], **off).update_layout(meta={"min_width": WIDTH})


def automaton(
    loops: pd.DataFrame, cycles: pd.DataFrame, *, names: Mapping[int, str] | None = None, max_edges: int = 8
) -> go.Figure:
    """Draw features that keep themselves active on the left, and pairs that activate one another on the right. The
    strongest `max_edges` of each are drawn. An arrow means that the output of one fires the other.

    loops: a table with latent and effect, and cycles: one with latent, other and effect, both of `automata.Automaton`.
    names: the names of latents, by default their numbers.
    """
    check_columns(loops, "latent", "effect")
    check_columns(cycles, "latent", "other", "effect")
    given_names, shown = names or {}, (loops.head(max_edges), cycles.head(max_edges))
    tallest = max(1, *map(len, shown))
    fig = go.Figure()
    ring = np.linspace(0.25 * np.pi, 1.8 * np.pi, 40)
    for y, latent in enumerate(shown[0]["latent"]):
        xs, ys = 0.09 + 0.05 * np.cos(ring), y + 0.3 * np.sin(ring)
        fig.add_scatter(x=xs, y=ys, mode="lines", line=dict(color=BLUE, width=1.5), **BARE_TRACE)
        _arrow(fig, (xs[-2], ys[-2]), (0.14, y), BLUE)
        _named_dot(fig, (0.14, y), given_names.get(latent, f"#{latent}"), left=False)
    for y, pair in enumerate(zip(shown[1]["latent"], shown[1]["other"], strict=True)):
        _arrow(fig, (1.02, y - 0.16), (1.38, y - 0.16), VERMILLION)
        _arrow(fig, (1.38, y + 0.16), (1.02, y + 0.16), VERMILLION)
        for x, latent in zip((1.0, 1.4), pair, strict=True):
            _named_dot(fig, (x, y), given_names.get(latent, f"#{latent}"), left=x == 1.0)
    with_style(fig, "Which feature fires next", height=_GAP + 60 + 30 * tallest)
    off = dict(showgrid=False, showline=False, ticks="")
    fig.update_xaxes(range=[0, 1.8], tickvals=[0.25, 1.2], ticktext=["keeps itself going", "bring one another"], **off)
    fig.update_yaxes(range=[tallest - 0.4, -0.6], showticklabels=False, **off)
    return fig.update_layout(meta={"min_width": WIDTH})


def _named_dot(fig: go.Figure, at: tuple[float, float], name: str, *, left: bool) -> None:
    """Draw a feature as a dot, with its name on one side."""
    fig.add_scatter(x=at[:1], y=at[1:], mode="markers", marker=dict(color=INK, size=8), **BARE_TRACE)
    side = dict(xanchor="right", xshift=-6) if left else dict(xanchor="left", xshift=6)
    fig.add_annotation(x=at[0], y=at[1], text=token_label(name), showarrow=False, font_size=11, **side)


def _arrow(fig: go.Figure, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    place = dict(x=end[0], y=end[1], ax=start[0], ay=start[1], xref="x", yref="y", axref="x", ayref="y")
    fig.add_annotation(text="", showarrow=True, arrowhead=2, arrowwidth=1.5, arrowcolor=colour, **place)


def _ordered(edges: pd.DataFrame, side: str) -> list[int]:
    """Return the latents of one side, those with the strongest edges first. On the right they are sorted by the place
    where their edges begin."""
    weight = edges["effect"].abs()
    if side == "upstream":
        return [int(latent) for latent in weight.groupby(edges[side]).sum().sort_values(ascending=False).index]
    first = {latent: i for i, latent in enumerate(_ordered(edges, "upstream"))}
    centre = (edges["upstream"].map(first) * weight).groupby(edges[side]).sum() / weight.groupby(edges[side]).sum()
    return [int(latent) for latent in centre.sort_values(kind="stable").index]
