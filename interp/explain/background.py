"""The rows that the candidate rules of a latent are tried on: a sample of the fit half, densest where it counts.

    stratum            rows                                                              weight of a row
    firings            a sample of the latent's own                                      n_fire / sampled
    token a            x_t = a, for the commonest tokens a of the firings                n(a) / sampled, 1 for a rare a
    after token a      x_{t−1} = a, the same of the tokens before them                   likewise
    elsewhere          a uniform sample, the same for all latents                        rows / sampled

The sums of weights over the last three, each row in one of them only, estimate at how many positions a rule holds; the
first estimates how many firings it hits. Memory: at most MAX_ROWS rows of text stay at hand.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt64

from interp.explain.bitsets import n_words, pack, transpose
from interp.explain.lookback import count_near
from interp.explain.predicates import FAR, FAR_REACH, N_PLANES, NEAR, REACH, Text

MAX_ROWS = 1 << 21
"""Of a longer text, sequences spread over it."""
ELSEWHERE = 1 << 14
TOKENS, PER_TOKEN = 16, 256
TOKENS_BEFORE, PER_TOKEN_BEFORE = 12, 192


@dataclass(frozen=True)
class Background:
    """Whole sequences of the fit half, indexed by token."""

    text: Text
    rows: Int64[np.ndarray, " row"]
    planes: UInt64[np.ndarray, "row plane"]
    place: Int64[np.ndarray, " seq"]
    """Of each sequence of the text, where its rows begin in `rows`; −1 if it is not here."""
    order: Int64[np.ndarray, " row"]
    """Places in `rows`, by token."""
    first: Int64[np.ndarray, " d_vocab_plus_1"]
    near: dict[int, Float64[np.ndarray, " d_vocab"]]
    """Of NEAR and FAR: at how many positions of the fit half the token is among those before."""
    scale: float
    """Rows of the fit half for each row of the background."""
    elsewhere: Int64[np.ndarray, " row"]
    """Rows of the uniform sample."""
    elsewhere_bits: UInt64[np.ndarray, "plane 64 word"]

    @classmethod
    def of(cls, text: Text, half: Bool[np.ndarray, " seq"]) -> "Background":
        sequences = np.flatnonzero(half)
        kept = sequences[:: max(1, -(-len(sequences) * text.n_ctx // MAX_ROWS))]
        rows = (kept[:, None] * text.n_ctx + np.arange(text.n_ctx)).reshape(-1)
        tokens, n_vocab = text.tokens[kept], len(text.vocabulary)
        first = np.concatenate([[0], np.cumsum(np.bincount(tokens.reshape(-1), minlength=n_vocab))])
        scale = len(sequences) / max(1, len(kept))
        chosen = np.unique(np.linspace(0, max(len(rows) - 1, 0), ELSEWHERE).astype(np.int64))[: len(rows)]
        planes, place = text.planes_at(rows), np.full(len(text.tokens), -1)
        place[kept] = np.arange(len(kept)) * text.n_ctx
        bits = np.zeros((N_PLANES, 64, n_words(len(chosen))), np.uint64)
        for plane in range(N_PLANES):
            transpose(planes[chosen], plane, np.arange(64), bits[plane])
        near = {kind: count_near(tokens, n_vocab, reach) * scale for kind, reach in ((NEAR, REACH), (FAR, FAR_REACH))}
        order = np.argsort(tokens.reshape(-1), kind="stable")
        return cls(text, rows, planes, place, order, first, near, scale, rows[chosen], bits)

    @cached_property
    def counts(self) -> Float64[np.ndarray, " d_vocab"]:
        """At how many positions of the fit half each token stands."""
        return np.diff(self.first) * self.scale

    def planes_of(self, rows: Int64[np.ndarray, " row"]) -> UInt64[np.ndarray, "row plane"]:
        """The bits of some rows of the fit half, 0 for rows of −1."""
        n_ctx = self.text.n_ctx
        start = np.where(rows >= 0, self.place[rows // n_ctx], -1)
        out = self.planes[np.maximum(start, 0) + rows % n_ctx] * (start >= 0)[:, None].astype(np.uint64)
        missing = np.flatnonzero((start < 0) & (rows >= 0))
        if len(missing):
            out[missing] = self.text.planes_at(rows[missing])
        return out

    def with_token(self, token: int, most: int, step: int) -> tuple[Int64[np.ndarray, " row"], float]:
        """Rows `step` behind the token, spread over the text, and what each stands for."""
        low, n = self.first[token], int(self.first[token + 1] - self.first[token])
        taken = min(n, most)
        rows = self.rows[self.order[low + np.arange(taken) * n // max(taken, 1)]]
        if step:
            rows = rows[rows % self.text.n_ctx + step < self.text.n_ctx] + step
        return rows, self.scale * n / max(taken, 1)


@dataclass(frozen=True)
class Universe:
    """The rows of one latent's search, each stratum from a new word on; −1 where there is none."""

    rows: Int64[np.ndarray, " row"]
    valid: UInt64[np.ndarray, " word"]
    weights: Float64[np.ndarray, " word"]
    n_firing_words: int
    n_own: int
    """Rows before those that are the same for all latents."""
    firing_weight: float
    n_fire: float

    @classmethod
    def of(cls, background: Background, firings: Int64[np.ndarray, " firing"], n_fire: float) -> "Universe":
        """firings: rows of the fit half."""
        text, strata, weights = background.text, [firings], [0.0]
        own, before = _commonest(text.before(firings, 0), TOKENS), _commonest(text.before(firings, 1), TOKENS_BEFORE)
        is_own, is_before = np.zeros((2, len(text.vocabulary) + 1), bool)  # the last for −1, no token
        is_own[own], is_before[before] = True, True
        for step, tokens, most in ((0, own, PER_TOKEN), (1, before, PER_TOKEN_BEFORE)):
            for token in tokens:
                rows, weight = background.with_token(int(token), most, step)
                strata.append(rows[~is_own[text.before(rows, 0)]] if step else rows)
                weights.append(weight)
        shared = background.elsewhere
        strata.append(shared)
        weights.append(len(background.rows) * background.scale / max(1, len(shared)))
        rows = np.concatenate([_padded(stratum) for stratum in strata])
        valid = rows >= 0
        tail = slice(len(rows) - len(_padded(shared)), len(rows))
        last = rows[tail]
        valid[tail] &= ~is_own[text.before(last, 0)] & ~is_before[text.before(last, 1)]
        words = np.repeat(weights, [n_words(len(stratum)) for stratum in strata])
        firing_weight = n_fire / max(1, len(firings))
        return cls(rows, pack(valid), words, n_words(len(firings)), tail.start, firing_weight, n_fire)


def _commonest(tokens: Int64[np.ndarray, " row"], most: int) -> Int64[np.ndarray, " token"]:
    found, counts = np.unique(tokens[tokens >= 0], return_counts=True)
    return np.sort(found[np.argsort(-counts, kind="stable")][:most])


def _padded(rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " padded"]:
    out = np.full(n_words(len(rows)) * 64, -1, np.int64)
    out[: len(rows)] = rows
    return out
