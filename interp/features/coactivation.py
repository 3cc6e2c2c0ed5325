"""Which latents fire together.

    n_both(i, j) = rows on which i and j are both among the `strongest` latents of the row
    jaccard = n_both / (n_i + n_j - n_both)        lift = n_both * n_rows / (n_i * n_j)

with n_i the rows on which i is among the strongest. With `strongest` None every firing counts and n_i is the number of
firings: exact, at a cost of L0^2 a row. Counts are a matrix [latent, d_sae] for some of the latents at a time.
"""

import numpy as np
import scipy.sparse
from numba import njit

from interp.features.chunks import Chunk, insert_best


class Coactivation:
    """Counts of the latents first .. last with all others, over the chunks that it is shown."""

    def __init__(self, d_sae: int, first: int, last: int, strongest: int | None):
        self.first, self.strongest = first, strongest
        self.n_strong = np.zeros(d_sae, np.int64)
        self.counts = np.zeros((last - first, d_sae), np.uint32)

    def add(self, chunk: Chunk) -> None:
        if self.strongest is not None:
            codes = chunk.by_row
            bits = codes.data.view(np.uint32)
            offsets, latents = _keep_strongest(codes.indptr, codes.indices, bits, self.strongest)
            kept = scipy.sparse.csr_matrix((np.zeros(len(latents), np.float32), latents, offsets), codes.shape)
            chunk = Chunk(chunk.start, kept)
        by_row, by_latent = chunk.by_row, chunk.by_latent
        self.n_strong += np.diff(by_latent.indptr)
        _count(self.first, by_latent.indptr, by_latent.indices, by_row.indptr, by_row.indices, self.counts)

    def table(self, k: int, n_rows: int) -> dict[str, np.ndarray]:
        """The `k` partners of the highest Jaccard index of each latent."""
        best = _best(self.counts, self.first, self.n_strong, k)
        row, rank = np.nonzero(best >= 0)
        latent, other = self.first + row, best[row, rank]
        both = self.counts[row, other].astype(np.int64)
        n, n_other = self.n_strong[latent], self.n_strong[other]
        return {
            "latent": latent,
            "other": other,
            "rank": rank,
            "n_both": both,
            "jaccard": both / (n + n_other - both),
            "lift": both * (n_rows / (n * n_other)),
        }


@njit(cache=True, nogil=True)
def _keep_strongest(offsets, latents, bits, k):
    """The `k` largest entries of each row, ties to the smaller latent. `bits`: of the values, as uint32."""
    kept_offsets = np.zeros(len(offsets), np.int64)
    for row in range(len(offsets) - 1):
        kept_offsets[row + 1] = kept_offsets[row] + min(k, offsets[row + 1] - offsets[row])
    kept, scores = np.empty(kept_offsets[-1], latents.dtype), np.zeros(kept_offsets[-1], np.uint64)
    for row in range(len(offsets) - 1):
        place = slice(kept_offsets[row], kept_offsets[row + 1])
        for e in range(offsets[row], offsets[row + 1]):
            score = (np.uint64(bits[e]) << np.uint64(32)) | np.uint64(0xFFFFFFFF - np.int64(latents[e]))
            insert_best(score, latents[e], scores[place], kept[place])
    return kept_offsets, kept


@njit(cache=True, nogil=True)
def _count(first, columns, rows, offsets, latents, counts):
    """The counts of one latent after another, so that its row of the matrix stays in cache."""
    for i in range(len(counts)):
        own = counts[i]
        for c in range(columns[first + i], columns[first + i + 1]):
            for e in range(offsets[rows[c]], offsets[rows[c] + 1]):
                own[latents[e]] += 1


@njit(cache=True, nogil=True)
def _best(n_both, first, n_strong, k):
    """The `k` others of the highest Jaccard index of each latent, ties to the smaller; −1 behind them."""
    best = np.full((len(n_both), k), -1, np.int64)
    for i in range(len(n_both)):
        scores, n = np.zeros(k), n_strong[first + i]
        for j in range(n_both.shape[1]):
            both = np.int64(n_both[i, j])
            if both > 0 and j != first + i:
                insert_best(both / (n + n_strong[j] - both), j, scores, best[i])
    return best
