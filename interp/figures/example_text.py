"""Text shaded by a latent's activations, as a figure for print: the examples of a paper's appendix.

In: rows of a FeatureStore's table `examples`, and its vocabulary. Out: a plotly Figure, laid out for one width, whose
letters stay letters in SVG and PDF.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from interp.figures.print_layout import MIN_FONT, in_pixels
from interp.figures.theme import escaped, need, styled, visible

if TYPE_CHECKING:
    import pandas as pd

FONT = "DejaVu Sans Mono, Liberation Mono, Menlo, Consolas, monospace"
SIZE = MIN_FONT
CELL = 0.602 * SIZE
"""Pixels that a letter of these fonts is wide."""
LINE, GAP = 1.5, 0.5
"""Height of a line in letters' heights, and room between examples in lines."""
SHADE = "230,159,0"
EDGE = 6.0
"""Pixels left free on both sides."""


def example_text(
    examples: pd.DataFrame,
    vocab: Sequence[str],
    *,
    width: str | float = "column",
    n: int = 8,
    latent: int | None = None,
) -> go.Figure:
    """The first `n` examples, each token shaded by its share of the largest activation shown, the firing one
    underlined; lines break between tokens. width: that of `figures.save`, for which lines are broken.

    examples: tokens, values, row, start. Raises ValueError where there is none.
    """
    need(examples, "tokens", "values", "row", "start")
    if not len(examples):
        raise ValueError("there are no examples: give rows of the table `examples` of a latent that fires")
    pixels = in_pixels(width)
    n_cells = int((pixels - 2 * EDGE) / CELL)
    shown = examples.head(n)
    largest = max(max(float(value) for value in values) for values in shown["values"]) or 1.0
    fig, places, y = go.Figure(), [], 0.0
    for tokens, values, row, start in shown[["tokens", "values", "row", "start"]].itertuples(index=False):
        words = [visible(vocab[token].replace(" ", "\u00a0")) for token in tokens]
        laid, n_lines = _laid_out([_cells(word) for word in words], n_cells)
        for place, (word, value) in enumerate(zip(words, values, strict=True)):
            x, line = laid[place]
            places.append((x + _cells(word) / 2, y + line + 0.5, escaped(word)))
            _mark(fig, x, x + _cells(word), y + line, float(value) / largest, fires=place == row - start)
        y += n_lines + GAP
    xs, ys, texts = zip(*places, strict=True)
    look = dict(mode="text", textfont=dict(family=FONT, size=SIZE), hoverinfo="skip", showlegend=False)
    fig.add_scatter(x=xs, y=ys, text=texts, **look)
    title = "Examples" if latent is None else f"Examples of latent {latent}"
    styled(fig, title, height=round((y - GAP) * LINE * SIZE) + 14)
    bare = dict(visible=False, showgrid=False, fixedrange=True)
    fig.update_xaxes(range=[-EDGE / CELL, n_cells + EDGE / CELL], **bare).update_yaxes(range=[y - GAP, 0], **bare)
    margin = dict(l=0, r=0, t=7, b=7)
    return fig.update_layout(width=pixels, margin=margin, meta={"laid_out_for": pixels})


def _mark(fig: go.Figure, left: int, right: int, top: float, share: float, *, fires: bool) -> None:
    """Shade a token by its share of the largest activation; underline the one that fires."""
    if share > 0:
        shade = dict(fillcolor=f"rgba({SHADE},{0.12 + 0.75 * share:.2f})", layer="below", line_width=0)
        fig.add_shape(type="rect", x0=left, x1=right, y0=top + 0.06, y1=top + 0.94, **shade)
    if fires:
        under = dict(y0=top + 0.94, y1=top + 0.94, line=dict(color="#8a5a00", width=1.5))
        fig.add_shape(type="line", x0=left, x1=right, **under)


def _laid_out(widths: Sequence[int], n_cells: int) -> tuple[list[tuple[int, int]], int]:
    """Where each token begins (cell, line), and how many lines there are; a token longer than a line has its own."""
    places, x, line = [], 0, 0
    for width in widths:
        if x and x + width > n_cells:
            x, line = 0, line + 1
        places.append((x, line))
        x += width
    return places, line + 1


def _cells(word: str) -> int:
    """Letters wide; East Asian ones are two, combining ones none."""
    wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in word)
    return max(wide, 1)
