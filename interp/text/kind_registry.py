"""The definition of a kind of predicates, and the ways to register one. All kinds are in `kinds`.

In: `Positions`, some rows of a `ReadText`. Out, for each kind: the value that holds at each row, or several. Two
positions share a predicate if they have a value of its kind in common: both are after "the", both are in parentheses,
both are within twelve tokens of "import".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from interp.runtime.registry import register
from interp.text.positions import Positions
from interp.text.read_text import LISTED, ReadText
from interp.text.spellings import SPELLINGS

Values = Int64[np.ndarray, "row *value"]
ValuesOf = Callable[[Positions], Values]
NameOf = Callable[[ReadText, int, int], str]
"""(text, value, row) → the name of a value of a kind; the row is one where it holds."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A property of a position, such as the token before it."""

    values: ValuesOf
    """The value at each row, or several distinct values; −1 for none."""
    size: Callable[[ReadText], int]
    """The number of values in a text; 0 if the kind does not apply to it."""
    name: NameOf
    is_named_by_row: bool = False
    """Whether the name of a value depends on the row."""
    words: str = "{}"
    """The wording of a predicate; {} is replaced by the name of its value or values."""
    speaks_of: str
    """Its subject. A rule has at most one statement about each; the one about "token" is its subject."""
    items: float = 1
    """The number of items that a reader of a rule must grasp per value."""
    needs_strings: bool = False
    """Whether it does not apply to tokens that are only numbered."""
    compares: bool = True
    """Whether a shared value makes two positions similar; other kinds are only for rules."""
    in_rules: bool = True
    """Whether rules may use it."""


KINDS: dict[str, Kind] = {}
"""All kinds, by name. The predicates' numbers and the parts of a rule in words follow this order."""
_NOUN = "the kind of predicates"


def kinds_in(text: ReadText) -> dict[str, Kind]:
    """Return the kinds that apply to a text."""
    return {
        name: kind
        for name, kind in KINDS.items()
        if (text.strings is not None or not kind.needs_strings) and kind.size(text)
    }


def kind(size: int | Callable[[ReadText], int], name: NameOf, **fields: Any) -> Callable[[ValuesOf], ValuesOf]:
    """Register the function below, which gives the values at `Positions`, as the kind of its name.

    size: the number of values; name: the name of a value; fields: the other fields of `Kind`.
    """

    def decorate(function: ValuesOf) -> ValuesOf:
        size_of = size if callable(size) else lambda text: size
        entry = Kind(values=function, size=size_of, name=name, **fields)
        register(KINDS, function.__name__, entry, _NOUN, lambda kind: kind.values)
        return function

    return decorate


def register_token(
    kind_name: str,
    table: str,
    words: str = "{}",
    *,
    offset: int = 0,
    name: NameOf | None = None,
    items: float = 2,
    **fields: Any,
) -> None:
    """Register the class of the token at an offset, by a table of the text.
    name: None for the commonest tokens of the class; fields: the other fields of `Kind`."""

    def values(positions: Positions) -> Values:
        return positions.token_class(table, offset)

    def size(text: ReadText) -> int:
        return int(text.tables[table].max(initial=0)) + 1

    def commonest_tokens(text: ReadText, value: int, row: int) -> str:
        return text.class_name(table, value)

    entry = Kind(
        values=values,
        size=size,
        name=name or commonest_tokens,
        words=words,
        speaks_of=f"token {offset}" if offset else "token",
        items=items,
        **fields,
    )
    register(KINDS, kind_name, entry, _NOUN)


def register_spelling(
    kind_name: str, spelling: Callable[[str], Any], class_name: Callable[[Any], str], **fields: Any
) -> None:
    """Register the classes of tokens whose strings have the same spelling.
    class_name: the name of a class of many tokens, given their spelling; a class of few is named by its tokens."""

    def name(text: ReadText, value: int, row: int) -> str:
        if (text.tables[kind_name] == value).sum() <= LISTED:
            return text.class_name(kind_name, value)
        return class_name(text.spellings[kind_name][value])

    register_token(kind_name, kind_name, name=name, items=1.5, needs_strings=True, **fields)
    register(SPELLINGS, kind_name, spelling, "the spelling")


def register_place(
    kind_name: str, speaks_of: str, names: Sequence[str], read: Callable[[Any], Any], *, size: int = 0
) -> None:
    """Register a property of the place from the lexer.
    read: the value, given the lexer's state (`lexer.STATE`); names: one per value, the last also for all larger values;
    size: number of distinct values, if larger than len(names)."""
    n_values = size or len(names)

    def values(positions: Positions) -> Values:
        return np.minimum(np.asarray(read(positions.state)).astype(np.int64), n_values - 1)

    def name(text: ReadText, value: int, row: int) -> str:
        return names[min(value, len(names) - 1)]

    entry = Kind(values=values, size=lambda text: n_values, name=name, speaks_of=speaks_of, needs_strings=True)
    register(KINDS, kind_name, entry, _NOUN)


def register_window(kind_name: str, offsets: Sequence[int], words: str, **fields: Any) -> None:
    """Register the tokens at some offsets."""

    def values(positions: Positions) -> Values:
        return positions.tokens_at(offsets)

    def size(text: ReadText) -> int:
        return len(text.neighbours.counts)

    def name(text: ReadText, value: int, row: int) -> str:
        return text.token_name(value)

    entry = Kind(values=values, size=size, name=name, words=words, speaks_of="tokens around", **fields)
    register(KINDS, kind_name, entry, _NOUN)


def register_topic(kind_name: str, grain: int) -> None:
    """Register the topic of the window around a position, at one grain."""

    def values(positions: Positions) -> Values:
        return positions.topic(grain)

    def size(text: ReadText) -> int:
        return len(text.topics[grain])

    def name(text: ReadText, value: int, row: int) -> str:
        nearness = text.neighbours.topics @ text.topics[grain][value] * np.log1p(text.neighbours.counts)
        return ", ".join(text.token_name(int(token)) for token in np.argsort(-nearness)[:LISTED])

    entry = Kind(values=values, size=size, name=name, words="in text rich in {}", speaks_of="topic", items=2)
    register(KINDS, kind_name, entry, _NOUN)
