"""What is true of a planted text's positions, and how its words and subjects are drawn."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy.random import Generator as Random

MIN_ROWS = 120
"""Factors that hold at fewer positions are left out."""


Tokens = Int32[np.ndarray, "seq pos"]


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


Found = tuple[str, tuple[str, ...], Bool[np.ndarray, "seq pos"]]
"""Name, tags and mask of a factor."""
About = Callable[[int], tuple[str, ...]]
"""Further tags of a token."""


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


def text_of(
    tokens: Tokens, vocab: list[str], found: Iterable[Found], about: About, *, n_tokens: int, after: range
) -> FactorText:
    """With what was `found`, the n commonest tokens (and the tags of what each is `about`) and what follows each token
    of `after`: of these, what holds often enough, but at no more than a quarter of the text."""

    def every() -> Iterator[Found]:
        yield from found
        counts = np.bincount(tokens.reshape(-1), minlength=len(vocab))
        for token in np.argsort(-counts, kind="stable")[:n_tokens]:
            yield f"token {vocab[token]!r}", (f"token {token}", *about(int(token))), tokens == token
        for token in after:
            yield f"after {vocab[token]!r}", (f"after {token}",), shifted(tokens == token)

    factors = [Factor(name, frozenset(tags), np.flatnonzero(mask)) for name, tags, mask in every()]
    return FactorText(tokens, vocab, [f for f in factors if MIN_ROWS <= len(f.rows) <= tokens.size // 4])


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
