"""How often and how strongly each latent fires.

Over the rows where z_j > 0: count, mean, standard deviation, maximum, a histogram and quantiles, and the number of
sequences fired in; burstiness is firings / sequences fired in.

The histogram has the same edges for every latent, `BINS_PER_OCTAVE` to a factor of two, equal steps inside an octave:
they are the leading bits of the float32 value, so that finding a bin costs a shift. Quantiles are read off it by linear
interpolation: they are within one bin, 1/16 of the value, of the exact ones.
"""

import numpy as np
from numba import njit

from interp.features.chunks import Chunk

BINS_PER_OCTAVE = 16
_SHIFT = 23 - 4  # float32 has 23 bits of mantissa; the upper 4 choose one of 16 bins
_LOWEST, _HIGHEST = -24, 16  # octaves: values outside [2^-24, 2^16) fall into the outermost bins
_FIRST = (127 + _LOWEST) * BINS_PER_OCTAVE
N_BINS = (_HIGHEST - _LOWEST) * BINS_PER_OCTAVE
QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90, 0.99)


class FiringStatistics:
    """Running counts, sums, maxima and histograms of `d_sae` latents; 4 bytes a latent and bin."""

    def __init__(self, d_sae: int):
        self.n_rows = 0
        self.n_active = np.zeros(d_sae, np.int64)
        self.n_sequences = np.zeros(d_sae, np.int64)
        self.sums = np.zeros(d_sae)
        self.squares = np.zeros(d_sae)
        self.maxima = np.zeros(d_sae, np.float32)
        self.histogram = np.zeros((d_sae, N_BINS), np.uint32)

    def add(self, chunk: Chunk) -> None:
        self.n_rows += int(chunk.present.sum())
        _add(
            chunk.columns.offsets,
            chunk.columns.rows,
            chunk.n_ctx,
            chunk.columns.values,
            chunk.columns.values.view(np.int32),
            self.n_active,
            self.n_sequences,
            self.sums,
            self.squares,
            self.maxima,
            self.histogram,
        )

    def columns(self) -> dict[str, np.ndarray]:
        """Columns of the features table; NaN where a latent never fires."""
        fired = np.where(self.n_active > 0, self.n_active, np.nan)
        mean = self.sums / fired
        columns: dict[str, np.ndarray] = {
            "latent": np.arange(len(self.n_active), dtype=np.int32),
            "n_active": self.n_active,
            "density": self.n_active / max(self.n_rows, 1),
            "mean": mean,
            "std": np.sqrt(np.maximum(self.squares / fired - mean**2, 0)),
            "max": np.where(self.n_active > 0, self.maxima, np.nan),
            "n_sequences": self.n_sequences,
            "burstiness": self.n_active / np.where(self.n_sequences > 0, self.n_sequences, np.nan),
        }
        for q, values in zip(QUANTILES, quantiles(self.histogram, self.maxima).T, strict=True):
            columns[f"q{round(100 * q)}"] = values
        return columns

    def histogram_table(self) -> dict[str, np.ndarray]:
        """The bins between a latent's weakest and strongest firing, the empty ones among them too."""
        filled = self.histogram > 0
        seen = np.logical_or.accumulate(filled, 1) & np.logical_or.accumulate(filled[:, ::-1], 1)[:, ::-1]
        latent, index = np.nonzero(seen)
        edges = bin_edges()
        return {
            "latent": latent,
            "bin": index,
            "low": edges[index],
            "high": edges[index + 1],
            "n": self.histogram[latent, index],
        }


def bin_edges() -> np.ndarray:
    """Edges of the histogram, `N_BINS` + 1 values: bin b holds edges[b] <= z < edges[b + 1]. The first is 0."""
    edges = ((np.arange(N_BINS + 1) + _FIRST) << _SHIFT).astype(np.int32).view(np.float32)
    edges[0] = 0
    return edges


@njit(cache=True, nogil=True)
def bin_of_bits(bits):
    """The bin of a float32 > 0, given as the int32 of the same bits."""
    return min(max((bits >> _SHIFT) - _FIRST, 0), N_BINS - 1)


def bins_of(values: np.ndarray) -> np.ndarray:
    """The bin of each of an array of float32 > 0."""
    return np.clip((values.view(np.int32) >> _SHIFT) - _FIRST, 0, N_BINS - 1)


def quantiles(histogram: np.ndarray, maxima: np.ndarray, block: int = 4096) -> np.ndarray:
    """Float "latent quantile": `QUANTILES` of the firings by interpolation inside a bin; NaN without firings."""
    edges = bin_edges().astype(np.float64)
    found = np.full((len(histogram), len(QUANTILES)), np.nan)
    for first in range(0, len(histogram), block):
        counts = histogram[first : first + block].astype(np.float64)
        below = counts.cumsum(1)
        alive = np.flatnonzero(below[:, -1] > 0)
        for i, q in enumerate(QUANTILES):
            target = q * below[alive, -1]
            index = (below[alive] < target[:, None]).sum(1)
            inside = counts[alive, index]
            share = (target - (below[alive, index] - inside)) / inside
            high = np.minimum(edges[index + 1], maxima[first + alive])
            found[first + alive, i] = edges[index] + share * (high - edges[index])
    return found


@njit(cache=True, nogil=True)
def _add(offsets, rows, n_ctx, values, bits, n_active, n_sequences, sums, squares, maxima, histogram):
    for j in range(len(offsets) - 1):
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
        n_active[j] += offsets[j + 1] - offsets[j]
