"""What is true of a planted text's positions, and how its words and subjects are drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy.random import Generator as Random

MIN_ROWS = 120
"""Factors that hold at fewer positions are left out."""


Tokens = Int32[np.ndarray, "seq pos"]
Tags = Sequence[tuple[str, ...]]
"""Of each token of the vocabulary, those of its factor beside its own."""


@dataclass(frozen=True)
class Factor:
    name: str
    tags: frozenset[str]
    rows: Int64[np.ndarray, " row"]
    """Positions seq * n_ctx + pos where it holds, ascending."""


@dataclass(frozen=True)
class FactorText:
    tokens: Tokens
    vocab: list[str]
    factors: list[Factor]


def segments(rng: Random, n: int, n_seq: int, n_ctx: int, segment: int) -> Int64[np.ndarray, "seq pos"]:
    """Of n subjects, the one of each position's segment; segments end with chance 1 / segment."""
    subjects = rng.integers(n, size=(n_seq, n_ctx))
    return subjects[np.arange(n_seq)[:, None], np.cumsum(rng.random((n_seq, n_ctx)) < 1 / segment, axis=1) % n_ctx]


def zipf(rng: Random, n: int, exponent: float, size: int | tuple[int, ...]) -> Int64[np.ndarray, "..."]:
    p = np.arange(1, n + 1) ** -exponent
    return rng.choice(n, p=p / p.sum(), size=size)


def words(rng: Random, n: int, shortest: int, longest: int) -> list[str]:
    """n different made-up words of `shortest` to `longest` syllables."""
    words: dict[str, None] = {}
    while len(words) < n:
        syllables = rng.integers(shortest, longest + 1)
        pairs = zip(rng.integers(18, size=syllables), rng.integers(5, size=syllables), strict=True)
        words["".join("bcdfghjklmnprstvwz"[c] + "aeiou"[v] for c, v in pairs)] = None
    return list(words)


def factor(name: str, mask: Bool[np.ndarray, "seq pos"], *tags: str) -> Factor:
    return Factor(name, frozenset(tags), np.flatnonzero(mask))


def text_of(
    tokens: Tokens, vocab: list[str], found: Iterable[Factor], tags: Tags, *, n_tokens: int, after: range
) -> FactorText:
    """With what was `found`, the n commonest tokens and what follows each token of `after`: of these, what holds often
    enough, but at no more than a quarter of the text."""
    counts = np.bincount(tokens.reshape(-1), minlength=len(vocab))
    commonest = np.argsort(-counts, kind="stable")[:n_tokens].tolist()
    every = [*found]
    every += [factor(f"token {vocab[t]!r}", tokens == t, f"token {t}", *tags[t]) for t in commonest]
    every += [factor(f"after {vocab[t]!r}", shifted(tokens == t), f"after {t}") for t in after]
    return FactorText(tokens, vocab, [f for f in every if MIN_ROWS <= len(f.rows) <= tokens.size // 4])


def borrow(rng: Random, of: Int64[np.ndarray, "..."], n: int, similarity: float) -> Int64[np.ndarray, "..."]:
    return (of + (rng.random(of.shape) < similarity)) % n


def shifted(mask: Bool[np.ndarray, "seq pos"]) -> Bool[np.ndarray, "seq pos"]:
    out = np.zeros_like(mask)
    out[:, 1:] = mask[:, :-1]
    return out


def inside(tokens: Tokens, opening: int, closing: int) -> Bool[np.ndarray, "seq pos"]:
    """Strictly between an opening mark and the next closing one of the same sequence."""
    out = np.zeros(tokens.shape, bool)
    is_open = np.zeros(len(tokens), bool)
    for position in range(tokens.shape[1]):
        token = tokens[:, position]
        closes = is_open & (token == closing)
        out[:, position] = is_open & ~closes
        is_open = np.where(closes, False, is_open | (token == opening))
    return out
