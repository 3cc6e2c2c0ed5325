"""The kinds of predicates of a token position t, each one entry of `KINDS`: what is true there, as a number.

In: `Positions`, some rows of a `ReadText`. Out, for each kind: the value that holds at each row, or several, each once;
−1 for none. Two positions share a predicate if they have a value of its kind in common: both are after "the", both
stand in parentheses, both within twelve tokens of "import". A rule in words is made of the same predicates
(`verdict.rules`).

    token, previous, …  which token it is, and which stand beside it
    spelling            how the token is spelt: script, shape, first and last letters, length
    role, about         classes of tokens by what stands beside them and around them (`neighbours`), at several grains
    stem                the first letters of the whole word that a piece is part of
    places              in the line and what that begins with, the sentence, brackets, quotes, a URL, … (`places`)
    topic               what the window around it is about (`neighbours`), at several grains
    around              the tokens at most twelve away on either side
    before              the eight tokens before: of rules alone
    label               the labels that a user gave: of rules alone

To add a kind, write one entry: `kind` with a function of `Positions`, `register_spelling` with what a token's own
string says, or `register_place` with what the reader of places knows. Similarity, senses, rules and what is said of
them follow. Nothing looks across the edge of a sequence.

The calibration that ships was fitted with the kinds below. Another kind that compares positions makes firings more
alike than they were there, and a ranking warns of it: fit the calibration anew, or give the kind to rules alone
(`compares=False`).
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64
from numba import njit
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.statistics.randomness import GOLDEN_64
from interp.text.neighbours import Neighbours
from interp.text.places import Spelling, read_states, spelt_tokens
from interp.text.vocabulary import listed, plain_strings, quoted

HASH_BITS = 20
"""Bits of a hash that stands for a value: two unlike ones fall on one by chance once in a million."""
ROLE_GRAINS, ABOUT_GRAINS, TOPIC_GRAINS = (12, 40, 120, 400), (40, 400), (10, 40, 150)
AROUND, BEFORE = 12, 8
"""Tokens on either side, and tokens before."""
STEM = 5
"""Letters."""
_MULTIPLIER = np.uint64(0x100000001B3)
"""Any large odd number would do: multiplying by it spreads each letter over the 64 bits."""
LISTED = 3
"""Tokens that stand for a class in words."""
TOPIC_WINDOWS = 40_000
"""Windows, at most, to which topics are fitted."""
ROWS_AT_ONCE = 1 << 15

Values = Int64[np.ndarray, "row *value"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    values: "Callable[[Positions], Values]"
    size: "Callable[[ReadText], int]"
    """How many values there are."""
    name: "Callable[[ReadText, int, int], str]"
    """The name of a value, given a row where it holds."""
    is_named_by_row: bool = False
    """The name of a value is not the same at all rows."""
    words: str = "{}"
    """How it is said; {} stands for the names of one value or of several."""
    speaks_of: str
    """A rule says one thing of each at most; what is said of "token" is its subject."""
    items: float = 1
    """Items that the reader of a rule has to take in for each value."""
    needs_strings: bool = False
    """Tokens that are only numbered have no value of this kind."""
    compares: bool = True
    """Two positions are alike by a value that they share; other kinds are of rules alone."""
    in_rules: bool = True


KINDS: dict[str, Kind] = {}
"""By name."""
SPELLINGS: dict[str, Callable[[str], Any]] = {}
"""What the string of a token says, by the name of its kind: tokens that say the same are one class."""


@dataclass(frozen=True)
class ReadText:
    """A text, and what is known of its tokens and windows."""

    tokens: Int[np.ndarray, "seq pos"]
    strings: list[str] | None
    neighbours: Neighbours
    tables: dict[str, Int64[np.ndarray, " d_vocab_plus_1"]]
    """The class of each token; the last entry is for no token."""
    spellings: dict[str, list[Any]]
    """The spelling that each class of a table in SPELLINGS has in common."""
    topics: dict[int, Float32[np.ndarray, "topic dim"]]
    """Centres, of unit length, at each grain."""
    spelling: Spelling
    letters: tuple[Int64[np.ndarray, " letter"], Int64[np.ndarray, " d_vocab_plus_1"]]
    """The letters of all tokens one after the other, in lower case, and where each token's begin."""
    labels: Mapping[str, Bool[Tensor, "seq pos"]] = field(default_factory=dict)
    """The positions that carry each label."""

    @classmethod
    def read(cls, tokens: Int[np.ndarray, "seq pos"], n_vocab: int, vocab: Sequence[str] | None = None) -> "ReadText":
        """tokens: ids below n_vocab; vocab: the string of each, None where tokens are only numbered.

        Raises ValueError for ids outside.
        """
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= n_vocab:
            raise ValueError(f"token ids run from {low} to {high}, but the vocabulary has {n_vocab} entries")
        with threadpool_limits(1):  # the same sums in the same order on any machine; k-means is slower in threads
            return cls._read(np.ascontiguousarray(tokens), n_vocab, None if vocab is None else plain_strings(vocab))

    @classmethod
    def _read(cls, tokens: Int[np.ndarray, "seq pos"], n_vocab: int, strings: list[str] | None) -> "ReadText":
        neighbours = Neighbours.learn(tokens, n_vocab)
        tables, spellings = {"token": np.append(np.arange(n_vocab), -1)}, {}
        for name, vectors, grains in (
            ("role", neighbours.roles, ROLE_GRAINS),
            ("about", neighbours.topics, ABOUT_GRAINS),
        ):
            tables |= {f"{name}_{n}": _classes(vectors, neighbours.counts, n) for n in grains}
        if strings is not None:
            for name, spelt_as in SPELLINGS.items():
                tables[name], spellings[name] = _numbered([spelt_as(string) for string in strings])
            every = [*strings, ""]
            tables["opens"] = np.array([not string[:1].isalpha() for string in every], np.int64)
            tables["ends"] = np.array([not string[-1:].isalpha() for string in every], np.int64)
        rows = np.unique(np.linspace(0, tokens.size - 1, TOPIC_WINDOWS).astype(np.int64))
        windows = neighbours.windows(tokens, rows)
        topics = {n: _centres(windows, n) for n in TOPIC_GRAINS}
        spelt = spelt_tokens(strings or [""] * n_vocab)
        bare = [_bare(string) for string in strings or [""] * n_vocab]
        letters = np.array([ord(letter) for word in bare for letter in word], np.int64)
        begin = np.concatenate([[0], np.cumsum([len(word) for word in bare])])
        return cls(tokens, strings, neighbours, tables, spellings, topics, spelt, (letters, begin))

    def with_text(
        self, tokens: Int[np.ndarray, "seq pos"], labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None
    ) -> "ReadText":
        """Another text, with the classes and topics that were learnt from this one.

        Raises ValueError for a label of another shape.
        """
        for name, mask in (labels or {}).items():
            if tuple(mask.shape) != tokens.shape:
                raise ValueError(f"label {name!r} is {tuple(mask.shape)}, but the tokens are {tokens.shape}")
        return replace(self, tokens=np.ascontiguousarray(tokens), labels=labels or {})

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kinds that say something of this text."""
        usable = {name: kind for name, kind in KINDS.items() if self.strings is not None or not kind.needs_strings}
        return {name: kind for name, kind in usable.items() if kind.size(self)}

    def quoted(self, token: int) -> str:
        return f"token {token}" if self.strings is None else quoted(self.strings[token])

    def like(self, table: str, value: int) -> str:
        """The commonest tokens of a class."""
        members = np.flatnonzero(self.tables[table][:-1] == value)
        members = members[np.argsort(-self.neighbours.counts[members], kind="stable")]
        strings = [self.quoted(token) for token in members[:LISTED]]
        return listed(strings) if len(members) <= LISTED else f"tokens like {', '.join(strings)}"


class Positions:
    """Some rows, seq * n_ctx + pos, of a corpus."""

    def __init__(self, corpus: ReadText, rows: Int64[np.ndarray, " row"]):
        self.n_ctx = corpus.tokens.shape[1]
        self.sequences, sequence = np.unique(rows // self.n_ctx, return_inverse=True)
        self.corpus = corpus
        self.position = rows % self.n_ctx
        self.tokens = np.ascontiguousarray(corpus.tokens[self.sequences])
        self.rows = sequence * self.n_ctx + self.position

    def token(self, offset: int = 0) -> Int64[np.ndarray, " row"]:
        """The token so far behind each row; −1 beyond the sequence's edge."""
        inside = (self.position + offset >= 0) & (self.position + offset < self.n_ctx)
        return np.where(inside, self.tokens.reshape(-1)[np.where(inside, self.rows + offset, 0)], -1)

    def of(self, table: str, offset: int = 0) -> Int64[np.ndarray, " row"]:
        return self.corpus.tables[table][self.token(offset)]

    @cached_property
    def state(self) -> Any:
        """The state of the reader of places at each row."""
        return read_states(self.tokens, self.corpus.spelling).reshape(-1)[self.rows]

    @cached_property
    def windows(self) -> Float32[np.ndarray, "row dim"]:
        return self.corpus.neighbours.windows(self.tokens, self.rows)

    def topic(self, grain: int) -> Int64[np.ndarray, " row"]:
        centres = self.corpus.topics[grain].T
        return np.concatenate(
            [(part @ centres).argmax(1) for part in np.array_split(self.windows, 1 + len(self.windows) // ROWS_AT_ONCE)]
        )


def compared_kinds() -> tuple[str, ...]:
    """The kinds by which positions are compared, as registered by now."""
    return tuple(name for name, each in KINDS.items() if each.compares)


def kind(size: int | Callable[[ReadText], int], name: Callable[[ReadText, int, int], str], **fields: Any) -> Callable:
    """Register a function of `Positions` as the kind of its name; size: how many values it has."""

    def register(function: Callable[[Positions], Values]) -> Callable[[Positions], Values]:
        sized = size if callable(size) else lambda corpus: size
        KINDS[function.__name__] = Kind(values=function, size=sized, name=name, **fields)
        return function

    return register


def register_token(kind_name: str, table: str, words: str = "{}", offset: int = 0, **fields: Any) -> None:
    """Register the class that the token at an offset has in a table of the corpus."""
    KINDS[kind_name] = Kind(
        values=lambda at: at.of(table, offset),
        size=lambda corpus: int(corpus.tables[table].max(initial=0)) + 1,
        words=words,
        speaks_of=f"token {offset}" if offset else "token",
        **{"name": lambda corpus, value, row: corpus.like(table, value), "items": 2, **fields},
    )


def register_spelling(kind_name: str, says: Callable[[str], Any], named: Callable[[Any], str], **fields: Any) -> None:
    """Register a class of tokens whose strings say the same; named: how a class of many is called by what they say."""
    SPELLINGS[kind_name] = says

    def name(corpus: ReadText, value: int, row: int) -> str:
        is_few = (corpus.tables[kind_name] == value).sum() <= LISTED
        return corpus.like(kind_name, value) if is_few else named(corpus.spellings[kind_name][value])

    register_token(kind_name, kind_name, name=name, items=1.5, needs_strings=True, **fields)


def register_place(
    kind_name: str, speaks_of: str, names: Sequence[str], read: Callable[[Any], Any], size: int = 0, **fields: Any
) -> None:
    """Register what the reader of places knows: one of some values, each with its name; the last is of all above."""
    size = size or len(names)
    KINDS[kind_name] = Kind(
        values=lambda at: np.minimum(np.asarray(read(at.state)).astype(np.int64), size - 1),
        size=lambda corpus: size,
        name=lambda corpus, value, row: names[min(value, len(names) - 1)],
        speaks_of=speaks_of,
        needs_strings=True,
        **fields,
    )


def register_window(kind_name: str, offsets: range, words: str, **fields: Any) -> None:
    """Register the tokens at some offsets."""
    KINDS[kind_name] = Kind(
        values=lambda at: _once(np.stack([at.token(offset) for offset in offsets], 1)),
        size=lambda corpus: len(corpus.neighbours.counts),
        name=lambda corpus, value, row: corpus.quoted(value),
        words=words,
        speaks_of="tokens around",
        **fields,
    )


# Which token it is, and which stand beside it.

for _name, _offset, _said in (
    ("token", 0, "{}"),
    ("previous", -1, "after {}"),
    ("next", 1, "before {}"),
    ("before_previous", -2, "two after {}"),
    ("after_next", 2, "two before {}"),
):
    register_token(_name, "token", _said, _offset, items=1)


# How it is spelt.

CATEGORIES = {
    "byte": "bytes of characters", "blank": "white space", "digit": "numbers", "CJK": "Chinese characters",
    "Po": "punctuation marks", "Ps": "opening brackets", "Pe": "closing brackets", "Pd": "dashes",
    "Pc": "underscores", "Pi": "opening quotes", "Pf": "closing quotes", "Sm": "mathematical signs",
    "Sc": "currency signs", "Sk": "accents and backticks", "So": "symbols", "Cc": "control characters",
}  # fmt: skip
"""The names of tokens whose first character is of these Unicode categories, or has no script."""
CASES = {"upper": "tokens in capitals", "title": "capitalised tokens", "lower": "lower-case tokens", "other": "tokens"}


def _bare(string: str) -> str:
    return string.strip().lower()


def _script(string: str) -> str:
    bare = string.strip()
    if bare.startswith("⟨") or not bare:
        return "byte" if bare else "blank"
    if bare[0].isalpha():
        return unicodedata.name(bare[0], "?").split(" ")[0]
    return "digit" if bare[0].isdigit() else unicodedata.category(bare[0])


def _shape(string: str) -> tuple[str, str]:
    bare = string.strip()
    cased = (("upper", bare.isupper()), ("title", bare.istitle()), ("lower", bare.islower()))
    return _script(string), next((case for case, has in cased if has), "other")


def _script_name(script: str) -> str:
    return CATEGORIES.get(script) or f"tokens in {script.capitalize()} script"


def _shape_name(shape: tuple[str, str]) -> str:
    script, case = shape
    return _script_name(script) if case == "other" else f"{CASES[case]} in {script.capitalize()} script"


def _start_name(start: tuple[bool, tuple[str, str]]) -> str:
    has_space, shape = start
    return f"{_shape_name(shape)} {'with' if has_space else 'without'} a space before"


def _length_name(length: tuple[int, str]) -> str:
    n, script = length
    return f"{_script_name(script)} of {n} character{'' if n == 1 else 's'}"


def _part(letters: slice) -> Callable[[str], str]:
    return lambda string: _bare(string)[letters]


def _affix(words: str, n: int) -> Callable[[str], str]:
    return lambda affix: f"{words} {quoted(affix)}" if len(affix) == n else f"{quoted(affix)} in any case"


register_spelling("script", _script, _script_name)
register_spelling("shape", _shape, _shape_name)
register_spelling("start", lambda s: (s[:1].isspace(), _shape(s)), _start_name)
for _n in (2, 3, 4):
    register_spelling(f"first_{_n}", _part(slice(_n)), _affix("tokens that begin with", _n))
for _n in (2, 3):
    register_spelling(f"last_{_n}", _part(slice(-_n, None)), _affix("tokens that end in", _n))
register_spelling("letters", _bare, lambda bare: f"{quoted(bare)} in any case")
register_spelling("length", lambda s: (len(s.strip()), _script(s)), _length_name, in_rules=False)


# Its class by what stands beside it and around it, and those of the tokens beside it.

for _table in (*(f"role_{n}" for n in ROLE_GRAINS), *(f"about_{n}" for n in ABOUT_GRAINS)):
    register_token(_table, _table)
for _table in ("role_40", "role_120", "about_40", "about_400"):
    register_token(f"previous_{_table}", _table, "after {}", -1)
for _table in ("role_40", "role_120"):
    register_token(f"next_{_table}", _table, "before {}", 1)


# The word that it is in.


def _word_at(corpus: ReadText, value: int, row: int) -> str:
    assert corpus.strings is not None
    first, last = _words(corpus.tokens, np.array([row]), corpus.tables["opens"], corpus.tables["ends"])
    flat = corpus.tokens.reshape(-1)
    return quoted("".join(corpus.strings[token] for token in flat[first[0] : last[0] + 1]).strip())


@kind(
    1 << HASH_BITS,
    _word_at,
    is_named_by_row=True,
    words="in words that begin like {}",
    speaks_of="word",
    items=1.5,
    needs_strings=True,
)
def stem(at: Positions) -> Values:
    """The first letters of the whole word that a piece is part of."""
    corpus, tables = at.corpus, at.corpus.tables
    firsts, lasts = _words(at.tokens, at.rows, tables["opens"], tables["ends"])
    return _stems(at.tokens, firsts, lasts, corpus.letters[0], corpus.letters[1])


# Where it stands.


def _ordinal(corpus: ReadText, value: int, row: int) -> str:
    return f"{value + 1}" if value < 8 else "9 or later"


@kind(9, _ordinal, words="at token {} of a line", speaks_of="place in the line", needs_strings=True)
def line_place(at: Positions) -> Values:
    return np.where(at.state.line_known, np.minimum(at.state.line_tokens, 8), -1)


@kind(9, _ordinal, words="at token {} of a sentence", speaks_of="place in the sentence", needs_strings=True)
def sentence_place(at: Positions) -> Values:
    return np.minimum(at.state.sentence_tokens, 8)


@kind(
    lambda corpus: len(corpus.neighbours.counts),
    lambda corpus, value, row: corpus.quoted(value),
    words="in lines that begin with {}",
    speaks_of="line",
    needs_strings=True,
)
def line_head(at: Positions) -> Values:
    """The first token of the line that is not blank."""
    return np.where(at.state.line_head >= 0, at.state.line_head, at.token())


def _sequence_place_name(corpus: ReadText, value: int, row: int) -> str:
    if value < 3:
        return ("at the start of a sequence", "one token into a sequence", "2 or 3 tokens into a sequence")[value]
    return f"{2 ** (value - 1)} to {2**value - 1} tokens into a sequence"


@kind(32, _sequence_place_name, speaks_of="sequence")
def sequence_place(at: Positions) -> Values:
    return np.where(at.position < 2, at.position, 1 + np.log2(np.maximum(at.position, 1)).astype(np.int64))


INDENTS = (
    "in lines that are not indented",
    *(f"in lines indented by {4 * n - 3} to {4 * n} spaces" for n in range(1, 5)),
    "in lines indented by more than 16 spaces",
)


@kind(6, lambda corpus, value, row: INDENTS[value], speaks_of="indentation", needs_strings=True)
def indent(at: Positions) -> Values:
    return np.where(at.state.line_known, np.minimum((at.state.indent + 3) // 4, 5), -1)


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
    4,
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
    4,
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
    9,
)


# What the text around it is about, and which tokens stand there.


def _topic(grain: int) -> None:
    def name(corpus: ReadText, value: int, row: int) -> str:
        nearness = corpus.neighbours.topics @ corpus.topics[grain][value] * np.log1p(corpus.neighbours.counts)
        return ", ".join(corpus.quoted(int(token)) for token in np.argsort(-nearness)[:LISTED])

    KINDS[f"topic_{grain}"] = Kind(
        values=lambda at: at.topic(grain),
        size=lambda corpus: len(corpus.topics[grain]),
        name=name,
        words="in text rich in {}",
        speaks_of="topic",
        items=2,
    )


for _grain in TOPIC_GRAINS:
    _topic(_grain)
register_window("around", range(-AROUND, AROUND + 1), f"within {AROUND} tokens of {{}}", in_rules=False)
register_window("before", range(-BEFORE, 0), f"within {BEFORE} tokens after {{}}", compares=False)


@kind(
    lambda corpus: len(corpus.labels),
    lambda corpus, value, row: list(corpus.labels)[value],
    words="labelled {}",
    speaks_of="label",
    compares=False,
)
def label(at: Positions) -> Values:
    sequence = at.rows // at.n_ctx
    if not at.corpus.labels:  # a text beside the one that is labelled
        return np.full((len(at.rows), 1), -1)
    masks = [mask[at.sequences].numpy()[sequence, at.position] for mask in at.corpus.labels.values()]
    return np.stack([np.where(mask, number, -1) for number, mask in enumerate(masks)], 1)


def _numbered(values: Sequence[Any]) -> tuple[Int64[np.ndarray, " d_vocab_plus_1"], list[Any]]:
    """The number of each value, with −1 for no token; and the values by number."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values] + [-1]), list(numbers)


def _classes(vectors: np.ndarray, counts: np.ndarray, n: int) -> Int64[np.ndarray, " d_vocab_plus_1"]:
    """k-means of the tokens that occur, the rarer of less weight; −1 for others."""
    from sklearn.cluster import MiniBatchKMeans

    seen = np.flatnonzero(counts)
    out = np.full(len(vectors) + 1, -1)
    fitted = MiniBatchKMeans(min(n, max(1, len(seen) // 2)), init="random", n_init=2, random_state=0)
    out[seen] = fitted.fit(vectors[seen], sample_weight=np.sqrt(counts[seen])).labels_
    return out


def _centres(windows: np.ndarray, n: int) -> Float32[np.ndarray, "topic dim"]:
    from sklearn.cluster import MiniBatchKMeans

    k_means = MiniBatchKMeans(min(n, len(windows)), init="random", n_init=2, batch_size=4096, random_state=0)
    centres = k_means.fit(windows).cluster_centers_
    return (centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)).astype(np.float32)


@njit(cache=True, nogil=True)
def _once(values):
    """The values with −1 where a row has the same further left."""
    for row in range(len(values)):
        for column in range(1, values.shape[1]):
            for other in range(column):
                if values[row, other] == values[row, column]:
                    values[row, column] = -1
                    break
    return values


@njit(cache=True, nogil=True)
def _words(tokens, rows, opens, ends):
    """The first row and the last of the word that each row is in."""
    n_ctx = tokens.shape[1]
    flat = tokens.reshape(-1)
    firsts, lasts = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        begin = rows[i] - rows[i] % n_ctx
        first = last = rows[i]
        while first > max(begin, rows[i] - 8) and not opens[flat[first]] and not ends[flat[first - 1]]:
            first -= 1
        while last + 1 < min(begin + n_ctx, rows[i] + 8) and not opens[flat[last + 1]] and not ends[flat[last]]:
            last += 1
        firsts[i], lasts[i] = first, last
    return firsts, lasts


@njit(cache=True, nogil=True)
def _stems(tokens, firsts, lasts, letters, begin):
    """A hash of the first STEM letters of each word."""
    flat = tokens.reshape(-1)
    out = np.empty(len(firsts), np.int64)
    for i in range(len(firsts)):
        mixed = np.uint64(0)
        n = 0
        for row in range(firsts[i], lasts[i] + 1):
            for letter in range(begin[flat[row]], begin[flat[row] + 1]):
                if n < STEM:
                    mixed = mixed * _MULTIPLIER + np.uint64(letters[letter])
                    mixed ^= mixed >> np.uint64(31)
                    n += 1
        out[i] = np.int64((mixed * GOLDEN_64) >> np.uint64(64 - HASH_BITS))
    return out
