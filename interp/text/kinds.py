"""All kinds of predicates of a token position, each one entry: what is true there, as a number, and its wording.

    token, previous, …  which token it is, and which ones are next to it
    spelling            the token's spelling: script, shape, first and last letters, length (`spellings`)
    role, about         classes of tokens by what is next to them and around them (`neighbours`), at several grains
    stem                the first letters of the whole word that a piece is part of (`words`)
    related             the English words that are related to it, and to the token before (`related_words`); not in
                        rules, which a list of tokens serves better
    places              in the line and its first token, the sentence, brackets, quotes, a URL, … (`lexer`)
    topic               the topic of the window around it (`neighbours`), at several grains
    around              the tokens at most twelve away on either side
    before              the eight tokens before; only for rules
    label               the user's labels; only for rules

To add a kind, write one entry here, or in a script of your own: a function of `Positions` under `@kind`,
`register_spelling` for a property of the token's string, or `register_place` for one from the lexer (see
`kind_registry`). Similarity, senses, rules and their wording then use it. No kind looks across the edge of a sequence.

Some kinds are only for rules (`compares=False`): without them in the comparison of firings, no score of the verdict is
lower (`python -m analyses.scorecard --readings DIR --ablate`).

The shipped calibration was fitted with the kinds below. A further kind that compares positions makes firings more alike
than they were in that fit, and a ranking warns of it: fit the calibration again (analyses/README.md), or use the kind
only in rules (`compares=False`).
"""

import numpy as np

from interp.text import spellings
from interp.text.kind_registry import (
    PREDICATE_KINDS,
    PredicateValues,
    kind,
    register_place,
    register_spelling,
    register_token,
    register_topic,
    register_window,
)
from interp.text.positions import Positions
from interp.text.read_text import ABOUT_GRAINS, ROLE_GRAINS, TOPIC_GRAINS, ReadText
from interp.text.related_words import related_words
from interp.text.vocabulary import quote_token
from interp.text.words import HASH_BITS

__all__ = [
    "PREDICATE_KINDS",
    "kind",
    "register_place",
    "register_spelling",
    "register_token",
    "register_topic",
    "register_window",
]

TOKENS_AROUND = 12
"""Tokens on either side."""
TOKENS_BEFORE = 8


def _token_name(text: ReadText, value: int, row: int) -> str:
    return text.token_name(value)


def _vocabulary_size(text: ReadText) -> int:
    return len(text.neighbours.counts)


# Which token it is, and which ones are next to it.

register_token("token", "token", items=1)
register_token("previous", "token", "after {}", offset=-1, items=1)
register_token("next", "token", "before {}", offset=1, items=1)
register_token("before_previous", "token", "two after {}", offset=-2, items=1, compares=False)
register_token("after_next", "token", "two before {}", offset=2, items=1, compares=False)


# Its spelling.

register_spelling("script", spellings.script, spellings.script_name)
register_spelling("shape", spellings.shape, spellings.shape_name)
register_spelling("start", spellings.start, spellings.start_name)
for _n in (2, 3, 4):
    _name = spellings.affix_name(_n, "tokens that begin with")
    register_spelling(f"first_{_n}", spellings.first_letters(_n), _name, compares=_n < 4)
for _n in (2, 3):
    register_spelling(f"last_{_n}", spellings.last_letters(_n), spellings.affix_name(_n, "tokens that end in"))
register_spelling("letters", spellings.lower_letters, spellings.letters_name)
register_spelling("length", spellings.length, spellings.length_name, in_rules=False)


# Its class by what is next to it and around it, and the classes of its neighbours.

for _table in (*(f"role_{n}" for n in ROLE_GRAINS), *(f"about_{n}" for n in ABOUT_GRAINS)):
    register_token(_table, _table)
for _table in ("role_40", "role_120"):
    register_token(f"previous_{_table}", _table, "after {}", offset=-1)
    register_token(f"next_{_table}", _table, "before {}", offset=1)
for _table in ("about_40", "about_400"):
    register_token(f"previous_{_table}", _table, "after {}", offset=-1, compares=False)


# The word that it is in.


def _word_at(text: ReadText, value: int, row: int) -> str:
    assert text.strings is not None
    first, last = text.words.bounds(text.tokens, np.array([row]))
    pieces = text.tokens.reshape(-1)[first[0] : last[0] + 1]
    return quote_token("".join(text.strings[token] for token in pieces).strip())


@kind(
    1 << HASH_BITS,
    _word_at,
    is_named_by_row=True,
    words="in words that begin like {}",
    subject="word",
    items=1.5,
    needs_strings=True,
)
def stem(positions: Positions) -> PredicateValues:
    """The first letters of the whole word that a piece is part of."""
    return positions.stems()


# The words that are related to it.


def _related_word(text: ReadText, value: int, row: int) -> str:
    return quote_token(related_words().words[value])


def _number_of_words(text: ReadText) -> int:
    return len(related_words().words)


@kind(_number_of_words, _related_word, words="words like {}", subject="token", needs_strings=True, in_rules=False)
def related(positions: Positions) -> PredicateValues:
    return positions.related()


