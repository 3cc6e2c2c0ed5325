"""Pick examples of a latent's firings: its strongest firings and a fair sample of each slice of its range.

    interval of z = ceil(z / max * N_INTERVALS) - 1        equal slices of (0, max], 0 = the weakest

The strongest firings are those with the largest z; of equal ones, the earlier row. From each interval, the firings with
the smallest hash of (seed, latent, row) are kept. They are a uniform sample without replacement, which does not depend
on chunks. A firing with the same window as an earlier one is left out, so each example shows different text. Counts
cover all firings. An example shows the rows around the firing inside its own sequence, with this latent's activation on
each of them.

The window of a position has the BEFORE tokens before it, its own, and the AFTER tokens after it: half as many as an
example shows. At the edge of its sequence the window is moved inwards. Two windows are the same only if the position
has the same place in both. Licences, headers, logs and repeated documents repeat windows word for word. A latent fires
there again because the text is the same. This is no further evidence of its meaning, and a rule fitted on one copy is
certain to hold on the other. Words and idioms still count each time, as sixteen tokens are hardly ever the same by
chance.

A window counts at its first occurrence, in token order. Repeats within one sequence all count: the model sees the
earlier copy, so the context of the later copy is different.

Source: the method is our own. It is similar to the deduplication of corpora (Lee et al. 2022), with windows instead of
documents. Cost: a hash and a byte per position. The table of windows takes at most 50 MB; a longer text takes one pass
per MAX_WINDOWS positions. Limits: windows that differ in one token, such as a date, count as two. Two different windows
are taken for one with a chance of 2^-64.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int
from numba import njit

from interp.codes.offsets import offsets_from_lengths
from interp.features.firing_statistics import FiringStatistics
from interp.features.scan_input import FiringsByLatent, ScanInput
from interp.statistics.randomness import splitmix64

BEFORE, AFTER = 11, 4
SHOWN_BEFORE = 20
"""Tokens shown before an example's firing token. With SHOWN_AFTER they fill two lines of a page."""
SHOWN_AFTER = 11
"""Tokens shown after an example's firing token."""
N_INTERVALS = 5
"""Number of equal slices of (0, max]. It suffices to compare the meaning of weak and strong firings."""
MAX_WINDOWS = 1 << 21
_WINDOW_MULTIPLIER = np.uint64(0xD1342543DE82EF95)
_hashed = njit(cache=True, nogil=True)(splitmix64)


class Examples(NamedTuple):
    """The entries, in the columns, of the firings that are kept for each latent. −1 fills the rest of a row."""

    counts: np.ndarray
    """Number of firings [latent, interval]."""
    top: np.ndarray
    """Entries [latent, rank], the strongest first."""
    sample: np.ndarray
    """Entries [latent, interval, rank]."""


def pick_examples(firings: FiringsByLatent, statistics: FiringStatistics, scan: ScanInput) -> Examples:
    """Pick the examples of some latents."""
    config = scan.config
    counts, top, sample = _pick(
        firings.first,
        firings.offsets,
        firings.rows,
        firings.values,
        statistics.maxima,
        scan.tokens.reshape(-1),
        scan.n_ctx,
        np.uint64(config.seed),
        N_INTERVALS,
        config.n_top,
        config.n_per_interval,
    )
    return Examples(counts, top, sample)


def interval_table(examples: Examples, statistics: FiringStatistics) -> dict[str, np.ndarray]:
    """Return the table `intervals` for the latents that fire."""
    latent, interval = (i.reshape(-1) for i in np.indices(examples.counts.shape))
    width = statistics.maxima[latent].astype(np.float64) / examples.counts.shape[1]
    low, high = interval * width, (interval + 1) * width
    columns = {"latent": statistics.first + latent, "interval": interval, "low": low, "high": high}
    alive = statistics.maxima[latent] > 0
    return {key: column[alive] for key, column in {**columns, "n": examples.counts.reshape(-1)}.items()}


