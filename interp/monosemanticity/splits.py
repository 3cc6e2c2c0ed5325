"""Can a latent's firings be split in two parts that have nothing in common?

In: points e_i [view, dim] of sampled firings, each standing for a share m_i of the activation mass; half of the groups
of sequences fit, half test. Out: candidate splits, each a 2-means on the fit half, in one view or in all; test points
go to the nearer centre. With μ the mass-weighted mean of a side in one half and one view v,

    within_s(v)  = μ_s,fit(v) · μ_s,test(v)                                   similarity within side s, unbiased
    crossed(v)   = ½ (μ_A,fit(v) · μ_B,test(v) + μ_B,fit(v) · μ_A,test(v))
    between(v)   = crossed(v) − CHANCE √(within_A(v) within_B(v))             similarity between the two sides

    between_similarity   = max_v between(v)          within_similarity = min_s max_v within_s(v)
    between_within_ratio = between_similarity / within_similarity        (FLOOR is added to both)
    unshared_rarity      = max(0, −ln density − Σ_v ln(1 + between(v)))       nats

in squared standard deviations of the text (`views`). Ratio 1: what tells one side from the text tells the other as
well; about 0: the sides are two meanings. However broad a meaning is, the parts of a split of it share what defines it.
What holds at a share p of the text, and is a direction of a view, has (1 − p)/p of them, so ln(1 + between) = −ln p:
parts that share that they are nouns, of a latent that fires on a thousandth of the text, do not share its rarity.

Source: own; 2-means by Lloyd 1982, begun along the leading component and at far points. It asks of points and centres
their inner products only, which are taken once for a latent and all its parts. Cost: 0.5 ms of one core for 160
firings: a 2-means for each view and one for all.
Failing: 2-means finds round parts of like size, so a second meaning with a tenth of the mass goes unnoticed; the
smallest of ten ratios is below 1 for one meaning too (`calibration` allows for it); parts that are similar in any one
view, such as the token before, count as one; and a latent that fires on a part of its meaning only (half of a topic) is
rarer than what its parts share.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numba import njit

MIN_POINTS = 5
"""A side needs this many points in each half."""
FLOOR = 0.25
"""Added to both parts of the ratio: less than half a standard deviation in common is none."""
CHANCE = 0.2
"""Two sides, each tightly about a mean, are not at right angles: cosines of 48 dimensions are ± .14 by chance."""
SUMMED = {"reassoc", "contract", "nsz"}
"""Sums in any order, so that they are taken sixteen numbers at a time."""

Points = Float32[np.ndarray, "firing view dim"]


class Sample(NamedTuple):
    """Sampled firings of a latent, or of a part of them."""

    points: Points
    """Of all sampled firings of the latent."""
    products: Float32[np.ndarray, "view_plus_1 firing firing"]
    """Their inner products in each view, and in all views at once."""
    own: Int64[np.ndarray, " own"]
    """Which of them these firings are."""
    test: Bool[np.ndarray, " own"]
    """Whether a firing is of the half of the groups that tests; the others fit."""
    weights: Float64[np.ndarray, "replicate own"]
    """The activation mass that each stands for; further rows are bootstraps over firings."""
    strong: Bool[np.ndarray, " own"]
    density: float
    """The share of the text's rows that these firings stand for."""

    @classmethod
    def of(cls, points: Points, test: np.ndarray, weights: np.ndarray, strong: np.ndarray, density: float) -> "Sample":
        by_view, n = np.ascontiguousarray(points.transpose(1, 0, 2)), len(points)
        products = np.empty((points.shape[1] + 1, n, n), np.float32)
        np.matmul(by_view, by_view.transpose(0, 2, 1), out=products[:-1])
        products[:-1].sum(0, out=products[-1])
        return cls(points, products, np.arange(n), test, np.ascontiguousarray(weights), strong, density)

    @property
    def mass(self) -> Float64[np.ndarray, " own"]:
        return self.weights[0]

    @property
    def is_in_both_halves(self) -> bool:
        return bool(self.test.any() and not self.test.all())

    def part(self, chosen: np.ndarray) -> "Sample":
        """Some of the firings, by index or mask, without replicates."""
        own, test, strong = self.own[chosen], self.test[chosen], self.strong[chosen]
        density = self.density * self.mass[chosen].sum() / max(self.mass.sum(), 1e-12)
        return self._replace(own=own, test=test, strong=strong, weights=self.weights[:1, chosen], density=density)


