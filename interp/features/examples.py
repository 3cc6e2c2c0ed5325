"""Where a latent fires: its strongest firings, and a fair sample of each slice of its range.

    interval of z = ceil(z / max * n_intervals) - 1        equal slices of (0, max], 0 = the weakest

From each interval the firings with the smallest hash of (seed, latent, row) are kept: a uniform sample without
replacement that no chunking can change. Ties between strongest firings go to the earlier row. A window is the rows
around a firing inside its own sequence, with this latent's activation on each of them.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from interp.features.chunks import Columns, Rows, insert_best
from interp.features.firing import FiringStatistics
from interp.features.scan_config import ScanConfig
from interp.features.tables import ragged
from interp.files import splitmix64

TOP, INTERVAL = "top", "interval"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_hashed = njit(cache=True, nogil=True)(splitmix64)


class Examples(NamedTuple):
    """Where the kept firings of each latent stand in the columns; −1 behind the last of each row."""

    counts: np.ndarray
    """Firings of each "latent interval"."""
    top: np.ndarray
    """Entries "latent rank", the strongest first."""
    sample: np.ndarray
    """Entries "latent interval rank"."""


def pick_examples(columns: Columns, firing: FiringStatistics, config: ScanConfig) -> Examples:
    sizes = config.n_intervals, config.n_top, config.n_per_interval
    return Examples(*_pick(*columns, firing.maxima, np.uint64(config.seed), *sizes))


def interval_table(examples: Examples, firing: FiringStatistics) -> dict[str, np.ndarray]:
    """The table `intervals`, of the latents that fire."""
    latent, interval = (i.reshape(-1) for i in np.indices(examples.counts.shape))
    width = firing.maxima[latent].astype(np.float64) / examples.counts.shape[1]
    low, high = interval * width, (interval + 1) * width
    columns = {"latent": firing.first + latent, "interval": interval, "low": low, "high": high}
    alive = firing.maxima[latent] > 0
    return {key: column[alive] for key, column in {**columns, "n": examples.counts.reshape(-1)}.items()}


def example_table(examples: Examples, columns: Columns, firing: FiringStatistics, rows: Rows) -> dict[str, Any]:
    """The table `examples`: the kept firings in their windows."""
    config = rows.config
    t_latent, t_rank = np.nonzero(examples.top >= 0)
    s_latent, s_interval, s_rank = np.nonzero(examples.sample >= 0)
    latent = np.concatenate([t_latent, s_latent])
    at = np.concatenate([x[x >= 0] for x in (examples.top, examples.sample)])
    top_values = columns.values[at[: len(t_latent)]].astype(np.float64)
    top_interval = np.ceil(top_values * config.n_intervals / firing.maxima[t_latent]).astype(np.int32) - 1
    order = latent.argsort(kind="stable")
    latent, at = latent[order], at[order]
    row, flat = columns.rows[at], rows.tokens.reshape(-1)
    first = row - row % rows.n_ctx
    start = np.maximum(row - config.window_before, first)
    lengths = np.minimum(row + config.window_after + 1, first + rows.n_ctx) - start
    offsets = np.concatenate([[0], lengths.cumsum()])
    places = np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])
    values = np.zeros(len(places), np.float32)
    _fill(latent, at, start, offsets, columns.offsets, columns.rows, columns.values, values)
    return {
        "latent": columns.first + latent,
        "kind": np.repeat([TOP, INTERVAL], [len(t_latent), len(s_latent)])[order],
        "interval": np.concatenate([top_interval, s_interval])[order],
        "rank": np.concatenate([t_rank, s_rank])[order],
        "row": row,
        "value": columns.values[at],
        "start": start,
        "tokens": ragged(flat[places], offsets),
        "values": ragged(values, offsets),
    }


@njit(cache=True, nogil=True)
def _pick(first, offsets, rows, values, maxima, seed, n_intervals, n_top, n_sample):
    d = len(maxima)
    counts = np.zeros((d, n_intervals), np.int64)
    top, sample = np.full((d, n_top), -1, np.int64), np.full((d, n_intervals, n_sample), -1, np.int64)
    for j in range(d):
        key = seed * _GOLDEN + np.uint64(first + j)
        strongest, hashes = np.zeros(n_top, np.float32), np.zeros((n_intervals, n_sample), np.uint64)
        for e in range(offsets[j], offsets[j + 1]):
            i = int(np.ceil(np.float64(values[e]) * n_intervals / maxima[j])) - 1
            counts[j, i] += 1
            if n_top:
                insert_best(values[e], e, strongest, top[j])
            if n_sample:
                insert_best(~_hashed(_hashed(key + np.uint64(rows[e]))), e, hashes[i], sample[j, i])
    return counts, top, sample


@njit(cache=True, nogil=True)
def _fill(latents, at, starts, window_offsets, offsets, rows, values, out):
    """The activations in the window of each entry `at` of a latent: those of the entries around it."""
    for i in range(len(at)):
        base, size = window_offsets[i], window_offsets[i + 1] - window_offsets[i]
        e = at[i]
        while e >= offsets[latents[i]] and rows[e] >= starts[i]:
            out[base + rows[e] - starts[i]] = values[e]
            e -= 1
        e = at[i] + 1
        while e < offsets[latents[i] + 1] and rows[e] < starts[i] + size:
            out[base + rows[e] - starts[i]] = values[e]
            e += 1