def example_table(
    examples: Examples, firings: FiringsByLatent, statistics: FiringStatistics, scan: ScanInput
) -> dict[str, Any]:
    """Return the table `examples`: the firings that are kept, with their windows."""
    t_latent, t_rank = np.nonzero(examples.top >= 0)
    s_latent, s_interval, s_rank = np.nonzero(examples.sample >= 0)
    latent = np.concatenate([t_latent, s_latent])
    entry = np.concatenate([x[x >= 0] for x in (examples.top, examples.sample)])
    top_values = firings.values[entry[: len(t_latent)]].astype(np.float64)
    top_interval = np.ceil(top_values * N_INTERVALS / statistics.maxima[t_latent]).astype(np.int32) - 1
    order = latent.argsort(kind="stable")
    latent, entry = latent[order], entry[order]
    row = firings.rows[entry]
    flat = scan.tokens.reshape(-1)
    start, stop = rows_around(row, scan.n_ctx, SHOWN_BEFORE, SHOWN_AFTER)
    lengths = stop - start
    offsets = offsets_from_lengths(lengths)
    rows_shown = np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])
    values = np.zeros(len(rows_shown), np.float32)
    _fill(latent, entry, start, offsets, firings.offsets, firings.rows, firings.values, values)
    return {
        "latent": firings.first + latent,
        "kind": np.repeat(["top", "interval"], [len(t_latent), len(s_latent)])[order],
        "interval": np.concatenate([top_interval, s_interval])[order],
        "rank": np.concatenate([t_rank, s_rank])[order],
        "row": row,
        "value": firings.values[entry],
        "start": start,
        "tokens": _list_array(flat[rows_shown], offsets),
        "values": _list_array(values, offsets),
    }


def rows_around(row: Int[np.ndarray, "..."] | int, n_ctx: int, before: int, after: int) -> tuple[Any, Any]:
    """Return the first of the `before` rows before a row, and the row that follows the `after` rows after it. Both stay
    inside the row's sequence. For an array of rows, both are arrays."""
    first = row - row % n_ctx
    return np.maximum(row - before, first), np.minimum(row + after + 1, first + n_ctx)


def first_windows(tokens: Int[np.ndarray, "seq pos"]) -> Bool[np.ndarray, " row"]:
    """Mark the rows whose window does not occur in an earlier sequence."""
    flat = np.ascontiguousarray(tokens).reshape(-1)
    n_parts = max(1, math.ceil(tokens.size / MAX_WINDOWS))
    size = 1 << max(1, int(2 * min(tokens.size, MAX_WINDOWS)).bit_length())
    out = np.ones(flat.size, bool)
    for part in range(n_parts):
        keys = np.zeros(size, np.uint64)
        sequences = np.full(size, -1, np.int32)
        _find_repeats(flat, tokens.shape[1], part, n_parts, keys, sequences, out)
    return out