class Split(NamedTuple):
    side: Bool[np.ndarray, " own"]
    between_within_ratio: float
    part_share: float
    """Share of the activation mass on the smaller side."""


def candidate_splits(sample: Sample) -> list[Split]:
    """One for each view and one for all; those with too few points on a side are left out."""
    return [Split(*each) for each in zip(*_candidates(*sample[:4], sample.mass), strict=True)]


def best_split(candidates: list[Split], min_share: float) -> Split | None:
    """The one with the smallest between/within ratio among those with enough mass on either side."""
    enough = (split for split in candidates if split.part_share >= min_share)
    return min(enough, key=lambda split: split.between_within_ratio, default=None)


@njit(cache=True, nogil=True)
def ratio_of(between, within):
    return (max(between, 0.0) + FLOOR) / (max(within, 0.0) + FLOOR)


@njit(cache=True, nogil=True)
def similarities(points, own, test, side, mass):
    """Between and within the sides 0 and 1 of the firings `own`, −1 is neither; and how many nats the sides share."""
    means = cell_means(points, own, np.where(side >= 0, 2 * side + test, -1), mass)
    between, first, second, shared = -np.inf, -np.inf, -np.inf, 0.0
    for view in range(points.shape[1]):
        crossed = dot(means[0, view], means[3, view]) + dot(means[2, view], means[1, view])
        within = dot(means[0, view], means[1, view]), dot(means[2, view], means[3, view])
        in_view = crossed / 2 - CHANCE * np.sqrt(max(within[0], 0.0) * max(within[1], 0.0))
        between, first, second = max(between, in_view), max(first, within[0]), max(second, within[1])
        shared += np.log1p(max(in_view, 0.0))
    return between, min(first, second), shared


@njit(cache=True, nogil=True)
def cell_means(points, own, cells, mass):
    """Weighted mean of the points of each of four cells [cell, view, dim]; 0 where there are none."""
    size = points.shape[1] * points.shape[2]
    flat, sums, total = points.reshape(len(points), size), np.zeros((4, size), np.float32), np.zeros(4)
    for i in range(len(own)):
        if cells[i] >= 0 and mass[i] > 0:
            point, weight, out = flat[own[i]], np.float32(mass[i]), sums[cells[i]]
            total[cells[i]] += mass[i]
            for d in range(size):
                out[d] += weight * point[d]
    for cell in range(4):
        sums[cell] /= np.float32(max(total[cell], 1e-12))
    return sums.reshape(4, points.shape[1], points.shape[2])


@njit(cache=True, nogil=True, fastmath=SUMMED)
def dot(a, b):
    total = np.float32(0)
    for d in range(len(a)):
        total += a[d] * b[d]
    return np.float64(total)


@njit(cache=True, nogil=True)
def _candidates(points, products, own, test, mass):
    """Sides, ratio and smaller share of each split that has enough points on either side."""
    fit, n, kept = own[~test], len(own), 0
    sides, ratios, shares = np.zeros((len(products), n), np.bool_), np.empty(len(products)), np.empty(len(products))
    if min(len(fit), n - len(fit)) >= 2 * MIN_POINTS:
        for view in range(len(products)):
            side, counts = _two_means(products[view], own, fit), np.zeros(4, np.int64)
            for i in range(n):
                counts[2 * side[i] + test[i]] += 1
            if counts.min() >= MIN_POINTS:
                share = (side * mass).sum() / mass.sum()
                sides[kept] = side
                ratios[kept] = ratio_of(*similarities(points, own, test, side.astype(np.int64), mass)[:2])
                shares[kept] = min(share, 1 - share)
                kept += 1
    return sides[:kept], ratios[:kept], shares[:kept]


