"""A number with its 95 % interval, by the bootstrap."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_DRAWS = 1000
_AT_ONCE = 1 << 22


class Estimate(NamedTuple):
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap(
    values: Float[np.ndarray, " n"], statistic: Callable[..., np.ndarray] = np.mean, *, seed: int = 0
) -> Estimate:
    """`statistic` (numpy's, with `axis`) of the values that are not NaN, drawn again with replacement; NaN of none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    generator, found = np.random.default_rng(seed), []
    for n in _parts(_DRAWS, max(1, _AT_ONCE // len(values))):
        drawn = values[generator.integers(len(values), size=(n, len(values)))]
        found.append(statistic(drawn, axis=1))
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975])
    return Estimate(float(statistic(values, axis=0)), float(low), float(high))


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]
