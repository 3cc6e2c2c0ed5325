"""Planted text: three generator families, each with the factors that hold at its positions.

    topics    segments of a few topics among function words; words carry suffixes
    records   documents of templated records: keywords, separators, slots with values of shared classes
    scripts   paragraphs of ten languages in their own scripts: word pieces from a Markov chain, digits, punctuation

A factor is a set of positions with one description: a topic's content words, whatever follows "of", the second slot of
a record, the starts of words in one script. Its tags say what it is about; factors that share a tag are akin, and a
latent of two such factors has one meaning. With `similarity`, each topic, kind or language borrows that share of its
words from the next one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

MIN_ROWS = 120
"""Factors that hold at fewer positions are left out."""


@dataclass(frozen=True)
class Factor:
    name: str
    tags: frozenset[str]
    rows: Int64[np.ndarray, " row"]
    """Positions seq * n_ctx + pos where it holds, ascending."""


@dataclass(frozen=True)
class FactorText:
    tokens: Int32[np.ndarray, "seq pos"]
    vocab: list[str]
    factors: list[Factor]


_Found = tuple[str, tuple[str, ...], Bool[np.ndarray, "seq pos"]]
"""Name, tags and mask of a factor."""


def topics(rng: np.random.Generator, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Segments of about `segment` tokens, each of one of 16 topics; every second word is a function word."""
    n_topics, per_topic, n_function, suffixes = 16, 40, 40, ("", "", "ing", "ed", "ly", "s")
    function = _words(rng, n_function, 1, 2)
    stems = _words(rng, n_topics * per_topic, 2, 3)
    ending = rng.integers(len(suffixes), size=len(stems))
    vocab = [" " + w for w in function] + [" " + stem + suffixes[e] for stem, e in zip(stems, ending, strict=True)]
    topic = rng.integers(n_topics, size=(n_seq, n_ctx))[
        np.arange(n_seq)[:, None], _segments(rng, n_seq, n_ctx, segment)
    ]
    content = rng.random(topic.shape) < 0.5
    source = _borrow(rng, topic, n_topics, similarity)
    word = n_function + source * per_topic + _zipf(rng, per_topic, 0.8, topic.shape)
    tokens = np.where(content, word, _zipf(rng, n_function, 1.0, topic.shape)).astype(np.int32)

    def found() -> Iterator[_Found]:
        for t in range(n_topics):
            yield f"content words of topic {t}", (f"topic {t}",), (topic == t) & content
            yield f"function words in topic {t}", (f"topic {t}",), (topic == t) & ~content
            yield f"topic {t}", (f"topic {t}",), topic == t
            for f in range(3):
                yield f"{vocab[f]!r} in topic {t}", (f"topic {t}", f"token {f}"), (topic == t) & (tokens == f)
        for e, suffix in enumerate(suffixes):
            if suffix:
                with_suffix = content & (ending[np.maximum(tokens - n_function, 0)] == e)
                yield f"words that end in {suffix!r}", (f"suffix {suffix}",), with_suffix

        def about(token: int) -> tuple[str, ...]:
            word = token - n_function
            return () if word < 0 else (f"topic {word // per_topic}", f"suffix {suffixes[ending[word]]}")

        yield from _token_factors(tokens, vocab, 60, about)
        yield from _after_factors(tokens, vocab, range(12))

    return _text(tokens, vocab, found())