@njit(cache=True, nogil=True)
def _two_means(products, own, fit):
    """Which of the points `own` lie nearer to the second of two centres fitted to `fit`: the best of Lloyd's iterations
    from the leading principal component and from two pairs of far points. A centre c is known by its products p·c with
    all points, and by c·c."""
    n, norms = np.float64(len(fit)), np.diag(products)
    mean = np.zeros(len(products))
    for i in fit:
        _add(mean, 1.0, products[i])
    mean /= n
    square = mean[fit].sum() / n
    far = _farthest(fit, norms, mean)
    along = products[far] - mean  # products with the leading direction, by power iteration
    for _ in range(8):
        image = np.zeros(len(products))
        centre = along[fit].sum() / n
        length = 0.0
        for i in fit:
            _add(image, along[i] - centre, products[i])
        for i in fit:
            length += (along[i] - centre) * image[i]
        along = image / max(np.sqrt(max(length, 0.0)), 1e-12)
    other, centre = _farthest(fit, norms, products[far].astype(np.float64)), along[fit].sum() / n
    starts, squares = np.empty((3, 2, len(products))), np.empty((3, 2))
    starts[0, 0], starts[0, 1], squares[0] = mean - along, mean + along, square + 1
    squares[0, 0] -= 2 * centre
    squares[0, 1] += 2 * centre
    starts[1, 0], starts[1, 1], squares[1, 0], squares[1, 1] = products[far], products[other], norms[far], norms[other]
    starts[2, 0], starts[2, 1], squares[2, 0], squares[2, 1] = mean, products[other], square, norms[other]
    best, chosen = np.inf, 0
    for start in range(3):
        spread = _lloyd(products, fit, mean * n, starts[start], squares[start])
        if spread < best:
            best, chosen = spread, start
    out = np.empty(len(own), np.bool_)
    for i in range(len(own)):
        out[i] = _is_second(own[i], starts[chosen], squares[chosen])
    return out


@njit(cache=True, nogil=True)
def _farthest(chosen, norms, centre):
    best, farthest = -np.inf, chosen[0]
    for i in chosen:
        distance = norms[i] - 2 * centre[i]
        if distance > best:
            best, farthest = distance, i
    return farthest


@njit(cache=True, nogil=True)
def _lloyd(products, fit, total, centres, squares):
    """Moves the centres in place; the sum of squared distances to the nearer one, less what does not depend on them."""
    spread, second, side = np.inf, np.zeros(len(products)), np.zeros(len(products), np.bool_)
    for _ in range(10):
        n_second = 0
        for i in fit:
            now = _is_second(i, centres, squares)
            if now != side[i]:
                _add(second, 1.0 if now else -1.0, products[i])
                side[i] = now
            n_second += now
        if n_second == 0 or n_second == len(fit):
            break
        counts, sums = (len(fit) - n_second, n_second), np.zeros(2)
        for i in fit:
            sums[int(side[i])] += second[i] if side[i] else total[i] - second[i]
        previous, spread = spread, -sums[0] / counts[0] - sums[1] / counts[1]
        centres[0], centres[1] = (total - second) / counts[0], second / counts[1]
        squares[0], squares[1] = sums[0] / counts[0] ** 2, sums[1] / counts[1] ** 2
        if spread >= previous:
            break
    return spread


@njit(cache=True, nogil=True)
def _add(out, factor, row):
    for i in range(len(out)):
        out[i] += factor * row[i]


@njit(cache=True, nogil=True)
def _is_second(i, centres, squares):
    return squares[1] - 2 * centres[1, i] < squares[0] - 2 * centres[0, i]
