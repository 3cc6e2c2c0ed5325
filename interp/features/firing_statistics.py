"""Count how often and how strongly each latent fires, and which latents fire together.

Over the rows where z_j > 0: count, mean, standard deviation, maximum, a histogram and quantiles, and the number of
sequences fired in; burstiness is firings / sequences fired in.

The histogram has the same edges for every latent: 16 equal steps in each factor of two. They are the leading bits of
the float32 value, so finding a bin costs one shift. Quantiles are computed from the histogram by linear interpolation.
They differ from the exact ones by at most one bin, 1/16 of the value. The outermost bins, which have the values below
2^-24 and those from 2^16 on, are wider: they reach down to 0 and, for quantiles, up to the latent's maximum.

Two numbers measure how often two latents fire together. Let n_i be the number of rows on which latent i is among the
`strongest` of the row, and n_both the number on which both latents are. Then

    jaccard = n_both / (n_i + n_j - n_both)        lift = n_both * n_rows / (n_i * n_j)

If `strongest` is None, every firing counts. This is exact, and costs L0^2 per row.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from numba import njit

from interp.codes.code_chunks import CodeChunk
from interp.features.scan_input import FiringsByLatent, insert_best
from interp.runtime.processes import Processes

_BINS_PER_OCTAVE = 16
_SHIFT = 23 - 4  # float32 has 23 bits of mantissa; the upper 4 choose one of 16 bins
_LOWEST, _HIGHEST = -24, 16  # powers of two; values outside [2^-24, 2^16) are in the outermost bins
_FIRST_BIN = (127 + _LOWEST) * _BINS_PER_OCTAVE
_N_BINS = (_HIGHEST - _LOWEST) * _BINS_PER_OCTAVE
_QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90, 0.99)


@dataclass(frozen=True)
class FiringStatistics:
    """Statistics of the latents from `first` on.

    Arrays have the shape [latent], and `histogram` [latent, bin]. `n_rows` rows were encoded.
    """

    first: int
    n_rows: int
    n_active: np.ndarray
    n_sequences: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    maxima: np.ndarray
    histogram: np.ndarray

    @classmethod
    def of(cls, firings: FiringsByLatent, n_ctx: int, n_rows: int) -> "FiringStatistics":
        bits = firings.values.view(np.int32)
        return cls(firings.first, n_rows, *_count(firings.offsets, firings.rows, n_ctx, firings.values, bits))

    @property
    def mass_steps(self) -> np.ndarray:
        """The unit in which each latent's activation mass is counted, so that counts are integers."""
        return np.ldexp(1.0, np.frexp(self.maxima)[1] - 30)

    def columns(self) -> dict[str, np.ndarray]:
        """Return columns of the features table. They are NaN for a latent that never fires."""
        fired = np.where(self.n_active > 0, self.n_active, np.nan)
        mean = self.sums / fired
        columns: dict[str, np.ndarray] = {
            "latent": self.first + np.arange(len(self.n_active)),
            "n_active": self.n_active,
            "density": self.n_active / max(self.n_rows, 1),
            "mean": mean,
            "std": np.sqrt(np.maximum(self.squares / fired - mean**2, 0)),
            "max": np.where(self.n_active > 0, self.maxima, np.nan),
            "n_sequences": self.n_sequences,
            "burstiness": self.n_active / np.where(self.n_sequences > 0, self.n_sequences, np.nan),
        }
        for q, values in zip(_QUANTILES, quantiles(self.histogram, self.maxima).T, strict=True):
            columns[f"q{round(100 * q)}"] = values
        return columns

    def histogram_table(self) -> dict[str, np.ndarray]:
        """Return the bins between a latent's weakest and strongest firing, including empty ones."""
        filled = self.histogram > 0
        is_between = np.logical_or.accumulate(filled, 1) & np.logical_or.accumulate(filled[:, ::-1], 1)[:, ::-1]
        latent, index = np.nonzero(is_between)
        low = bin_edges()[index]
        high = bin_edges()[index + 1]
        n = self.histogram[latent, index]
        return {"latent": self.first + latent, "bin": index, "low": low, "high": high, "n": n}


class Coactivation:
    """Count how often the latents first .. last fire together with each latent, over the chunks that `add` receives."""

    def __init__(self, d_sae: int, first: int, last: int, strongest: int | None):
        self.first = first
        self.strongest = strongest
        self.n_strong = np.zeros(d_sae, np.int64)
        self.counts = np.zeros((last - first, d_sae), np.uint32)

    def add(self, chunk: CodeChunk) -> None:
        if self.strongest is None:
            rows = chunk.by_row
            columns = chunk.by_latent
        else:
            codes = chunk.by_row
            offsets, latents = _keep_strongest(codes.indptr, codes.indices, codes.data.view(np.uint32), self.strongest)
            rows = scipy.sparse.csr_matrix((np.zeros(len(latents), np.float32), latents, offsets), codes.shape)
            columns = rows.tocsc()
        self.n_strong += np.diff(columns.indptr)
        _count_pairs(self.first, columns.indptr, columns.indices, rows.indptr, rows.indices, self.counts)

    def join(self, world: Processes) -> None:
        """Add up the counts of all processes."""
        for counts in (self.n_strong, self.counts.view(np.int32)):  # signed sums have the same bits as unsigned ones
            world.sum_(torch.from_numpy(counts))

    def table(self, k: int, n_rows: int) -> dict[str, np.ndarray]:
        """Return, for each latent, the `k` partners with the highest Jaccard index."""
        best = _best_partners(self.counts, self.first, self.n_strong, k)
        row, rank = np.nonzero(best >= 0)
        latent = self.first + row
        other = best[row, rank]
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


