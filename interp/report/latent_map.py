"""The map of the latents: decoder directions → the plane, neighbours by angle close together, and names of its parts.

UMAP (McInnes et al. 2018) with the cosine metric, seeded, on one thread, so that the same decoder gives the same map.
Fewer latents than UMAP can make a neighbourhood graph of are projected on their first two principal components. The
name of a part is what most latents of a cluster are said to be, and few elsewhere.
"""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.features.feature_store import FeatureStore
from interp.report.inputs import ReportInputs
from interp.report.json_text import number

MIN_FOR_UMAP = 20
LATENTS_EACH, MAX_CLUSTERS, MIN_LATENTS = (40, 12), (60, 240), (6, 4)
"""Latents a cluster on average, most clusters, and the fewest latents that a name needs: of the map as a whole, and of
the names that come in where it is looked at more closely."""
MIN_SHARE, MIN_LIFT = 0.25, 3.0
"""The least share of the latents of a cluster that have its name, and how many times the share among all that is."""
REPEATS = 3
"""Clusters of one name that show it, the largest."""
_BETWEEN = re.compile(r'(?<="), (?:or )?|(?<=") or |, or ')


def map_payload(inputs: ReportInputs, explanations: Sequence[str], seed: int) -> dict[str, Any]:
    """Latents that fire, with their coordinates; without decoder directions, the reason that there is no map."""
    W_dec = inputs.store.W_dec
    latents = np.flatnonzero(inputs.features["n_active"] > 0).tolist()
    if W_dec is None or not latents:
        why = "this feature store has no decoder directions (W_dec)" if W_dec is None else "no latent fires"
        return {"missing": f"There is no map: {why}."}
    points = decoder_layout(np.asarray(W_dec, dtype=np.float32)[latents], seed=seed)
    within = surroundings(inputs.store)
    labels, known = [within.get(latent) for latent in latents], sorted(set(within.values()))
    x, y = ([number(value, 4) for value in axis] for axis in points.T)
    return {
        "latents": latents,
        "x": x,
        "y": y,
        "labels": known,
        "inside": [None if label is None else known.index(label) for label in labels],
        "way": "UMAP" if len(latents) >= MIN_FOR_UMAP else "PCA",
        "names": [
            [*name, level]
            for level in range(len(LATENTS_EACH))
            for name in map_names(points, labels, [explanations[latent] for latent in latents], level, seed=seed)
        ],
    }


def decoder_layout(W_dec: Float[np.ndarray, "latent d_in"], *, seed: int = 0) -> Float[np.ndarray, "latent 2"]:
    """Coordinates without a unit, centred, the farthest latent at distance 1. Raises ValueError on non-finite rows."""
    if not np.isfinite(W_dec).all():
        bad = np.flatnonzero(~np.isfinite(W_dec).all(1))
        raise ValueError(f"W_dec has non-finite rows (the first: {bad[0]}); the map needs finite directions")
    rows = W_dec.astype(np.float32)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    points = _pca(rows) if len(rows) < MIN_FOR_UMAP else _umap(rows, seed)
    points = points - points.mean(0) if len(points) else points
    return (points / max(float(np.linalg.norm(points, axis=1).max(initial=0.0)), 1e-12)).astype(np.float32)


def _umap(rows: np.ndarray, seed: int) -> np.ndarray:
    from numba import config
    from numba.core.dispatcher import Dispatcher
    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP, layouts, umap_, utils

    # numba's OpenMP layer turns nested teams on for the whole process: attention took torch a thousand times as long.
    config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]
    # umap compiles its loops anew in each process, for ten seconds, unless numba is told to keep them on disk.
    for function in (each for module in (umap_, layouts, utils) for each in vars(module).values()):
        if isinstance(function, Dispatcher):
            function.enable_caching()
    k = min(15, len(rows) - 1)
    # Exact neighbours are quick at these sizes, and spare umap a minute of compiling its approximate search.
    distances, indices = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(rows).kneighbors(rows)
    known = (indices, distances, None)
    mapper = UMAP(
        n_neighbors=k, min_dist=0.1, metric="cosine", n_epochs=200, random_state=seed, n_jobs=1, precomputed_knn=known
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap warns that it cannot map new points, and of a seed's single thread
        points = mapper.fit_transform(rows)
    return np.nan_to_num(points)


def _pca(rows: np.ndarray) -> np.ndarray:
    points = np.zeros((len(rows), 2), np.float32)
    if len(rows) > 1:
        u, s, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
        points[:, : min(2, len(s))] = (u * s)[:, :2]
    return points


def map_names(
    points: Float[np.ndarray, "latent 2"],
    labels: Sequence[str | None],
    explanations: Sequence[str],
    level: int = 0,
    *,
    seed: int = 0,
) -> list[list]:
    """The clusters are those of k-means; one whose latents have too little in common has no name. level: a place of
    LATENTS_EACH, the finer the later."""
    from sklearn.cluster import KMeans

    phrases_of = [_phrases(label, text) for label, text in zip(labels, explanations, strict=True)]
    overall = Counter(phrase for phrases in phrases_of for phrase in phrases)
    k = min(MAX_CLUSTERS[level], len(points) // LATENTS_EACH[level])
    if k < 2 or not overall:
        return []
    cluster = KMeans(k, n_init=1, random_state=seed).fit_predict(points)
    named = []
    for members in (np.flatnonzero(cluster == c) for c in range(k)):
        counts = Counter(phrase for i in members for phrase in phrases_of[i])
        telling = {name: n for name, n in counts.items() if n / len(members) >= MIN_LIFT * overall[name] / len(points)}
        name, n = max(telling.items(), key=lambda item: (item[1], item[0]), default=("", 0))
        if n >= max(MIN_LATENTS[level], MIN_SHARE * len(members)):
            x, y = np.median(points[[i for i in members if name in phrases_of[i]]], axis=0)
            named.append((n, [number(x), number(y), name]))
    named.sort(key=lambda item: -item[0])
    before = [sum(name == other for _, (*_, other) in named[:i]) for i, (_, (*_, name)) in enumerate(named)]
    return [place for (_, place), n in zip(named, before, strict=True) if n < REPEATS]


def surroundings(store: FeatureStore) -> dict[int, str]:
    """Each latent with the label that half of its firings or more lie in; where there are several, the rarest."""
    inside = store.sql("""
        select latent, label from labels where precision >= 0.5
        qualify row_number() over (partition by latent order by precision / n_label desc, label) = 1""")
    return dict(zip(inside["latent"].tolist(), inside["label"].tolist(), strict=True))


def _phrases(label: str | None, explanation: str) -> set[str]:
    """The label in words, and what an explanation joins by "or"."""
    return ({*_BETWEEN.split(explanation)} - {""}) | ({label.replace("_", " ")} if label else set())
