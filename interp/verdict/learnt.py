"""Estimate the probability that the model learnt a latent, as opposed to text statistics seen through random weights:

    P(x) = 1 / (1 + exp(−(b + w · (x − m) / s)))          x: LEARNT_INPUTS, next_auroc clipped to NEXT_RANGE

It is fitted to the latents of trained dictionaries on trained models, against those on shuffled and untrained models,
matched for density and token entropy (`python -m analyses.claims.learnt_latents --calibrate`). LEARNT_INPUTS is

    next_auroc           how well the latent's direct effect on the logits predicts the tokens after its firings (a
                         scan)
    random_correlation   correlation of its activation with the most correlated latent of a dictionary learnt on the
                         model before training, or with shuffled weights (`compare.null_dictionaries`)

If the dictionary of a random model has a similar latent, such as a token detector, the text alone explains it. What
ablating a latent costs (`effects`) is another question, and is not evidence here: added to these two, it does not
raise the AUROC on held-out corpora (analyses/RESULTS.md).

The probability is known only for a hook after the last block, as in the fit. Elsewhere it is NaN, with a warning. What
a latent writes before later blocks mostly reaches the logits through them, so its direct effect says little about what
follows.

Source: the evidence is our own; probabilities come from scores by logistic regression (Platt 1999). Cost: milliseconds.
Limits: a dictionary with a frozen random decoder or encoder reads what a trained model learnt, and its latents look
learnt too (arXiv 2602.14111).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from interp.features.feature_store import FeatureStore
from interp.verdict.fit_files import logistic, read_fit, write_fit
from interp.verdict.measures import LatentValues

LEARNT_INPUTS = ("next_auroc", "random_correlation")
NEXT_RANGE = (0.3, 0.7)
"""A next-token AUROC is clipped to this range. What lies beyond adds no evidence, because the text decides how large it
gets. The range was chosen on the two corpora of `analyses.claims.learnt_latents`, each left out in turn. No other
constant was chosen on both."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearntFit:
    """A logistic regression on LEARNT_INPUTS that predicts whether latents are learnt."""

    mean: Float64[np.ndarray, " kind"]
    scale: Float64[np.ndarray, " kind"]
    weights: Float64[np.ndarray, " kind"]
    bias: float

    @classmethod
    def load(cls, path: str | Path | None = None) -> "LearntFit":
        """Read a file that `save` wrote, or, without a path, the one that ships with the package.

        Raises ValueError for a fit to other evidence.
        """
        remedy = "run python -m analyses.claims.learnt_latents --calibrate"
        content = read_fit(path, "learnt.json", "evidence", LEARNT_INPUTS, remedy)
        mean, scale, weights = (np.array(content[name], float) for name in ("mean", "scale", "weights"))
        return cls(mean, scale, weights, float(content["bias"]))

    def save(self, path: str | Path) -> None:
        content = {"evidence": LEARNT_INPUTS, "mean": self.mean, "scale": self.scale, "weights": self.weights}
        write_fit(path, content | {"bias": self.bias}, decimals=6)

    @staticmethod
    def predictors(evidence: Mapping[str, LatentValues]) -> Float64[np.ndarray, "latent kind"]:
        next_auroc, random = (np.asarray(evidence[name], np.float64) for name in LEARNT_INPUTS)
        return np.stack([np.clip(next_auroc, *NEXT_RANGE), random], 1)

    def contributions(self, evidence: Mapping[str, LatentValues]) -> Float64[np.ndarray, "latent kind"]:
        """Return the contribution of each kind of evidence to the logit; NaN if it is unknown."""
        return (self.predictors(evidence) - self.mean) / self.scale * self.weights

    def probability(self, evidence: Mapping[str, LatentValues]) -> LatentValues:
        """Return the probability that each latent is learnt; NaN if any of the evidence is NaN."""
        logit = self.contributions(evidence).sum(1) + self.bias
        return logistic(logit)


def learnt_inputs(features: FeatureStore, matches: pd.DataFrame | None) -> dict[str, LatentValues]:
    """Return each of LEARNT_INPUTS for all latents: NaN if no table has it, and next_auroc also at a hook before the
    last block.
    matches: `compare.null_dictionaries.Nulls.twins`."""
    unknown = np.full(features.d_sae, np.nan)
    next_auroc, random_correlation = features.column("next_auroc"), unknown
    if matches is not None and "random_correlation" in matches:
        by_latent = matches.set_index("latent")["random_correlation"]
        random_correlation = by_latent.reindex(range(features.d_sae)).to_numpy(float)
    if blocks := features.meta["blocks_past"]:
        log.warning(
            "learnt is not estimated for %s: %s between %s and the logits, and what a latent writes past them says "
            "little of what the model learnt",
            *(features.path, "1 later block is" if blocks == 1 else f"{blocks} later blocks are"),
            features.meta["hook_name"],
        )
        next_auroc = unknown
    return {"next_auroc": next_auroc, "random_correlation": random_correlation}
