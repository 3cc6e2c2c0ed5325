"""Add up neighbouring bins of a histogram, for the page, figures and other tools."""

import math

import numpy as np
from numpy.typing import ArrayLike


def merge_bins(low: ArrayLike, high: ArrayLike, n: ArrayLike, *, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges and counts of at most `at_most` bins, each the sum of equally many neighbours. The given bins
    must leave no gaps. If the first bin begins at 0, it is cut at half its upper edge, since a log axis has no 0."""
    lows, highs, counts = np.asarray(low, float), np.asarray(high, float), np.asarray(n)
    step = math.ceil(len(counts) / at_most)
    first = lows[0] if lows[0] > 0 else highs[0] / 2
    edges = np.concatenate([[first], lows[step::step], highs[-1:]])
    return edges, np.add.reduceat(counts, np.arange(0, len(counts), step))
