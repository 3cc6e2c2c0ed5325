"""How similar are the firings of a latent, or of one of its senses, to each other?

In: points e_i [view, dim] (`views`) of sampled firings and their masses m_i. Out: the statistics that the calibration
reads. With μ_h the mass-weighted mean of half h of the groups,

    effect_size  = max_v  mean_i e_i(v) · μ_h̄(v) / ‖μ_h̄(v)‖,   h̄ the half that i is not in
                   how far the firings stand out from the text in their best view, in its standard deviations
    core_share   = share of the mass at firings that stand out at least half as far, in that view
    consistency  = similarity of weak firings to strong ones, over that among strong ones, in the latter's best view
    cosine       mean cosine of two firings, one of each half, in their surroundings or their tokens: the larger
    between_within_ratio, between_similarity, unshared_rarity
                 of the split with the smallest ratio that has at least 20 %, and 33 % (`_even`), of the mass on either
                 side (`splits`); where no split has so much: 1, effect_size², and of what the two halves share

Replicates give other weights to the same firings and splits: a bootstrap over firings.

Source: own; products of halves are unbiased, as cross-validated distances are (Walther et al. 2016); the replicates are
a Poisson bootstrap. Cost: 1.5 ms of one core for 160 firings with 16 replicates, a third of it for the splits.
Failing: what firings share in none of the views is not shared at all, and two meanings of one script or topic share
it. A latent of few firings has wide replicates, and a broad meaning stands out little.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numba import njit

from interp.monosemanticity import views
from interp.monosemanticity.splits import (
    Sample,
    Split,
    best_split,
    candidate_splits,
    cell_means,
    dot,
    ratio_of,
    similarities,
)

MIN_SHARES = (0.2, 0.33)
BROAD = ("surroundings", "token")
"""Two meanings that are similar in some other view, such as the mark before them, still differ in these."""
OF_SPLIT = ("between_within_ratio", "between_similarity", "unshared_rarity")
NAMES = ("effect_size", "core_share", "consistency", "cosine", *OF_SPLIT, *(f"{name}_even" for name in OF_SPLIT))
MIN_STRONG = 10
"""Strong and weak firings that are needed to compare them."""
_BROAD = tuple(views.NAMES.index(name) for name in BROAD)


@dataclass(frozen=True)
class Cohesion:
    values: Float64[np.ndarray, "replicate statistic"]
    """Columns are NAMES; the first row has the weights as they are."""
    split: Split | None
    """The one with the smallest ratio at the first of MIN_SHARES."""
    best_view: int


def measure_cohesion(sample: Sample) -> Cohesion:
    """Needs at least one firing in each half. Splits are chosen with the first weights."""
    values, best_view = _of_all(*sample)
    candidates, rarity = candidate_splits(sample), -np.log(max(sample.density, 1e-12))
    first, even = (best_split(candidates, least) for least in MIN_SHARES)
    given = sample.points, sample.own, sample.test, sample.weights, rarity
    if first is not None:
        _of_split(*given, first.side, values[:, 4:7])
    if even is first:
        values[:, 7:] = values[:, 4:7]
    elif even is not None:
        _of_split(*given, even.side, values[:, 7:])
    return Cohesion(values, first, best_view)


@njit(cache=True, nogil=True)
def _of_all(points, products, own, test, weights, strong, density):
    """The statistics of all firings, those of splits as where there is none, and the best view."""
    values, rarity = np.ones((len(weights), len(NAMES))), -np.log(max(density, 1e-12))
    stands_out, best_view = np.zeros((len(own), points.shape[1]), np.bool_), 0
    n_strong = np.zeros(4, np.int64)
    for i in range(len(own)):
        n_strong[2 * strong[i] + test[i]] += 1
    for draw in range(len(weights)):
        mass = weights[draw]
        total = max(mass.sum(), 1e-12)
        means = cell_means(points, own, test.astype(np.int64), mass)
        projected = _mean_projection(means, (mass * test).sum() / total)
        best = projected.argmax()
        if draw == 0:
            best_view = best
            _stand_out(points, own, test, means, projected, stands_out)
        values[draw, 0] = projected[best]
        values[draw, 1] = (mass * stands_out[:, best]).sum() / total
        values[draw, 2] = 1.0
        if n_strong.min() >= MIN_STRONG // 2:
            values[draw, 2] = _consistency(cell_means(points, own, 2 * strong + test, mass))
        values[draw, 3] = _cosine(points, products, own, test, mass)
        shared = 0.0
        for view in range(points.shape[1]):
            shared += np.log1p(max(dot(means[0, view], means[1, view]), 0.0))
        values[draw, 5] = values[draw, 8] = projected[best] ** 2
        values[draw, 6] = values[draw, 9] = max(rarity - shared, 0.0)
    return values, best_view


@njit(cache=True, nogil=True)
def _mean_projection(means, test_share):
    """Of the firings on the mean of the half that they are not in, for each view; 0 where it is negative."""
    out = np.empty(means.shape[1])
    for view in range(len(out)):
        fit, other = means[0, view], means[1, view]
        on_fit, on_other = max(np.sqrt(dot(fit, fit)), 1e-9), max(np.sqrt(dot(other, other)), 1e-9)
        out[view] = max(dot(fit, other) * (test_share / on_fit + (1 - test_share) / on_other), 0)
    return out


@njit(cache=True, nogil=True)
def _stand_out(points, own, test, means, projected, out):
    """Which firings stand out at least half as far as their mean does, in each view."""
    for view in range(out.shape[1]):
        least = max(projected[view] / 2, 0.5)
        for half in range(2):
            mean = means[1 - half, view]
            length = max(np.sqrt(dot(mean, mean)), 1e-9)
            for i in np.flatnonzero(test == (half == 1)):
                out[i, view] = dot(points[own[i], view], mean) / length > least


@njit(cache=True, nogil=True)
def _consistency(means):
    """From the means of the weak in the half that fits, in the other, and of the strong likewise."""
    best, across = -np.inf, 0.0
    for view in range(means.shape[1]):
        among = dot(means[2, view], means[3, view])
        if among > best:
            best = among
            across = (dot(means[2, view], means[1, view]) + dot(means[3, view], means[0, view])) / 2
    return ratio_of(across, best)


@njit(cache=True, nogil=True)
def _cosine(points, products, own, test, mass):
    best = -np.inf
    for view in _BROAD:
        sums, total = np.zeros((2, points.shape[2]), np.float32), np.zeros(2)
        for i in range(len(own)):
            half, length = int(test[i]), np.sqrt(products[view, own[i], own[i]])
            total[half] += mass[i]
            sums[half] += points[own[i], view] * np.float32(mass[i] / max(length, 1e-9))
        best = max(best, dot(sums[0], sums[1]) / (max(total[0], 1e-12) * max(total[1], 1e-12)))
    return best


@njit(cache=True, nogil=True)
def _of_split(points, own, test, weights, rarity, side, out):
    """OF_SPLIT for each draw of the weights."""
    for draw in range(len(weights)):
        between, within, shared = similarities(points, own, test, side.astype(np.int64), weights[draw])
        out[draw, 0], out[draw, 1] = ratio_of(between, within), max(between, 0.0)
        out[draw, 2] = max(rarity - shared, 0.0)


def predictors(values: Float64[np.ndarray, "*unit statistic"]) -> Float64[np.ndarray, "*unit predictor"]:
    """The statistics that `calibration` reads, on scales where a difference means about the same everywhere: core
    share, consistency and cosine; ln(1 + rarity); the roots r of the similarities, in standard deviations, and
    ln(1 + r)."""
    shares, between, rarity = values[..., 1:4], np.sqrt(values[..., 5::3]), values[..., 6::3]  # NAMES
    return np.concatenate([np.minimum(shares, 1.5), np.log1p(rarity), np.minimum(between, 4), np.log1p(between)], -1)
