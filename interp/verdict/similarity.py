"""How alike are the firings of a latent? By the rarest thing that they share.

In: the predicates that hold at n sampled firings (`text.surprise`), and the weight w_i of each, Σ w = 1. With c(a) the
weight of the firings at which predicate a holds, k how many of them, and p(a) the share of the text's positions where
it holds,

    lift(a) = ln c(a) (k − 2) / k − ln p(a)          nats: how much commoner it is among the other firings than in text
    s_ij    = max over predicates a that hold at i and j of lift(a), 0 if there is none
    r_ij    = min(1, max(0, s_ij − FLOOR) / (½ (R + TYPICAL) − FLOOR)),      R = −ln density,   r_ii = 1

r is 1 for "all that there is to explain", and about 0 among firings at random positions, which share what any text has
in common. A predicate gets no credit for the two firings that are compared: hence k − 2. r(a), what a alone would give,
is the same of lift(a). Out, with λ₁ ≥ λ₂ the largest eigenvalues of √w_i r_ij √w_j, and the level of a latent, the
median over its firings of the likeness to the one in NEAR of all that are most like each,

    concentration = λ₁ − λ₂                                        1 if all firings are one cluster, 0 for two equal
                                                                   ones or for many
    explained_share = max over a of c(a) r(a)                      how much of all one predicate explains
    evenness      = Σ_{i≠j} w_i w_j min(1, r_ij / level) / Σ_{i≠j} w_i w_j
                                                                   1 if all are as alike as near ones, however little

and how each of them would move if firing i had another weight, of which their errors are made. A broad meaning (late
words of a sentence) is told by a common predicate, so that all r are small and alike: evenness knows it from a union.

Source: own; derivatives of eigenvalues as in first-order perturbation, errors as by the infinitesimal jackknife (Efron
1982). Cost: 3 ms a latent.
Failing: what no kind of predicate says is not shared, an idea or a tone, say; a concept that has a word in each of four
languages is four clusters.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numba import njit

from interp.text.surprise import rows_of_each

LEAST = 3
"""Firings that must share a predicate for it to count."""
FLOOR, TYPICAL = 0.4, 4.0
"""Nats. A latent that fires on much of the text is explained by little: TYPICAL keeps chance from being enough."""
NEAR, LEAST_LEVEL = 0.05, 0.15
"""Firings that are nowhere more alike than LEAST_LEVEL have no level of their own."""
NAMES = ("concentration", "explained_share", "evenness")


class Shared(NamedTuple):
    """The predicates that LEAST firings or more share, and that tell more than FLOOR."""

    numbers: Int64[np.ndarray, " shared"]
    lift: Float64[np.ndarray, " shared"]
    share: Float64[np.ndarray, " shared"]
    """Weight of the firings that have each."""
    first: Int64[np.ndarray, " shared_plus_1"]
    members: Int64[np.ndarray, " member"]
    """The firings of each, ascending."""

    @classmethod
    def among(
        cls,
        predicates: Int32[np.ndarray, "firing place"],
        weights: Float64[np.ndarray, " firing"],
        surprise: Float32[np.ndarray, " predicate"],
    ) -> "Shared":
        """predicates: −1 for none."""
        numbers, first, members = rows_of_each(predicates)
        k = np.diff(first)
        share = np.bincount(np.repeat(np.arange(len(k)), k), weights[members], len(k))
        lift = np.log(np.maximum(share * (k - 2) / k, 1e-12)) + surprise[numbers]
        kept = (k >= LEAST) & (lift > FLOOR)
        starts = np.concatenate([[0], np.cumsum(k[kept])])
        return cls(numbers[kept], lift[kept], share[kept], starts, members[np.repeat(kept, k)])

    def worth(self, density: float) -> Float64[np.ndarray, " shared"]:
        """r of firings that share each and nothing else, of a latent that fires on the share `density` of the text."""
        most = (TYPICAL - np.log(max(density, 1e-12))) / 2
        return np.clip((self.lift - FLOOR) / (most - FLOOR), 0, 1)

    def best(
        self, worth: Float64[np.ndarray, " shared"], weights: Float64[np.ndarray, " firing"]
    ) -> Float64[np.ndarray, " firing"]:
        """What the predicate that explains most of the firings, by these weights, explains of each; 0 if there is none.
        Firings that weigh nothing do not count."""
        explained = np.zeros(len(weights))
        if len(worth):
            sizes = np.diff(self.first)
            held = np.bincount(np.repeat(np.arange(len(sizes)), sizes), weights[self.members], len(sizes))
            most = int((held * worth).argmax())
            explained[self.members[self.first[most] : self.first[most + 1]]] = worth[most]
        return explained


class Likeness(NamedTuple):
    values: Float64[np.ndarray, " statistic"]
    """NAMES; NaN of a single firing."""
    moves: Float64[np.ndarray, "statistic firing"]
    """By how much each would change if the firing's weight were doubled."""

    @property
    def covariance(self) -> Float64[np.ndarray, "statistic statistic"]:
        """Estimates the covariance of the statistics' errors, had other firings been drawn."""
        return self.moves @ self.moves.T


def similarities(shared: Shared, n: int, density: float) -> Float64[np.ndarray, "firing firing"]:
    """r of n firings of a latent that fires on the share `density` of the text."""
    r = _similarities(n, shared.worth(density), shared.first, shared.members)
    np.fill_diagonal(r, 1)
    return r


def level(r: Float64[np.ndarray, "firing firing"], share: float = NEAR) -> float:
    """How alike a firing is to those nearest to it, `share` of all and three at least: the median over firings."""
    k = min(max(LEAST, int(np.ceil(share * len(r)))), len(r) - 1)
    place = len(r) - 1 - k  # a firing is like itself
    return max(LEAST_LEVEL, float(np.median(np.partition(r, place, axis=1)[:, place])))


def likeness(
    r: Float64[np.ndarray, "firing firing"],
    weights: Float64[np.ndarray, " firing"],
    explained: Float64[np.ndarray, " firing"],
) -> Likeness:
    """Measures how alike some firings are; weights sum to 1; explained: by the best predicate (`Shared.best`)."""
    if len(weights) < 2:
        return Likeness(np.full(len(NAMES), np.nan), np.zeros((len(NAMES), len(weights))))
    root = np.sqrt(weights)
    value, vector = np.linalg.eigh(r * root[:, None] * root)
    second, first = value[-2:]
    v2, v1 = np.square(vector[:, -2:]).T
    moves = first * (v1 - weights) - second * (v2 - weights)
    explained_share = float(weights @ explained)
    even = np.minimum(1, r / level(r))
    other = 1 - (weights**2).sum()
    beside = even @ weights - weights  # of each firing with the others, weighted
    evenness = weights @ beside / other
    even_moves = 2 * weights * (beside - evenness * (1 - weights)) / other
    values = np.array([first - second, explained_share, evenness])
    return Likeness(values, np.stack([moves, weights * (explained - explained_share), even_moves]))


@njit(cache=True, nogil=True)
def _similarities(n, worth, first, members):
    r = np.zeros((n, n))
    for place in np.argsort(worth):  # the largest comes last, and stays
        for a in range(first[place], first[place + 1]):
            for b in range(first[place], a):
                r[members[a], members[b]] = r[members[b], members[a]] = worth[place]
    return r
