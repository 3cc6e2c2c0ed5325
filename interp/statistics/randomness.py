"""Hashes and shuffles that depend on a seed alone."""

from typing import Any

import numpy as np
from jaxtyping import Int64

GOLDEN_64 = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio, made odd: multiples of it spread evenly over 64 bits (Knuth, vol. 3, section 6.4)."""


def splitmix64(x: Any) -> Any:
    """Hash uint64 numbers, one or an array, to uint64 by SplitMix64 (Steele, Lea and Flood 2014). The results look
    random.

    To hash several keys with a seed, chain the calls: splitmix64(splitmix64(seed) + key), in uint64 throughout. In
    compiled loops use `hashed = njit(cache=True, nogil=True)(splitmix64)`, which gives the same numbers. NumPy scalars
    warn as they wrap around; arrays and compiled code do not.
    """
    x = x + GOLDEN_64
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shuffled_range(n: int, seed: int, *key: int) -> Int64[np.ndarray, " n"]:
    """Return 0..n-1 in a random order that is fixed by a seed and further numbers."""
    return np.random.default_rng([seed % 2**64, *key]).permutation(n)
