"""The rows that the candidate rules of a latent are tried on: a sample of the fit half, densest where it counts.

    stratum            rows                                                              weight of a row
    firings            a sample of the latent's own                                      n_fire / sampled
    token a            x_t = a, for the commonest tokens a of the firings                n(a) / sampled, 1 for a rare a
    after token a      x_{t−1} = a, the same of the tokens before them                   likewise
    elsewhere          a uniform sample, the same for all latents                        rows / sampled

The sums of weights over the last three, each row in one of them only, estimate at how many positions a rule holds; the
first (`FitSample`) estimates how many firings it hits. Memory: at most MAX_ROWS rows of text stay at hand.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float64, Int64, UInt64
from numba import njit

from interp.codes.reading import CodeChunk
from interp.codes.sampling import FiringSampler
from interp.verdict.holding import by_id, n_words, pack, transpose_all
from interp.verdict.predicates import GROWN, KINDS, Text

SAMPLE = 512
"""Firings of a latent that propose rules."""
MAX_ROWS = 1 << 21
"""Of a longer text, sequences spread over it."""
ELSEWHERE = 1 << 14
STRATA = ((0, 16, 256), (1, 12, 192))
"""Places back, tokens, and rows a token."""
WEIGHT_STEP = 2.0**-20
"""Weights are multiples of it, so that their sums are exact in any order, up to 2^33 rows."""


class FitSample(FiringSampler):
    """SAMPLE firings of each latent, and how many it has, in the fit half of the sequences. A listener."""

    def __init__(self, d_sae: int, n_ctx: int, half: Bool[np.ndarray, " seq"], seed: int):
        super().__init__(d_sae, 1, SAMPLE, seed, 1)
        self._fit = np.repeat(half, n_ctx)

    def add(self, chunk: CodeChunk) -> None:
        fit = np.repeat(self._fit[chunk.start : chunk.stop], np.diff(chunk.offsets))
        super().add(replace(chunk, values=chunk.values * fit))


@dataclass(frozen=True)
class Background:
    """Whole sequences of the fit half, indexed by token."""

    text: Text
    counted: Bool[np.ndarray, " row"]
    """The rows of the text that count (`features.examples`)."""
    rows: Int64[np.ndarray, " row"]
    planes: UInt64[np.ndarray, "row plane"]
    place: Int64[np.ndarray, " seq"]
    """Of each sequence of the text, where its rows begin in `rows`; −1 if it is not here."""
    order: Int64[np.ndarray, " row"]
    """Places in `rows`, by token."""
    first: Int64[np.ndarray, " d_vocab_plus_1"]
    scale: float
    """Rows of the fit half for each row of the background."""
    elsewhere: Int64[np.ndarray, " row"]
    """Rows of the uniform sample."""
    elsewhere_bits: UInt64[np.ndarray, "plane 64 word"]

    @classmethod
    def of(cls, text: Text, half: Bool[np.ndarray, " seq"], counted: Bool[np.ndarray, " row"]) -> "Background":
        sequences = np.flatnonzero(half)
        kept = sequences[:: max(1, -(-len(sequences) * text.n_ctx // MAX_ROWS))]
        rows = (kept[:, None] * text.n_ctx + np.arange(text.n_ctx)).reshape(-1)
        tokens, place = text.tokens[kept].reshape(-1), np.full(len(text.tokens), -1)
        place[kept] = np.arange(len(kept)) * text.n_ctx
        chosen = np.unique(np.linspace(0, max(len(rows) - 1, 0), ELSEWHERE).astype(np.int64))[: len(rows)]
        planes = text.planes_at(rows)
        order, first = by_id(tokens, len(text.vocabulary))
        scale, bits = len(sequences) / max(1, len(kept)), transpose_all(planes[chosen])
        return cls(text, counted, rows, planes, place, order, first, scale, rows[chosen], bits)

    @cached_property
    def elsewhere_before(self) -> Int64[np.ndarray, "slot row"]:
        """The tokens before each row of `elsewhere`, padded: of each slot whose tokens are grown."""
        rows = _padded(self.elsewhere)
        return np.stack([self.text.before(rows, slot) for slot in range(len(GROWN))])

    @cached_property
    def elsewhere_within(self) -> dict[str, scipy.sparse.csr_matrix]:
        """Of each kind of `holds`: [predicate, place], not 0 at the places in `elsewhere` where it holds."""
        flat, shape, found = self.text.tokens.reshape(-1), (len(self.text.vocabulary), len(self.elsewhere)), {}
        for name in self.holds:
            low, high = KINDS[name].reach or (0, 0)
            place, back = np.nonzero(self.elsewhere[:, None] % self.text.n_ctx >= np.arange(low, high + 1))
            tokens = flat[self.elsewhere[place] - back - low]
            near = scipy.sparse.csr_matrix((np.ones(len(place)), (tokens, place)), shape)
            found[name] = (self.sets[name].T @ near).tocsr() if name in self.sets else near
        return found

    @cached_property
    def sets(self) -> dict[str, scipy.sparse.csr_matrix]:
        """Of each kind with named sets of tokens: [d_vocab, name], 1 where the token is in the set."""
        return {name: kind.sets(self.text).T.tocsr() for name, kind in KINDS.items() if kind.sets}

    @cached_property
    def holds(self) -> dict[str, Float64[np.ndarray, " own"]]:
        """Of each kind with reach whose tokens are not grown: at how many positions of the fit half each token, or each
        named set of tokens, is within reach."""
        kinds = {name: kind.reach for name, kind in KINDS.items() if kind.reach and name not in GROWN}
        rows = self.rows[self.counted[self.rows]]
        counts = {name: self.seen(rows, reach) * self.scale for name, reach in kinds.items()}
        return {name: self.sets[name].T @ own if name in self.sets else own for name, own in counts.items()}

    def seen(self, rows: Int64[np.ndarray, " row"], reach: tuple[int, int]) -> Float64[np.ndarray, " d_vocab"]:
        """At how many of the rows each token is within reach."""
        flat, n_ctx = self.text.tokens.reshape(-1), self.text.n_ctx
        return _count_window(flat, len(self.text.vocabulary), n_ctx, rows, *reach).astype(float)

    def planes_of(self, rows: Int64[np.ndarray, " row"]) -> UInt64[np.ndarray, "row plane"]:
        """The bits of some rows of the fit half; those of rows of −1 say nothing."""
        sequence, position = np.divmod(rows, self.text.n_ctx)
        start = self.place[sequence]
        out = self.planes[start + position]
        missing = np.flatnonzero((start < 0) & (rows >= 0))
        if len(missing):
            out[missing] = self.text.planes_at(rows[missing])
        return out

    def with_token(self, token: int, most: int, step: int) -> tuple[Int64[np.ndarray, " row"], float]:
        """Rows `step` behind the token, spread over the text, and what each stands for."""
        low, n = self.first[token], int(self.first[token + 1] - self.first[token])
        taken = min(n, most)
        rows = self.rows[self.order[low + np.arange(taken) * n // max(taken, 1)]]
        rows = rows[rows % self.text.n_ctx + step < self.text.n_ctx] + step
        return rows, self.scale * n / max(taken, 1)


class Universe(NamedTuple):
    """The rows of one latent's search, each stratum from a new word of bits on."""

    rows: Int64[np.ndarray, " row"]
    """−1 where there is none."""
    n_own: int
    """Rows before those that are the same for all latents."""
    before: Int64[np.ndarray, "slot row"]
    """The token of each slot, −1 for none."""
    valid: UInt64[np.ndarray, " word"]
    weights: Float64[np.ndarray, " word"]
    firings: Int64[np.ndarray, " firing"]
    n_firing_words: int
    firing_weight: float
    n_fire: float

    @classmethod
    def of(cls, background: Background, firings: Int64[np.ndarray, " firing"], n_fire: float) -> "Universe":
        """firings: rows of the fit half, a sample of n_fire."""
        text, strata, weights = background.text, [firings], [0.0]
        is_common = np.zeros((len(STRATA), len(text.vocabulary) + 1), bool)  # the last for −1, no token
        for stratum, (step, n_tokens, per_token) in enumerate(STRATA):
            common = _commonest(text.before(firings, step), n_tokens)
            is_common[stratum, common] = True
            for token in common:
                rows, weight = background.with_token(int(token), per_token, step)
                for earlier in range(stratum):
                    rows = rows[~is_common[earlier, text.before(rows, STRATA[earlier][0])]]
                strata.append(rows)
                weights.append(weight)
        strata.append(background.elsewhere)
        weights.append(len(background.rows) * background.scale / max(1, len(background.elsewhere)))
        n_each = [n_words(len(stratum)) for stratum in strata]
        rows = np.concatenate([_padded(stratum) for stratum in strata])
        valid, n_own = (rows >= 0) & background.counted[rows], 64 * sum(n_each[:-1])
        before = np.stack([text.before(rows[:n_own], slot) for slot in range(len(GROWN))])
        before = np.hstack([before, background.elsewhere_before])
        for stratum, (step, _, _) in enumerate(STRATA):
            valid[n_own:] &= ~is_common[stratum, before[step, n_own:]]
        return cls(
            rows=rows,
            n_own=n_own,
            before=before,
            valid=pack(valid),
            weights=np.repeat(np.round(np.array(weights) / WEIGHT_STEP) * WEIGHT_STEP, n_each),
            firings=firings,
            n_firing_words=n_each[0],
            firing_weight=n_fire / max(1, len(firings)),
            n_fire=n_fire,
        )


def _commonest(tokens: Int64[np.ndarray, " row"], most: int) -> Int64[np.ndarray, " token"]:
    found, counts = np.unique(tokens[tokens >= 0], return_counts=True)
    return np.sort(found[np.argsort(-counts, kind="stable")][:most])


def _padded(rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " padded"]:
    out = np.full(n_words(len(rows)) * 64, -1, np.int64)
    out[: len(rows)] = rows
    return out


@njit(cache=True, nogil=True)
def _count_window(tokens, n_vocab, n_ctx, rows, low, high):
    """How many of the rows have each token among those `low` to `high` before."""
    near, newest = np.zeros(n_vocab, np.int64), np.full(n_vocab, -1, np.int64)
    for i in range(len(rows)):
        for back in range(low, min(high, rows[i] % n_ctx) + 1):
            token = tokens[rows[i] - back]
            if newest[token] != i:
                newest[token] = i
                near[token] += 1
    return near
