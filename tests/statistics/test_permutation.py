"""The exact permutation test against enumeration and SciPy's hypergeometric tails."""

import itertools

import numpy as np
import pytest
import scipy.stats

from interp.statistics.permutation import permutation_p


def test_tails_are_those_of_every_way_to_draw_the_documents():
    n, n_a = 9, 4
    for total in range(1, n):
        above = np.arange(n) < total
        counts = np.array([above[list(drawn)].sum() for drawn in itertools.combinations(range(n), n_a)])
        for x in range(max(0, n_a + total - n), min(total, n_a) + 1):
            tail = (counts >= x).mean() if x >= total * n_a / n else (counts <= x).mean()
            found = permutation_p(np.array([x]), np.array([total]), n_a, n)
            assert found[0] == pytest.approx(min(1, 2 * tail))
    x, total = np.array([700, 260, 41, 0]), np.array([1500, 900, 60, 30])
    upper, lower = (
        f(at, 5000, total, 2000) for f, at in ((scipy.stats.hypergeom.sf, x - 1), (scipy.stats.hypergeom.cdf, x))
    )
    expected = 2 * np.where(x >= total * 0.4, upper, lower)
    np.testing.assert_allclose(permutation_p(x, total, 2000, 5000), expected, rtol=1e-8)
