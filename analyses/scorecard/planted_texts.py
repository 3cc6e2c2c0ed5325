"""Planted text: families of different generators, each with the factors that hold at its positions.

In and out are those of `factors`, which has families whose meanings concern content; `texts_of_form` has others. Here:

    records   documents of templated records: keywords, separators, slots with values of shared classes
    scripts   paragraphs of ten languages in their own scripts: word pieces from a Markov chain, digits, punctuation
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy.random import Generator as Random

from analyses.scorecard import factors, texts_of_form
from analyses.scorecard.factors import (
    Factor,
    FactorText,
    Tokens,
    borrow,
    factor,
    segments,
    shifted,
    text_of,
    words,
    zipf,
)

VALUES = ("number", "hex", "name", "word", "code", "unit")
MARKS = [":", "=", ",", ";", "->", "|", ".", "/", "\n", '"', "(", ")"]
N_KINDS = 14
Template = list[tuple[str, bool]]
"""The content of each place of a record: a literal (True) or a value of a class (False)."""


def records(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return documents of templated records, each of one of 14 kinds for about `segment` tokens."""
    classes = {
        "number": [str(i) for i in range(100)],
        "hex": [f"{i:02x}" for i in range(160, 240)],
        "name": [w.capitalize() for w in words(rng, 80, 2, 3)],
        "word": [" " + w for w in words(rng, 120, 2, 3)],
        "code": [w.upper() for w in words(rng, 50, 1, 2)],
        "unit": [w + "_t" for w in words(rng, 40, 1, 2)],
    }
    keywords = words(rng, N_KINDS * 2, 2, 2)
    vocab = MARKS + keywords + [value for values in classes.values() for value in values]
    at = {string: i for i, string in reversed(list(enumerate(vocab)))}
    tokens_of_class = {name: np.array([at[v] for v in values]) for name, values in classes.items()}
    templates = [_template(rng, keywords[2 * k : 2 * k + 2]) for k in range(N_KINDS)]
    tokens, kind, place, value = _draw_records(rng, (n_seq, n_ctx), segment, similarity, templates, at, tokens_of_class)

    def found() -> Iterator[Factor]:
        for k in range(N_KINDS):
            yield factor(f"records of kind {k}", kind == k, f"kind {k}")
            for slot, (what, literal) in enumerate(templates[k]):
                if not literal:
                    is_here = (kind == k) & (place == slot)
                    yield factor(f"slot {slot} of kind {k}", is_here, f"kind {k}", f"class {what}")
            yield factor(f"separators of kind {k}", (kind == k) & (place < 0), f"kind {k}", "separators")
        for c, name in enumerate(VALUES):
            yield factor(f"values of class {name}", value == c, f"class {name}")
        yield factor("inside quotes", inside(tokens, at['"'], at['"']), "quotes")
        yield factor("inside parentheses", inside(tokens, at["("], at[")"]), "parentheses")

    tags: list[tuple[str, ...]] = [("separators",) for _ in MARKS + keywords]
    tags.extend((f"class {name}",) for name, values in classes.items() for _ in values)
    return text_of(tokens, vocab, found(), tags, n_tokens=80, after=range(len(MARKS)))


def _draw_records(
    rng: Random,
    shape: tuple[int, int],
    segment: int,
    similarity: float,
    templates: list[Template],
    at: Mapping[str, int],
    tokens_of_class: Mapping[str, Int64[np.ndarray, " value"]],
) -> Int32[np.ndarray, "4 seq pos"]:
    """Return, for each position, the token and the kind of record and, for a value, its place in the record and its
    class. The last two are −1 for other tokens."""
    favourites = [{name: rng.permutation(len(ids)) for name, ids in tokens_of_class.items()} for _ in templates]
    out = np.full((4, *shape), -1, np.int32)
    for seq in range(shape[0]):
        position, kind = 0, rng.integers(len(templates))
        while position < shape[1]:
            if rng.random() < 1 / max(1.0, segment / 10):
                kind = rng.integers(len(templates))
            for place, (what, literal) in enumerate(templates[kind][: shape[1] - position]):
                if literal:
                    out[:, seq, position] = at[what], kind, -1, -1
                else:
                    rank = min(int(rng.pareto(0.9) * 3), len(tokens_of_class[what]) - 1)
                    source = (kind + int(rng.random() < similarity)) % len(templates)
                    token = tokens_of_class[what][favourites[source][what][rank]]
                    out[:, seq, position] = token, kind, place, VALUES.index(what)
                position += 1
    return out


def _template(rng: Random, keywords: list[str]) -> Template:
    body: Template = [(keywords[0], True)]
    for place in range(rng.integers(2, 5)):
        body.append((MARKS[rng.integers(8)], True))
        value = [(VALUES[rng.integers(len(VALUES))], False)] * int(rng.integers(1, 3))
        wrapped = rng.random()
        if wrapped < 0.25:
            value = [('"', True), *value, ('"', True)]
        elif wrapped < 0.5:
            value = [("(", True), *value, (")", True)]
        body += value + ([(keywords[1], True)] if place == 1 else [])
    return [*body, ("\n", True)]


