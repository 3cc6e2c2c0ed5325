"""Which concepts does a dictionary have, by how frequent they are?

In: for each concept its frequency and whether the dictionary has it. Out, from a logistic curve through them,

    P(present) = σ(a + b log frequency)       half = exp(−a / b), the frequency at which half of the concepts are there

with a 95 % interval from a bootstrap over concepts. A concept is present if the activation of a latent correlates with
it enough (`presence`), or by any other measure that the caller uses.

Source: Scaling Monosemanticity (Templeton et al. 2024), "Feature completeness": half × the number of alive latents was
about the same at every width. Cost: at most 20 Newton steps for each draw. Limits: `half` is extrapolated if nearly all
or nearly none of the concepts are present, and infinite if presence does not rise with frequency. Frequent concepts may
be of another kind than rare ones.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from interp.codes.code_chunks import CodeSource
from interp.features.latent_matches import best_matches
from interp.statistics.estimates import Estimate

_DRAWS, _STEPS, _RIDGE = 300, 20, 1e-3
_SMALLEST_STEP = 1e-9


@dataclass(frozen=True)
class Completeness:
    half: Estimate
    """The frequency at which half of the concepts are present."""
    intercept: float
    slope: float
    """Slope of the log odds over the natural logarithm of the frequency."""

    def curve(self, frequency: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return 1 / (1 + np.exp(-self.intercept - self.slope * np.log(frequency)))


def presence(concepts: CodeSource, dictionary: CodeSource, *, min_correlation: float = 0.7) -> Bool[np.ndarray, " n"]:
    """Return whether a latent of the dictionary follows each concept. Both are codes of the same rows; a concept that
    never occurs is not present."""
    return np.nan_to_num(best_matches(concepts, dictionary).correlation) >= min_correlation


def completeness(frequency: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"], *, seed: int = 0) -> Completeness:
    """Fit the curve.
    frequency: the frequency of each concept, above 0.

    Raises ValueError if all concepts are present, or none is."""
    if not (frequency > 0).all():
        raise ValueError(f"a concept has frequency {frequency.min()}: leave out those that never occur")
    if present.all() or not present.any():
        raise ValueError(f"{present.sum()} of {len(present)} concepts are present: a curve needs both kinds")
    x, generator, halves = np.log(frequency), np.random.default_rng(seed), []
    intercept, slope = _logistic(x, present)
    for _ in range(_DRAWS):
        drawn = generator.integers(len(x), size=len(x))
        if 0 < present[drawn].sum() < len(x):
            halves.append(_half(*_logistic(x[drawn], present[drawn])))
    low, high = np.quantile(halves, [0.025, 0.975])
    return Completeness(Estimate(_half(intercept, slope), float(low), float(high)), intercept, slope)


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return intercept and slope by Newton's method. A small ridge on the slope is needed, as separable concepts have
    no maximum."""
    centre, scale = x.mean(), max(float(x.std()), 1e-12)
    design, weights = np.column_stack([np.ones_like(x), (x - centre) / scale]), np.zeros(2)
    penalty = np.diag([0.0, _RIDGE * len(x)])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        hessian = (design * (p * (1 - p))[:, None]).T @ design + penalty + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (y - p) - penalty @ weights)
        largest = float(np.abs(step).max())
        weights = weights + step * min(1.0, 4 / max(largest, 1e-12))
        if largest < _SMALLEST_STEP:
            break
    slope = float(weights[1] / scale)
    return float(weights[0] - slope * centre), slope


def _half(intercept: float, slope: float) -> float:
    return float(np.exp(np.clip(-intercept / slope, -700, 700))) if slope > 0 else np.inf
