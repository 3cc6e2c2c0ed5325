"""Which tokens a latent fires on, and which stand before them.

For every latent, token and offset o in 0, -1, .. -n_before: the firings whose token at that offset is this one, how
many of them lie in the fit half, and their activation mass. Counted exactly: the most frequent tokens in a matrix
[token, latent] as large as the memory given, the others as `PairCounts`. A chunk is visited token by token, so that one
token's counts over all latents stay in cache.
Masses are summed as integers, in steps of 2^-30 of the power of two at or above the latent's maximum, so that the sum
is the same in any order.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit

from interp.statistics.chunks import Chunk, group_by
from interp.statistics.pairs import PairCounts, merge, strongest_of_each

_DENSE_BYTES, _PAIR_BYTES = 16, 32


class TokenCounts:
    """Counts at one offset: the tokens that stand `before` places before the firing token."""

    def __init__(self, folder: Path, *, before: int, maxima: np.ndarray, token_counts: np.ndarray, budget: int):
        d_sae, self.vocab_size = len(maxima), len(token_counts)
        self.before = before
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
        position = np.arange(len(chunk.tokens)) % chunk.n_ctx
        tokens = np.where(position >= self.before, np.roll(chunk.tokens, self.before), -1)
        starts, order = group_by(tokens, self.vocab_size)
        grouped = (starts, order, chunk.offsets, chunk.latents, chunk.values, 1 / self.steps, chunk.fit, self.dense_row)
        _count_dense(*grouped, self.counts, self.masses)
        if (starts[1:] > starts[:-1])[self.dense_row < 0].any():
            latents, tokens, counts = _count_pairs(*grouped)
            self.pairs.add(_by_latent(latents, tokens, counts, self.vocab_size, chunk.d_sae))

    def blocks(self) -> Iterator[np.ndarray]:
        """Int64 "pair 4": latent * vocab_size + token, n, n_fit, mass; keys ascending over whole latents."""
        for first, last, block in self.pairs.blocks(n_more=self.masses.size):
            n = np.ascontiguousarray(self.counts[:, first:last, 0].T)
            latent, row = np.nonzero(n)
            dense = np.empty((len(latent), 4), np.int64)
            dense[:, 0] = (first + latent) * self.vocab_size + self.dense_tokens[row]
            dense[:, 1], dense[:, 2] = n[latent, row], self.counts[row, first + latent, 1]
            dense[:, 3] = self.masses[row, first + latent]
            yield merge(dense, block)


def token_tables(
    counts: list[TokenCounts], n_active: np.ndarray, k: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The tokens table, with the `k` most frequent of each latent and offset, and columns of the features table."""
    d_sae = len(n_active)
    kept = np.full((d_sae, len(counts), k, 4), -1, np.int64)
    features = {
        "top_token": np.full(d_sae, -1, np.int32),
        "top_token_share": np.full(d_sae, np.nan),
        "token_entropy": np.full(d_sae, np.nan),
        "n_tokens": np.zeros(d_sae, np.int32),
    }
    for at_offset in counts:
        for block in at_offset.blocks():
            latents, tokens = np.divmod(block[:, 0], at_offset.vocab_size)
            best = strongest_of_each(latents, block[:, 1], tokens, d_sae, k)
            chosen = block[best[best >= 0]]
            chosen[:, 0] %= at_offset.vocab_size
            kept[:, at_offset.before][best >= 0] = chosen
            if at_offset.before == 0:
                _token_columns(latents, tokens, block[:, 1], n_active, features)
    latent, before, rank = np.nonzero(kept[..., 1] >= 0)
    token, n, n_fit, mass = kept[latent, before, rank].T
    mass = mass * counts[0].steps[latent]
    return {"latent": latent, "offset": -before, "token": token, "n": n, "n_fit": n_fit, "mass": mass}, features


def _token_columns(latents, tokens, counts, n_active, features) -> None:
    """Most frequent token, its share, entropy in nats and number of tokens, for the latents of a block."""
    if len(latents) == 0:
        return
    firsts = np.flatnonzero(np.diff(latents, prepend=-1))
    present = latents[firsts]
    share = counts / n_active[latents]
    features["n_tokens"][present] = np.diff(firsts, append=len(latents))
    features["token_entropy"][present] = -np.add.reduceat(share * np.log(share), firsts)
    best = strongest_of_each(latents, counts, tokens, len(n_active), 1)[present, 0]
    features["top_token"][present] = tokens[best]
    features["top_token_share"][present] = share[best]


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