@kind(
    _number_of_words,
    _related_word,
    words="after words like {}",
    subject="token -1",
    needs_strings=True,
    in_rules=False,
)
def previous_related(positions: Positions) -> PredicateValues:
    return positions.related(-1)


# Its place.


def _ordinal(text: ReadText, value: int, row: int) -> str:
    return f"{value + 1}" if value < 8 else "9 or later"


@kind(9, _ordinal, words="at token {} of a line", subject="place in the line", needs_strings=True)
def line_place(positions: Positions) -> PredicateValues:
    return np.where(positions.state.line_known, np.minimum(positions.state.line_tokens, 8), -1)


@kind(9, _ordinal, words="at token {} of a sentence", subject="place in the sentence", needs_strings=True)
def sentence_place(positions: Positions) -> PredicateValues:
    return np.minimum(positions.state.sentence_tokens, 8)


@kind(_vocabulary_size, _token_name, words="in lines that begin with {}", subject="line", needs_strings=True)
def line_head(positions: Positions) -> PredicateValues:
    """The first token of the line that is not blank."""
    return np.where(positions.state.line_head >= 0, positions.state.line_head, positions.token())


def _sequence_place_name(text: ReadText, value: int, row: int) -> str:
    if value < 3:
        return ("at the start of a sequence", "one token into a sequence", "2 or 3 tokens into a sequence")[value]
    return f"{2 ** (value - 1)} to {2**value - 1} tokens into a sequence"


@kind(32, _sequence_place_name, subject="sequence")
def sequence_place(positions: Positions) -> PredicateValues:
    """The position in the sequence, to a factor of two."""
    position = positions.position
    return np.where(position < 2, position, 1 + np.log2(np.maximum(position, 1)).astype(np.int64))


INDENTS = (
    "in lines that are not indented",
    *(f"in lines indented by {4 * n - 3} to {4 * n} spaces" for n in range(1, 5)),
    "in lines indented by more than 16 spaces",
)


@kind(6, lambda text, value, row: INDENTS[value], subject="indentation", needs_strings=True)
def indent(positions: Positions) -> PredicateValues:
    return np.where(positions.state.line_known, np.minimum((positions.state.indent + 3) // 4, 5), -1)


register_place("line_start", "place in the line", ["within a line", "at the start of a line"], lambda s: s.line_start)
register_place(
    "sentence_start",
    "place in the sentence",
    ["within a sentence", "at the start of a sentence"],
    lambda s: s.sentence_start,
)
register_place(
    "word_part",
    "word",
    ["outside words", "inside a word", "at the start of a word"],
    lambda s: s.in_word + 2 * s.word_start,
    size=4,
)
register_place("paragraph", "paragraph", ["within a paragraph", "in a paragraph's first line"], lambda s: s.paragraph)
register_place(
    "brackets",
    "brackets",
    [
        "outside brackets",
        "one bracket deep",
        "two brackets deep",
        "three brackets deep",
        "four brackets deep or more",
    ],
    lambda s: s.brackets,
)
register_place("parentheses", "parentheses", ["outside parentheses", "in parentheses"], lambda s: s.parens > 0)
register_place("squares", "square brackets", ["outside square brackets", "in square brackets"], lambda s: s.squares > 0)
register_place("braces", "braces", ["outside braces", "in braces"], lambda s: s.braces > 0)
register_place(
    "quotes",
    "quotes",
    ["outside quotes", "in quotes", "in quotes within quotes", "three quotes deep or more"],
    lambda s: s.quotes,
)
register_place(
    "literal",
    "literal",
    ["outside string literals", "in a string literal", "in a triple-quoted string"],
    lambda s: (s.literal > 0) + 2 * (s.triple > 0),
    size=4,
)
register_place("comment", "comment", ["outside comments", "in a comment"], lambda s: s.comment)
register_place("tag", "markup", ["outside tags", "in a <tag>"], lambda s: s.tag)
register_place("math", "markup", ["outside $ signs", "between $ signs"], lambda s: s.math)
register_place("url", "markup", ["outside URLs", "in a URL"], lambda s: s.url)
register_place("bold", "markup", ["outside ** marks", "between ** marks"], lambda s: s.bold)
register_place(
    "repeats",
    "repetition",
    ["not among the eight tokens before", "that repeat the token before", "that occur among the eight tokens before"],
    lambda s: s.repeats,
    size=9,
)


# The topic and the tokens of the text around it.

for _grain in TOPIC_GRAINS:
    register_topic(f"topic_{_grain}", _grain)
register_window(
    "around", range(-TOKENS_AROUND, TOKENS_AROUND + 1), f"within {TOKENS_AROUND} tokens of {{}}", in_rules=False
)
register_window("before", range(-TOKENS_BEFORE, 0), f"within {TOKENS_BEFORE} tokens after {{}}", compares=False)


@kind(
    lambda text: len(text.labels),
    lambda text, value, row: list(text.labels)[value],
    words="labelled {}",
    subject="label",
    compares=False,
)
def label(positions: Positions) -> PredicateValues:
    """The labels that a user gave."""
    return positions.labels()
