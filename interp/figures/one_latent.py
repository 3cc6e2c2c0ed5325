"""Draw one latent: its activations, its effects on the logits, and the text on which it fires.

In: its rows of a FeatureStore's tables (`histograms`, `features`, `examples`). Out: a plotly Figure.
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
CELLS_BEFORE = 0.6
"""Share of a line that is left of the firing: what a model has read tells more of it than what follows."""
EDGE_PIXELS = 6.0
"""Pixels that are free on both sides."""
_SPECIAL = re.compile(r"<\|.*?\|>")
"""A special token, such as that at the start of a document."""
_KEY_SHARES = (0.25, 0.5, 1.0)
"""The shares of the largest activation whose shades are explained below the examples."""
_KEY_CELLS = 5
"""Width of a shade that is explained, in letters."""


@figure
def activation_histogram(histogram: pd.DataFrame, *, latent: int | None = None) -> go.Figure:
    """Draw how strongly one latent fires: the number of its firings by their activation, in bars about equally wide on
    a logarithmic axis.

    histogram: the latent's rows of this table. The weakest firings are left out if they are fewer than one in a
    thousand."""
    histogram = _one_latent(histogram, latent, "histograms")
    check_columns(histogram, "low", "high", "n")
    edges, counts = merge_bins(histogram["low"], histogram["high"], histogram["n"], at_most=32)
    first = int(np.searchsorted(counts.cumsum(), counts.sum() / 1000, side="right"))
    n_weaker = int(counts[:first].sum())
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
    caption = "The number of firings by their activation, in bars about equally wide on a logarithmic axis."
    if n_weaker:
        caption += f" The {n_weaker:,} weakest firings are" if n_weaker > 1 else " The weakest firing is"
        caption += " not drawn."
    axes = {"x": "activation (log scale)", "y": "firings (tokens)"}
    with_style(fig, _with_latent("Activations", latent), **axes, height=300, caption=caption)
    fig.update_yaxes(nticks=6, tickformat=",", range=[0, 1.08 * float(counts.max())])
    ticks = digit_ticks(edges[0], edges[-1])
    low, high = np.log10(edges[[0, -1]]).tolist()
    beside = 0.02 * (high - low)
    return fig.update_xaxes(type="log", range=[low - beside, high + beside], tickvals=ticks, tickformat=".3~g")


@figure
def logit_bars(
    feature: Mapping[str, Any] | pd.Series, vocab: Sequence[str], *, n: int = 10, following: Collection[int] = ()
) -> go.Figure:
    """Draw the tokens that one latent makes likelier, and those that it makes less likely. Effects are direct: the
    decoder row through the final norm's scale and the unembedding. A dashed line is the largest effect that chance
    gives any token; smaller effects are drawn only of tokens that are common after the firings.

    feature: its row of the table `features`.
    n: the number of tokens of each sign.
    following: the ids of tokens that are common after its firings."""
    check_columns(feature, "top_logit_tokens", "top_logits", "bottom_logit_tokens", "bottom_logits")
    if not isinstance(feature["top_logit_tokens"], Sequence | np.ndarray):
        raise InterpError(
            "this feature store has no logit effects; scan with model= (or from_codes with W_U=) for them"
        )
    span = chance_span(feature, len(vocab))
    low, high = span or (0.0, 0.0)
    tokens, effects = [], []
    for side in ("top", "bottom"):
        listed = zip(list(feature[f"{side}_logit_tokens"])[:n], feature[f"{side}_logits"], strict=False)
        kept = [(token, float(effect)) for token, effect in listed if not low <= effect <= high or token in following]
        tokens += [token for token, _ in kept]
        effects += [effect for _, effect in kept]
    colours = [BLUE if effect > 0 else VERMILLION for effect in effects]
    y = list(range(len(tokens)))
    fig = go.Figure(go.Bar(x=effects, y=y, orientation="h", marker_color=colours, showlegend=False))
    # A long run of white space, which would push the bars aside, is shortened to one with its number.
    shown = [re.sub(r"(\s)\1{4,}", lambda run: f"{run[1]}×{len(run[0])}", vocab[token]) for token in tokens]
    title = _with_latent("Logit effects", int(feature["latent"]) if "latent" in feature else None)
    sides = {BLUE: "makes likelier (blue)", VERMILLION: "makes less likely (orange)"}
    drawn = [words for colour, words in sides.items() if colour in colours]
    caption = "No token has an effect larger than chance gives."
    if drawn:
        caption = f"The tokens that the latent {', and those that it '.join(drawn)}."
    caption += " Effects are direct, through the final norm and the unembedding alone."
    if span:
        n_left_out = sum(min(n, len(feature[f"{side}_logit_tokens"])) for side in ("top", "bottom")) - len(tokens)
        caption += " A dashed line is the largest effect that chance gives any token."
        if n_left_out:
            absent = [words.partition(" (")[0] for colour, words in sides.items() if colour not in colours]
            others = f", among them all that it {absent[0]}" if len(absent) == 1 else ""
            n_smaller = "1 token" if n_left_out == 1 else f"{n_left_out} tokens"
            caption += f" Smaller effects ({n_smaller}{others}) are not drawn."
    height = 168 + 16 * max(len(tokens), 1)
    with_style(fig, title, x="logits per unit of activation", height=height, caption=caption)
    fig.add_vline(x=0, line={"color": GREY, "width": 1})
    # Inside of the lines where bars of both signs stand, outside where none does, and else around the line.
    anchors = {0: ("right", "left"), 1: ("center", "center"), 2: ("left", "right")}[len(set(colours))]
    for at, anchor, colour in zip((low, high), anchors, (VERMILLION, BLUE), strict=True) if span else ():
        if colour in colours or not colours:
            fig.add_vline(x=at, line={"color": INK, "width": 1, "dash": DASHES})
            above = {"y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": anchor}
            fig.add_annotation(x=at, text="largest by chance", showarrow=False, **above)
    if not tokens:
        middle = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
        fig.add_annotation(text="none beyond chance", **middle, showarrow=False, bgcolor="white")
        fig.update_xaxes(range=[3 * low, 3 * high])
    ticks = {"tickvals": y, "ticktext": list(map(token_label, shown))}
    fig.update_layout(bargap=0.35)
    return fig.update_yaxes(**ticks, range=[max(len(tokens), 1) - 0.4, -0.6], showgrid=False, showline=False, ticks="")


@figure
def example_text(
    examples: pd.DataFrame,
    vocab: Sequence[str],
    *,
    width: str | float = "column",
    n: int = 6,
    latent: int | None = None,
) -> go.Figure:
    """Draw texts on which a latent fires, a line each. The underlined token is the firing for which the text was
    chosen. The darker a token, the stronger the latent fires on it. An arrow stands for the end of a line.

    examples: a table with the columns tokens, values, row, start. Of these, up to `n` are drawn in their order: the
    first ones that fire in another word, and others only if these are fewer than half of `n`.
    width: as in `figures.save`, for which lines are cut. Letters stay letters in SVG and PDF.

    Tokens whose bytes make one character together are drawn as that character. Words that the ends of a line cut are
    left out. Hebrew and Arabic are read from the right.
    Raises ValueError if there is no example.
    """
    check_columns(examples, "tokens", "values", "row", "start")
    if not len(examples):
        raise InterpError("there are no examples: give rows of the table `examples` of a latent that fires")
    pixels = to_pixels(width)
    n_cells = int((pixels - 2 * EDGE_PIXELS) / LETTER_PIXELS)
    n_left = int(CELLS_BEFORE * n_cells)
    drawn = _unlike(examples, vocab, n)
    largest = max(max(float(value) for value in values) for values in drawn["values"]) or 1.0
    fig = go.Figure()
    boxes = []
    rows = drawn[["tokens", "values", "row", "start"]].itertuples(index=False)
    for y, (tokens, values, row, start) in enumerate(rows):
        pieces = list(join_pieces([vocab[token] for token in tokens]))
        fires = next(place for place, (_, positions) in enumerate(pieces) if row - start in positions)
        plain = [text for text, _ in pieces]
        word_of = _words_of(plain)
        shares = [max(float(values[position]) for position in positions) / largest for _, positions in pieces]
        texts = [
            visible_token(text if share > 0 else text.replace(" ", "\u00a0"))
            for text, share in zip(plain, shares, strict=True)
        ]
        is_leftward = _is_leftward(texts)
        room = n_left, n_cells - n_left  # before the firing, and from it on
        if is_leftward:  # what comes before it stands on its right
            room = n_cells - n_left - _cells(texts[fires]), n_left + _cells(texts[fires])
        line = _line_around(fires, plain, word_of, *room)
        from_left = list(_from_left(line, texts)) if is_leftward else line
        x = n_left - sum(_cells(texts[place]) for place in from_left[: from_left.index(fires)])
        x = max(0, min(x, n_cells - sum(_cells(texts[place]) for place in line)))
        parts = list(zip(word_of, map(_is_rightward, texts), strict=True))
        for _, places in groupby(from_left, parts.__getitem__):
            of_word = list(places)
            text = escape_markup("".join(texts[place] for place in sorted(of_word)))
            width_of_word = sum(_cells(texts[place]) for place in of_word)
            boxes.append((x + width_of_word / 2, y + 0.5, f"\u2067{text}\u2069" if is_leftward else text))
            for place in of_word:
                cells = _cells(texts[place])
                _shaded_token(fig, x, x + cells, y, shares[place], fires=place == fires)
                x += cells
    _add_texts(fig, boxes)
    bottom = len(drawn) + 0.5
    _add_key_of_shades(fig, bottom, largest)
    bottom += 1
    with_style(fig, _with_latent("Examples", latent), height=round(bottom * EXAMPLE_LINE_HEIGHT * MIN_FONT) + 14)
    bare = {"visible": False, "showgrid": False, "fixedrange": True}
    fig.update_xaxes(range=[-EDGE_PIXELS / LETTER_PIXELS, n_cells + EDGE_PIXELS / LETTER_PIXELS], **bare).update_yaxes(
        range=[bottom, 0], **bare
    )
    return fig.update_layout(width=pixels, margin={"l": 0, "r": 0, "t": 7, "b": 7}, meta={"laid_out_for": pixels})


def _unlike(examples: pd.DataFrame, vocab: Sequence[str], n: int) -> pd.DataFrame:
    """Return up to n examples, in their order: as many as possible that fire in another word, and others only if
    these are fewer than half of n."""
    words = []
    for tokens, row, start in examples[["tokens", "row", "start"]].itertuples(index=False):
        texts = [vocab[token] for token in tokens]
        word_of = _words_of(texts)
        whole = "".join(text for text, word in zip(texts, word_of, strict=True) if word == word_of[row - start])
        words.append(re.sub(rf"{_SPECIAL.pattern}|[\W\d_]", "", whole).casefold() or whole)
    seen = [words[:place].count(word) for place, word in enumerate(words)]
    n_unlike = seen.count(0)
    return examples.iloc[sorted(np.argsort(seen, kind="stable")[: min(n, n_unlike) if 2 * n_unlike >= n else n])]


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


def _words_of(texts: Sequence[str]) -> list[int]:
    """Return the number of the word of each piece of a text. Words end at white space; East Asian characters are words
    each."""
    numbers = [0]
    for left, right in pairwise(texts):
        ends = left[-1:] + right[:1]
        is_next = any(end.isspace() or unicodedata.east_asian_width(end) in "WF" for end in ends)
        numbers.append(numbers[-1] + is_next)
    return numbers


def _line_around(fires: int, texts: Sequence[str], word_of: Sequence[int], before: int, after: int) -> list[int]:
    """Return the places of the pieces of a text on a line with room for so many letters before that which fires, and
    from it on. Words that the line or an end of the text may cut are left out, unless it lies in them. Special tokens
    end the text, unless one of them fires."""
    cells = [_cells(visible_token(text)) for text in texts]
    ends_text = [_SPECIAL.fullmatch(text) is not None for text in texts]
    first, last = fires, fires + 1
    while first > 0 and sum(cells[first - 1 : fires]) <= before and not ends_text[first - 1]:
        first -= 1
    while last < len(texts) and sum(cells[fires : last + 1]) <= after and not ends_text[last]:
        last += 1
    with_ends = [word_of[0] - texts[0][:1].isspace(), *word_of, word_of[-1] + texts[-1][-1:].isspace()]
    cut = {with_ends[first], with_ends[last + 1]} - {word_of[fires]}
    return [place for place in range(first, last) if word_of[place] not in cut]


def _directions(word: str) -> list[str]:
    """Return the directions of its letters and digits: those of Hebrew ("R") and Arabic ("AL") are read leftwards."""
    return [way for way in map(unicodedata.bidirectional, word) if way in ("L", "R", "AL", "EN", "AN")]


def _is_leftward(words: Sequence[str]) -> bool:
    """Return whether most letters of a text are read from right to left."""
    ways = _directions("".join(words))
    return sum(way in ("R", "AL") for way in ways) > ways.count("L")


def _is_rightward(word: str) -> bool:
    """Return whether a word in leftward text runs rightwards, as Latin words and numbers do."""
    return bool(ways := _directions(word)) and not {"R", "AL"} & set(ways)


def _from_left(line: Sequence[int], words: Sequence[str]) -> Iterator[int]:
    """Yield the places of a line of leftward text from left to right."""
    runs = [(rightward, list(run)) for rightward, run in groupby(line, lambda place: _is_rightward(words[place]))]
    for rightward, run in reversed(runs):
        yield from run if rightward else reversed(run)


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
