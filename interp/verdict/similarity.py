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
from jaxtyping import Float32, Float64, Int32, Int64
from numba import njit

from interp.codes.offsets import offsets_from_lengths
from interp.statistics.linkage import average_linkage
from interp.text.predicates import rows_of_predicates

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
MAX_SENSES = 6
N_COMMON = 3
"""Number of predicates that are reported as shared by the firings of a sense."""
STATISTIC_NAMES = ("concentration", "evenness")


class SharedPredicates(NamedTuple):
    """The predicates that at least MIN_SHARED firings share, with a lift above MIN_LIFT_NATS."""

    numbers: Int64[np.ndarray, " shared"]
    lift: Float64[np.ndarray, " shared"]
    offsets: Int64[np.ndarray, " shared_plus_1"]
    members: Int64[np.ndarray, " member"]
    """The firings of the i-th predicate are members[offsets[i]:offsets[i + 1]], in ascending order."""

    @classmethod
    def among(
        cls,
        predicates: Int32[np.ndarray, "firing slot"],
        weights: Float64[np.ndarray, " firing"],
        surprise: Float32[np.ndarray, " predicate"],
    ) -> "SharedPredicates":
        """Find the shared predicates among those of some firings (−1 for none)."""
        numbers, offsets, members = rows_of_predicates(predicates)
        k = np.diff(offsets)
        share = np.bincount(np.repeat(np.arange(len(k)), k), weights[members], len(k))
        lift = np.log(np.maximum(share * (k - 2) / k, 1e-12)) + surprise[numbers]
        kept = (k >= MIN_SHARED) & (lift > MIN_LIFT_NATS)
        kept_offsets = offsets_from_lengths(k[kept])
        return cls(numbers[kept], lift[kept], kept_offsets, members[np.repeat(kept, k)])


class SimilarityStatistics(NamedTuple):
    """The similarity statistics of some firings."""

    values: Float64[np.ndarray, " statistic"]
    """In the order of STATISTIC_NAMES; NaN for a single firing."""
    moves: Float64[np.ndarray, "statistic firing"]
    """How much each statistic would change, per firing, if that firing's weight were doubled."""

    @property
    def covariance(self) -> Float64[np.ndarray, "statistic statistic"]:
        """Estimated covariance of the statistics' sampling errors."""
        return self.moves @ self.moves.T


def full_similarity_lift(density: float) -> float:
    """Return the lift, in nats, at which two firings of a latent of this density are fully similar:
    ½ (R + TYPICAL_NATS)."""
    return (TYPICAL_NATS - np.log(max(density, 1e-12))) / 2


def pairwise_similarity(shared: SharedPredicates, n: int, density: float) -> Float64[np.ndarray, "firing firing"]:
    """Return r for each pair of n firings of a latent that fires on the share `density` of the text."""
    most = full_similarity_lift(density)
    r = _similarities(
        n, np.clip((shared.lift - MIN_LIFT_NATS) / (most - MIN_LIFT_NATS), 0, 1), shared.offsets, shared.members
    )
    np.fill_diagonal(r, 1)
    return r


def level_of(r: Float64[np.ndarray, "firing firing"]) -> float:
    """Return the median, over firings, of the similarity to the k-th nearest firing, where k is the share NEAR_SHARE of
    all firings, and at least MIN_SHARED."""
    k = min(max(MIN_SHARED, int(np.ceil(NEAR_SHARE * len(r)))), len(r) - 1)
    rank = len(r) - 1 - k  # a firing is like itself
    return max(MIN_LEVEL, float(np.median(np.partition(r, rank, axis=1)[:, rank])))


def similarity_statistics(
    r: Float64[np.ndarray, "firing firing"], weights: Float64[np.ndarray, " firing"]
) -> SimilarityStatistics:
    """Compute the similarity statistics of some firings.
    weights: their weights, which sum to 1."""
    if len(weights) < 2:
        return SimilarityStatistics(
            np.full(len(STATISTIC_NAMES), np.nan), np.zeros((len(STATISTIC_NAMES), len(weights)))
        )
    root = np.sqrt(weights)
    value, vector = np.linalg.eigh(r * root[:, None] * root)
    second, first = value[-2:]
    v2, v1 = np.square(vector[:, -2:]).T
    moves = first * (v1 - weights) - second * (v2 - weights)
    even = np.minimum(1, r / level_of(r))
    other = 1 - (weights**2).sum()
    to_others = even @ weights - weights  # of each firing with the others, weighted
    evenness = weights @ to_others / other
    even_moves = 2 * weights * (to_others - evenness * (1 - weights)) / other
    return SimilarityStatistics(np.array([first - second, evenness]), np.stack([moves, even_moves]))


def sense_of_each(
    r: Float64[np.ndarray, "firing firing"], weights: Float64[np.ndarray, " firing"]
) -> Int64[np.ndarray, " firing"]:
    """Cluster the firings into senses. Returns the sense of each firing, 0 for the largest; −1 for none.

    Average linkage (Sokal & Michener 1958) merges two clusters while the mean r between them is at least MERGE_LEVEL
    times the level. Clusters with a share of MIN_SENSE of the weight are senses, numbered by weight. The largest
    cluster is always a sense. The firings of the other clusters belong to no sense.
    """
    if len(weights) < 2:
        return np.zeros(len(weights), np.int64)
    cluster = np.unique(average_linkage(r, MERGE_LEVEL * level_of(r)), return_inverse=True)[1]
    mass = np.bincount(cluster, weights)
    order = np.argsort(-mass, kind="stable")
    kept = order[: max(1, min(MAX_SENSES, int((mass >= MIN_SENSE).sum())))]
    number = np.full(len(mass), -1)
    number[kept] = np.arange(len(kept))
    return number[cluster]


def most_shared(
    shared: SharedPredicates, weights: Float64[np.ndarray, " firing"], most_nats: float
) -> list[tuple[int, int]]:
    """Find the N_COMMON predicates that explain the firings best, each with a firing that has it. Each is the best for
    what the previous ones leave unexplained, by Σ of the weight that it adds times its lift, at most `most_nats`."""
    worth = np.minimum(shared.lift, most_nats)
    explained = np.zeros(len(weights))
    best_first: list[tuple[int, int]] = []
    predicate_of = np.repeat(np.arange(len(worth)), np.diff(shared.offsets))
    for _ in range(N_COMMON):
        unexplained = np.maximum(worth[predicate_of] - explained[shared.members], 0)
        gain = np.bincount(predicate_of, weights[shared.members] * unexplained, len(worth))
        if not len(gain) or gain.max() < 0.05 * most_nats:
            break
        best = int(gain.argmax())
        members = shared.members[shared.offsets[best] : shared.offsets[best + 1]]
        best_first.append((int(shared.numbers[best]), int(members[0])))
        explained[members] = np.maximum(explained[members], worth[best])
    return best_first


@njit(cache=True, nogil=True)
def _similarities(n, worth, offsets, members):
    r = np.zeros((n, n))
    for number in np.argsort(worth):  # the largest comes last, and stays
        for a in range(offsets[number], offsets[number + 1]):
            for b in range(offsets[number], a):
                r[members[a], members[b]] = r[members[b], members[a]] = worth[number]
    return r
