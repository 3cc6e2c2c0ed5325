"""Turn the similarity of a latent's firings into the probability that they have one meaning.

    μ = b + a · x,    σ² = aᵀ C a + spread of the fits,    P = 1 / (1 + exp(−μ / √(1 + π σ² / 8)))

In: the statistics x of `similarity`, and the covariance C of their sampling errors. Out: P and its interval. P is the
mean over the possible values of x (MacKay 1992), so an uninformative sample gives about ½. The interval is μ ∓ 1.96 σ,
as probabilities. No weight is negative: more similar firings never count against one meaning.

`Calibration` has the fitted weights; its docstring states the data of the fit and its accuracy, and analyses/README.md
when and how to fit them again. The probability is right on average over the sources, but not for each source. A latent
unlike those of all sources is judged as the most similar ones are, and its interval does not show this.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from interp.checks.errors import InterpError
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.verdict.fit_files import logistic, read_fit, write_fit
from interp.verdict.similarity import STATISTIC_NAMES

log = logging.getLogger(__name__)

Statistics = Float64[np.ndarray, "*latent statistic"]


def compared_kinds() -> tuple[str, ...]:
    """Return the kinds registered so far that compare positions."""
    return tuple(name for name, kind in PREDICATE_KINDS.items() if kind.compares)


class Probability(NamedTuple):
    """The probability of one meaning."""

    one: Float64[np.ndarray, "*latent"]
    low: Float64[np.ndarray, "*latent"]
    high: Float64[np.ndarray, "*latent"]
    """Its 95 % interval."""


@dataclass(frozen=True)
class Calibration:
    """The curve from the statistics of a latent to its probability, fitted several times.

    The calibration that ships with the package is fitted (`python -m analyses.scorecard --calibrate`) to latents that
    careful readers judged, from real sources, and to latents whose meanings are known, since they were planted on
    families of text or learnt from such text. Both groups have the same weight. Within the second, planted and learnt
    latents do too. The further fits resample sources and families, since the errors of latents of one source are
    correlated. analyses/RESULTS.md has its scores, with each source or family left out of its fit.

    Limits: sources differ in level, which nothing that was tried predicts well (analyses/README.md). A curve fitted to
    a single source is steeper.
    """

    weights: Float64[np.ndarray, "fit statistic"]
    """The first row is fitted to all sources, the others to sources drawn with replacement."""
    bias: Float64[np.ndarray, " fit"]
    kinds: tuple[str, ...] = field(default_factory=compared_kinds)
    """The kinds of predicates by which firings were compared when it was fitted."""

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Calibration":
        """Load a file of `save`, or, without a path, the calibration that ships with the package.

        Raises ValueError if it was fitted to other statistics.
        """
        content = read_fit(path, "calibration.json", "statistics", STATISTIC_NAMES, "fit it again")
        if "kinds" not in content:
            raise InterpError(
                "the calibration does not record the kinds of predicates that it was fitted with: fit it again"
            )
        return cls(np.array(content["weights"], float), np.array(content["bias"], float), tuple(content["kinds"]))

    def save(self, path: str | Path) -> None:
        content = {"statistics": STATISTIC_NAMES, "weights": self.weights, "bias": self.bias, "kinds": self.kinds}
        write_fit(path, content, decimals=4)

    def coefficients(self) -> dict[str, float]:
        """Return the weight of each statistic, by its name, and the `bias`, of the fit to all sources."""
        weights = zip(STATISTIC_NAMES, self.weights[0].tolist(), strict=True)
        return {**dict(weights), "bias": float(self.bias[0])}

    def warn_of_other_kinds(self) -> None:
        """Log a warning if firings are now compared by other kinds of predicates than in the fit."""
        if other := sorted(set(self.kinds) ^ set(compared_kinds())):
            log.warning(
                "the calibration was fitted with other kinds of predicates than those that compare firings now (%s): "
                "probabilities may be off until it is fitted again",
                ", ".join(other),
            )

    def probability(
        self, values: Statistics, covariance: Float64[np.ndarray, "*latent statistic statistic"]
    ) -> Probability:
        """Return the probability of one meaning, with its interval; NaN if a statistic is NaN."""
        logits = values @ self.weights.T + self.bias  # *latent fit
        a = self.weights[0]
        mean = logits[..., 0]
        variance = np.einsum("i,...ij,j->...", a, covariance, a) + logits[..., 1:].var(-1)
        error = 1.96 * np.sqrt(variance)
        return Probability(
            logistic(mean / np.sqrt(1 + np.pi * variance / 8)), logistic(mean - error), logistic(mean + error)
        )
