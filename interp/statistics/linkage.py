"""Cluster by average linkage, given a matrix of similarities (Sokal & Michener 1958)."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def average_linkage(r, least):
    """Return the cluster of each row of a matrix of similarities. At first each row is a cluster. The two clusters with
    the largest mean r between them are merged, as long as that mean is at least `least`. SciPy's linkage fails if two
    merges are equally good except for a rounding error."""
    n = len(r)
    between = r.copy()
    size = np.ones(n)
    cluster = np.arange(n)
    while True:
        largest = -1.0
        first = second = 0
        for i in range(n):
            if size[i] > 0:
                for j in range(i):
                    if size[j] > 0 and between[i, j] > largest:
                        largest = between[i, j]
                        first = j
                        second = i
        if largest < least:
            return cluster
        for other in range(n):
            total = size[first] * between[first, other] + size[second] * between[second, other]
            between[first, other] = between[other, first] = total / (size[first] + size[second])
        size[first] += size[second]
        size[second] = 0
        for i in range(n):
            if cluster[i] == second:
                cluster[i] = first
