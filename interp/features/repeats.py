"""Which windows of a text repeat each other, so that each counts once.

The window of a position is BEFORE tokens before it, the position, and AFTER behind it: half of what an example shows.
At the edge of its sequence it is moved inwards; where in it the position stands is part of it. Licences, headers, logs
and documents that come twice repeat windows word for word. A latent fires there again because the text is the same,
which is no further evidence of what it means, and a rule fitted on one copy is sure to hold on the other. Words and
idioms are left alone: sixteen tokens are hardly ever the same by chance.

A window counts where it stands first, in token order. Repeats in one sequence all count: there the model sees the
earlier ones, so that the later are something new to it.

Source: own; as corpora are deduplicated (Lee et al. 2022), by windows instead of documents. Cost: 0.1 µs a position,
and a byte; the table of windows takes 50 MB at most, and a longer text a pass for every MAX_WINDOWS positions.
Failing: windows that differ in one token, as by a date, are two; two in 2^64 are taken for one.
"""

import numpy as np
from jaxtyping import Bool, Int
from numba import njit

from interp.files import splitmix64

BEFORE, AFTER = 11, 4
MAX_WINDOWS = 1 << 21
_MULTIPLIER = np.uint64(0xD1342543DE82EF95)
_mix = njit(cache=True, nogil=True)(splitmix64)


def first_windows(tokens: Int[np.ndarray, "seq pos"]) -> Bool[np.ndarray, " row"]:
    """Whether the window of each row stands in no earlier sequence."""
    flat, n_parts = np.ascontiguousarray(tokens).reshape(-1), max(1, -(-tokens.size // MAX_WINDOWS))
    size = 1 << max(1, int(2 * min(tokens.size, MAX_WINDOWS)).bit_length())
    out = np.ones(flat.size, bool)
    for part in range(n_parts):
        keys, sequences = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        _find_repeats(flat, tokens.shape[1], part, n_parts, keys, sequences, out)
    return out


@njit(cache=True, nogil=True)
def window_key(tokens, n_ctx, row):
    """A hash of the window of a row."""
    position = row % n_ctx
    start = max(0, min(position - BEFORE, n_ctx - 1 - BEFORE - AFTER))
    key = np.uint64(position - start)
    for at in range(row - position + start, row - position + min(start + BEFORE + AFTER + 1, n_ctx)):
        key = key * _MULTIPLIER + np.uint64(tokens[at] + 1)
    return _mix(key)


@njit(cache=True, nogil=True)
def _find_repeats(tokens, n_ctx, part, n_parts, keys, sequences, out):
    """Of the windows of one part, by their keys: a table with the first sequence of each."""
    last = np.uint64(len(keys) - 1)
    for row in range(len(tokens)):
        key, sequence = window_key(tokens, n_ctx, row), row // n_ctx
        if key % np.uint64(n_parts) != np.uint64(part):
            continue
        place = (key >> np.uint64(20)) & last
        while sequences[place] >= 0 and keys[place] != key:
            place = (place + np.uint64(1)) & last
        if sequences[place] < 0:
            keys[place], sequences[place] = key, sequence
        out[row] = sequences[place] == sequence
