"""Measure how alike the firings of a latent are, by the rarest thing that they share, and divide them into senses.

In: the predicates that hold at n sampled firings (`text.predicates`), and the weight w_i of each, Σ w = 1. With c(a)
the weight of the firings at which predicate a holds, k how many of them, and p(a) the share of the text's positions
where it holds,

    lift(a) = ln c(a) (k − 2) / k − ln p(a)          nats: how much more common it is among the other firings than in
                                                     text
    s_ij    = max over predicates a that hold at i and j of lift(a), 0 if there is none
    r_ij    = min(1, max(0, s_ij − MIN_LIFT_NATS) / (½ (R + TYPICAL_NATS) − MIN_LIFT_NATS)),  r_ii = 1,  R = −ln density

r is 1 if two firings share everything that must be explained. It is about 0 for firings at random positions, which
share only what any text has in common. The factor (k − 2) / k leaves the two compared firings out of their own count.

Out, with λ₁ ≥ λ₂ the largest eigenvalues of √w_i r_ij √w_j, and with the level of a latent, the median over its firings
i of the (NEAR_SHARE n)-th largest r_ij,

    concentration = λ₁ − λ₂                                        1 if all firings are one cluster, 0 for two equal
                                                                   ones or for many
    evenness      = Σ_{i≠j} w_i w_j min(1, r_ij / level) / Σ_{i≠j} w_i w_j
                                                                   1 if all are as similar as near ones, however little

and how each of them would change if firing i had another weight. Their errors follow from this. A broad meaning (late
words of a sentence) is expressed by a common predicate, so all r are small but equal. Evenness distinguishes such a
meaning from a union.

Sources: the statistics are our own. Derivatives of eigenvalues come from first-order perturbation theory, and errors
from the infinitesimal jackknife (Efron 1982). Cost: a similarity for each pair of sampled firings. Limits: firings look
dissimilar if they share only an idea, a tone, or something else that no kind of predicate expresses. A concept that has
a word in each of four languages forms four clusters. A sense with fewer than about ten sampled firings cannot be
distinguished from outliers. Firings without any meaning also form clusters, by the kinds of text around them. Senses
are therefore compared with those of shifted text (`evidence`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from numba import njit

from interp.statistics.linkage import average_linkage
from interp.statistics.sorting import largest_first

MIN_SHARED = 3
"""Firings that must share a predicate for it to count."""
MIN_LIFT_NATS = 0.4
"""Nats of lift below which a shared predicate does not count."""
TYPICAL_NATS = 4.0
"""Added to R. For a latent that fires on much of the text R is small, and a match by chance would otherwise count as
full similarity."""
NEAR_SHARE = 0.05
"""The share of a latent's firings that count as near to a given one."""
MIN_LEVEL = 0.15
"""The least level. It applies if no firings are more similar than this."""
MERGE_LEVEL = 0.55
"""The fraction of the level at which two clusters are merged. MERGE_LEVEL and MIN_SENSE were chosen among five and four
values, by how well they count the senses of latents that were read or planted."""
MIN_SENSE = 0.07
"""The share of the weight that makes a cluster a sense."""
MIN_SENSE_OF_FIRINGS, MIN_FIRINGS_OF_SENSE = 0.15, 6
"""The share of a latent's firings that makes a cluster of as many sampled ones a sense, although they are weak."""
MAX_SENSES = 6
N_COMMON = 3
"""Number of predicates that are reported as shared by the firings of a sense."""
STATISTIC_NAMES = ("concentration", "evenness")


class SharedPredicates(NamedTuple):
    """The predicates that at least MIN_SHARED firings share, with a lift above MIN_LIFT_NATS."""

    numbers: Int64[np.ndarray, " shared"]
    """Ascending."""
    lift: Float64[np.ndarray, " shared"]
    offsets: Int64[np.ndarray, " shared_plus_1"]
    members: Int64[np.ndarray, " member"]
    """The firings of the i-th predicate are members[offsets[i]:offsets[i + 1]], in ascending order."""


