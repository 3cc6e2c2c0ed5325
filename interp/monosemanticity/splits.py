"""Can a latent's firings be split in two parts that have nothing in common?

Points e_i [respect, dim] of sampled firings, each standing for a share m_i of the activation mass; half of the groups
of sequences fit, half test. A candidate split is a 2-means on the fit half, in one respect or in all; test points go to
the nearer centre. With μ the mass-weighted mean of a side in one half and one respect r,

    own_s(r)  = μ_s,fit(r) · μ_s,test(r)                            what the firings of side s share, unbiased
    across(r) = ½ (μ_A,fit(r) · μ_B,test(r) + μ_B,fit(r) · μ_A,test(r))          what the two sides share
    kinship   = max_r across(r) / min_s max_r own_s(r)

in squared standard deviations of the text (`respects`). 1: what tells one side from the text tells the other as well;
about 0: the sides are two meanings. However broad a meaning is, a split of it leaves in common what defines it.

Source: own; 2-means by Lloyd 1982, begun along the leading component and at far points. Cost: 3 ms of one core for 160
firings: a 2-means for each respect and one for all.
Failing: 2-means finds round parts of like size, so a second meaning with a tenth of the mass goes unnoticed; the least
akin of ten splits is less akin than 1 for one meaning too (`calibration` allows for it); and parts that are alike in
any one respect, such as the token before, count as kin.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numba import njit

LEAST_POINTS = 5
"""A side needs this many points in each half."""
FLOOR = 0.25
"""Added to both parts of the ratio: less than half a standard deviation in common is none."""


class Split(NamedTuple):
    side: Bool[np.ndarray, " firing"]
    kinship: float
    common: float
    """max_r across(r)"""
    own: float
    """min_s max_r own_s(r)"""
    mass: float
    """Share of the activation mass on the poorer side."""

    @classmethod
    def of(cls, side: Bool[np.ndarray, " firing"], common: float, own: float, share: float) -> "Split":
        return cls(side, (max(common, 0) + FLOOR) / (max(own, 0) + FLOOR), common, own, min(share, 1 - share))


def candidate_splits(
    points: Float32[np.ndarray, "firing respect dim"],
    test: Bool[np.ndarray, " firing"],
    mass: Float64[np.ndarray, " firing"],
) -> list[Split]:
    """One for each respect and one for all; those with too few points on a side are left out."""
    flat = points.reshape(len(points), -1)
    fit = np.flatnonzero(~test)
    if min(len(fit), len(points) - len(fit)) < 2 * LEAST_POINTS:
        return []
    n_respects, dim = points.shape[1:]
    sides = np.empty((n_respects + 1, len(points)), np.bool_)
    for r in range(n_respects):
        sides[r] = two_means(flat[:, r * dim : (r + 1) * dim], fit)
    sides[n_respects] = two_means(flat, fit)
    cells = np.stack([~sides & ~test, ~sides & test, sides & ~test, sides & test], 1)  # split cell firing
    enough = cells.sum(2).min(1) >= LEAST_POINTS
    if not enough.any():
        return []
    own, across = products(points, (cells[enough] * mass).astype(np.float32))
    share = (sides[enough] * mass).sum(1) / mass.sum()
    found = zip(sides[enough], across.max(1), own.max(2).min(1), share, strict=True)
    return [Split.of(side, float(common), float(least), float(part)) for side, common, least, part in found]


def best_split(candidates: list[Split], least_mass: float) -> Split | None:
    """The one with the least kinship among those with enough mass on either side."""
    return min((c for c in candidates if c.mass >= least_mass), key=lambda split: split.kinship, default=None)


def products(
    points: Float32[np.ndarray, "firing respect dim"], weights: Float32[np.ndarray, "split 4 firing"]
) -> tuple[Float32[np.ndarray, "split 2 respect"], Float32[np.ndarray, "split respect"]]:
    """own of both sides and across; weights of: first side in fit, in test, second side in fit, in test."""
    weights = weights / np.maximum(weights.sum(2, keepdims=True), 1e-12)
    flat = weights.reshape(-1, len(points)) @ points.reshape(len(points), -1)
    means = flat.reshape(len(weights), 4, *points.shape[1:])
    own = np.einsum("csrd,csrd->csr", means[:, [0, 2]], means[:, [1, 3]])
    across = np.einsum("crd,crd->cr", means[:, 0], means[:, 3]) + np.einsum("crd,crd->cr", means[:, 2], means[:, 1])
    return own, across / 2


def two_means(points: Float32[np.ndarray, "firing dim"], fit: np.ndarray) -> Bool[np.ndarray, " firing"]:
    """Which points lie nearer to the second of two centres fitted to points[fit]."""
    return _two_means(np.ascontiguousarray(points), fit)


@njit(cache=True, nogil=True)
def _two_means(points, fit):
    """Lloyd's iterations from the leading principal component and from two pairs of far points; the best of them."""
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
