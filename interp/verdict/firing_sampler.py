"""Sample the firings of every latent in one pass over codes of any producer.

In: chunks of codes. Out: for each latent and slice of its strength, rows on which it fires, drawn uniformly.

Source: the smallest of hashed keys, a bottom-k sample (Cohen & Kaplan 2007). Cost: a few hashes per firing.
Limits: a meaning with a hundredth of the firings has one or two in the sample.
"""

import math

import numpy as np
from jaxtyping import Float64
from numba import njit

from interp.codes.code_chunks import CodeChunk
from interp.statistics.randomness import GOLDEN_64, splitmix64

_KEYS_PER_BLOCK = 16  # size of the blocks whose largest key is kept, which saves a search of all keys


class FiringSampler:
    """A uniform sample of `size` firings for each latent and slice of (0, 1], at most one from each group: the firings
    with the smallest hash of row and latent, so that the sample depends on the seed alone. A strength is a code divided
    by its latent's maximum."""

    def __init__(self, d_sae: int, n_slices: int, size: int, seed: int, rows_per_group: int):
        self.rows = np.full((d_sae, n_slices, size), -1, np.int64)  # −1 if a slice has fewer firings
        # The sum of the strengths of all firings of each slice, sampled or not, and their number.
        self.mass = np.zeros((d_sae, n_slices))
        self.count = np.zeros((d_sae, n_slices), np.int64)
        self._keys = np.full((d_sae, n_slices, size), np.inf)
        self._last = np.full((d_sae, n_slices, 2), -1, np.int64)  # the newest entry's group and slot
        n_blocks = math.ceil(size / _KEYS_PER_BLOCK)
        self._worst = np.full((d_sae, n_slices, 1 + n_blocks), np.inf)  # the largest key, then of each block
        self._rows_per_group = rows_per_group
        self._seed = np.uint64(seed)

    def add(self, chunk: CodeChunk) -> None:
        _sample(
            chunk.start,
            chunk.offsets,
            chunk.latents,
            chunk.values,
            self._rows_per_group,
            self._seed,
            self.rows,
            self.mass,
            self.count,
            self._keys,
            self._last,
            self._worst,
        )

    @property
    def shares(self) -> Float64[np.ndarray, "d_sae slice firing"]:
        """The share of its latent's activation mass that each firing represents: an equal part of its slice's mass."""
        return self._divide_among_sampled(self.mass)

    @property
    def count_shares(self) -> Float64[np.ndarray, "d_sae slice firing"]:
        """The share of its latent's firings that each sampled one represents."""
        return self._divide_among_sampled(self.count)

    def _divide_among_sampled(self, of_slices: np.ndarray) -> Float64[np.ndarray, "d_sae slice firing"]:
        sampled = self.rows >= 0
        of_each = of_slices / np.maximum(sampled.sum(2), 1) / np.maximum(of_slices.sum(1, keepdims=True), 1e-30)
        return sampled * of_each[:, :, None]


_mix = njit(cache=True, nogil=True)(splitmix64)


@njit(cache=True, nogil=True)
def hash_pair(a: np.uint64, b: np.uint64) -> np.uint64:
    return _mix(a * GOLDEN_64 + b + np.uint64(0xC4F46BE25A6A6404))


@njit(cache=True, nogil=True)
def _sample(start, offsets, latents, values, rows_per_group, seed, rows, mass, count, keys, last, worst):
    n_slices, size = keys.shape[1:]
    for row in range(len(offsets) - 1):
        row_seed = hash_pair(seed, np.uint64(start + row))
        group = (start + row) // rows_per_group
        for i in range(offsets[row], offsets[row + 1]):
            latent, value = latents[i], values[i]
            if value == 0:
                continue
            part = min(n_slices - 1, max(0, int(np.ceil(value * n_slices)) - 1))
            mass[latent, part] += value
            count[latent, part] += 1
            key = float(hash_pair(row_seed, np.uint64(latent)) >> np.uint64(11))
            if key >= worst[latent, part, 0]:
                continue
            slice_keys, largest = keys[latent, part], worst[latent, part, 1:]
            if last[latent, part, 0] == group:
                slot = last[latent, part, 1]
                if key >= slice_keys[slot]:
                    continue
            else:
                first = np.argmax(largest) * _KEYS_PER_BLOCK
                slot = first + np.argmax(slice_keys[first : first + _KEYS_PER_BLOCK])
            slice_keys[slot] = key
            rows[latent, part, slot] = start + row
            last[latent, part, 0], last[latent, part, 1] = group, slot
            block = slice_keys[slot - slot % _KEYS_PER_BLOCK :][:_KEYS_PER_BLOCK]
            largest[slot // _KEYS_PER_BLOCK] = block[np.argmax(block)]
            worst[latent, part, 0] = largest[np.argmax(largest)]
