"""The senses into which a latent's firings fall, and what the firings of each share.

In: how alike the firings are, r_ij (`similarity`). Out: clusters of average linkage (Sokal & Michener 1958), joined as
long as the mean r between two is at least JOINED times the level of firings that lie near to each other
(`similarity.level`). Clusters with MIN_SENSE of the weight are senses, numbered by weight, and the firings of the
others are of none. JOINED and MIN_SENSE count best what readers and planted latents have, of seven and four tried.

Failing: a sense of fewer than some ten sampled firings cannot be told from stragglers, and firings without any meaning
fall into parts as well, by the kinds of text that they lie in: hence the senses of shifted text beside them.
"""

import numpy as np
from jaxtyping import Float64, Int64

from interp.verdict.similarity import Shared, level

JOINED, MIN_SENSE = 0.5, 0.08
MAX_SENSES = 6
SAID = 3
"""Predicates that are said of a sense."""


def sense_of_each(
    r: Float64[np.ndarray, "firing firing"], weights: Float64[np.ndarray, " firing"]
) -> Int64[np.ndarray, " firing"]:
    """The sense of each firing, 0 for the largest; −1 for none. The largest cluster is always one."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(weights) < 2:
        return np.zeros(len(weights), np.int64)
    joins = linkage(squareform(1 - r, checks=False), "average")
    cluster = fcluster(joins, 1 - JOINED * level(r), "distance") - 1
    mass = np.bincount(cluster, weights)
    order = np.argsort(-mass, kind="stable")
    kept = order[: max(1, min(MAX_SENSES, int((mass >= MIN_SENSE).sum())))]
    number = np.full(len(mass), -1)
    number[kept] = np.arange(len(kept))
    return number[cluster]


def most_shared(
    shared: Shared, weights: Float64[np.ndarray, " firing"], most_nats: float, n: int = SAID
) -> list[tuple[int, int, float]]:
    """The predicates that tell most of the firings: number, a firing that has it, and its share of the weight. Each is
    the best for what those before it leave unexplained: Σ of the weight that it adds times its lift, at most
    `most_nats`."""
    worth = np.minimum(shared.lift, most_nats)
    explained = np.zeros(len(weights))
    best_first: list[tuple[int, int, float]] = []
    sizes = np.diff(shared.first)
    predicate_of = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(n):
        unexplained = np.maximum(worth[predicate_of] - explained[shared.members], 0)
        gain = np.bincount(predicate_of, weights[shared.members] * unexplained, len(sizes))
        if not len(gain) or gain.max() < 0.05 * most_nats:
            break
        best = int(gain.argmax())
        members = shared.members[shared.first[best] : shared.first[best + 1]]
        best_first.append((int(shared.numbers[best]), int(members[0]), float(shared.share[best])))
        explained[members] = np.maximum(explained[members], worth[best])
    return best_first
