"""How similar are the firings of a latent, or of one of its senses, to each other?

In: points e_i [view, dim] (`views`) of sampled firings and their masses m_i. Out: the statistics that the calibration
reads. With μ_h the mass-weighted mean of half h of the groups,

    effect_size  = max_v  mean_i e_i(v) · μ_h̄(v) / ‖μ_h̄(v)‖,   h̄ the half that i is not in
                   how far the firings stand out from the text in their best view, in its standard deviations
    core_share   = share of the mass at firings that stand out at least half as far, in that view
    consistency  = similarity of weak firings to strong ones, over that among strong ones, in the latter's best view
    cosine       mean cosine of two firings, one of each half, in their surroundings or their tokens: the larger
    between_within_ratio, between_similarity, within_similarity, part_share
                 of the split with the smallest ratio that has at least 20 %, and 33 % (`_even`), of the mass on either
                 side (`splits`); effect_size² stands for both similarities where no split has so much

Replicates give other weights to the same firings and splits: a bootstrap over firings.

Source: own; products of halves are unbiased, as cross-validated distances are (Walther et al. 2016); the replicates are
a Poisson bootstrap. Cost: 4 ms of one core for 160 firings with 16 replicates, three quarters of it for the splits.
Failing: what firings share in none of the views is not shared at all, and two meanings of one script or topic share
it. A latent of few firings has wide replicates, and a broad meaning stands out little.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from interp.monosemanticity import splits, views
from interp.monosemanticity.splits import Points, Sample, Similarities, Split, halves_of, weighted_means

MIN_SHARES = (0.2, 0.33)
BROAD = ("surroundings", "token")
"""Two meanings that are similar in some other view, such as the mark before them, still differ in these."""
OF_SPLIT = ("between_within_ratio", "between_similarity", "within_similarity", "part_share")
NAMES = ("effect_size", "core_share", "consistency", "cosine", *OF_SPLIT, *(f"{name}_even" for name in OF_SPLIT))
MIN_STRONG = 10
"""Strong and weak firings that are needed to compare them."""


Mean = Float32[np.ndarray, "*replicate view dim"]


@dataclass(frozen=True)
class Cohesion:
    values: Float64[np.ndarray, "replicate statistic"]
    """Columns are NAMES; the first row has the weights as they are."""
    split: Split | None
    """The one with the smallest ratio at the first of MIN_SHARES."""
    best_view: int


def measure_cohesion(sample: Sample) -> Cohesion:
    """Needs at least one firing in each half. Splits are chosen with the first weights."""
    points, test, weights = sample.points, sample.test, sample.weights
    halves = np.stack([~test, test])[:, None] * weights  # half replicate firing
    fit, other = weighted_means(points, halves)
    share = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    mean = np.maximum(_mean_projection(fit, other, share @ test), 0)
    best = mean.argmax(1)
    stands_out = _projections(points, fit[0], other[0], test) > np.maximum(mean[0] / 2, 0.5)
    effect_size = mean.max(1)
    core_share = (share @ stands_out)[np.arange(len(share)), best]
    columns = [effect_size, core_share, _consistency(sample), _cosine(points, halves)]
    candidates = splits.candidate_splits(sample)
    found = [splits.best_split(candidates, least) for least in MIN_SHARES]
    for split in found:
        columns += _split_columns(sample, split, effect_size)
    return Cohesion(np.stack(columns, 1), found[0], int(best[0]))


def _projections(
    points: Points, fit: Mean, other: Mean, test: Bool[np.ndarray, " firing"]
) -> Float32[np.ndarray, "firing view"]:
    """Of each point on the mean of the half that it is not in."""
    units = [mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9) for mean in (fit, other)]
    return np.where(test[:, None], *((points * unit).sum(2) for unit in units))


def _mean_projection(
    fit: Mean, other: Mean, test_share: Float64[np.ndarray, " replicate"]
) -> Float64[np.ndarray, "replicate view"]:
    dot = (fit * other).sum(2)
    on_fit, on_other = (dot / np.maximum(np.linalg.norm(mean, axis=2), 1e-9) for mean in (fit, other))
    return test_share[:, None] * on_fit + (1 - test_share)[:, None] * on_other


def _cosine(points: Points, halves: Float64[np.ndarray, "2 replicate firing"]) -> Float32[np.ndarray, " replicate"]:
    some = points[:, [views.NAMES.index(name) for name in BROAD]]
    units = some / np.maximum(np.linalg.norm(some, axis=2, keepdims=True), 1e-9)
    fit, other = weighted_means(units, halves)
    return (fit * other).sum(2).max(1)


def _consistency(sample: Sample) -> Float64[np.ndarray, " replicate"]:
    """1 where there are too few strong or weak firings to compare."""
    parts = halves_of(sample.strong, ~sample.strong, sample.test)
    if parts.sum(1).min() < MIN_STRONG // 2:
        return np.ones(len(sample.weights))
    strong_fit, strong_test, weak_fit, weak_test = weighted_means(sample.points, parts[:, None] * sample.weights)
    among_strong = (strong_fit * strong_test).sum(2)
    across = ((strong_fit * weak_test).sum(2) + (strong_test * weak_fit).sum(2)) / 2
    best = np.arange(len(among_strong)), among_strong.argmax(1)
    return Similarities(across[best], among_strong[best]).ratio


def _split_columns(
    sample: Sample, split: Split | None, effect_size: Float64[np.ndarray, " replicate"]
) -> list[Float64[np.ndarray, " replicate"]]:
    weights = sample.weights
    if split is None:
        return [np.ones(len(weights)), effect_size**2, effect_size**2, np.zeros(len(weights))]
    cells = halves_of(~split.side, split.side, sample.test)
    found = splits.similarities(sample.points, weights[:, None] * cells)
    share = (weights @ split.side) / np.maximum(weights.sum(1), 1e-12)
    return [found.ratio, np.maximum(found.between, 0), np.maximum(found.within, 0), np.minimum(share, 1 - share)]


def predictors(values: Float64[np.ndarray, "*unit statistic"]) -> Float64[np.ndarray, "*unit predictor"]:
    """The statistics on scales where a difference means about the same everywhere, for `calibration`."""
    column = {name: values[..., i] for i, name in enumerate(NAMES)}
    effect_size = column["effect_size"]
    out = [np.minimum(effect_size, 6), np.log1p(effect_size), column["core_share"]]
    out += [np.clip(column["consistency"], 0, 1.5), column["cosine"]]
    for suffix in ("", "_even"):
        ratio, between, within, part_share = (column[f"{name}{suffix}"] for name in OF_SPLIT)
        between, within = np.sqrt(between), np.sqrt(within)
        out += [np.clip(ratio, 0, 1.5), np.minimum(between, 4), np.minimum(within, 5)]
        out += [np.log1p(between), np.log1p(within), part_share]
    return np.stack(out, -1)
