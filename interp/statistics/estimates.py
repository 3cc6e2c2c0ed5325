"""Counts, shares, means and medians with their 95 % intervals, and the largest of many values by chance."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from interp.checks.errors import InterpError

_N_DRAWS = 1000
_SURELY_ABOVE = 0.975
"""The quantile of the largest of n normal draws above which a value is more than chance."""
_ROUNDING = 1e-10
"""The share of a sum of millions of float64 numbers that rounding may change."""
_NUMBERS_AT_ONCE = 1 << 22
"""Numbers that are counted, or that a bootstrap draws, per block."""


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def __repr__(self) -> str:
        return f"Estimate({self})"

    def _repr_html_(self) -> str:
        """Show the number, with a drawing of its interval if that is inside [0, 1]."""
        from interp.display import cards

        inside = 0 <= self.low and self.high <= 1
        return cards.interval_mark(*self) if inside else cards.markup(self)


def count_ids(ids: Int[np.ndarray, "..."], n: int) -> Int64[np.ndarray, " id"]:
    """Count how often each id of 0..n−1 occurs, in blocks: numpy copies what it counts into 8 bytes each."""
    flat = ids.reshape(-1)
    counts = np.zeros(n, np.int64)
    for start in range(0, len(flat), _NUMBERS_AT_ONCE):
        counts += np.bincount(flat[start : start + _NUMBERS_AT_ONCE], minlength=n)
    return counts


def ratio(above: Any, below: Any, *, empty: float = np.nan) -> Float64[np.ndarray, "..."]:
    """Return above / below in float64, with broadcasting. Where `below` is not above 0, the result is `empty`."""
    a, b = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(a, b, out=np.full(a.shape, empty), where=b > 0)


def variance(mean_square: Any, mean: Any) -> Float64[np.ndarray, "..."]:
    """Return the variance, mean_square − mean². It is 0 where so little is left that it may all be rounding of long
    sums, as of a constant."""
    difference = mean_square - np.square(mean)
    return np.where(difference > _ROUNDING * mean_square, difference, 0.0)


def wilson(k: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the share k / n (Wilson 1927), the inverted score test, with z = 1.96:

        (k + z²/2 ± z √(k (n − k) / n + z²/4)) / (n + z²)

    For k = 0 or k = n it is still wider than a point; for n = 0 it is [0, 1]. Raises ValueError unless 0 ≤ k ≤ n.
    """
    if not 0 <= k <= n:
        raise InterpError(f"k={k} must be in 0..n={n}")
    if n == 0:
        return 0.0, 1.0
    z = 1.96
    centre, spread = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, float(centre - spread)), min(1.0, float(centre + spread))


def share_difference(counts: Sequence[int], sizes: Sequence[int]) -> Estimate:
    """Return the difference of two shares, counts / sizes, with its 95 % interval (`difference`), which follows from
    Wilson's interval of each share."""
    a, b = (Estimate(k / n, *wilson(k, n)) for k, n in zip(counts, sizes, strict=True))
    return difference(a, b)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return the difference of two shares with its 95 % interval, by their own intervals (Newcombe 1998, method 10)."""
    below = math.hypot(a.value - a.low, b.high - b.value)
    beyond = math.hypot(a.high - a.value, b.value - b.low)
    between = a.value - b.value
    return Estimate(between, between - below, between + beyond)


def bootstrap(
    values: Float[np.ndarray, " n"], statistic: Callable[..., np.ndarray] = np.mean, *, seed: int = 0
) -> Estimate:
    """Estimate a statistic (numpy's, with `axis`) of the values that are not NaN, by resampling with replacement.

    Returns NaN if there are no values."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    generator = np.random.default_rng(seed)
    draws = []
    step = max(1, _NUMBERS_AT_ONCE // len(values))
    for start in range(0, _N_DRAWS, step):
        n = min(step, _N_DRAWS - start)
        draws.append(statistic(values[generator.integers(len(values), size=(n, len(values)))], axis=1))
    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    return Estimate(float(statistic(values, axis=0)), float(low), float(high))


def largest_by_chance(n: int) -> float:
    """Return what the largest of n normal draws hardly ever exceeds, in standard deviations."""
    return NormalDist().inv_cdf(_SURELY_ABOVE ** (1 / n))
