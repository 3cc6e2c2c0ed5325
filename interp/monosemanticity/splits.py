"""Can a latent's firings be split in two parts that have nothing in common?

In: points e_i [view, dim] of sampled firings, each standing for a share m_i of the activation mass; half of the groups
of sequences fit, half test. Out: candidate splits, each a 2-means on the fit half, in one view or in all; test points
go to the nearer centre. With μ the mass-weighted mean of a side in one half and one view v,

    within_s(v)  = μ_s,fit(v) · μ_s,test(v)                                   similarity within side s, unbiased
    between(v)   = ½ (μ_A,fit(v) · μ_B,test(v) + μ_B,fit(v) · μ_A,test(v))    similarity between the two sides

    between_similarity   = max_v between(v)          within_similarity = min_s max_v within_s(v)
    between_within_ratio = between_similarity / within_similarity        (FLOOR is added to both)

in squared standard deviations of the text (`views`). 1: what tells one side from the text tells the other as well;
about 0: the sides are two meanings. However broad a meaning is, the parts of a split of it share what defines it.

Source: own; 2-means by Lloyd 1982, begun along the leading component and at far points. Cost: 3 ms of one core for 160
firings: a 2-means for each view and one for all.
Failing: 2-means finds round parts of like size, so a second meaning with a tenth of the mass goes unnoticed; the
smallest of ten ratios is below 1 for one meaning too (`calibration` allows for it); and parts that are similar in any
one view, such as the token before, count as one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from numba import njit

MIN_POINTS = 5
"""A side needs this many points in each half."""
FLOOR = 0.25
"""Added to both parts of the ratio: less than half a standard deviation in common is none."""


Masks = Bool[np.ndarray, "*split firing"]
Points = Float32[np.ndarray, "firing view dim"]


class Sample(NamedTuple):
    """Sampled firings of a latent, or of a part of them."""

    points: Points
    test: Bool[np.ndarray, " firing"]
    """Whether a firing is of the half of the groups that tests; the others fit."""
    weights: Float64[np.ndarray, "replicate firing"]
    """The activation mass that each stands for; further rows are bootstraps over firings."""
    strong: Bool[np.ndarray, " firing"]

    @property
    def mass(self) -> Float64[np.ndarray, " firing"]:
        return self.weights[0]

    @property
    def is_in_both_halves(self) -> bool:
        return bool(self.test.any() and not self.test.all())

    def part(self, chosen: np.ndarray) -> "Sample":
        """Some of the firings, by index or mask, without replicates."""
        return Sample(self.points[chosen], self.test[chosen], self.weights[:1, chosen], self.strong[chosen])


class Split(NamedTuple):
    side: Bool[np.ndarray, " firing"]
    between_within_ratio: float
    part_share: float
    """Share of the activation mass on the smaller side."""


class Similarities(NamedTuple):
    between: Float32[np.ndarray, " split"]
    within: Float32[np.ndarray, " split"]

    @property
    def ratio(self) -> Float32[np.ndarray, " split"]:
        return (np.maximum(self.between, 0) + FLOOR) / (np.maximum(self.within, 0) + FLOOR)


def candidate_splits(sample: Sample) -> list[Split]:
    """One for each view and one for all; those with too few points on a side are left out."""
    points, test, mass = sample.points, sample.test, sample.mass
    fit = np.flatnonzero(~test)
    if min(len(fit), len(points) - len(fit)) < 2 * MIN_POINTS:
        return []
    parts = [*np.moveaxis(points, 1, 0), points.reshape(len(points), -1)]
    sides = np.stack([_two_means(np.ascontiguousarray(part), fit) for part in parts])
    cells = halves_of(~sides, sides, test)
    enough = cells.sum(2).min(1) >= MIN_POINTS
    found = similarities(points, cells[enough] * mass)
    ratio = Similarities(*(values.astype(np.float64) for values in found)).ratio
    share = (sides[enough] * mass).sum(1) / mass.sum()
    return [Split(*each) for each in zip(sides[enough], ratio, np.minimum(share, 1 - share), strict=True)]


def best_split(candidates: list[Split], min_share: float) -> Split | None:
    """The one with the smallest between/within ratio among those with enough mass on either side."""
    enough = (split for split in candidates if split.part_share >= min_share)
    return min(enough, key=lambda split: split.between_within_ratio, default=None)


def halves_of(first: Masks, second: Masks, test: Bool[np.ndarray, " firing"]) -> Bool[np.ndarray, "*split 4 firing"]:
    """Masks of two sides: the first in fit, in test, the second in fit, in test."""
    return np.stack([first & ~test, first & test, second & ~test, second & test], -2)


def similarities(points: Points, weights: Float[np.ndarray, "split 4 firing"]) -> Similarities:
    """Between and within the sides whose firings weigh `weights`, in the order of `halves_of`."""
    means = weighted_means(points, weights)
    within = np.einsum("csvd,csvd->csv", means[:, [0, 2]], means[:, [1, 3]])
    between = np.einsum("cvd,cvd->cv", means[:, 0], means[:, 3]) + np.einsum("cvd,cvd->cv", means[:, 2], means[:, 1])
    return Similarities((between / 2).max(1), within.max(2).min(1))


def weighted_means(
    points: Points, weights: Float[np.ndarray, "part cell firing"]
) -> Float32[np.ndarray, "part cell view dim"]:
    weights = weights.astype(np.float32)
    weights /= np.maximum(weights.sum(2, keepdims=True), 1e-12)
    flat = weights.reshape(-1, len(points)) @ points.reshape(len(points), -1)
    return flat.reshape(*weights.shape[:2], *points.shape[1:])


@njit(cache=True, nogil=True)
def _two_means(points, fit):
    """Which points lie nearer to the second of two centres fitted to points[fit]: the best of Lloyd's iterations from
    the leading principal component and from two pairs of far points."""
    dim = points.shape[1]
    mean = np.zeros(dim, np.float32)
    for i in fit:
        mean += points[i]
    mean /= np.float32(len(fit))
    direction = points[_farthest(points, fit, mean)] - mean
    for _ in range(8):
        image = np.zeros(dim, np.float32)
        for i in fit:
            image += np.dot(points[i] - mean, direction) * (points[i] - mean)
        direction = image / np.float32(max(np.sqrt(np.sum(image * image)), 1e-12))
    starts = np.empty((3, 2, dim), np.float32)
    starts[0, 0], starts[0, 1] = mean - direction, mean + direction
    starts[1, 0] = points[_farthest(points, fit, mean)]
    starts[1, 1] = points[_farthest(points, fit, starts[1, 0])]
    starts[2, 0], starts[2, 1] = mean, starts[1, 1]
    best, centres = np.inf, starts[0]
    for start in starts:
        spread = _lloyd(points, fit, start)
        if spread < best:
            best, centres = spread, start
    out = np.zeros(len(points), np.bool_)
    for i in range(len(points)):
        out[i] = _nearer_second(points[i], centres)
    return out


@njit(cache=True, nogil=True)
def _farthest(points, chosen, centre):
    best, farthest = -1.0, chosen[0]
    for i in chosen:
        step = points[i] - centre
        distance = np.dot(step, step)
        if distance > best:
            best, farthest = distance, i
    return farthest


@njit(cache=True, nogil=True)
def _lloyd(points, chosen, centres):
    """Moves the centres in place; the sum of squared distances to the nearer one, less what does not depend on them."""
    spread = np.inf
    for _ in range(10):
        sums, counts = np.zeros(centres.shape, np.float32), np.zeros(2, np.int64)
        for i in chosen:
            side = 1 if _nearer_second(points[i], centres) else 0
            sums[side] += points[i]
            counts[side] += 1
        if counts.min() == 0:
            break
        previous = spread
        spread = -np.dot(sums[0], sums[0]) / counts[0] - np.dot(sums[1], sums[1]) / counts[1]
        centres[0], centres[1] = sums[0] / np.float32(counts[0]), sums[1] / np.float32(counts[1])
        if spread >= previous:
            break
    return spread


@njit(cache=True, nogil=True)
def _nearer_second(point, centres):
    first, second = point - centres[0], point - centres[1]
    return np.dot(second, second) < np.dot(first, first)