class SimilarityStatistics(NamedTuple):
    """The similarity statistics of some firings, in the order of STATISTIC_NAMES."""

    values: Float64[np.ndarray, " statistic"]
    """NaN for a single firing."""
    covariance: Float64[np.ndarray, "statistic statistic"]
    """Estimated covariance of their sampling errors."""
    moves: Float64[np.ndarray, "statistic firing"]
    """How much each statistic would change, per firing, if that firing's weight were doubled."""


@njit(cache=True, nogil=True)
def shared_predicates(holds, rows, weights, surprise, scratch):
    """Find the predicates that some firings share: `SharedPredicates`.
    holds: the predicates of some rows [row, slot], −1 for none.
    rows: the row of each firing in `holds`.
    weights: their weights, which sum to 1.
    surprise: of each predicate, in nats.
    scratch: a zero for each predicate, here and afterwards."""
    size = len(rows) * holds.shape[1]
    numbers = np.empty(size, np.int64)
    k = np.zeros(size, np.int64)
    weight = np.zeros(size)
    n = 0
    for firing in range(len(rows)):
        for number in holds[rows[firing]]:
            if number >= 0:
                if scratch[number] == 0:
                    numbers[n] = number
                    n += 1
                    scratch[number] = n
                k[scratch[number] - 1] += 1
                weight[scratch[number] - 1] += weights[firing]
    n_kept = 0
    for i in range(n):
        number = numbers[i]
        scratch[number] = 0
        lift = np.log(max(weight[i] * (k[i] - 2) / k[i], 1e-12)) + surprise[number]
        if k[i] >= MIN_SHARED and lift > MIN_LIFT_NATS:
            numbers[n_kept], k[n_kept], weight[n_kept] = number, k[i], lift
            n_kept += 1
    ascending = largest_first(-numbers[:n_kept])
    offsets = np.zeros(n_kept + 1, np.int64)
    for i in range(n_kept):
        offsets[i + 1] = offsets[i] + k[ascending[i]]
        scratch[numbers[ascending[i]]] = i + 1
    end = offsets.copy()
    members = np.empty(offsets[-1], np.int64)
    for firing in range(len(rows)):
        for number in holds[rows[firing]]:
            if number >= 0 and scratch[number] > 0:
                members[end[scratch[number] - 1]] = firing
                end[scratch[number] - 1] += 1
    for number in numbers[:n_kept]:
        scratch[number] = 0
    return SharedPredicates(numbers[ascending], weight[ascending], offsets, members)


@njit(cache=True, nogil=True)
def full_similarity_lift(density):
    """Return the lift, in nats, at which two firings of a latent of this density are fully similar:
    ½ (R + TYPICAL_NATS)."""
    return (TYPICAL_NATS - np.log(max(density, 1e-12))) / 2


@njit(cache=True, nogil=True)
def pairwise_similarity(shared, n, density):
    """Return r for each pair of n firings of a latent that fires on the share `density` of the text."""
    most = full_similarity_lift(density)
    r = np.zeros((n, n))
    for number in range(len(shared.numbers)):
        worth = min(1.0, (shared.lift[number] - MIN_LIFT_NATS) / (most - MIN_LIFT_NATS))
        members = shared.members[shared.offsets[number] : shared.offsets[number + 1]]
        for a in members:
            for b in members:
                r[a, b] = max(r[a, b], worth)
    for firing in range(n):
        r[firing, firing] = 1
    return r


