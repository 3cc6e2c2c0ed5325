"""Where the latents lie on the map: decoder directions → the plane, neighbours by angle close together.

UMAP (McInnes et al. 2018) with the cosine metric, seeded, on one thread, so that the same decoder gives the same map.
Fewer latents than UMAP can make a neighbourhood graph of are projected on their first two principal components.
"""

import warnings
from types import ModuleType

import numpy as np
from jaxtyping import Float

MIN_FOR_UMAP = 20


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
    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP, layouts, umap_, utils

    # numba's OpenMP layer turns nested teams on for the whole process: attention took torch a thousand times as long.
    config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]
    for module in (umap_, layouts, utils):
        _keep_compiled(module)
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


def _keep_compiled(module: ModuleType) -> None:
    """umap compiles its loops anew in each process, for ten seconds, unless numba is told to keep them on disk."""
    from numba.core.dispatcher import Dispatcher

    for function in vars(module).values():
        if isinstance(function, Dispatcher):
            function.enable_caching()


def _pca(rows: np.ndarray) -> np.ndarray:
    points = np.zeros((len(rows), 2), np.float32)
    if len(rows) > 1:
        u, s, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
        points[:, : min(2, len(s))] = (u * s)[:, :2]
    return points
