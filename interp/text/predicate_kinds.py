"""All kinds of predicates of a token position, each one entry: what is true there, as a number, and its wording.

In: `Positions`, some rows of a `AnalysedText`. Out, for each kind: the value that holds at each row, or several. Two
positions share a predicate if they have a value of its kind in common: both are after "the", both are in parentheses,
both are within twelve tokens of "import". The kinds:

    token, previous, …  which token it is, and which ones are next to it
    spelling            the token's spelling: script, shape, first and last letters, length (`spellings`)
    about               its class by the tokens that are around it in the text (`neighbours`), at several grains
    previous_role, …    the classes of the tokens next to it, by what is next to them (`neighbours`)
    stem                the first letters of the whole word that a piece is part of (`words`)
    related             the English words that are related to it, and to the token before (`related_words`); not in
                        rules, which a list of tokens serves better
    places              in the line, the sentence, brackets, quotes, a URL, … (`lexer`)
    topic               the topic of the window around it (`neighbours`), at several grains
    around              the tokens at most twelve away on either side
    before              the eight tokens before; only for rules
    label               the user's labels; only for rules

To add a kind, write one entry in PREDICATE_KINDS, or call `register_kind` in a script of your own, with a `Kind` or the
result of `spelling_kind` for a property of the token's string, of `place_kind` for one from the lexer, and so on.
Similarity, senses, rules and their wording then use it. No kind looks across the edge of a sequence.

Some kinds are only for rules (`compares=False`): without them in the comparison of firings, no score of the verdict is
lower (`python -m analyses.scorecard --readings DIR --ablate`).

The shipped calibration was fitted with the kinds below. A further kind that compares positions makes firings more alike
than they were in that fit, and a ranking warns of it: fit the calibration again (analyses/README.md), or use the kind
only in rules (`compares=False`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from interp.display.segments import Token
from interp.runtime.registry import register
from interp.text import places, spellings
from interp.text.analysed_text import ABOUT_GRAINS, N_NAMING_TOKENS, TOPIC_GRAINS, AnalysedText, TokenClasses
from interp.text.positions import Positions
from interp.text.related_words import related_words
from interp.text.vocabulary import Wording, join_with_commas
from interp.text.words import HASH_BITS

SUBJECT, TOPIC, AROUND = "token", "topic", "tokens around"
"""The subjects of what is said of the token itself, of the kind of text around it, and of tokens further away."""
STEM, LABEL = "stem", "label"
"""The kinds of the whole words of which tokens are pieces, and of the labels that a user gave."""
NEAR_TOPIC = 24
"""Tokens nearest to a topic, of which whole words name it, if there are enough: pieces of words tell little."""
_WHOLE_WORD = re.compile(r" [^\W\d_]{4,}")
TOKENS_AROUND = 12
"""Tokens on either side."""
TOKENS_BEFORE = 8
PredicateValues = Int64[np.ndarray, "row *value"]
Rows = Int64[np.ndarray, " row"]
NameOf = Callable[[AnalysedText, int, Rows], Wording | str]
"""(text, value, rows) → the name of a value of a kind, as words alone or with tokens. The rows are those that it is to
describe, such as firings of a latent; the value holds at one or more of them."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A property of a position, such as the token before it."""

    values: Callable[[Positions], PredicateValues]
    """Returns the value at each row, or several distinct values. −1 means that there is none."""
    size: Callable[[AnalysedText], int]
    """The number of values in a text; 0 if the kind does not apply to it."""
    name: NameOf
    is_named_by_rows: bool = False
    """Whether the name of a value depends on the rows."""
    words: str = "{}"
    """The wording of a predicate; {} is replaced by the name of its value or values."""
    short_words: str = ""
    """What is shown in place of this wording, if that is long."""
    short_name: Callable[[Sequence[int]], str | None] | None = None
    """Returns what is shown in place of the names of some values, such as a range of places; None for these names."""
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
    classes: Callable[[AnalysedText], TokenClasses] | None = None
    """The value of each token, if it depends on the token alone."""


