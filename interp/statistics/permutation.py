"""The exact permutation test of a count in one of two groups (Mood's median test with Fisher's exact tails)."""

import math

import numpy as np
from jaxtyping import Float64, Int64
from numba import njit


def permutation_p(
    above_a: Int64[np.ndarray, " test"], above: Int64[np.ndarray, " test"], n_a: int, n: int
) -> Float64[np.ndarray, " test"]:
    """Return the two-sided p of `above_a` of A's n_a documents among the `above` of all n, if the documents of A are
    redrawn: twice the hypergeometric tail on its side of the mean, at most 1."""
    return _tails(above_a.astype(np.int64), above.astype(np.int64), n_a, n)


@njit(cache=True, nogil=True)
def _tails(counts, totals, n_a, n):
    out = np.ones(len(counts))
    for i in range(len(counts)):
        x, total = counts[i], totals[i]
        low = max(0, n_a + total - n)
        high = min(total, n_a)
        step = 1 if x * n >= total * n_a else -1
        term = math.exp(_log_choose(total, x) + _log_choose(n - total, n_a - x) - _log_choose(n, n_a))
        tail, k = 0.0, x
        while low <= k <= high and term > 1e-17 * tail:
            tail += term
            if step > 0:
                term *= (total - k) * (n_a - k) / ((k + 1.0) * (n - total - n_a + k + 1.0))
            else:
                term *= k * (n - total - n_a + k) / ((total - k + 1.0) * (n_a - k + 1.0))
            k += step
        out[i] = min(1.0, 2 * tail)
    return out


@njit(cache=True, nogil=True)
def _log_choose(n, k):
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