def bin_edges() -> np.ndarray:
    """Return the 641 edges of the histogram. Bin b has the values with edges[b] <= z < edges[b + 1]. The first edge is
    0; the last bin has all larger values too."""
    edges = ((np.arange(_N_BINS + 1) + _FIRST_BIN) << _SHIFT).astype(np.int32).view(np.float32)
    edges[0] = 0
    return edges


@njit(cache=True, nogil=True)
def bin_of_bits(bits):
    """Return the bin of a float32 > 0, given as the int32 of the same bits."""
    return min(max((bits >> _SHIFT) - _FIRST_BIN, 0), _N_BINS - 1)


def quantiles(histogram: np.ndarray, maxima: np.ndarray) -> np.ndarray:
    """Return the quantiles of the firings [latent, quantile], by interpolation inside a bin. They are NaN for a latent
    without firings."""
    edges = bin_edges().astype(np.float64)
    out = np.full((len(histogram), len(_QUANTILES)), np.nan)
    counts = histogram.astype(np.float64)
    below = counts.cumsum(1)
    alive = np.flatnonzero(below[:, -1] > 0)
    for i, q in enumerate(_QUANTILES):
        target = q * below[alive, -1]
        index = (below[alive] < target[:, None]).sum(1)
        inside = counts[alive, index]
        share = (target - (below[alive, index] - inside)) / inside
        high = np.where(index == _N_BINS - 1, maxima[alive], np.minimum(edges[index + 1], maxima[alive]))
        out[alive, i] = edges[index] + share * (high - edges[index])
    return out


@njit(cache=True, nogil=True)
def _count(offsets, rows, n_ctx, values, bits):
    d = len(offsets) - 1
    n_active = np.zeros(d, np.int64)
    n_sequences = np.zeros(d, np.int64)
    sums = np.zeros(d)
    squares = np.zeros(d)
    maxima = np.zeros(d, np.float32)
    histogram = np.zeros((d, _N_BINS), np.uint32)
    for j in range(d):
        end = 0  # of the sequence that fired last
        for e in range(offsets[j], offsets[j + 1]):
            v = values[e]
            sums[j] += v
            squares[j] += np.float64(v) * v
            maxima[j] = max(maxima[j], v)
            histogram[j, bin_of_bits(bits[e])] += 1
            if rows[e] >= end:
                end = (rows[e] // n_ctx + 1) * n_ctx
                n_sequences[j] += 1
        n_active[j] = offsets[j + 1] - offsets[j]
    return n_active, n_sequences, sums, squares, maxima, histogram


@njit(cache=True, nogil=True)
def _keep_strongest(offsets, latents, bits, k):
    """Return the `k` largest entries of each row; of equal values, the smaller latent.
    bits: the bits of the values, as uint32."""
    kept_offsets = np.zeros(len(offsets), np.int64)
    for row in range(len(offsets) - 1):
        kept_offsets[row + 1] = kept_offsets[row] + min(k, offsets[row + 1] - offsets[row])
    strongest = np.empty(kept_offsets[-1], latents.dtype)
    scores = np.zeros(kept_offsets[-1], np.uint64)
    for row in range(len(offsets) - 1):
        span = slice(kept_offsets[row], kept_offsets[row + 1])
        for e in range(offsets[row], offsets[row + 1]):
            score = (np.uint64(bits[e]) << np.uint64(32)) | np.uint64(0xFFFFFFFF - np.int64(latents[e]))
            insert_best(score, latents[e], scores[span], strongest[span])
    return kept_offsets, strongest


@njit(cache=True, nogil=True)
def _count_pairs(first, columns, rows, offsets, latents, counts):
    """Count the pairs of one latent after another, so that the latent's row of the matrix stays in the cache."""
    for i in range(len(counts)):
        row_counts = counts[i]
        for c in range(columns[first + i], columns[first + i + 1]):
            for e in range(offsets[rows[c]], offsets[rows[c] + 1]):
                row_counts[latents[e]] += 1


@njit(cache=True, nogil=True)
def _best_partners(n_both, first, n_strong, k):
    """Return, for each latent, the `k` other latents with the highest Jaccard index; of equal ones, the smaller. −1
    fills the rest."""
    best = np.full((len(n_both), k), -1, np.int64)
    for i in range(len(n_both)):
        scores = np.zeros(k)
        n = n_strong[first + i]
        for j in range(n_both.shape[1]):
            both = np.int64(n_both[i, j])
            if both > 0 and j != first + i:
                insert_best(both / (n + n_strong[j] - both), j, scores, best[i])
    return best
