"""The kinds of predicates of a token position t, each one entry of `KINDS`: what is true there, as a number.

In: `Positions`, some rows of a `Corpus`. Out, for each kind: the value that holds at each row, or several of them; −1
for none. Two positions share a predicate if they have a value of its kind in common: both are after "the", both stand
in parentheses, both within twelve tokens of "import".

    token, spelling     which token it is, and how it is spelt: script, shape, first and last letters, length
    role, about         classes of tokens by what stands beside them and around them (`neighbours`), at several grains
    previous_…, next_…  which token stands beside it, and its classes
    stem                the first letters of the whole word that a piece is part of
    line_head           the line's first token that is not blank
    places              in the line, the sentence, brackets, quotes, a comment, a URL, … (`places`)
    topic               what the window around it is about (`neighbours`), at several grains
    around              the tokens at most twelve away on either side

To add a kind, write one entry: `kind` with a function of `Positions`, or `of_token` for what a token's own string says.
Similarity, senses and what is said of them follow. Nothing looks across the edge of a sequence.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int64
from numba import njit

from interp.text.neighbours import Neighbours
from interp.text.places import Spelling, read_states, spelling
from interp.text.vocabulary import plain_strings, quoted

HASHED = 1 << 20
"""Values of kinds whose values are hashed: two unlike ones fall on one by chance once in a million."""
ROLE_GRAINS, ABOUT_GRAINS, TOPIC_GRAINS = (12, 40, 120, 400), (40, 400), (10, 40, 150)
AROUND = 12
STEM = 5
"""Letters."""
LISTED = 3
"""Tokens that stand for a class in words."""
SAMPLED_WINDOWS = 40_000
ROWS_AT_ONCE = 1 << 15
BESIDE = {-2: "two after", -1: "after", 1: "before", 2: "two before"}

Values = Int64[np.ndarray, "row *value"]


@dataclass(frozen=True)
class Kind:
    values: "Callable[[Positions], Values]"
    size: "Callable[[Corpus], int]"
    """How many values there are."""
    words: "Callable[[Corpus, int, int], str]"
    """How a value is said, given a row where it holds."""
    needs_strings: bool
    """Of tokens that are only numbered it says nothing."""


KINDS: dict[str, Kind] = {}
"""By name."""


@dataclass(frozen=True)
class Corpus:
    """A text, and what is known of its tokens and windows."""

    tokens: Int[np.ndarray, "seq pos"]
    strings: list[str] | None
    neighbours: Neighbours
    tables: dict[str, Int64[np.ndarray, " d_vocab_plus_1"]]
    """The class of each token; the last entry is for no token."""
    topics: dict[int, Float32[np.ndarray, "topic dim"]]
    """Centres, of unit length, at each grain."""
    spelling: Spelling
    letters: tuple[Int64[np.ndarray, " letter"], Int64[np.ndarray, " d_vocab_plus_1"]]
    """Those of all tokens one after the other, in lower case, and where each token's begin."""

    @classmethod
    def read(cls, tokens: Int[np.ndarray, "seq pos"], n_vocab: int, vocab: Sequence[str] | None = None) -> "Corpus":
        """tokens: ids below n_vocab; vocab: the string of each, None where tokens are only numbered.

        Raises ValueError for ids outside.
        """
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= n_vocab:
            raise ValueError(f"token ids run from {low} to {high}, but the vocabulary has {n_vocab} entries")
        tokens, strings = np.ascontiguousarray(tokens), None if vocab is None else plain_strings(vocab)
        neighbours = Neighbours.learn(tokens, n_vocab)
        tables = {"token": np.append(np.arange(n_vocab), -1)}
        for name, vectors, grains in (
            ("role", neighbours.roles, ROLE_GRAINS),
            ("about", neighbours.topics, ABOUT_GRAINS),
        ):
            tables |= {f"{name}_{n}": _classes(vectors, neighbours.counts, n) for n in grains}
        if strings is not None:
            tables |= {name: _numbered([spelt(string) for string in strings]) for name, spelt in SPELLINGS.items()}
            marks = [_marks(string) for string in [*strings, ""]]
            tables |= dict(zip(MARKS, np.array(marks, np.int64).T, strict=True))
        rows = np.unique(np.linspace(0, tokens.size - 1, SAMPLED_WINDOWS).astype(np.int64))
        windows = neighbours.windows(tokens, rows)
        topics = {n: _centres(windows, n) for n in TOPIC_GRAINS}
        spelt = spelling(strings or [""] * n_vocab)
        bare = [_bare(string) for string in strings or [""] * n_vocab]
        letters = np.array([ord(letter) for own in bare for letter in own], np.int64)
        begin = np.concatenate([[0], np.cumsum([len(own) for own in bare])])
        return cls(tokens, strings, neighbours, tables, topics, spelt, (letters, begin))

    @property
    def kinds(self) -> dict[str, Kind]:
        return {name: each for name, each in KINDS.items() if self.strings is not None or not each.needs_strings}

    def quoted(self, token: int) -> str:
        return f"token {token}" if self.strings is None else quoted(self.strings[token])

    def like(self, table: str, value: int) -> str:
        """The commonest tokens of a class."""
        members = np.flatnonzero(self.tables[table][:-1] == value)
        members = members[np.argsort(-self.neighbours.counts[members], kind="stable")]
        shown = ", ".join(self.quoted(token) for token in members[:LISTED])
        return shown if len(members) <= LISTED else f"tokens like {shown}"


