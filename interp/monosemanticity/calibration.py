"""From evidence to probabilities, by logistic regressions on latents of which it is known.

    P(x) = 1 / (1 + exp(−(b + w · (x − m) / s)))          x: `predictors` of each

`Calibration`, that a latent has one meaning: fitted to latents of planted worlds (`interp.benchmark`), and to latents
and neurons of transformers trained on their text, never to the latents that are judged. One meaning and several weigh
the same. Further fits to worlds drawn anew, a bootstrap over worlds, since latents of one err together: their spread is
part of the interval. `python -m analyses.scorecard --calibrate` makes the file that ships, and shows how far it can be
trusted.

`LearntFit`, that a latent is the model's own: that it shows what the model learnt, and not the text's statistics seen
through random weights. Fitted to the latents of trained dictionaries on trained models, against the same on shuffled
and untrained models, matched for density and token entropy (`python -m analyses.claims.learnt_latents --calibrate`), by
EVIDENCE:

    next_auroc           how well the latent's direct effect on the logits tells what follows its firings (a scan)
    loss_change, kl      what ablating it at its firings does to the loss there, and to the prediction, nats (`effects`)
    twin_correlation     of its activation with the likest latent of a dictionary from another seed
    random_correlation   the same with a dictionary learnt on the model before training, or with shuffled weights
                         (both of `interp.compare.null_dictionaries`)

In a model whose predictions are right on average an ablation costs as many nats as it changes the prediction by
(E[loss_change] = KL), and in one that predicts nothing it costs none. What a random model's dictionary has as well, a
token detector say, the text explains.

Source: own; probabilities from scores by logistic regression, Platt 1999. Cost: 0.2 s to fit to 3000 latents with 20
further fits, milliseconds to apply.
Failing: they are right on average where latents are as in those worlds or models and as often of one meaning, or
learnt; one of a kind that none of them has is judged by the nearest. The interval knows of other firings and other
worlds of these kinds, and of no other kind. Signs that matter only together count apart. A dictionary whose decoder or
encoder is frozen at random reads what a trained model learnt, and its latents look learnt too (arXiv 2602.14111); what
reaches the loss through other positions only looks idle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from interp.features.feature_store import FeatureStore
from interp.monosemanticity import cohesion
from interp.monosemanticity.senses import Measured
from interp.storage.files import write_text

BOUNDS = 1e-3, 1 - 1e-3
"""A probability from a hundred firings is never surer than this."""
PENALTY, LEARNT_PENALTY = 0.03, 1.0
"""C of the logistic regressions: of one meaning .3 to .01 tell it from several alike, and on text by other generators
.3 is the worst calibrated."""
FITS = 20
"""To worlds drawn anew."""
EVIDENCE = ("next_auroc", "loss_change", "kl", "twin_correlation", "random_correlation")
MAX_NEXT = 0.7
"""From here on a larger next-token AUROC says no more: how large it gets depends on the text. Chosen on the two corpora
of `analyses.claims.learnt_latents`, with either left out: of all that is there, the one number that saw both."""
MIN_KL = 1e-4
"""Nats; of smaller changes of the prediction it is not asked what they do to the loss."""
Values = Float64[np.ndarray, " latent"]


@dataclass(frozen=True)
class _Fits:
    mean: Float64[np.ndarray, " predictor"]
    scale: Float64[np.ndarray, " predictor"]
    weights: Float64[np.ndarray, "fit predictor"]
    bias: Float64[np.ndarray, " fit"]

    file: ClassVar[str]
    """That ships with the package."""
    made_by: ClassVar[str]
    read: ClassVar[dict[str, list[str]]]
    """What the predictors are made of, by what it is called in the file."""

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """From a file that `save` wrote; None: the one that ships with the package."""
        source = Path(path) if path is not None else files("interp.monosemanticity") / cls.file
        content = json.loads(source.read_text())
        for what, names in cls.read.items():
            if content[what] != names:
                raise ValueError(f"{source} was made for other {what}: run python -m {cls.made_by} --calibrate")
        return cls(*(np.array(content[name]) for name in ("mean", "scale", "weights", "bias")))

    def save(self, path: str | Path) -> None:
        numbers = {name: getattr(self, name).round(6).tolist() for name in ("mean", "scale", "weights", "bias")}
        lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in (self.read | numbers).items())
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")

    @staticmethod
    def predictors(given: Any) -> Float64[np.ndarray, "*latent predictor"]:
        raise NotImplementedError

    def probability(self, given: Any) -> Float64[np.ndarray, "*latent"]:
        """By the first fit; NaN where any of what is given is."""
        return _logistic((self.predictors(given) - self.mean) / self.scale @ self.weights[0] + self.bias[0])


class Calibration(_Fits):
    """That statistics [*latent, statistic] are of one meaning. The first fit is to all worlds, the others to worlds
    drawn with replacement."""

    file, made_by, read = "calibration.json", "analyses.scorecard.__main__", {"statistics": [*cohesion.NAMES]}

    @staticmethod
    def predictors(given: Float64[np.ndarray, "*latent statistic"]) -> Float64[np.ndarray, "*latent predictor"]:
        return cohesion.predictors(given)


class LearntFit(_Fits):
    """That latents are learnt, from a table of their EVIDENCE."""

    file, made_by = "learnt.json", "analyses.claims.learnt_latents"
    read = {"predictors": ["next", "help", "log_kl", "twin", "random"]}

    @staticmethod
    def predictors(given: Mapping[str, Values]) -> Float64[np.ndarray, "latent predictor"]:
        next_auroc, loss_change, kl, twin, random = (np.asarray(given[name], np.float64) for name in EVIDENCE)
        kl = np.maximum(kl, 0)
        columns = np.clip(next_auroc, 1 - MAX_NEXT, MAX_NEXT), np.clip(loss_change / (kl + MIN_KL), -2, 2)
        return np.stack([*columns, np.log(kl + MIN_KL), twin, random], 1)


def calibrate(measured: Measured, calibration: Calibration) -> dict[str, Float64[np.ndarray, " d_sae"]]:
    """`monosemanticity`, P(one meaning) of each latent, and `ci_low`, `ci_high`, its 95 % interval over the firings
    sampled and the worlds calibrated on; NaN for latents that cannot be tested."""
    x = (cohesion.predictors(measured.statistics) - calibration.mean) / calibration.scale
    logits = x @ calibration.weights.T + calibration.bias  # draw d_sae fit
    spread = logits[0, :, 1:].var(1) + logits[1:, :, 0].var(0)
    error = 1.96 * np.sqrt(spread)
    sides = {"monosemanticity": 0, "ci_low": -1, "ci_high": 1}
    return {name: _logistic(logits[0, :, 0] + side * error) for name, side in sides.items()}


def learnt_evidence(
    features: FeatureStore, effects: pd.DataFrame | None, matches: pd.DataFrame | None
) -> dict[str, Values]:
    """EVIDENCE of all latents; NaN where a table lacks it. Both have a column `latent`."""
    table = features.table().set_index("latent").sort_index()
    for other in (effects, matches):
        if other is not None:
            own = other.set_index("latent")
            table = table.join(own[own.columns.intersection([*EVIDENCE])])
    return {name: table[name].to_numpy(float) if name in table else np.full(len(table), np.nan) for name in EVIDENCE}


def fit_calibration(
    values: Float64[np.ndarray, "latent statistic"],
    is_one: Bool[np.ndarray, " latent"],
    world: Int64[np.ndarray, " latent"],
) -> Calibration:
    """Fit to latents whose truth is known; both kinds count the same in all. `world`: from which each comes.

    Raises ValueError unless both kinds of latents are there.
    """
    if is_one.all() or not is_one.any():
        raise ValueError("calibration needs latents with one meaning and latents with several")
    x = cohesion.predictors(values)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    rng, worlds, found = np.random.default_rng(0), np.unique(world), []
    for fit in range(1 + FITS):
        drawn = worlds if fit == 0 else rng.choice(worlds, len(worlds))
        times = np.bincount(np.searchsorted(worlds, drawn), minlength=len(worlds))
        counts = times[np.searchsorted(worlds, world)].astype(np.float64)
        found.append(_fitted((x - mean) / scale, is_one, _balanced(counts, is_one, counts.sum() / 2), PENALTY))
    weights, bias = zip(*found, strict=True)
    return Calibration(mean, scale, np.array(weights), np.array(bias))


def fit_learnt(evidence: Mapping[str, Values], is_learnt: Bool[np.ndarray, " latent"], weight: Values) -> LearntFit:
    """Fit to latents of which it is known; both kinds count the same in all."""
    x, counts = LearntFit.predictors(evidence), _balanced(weight.astype(np.float64), is_learnt, len(weight) / 2)
    mean = np.average(x, axis=0, weights=counts)
    scale = np.average((x - mean) ** 2, axis=0, weights=counts) ** 0.5 + 1e-6
    weights, bias = _fitted((x - mean) / scale, is_learnt, counts, LEARNT_PENALTY)
    return LearntFit(mean, scale, weights[None], np.array([bias]))


def _balanced(counts: Values, is_one: Bool[np.ndarray, " latent"], half: float) -> Values:
    """Weights of which either kind has `half`."""
    totals = np.where(is_one, counts[is_one].sum(), counts[~is_one].sum())
    return counts * (half / np.maximum(totals, 1e-9))


def _fitted(x: np.ndarray, is_one: np.ndarray, counts: Values, penalty: float) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=penalty, max_iter=2000).fit(x, is_one, sample_weight=counts)
    return model.coef_[0], model.intercept_[0]


def _logistic(logit: np.ndarray) -> np.ndarray:
    return np.clip(1 / (1 + np.exp(-logit)), *BOUNDS)
