"""Turn the similarity of a latent's firings into the probability that they have one meaning.

    μ = b + a · x,    σ² = aᵀ C a + spread of the fits,    P = 1 / (1 + exp(−μ / √(1 + π σ² / 8)))

In: the statistics x of `similarity`, and the covariance C of their sampling errors. Out: P and its interval. P is the
mean over the possible values of x (MacKay 1992), so an uninformative sample gives about ½. The interval is μ ∓ 1.96 σ,
as probabilities. No weight is negative: more similar firings never count against one meaning.

`Calibration` has the fitted weights; its docstring states the data of the fit and its accuracy. The probability is
right on average over the sources, but not for each source. A latent unlike those of all sources is judged as the most
similar ones are, and its interval does not show this.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from interp.text.kinds import PREDICATE_KINDS
from interp.verdict.fitted import logistic, read_fit, write_fit
from interp.verdict.similarity import NAMES

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

    The calibration that ships with the package is fitted (`python -m analyses.scorecard --calibrate`) to 9,834 latents.
    Careful readers judged those of seven real sources: a TopK, a Matryoshka and an L1 dictionary, neurons,
    SmolLM2-135M, two nulls. The meanings of the others are known: they were planted on eleven families of text or
    learnt from three of them. Both groups have the same weight; within the second, so have planted and learnt latents.
    The further fits resample sources and families, since the errors of latents of one source are correlated.

    Scores with each source or family left out of its fit (`python -m analyses.scorecard --readings DIR`), where "by
    chance" is the ECE of true probabilities on the same number of latents:

                        latents   AUROC           worst                ECE     worst                by chance
        read sources        368    0.939   0.883 untrained (n 28)        0.053    0.195 SmolLM2 (n 73)       0.045
        planted families  9,229    0.968   0.931 nesting          mean   0.093    0.158 translations         0.026
        worlds of another maker, in no fit: 0.980 and 0.972; ECE 0.093 and 0.062, by chance 0.049 and 0.035

    Limits: sources differ in level. A curve fitted to a single source, read or planted, is about 1.5 times as steep. It
    is also shifted: 1.6 logits lower for SmolLM2, whose weak firings mean much the same in other words, and for planted
    concepts that have a word in each of four languages; 1.1 logits higher for planted affixes and records. So readers
    give one meaning to 0.72 of SmolLM2's latents and this curve to 0.58; of neurons 0.37 and 0.48. None of the
    following predicts the level: density, the numbers of firings, sampled firings, tokens and sequences, the level of
    the similarity, the spread over the range, unions of two of a source's own latents, the model's token embeddings.
    The distribution of a source's own latents predicts a part of the level. If two classes are estimated from them, the
    planted ECE falls to 0.06, but the ECE of translations rises from 0.18 to 0.22, and a latent's probability would
    depend on which other latents are ranked.
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
        content = read_fit(path, "calibration.json", "statistics", NAMES, "fit it again")
        if "kinds" not in content:
            raise ValueError(
                "the calibration does not record the kinds of predicates that it was fitted with: fit it again"
            )
        return cls(np.array(content["weights"], float), np.array(content["bias"], float), tuple(content["kinds"]))

    def save(self, path: str | Path) -> None:
        content = {"statistics": NAMES, "weights": self.weights, "bias": self.bias, "kinds": self.kinds}
        write_fit(path, content, decimals=4)

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