def token_kind(
    classes: Callable[[AnalysedText], TokenClasses],
    words: str = "{}",
    *,
    offset: int = 0,
    name: NameOf | None = None,
    items: float = 2,
    **fields: Any,
) -> Kind:
    """Return the kind of the class of the token at an offset.
    name: gives the name of a class. By default those of its tokens name it that stand there at most of the rows.
    fields: other fields of `Kind`: short_words, short_name, needs_strings, compares and in_rules."""

    def name_by_tokens(text: AnalysedText, value: int, rows: Rows) -> Wording:
        return text.class_name(classes(text), value, Positions(text, rows).token(offset))

    return Kind(
        values=lambda positions: classes(positions.text)[positions.token(offset)],
        size=lambda text: int(classes(text).max(initial=0)) + 1,
        name=name or name_by_tokens,
        is_named_by_rows=name is None,
        words=words,
        subject=f"token {offset}" if offset else SUBJECT,
        items=items,
        classes=None if offset else classes,
        **fields,
    )


def table_kind(table: str, words: str = "{}", **fields: Any) -> Kind:
    """Return the kind of a token's class in one of the text's tables (`AnalysedText.tables`)."""
    return token_kind(lambda text: text.tables[table], words, **fields)


def spelling_kind(
    spelling: Callable[[str], Any],
    class_name: Callable[[Any], Wording | str],
    *,
    items: float = 1.5,
    **fields: Any,
) -> Kind:
    """Return the kind of classes of tokens whose strings have the same spelling.
    class_name: gives the name of a class of many tokens from their spelling. A class of few tokens is named by its
    tokens.
    fields: other fields of `Kind`: words, short_words, short_name, compares and in_rules."""

    def name(text: AnalysedText, value: int, rows: Rows) -> Wording | str:
        classes, distinct = text.spelt(spelling)
        if (classes == value).sum() <= N_NAMING_TOKENS:
            return text.class_name(classes, value)
        return class_name(distinct[value])

    return token_kind(lambda text: text.spelt(spelling).classes, name=name, items=items, needs_strings=True, **fields)


def affix_kind(n: int, letters: Callable[[int], Callable[[str], str]], words: str, **fields: Any) -> Kind:
    """Return the kind of the `n` first or last letters of a token."""
    return spelling_kind(letters(n), spellings.affix_name(n, words), **fields)


def place_kind(subject: str, names: Sequence[str], read: Callable[[Any], Any], *, size: int = 0, **fields: Any) -> Kind:
    """Return the kind of a property of the place from the lexer.
    read: returns the value from the lexer's state (`lexer.STATE`).
    names: one name per value. The last name is also that of all larger values.
    size: the number of distinct values, if it is larger than len(names).
    fields: other fields of `Kind`."""
    n_values = size or len(names)
    return Kind(
        values=lambda positions: np.minimum(np.asarray(read(positions.state)).astype(np.int64), n_values - 1),
        size=lambda text: n_values,
        name=lambda text, value, rows: names[min(value, len(names) - 1)],
        subject=subject,
        needs_strings=True,
        **fields,
    )


def window_kind(offsets: Sequence[int], words: str, **fields: Any) -> Kind:
    """Return the kind of the tokens at some offsets."""
    return Kind(
        values=lambda positions: positions.tokens_at(offsets),
        size=_vocabulary_size,
        name=_token_name,
        words=words,
        subject=AROUND,
        **fields,
    )


def topic_kind(grain: int) -> Kind:
    """Return the kind of the topic of the window around a position, for one number of topics."""

    def name(text: AnalysedText, value: int, rows: Rows) -> Wording:
        nearness = text.neighbours.topics @ text.topics[grain][value] * np.log1p(text.neighbours.counts)
        nearest = np.argsort(-nearness, kind="stable")[:NEAR_TOPIC].tolist()
        near = [token for token in nearest if nearness[token] > 0] or nearest[:1]  # a token that never occurs is at 0
        words = [] if text.strings is None else [token for token in near if _WHOLE_WORD.fullmatch(text.strings[token])]
        naming = words if len(words) >= N_NAMING_TOKENS else near
        return join_with_commas([text.token_name(token) for token in naming[:N_NAMING_TOKENS]])

    return Kind(
        values=lambda positions: positions.topic(grain),
        size=lambda text: len(text.topics[grain]),
        name=name,
        words="in text rich in {}",
        short_words="in text with {}",
        subject=TOPIC,
        items=2,
    )