ALPHABETS = {"Greek": 0x3B1, "Cyrillic": 0x430, "Hebrew": 0x5D0, "Arabic": 0x627, "Devanagari": 0x905, "Thai": 0xE01,
             "Latin": 0x61, "Kana": 0x3042, "Hangul": 0xAC00, "Georgian": 0x10D0}  # fmt: skip
DIGITS, PUNCTUATION = [str(d) for d in range(10)], [",", ".", "!", "?", "-", "\n"]
SHARED = len(DIGITS) + len(PUNCTUATION)
PIECES = 48
"""The letters of a language; the first half of them begin a word."""


def scripts(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return paragraphs of about `segment` tokens in one of ten languages. Each language is a Markov chain over word
    pieces."""
    vocab = DIGITS + PUNCTUATION
    tags: list[tuple[str, ...]] = [("digits" if mark in DIGITS else "punctuation",) for mark in vocab]
    for name, first in ALPHABETS.items():
        for i in range(PIECES):
            letters = "".join(chr(first + int(c)) for c in rng.integers(22, size=1 + i % 3))
            vocab.append(" " * (i < PIECES // 2) + letters)
            tags.append((name, "starts" if i < PIECES // 2 else "within"))
    chains = np.stack([_chain(rng, PIECES) for _ in ALPHABETS])
    language = segments(rng, len(ALPHABETS), n_seq, n_ctx, segment)
    tokens = _draw_scripts(rng, language, chains, similarity)
    is_piece, is_digit = tokens >= SHARED, tokens < len(DIGITS)
    is_start = is_piece & ((tokens - SHARED) % PIECES < PIECES // 2)

    def found() -> Iterator[Factor]:
        for n, name in enumerate(ALPHABETS):
            is_here = language == n
            yield factor(f"{name} text", is_here, name)
            yield factor(f"starts of words in {name}", is_here & is_start, name, "starts")
            yield factor(f"pieces within words in {name}", is_here & is_piece & ~is_start, name, "within")
            yield factor(f"digits in {name}", is_here & is_digit, name, "digits")
            yield factor(f"punctuation in {name}", is_here & ~is_piece & ~is_digit, name, "punctuation")
            yield factor(f"after digits in {name}", is_here & shifted(is_digit) & ~is_digit, name, "after digits")
        yield factor("digits", is_digit, "digits")
        yield factor("starts of words", is_start, "starts")

    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(len(DIGITS), SHARED))


def _draw_scripts(
    rng: Random,
    language: Int64[np.ndarray, "seq pos"],
    chains: Int64[np.ndarray, "language piece 64"],
    similarity: float,
) -> Int32[np.ndarray, "seq pos"]:
    n_seq = len(language)
    tokens, piece = np.zeros(language.shape, np.int32), rng.integers(PIECES, size=n_seq)
    digits_left = np.zeros(n_seq, np.int64)
    for position, languages in enumerate(language.T):
        piece = chains[languages, piece, rng.integers(64, size=n_seq)]
        start = rng.random(n_seq) < 0.04
        digits_left = np.where(start, rng.integers(2, 5, size=n_seq), np.maximum(digits_left - 1, 0))
        mark = rng.random(n_seq) < 0.1
        source = borrow(rng, languages, len(chains), similarity)
        token = np.where(mark, len(DIGITS) + zipf(rng, 6, 1.0, n_seq), SHARED + source * PIECES + piece)
        tokens[:, position] = np.where(digits_left > 0, rng.integers(10, size=n_seq), token)
    return tokens


def _chain(rng: Random, pieces: int) -> Int64[np.ndarray, "piece 64"]:
    """Return, for each piece, 64 equally likely next pieces, drawn from a few that it prefers."""
    return np.stack([rng.choice(zipf(rng, pieces, 0.7, 12), size=64) for _ in range(pieces)])


def inside(tokens: Tokens, opening: int, closing: int) -> Bool[np.ndarray, "seq pos"]:
    """Mark the positions strictly between an opening mark and the next closing mark in the same sequence."""
    out = np.zeros(tokens.shape, bool)
    is_open = np.zeros(len(tokens), bool)
    for position in range(tokens.shape[1]):
        token = tokens[:, position]
        closes = is_open & (token == closing)
        out[:, position] = is_open & ~closes
        is_open = np.where(closes, False, is_open | (token == opening))
    return out


_FORM = (texts_of_form.slots, texts_of_form.positions, texts_of_form.affixes, texts_of_form.agreement)
_CONTENT = (factors.bursts, factors.hierarchies, texts_of_form.nesting, factors.translations)
FAMILIES = {family.__name__: family for family in (factors.topics, records, scripts, *_FORM, *_CONTENT)}