class Positions:
    """Some rows, seq * n_ctx + pos, of a corpus."""

    def __init__(self, corpus: Corpus, rows: Int64[np.ndarray, " row"]):
        self.n_ctx = corpus.tokens.shape[1]
        sequences, own = np.unique(rows // self.n_ctx, return_inverse=True)
        self.corpus, self.place = corpus, rows % self.n_ctx
        self.tokens = np.ascontiguousarray(corpus.tokens[sequences])
        self.rows = own * self.n_ctx + self.place

    def token(self, offset: int = 0) -> Int64[np.ndarray, " row"]:
        """The token so far behind each row; −1 beyond the sequence's edge."""
        inside = (self.place + offset >= 0) & (self.place + offset < self.n_ctx)
        return np.where(inside, self.tokens.reshape(-1)[np.where(inside, self.rows + offset, 0)], -1)

    def of(self, table: str, offset: int = 0) -> Int64[np.ndarray, " row"]:
        return self.corpus.tables[table][self.token(offset)]

    @cached_property
    def state(self) -> Any:
        """What the reader of places knows at each row."""
        return read_states(self.tokens, self.corpus.spelling).reshape(-1)[self.rows]

    @cached_property
    def windows(self) -> Float32[np.ndarray, "row dim"]:
        return self.corpus.neighbours.windows(self.tokens, self.rows)

    def topic(self, grain: int) -> Int64[np.ndarray, " row"]:
        centres = self.corpus.topics[grain].T
        return np.concatenate(
            [(part @ centres).argmax(1) for part in np.array_split(self.windows, 1 + len(self.windows) // ROWS_AT_ONCE)]
        )


def kind(size: int, words: str | Callable[[Corpus, int, int], str], *, needs_strings: bool = False) -> Callable:
    """Register a function of `Positions` as the kind of its name; size: how many values it has."""

    def register(function: Callable[[Positions], Values]) -> Callable[[Positions], Values]:
        say = words if callable(words) else lambda corpus, value, row: words.format(value)
        KINDS[function.__name__] = Kind(function, lambda corpus: size, say, needs_strings)
        return function

    return register


def of_token(name: str, table: str, words: str, offset: int = 0) -> None:
    """Register the class that the token at an offset has in a table; {} stands for the class's commonest tokens."""
    KINDS[name] = Kind(
        lambda at: at.of(table, offset),
        lambda corpus: int(corpus.tables[table].max(initial=0)) + 1,
        lambda corpus, value, row: words.format(corpus.like(table, value)),
        table in SPELLINGS,
    )


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


def _bare(string: str) -> str:
    return string.strip().lower()


SPELLINGS: dict[str, Callable[[str], Any]] = {
    "script": _script,
    "shape": _shape,
    "start": lambda s: (s[:1].isspace(), _shape(s)),
    "first_2": lambda s: _bare(s)[:2],
    "first_3": lambda s: _bare(s)[:3],
    "first_4": lambda s: _bare(s)[:4],
    "last_2": lambda s: _bare(s)[-2:],
    "last_3": lambda s: _bare(s)[-3:],
    "letters": _bare,
    "length": lambda s: (len(s.strip()), _script(s)),
}
"""Classes of tokens by their strings."""


MARKS = ("opens", "ends", "breaks", "blank", "stops", "bracket")
BRACKETS = ("()", "[]", "{}")


def _marks(string: str) -> tuple[int, ...]:
    """What a token's string does to a word, a line, a sentence and to brackets: it opens (1, 2, 3) or closes (−1)."""
    bare = string.strip()
    depth = sum((c in "([{") - (c in ")]}") for c in bare)
    opened = next((1 + "([{".index(c) for c in reversed(bare) if c in "([{"), 0)
    stops = "\n" in string or bare[-1:] in tuple(".!?。！？؟")
    return (
        not string[:1].isalpha(),
        not string[-1:].isalpha(),
        "\n" in string,
        not bare,
        stops and bool(string),
        opened if depth > 0 else -1 if depth < 0 else 0,
    )


def _numbered(values: Sequence[Any]) -> Int64[np.ndarray, " d_vocab_plus_1"]:
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values] + [-1])


def _classes(vectors: np.ndarray, counts: np.ndarray, n: int) -> Int64[np.ndarray, " d_vocab_plus_1"]:
    """k-means of the tokens that occur, the rarer of less weight; −1 for others."""
    from sklearn.cluster import MiniBatchKMeans

    seen, out = np.flatnonzero(counts), np.full(len(vectors) + 1, -1)
    fitted = MiniBatchKMeans(min(n, max(1, len(seen) // 2)), init="random", n_init=2, random_state=0)
    out[seen] = fitted.fit(vectors[seen], sample_weight=np.sqrt(counts[seen])).labels_
    return out


def _centres(windows: np.ndarray, n: int) -> Float32[np.ndarray, "topic dim"]:
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(min(n, len(windows)), init="random", n_init=2, batch_size=4096, random_state=0).fit(
        windows
    )
    centres = fitted.cluster_centers_
    return (centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)).astype(np.float32)


of_token("token", "token", "{}")
for _offset, _name in ((-1, "previous"), (1, "next"), (-2, "before_previous"), (2, "after_next")):
    of_token(_name, "token", f"{BESIDE[_offset]} {{}}", _offset)
for _table, _said in {
    "script": "{}, by their script", "shape": "{}, by their script and case", "start": "{}, by script, case and space",
    "first_2": "{}, which begin alike", "first_3": "{}, which begin alike", "first_4": "{}, which begin alike",
    "last_2": "{}, which end alike", "last_3": "{}, which end alike", "letters": "{}", "length": "{}, by their length",
}.items():  # fmt: skip
    of_token(_table, _table, _said)
for _table in (*(f"role_{n}" for n in ROLE_GRAINS), *(f"about_{n}" for n in ABOUT_GRAINS)):
    of_token(_table, _table, "{}")
for _table in ("role_40", "role_120", "about_40", "about_400"):
    of_token(f"previous_{_table}", _table, "after {}", -1)
for _table in ("role_40", "role_120"):
    of_token(f"next_{_table}", _table, "before {}", 1)


@kind(HASHED, lambda corpus, value, row: f"in words that begin like {_word_at(corpus, row)}", needs_strings=True)
def stem(at: Positions) -> Values:
    """The first letters of the whole word that a piece is part of."""
    corpus, tables = at.corpus, at.corpus.tables
    spans = _words(at.tokens, at.rows, tables["opens"], tables["ends"])
    return _stems(at.tokens, spans[0], spans[1], corpus.letters[0], corpus.letters[1])


@kind(HASHED, lambda corpus, value, row: f"in lines that begin with {corpus.quoted(value)}", needs_strings=True)
def line_head(at: Positions) -> Values:
    """The first token of the line that is not blank."""
    return _heads(at.tokens, at.rows, at.corpus.tables["breaks"], at.corpus.tables["blank"])


@kind(9, "{} tokens into a line", needs_strings=True)
def line_place(at: Positions) -> Values:
    return np.where(at.state.line_known, np.minimum(at.state.line_tokens, 8), -1)


@kind(9, "{} tokens into a sentence", needs_strings=True)
def sentence_place(at: Positions) -> Values:
    return _since(at.tokens, at.rows, at.corpus.tables["stops"], 8)


@kind(
    4,
    lambda corpus, value, row: ["outside brackets", *(f"directly inside {own}" for own in BRACKETS)][value],
    needs_strings=True,
)
def bracket(at: Positions) -> Values:
    """The innermost bracket that is open."""
    return _innermost(at.tokens, at.rows, at.corpus.tables["bracket"])


@kind(32, lambda corpus, value, row: f"{row % corpus.tokens.shape[1]} tokens into a sequence, or about as many")
def sequence_place(at: Positions) -> Values:
    return np.where(at.place < 2, at.place, 1 + np.log2(np.maximum(at.place, 1)).astype(np.int64))


@kind(6, "in lines indented {} times", needs_strings=True)
def indent(at: Positions) -> Values:
    return np.where(at.state.line_known, np.minimum((at.state.indent + 3) // 4, 5), -1)


def _place(name: str, size: int, words: Sequence[str], of: Callable[[Any], Any]) -> None:
    """Register what the reader of places knows: one of some values, each with its words."""

    def values(at: Positions) -> Values:
        return np.minimum(np.asarray(of(at.state)).astype(np.int64), size - 1)

    KINDS[name] = Kind(values, lambda corpus: size, lambda corpus, value, row: words[min(value, len(words) - 1)], True)


_place("line_start", 2, ["within a line", "at the start of a line"], lambda s: s.line_start)
_place("sentence_start", 2, ["within a sentence", "at the start of a sentence"], lambda s: s.sentence_start)
_place(
    "word_part", 4, ["outside words", "inside a word", "at the start of a word"], lambda s: s.in_word + 2 * s.word_start
)
_place("paragraph", 2, ["within a paragraph", "in a paragraph's first line"], lambda s: s.paragraph)
_place(
    "brackets",
    5,
    ["outside brackets", "one bracket deep", "two brackets deep", "three brackets deep or more"],
    lambda s: s.brackets,
)
_place("parentheses", 2, ["outside parentheses", "in parentheses"], lambda s: s.parens > 0)
_place("squares", 2, ["outside square brackets", "in square brackets"], lambda s: s.squares > 0)
_place("braces", 2, ["outside braces", "in braces"], lambda s: s.braces > 0)
_place("quotes", 4, ["outside quotes", "in quotes", "in quotes within quotes"], lambda s: s.quotes)
_place(
    "literal",
    4,
    ["outside string literals", "in a string literal", "in a triple-quoted string"],
    lambda s: (s.literal > 0) + 2 * (s.triple > 0),
)
_place("comment", 2, ["outside comments", "in a comment"], lambda s: s.comment)
_place("tag", 2, ["outside tags", "in a <tag>"], lambda s: s.tag)
_place("math", 2, ["outside $ signs", "between $ signs"], lambda s: s.math)
_place("url", 2, ["outside URLs", "in a URL"], lambda s: s.url)
_place("bold", 2, ["outside ** marks", "between ** marks"], lambda s: s.bold)
_place(
    "repeats", 9, ["not among the eight tokens before", "that occur among the eight tokens before"], lambda s: s.repeats
)


def _topic(grain: int) -> None:
    def words(corpus: Corpus, value: int, row: int) -> str:
        nearness = corpus.neighbours.topics @ corpus.topics[grain][value] * np.log1p(corpus.neighbours.counts)
        return f"in text about {', '.join(corpus.quoted(int(token)) for token in np.argsort(-nearness)[:LISTED])}"

    KINDS[f"topic_{grain}"] = Kind(lambda at: at.topic(grain), lambda corpus: len(corpus.topics[grain]), words, False)


for _grain in TOPIC_GRAINS:
    _topic(_grain)


def _window(name: str, offsets: range, words: str) -> None:
    KINDS[name] = Kind(
        lambda at: np.stack([at.token(offset) for offset in offsets], 1),
        lambda corpus: len(corpus.neighbours.counts),
        lambda corpus, value, row: words.format(corpus.quoted(value)),
        False,
    )


_window("around", range(-AROUND, AROUND + 1), f"within {AROUND} tokens of {{}}")


def _word_at(corpus: Corpus, row: int) -> str:
    assert corpus.strings is not None
    tables = corpus.tables
    first, last = _words(corpus.tokens, np.array([row]), tables["opens"], tables["ends"])
    flat = corpus.tokens.reshape(-1)
    return quoted("".join(corpus.strings[token] for token in flat[first[0] : last[0] + 1]).strip())


@njit(cache=True, nogil=True)
def _words(tokens, rows, opens, ends):
    """The first row and the last of the word that each row is in."""
    n_ctx, flat = tokens.shape[1], tokens.reshape(-1)
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
    flat, out = tokens.reshape(-1), np.empty(len(firsts), np.int64)
    for i in range(len(firsts)):
        mixed, n = np.uint64(0), 0
        for row in range(firsts[i], lasts[i] + 1):
            for place in range(begin[flat[row]], begin[flat[row] + 1]):
                if n < STEM:
                    mixed = mixed * np.uint64(0x100000001B3) + np.uint64(letters[place])
                    mixed ^= mixed >> np.uint64(31)
                    n += 1
        out[i] = np.int64((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(44))
    return out


@njit(cache=True, nogil=True)
def _since(tokens, rows, marked, most):
    """How many tokens stand between each row and the last marked one before it, or the sequence's start."""
    n_ctx, flat, out = tokens.shape[1], tokens.reshape(-1), np.zeros(len(rows), np.int64)
    for i in range(len(rows)):
        begin, row = rows[i] - rows[i] % n_ctx, rows[i]
        while row > begin and not marked[flat[row - 1]] and out[i] < most:
            row -= 1
            out[i] += 1
    return out


@njit(cache=True, nogil=True)
def _innermost(tokens, rows, bracket):
    n_ctx, flat, out = tokens.shape[1], tokens.reshape(-1), np.zeros(len(rows), np.int64)
    for i in range(len(rows)):
        begin, row, closed = rows[i] - rows[i] % n_ctx, rows[i], 0
        while row > begin and out[i] == 0:
            row -= 1
            own = bracket[flat[row]]
            if own < 0:
                closed += 1
            elif own > 0 and closed > 0:
                closed -= 1
            elif own > 0:
                out[i] = own
    return out


@njit(cache=True, nogil=True)
def _heads(tokens, rows, breaks, blank):
    n_ctx, flat = tokens.shape[1], tokens.reshape(-1)
    out = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        begin, row = rows[i] - rows[i] % n_ctx, rows[i]
        out[i] = flat[row]
        while row > begin and not breaks[flat[row - 1]]:
            row -= 1
            if not blank[flat[row]]:
                out[i] = flat[row]
    return out
