"""Names of the parts of the map: what most latents of a cluster are said to be, and few elsewhere.

In: points of latents in the plane, the label that most firings of each lie in, and its explanation.
Out: [x, y, name] of clusters, largest first.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from interp.features.feature_store import FeatureStore
from interp.report.payloads import number

LATENTS_EACH, MAX_CLUSTERS, MIN_LATENTS = 40, 60, 6
"""Latents a cluster on average, most clusters, and the fewest latents that a name needs."""
MIN_SHARE, MIN_LIFT = 0.25, 3.0
"""Of the latents of a cluster that have its name, and how many times the share among all that is."""
REPEATS = 3
"""Clusters of one name that show it, the largest."""
_BETWEEN = re.compile(r'(?<="), (?:or )?|(?<=") or |, or ')


def map_names(
    points: Float[np.ndarray, "latent 2"], labels: Sequence[str | None], explanations: Sequence[str], *, seed: int = 0
) -> list[list]:
    """The clusters are those of k-means; one whose latents have too little in common has no name."""
    from sklearn.cluster import KMeans

    said = [_phrases(label, text) for label, text in zip(labels, explanations, strict=True)]
    overall = Counter(phrase for phrases in said for phrase in phrases)
    k = min(MAX_CLUSTERS, len(points) // LATENTS_EACH)
    if k < 2 or not overall:
        return []
    cluster = KMeans(k, n_init=1, random_state=seed).fit_predict(points)
    named = []
    for members in (np.flatnonzero(cluster == c) for c in range(k)):
        counts = Counter(phrase for i in members for phrase in said[i])
        own = {name: n for name, n in counts.items() if n / len(members) >= MIN_LIFT * overall[name] / len(points)}
        name, n = max(own.items(), key=lambda item: (item[1], item[0]), default=("", 0))
        if n >= max(MIN_LATENTS, MIN_SHARE * len(members)):
            x, y = np.median(points[[i for i in members if name in said[i]]], axis=0)
            named.append((n, [number(x), number(y), name]))
    named.sort(key=lambda item: -item[0])
    before = [sum(name == other for _, (*_, other) in named[:i]) for i, (_, (*_, name)) in enumerate(named)]
    return [place for (_, place), n in zip(named, before, strict=True) if n < REPEATS]


def surroundings(store: FeatureStore) -> dict[int, str]:
    """Of each latent the label that half of its firings or more lie in; of several the rarest, for its share."""
    inside = store.sql("""
        select latent, label from labels where precision >= 0.5
        qualify row_number() over (partition by latent order by precision / n_label desc, label) = 1""")
    return dict(zip(inside["latent"].tolist(), inside["label"].tolist(), strict=True))


def _phrases(label: str | None, explanation: str) -> set[str]:
    """The label in words, and what an explanation joins by "or"."""
    return ({*_BETWEEN.split(explanation)} - {""}) | ({label.replace("_", " ")} if label else set())
