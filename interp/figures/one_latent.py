"""Draw one latent: its activations, its effects on the logits, and the text on which it fires.

In: its rows of a FeatureStore's tables (`histograms`, `intervals`, `features`, `examples`). Out: a plotly Figure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.checks.errors import InterpError
from interp.display.byte_parts import join_pieces
from interp.features.bins import merge_bins
from interp.features.logit_chance import chance_span
from interp.figures.figure import figure
from interp.figures.print_layout import MIN_FONT, to_pixels
from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    CJK_FONTS,
    DASHES,
    GREY,
    INK,
    LIGHT_GREY,
    VERMILLION,
    check_columns,
    digit_ticks,
    escape_markup,
    token_label,
    visible_token,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd

SHADE_RGB = "230,159,0"
"""Red, green and blue of the background of the tokens on which a latent fires."""
OUTLINE = "#8a5a00"
"""Colour of the line under the token that an example is about."""
FONT = f"DejaVu Sans Mono, Liberation Mono, Menlo, Consolas, {CJK_FONTS}, monospace"
LETTER_PIXELS = 0.602 * MIN_FONT
"""Width of a letter of these fonts in pixels."""
EXAMPLE_LINE_HEIGHT = 1.5
"""Height of a line, in heights of a letter."""
EXAMPLE_GAP = 0.5
"""Space between examples, in lines."""
EDGE_PIXELS = 6.0
"""Pixels that are free on both sides."""
_KEY_SHARES = (0.25, 0.5, 0.75, 1.0)
"""The shares of the largest activation whose shades are explained below the examples."""
_KEY_CELLS = 6
"""Width of a shade that is explained, in letters."""
JOINER = "\u200d"
"""A sign without width, beside which an Arabic letter has the shape that it has beside another letter."""


@figure
def activation_histogram(
    histogram: pd.DataFrame, *, latent: int | None = None, intervals: pd.DataFrame | None = None
) -> go.Figure:
    """Draw how strongly one latent fires: its firings in bars about equally wide on a logarithmic axis. Dashed lines
    show where the intervals begin from which examples are drawn.

    histogram, intervals: the latent's rows of these tables. The weakest firings are left out, and counted below the
    axis, if they are fewer than one in a thousand."""
    histogram = _one_latent(histogram, latent, "histograms")
    check_columns(histogram, "low", "high", "n")
    edges, counts = merge_bins(histogram["low"], histogram["high"], histogram["n"], at_most=32)
    first = int(np.searchsorted(counts.cumsum(), counts.sum() / 1000, side="right"))
    below = f"; {counts[:first].sum():,} weaker not drawn" if counts[:first].any() else ""
    edges, counts = edges[first:], counts[first:]
    fig = go.Figure()
    fig.add_bar(
        x=edges[:-1],
        y=counts,
        width=np.diff(edges),
        offset=0,
        marker={"color": BLUE, "line": {"width": 0.5, "color": "white"}},
        customdata=np.stack([edges[:-1], edges[1:]], 1),
        hovertemplate="%{customdata[0]:.3g} to %{customdata[1]:.3g}<br>%{y:,} firings<extra></extra>",
    )
    if intervals is not None:
        begins = [float(low) for low in _one_latent(intervals, latent, "intervals")["low"] if low > edges[0]]
        x = np.repeat(begins, 3)
        y = np.tile([0.0, 1.05 * float(counts.max()), np.nan], len(begins))
        look = {"mode": "lines", "line": {"color": INK, "width": 1, "dash": DASHES}, "hoverinfo": "skip"}
        fig.add_scatter(x=x, y=y, name="where an interval of examples begins", showlegend=True, **look)
        fig.update_traces(showlegend=False, selector={"type": "bar"})
    x_title = f"activation (log scale{below})"
    with_style(fig, _with_latent("Activations", latent), x=x_title, y="firings (tokens)", height=300)
    fig.update_yaxes(nticks=6)
    ticks = digit_ticks(edges[0], edges[-1])
    return fig.update_xaxes(type="log", range=np.log10(edges[[0, -1]]).tolist(), tickvals=ticks, tickformat=".3~g")


@figure
def logit_bars(
    feature: Mapping[str, Any] | pd.Series, vocab: Sequence[str], *, n: int = 10, following: Collection[int] = ()
) -> go.Figure:
    """Draw the tokens that one latent makes most and least likely. Effects are direct: the decoder row through the
    final norm's scale and the unembedding. Grey effects are no larger than chance makes the largest of all tokens, and
    not on a token that is common after the firings.

    feature: its row of the table `features`.
    n: the number of tokens of each sign.
    following: the ids of tokens that are common after its firings."""
    check_columns(feature, "top_logit_tokens", "top_logits", "bottom_logit_tokens", "bottom_logits")
    if not isinstance(feature["top_logit_tokens"], Sequence | np.ndarray):
        raise InterpError(
            "this feature store has no logit effects; scan with model= (or from_codes with W_U=) for them"
        )
    fig = go.Figure()
    rows: list[str] = []
    low, high = chance_span(feature, len(vocab)) or (0.0, 0.0)
    by_chance: dict[int, float] = {}
    for side, name, colour in (("top", "positive logits", BLUE), ("bottom", "negative logits", VERMILLION)):
        tokens, values = list(feature[f"{side}_logit_tokens"])[:n], list(feature[f"{side}_logits"])[:n]
        effects = dict(enumerate(zip(tokens, map(float, values), strict=True), len(rows)))
        by_chance |= {y: x for y, (token, x) in effects.items() if low <= x <= high and token not in following}
        told = {y: x for y, (_, x) in effects.items() if y not in by_chance}
        if told:
            fig.add_bar(x=list(told.values()), y=list(told), orientation="h", marker_color=colour, name=name)
        # A long run of white space, which would push the bars aside, is shortened to one with its number.
        rows += [
            token_label(re.sub(r"(\s)\1{4,}", lambda run: f"{run[1]}×{len(run[0])}", vocab[token])) for token in tokens
        ]
    if by_chance:
        chance = {"marker_color": LIGHT_GREY, "name": "as large by chance"}
        fig.add_bar(x=list(by_chance.values()), y=list(by_chance), orientation="h", showlegend=True, **chance)
    title = _with_latent("Logit effects", int(feature["latent"]) if "latent" in feature else None)
    with_style(fig, title, x="logits per unit of activation", height=120 + 18 * len(rows))
    fig.add_vline(x=0, line={"color": GREY, "width": 1})
    return fig.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, autorange="reversed", showgrid=False)


@figure
def example_text(
    examples: pd.DataFrame,
    vocab: Sequence[str],
    *,
    width: str | float = "column",
    n: int = 8,
    latent: int | None = None,
) -> go.Figure:
    """Draw examples of text on which a latent fires. Each token is shaded by its share of the largest activation shown,
    and the firing that the example is about is underlined.

    examples: a table with the columns tokens, values, row, start, of which the first `n` rows are drawn.
    width: as in `figures.save`, for which lines are broken. Letters stay letters in SVG and PDF.

    Tokens whose bytes make one character together are drawn as that character. Words that the ends of an example cut
    are left out. Lines break between words; Hebrew and Arabic are read from the right.
    Raises ValueError if there is no example.
    """
    check_columns(examples, "tokens", "values", "row", "start")
    if not len(examples):
        raise InterpError("there are no examples: give rows of the table `examples` of a latent that fires")
    pixels = to_pixels(width)
    n_cells = int((pixels - 2 * EDGE_PIXELS) / LETTER_PIXELS)
    drawn = examples.head(n)
    largest = max(max(float(value) for value in values) for values in drawn["values"]) or 1.0
    fig = go.Figure()
    boxes = []
    y = 0.0
    for tokens, values, row, start in drawn[["tokens", "values", "row", "start"]].itertuples(index=False):
        pieces = list(join_pieces([vocab[token] for token in tokens]))
        chunks = _whole_words([text for text, _ in pieces], [row - start in positions for _, positions in pieces])
        words = [visible_token(text.replace(" ", "\u00a0")) for text, _ in pieces]
        is_leftward = _is_leftward(words)
        for line in _broken_lines(chunks, words, n_cells):
            x = n_cells - sum(_cells(words[piece]) for piece in line) if is_leftward else 0
            for piece in _from_left(line, words) if is_leftward else line:
                cells = _cells(words[piece])
                text = escape_markup(_with_joints(words, piece))
                boxes.append((x + cells / 2, y + 0.5, f"\u2067{text}\u2069" if is_leftward else text))
                positions = pieces[piece][1]
                share = max(float(values[position]) for position in positions) / largest
                _shaded_token(fig, x, x + cells, y, share, fires=row - start in positions)
                x += cells
            y += 1
        y += EXAMPLE_GAP
    _add_texts(fig, boxes)
    _add_key_of_shades(fig, y, largest)
    y += 1
    with_style(fig, _with_latent("Examples", latent), height=round(y * EXAMPLE_LINE_HEIGHT * MIN_FONT) + 14)
    bare = {"visible": False, "showgrid": False, "fixedrange": True}
    fig.update_xaxes(range=[-EDGE_PIXELS / LETTER_PIXELS, n_cells + EDGE_PIXELS / LETTER_PIXELS], **bare).update_yaxes(
        range=[y, 0], **bare
    )
    return fig.update_layout(width=pixels, margin={"l": 0, "r": 0, "t": 7, "b": 7}, meta={"laid_out_for": pixels})


def _add_texts(fig: go.Figure, texts: Sequence[tuple[float, float, str]]) -> None:
    """Write texts, each around its place (x, y)."""
    xs, ys, words = zip(*texts, strict=True)
    fig.add_scatter(x=xs, y=ys, text=words, mode="text", textfont={"family": FONT, "size": MIN_FONT}, **BARE_TRACE)


def _add_key_of_shades(fig: go.Figure, top: float, largest: float) -> None:
    """Draw the shades of some shares of the largest activation side by side."""
    ends = [_KEY_CELLS * k for k in range(len(_KEY_SHARES) + 1)]
    for left, right, share in zip(ends, ends[1:], _KEY_SHARES, strict=False):
        _shaded_token(fig, left, right, top, share, fires=False)
    middles = [(end + _KEY_CELLS / 2, top + 0.5) for end in ends]
    _add_texts(fig, [(x, y, f"{share:.0%}") for (x, y), share in zip(middles, _KEY_SHARES, strict=False)])
    look = {"xanchor": "left", "yanchor": "middle", "showarrow": False, "font_size": MIN_FONT, "borderpad": 0}
    fig.add_annotation(x=ends[-1] + 1, y=top + 0.5, text=f"of the largest activation, {largest:.3g}", **look)


def _shaded_token(fig: go.Figure, left: int, right: int, top: float, share: float, *, fires: bool) -> None:
    """Shade a token by its share of the largest activation, and underline the firing token."""
    if share > 0:
        shade = {"fillcolor": f"rgba({SHADE_RGB},{0.12 + 0.75 * share:.2f})", "layer": "below", "line_width": 0}
        fig.add_shape(type="rect", x0=left, x1=right, y0=top + 0.06, y1=top + 0.94, **shade)
    if fires:
        underline = {"y0": top + 0.94, "y1": top + 0.94, "line": {"color": OUTLINE, "width": 1.5}}
        fig.add_shape(type="line", x0=left, x1=right, **underline)


def _whole_words(texts: Sequence[str], fires: Sequence[bool]) -> list[list[int]]:
    """Return the places of the pieces of each word, without the words at both ends of a text that may be cut, unless a
    piece of them fires. Words end at white space; East Asian characters are words each."""
    words = [[0]]
    for left, right in pairwise(range(len(texts))):
        ends = texts[left][-1:] + texts[right][:1]
        if any(end.isspace() or unicodedata.east_asian_width(end) in "WF" for end in ends):
            words.append([])
        words[-1].append(right)
    if not texts[0][:1].isspace() and not any(fires[place] for place in words[0]):
        words = words[1:]
    if not texts[-1][-1:].isspace() and not any(fires[place] for place in words[-1]):
        words = words[:-1]
    return words


def _broken_lines(chunks: Sequence[list[int]], words: Sequence[str], n_cells: int) -> list[list[int]]:
    """Return the places of some words in lines of at most `n_cells` letters. A chunk is broken if it is longer than a
    line, and a word is not.
    chunks: the places of the words that belong together."""
    lines: list[list[int]] = [[]]
    x = 0
    for chunk in chunks:
        width = sum(_cells(words[place]) for place in chunk)
        if x and width <= n_cells < x + width:
            lines.append([])
            x = 0
        for place in chunk:
            if x and x + _cells(words[place]) > n_cells:
                lines.append([])
                x = 0
            lines[-1].append(place)
            x += _cells(words[place])
    return lines


def _directions(word: str) -> list[str]:
    """Return the directions of its letters and digits: those of Hebrew ("R") and Arabic ("AL") are read leftwards."""
    return [way for way in map(unicodedata.bidirectional, word) if way in ("L", "R", "AL", "EN", "AN")]


def _is_leftward(words: Sequence[str]) -> bool:
    """Return whether most letters of a text are read from right to left."""
    ways = _directions("".join(words))
    return sum(way in ("R", "AL") for way in ways) > ways.count("L")


def _from_left(line: Sequence[int], words: Sequence[str]) -> Iterator[int]:
    """Yield the places of a line of leftward text from left to right. In it, Latin words and numbers run rightwards."""

    def is_rightward(place: int) -> bool:
        return bool(ways := _directions(words[place])) and not {"R", "AL"} & set(ways)

    runs = [(rightward, list(run)) for rightward, run in groupby(line, is_rightward)]
    for rightward, run in reversed(runs):
        yield from run if rightward else reversed(run)


def _with_joints(words: Sequence[str], place: int) -> str:
    """Return a word with the sign that joins an Arabic letter to that of the word beside it."""

    def is_joined(left: int) -> bool:
        ends = words[left][-1:] + words[left + 1][:1] if 0 <= left < len(words) - 1 else ""
        return len(ends) == 2 and all(unicodedata.bidirectional(end) == "AL" and end.isalpha() for end in ends)

    return JOINER * is_joined(place - 1) + words[place] + JOINER * is_joined(place)


def _cells(word: str) -> int:
    """Return the width in letters. East Asian characters count as two, and combining characters as none."""
    wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in word)
    return max(wide, 1)


def _with_latent(title: str, latent: int | None) -> str:
    return title if latent is None else f"{title} of latent {latent}"


def _one_latent(table: pd.DataFrame, latent: int | None, name: str) -> pd.DataFrame:
    if latent is not None and "latent" in table:
        table = table[table["latent"] == latent]
    if table.empty or ("latent" in table and table["latent"].nunique() > 1):
        if latent is None:
            raise InterpError(f"the table {name} has rows of several latents, or none: the figure draws one latent")
        raise InterpError(f"the table {name} has no row of latent {latent}: choose one that it has")
    return table
