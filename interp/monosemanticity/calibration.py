"""From evidence to the probability that a latent has one meaning.

    P(one | x) = 1 / (1 + exp(−(b + w · (x − m) / s)))          x: `cohesion.predictors`

w and b were fitted by logistic regression to latents of planted worlds (`interp.benchmark`), and to latents and neurons
of transformers trained on their text, where the truth is known: never to the latents that are judged. One meaning and
several weigh the same. `calibration.json` holds them, with further fits to worlds drawn anew (a bootstrap over worlds),
whose spread is part of the interval.
`python -m analyses.scorecard --calibrate` makes that file, and shows how far it can be trusted.

Source: own; probabilities from scores by logistic regression, Platt 1999; the bootstrap draws whole worlds, since
latents of one err together. Cost: 0.2 s to fit to 3000 latents with 20 further fits, milliseconds to apply.
Failing: it is right on average where latents are as in those worlds and as often of one meaning; a dictionary of a kind
that none of them has is judged by the nearest. Its interval knows of other firings and other worlds of these kinds, and
of no other kind. It is linear in the predictors: two signs that matter only together count apart.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from interp.files import write_text
from interp.monosemanticity import cohesion
from interp.monosemanticity.sampled import Measured

BOUNDS = 1e-3, 1 - 1e-3
"""A probability from a hundred firings is never surer than this."""
PENALTY = 0.03
"""C of the logistic regression: .3 to .01 tell one meaning from several alike, and on text by other generators .3 is
the worst calibrated."""


@dataclass(frozen=True)
class Calibration:
    mean: Float64[np.ndarray, " predictor"]
    scale: Float64[np.ndarray, " predictor"]
    weights: Float64[np.ndarray, "fit predictor"]
    """The first fit is to all worlds, the others to worlds drawn with replacement."""
    bias: Float64[np.ndarray, " fit"]

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Calibration":
        """From a file that `save` wrote; None: the one that ships with the package."""
        source = Path(path) if path is not None else files("interp.monosemanticity") / "calibration.json"
        content = json.loads(source.read_text())
        if content["statistics"] != list(cohesion.NAMES):
            raise ValueError(f"{source} was made for other statistics: run python -m analyses.scorecard --calibrate")
        return cls(*(np.array(content[name]) for name in ("mean", "scale", "weights", "bias")))

    def save(self, path: str | Path) -> None:
        numbers = {name: getattr(self, name).round(6).tolist() for name in ("mean", "scale", "weights", "bias")}
        content = {"statistics": list(cohesion.NAMES)} | numbers
        lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")

    def probability(self, statistics: Float64[np.ndarray, "*unit statistic"]) -> Float64[np.ndarray, "*unit"]:
        """Of one meaning, by the fit to all worlds."""
        x = (cohesion.predictors(statistics) - self.mean) / self.scale
        return _logistic(x @ self.weights[0] + self.bias[0])


def calibrate(measured: Measured, calibration: Calibration) -> dict[str, Float64[np.ndarray, " d_sae"]]:
    """`monosemanticity`, P(one meaning) of each latent, and `ci_low`, `ci_high`, its 95 % interval over the firings
    sampled and the worlds calibrated on; NaN for latents that cannot be tested."""
    x = (cohesion.predictors(measured.statistics) - calibration.mean) / calibration.scale
    logits = x @ calibration.weights.T + calibration.bias  # draw d_sae fit
    spread = logits[0, :, 1:].var(1) + logits[1:, :, 0].var(0)
    error = 1.96 * np.sqrt(spread)
    sides = {"monosemanticity": 0, "ci_low": -1, "ci_high": 1}
    return {name: _logistic(logits[0, :, 0] + side * error) for name, side in sides.items()}


def fit_calibration(
    values: Float64[np.ndarray, "latent statistic"],
    is_one: Bool[np.ndarray, " latent"],
    world: Int64[np.ndarray, " latent"],
    *,
    fits: int = 20,
    seed: int = 0,
) -> Calibration:
    """Fit to latents whose truth is known. `world` says from which world each comes.

    Both kinds count the same in all. Raises ValueError unless both kinds of latents are there.
    """
    from sklearn.linear_model import LogisticRegression

    if is_one.all() or not is_one.any():
        raise ValueError("calibration needs latents with one meaning and latents with several")
    x = cohesion.predictors(values)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    rng = np.random.default_rng(seed)
    worlds = np.unique(world)
    weights, bias = [], []
    for fit in range(1 + fits):
        drawn = worlds if fit == 0 else rng.choice(worlds, len(worlds))
        times = np.bincount(np.searchsorted(worlds, drawn), minlength=len(worlds))
        counts = times[np.searchsorted(worlds, world)].astype(np.float64)
        half = counts.sum() / 2
        for kind in (is_one, ~is_one):
            counts[kind] *= half / max(counts[kind].sum(), 1e-9)
        model = LogisticRegression(C=PENALTY, max_iter=2000)
        model.fit((x - mean) / scale, is_one, sample_weight=counts)
        weights.append(model.coef_[0])
        bias.append(model.intercept_[0])
    return Calibration(mean, scale, np.array(weights), np.array(bias))


def _logistic(logit: np.ndarray) -> np.ndarray:
    return np.clip(1 / (1 + np.exp(-logit)), *BOUNDS)
