"""Shorten what names a latent, for a point of the map, a node of a graph or a row of a figure.

In: what names a latent, or each of its senses, as segments. Out: a few words and tokens that fit in ROOM letters: all
of the name, or else of each list the first token and how many more there are, '"one" in "done" +3', up to the first
part that does not fit. Of several senses it names the first, with the number of the others, '"one"; +2 senses'.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from interp.display.segments import (
    LIKE,
    SEPARATORS,
    Part,
    Segments,
    Token,
    TokenGroup,
    TokenList,
    short_list,
    to_text,
)

ROOM = 28
MOST_WORDS = 40
"""Letters of words that name no token."""


class _Unit(NamedTuple):
    """A part of a name that tells something on its own: words, and the list of tokens after them."""

    words: str
    listed: list[TokenGroup]


def short_name(names: Sequence[Segments]) -> Segments:
    """Return the short name of a latent. names: its name, or that of each of its senses: the first stands as
    Part("sense", [0, segments])."""
    first, *others = names
    if not others:
        return shortened(first)
    return [Part("sense", [0, shortened(first)]), f"; +{len(others)} sense{'s' if len(others) > 1 else ''}"]


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
