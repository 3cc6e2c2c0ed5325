"""From evidence to a probability of one meaning, with made-up latents for what is known to have several or none.

Three classes of evidence x, none of which needs a label:
    one       latents that stand above the null and show one mode
    several   chimeras: equal mixtures of two or three of those
    none      all latents on shifted text
A multinomial logistic regression gives P(class | x) for classes of equal size, trained on other latents than it is
applied to (five folds). The classes' shares π among the latents at hand follow by expectation maximisation, so that

    P(one | x) = π_one P(one | x) / Σ_class π_class P(class | x)              (Saerens, Latinne & Decaestecker 2002)

What this cannot see: mixtures that the mode count misses are among the examples of "one", and two latents of one topic
may make a chimera that means one thing. The first lets some through, the second holds some back. Where all latents are
muddled, the least muddled pass: a probability compares a latent with unions of its neighbours, not dictionaries.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from interp.scores.evidence import NAMES, Evidence

FOLDS = 5
LEAST_MEMBERS = 2 * FOLDS
"""With fewer one-mode latents there is nothing to calibrate on."""
BOUNDS = 1e-3, 1 - 1e-3
"""A probability from so few examples is never surer than this."""


@dataclass(frozen=True)
class Calibrated:
    probability: Float64[np.ndarray, " d_sae"]
    """NaN for latents that cannot be tested. With too few one-mode latents to calibrate on: ½ for those, else 0."""
    ci_low: Float64[np.ndarray, " d_sae"]
    ci_high: Float64[np.ndarray, " d_sae"]
    """95 %, for the firings sampled; the uncertainty of the calibration itself is not in it."""
    shares: Float64[np.ndarray, "3"]
    """π of one, several and no meaning among the testable latents; NaN where nothing could be calibrated."""


def calibrate(evidence: Evidence, seed: int = 0) -> Calibrated:
    """P(one meaning) of each testable latent, with a 95 % interval."""
    testable = np.flatnonzero(evidence.testable)
    filled = [np.full(len(evidence.testable), np.nan) for _ in range(3)]
    is_member = evidence.one_mode[testable]
    if is_member.sum() < LEAST_MEMBERS:
        for array, values in zip(filled, (0.5, *BOUNDS), strict=True):
            array[testable] = np.where(is_member, values, BOUNDS[0])
        filled[2][testable] = BOUNDS[1]
        return Calibrated(filled[0], filled[1], filled[2], np.full(3, np.nan))
    latents = np.concatenate([evidence.latents[None], evidence.replicates])[:, testable]
    shifted = evidence.shifted[~np.isnan(evidence.shifted[..., NAMES.index("n_senses")])]
    log_p = _class_probabilities(
        predictors(latents), is_member, predictors(evidence.chimeras), predictors(shifted), seed
    )
    shares = _shares(log_p[0])
    posterior = np.exp(log_p) * shares
    probability = np.clip(posterior[..., 0] / posterior.sum(-1), *BOUNDS)
    logit = np.log(probability / (1 - probability))
    error = 1.96 * logit[1:].std(0)
    bounds = (np.clip(1 / (1 + np.exp(-(logit[0] + side * error))), *BOUNDS) for side in (-1, 1))
    for array, values in zip(filled, (probability[0], *bounds), strict=True):
        array[testable] = values
    return Calibrated(filled[0], filled[1], filled[2], shares)


def predictors(values: Float64[np.ndarray, "*unit evidence"]) -> Float64[np.ndarray, "*unit predictor"]:
    """Evidence on scales where a difference means the same everywhere: mean cosines as cosines with the centre, counts
    and valleys capped, an undefined consistency as none."""
    column = {name: values[..., i] for i, name in enumerate(NAMES)}
    cosines = [np.sign(c) * np.sqrt(np.abs(c)) for c in (column["coherence"], column["token_coherence"])]
    consistency = np.nan_to_num(column["consistency"])
    senses, valley = np.minimum(column["n_senses"], 4.0), np.clip(column["valley"], -3, 6)
    return np.stack([*cosines, np.maximum(*cosines), consistency, senses, valley], -1)


def _class_probabilities(
    latents: Float64[np.ndarray, "1+replicate latent predictor"],
    is_member: Bool[np.ndarray, " latent"],
    chimeras: Float64[np.ndarray, "chimera predictor"],
    shifted: Float64[np.ndarray, "shifted predictor"],
    seed: int,
) -> Float64[np.ndarray, "1+replicate latent 3"]:
    """Log probability of each class at equal shares, cross-fitted over the latents."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(is_member)) % FOLDS)
    log_p = np.empty((*latents.shape[:2], 3))
    for held_out in range(FOLDS):
        own = latents[0, is_member & (fold != held_out)]
        train = np.concatenate([own, chimeras, shifted])
        label = np.repeat([0, 1, 2], [len(own), len(chimeras), len(shifted)])
        mean, std = train.mean(0), train.std(0) + 1e-6
        model = LogisticRegression(class_weight="balanced", max_iter=500).fit((train - mean) / std, label)
        asked = latents[:, fold == held_out]
        answer = model.predict_log_proba((asked.reshape(-1, asked.shape[-1]) - mean) / std)
        log_p[:, fold == held_out] = answer.reshape(*asked.shape[:2], 3)
    return log_p


def _shares(log_p: Float64[np.ndarray, "latent 3"]) -> Float64[np.ndarray, "3"]:
    """The classes' shares that make the latents most likely; one made-up latent of each class keeps them above 0."""
    p = np.exp(log_p)
    shares = np.full(3, 1 / 3)
    for _ in range(200):
        posterior = p * shares
        counts = (posterior / posterior.sum(1, keepdims=True)).sum(0) + 1
        shares = counts / counts.sum()
    return shares