def related_kind(words: str, subject: str, offset: int) -> Kind:
    """Return the kind of the words that are related to the token at an offset."""
    return Kind(
        values=lambda positions: positions.related(offset),
        size=lambda text: len(related_words().words),
        name=lambda text, value, rows: (Token(related_words().words[value]),),
        words=words,
        subject=subject,
        needs_strings=True,
        in_rules=False,
    )


def _token_name(text: AnalysedText, value: int, rows: Rows) -> Wording:
    return text.token_name(value)


def _vocabulary_size(text: AnalysedText) -> int:
    return len(text.neighbours.counts)


def _word_of_stem(text: AnalysedText, value: int, rows: Rows) -> Wording:
    """Return the first word of the rows that has this stem."""
    assert text.strings is not None
    rows = rows[text.words.stems(text.tokens, rows) == value]
    first, last = text.words.bounds(text.tokens, rows[:1])
    pieces = text.tokens.reshape(-1)[first[0] : last[0] + 1]
    return (Token("".join(text.strings[token] for token in pieces).strip()),)


def _sequence_place(positions: Positions) -> Int64[np.ndarray, " row"]:
    """Return the position in the sequence, to a factor of two."""
    position = positions.position
    return np.where(position < 2, position, 1 + np.log2(np.maximum(position, 1)).astype(np.int64))


_BRACKETS = [
    "outside brackets",
    "one bracket deep",
    "two brackets deep",
    "three brackets deep",
    "four brackets deep or more",
]
_QUOTES = ["outside quotes", "in quotes", "in quotes within quotes", "three quotes deep or more"]
_LITERALS = ["outside string literals", "in a string literal", "in a triple-quoted string"]
_REPEATS = [
    "not among the eight tokens before",
    "that repeat the token before",
    *(f"that repeat the token {n} before" for n in ("two", "three", "four", "five", "six", "seven", "eight")),
]

