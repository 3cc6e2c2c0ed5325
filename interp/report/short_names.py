"""Shorten what names a latent, for a point of the map, a node of a graph or a row of a figure.

In: the caption of a latent and its rule, as segments. Out: a few words and tokens that fit in ROOM letters: all of the
caption but its shares and what tells its strongest firings from the others, or else of each list the first token and
how many more there are, '"one", in "done" +3', up to the first part that does not fit. Of several senses it names the
first, with the number of the others, '"one"; +2 senses'.
"""

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from interp.display.segments import (
    LIKE,
    SEPARATORS,
    Part,
    Segment,
    Segments,
    Token,
    TokenGroup,
    TokenList,
    short_list,
    to_text,
)
from interp.report.json_text import format_percent

ROOM = 28
MOST_WORDS = 40
"""Letters of words that name no token."""
MOST_OF_NO_SENSE = 0.5
"""The share of the activation of no sense from which on no sense tells what a latent fires on."""
MOST_STRONGLY = "most strongly "
NO_CLEAR_SENSES = "no clear senses"


class _Unit(NamedTuple):
    """A part of a name that tells something on its own: words, and the list of tokens after them."""

    words: str
    listed: list[TokenGroup]


def short_name(caption: Segments, rule: Segments) -> Segments:
    """Return the short name of a latent: words, tokens and, of one with senses, Part("sense", [number, segments])."""
    parts = {one.kind: one.content for one in caption if isinstance(one, Part)}
    if "senses" not in parts:
        return shortened(words_of([one for one in caption if not _is_of_strongest(one)], rule, has_shares=False))
    if parts.get("no_sense", 0) >= MOST_OF_NO_SENSE:
        return [NO_CLEAR_SENSES]
    senses = [words for words, *_ in (*parts["senses"], *parts.get("more_senses", ()))]
    k = next((k for k, words in enumerate(senses) if words), 0)
    n_others = len(senses) - 1
    others = [f"; +{n_others} sense{'s' if n_others > 1 else ''}"] if n_others else []
    return [Part("sense", [k, shortened(senses[k] or ["no rule"])]), *others]


def _is_of_strongest(one: Segment) -> bool:
    """Return whether a segment tells what the strongest firings are on, or that they are told."""
    return isinstance(one, Part) and (one.kind == "apart" or one.content == [MOST_STRONGLY])


def words_of(caption: Segments, rule: Segments, *, has_shares: bool = True) -> Segments:
    """Return what a caption says as words and tokens alone, with its shares or without them."""

    def plain(one: Segment) -> Segments:
        if not isinstance(one, Part):
            return [one]
        if one.kind == "rule":
            return one.content or rule
        if one.kind == "senses":
            told = [[*(["; "] if k else []), *(words or ["no rule"])] for k, (words, *_) in enumerate(one.content)]
            return [each for words in told for each in words]
        if one.kind == "label":
            return [one.content[0]]
        if one.kind == "more_senses":
            return [f" and {len(one.content)} more"]
        if one.kind == "no_sense":
            return [f", of no sense {format_percent(one.content)}"]
        if one.kind == "f1" or (one.kind == "small" and not has_shares):
            return []
        return words_of(one.content, rule, has_shares=has_shares)

    return [each for one in caption for each in plain(one)]


def shortened(words: Segments) -> Segments:
    """Return words and tokens without what has no room."""
    if len(to_text(words)) <= ROOM:
        return [each for one in words for each in (short_list(one) if isinstance(one, TokenList) else [one])]
    kept: Segments = []
    for unit in map(_first_of, _units(words)):
        if kept and len(to_text([*kept, *unit])) > ROOM:
            *others, last = kept
            return [*others, last.rstrip(", ")] if isinstance(last, str) else kept
        kept += unit
    return kept


def _units(words: Segments) -> Iterator[_Unit]:
    unit = _Unit("", [])
    for before, one, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if isinstance(one, TokenList):
            unit.listed.extend(one.groups)
        elif isinstance(one, Token):
            unit.listed.append(TokenGroup("", (one,), 1))
        elif one not in SEPARATORS or isinstance(before, str) or isinstance(after, str):
            if unit != _Unit("", []):
                yield unit
            unit = _Unit(str(one), [])
    yield unit


def _first_of(unit: _Unit) -> Segments:
    """Return the words of a unit, the first of its list and how many more there are. Of tokens that have a name in
    common this stands before the first one, or alone where both have no room."""
    if not unit.listed:
        return [
            unit.words if len(unit.words) <= MOST_WORDS else textwrap.shorten(unit.words, MOST_WORDS, placeholder=" …")
        ]
    first, *others = unit.listed
    n_others = sum(len(group.tokens) for group in others)
    is_like = first.name == LIKE.rstrip()
    before = _without_middle(unit.words) + (f"{first.name} " if first.name else "")
    with_token: Segments = [before, first.tokens[0], _more(n_others + len(first.tokens) - 1)]
    if not first.name or is_like or (first.n_shown and len(to_text(with_token)) <= ROOM):
        return [part for part in with_token if part]
    return [before.rstrip() + _more(n_others)]


def _without_middle(words: str) -> str:
    """Return long words with … between the first ones and the last, which belongs to the token after it: "most tokens
    in Hebrew … after "."""
    if len(words) <= ROOM + 4:
        return words
    first, last = words.rstrip().rsplit(" ", 1)
    return f"{textwrap.shorten(first, ROOM - len(last), placeholder=' …')} {last}{' ' * words.endswith(' ')}"


def _more(n: int) -> str:
    return f" +{n}" if n else ""
