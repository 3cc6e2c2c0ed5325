"""The loss of n-gram counts, to compare a language model's loss with.

The corpus's own unigram and bigram cross-entropy, in nats per token, at the same positions as a language model's loss,
each token of a sequence except the first:

    p(b)     = (c(b) + α) / (N + α d_vocab)
    p(b | a) = (max(c(a, b) − δ, 0) + (κ + δ n(a)) p(b)) / (c(a) + κ)

c are counts on the training tokens, n(a) is the number of distinct tokens seen after a. δ = 0 is a Dirichlet prior of
weight κ centred on the unigram, κ = 0 is absolute discounting. α, and the pair (δ, κ), are the best of a grid on the
last tenth of the training sequences, with counts of the other nine tenths; then all of them are counted. The
validation tokens choose nothing.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch import Tensor

from interp.checks.errors import InterpError

ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0)
DISCOUNTS = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9)
BIGRAM_WEIGHTS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def unigram_cross_entropy(
    train_tokens: Int[Tensor, "seq pos"], val_tokens: Int[Tensor, "seq pos"], d_vocab: int
) -> float:
    """Return the loss of predicting each token by its frequency alone, in nats per token.

    Raises ValueError if a token lies outside 0..d_vocab − 1 or there are no pairs to count.
    """
    train, val = _pairs(train_tokens, d_vocab), _pairs(val_tokens, d_vocab)
    return unigram_of(train, d_vocab).cross_entropy(val)


def bigram_cross_entropy(
    train_tokens: Int[Tensor, "seq pos"], val_tokens: Int[Tensor, "seq pos"], d_vocab: int
) -> float:
    """Return the loss of predicting each token from the previous one, in nats per token, with the smoothing above.
    Raises as `unigram_cross_entropy` does."""
    train, val = _pairs(train_tokens, d_vocab), _pairs(val_tokens, d_vocab)
    kept, held_out = _split(train)
    counts = Bigrams(kept, d_vocab)
    unigram = unigram_of(kept, d_vocab)
    grid = [(discount, weight) for discount in DISCOUNTS for weight in BIGRAM_WEIGHTS if discount + weight > 0]
    best = min(grid, key=lambda smoothing: counts.cross_entropy(held_out, unigram, *smoothing))
    return Bigrams(train, d_vocab).cross_entropy(val, unigram_of(train, d_vocab), *best)


class Unigram(NamedTuple):
    p: np.ndarray  # [d_vocab]

    def cross_entropy(self, pairs: np.ndarray) -> float:
        return float(-np.log(self.p[pairs[:, 1]]).mean())


class Bigrams:
    """Counts of the pairs that occur, sorted by pair, so that memory is bounded by the corpus and not by d_vocab²."""

    def __init__(self, pairs: np.ndarray, d_vocab: int):
        self.d_vocab = d_vocab
        self.keys, self.counts = np.unique(pairs[:, 0] * d_vocab + pairs[:, 1], return_counts=True)
        first = self.keys // d_vocab
        self.context = np.bincount(first, self.counts, minlength=d_vocab)  # c(a)
        self.followers = np.bincount(first, minlength=d_vocab)  # n(a)

    def cross_entropy(self, pairs: np.ndarray, unigram: Unigram, discount: float, weight: float) -> float:
        first, second = pairs.T
        key = first * self.d_vocab + second
        nearest = np.searchsorted(self.keys, key).clip(max=len(self.keys) - 1)
        count = np.where(self.keys[nearest] == key, self.counts[nearest], 0)
        context, prior = self.context[first], unigram.p[second]
        backed_off = np.maximum(count - discount, 0) + (weight + discount * self.followers[first]) * prior
        p = np.where(context > 0, backed_off / np.maximum(context + weight, 1e-9), prior)
        return float(-np.log(p).mean())


def unigram_of(pairs: np.ndarray, d_vocab: int) -> Unigram:
    """Fit the unigrams to pairs, with the smoothing that fits a held-out part best."""

    def fit(pairs: np.ndarray, alpha: float) -> Unigram:
        counts = np.bincount(pairs[:, 1], minlength=d_vocab) + alpha
        return Unigram(counts / counts.sum())

    kept, held_out = _split(pairs)
    return fit(pairs, min(ALPHAS, key=lambda alpha: fit(kept, alpha).cross_entropy(held_out)))


def _split(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = max(1, len(pairs) // 10)
    return pairs[: max(1, len(pairs) - n)], pairs[-n:]


def _pairs(tokens: Int[Tensor, "seq pos"], d_vocab: int) -> np.ndarray:
    """Return [pair, 2]: each token of a sequence except the first, together with its predecessor."""
    array = tokens.cpu().numpy().astype(np.int64)
    check_pairs(array.shape)
    if array.min() < 0 or array.max() >= d_vocab:
        raise InterpError(f"token {array.max() if array.min() >= 0 else array.min()} must be in 0..{d_vocab - 1}")
    return np.stack([array[:, :-1].ravel(), array[:, 1:].ravel()], 1)


def check_pairs(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] == 0 or shape[1] < 2:
        raise InterpError(f"tokens of shape {tuple(shape)} hold no pair: at least one sequence of two tokens is needed")
