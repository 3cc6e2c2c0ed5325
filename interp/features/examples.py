"""Where a latent fires: its strongest firings, and a fair sample of each slice of its range.

    interval of z = ceil(z / max * n_intervals) - 1        equal slices of (0, max], 0 = the weakest

From each interval the firings with the smallest hash of (seed, latent, row) are kept: a uniform sample without
replacement that no chunking can change. Ties between strongest firings go to the earlier row. A window is the rows
around a firing inside its own sequence, with this latent's activation on each of them.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from interp.features.chunks import Chunk

TOP, INTERVAL = "top", "interval"


@dataclass(frozen=True)
class Windows:
    """Windows of `len(self.start)` examples, one after the other; window i is [offsets[i], offsets[i + 1])."""

    start: np.ndarray
    offsets: np.ndarray
    tokens: np.ndarray
    values: np.ndarray


class Examples:
    """Keeps `n_top` firings of a latent and `n_sample` of each of its intervals."""

    def __init__(self, maxima: np.ndarray, *, n_top: int, n_sample: int, n_intervals: int, seed: int):
        d_sae = len(maxima)
        self.maxima, self.seed = maxima, np.uint64(seed)
        self.counts = np.zeros((d_sae, n_intervals), np.int64)
        self.top_values = np.zeros((d_sae, n_top), np.float32)
        self.top_rows = np.full((d_sae, n_top), -1, np.int64)
        shape = (d_sae, n_intervals, n_sample)
        self.hashes = np.full(shape, np.iinfo(np.uint64).max, np.uint64)
        self.sample_values = np.zeros(shape, np.float32)
        self.sample_rows = np.full(shape, -1, np.int64)

    def add(self, chunk: Chunk) -> None:
        args = (chunk.columns.offsets, chunk.columns.rows, chunk.columns.values, chunk.start)
        _add_top(*args, self.top_values, self.top_rows)
        _add_sample(*args, self.maxima, self.seed, self.counts, self.hashes, self.sample_values, self.sample_rows)

    def interval_table(self) -> dict[str, np.ndarray]:
        latent, interval = (i.reshape(-1) for i in np.indices(self.counts.shape))
        width = self.maxima[latent].astype(np.float64) / self.counts.shape[1]
        columns = {"latent": latent, "interval": interval, "low": interval * width, "high": (interval + 1) * width}
        alive = self.maxima[latent] > 0
        return {key: column[alive] for key, column in {**columns, "n": self.counts.reshape(-1)}.items()}

    def listed(self, first: int, last: int) -> dict[str, np.ndarray]:
        """The kept firings of latents first .. last: all columns of the examples table but the windows."""
        top, sample = self.top_rows[first:last], self.sample_rows[first:last]
        t_latent, t_rank = np.nonzero(top >= 0)
        s_latent, s_interval, s_rank = np.nonzero(sample >= 0)
        values = self.top_values[first:last][t_latent, t_rank], self.sample_values[first:last][sample >= 0]
        intervals = _interval(values[0], self.maxima[first + t_latent], self.counts.shape[1])
        columns = {
            "latent": np.concatenate([t_latent, s_latent]) + first,
            "kind": np.repeat([TOP, INTERVAL], [len(t_latent), len(s_latent)]),
            "interval": np.concatenate([intervals, s_interval]),
            "rank": np.concatenate([t_rank, s_rank]),
            "row": np.concatenate([top[top >= 0], sample[sample >= 0]]),
            "value": np.concatenate(values),
        }
        order = columns["latent"].argsort(kind="stable")
        return {key: column[order] for key, column in columns.items()}


def empty_windows(rows: np.ndarray, tokens: np.ndarray, *, before: int, after: int) -> Windows:
    """The windows of firings at `rows`, all activations 0 until `fill_windows` has seen every chunk."""
    n_ctx = tokens.shape[1]
    first = rows - rows % n_ctx
    start = np.maximum(rows - before, first)
    lengths = np.minimum(rows + after + 1, first + n_ctx) - start
    offsets = np.concatenate([[0], lengths.cumsum()])
    at = np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Windows(start, offsets, tokens.reshape(-1)[at], np.zeros(len(at), np.float32))


def fill_windows(windows: Windows, latents: np.ndarray, order: np.ndarray, chunk: Chunk) -> None:
    """Write the activations of one chunk. `order` sorts the windows by start."""
    stop = chunk.start + len(chunk.tokens)
    low, high = np.searchsorted(windows.start, [chunk.start, stop], sorter=order)
    _fill(
        order[low:high],
        latents,
        windows.start,
        windows.offsets,
        windows.values,
        chunk.start,
        chunk.offsets,
        chunk.latents,
        chunk.values,
    )


def _interval(value: np.ndarray, maximum: np.ndarray, n_intervals: int) -> np.ndarray:
    return np.ceil(value.astype(np.float64) * n_intervals / maximum).astype(np.int32) - 1


@njit(cache=True, nogil=True)
def _hash(seed, latent, row):
    """splitmix64 of the row, keyed by seed and latent."""
    x = seed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(latent)
    for word in (np.uint64(row), np.uint64(0)):
        x += word + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


@njit(cache=True, nogil=True)
def _add_top(offsets, rows, values, start, top_values, top_rows):
    k = top_values.shape[1]
    for j in range(len(offsets) - 1):
        for e in range(offsets[j], offsets[j + 1]):
            v = values[e]
            if k == 0 or v <= top_values[j, k - 1]:
                continue
            at = k - 1
            while at > 0 and top_values[j, at - 1] < v:
                top_values[j, at], top_rows[j, at] = top_values[j, at - 1], top_rows[j, at - 1]
                at -= 1
            top_values[j, at], top_rows[j, at] = v, start + rows[e]


@njit(cache=True, nogil=True)
def _add_sample(offsets, rows, values, start, maxima, seed, counts, hashes, sample_values, sample_rows):
    n_intervals, k = hashes.shape[1:]
    for j in range(len(offsets) - 1):
        for e in range(offsets[j], offsets[j + 1]):
            i = int(np.ceil(np.float64(values[e]) * n_intervals / maxima[j])) - 1
            counts[j, i] += 1
            if k == 0:
                continue
            row = start + rows[e]
            h = _hash(seed, j, row)
            if h >= hashes[j, i, k - 1]:
                continue
            at = k - 1
            while at > 0 and hashes[j, i, at - 1] > h:
                hashes[j, i, at] = hashes[j, i, at - 1]
                sample_values[j, i, at], sample_rows[j, i, at] = sample_values[j, i, at - 1], sample_rows[j, i, at - 1]
                at -= 1
            hashes[j, i, at], sample_values[j, i, at], sample_rows[j, i, at] = h, values[e], row


@njit(cache=True, nogil=True)
def _fill(which, window_latents, starts, window_offsets, window_values, chunk_start, offsets, latents, values):
    for i in which:
        for t in range(window_offsets[i + 1] - window_offsets[i]):
            row = starts[i] + t - chunk_start
            for e in range(offsets[row], offsets[row + 1]):
                if latents[e] == window_latents[i]:
                    window_values[window_offsets[i] + t] = values[e]
                    break
