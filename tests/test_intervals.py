"""The interval of a share against scipy's."""

import pytest
from scipy.stats import binomtest

from interp.features.intervals import wilson


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (1, 40), (13, 21), (300, 384)])
def test_the_interval_is_that_of_the_score_test(k, n):
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_none_all_and_nothing_have_an_interval_too():
    (low, high), (below, above) = wilson(0, 20), wilson(20, 20)
    assert low == 0 < high < 0.2 and 0.8 < below < 1 == above
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match=r"k=3 must be in 0\.\.n=2"):
        wilson(3, 2)
