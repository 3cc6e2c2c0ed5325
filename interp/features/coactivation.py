"""Which latents fire together.

    n_both(i, j) = rows on which i and j are both among the `strongest` latents of the row
    jaccard = n_both / (n_i + n_j - n_both)        lift = n_both * n_rows / (n_i * n_j)

with n_i the rows on which i is among the strongest. With `strongest` = None every firing counts and n_i is the number
of firings: exact, at a cost of L0^2 / 2 a row. Up to `DENSE` latents the counts are one matrix, beyond a `PairCounts`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit

from interp.features.chunks import Chunk, Columns, transpose
from interp.features.pairs import PairCounts, strongest_of_each

DENSE = 8192
_BLOCK = 256


class Coactivation:
    def __init__(self, folder: Path, *, d_sae: int, strongest: int | None, buffer_rows: int):
        self.strongest = strongest
        self.n_rows = 0
        self.n_strong = np.zeros(d_sae, np.int64)
        self.matrix = np.zeros((d_sae, d_sae), np.uint32) if d_sae <= DENSE else None
        self.pairs = PairCounts(folder, n_latents=d_sae, n_items=d_sae, n_counts=1, buffer_rows=buffer_rows)

    def add(self, chunk: Chunk) -> None:
        offsets, latents, columns = chunk.offsets, chunk.latents, chunk.columns
        if self.strongest is not None:
            offsets, latents, values = _keep_strongest(offsets, latents, chunk.values, self.strongest)
            columns = Columns(*transpose(offsets, latents, values, chunk.d_sae))
        self.n_rows += int(chunk.present.sum())
        self.n_strong += np.diff(columns.offsets)
        if self.matrix is not None:
            narrow = latents.astype(np.uint16)  # half the memory to read, and `DENSE` is below 2^16
            _count_dense(columns.offsets, columns.entries, columns.rows, offsets, narrow, self.matrix)
        else:
            self.pairs.add(_count_pairs(columns.offsets, columns.rows, offsets, latents))

    def table(self, k: int) -> dict[str, np.ndarray]:
        """The `k` partners of the highest Jaccard index of each latent."""
        parts = [self._strongest(*block, k) for block in self._blocks()]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Latent, other, n_both of the pairs that fire together, latents ascending."""
        d_sae = len(self.n_strong)
        if self.matrix is None:
            for _, _, block in self.pairs.blocks():
                yield *np.divmod(block[:, 0], d_sae), block[:, 1]
            return
        for first in range(0, d_sae, _BLOCK):
            last = min(first + _BLOCK, d_sae)
            counts = self.matrix[first:last].astype(np.int64) + self.matrix[:, first:last].T
            latent, other = np.nonzero(counts)
            yield latent + first, other, counts[latent, other]

    def _strongest(self, latent: np.ndarray, other: np.ndarray, n_both: np.ndarray, k: int) -> dict[str, np.ndarray]:
        n, n_other = self.n_strong[latent], self.n_strong[other]
        jaccard = n_both / (n + n_other - n_both)
        best = strongest_of_each(latent, jaccard, other, len(self.n_strong), k)
        row, rank = np.nonzero(best >= 0)
        at = best[row, rank]
        lift = n_both[at] * (self.n_rows / (n[at] * n_other[at]))
        return {
            "latent": latent[at],
            "other": other[at],
            "rank": rank,
            "n_both": n_both[at],
            "jaccard": jaccard[at],
            "lift": lift,
        }


@njit(cache=True, nogil=True)
def _keep_strongest(offsets, latents, values, k):
    """The `k` largest entries of each row, ties to the smaller latent; in no order."""
    kept_offsets = np.zeros(len(offsets), np.int64)
    for row in range(len(offsets) - 1):
        kept_offsets[row + 1] = kept_offsets[row] + min(k, offsets[row + 1] - offsets[row])
    kept, strength = np.empty(kept_offsets[-1], latents.dtype), np.empty(kept_offsets[-1], values.dtype)
    for row in range(len(offsets) - 1):
        base, end, size = kept_offsets[row], kept_offsets[row + 1], 0
        for e in range(offsets[row], offsets[row + 1]):
            j, v, at = latents[e], values[e], base + size
            while at > base and (strength[at - 1] < v or (strength[at - 1] == v and kept[at - 1] > j)):
                if at < end:
                    strength[at], kept[at] = strength[at - 1], kept[at - 1]
                at -= 1
            if at < end:
                strength[at], kept[at] = v, j
                size = min(size + 1, end - base)
    return kept_offsets, kept, strength


@njit(cache=True, nogil=True)
def _count_dense(columns, entries, rows, offsets, latents, matrix):
    """Each pair of a row once, in the matrix row of whichever latent stands first in it."""
    for i in range(len(columns) - 1):
        counts = matrix[i]
        for c in range(columns[i], columns[i + 1]):
            for e in range(entries[c] + 1, offsets[rows[c] + 1]):
                counts[latents[e]] += 1


@njit(cache=True, nogil=True)
def _count_pairs(columns, rows, offsets, latents):
    """Int64 "pair 2": key = latent * d_sae + other, n_both; both directions, keys ascending."""
    d_sae = len(columns) - 1
    counts, touched = np.zeros(d_sae, np.int64), np.empty(d_sae, np.int32)
    size = 0
    for row in range(len(offsets) - 1):
        size += (offsets[row + 1] - offsets[row]) * (offsets[row + 1] - offsets[row] - 1)
    out = np.empty((size, 2), np.int64)
    size = 0
    for i in range(d_sae):
        n_touched = 0
        for c in range(columns[i], columns[i + 1]):
            for e in range(offsets[rows[c]], offsets[rows[c] + 1]):
                j = latents[e]
                if j == i:
                    continue
                if counts[j] == 0:
                    touched[n_touched] = j
                    n_touched += 1
                counts[j] += 1
        for j in np.sort(touched[:n_touched]):
            out[size, 0], out[size, 1] = np.int64(i) * d_sae + j, counts[j]
            counts[j] = 0
            size += 1
    return out[:size]