def _list_array(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    """Return a list column: row i is values[offsets[i]:offsets[i + 1]]."""
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


@njit(cache=True, nogil=True)
def window_key(tokens, n_ctx, row):
    """Return a hash of the window of a row."""
    position = row % n_ctx
    start = max(0, min(position - BEFORE, n_ctx - 1 - BEFORE - AFTER))
    key = np.uint64(position - start)
    for neighbour in range(row - position + start, row - position + min(start + BEFORE + AFTER + 1, n_ctx)):
        key = key * _WINDOW_MULTIPLIER + np.uint64(tokens[neighbour] + 1)
    return _hashed(key)


@njit(cache=True, nogil=True)
def _find_repeats(tokens, n_ctx, part, n_parts, keys, sequences, out):
    """Find the windows of one part that occur in an earlier sequence. A table has the first sequence of each key.

    The keys are those of `window_key`. As the window moves on by a token, its hash loses one term and gains one."""
    last = np.uint64(len(keys) - 1)
    length = min(BEFORE + AFTER + 1, n_ctx)
    top = np.uint64(1)  # the factor of a window's first token
    for _ in range(length - 1):
        top *= _WINDOW_MULTIPLIER
    for row in range(len(tokens)):
        position = row % n_ctx
        sequence = row // n_ctx
        start = max(0, min(position - BEFORE, n_ctx - length))
        end = row - position + start + length
        if position == 0:
            of_tokens = np.uint64(0)
            for neighbour in range(row, end):
                of_tokens = of_tokens * _WINDOW_MULTIPLIER + np.uint64(tokens[neighbour] + 1)
        elif start and start == position - BEFORE:  # it has moved on since the last row
            of_tokens -= np.uint64(tokens[end - 1 - length] + 1) * top
            of_tokens = of_tokens * _WINDOW_MULTIPLIER + np.uint64(tokens[end - 1] + 1)
        key = _hashed(np.uint64(position - start) * top * _WINDOW_MULTIPLIER + of_tokens)
        if key % np.uint64(n_parts) != np.uint64(part):
            continue
        slot = (key >> np.uint64(20)) & last
        while sequences[slot] >= 0 and keys[slot] != key:
            slot = (slot + np.uint64(1)) & last
        if sequences[slot] < 0:
            keys[slot], sequences[slot] = key, sequence
        out[row] = sequences[slot] == sequence


@njit(cache=True, nogil=True)
def _pick(first, offsets, rows, values, maxima, tokens, n_ctx, seed, n_intervals, n_top, n_sample):
    d = len(maxima)
    counts = np.zeros((d, n_intervals), np.int64)
    top = np.full((d, n_top), -1, np.int64)
    sample = np.full((d, n_intervals, n_sample), -1, np.int64)
    for j in range(d):
        key = _hashed(_hashed(seed) + np.uint64(first + j))
        strongest = np.zeros(n_top, np.float32)
        top_windows = np.zeros(n_top, np.uint64)
        hashes = np.zeros((n_intervals, n_sample), np.uint64)
        windows = np.zeros((n_intervals, n_sample), np.uint64)
        for e in range(offsets[j], offsets[j + 1]):
            i = int(np.ceil(np.float64(values[e]) * n_intervals / maxima[j])) - 1
            counts[j, i] += 1
            if n_top and (values[e] > strongest[-1] or top[j, -1] < 0):
                window = window_key(tokens, n_ctx, rows[e])
                _insert(values[e], e, window, strongest, top[j], top_windows)
            hashed = ~_hashed(key + np.uint64(rows[e]))
            if n_sample and (hashed > hashes[i, -1] or sample[j, i, -1] < 0):
                window = window_key(tokens, n_ctx, rows[e])
                _insert(hashed, e, window, hashes[i], sample[j, i], windows[i])
    return counts, top, sample


@njit(cache=True, nogil=True)
def _insert(score, item, window, scores, items, windows):
    """Insert an item among the best items if its score beats the last one. They are sorted by score and have distinct
    windows. Of items with one window and equal scores, the first is kept."""
    slot = len(scores) - 1
    for other in range(slot):
        if items[other] >= 0 and windows[other] == window:
            slot = other
    if items[slot] >= 0 and score <= scores[slot]:
        return
    while slot > 0 and (items[slot - 1] < 0 or score > scores[slot - 1]):
        scores[slot], items[slot], windows[slot] = scores[slot - 1], items[slot - 1], windows[slot - 1]
        slot -= 1
    scores[slot], items[slot], windows[slot] = score, item, window


@njit(cache=True, nogil=True)
def _fill(latents, entry, starts, window_offsets, offsets, rows, values, out):
    """Fill in the latent's activations in the window of each entry. They are found among the neighbouring entries."""
    for i in range(len(entry)):
        base = window_offsets[i]
        size = window_offsets[i + 1] - window_offsets[i]
        e = entry[i]
        while e >= offsets[latents[i]] and rows[e] >= starts[i]:
            out[base + rows[e] - starts[i]] = values[e]
            e -= 1
        e = entry[i] + 1
        while e < offsets[latents[i] + 1] and rows[e] < starts[i] + size:
            out[base + rows[e] - starts[i]] = values[e]
            e += 1
