"""Which tokens a latent fires on, which stand before them, and which follow.

For every latent, token and offset o in -n_before .. n_after: the firings whose token at that offset is this one, how
many of them lie in the fit half, and their activation mass. Counted exactly: the most frequent tokens in a matrix
[token, latent] as large as the memory given, the others as `PairCounts`. A chunk is visited token by token, so that one
token's counts over all latents stay in cache.
Masses are summed as integers, in steps of 2^-30 of the power of two at or above the latent's maximum, so that the sum
is the same in any order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from interp.features.chunks import Chunk, group_by
from interp.features.logits import LogitColumns
from interp.features.offsets import OffsetSummary
from interp.features.pairs import PairCounts, merge

_DENSE_BYTES, _PAIR_BYTES = 16, 32


class TokenCounts:
    """Counts at one offset: of the tokens that stand so many places behind the firing token; before it, if negative."""

    def __init__(self, folder: Path, *, offset: int, maxima: np.ndarray, token_counts: np.ndarray, budget: int):
        d_sae, self.vocab_size = len(maxima), len(token_counts)
        self.offset, self.unigrams = offset, token_counts
        self.steps = np.ldexp(1.0, np.frexp(maxima)[1] - 30)
        n_dense = min(int((token_counts > 0).sum()), budget * 3 // 4 // (_DENSE_BYTES * d_sae))
        self.dense_row = np.full(self.vocab_size, -1, np.int32)
        self.dense_tokens = np.sort(np.argsort(-token_counts, kind="stable")[:n_dense])
        self.dense_row[self.dense_tokens] = np.arange(n_dense)
        self.counts = np.zeros((n_dense, d_sae, 2), np.uint32)
        self.masses = np.zeros((n_dense, d_sae), np.int64)
        rows = budget // 4 // _PAIR_BYTES
        self.pairs = PairCounts(folder, n_latents=d_sae, n_items=self.vocab_size, n_counts=3, buffer_rows=rows)

    def add(self, chunk: Chunk) -> None:
        place = np.arange(len(chunk.tokens)) % chunk.n_ctx + self.offset
        tokens = np.where((place >= 0) & (place < chunk.n_ctx), np.roll(chunk.tokens, -self.offset), -1)
        starts, order = group_by(tokens, self.vocab_size)
        grouped = (starts, order, chunk.offsets, chunk.latents, chunk.values, 1 / self.steps, chunk.fit, self.dense_row)
        _count_dense(*grouped, self.counts, self.masses)
        if (starts[1:] > starts[:-1])[self.dense_row < 0].any():
            latents, tokens, counts = _count_pairs(*grouped)
            self.pairs.add(_by_latent(latents, tokens, counts, self.vocab_size, chunk.d_sae))

    def blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """First latent, last latent + 1, and Int64 "pair 4": latent * vocab_size + token, n, n_fit, mass; keys
        ascending over whole latents."""
        for first, last, block in self.pairs.blocks(n_more=self.masses.size):
            shape = (first, last, self.vocab_size)
            dense = _dense_pairs(*shape, self.dense_tokens, self.counts, self.masses)
            yield first, last, merge(dense, block)


class TokenTables(NamedTuple):
    tokens: dict[str, np.ndarray]
    offsets: dict[str, np.ndarray]
    features: dict[str, Any]
    """Columns of the features table."""


def token_tables(counts: list[TokenCounts], d_sae: int, k: int, logits: LogitColumns) -> TokenTables:
    """The tables tokens, with the `k` most frequent of each latent and offset, and offsets; columns of the features.

    The counts are read once: what follows the firings is shown to `logits` too.
    """
    summary = OffsetSummary(d_sae, [at_offset.offset for at_offset in counts], counts[0].unigrams)
    kept = np.full((d_sae, len(counts), k, 4), -1, np.int64)
    for i, at_offset in enumerate(counts):
        for first, last, block in at_offset.blocks():
            _keep_most(block, at_offset.vocab_size, kept[:, i])
            summary.add(at_offset.offset, block)
            if at_offset.offset == 1:
                logits.add(first, last, block)
    latent, which, rank = np.nonzero(kept[..., 1] >= 0)
    token, n, n_fit, mass = kept[latent, which, rank].T
    offset = np.array([at_offset.offset for at_offset in counts])[which]
    mass = mass * counts[0].steps[latent]
    table = {"latent": latent, "offset": offset, "token": token, "n": n, "n_fit": n_fit, "mass": mass}
    return TokenTables(table, summary.table(counts[0].steps), {**summary.features(), **logits.columns()})


@njit(cache=True, nogil=True)
def _dense_pairs(first, last, vocab_size, dense_tokens, counts, masses):
    """Int64 "pair 4" of the tokens with a dense row, keys ascending over latents first .. last."""
    size = 0
    for i in range(len(dense_tokens)):
        for j in range(first, last):
            size += counts[i, j, 0] > 0
    out = np.empty((size, 4), np.int64)
    size = 0
    for j in range(first, last):
        for i in range(len(dense_tokens)):
            if counts[i, j, 0] > 0:
                out[size, 0] = j * vocab_size + dense_tokens[i]
                out[size, 1], out[size, 2], out[size, 3] = counts[i, j, 0], counts[i, j, 1], masses[i, j]
                size += 1
    return out


@njit(cache=True, nogil=True)
def _keep_most(pairs, vocab_size, kept):
    """Token, n, n_fit, mass of the most frequent tokens of each latent into its rows of `kept`, which hold −1; ties to
    the smaller token, which comes first."""
    k = kept.shape[1]
    for at in range(len(pairs)):
        latent = pairs[at, 0] // vocab_size
        most, place = kept[latent], k
        while place > 0 and pairs[at, 1] > most[place - 1, 1]:
            if place < k:
                most[place] = most[place - 1]
            place -= 1
        if place < k:
            most[place] = pairs[at]
            most[place, 0] -= latent * vocab_size


@njit(cache=True, nogil=True)
def _count_dense(starts, order, offsets, latents, values, per_unit, fit, dense_row, counts, masses):
    for token in range(len(dense_row)):
        at = dense_row[token]
        if at < 0:
            continue
        for row in order[starts[token] : starts[token + 1]]:
            in_fit = np.uint32(fit[row])
            for e in range(offsets[row], offsets[row + 1]):
                j = latents[e]
                counts[at, j, 0] += 1
                counts[at, j, 1] += in_fit
                masses[at, j] += np.int64(values[e] * per_unit[j] + 0.5)


@njit(cache=True, nogil=True)
def _count_pairs(starts, order, offsets, latents, values, per_unit, fit, dense_row):
    """Latent, token [pair] and n, n_fit, mass [pair, 3] of the tokens without a dense row; tokens ascending."""
    d_sae, size = len(per_unit), 0
    for token in range(len(dense_row)):
        if dense_row[token] < 0:
            for row in order[starts[token] : starts[token + 1]]:
                size += offsets[row + 1] - offsets[row]
    out_latent, out_token = np.empty(size, np.int32), np.empty(size, np.int32)
    out_counts = np.empty((size, 3), np.int64)
    place = np.full(d_sae, -1, np.int64)  # where the latent's counts for the current token are
    size = 0
    for token in range(len(dense_row)):
        if dense_row[token] >= 0:
            continue
        first = size
        for row in order[starts[token] : starts[token + 1]]:
            in_fit = np.int64(fit[row])
            for e in range(offsets[row], offsets[row + 1]):
                j = latents[e]
                if place[j] < first:
                    place[j] = size
                    out_latent[size], out_token[size] = j, token
                    out_counts[size, 0], out_counts[size, 1], out_counts[size, 2] = 0, 0, 0
                    size += 1
                at = place[j]
                out_counts[at, 0] += 1
                out_counts[at, 1] += in_fit
                out_counts[at, 2] += np.int64(values[e] * per_unit[j] + 0.5)
    return out_latent[:size], out_token[:size], out_counts[:size]


@njit(cache=True, nogil=True)
def _by_latent(latents, tokens, counts, vocab_size, d_sae):
    """Int64 "pair 4", sorted by latent; tokens stay in their order."""
    ends = np.zeros(d_sae + 1, np.int64)
    for j in latents:
        ends[j + 1] += 1
    for j in range(d_sae):
        ends[j + 1] += ends[j]
    out = np.empty((len(latents), 4), np.int64)
    for i in range(len(latents)):
        j = latents[i]
        at = ends[j]
        out[at, 0] = np.int64(j) * vocab_size + tokens[i]
        out[at, 1], out[at, 2], out[at, 3] = counts[i, 0], counts[i, 1], counts[i, 2]
        ends[j] += 1
    return out