@njit(cache=True, nogil=True)
def near_similarity(r):
    """Return the median, over firings, of the similarity to the k-th nearest firing, where k is the share NEAR_SHARE of
    all firings, and at least MIN_SHARED."""
    n = len(r)
    k = min(max(MIN_SHARED, int(np.ceil(NEAR_SHARE * n))), n - 1)
    near = np.empty(n)
    nearest = np.empty(k + 1)  # the first is the firing itself
    for firing in range(n):
        nearest[:] = -1
        for value in r[firing]:
            place = k
            if value > nearest[place]:
                while place > 0 and nearest[place - 1] < value:
                    nearest[place] = nearest[place - 1]
                    place -= 1
                nearest[place] = value
        near[firing] = nearest[k]
    order = largest_first(near)
    return max(MIN_LEVEL, (near[order[n // 2]] + near[order[(n - 1) // 2]]) / 2)


@njit(cache=True, nogil=True)
def similarity_statistics(r, weights):
    """Compute the similarity statistics of some firings: `SimilarityStatistics`.
    weights: their weights, which sum to 1."""
    n = len(weights)
    values = np.full(2, np.nan)
    moves = np.zeros((2, n))
    covariance = np.zeros((2, 2))
    if n < 2:
        return SimilarityStatistics(values, covariance, moves)
    level = near_similarity(r)
    weighted = np.empty((n, n))
    to_others = np.zeros(n)  # how similar each is to the others, weighted
    other = 1.0
    for i in range(n):
        other -= weights[i] ** 2
        for j in range(n):
            weighted[i, j] = r[i, j] * np.sqrt(weights[i]) * np.sqrt(weights[j])
            if i != j:
                to_others[i] += min(1.0, r[i, j] / level) * weights[j]
    eigenvalues, vectors = np.linalg.eigh(weighted)
    first, second = eigenvalues[-1], eigenvalues[-2]
    evenness = 0.0
    for i in range(n):
        evenness += weights[i] * to_others[i] / other
    for i in range(n):
        moves[0, i] = first * (vectors[i, -1] ** 2 - weights[i]) - second * (vectors[i, -2] ** 2 - weights[i])
        moves[1, i] = 2 * weights[i] * (to_others[i] - evenness * (1 - weights[i])) / other
        for a in range(2):
            for b in range(2):
                covariance[a, b] += moves[a, i] * moves[b, i]
    values[0], values[1] = first - second, evenness
    return SimilarityStatistics(values, covariance, moves)


@njit(cache=True, nogil=True)
def sense_of_each(r, weights, count_shares):
    """Cluster the firings into senses. Returns the sense of each firing, 0 for the largest; −1 for none.
    count_shares: the share of the latent's firings that each sampled one represents.

    Average linkage (Sokal & Michener 1958) merges two clusters while the mean r between them is at least MERGE_LEVEL
    times the level. Clusters with a share of MIN_SENSE of the weight, or of MIN_SENSE_OF_FIRINGS of the firings, are
    senses, numbered by weight. The largest cluster is always a sense. The firings of the other clusters belong to no
    sense.
    """
    n = len(weights)
    sense = np.zeros(n, np.int64)
    if n < 2:
        return sense
    cluster = average_linkage(r, MERGE_LEVEL * near_similarity(r))
    mass, share, size = np.zeros(n), np.zeros(n), np.zeros(n)
    for firing in range(n):
        mass[cluster[firing]] += weights[firing]
        share[cluster[firing]] += count_shares[firing]
        size[cluster[firing]] += 1
    sense[:] = -1
    n_senses = 0
    for largest in largest_first(mass):
        has_many = share[largest] >= MIN_SENSE_OF_FIRINGS and size[largest] >= MIN_FIRINGS_OF_SENSE
        if n_senses < MAX_SENSES and (n_senses == 0 or mass[largest] >= MIN_SENSE or has_many):
            for firing in range(n):
                if cluster[firing] == largest:
                    sense[firing] = n_senses
            n_senses += 1
    return sense


@njit(cache=True, nogil=True)
def most_shared(shared, weights, most_nats):
    """Find the N_COMMON predicates that explain the firings best: their indices in `shared`. Each is the best for what
    the previous ones leave unexplained, by Σ of the weight that it adds times its lift, at most `most_nats`."""
    explained = np.zeros(len(weights))
    best_first = np.empty(N_COMMON, np.int64)
    for number in range(N_COMMON):
        best, largest_gain = -1, 0.0
        for i in range(len(shared.numbers)):
            gain = 0.0
            for firing in shared.members[shared.offsets[i] : shared.offsets[i + 1]]:
                gain += weights[firing] * max(min(shared.lift[i], most_nats) - explained[firing], 0.0)
            if best < 0 or gain > largest_gain:
                best, largest_gain = i, gain
        if best < 0 or largest_gain < 0.05 * most_nats:
            return best_first[:number]
        best_first[number] = best
        for firing in shared.members[shared.offsets[best] : shared.offsets[best + 1]]:
            explained[firing] = max(explained[firing], min(shared.lift[best], most_nats))
    return best_first