PREDICATE_KINDS: dict[str, Kind] = {
    # Which token it is, and which ones are next to it.
    "token": table_kind("token", name=_token_name, items=1),
    "previous": table_kind("token", "after {}", name=_token_name, offset=-1, items=1),
    "next": table_kind("token", "before {}", name=_token_name, offset=1, items=1),
    # Its spelling.
    "script": spelling_kind(spellings.script, spellings.script_name),
    "shape": spelling_kind(spellings.shape, spellings.shape_name),
    "start": spelling_kind(spellings.start, spellings.start_name),
    "first_2": affix_kind(2, spellings.first_letters, "tokens that begin with"),
    "first_3": affix_kind(3, spellings.first_letters, "tokens that begin with"),
    "last_2": affix_kind(2, spellings.last_letters, "tokens that end in"),
    "last_3": affix_kind(3, spellings.last_letters, "tokens that end in"),
    "letters": spelling_kind(spellings.lower_letters, spellings.letters_name),
    "length": spelling_kind(spellings.length, spellings.length_name, in_rules=False),
    # Its class by what is around it, and the classes of its neighbours by what is next to them.
    **{f"about_{n}": table_kind(f"about_{n}") for n in ABOUT_GRAINS},
    "previous_role_40": table_kind("role_40", "after {}", offset=-1),
    "next_role_40": table_kind("role_40", "before {}", offset=1),
    "previous_role_120": table_kind("role_120", "after {}", offset=-1),
    "next_role_120": table_kind("role_120", "before {}", offset=1),
    # The word that it is in, and the words that are related to it.
    STEM: Kind(
        values=lambda positions: positions.stems(),
        size=lambda text: 1 << HASH_BITS,
        name=_word_of_stem,
        is_named_by_rows=True,
        words="in words like {}",
        subject="word",
        items=1.5,
        needs_strings=True,
    ),
    "related": related_kind("words related to {}", SUBJECT, 0),
    "previous_related": related_kind("after words related to {}", "token -1", -1),
    # Its place.
    "line_place": place_kind(
        "place in the line",
        places.ORDINALS,
        lambda s: np.where(s.line_known, s.line_tokens, -1),
        words="at token {} of a line",
        short_name=places.ordinals,
    ),
    "sentence_place": place_kind(
        "place in the sentence",
        places.ORDINALS,
        lambda s: np.where(s.sentence_known, s.sentence_tokens, -1),
        words="at token {} of a sentence",
        short_name=places.ordinals,
    ),
    "sequence_place": Kind(
        values=_sequence_place,
        size=lambda text: 32,
        name=lambda text, value, rows: places.sequence_place(value),
        short_name=places.sequence_places,
        subject="sequence",
    ),
    "indent": place_kind(
        "indentation",
        places.INDENTS,
        lambda s: np.where(s.line_known, (s.indent + 3) // 4, -1),
        short_name=places.indents,
    ),
    "line_start": place_kind("place in the line", ["within a line", "at the start of a line"], lambda s: s.line_start),
    "sentence_start": place_kind(
        "place in the sentence", ["within a sentence", "at the start of a sentence"], lambda s: s.sentence_start
    ),
    "word_part": place_kind(
        "word",
        ["outside words", "inside a word", "at the start of a word"],
        lambda s: s.in_word + 2 * s.word_start,
        size=4,
    ),
    "paragraph": place_kind("paragraph", ["within a paragraph", "in a paragraph's first line"], lambda s: s.paragraph),
    "brackets": place_kind("brackets", _BRACKETS, lambda s: s.brackets),
    "parentheses": place_kind("parentheses", ["outside parentheses", "in parentheses"], lambda s: s.parens > 0),
    "squares": place_kind(
        "square brackets", ["outside square brackets", "in square brackets"], lambda s: s.squares > 0
    ),
    "braces": place_kind("braces", ["outside braces", "in braces"], lambda s: s.braces > 0),
    "quotes": place_kind("quotes", _QUOTES, lambda s: s.quotes),
    "literal": place_kind("literal", _LITERALS, lambda s: (s.literal > 0) + 2 * (s.triple > 0), size=4),
    "comment": place_kind("comment", ["outside comments", "in a comment"], lambda s: s.comment),
    "tag": place_kind("markup", ["outside tags", "in a <tag>"], lambda s: s.tag),
    "math": place_kind("markup", ["outside $ signs", "between $ signs"], lambda s: s.math),
    "url": place_kind("markup", ["outside URLs", "in a URL"], lambda s: s.url),
    "bold": place_kind("markup", ["outside ** marks", "between ** marks"], lambda s: s.bold),
    "repeats": place_kind("repetition", _REPEATS, lambda s: s.repeats),
    # The topic and the tokens of the text around it.
    **{f"topic_{grain}": topic_kind(grain) for grain in TOPIC_GRAINS},
    "around": window_kind(
        range(-TOKENS_AROUND, TOKENS_AROUND + 1),
        f"within {TOKENS_AROUND} tokens of {{}}",
        short_words="near {}",
        in_rules=False,
    ),
    "before": window_kind(
        range(-TOKENS_BEFORE, 0),
        f"within {TOKENS_BEFORE} tokens after {{}}",
        short_words="soon after {}",
        compares=False,
    ),
    # The labels that a user gave.
    LABEL: Kind(
        values=lambda positions: positions.labels(),
        size=lambda text: len(text.labels),
        name=lambda text, value, rows: list(text.labels)[value].replace("_", " "),
        words="in {}",
        subject=LABEL,
        compares=False,
    ),
}
"""All kinds, by name. The predicates' numbers and the parts of a rule in words follow this order."""


def register_kind(name: str, kind: Kind) -> None:
    """Add a kind of your own. Raises ValueError if another kind has this name."""
    register(PREDICATE_KINDS, name, kind, "kind of predicate", lambda kind: kind.values)


def kinds_in(text: AnalysedText) -> dict[str, Kind]:
    """Return the kinds that apply to a text."""
    return {
        name: kind
        for name, kind in PREDICATE_KINDS.items()
        if (text.strings is not None or not kind.needs_strings) and kind.size(text)
    }
