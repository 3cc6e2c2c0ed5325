"""A sample of each latent's firings in the fit half, from which its rules are proposed.

In: the codes, chunk by chunk. Out: the SAMPLE firings of each latent with the smallest hash of row and latent, as
`monosemanticity.firings` draws them, and how many there are. A latent's keys are a heap, the largest at its top, so
that a firing costs the logarithm of SAMPLE at most.
"""

import numpy as np
from jaxtyping import Bool
from numba import njit

from interp.monosemanticity.firings import CodeChunk, hashed

SAMPLE = 512
"""Firings of a latent that propose rules."""


class FitSample:
    """Filled by a pass over the codes that calls `add`."""

    def __init__(self, d_sae: int, n_ctx: int, half: Bool[np.ndarray, " seq"], seed: int):
        self.n_fire = np.zeros(d_sae, np.int64)
        self.rows = np.full((d_sae, SAMPLE), -1, np.int64)
        """−1 where there are fewer."""
        self._keys = np.full((d_sae, SAMPLE), np.inf)
        self._constants = n_ctx, half, np.uint64(seed)

    def add(self, chunk: CodeChunk) -> None:
        _sample(*chunk[:4], *self._constants, self.n_fire, self._keys, self.rows)


@njit(cache=True, nogil=True)
def _sample(start, offsets, latents, values, n_ctx, half, seed, n_fire, keys, rows):
    for at in range(len(offsets) - 1):
        row = start + at
        if not half[row // n_ctx]:
            continue
        seed_of_row = hashed(seed, np.uint64(row))
        for i in range(offsets[at], offsets[at + 1]):
            latent = latents[i]
            if values[i] > 0:
                key = float(hashed(seed_of_row, np.uint64(latent)) >> np.uint64(11))
                if n_fire[latent] < keys.shape[1]:
                    _rise(keys[latent], rows[latent], n_fire[latent], key, row)
                elif key < keys[latent, 0]:
                    _sink(keys[latent], rows[latent], key, row)
                n_fire[latent] += 1


@njit(cache=True, nogil=True)
def _rise(keys, rows, place, key, row):
    """Put a key at the place behind the last."""
    while place > 0 and keys[(place - 1) // 2] < key:
        keys[place], rows[place] = keys[(place - 1) // 2], rows[(place - 1) // 2]
        place = (place - 1) // 2
    keys[place], rows[place] = key, row


@njit(cache=True, nogil=True)
def _sink(keys, rows, key, row):
    """Put a key in the place of the largest."""
    place, below = 0, 1
    while below < len(keys):
        if below + 1 < len(keys) and keys[below + 1] > keys[below]:
            below += 1
        if keys[below] <= key:
            break
        keys[place], rows[place] = keys[below], rows[below]
        place, below = below, 2 * below + 1
    keys[place], rows[place] = key, row
