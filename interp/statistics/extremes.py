"""What the largest of many values is by chance."""

from statistics import NormalDist

QUANTILE = 0.975
"""Of the largest of n normal draws, which a value exceeds to be more than chance."""


def largest_by_chance(n: int) -> float:
    """Return what the largest of n normal draws hardly ever exceeds, in standard deviations."""
    return NormalDist().inv_cdf(QUANTILE ** (1 / n))
