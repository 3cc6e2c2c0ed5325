"""Scaling laws: how a loss falls with size, fitted on small sizes and used to predict larger ones.

    power law      L(x) = a + b x^{−α}  =  a + (x_c / x)^α,   x_c = b^{1/α}
    exponential    L(x) = a + b e^{−c x}
    stretched      L(x) = a + b e^{−c √x}

Each has three parameters, fitted by least squares in the units of the loss. Given the one that enters non-linearly, the
other two are a linear regression, so the fit is a search along a line and does not depend on a start. After Kaplan et
al. (2020, arXiv:2001.08361) with the constant a of Hoffmann et al. (2022, arXiv:2203.15556), which no size removes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.optimize

SHAPES: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "power law": lambda u, rate: u**-rate,
    "exponential": lambda u, rate: np.exp(-rate * u),
    "stretched": lambda u, rate: np.exp(-rate * np.sqrt(u)),
}
"""For each shape, the factor of b as a function of u = x / (geometric mean of all x)."""

_RATES = {"power law": (1e-2, 5.0), "exponential": (1e-3, 1e2), "stretched": (1e-3, 1e2)}


@dataclass(frozen=True)
class ScalingLaw:
    """L(x) = floor + height · g(x / unit; rate), g one of `SHAPES`."""

    shape: str
    floor: float
    """a."""
    height: float
    """b, of x in units of `unit`."""
    rate: float
    """α; c for the other two, of x in units of `unit`."""
    unit: float
    n_points: int
    residual: float
    """Sum of the squared residuals."""

    def __call__(self, x: float | np.ndarray) -> np.ndarray:
        return self.floor + self.height * SHAPES[self.shape](np.asarray(x, float) / self.unit, self.rate)

    @property
    def scale(self) -> float:
        """x_c of a power law: the size at which the loss would stand one unit above the floor."""
        if self.shape != "power law" or self.height <= 0:
            raise ValueError(f"a {self.shape} of height {self.height:.3g} has no scale")
        return self.unit * self.height ** (1 / self.rate)

    @property
    def aic(self) -> float:
        """Akaike's information criterion of normal residuals, n ln(RSS / n) + 2 · 4, the fourth being their variance.
        Lower is better, and only differences on the same points mean anything."""
        return self.n_points * math.log(self.residual / self.n_points) + 8


class Bootstrap(NamedTuple):
    """Percentile intervals of resampled fits, 95 %."""

    rate: tuple[float, float]
    floor: tuple[float, float]


def fit_scaling_law(
    x: np.ndarray, loss: np.ndarray, shape: str = "power law", *, floor: float | None = None
) -> ScalingLaw:
    """Return the law of a shape nearest to the points; with `floor` the constant a is given and two parameters are
    left.

    Raises ValueError on fewer sizes than parameters and on an x that is not positive.
    """
    x, loss = np.asarray(x, float).ravel(), np.asarray(loss, float).ravel()
    free = 3 if floor is None else 2
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r} must be one of {sorted(SHAPES)}")
    if len(x) != len(loss) or len(np.unique(x)) < free or (x <= 0).any():
        raise ValueError(f"{free} parameters need as many positive sizes and a loss for each: x={x}, loss={loss}")
    unit = float(np.exp(np.log(x).mean()))

    def linear(log_rate: float) -> tuple[float, float, float]:
        """Return the residual, floor and height of the best law with this rate."""
        g = SHAPES[shape](x / unit, math.exp(log_rate))
        if floor is not None:
            height = float(g @ (loss - floor) / max(g @ g, 1e-300))
            return float(((loss - floor - height * g) ** 2).sum()), floor, height
        centred = g - g.mean()
        height = float(centred @ loss / max(centred @ centred, 1e-300))
        level = float(loss.mean() - height * g.mean())
        return float(((loss - level - height * g) ** 2).sum()), level, height

    low, high = (math.log(rate) for rate in _RATES[shape])
    grid = np.linspace(low, high, 61)
    nearest = int(np.argmin([linear(log_rate)[0] for log_rate in grid]))
    bounds = grid[max(nearest - 1, 0)], grid[min(nearest + 1, len(grid) - 1)]
    best = scipy.optimize.minimize_scalar(
        lambda r: linear(r)[0], bounds=bounds, method="bounded", options={"xatol": 1e-7}
    )
    residual, level, height = linear(best.x)
    return ScalingLaw(shape, level, height, math.exp(best.x), unit, len(x), residual)


def bootstrap_scaling_law(x: np.ndarray, loss: np.ndarray, *, n: int = 500, seed: int = 0) -> Bootstrap:
    """Return intervals of a power law's exponent and floor when the seeds are drawn anew, for each size alone.

    x: [size]; loss: [size, seed].
    """
    x, loss = np.asarray(x, float), np.asarray(loss, float)
    generator, rows = np.random.default_rng(seed), np.arange(len(x))[:, None]
    fits = []
    for _ in range(n):
        drawn = loss[rows, generator.integers(loss.shape[1], size=loss.shape)]
        fits.append(fit_scaling_law(np.repeat(x, loss.shape[1]), drawn.ravel()))
    rate, floor = (np.percentile([getattr(fit, name) for fit in fits], [2.5, 97.5]) for name in ("rate", "floor"))
    return Bootstrap((float(rate[0]), float(rate[1])), (float(floor[0]), float(floor[1])))
