"""Into how many modes do a latent's firings fall? Counted by splits, each tested on firings it was not fitted to.

    1  points = [context embedding | TOKEN_SHARE × token vector] of sampled firings; half of the groups fit, half test.
    2  2-means on the fit half gives two centres. Project the test half onto the line through them; m₁, m₂ = the means
       of the test points on either side of the middle.
    3  Valley test: three intervals of equal width, around m₁, around the middle, around m₂, hold n₁, n, n₂ test points.
       Any density with one mode has at least as much mass in the middle as in the poorer flank, so
           P(Bin(n + min(n₁, n₂), ½) ≤ n)
       bounds the chance of such a valley.
    4  Kinship: with c₁ and c₂ the mean cosine of two firings of one side, and c₁₂ that of two on different sides, the
       sides are kin if c₁₂ ≥ KINSHIP · √(c₁ c₂), of the contexts and of the tokens alike. Kin are shades of one sense.
    5  A cluster is split if the chance of its valley is below ALPHA, its sides are no kin, and each holds at least
       LEAST_MASS of the latent's activation mass; then both parts are tested in turn.

The null is "one mode, of any shape": no number of clusters is assumed, and skew or heavy tails do not count as senses.
Failings: a sense with less than about a sixth of the firings is missed; senses that share their contexts and have
similar tokens are one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numba import njit

ALPHA = 0.05
MAX_SENSES = 6
TOKEN_SHARE = 0.15
"""Weight of the token beside its context: unrelated tokens count as senses, similar ones do not."""
KINSHIP = 0.5
"""Sides are two senses if a firing resembles the other side less than half as much as its own. Text in one script has
modes (the beginnings of documents, say) that resemble each other nearly as much as themselves."""
LEAST_MASS = 0.1
"""What a latent does on a smaller share of its mass is noise beside its meaning: weak firings on unrelated text, most
often, which a sample that is stratified by strength holds many of."""
LEAST_PER_MODE = 5
"""2⁻⁵ < ALPHA: with fewer test points in the poorer mode, even an empty valley proves nothing."""
MIN_SEQUENCES = 4 * LEAST_PER_MODE
"""Two equal senses need this many independent firings (two halves of two modes) before any split can be significant."""


@dataclass(frozen=True)
class Senses:
    count: Int64[np.ndarray, " unit"]
    valley: Float64[np.ndarray, " unit"]
    """(min(n₁, n₂) − n) / √(min(n₁, n₂) + n) of the first split: about standard normal at most, for one flat mode.
    Where kinship or mass forbids the split it is at most 0."""


def count_senses(
    contexts: Float32[np.ndarray, "unit firing dim"],
    tokens: Float32[np.ndarray, "unit firing dim"],
    test_half: Bool[np.ndarray, "unit firing"],
    present: Bool[np.ndarray, "unit firing"],
    mass: Float64[np.ndarray, "unit firing"],
) -> Senses:
    """Number of modes (1..MAX_SENSES) of each unit's sampled firings.

    mass: the share of its unit's activation mass that each firing stands for.
    """
    count, valley = np.ones(len(contexts), np.int64), np.zeros(len(contexts))
    for unit in range(len(contexts)):
        chosen = present[unit]
        points = np.hstack([contexts[unit, chosen], TOKEN_SHARE * tokens[unit, chosen]]).astype(np.float64)
        n_context = contexts.shape[2]
        is_test, shares = test_half[unit, chosen], mass[unit, chosen]
        count[unit], valley[unit] = _count(points, n_context, is_test, shares, ALPHA, MAX_SENSES, LEAST_PER_MODE)
    return Senses(count, valley)


@njit(cache=True, nogil=True)
def _count(points, n_context, is_test, mass, alpha, max_senses, least):
    """Split clusters, widest-known first, until no split is significant."""
    n_clusters, root, next_cluster = 1, 0.0, 0
    cluster = np.zeros(len(points), np.int64)
    while next_cluster < n_clusters and n_clusters < max_senses:
        fit = np.flatnonzero((cluster == next_cluster) & ~is_test)
        test = np.flatnonzero((cluster == next_cluster) & is_test)
        split = False
        if len(fit) >= 2 * least and len(test) >= 2 * least:
            centres = _two_means(points, fit)
            poorer, middle = _valley(points, test, centres)
            both = np.concatenate((fit, test))
            one = _kin(points, both, centres, n_context) or _poorer_mass(points, both, centres, mass) < LEAST_MASS
            if next_cluster == 0 and n_clusters == 1:
                root = (poorer - middle) / np.sqrt(max(poorer + middle, 1))
                root = min(root, 0.0) if one else root
            split = not one and _binomial_tail(middle, poorer + middle) < alpha
            if split:
                for i in both:
                    if _side(points[i], centres) > 0.5:
                        cluster[i] = n_clusters
                n_clusters += 1
        if not split:
            next_cluster += 1
    return n_clusters, root


@njit(cache=True, nogil=True)
def _two_means(points, chosen):
    """Centres of the best of three 2-means: from the leading principal component, and from two pairs of far points."""
    mean = np.zeros(points.shape[1])
    for i in chosen:
        mean += points[i] / len(chosen)
    direction = points[_farthest(points, chosen, mean)] - mean
    for _ in range(10):
        image = np.zeros(points.shape[1])
        for i in chosen:
            image += np.dot(points[i] - mean, direction) * (points[i] - mean)
        direction = image / max(np.sqrt(np.sum(image**2)), 1e-12)
    starts = np.empty((3, 2, points.shape[1]))
    starts[0, 0], starts[0, 1] = mean - direction, mean + direction
    starts[1, 0] = points[_farthest(points, chosen, mean)]
    starts[1, 1] = points[_farthest(points, chosen, starts[1, 0])]
    starts[2, 0], starts[2, 1] = mean, starts[1, 1]
    best = np.inf
    centres = starts[0]
    for start in starts:
        spread = _lloyd(points, chosen, start)
        if spread < best:
            best, centres = spread, start
    return centres


@njit(cache=True, nogil=True)
def _farthest(points, chosen, centre):
    best, farthest = -1.0, chosen[0]
    for i in chosen:
        distance = np.sum((points[i] - centre) ** 2)
        if distance > best:
            best, farthest = distance, i
    return farthest


@njit(cache=True, nogil=True)
def _lloyd(points, chosen, centres):
    """Moves the centres in place; the sum of squared distances to the nearer one, less what does not depend on them."""
    spread = np.inf
    for _ in range(10):
        sums, counts = np.zeros(centres.shape), np.zeros(2)
        for i in chosen:
            side = 1 if _side(points[i], centres) > 0.5 else 0
            sums[side] += points[i]
            counts[side] += 1
        if counts.min() == 0:
            break
        previous = spread
        spread = -np.sum(sums[0] ** 2) / counts[0] - np.sum(sums[1] ** 2) / counts[1]
        centres[0], centres[1] = sums[0] / counts[0], sums[1] / counts[1]
        if spread >= previous:
            break
    return spread


@njit(cache=True, nogil=True)
def _side(point, centres):
    """Place along the line from the first centre (0) to the second (1)."""
    dot, square = 0.0, 1e-12
    for d in range(len(point)):
        step = centres[1, d] - centres[0, d]
        dot += (point[d] - centres[0, d]) * step
        square += step * step
    return dot / square


@njit(cache=True, nogil=True)
def _kin(points, chosen, centres, n_context):
    """Do both sides resemble each other, in contexts and in tokens, at least KINSHIP as much as themselves?"""
    sums, squares, counts = np.zeros(centres.shape), np.zeros((2, 2)), np.zeros(2)
    for i in chosen:
        side = 1 if _side(points[i], centres) > 0.5 else 0
        sums[side] += points[i]
        squares[side, 0] += np.sum(points[i, :n_context] ** 2)
        squares[side, 1] += np.sum(points[i, n_context:] ** 2)
        counts[side] += 1
    if counts.min() < 2:
        return True
    pairs = counts * (counts - 1)
    for part in range(2):
        of = sums[:, :n_context] if part == 0 else sums[:, n_context:]
        own = (np.sum(of[0] ** 2) - squares[0, part]) / pairs[0], (np.sum(of[1] ** 2) - squares[1, part]) / pairs[1]
        across = np.sum(of[0] * of[1]) / (counts[0] * counts[1])
        if min(own) > 0 and across < KINSHIP * np.sqrt(own[0] * own[1]):
            return False
    return True


@njit(cache=True, nogil=True)
def _poorer_mass(points, chosen, centres, mass):
    sides = np.zeros(2)
    for i in chosen:
        sides[1 if _side(points[i], centres) > 0.5 else 0] += mass[i]
    return sides.min()


@njit(cache=True, nogil=True)
def _valley(points, test, centres):
    """Test points in the poorer flank and in the middle, intervals of equal width around both sides' means."""
    place = np.empty(len(test))
    for i in range(len(test)):
        place[i] = _side(points[test[i]], centres)
    first, second = place[place <= 0.5], place[place > 0.5]
    if len(first) == 0 or len(second) == 0:
        return 0, len(test)
    low, high = first.mean(), second.mean()
    scaled = (place - low) / (high - low)
    near = np.sum(np.abs(scaled) <= 0.25)
    far = np.sum(np.abs(scaled - 1) <= 0.25)
    return min(near, far), np.sum(np.abs(scaled - 0.5) < 0.25)


@njit(cache=True, nogil=True)
def _binomial_tail(k, n):
    """P(Bin(n, ½) ≤ k); 1 for no trials."""
    if n == 0:
        return 1.0
    term = 0.5**n
    total = term
    for i in range(k):
        term *= (n - i) / (i + 1)
        total += term
    return total
