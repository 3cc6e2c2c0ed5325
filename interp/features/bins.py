"""Add up neighbouring bins of a latent's histogram, for the page, figures and other tools.

A feature store counts firings in 16 bins from each power of two to the next, equally wide: on a log axis, the first is
twice as wide as the last. A bar for each would be twice as high just above a power of two as just below, whatever
fires. So they are added up to bars about equally wide on a log axis.
"""

import itertools

import numpy as np
from numpy.typing import ArrayLike

_SIXTEENTHS = ((16, 19, 23, 27), (16, 20, 25), (16, 23), (16,))
"""Where bars begin in an octave, in sixteenths of its lower end, if it has 4, 3, 2 or 1: nearest to equal ratios."""


def log_edges(low: float, high: float, *, at_most: int) -> np.ndarray:
    """Return edges of at most `at_most` bars from `low` or just below to `high` or just above. They are about equally
    wide on a log axis, as narrow as possible, and at least a fourth of an octave wide. 0 < low < high."""
    octaves = np.arange(np.floor(np.log2(low)), np.ceil(np.log2(high)) + 1)
    by_parts = (np.outer(2.0**octaves, starts).reshape(-1) / 16 for starts in _SIXTEENTHS)
    by_octaves = (2.0 ** np.arange(octaves[0], octaves[-1] + 2**k, 2**k) for k in itertools.count(1))
    for edges in itertools.chain(by_parts, by_octaves):
        first, last = np.searchsorted(edges, low, side="right") - 1, np.searchsorted(edges, high)
        if last - first <= at_most:
            return edges[first : last + 1]
    raise AssertionError("unreachable: bars of enough octaves are few")


def merge_bins(low: ArrayLike, high: ArrayLike, n: ArrayLike, *, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges and counts of at most `at_most` bars (`log_edges`) for bins of a feature store without gaps. If
    the first bin begins at 0, it is cut at half its upper edge, since a log axis has no 0."""
    lows, highs = np.asarray(low, float), np.asarray(high, float)
    edges = log_edges(lows[0] if lows[0] > 0 else highs[0] / 2, highs[-1], at_most=at_most)
    bars = np.maximum(np.searchsorted(edges, lows, side="right") - 1, 0)
    return edges, np.bincount(bars, np.asarray(n), len(edges) - 1).astype(np.int64)
