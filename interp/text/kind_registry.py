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
from interp.text.read_text import N_NAMING_TOKENS, ReadText
from interp.text.spellings import SPELLINGS

PredicateValues = Int64[np.ndarray, "row *value"]
ReadValues = Callable[[Positions], PredicateValues]
NameOf = Callable[[ReadText, int, int], str]
"""(text, value, row) → the name of a value of a kind. The value holds at the row."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A property of a position, such as the token before it."""

    values: ReadValues
    """Returns the value at each row, or several distinct values. −1 means that there is none."""
    size: Callable[[ReadText], int]
    """The number of values in a text; 0 if the kind does not apply to it."""
    name: NameOf
    is_named_by_row: bool = False
    """Whether the name of a value depends on the row."""
    words: str = "{}"
    """The wording of a predicate; {} is replaced by the name of its value or values."""
    subject: str
    """The subject of the predicate. A rule has at most one statement about each subject, and the statement about
    "token" comes first."""
    items: float = 1
    """The number of items that a reader of a rule must grasp per value."""
    needs_strings: bool = False
    """Whether it needs the strings of tokens, so that it does not apply to tokens that are only numbered."""
    compares: bool = True
    """Whether a shared value makes two positions similar; other kinds are only for rules."""
    in_rules: bool = True
    """Whether rules may use it."""


PREDICATE_KINDS: dict[str, Kind] = {}
"""All kinds, by name. The predicates' numbers and the parts of a rule in words follow this order."""
_NOUN = "the kind of predicates"


def kinds_in(text: ReadText) -> dict[str, Kind]:
    """Return the kinds that apply to a text."""
    return {
        name: kind
        for name, kind in PREDICATE_KINDS.items()
        if (text.strings is not None or not kind.needs_strings) and kind.size(text)
    }


def kind(size: int | Callable[[ReadText], int], name: NameOf, **fields: Any) -> Callable[[ReadValues], ReadValues]:
    """Register the function below, which gives the values at `Positions`, as the kind of its name.

    size: the number of values.
    name: gives the name of a value.
    fields: the other fields of `Kind`.
    """

    def decorate(function: ReadValues) -> ReadValues:
        size_of = size if callable(size) else lambda text: size
        entry = Kind(values=function, size=size_of, name=name, **fields)
        register(PREDICATE_KINDS, function.__name__, entry, _NOUN, lambda kind: kind.values)
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
    """Register the class of the token at an offset, which a table of the text gives.
    name: gives the name of a class. By default its commonest tokens name it.
    fields: the other fields of `Kind`."""

    def values(positions: Positions) -> PredicateValues:
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
        subject=f"token {offset}" if offset else "token",
        items=items,
        **fields,
    )
    register(PREDICATE_KINDS, kind_name, entry, _NOUN)


def register_spelling(
    kind_name: str, spelling: Callable[[str], Any], class_name: Callable[[Any], str], **fields: Any
) -> None:
    """Register the classes of tokens whose strings have the same spelling.
    class_name: gives the name of a class of many tokens from their spelling. A class of few tokens is named by its
    tokens."""

    def name(text: ReadText, value: int, row: int) -> str:
        if (text.tables[kind_name] == value).sum() <= N_NAMING_TOKENS:
            return text.class_name(kind_name, value)
        return class_name(text.spellings[kind_name][value])

    register_token(kind_name, kind_name, name=name, items=1.5, needs_strings=True, **fields)
    register(SPELLINGS, kind_name, spelling, "the spelling")


def register_place(
    kind_name: str, subject: str, names: Sequence[str], read: Callable[[Any], Any], *, size: int = 0
) -> None:
    """Register a property of the place from the lexer.
    read: returns the value from the lexer's state (`lexer.STATE`).
    names: one name per value. The last name is also that of all larger values.
    size: the number of distinct values, if it is larger than len(names)."""
    n_values = size or len(names)

    def values(positions: Positions) -> PredicateValues:
        return np.minimum(np.asarray(read(positions.state)).astype(np.int64), n_values - 1)

    def name(text: ReadText, value: int, row: int) -> str:
        return names[min(value, len(names) - 1)]

    entry = Kind(values=values, size=lambda text: n_values, name=name, subject=subject, needs_strings=True)
    register(PREDICATE_KINDS, kind_name, entry, _NOUN)


def register_window(kind_name: str, offsets: Sequence[int], words: str, **fields: Any) -> None:
    """Register the tokens at some offsets."""

    def values(positions: Positions) -> PredicateValues:
        return positions.tokens_at(offsets)

    def size(text: ReadText) -> int:
        return len(text.neighbours.counts)

    def name(text: ReadText, value: int, row: int) -> str:
        return text.token_name(value)

    entry = Kind(values=values, size=size, name=name, words=words, subject="tokens around", **fields)
    register(PREDICATE_KINDS, kind_name, entry, _NOUN)


def register_topic(kind_name: str, grain: int) -> None:
    """Register the topic of the window around a position, for one number of topics."""

    def values(positions: Positions) -> PredicateValues:
        return positions.topic(grain)

    def size(text: ReadText) -> int:
        return len(text.topics[grain])

    def name(text: ReadText, value: int, row: int) -> str:
        nearness = text.neighbours.topics @ text.topics[grain][value] * np.log1p(text.neighbours.counts)
        return ", ".join(text.token_name(int(token)) for token in np.argsort(-nearness)[:N_NAMING_TOKENS])

    entry = Kind(values=values, size=size, name=name, words="in text rich in {}", subject="topic", items=2)
    register(PREDICATE_KINDS, kind_name, entry, _NOUN)