def records(rng: np.random.Generator, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Documents of templated records, each of one of 14 kinds for about `segment` tokens."""
    classes = {
        "number": [str(i) for i in range(100)],
        "hex": [f"{i:02x}" for i in range(160, 240)],
        "name": [w.capitalize() for w in _words(rng, 80, 2, 3)],
        "word": [" " + w for w in _words(rng, 120, 2, 3)],
        "code": [w.upper() for w in _words(rng, 50, 1, 2)],
        "unit": [w + "_t" for w in _words(rng, 40, 1, 2)],
    }
    marks = [":", "=", ",", ";", "->", "|", ".", "/", "\n", '"', "(", ")"]
    kinds = 14
    keywords = _words(rng, kinds * 2, 2, 2)
    vocab = marks + keywords + [value for values in classes.values() for value in values]
    at = {string: i for i, string in reversed(list(enumerate(vocab)))}
    of_class = {name: np.array([at[v] for v in values]) for name, values in classes.items()}
    templates = [_template(rng, list(classes), marks[:8], keywords[2 * k : 2 * k + 2]) for k in range(kinds)]
    favourites = [{name: rng.permutation(len(ids)) for name, ids in of_class.items()} for _ in range(kinds)]
    class_at = {int(i): name for name, ids in of_class.items() for i in ids}
    tokens, slot = np.zeros((n_seq, n_ctx), np.int32), np.full((n_seq, n_ctx), -1)
    kind_of, class_of = np.zeros((n_seq, n_ctx), np.int64), np.full((n_seq, n_ctx), -1)
    names = list(classes)
    for seq in range(n_seq):
        position, kind = 0, rng.integers(kinds)
        while position < n_ctx:
            if rng.random() < 1 / max(1.0, segment / 10):
                kind = rng.integers(kinds)
            for place, (what, literal) in enumerate(templates[kind]):
                if position == n_ctx:
                    break
                if literal:
                    tokens[seq, position] = at[what]
                else:
                    ids = of_class[what]
                    rank = min(int(rng.pareto(0.9) * 3), len(ids) - 1)
                    of = (kind + int(rng.random() < similarity)) % kinds
                    tokens[seq, position] = ids[favourites[of][what][rank]]
                    slot[seq, position], class_of[seq, position] = place, names.index(what)
                kind_of[seq, position] = kind
                position += 1

    def found() -> Iterator[_Found]:
        for k in range(kinds):
            yield f"records of kind {k}", (f"kind {k}",), kind_of == k
            for place, (what, literal) in enumerate(templates[k]):
                if not literal:
                    tags = (f"kind {k}", f"class {what}")
                    yield f"slot {place} of kind {k}", tags, (kind_of == k) & (slot == place)
            yield f"separators of kind {k}", (f"kind {k}", "separators"), (kind_of == k) & (slot < 0)
        for c, name in enumerate(names):
            yield f"values of class {name}", (f"class {name}",), class_of == c
        yield "inside quotes", ("quotes",), _inside(tokens, at['"'], at['"'])
        yield "inside parentheses", ("parentheses",), _inside(tokens, at["("], at[")"])

        def about(token: int) -> tuple[str, ...]:
            return (f"class {class_at[token]}",) if token in class_at else ("separators",)

        yield from _token_factors(tokens, vocab, 80, about)
        yield from _after_factors(tokens, vocab, range(len(marks)))

    return _text(tokens, vocab, found())


def scripts(rng: np.random.Generator, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Paragraphs of about `segment` tokens in one of ten languages, each a Markov chain over word pieces."""
    alphabets = (0x3B1, 0x430, 0x5D0, 0x627, 0x905, 0xE01, 0x61, 0x3042, 0xAC00, 0x10D0)
    names = ("Greek", "Cyrillic", "Hebrew", "Arabic", "Devanagari", "Thai", "Latin", "Kana", "Hangul", "Georgian")
    pieces, shared = 48, [str(d) for d in range(10)] + [",", ".", "!", "?", "-", "\n"]
    vocab = list(shared)
    for first in alphabets:
        for i in range(pieces):
            letters = "".join(chr(first + int(c)) for c in rng.integers(22, size=1 + i % 3))
            vocab.append(" " * (i < pieces // 2) + letters)
    next_piece = np.stack([_chain(rng, pieces) for _ in alphabets])
    language = rng.integers(len(names), size=(n_seq, n_ctx))[
        np.arange(n_seq)[:, None], _segments(rng, n_seq, n_ctx, segment)
    ]
    tokens, piece = np.zeros((n_seq, n_ctx), np.int32), rng.integers(pieces, size=n_seq)
    digits_left = np.zeros(n_seq, np.int64)
    for position in range(n_ctx):
        here = language[:, position]
        piece = next_piece[here, piece, rng.integers(64, size=n_seq)]
        start = rng.random(n_seq) < 0.04
        digits_left = np.where(start, rng.integers(2, 5, size=n_seq), np.maximum(digits_left - 1, 0))
        mark = rng.random(n_seq) < 0.1
        source = _borrow(rng, here, len(names), similarity)
        token = np.where(mark, 10 + _zipf(rng, 6, 1.0, n_seq), len(shared) + source * pieces + piece)
        tokens[:, position] = np.where(digits_left > 0, rng.integers(10, size=n_seq), token)
    is_piece, own = tokens >= len(shared), (tokens - len(shared)) % pieces
    is_digit, is_start = tokens < 10, is_piece & (own < pieces // 2)

    def own_piece(token: int) -> int:
        return (token - len(shared)) % pieces

    def found() -> Iterator[_Found]:
        for n, name in enumerate(names):
            here, marks = language == n, ~is_piece & ~is_digit
            yield f"{name} text", (name,), here
            yield f"starts of words in {name}", (name, "starts"), here & is_start
            yield f"pieces within words in {name}", (name, "within"), here & is_piece & ~is_start
            yield f"digits in {name}", (name, "digits"), here & is_digit
            yield f"punctuation in {name}", (name, "punctuation"), here & marks
            yield f"after digits in {name}", (name, "after digits"), here & _shift(is_digit) & ~is_digit
        yield "digits", ("digits",), is_digit
        yield "starts of words", ("starts",), is_start

        def about(token: int) -> tuple[str, ...]:
            if token < len(shared):
                return ("digits" if token < 10 else "punctuation",)
            return names[(token - len(shared)) // pieces], "starts" if own_piece(token) < pieces // 2 else "within"

        yield from _token_factors(tokens, vocab, 60, about)
        yield from _after_factors(tokens, vocab, range(10, len(shared)))

    return _text(tokens, vocab, found())


FAMILIES: Mapping[str, Callable[[np.random.Generator, int, int, int, float], FactorText]] = {
    "topics": topics,
    "records": records,
    "scripts": scripts,
}


def _text(tokens: Int32[np.ndarray, "seq pos"], vocab: list[str], found: Iterator[_Found]) -> FactorText:
    factors = [Factor(name, frozenset(tags), np.flatnonzero(mask)) for name, tags, mask in found]
    return FactorText(tokens, vocab, [f for f in factors if MIN_ROWS <= len(f.rows) <= tokens.size // 4])


def _token_factors(
    tokens: Int32[np.ndarray, "seq pos"], vocab: list[str], n: int, about: Callable[[int], tuple[str, ...]]
) -> Iterator[_Found]:
    counts = np.bincount(tokens.reshape(-1), minlength=len(vocab))
    for token in np.argsort(-counts, kind="stable")[:n]:
        yield f"token {vocab[token]!r}", (f"token {token}", *about(int(token))), tokens == token


def _after_factors(tokens: Int32[np.ndarray, "seq pos"], vocab: list[str], after: range) -> Iterator[_Found]:
    for token in after:
        yield f"after {vocab[token]!r}", (f"after {token}",), _shift(tokens == token)


def _borrow(
    rng: np.random.Generator, of: Int64[np.ndarray, "..."], n: int, similarity: float
) -> Int64[np.ndarray, "..."]:
    return (of + (rng.random(of.shape) < similarity)) % n


def _shift(mask: Bool[np.ndarray, "seq pos"]) -> Bool[np.ndarray, "seq pos"]:
    shifted = np.zeros_like(mask)
    shifted[:, 1:] = mask[:, :-1]
    return shifted


def _inside(tokens: Int32[np.ndarray, "seq pos"], opening: int, closing: int) -> Bool[np.ndarray, "seq pos"]:
    """Strictly between an opening mark and the next closing one of the same sequence."""
    out = np.zeros(tokens.shape, bool)
    is_open = np.zeros(len(tokens), bool)
    for position in range(tokens.shape[1]):
        token = tokens[:, position]
        closes = is_open & (token == closing)
        out[:, position] = is_open & ~closes
        is_open = np.where(closes, False, is_open | (token == opening))
    return out


def _segments(rng: np.random.Generator, n_seq: int, n_ctx: int, segment: int) -> Int64[np.ndarray, "seq pos"]:
    """The number of each position's segment; segments end with chance 1 / segment."""
    return np.cumsum(rng.random((n_seq, n_ctx)) < 1 / segment, axis=1) % n_ctx


def _zipf(rng: np.random.Generator, n: int, exponent: float, size: int | tuple[int, ...]) -> Int64[np.ndarray, "..."]:
    p = np.arange(1, n + 1) ** -exponent
    return rng.choice(n, p=p / p.sum(), size=size)


def _words(rng: np.random.Generator, n: int, least: int, most: int) -> list[str]:
    """n different made-up words of `least` to `most` syllables."""
    words: dict[str, None] = {}
    while len(words) < n:
        syllables = rng.integers(least, most + 1)
        pairs = zip(rng.integers(18, size=syllables), rng.integers(5, size=syllables), strict=True)
        words["".join("bcdfghjklmnprstvwz"[c] + "aeiou"[v] for c, v in pairs)] = None
    return list(words)


def _template(
    rng: np.random.Generator, classes: list[str], marks: list[str], keywords: list[str]
) -> list[tuple[str, bool]]:
    """What stands at each place of a record: a literal (True) or a value of a class (False)."""
    body: list[tuple[str, bool]] = [(keywords[0], True)]
    for place in range(rng.integers(2, 5)):
        body.append((marks[rng.integers(len(marks))], True))
        value = [(classes[rng.integers(len(classes))], False)] * int(rng.integers(1, 3))
        wrapped = rng.random()
        if wrapped < 0.25:
            value = [('"', True), *value, ('"', True)]
        elif wrapped < 0.5:
            value = [("(", True), *value, (")", True)]
        body += value + ([(keywords[1], True)] if place == 1 else [])
    return [*body, ("\n", True)]


def _chain(rng: np.random.Generator, pieces: int) -> Int64[np.ndarray, "piece 64"]:
    """For each piece, 64 equally likely next ones, drawn from a few that it prefers."""
    return np.stack([rng.choice(_zipf(rng, pieces, 0.7, 12), size=64) for _ in range(pieces)])
