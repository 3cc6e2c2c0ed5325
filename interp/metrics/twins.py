"""Does a twin dictionary, trained from another seed, have the same latent?

In: two scans of the same tokens, or two decoders. Out: for latent i the best match j in the twin,

    correlation_i = max_j Pearson(z_i, z'_j)       over the rows that both encoded, 0 where silent
    cosine_i      = max_j Ŵ_i · Ŵ'_j

and for the two dictionaries, with M the best one-to-one matching (Hungarian algorithm),

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|                                                (arXiv 2505.20254)

Source: the best match by either is folklore; PW-MCC, Song et al. 2025, who take |cosine| and a one-to-one matching, so
that two latents cannot both claim a third.
Cost: products of the codes, L0² a row; the matching, O(n³) at worst and n² in memory. `buffer_mb` holds the
correlations, in further passes over the codes if they need more (of more than some 5800 latents each).
Failing: stability, not meaning. A muddled direction that the data force on every seed is found again, and a fine
meaning that a narrow dictionary splits differently each time is not.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numba import njit
from torch import Tensor

from interp.codes import CodeStore, SparseCodes
from interp.features.feature_store import FeatureStore
from interp.files import ratio
from interp.monosemanticity.firings import ROWS_PER_CHUNK

_BLOCK = 256


def best_correlations(
    features: FeatureStore, twin: FeatureStore, buffer_mb: int = 256
) -> Float64[np.ndarray, " d_sae"]:
    """The largest correlation of each latent's activation with one of the twin's; NaN for one that never fires.

    Raises ValueError if the tokens or the decoders' widths differ.
    """
    check_twin(features, twin)
    size = max(1, (buffer_mb << 20) // (8 * twin.d_sae))
    parts = np.split(np.arange(features.d_sae), range(size, features.d_sae, size))
    return np.concatenate([_best_of(latents, features.codes, twin.codes) for latents in parts])


def check_twin(features: FeatureStore, twin: FeatureStore) -> None:
    if not torch.equal(features.tokens, twin.tokens):
        raise ValueError(f"{twin.path} is a scan of other tokens than {features.path}: twins need the same")
    hooks = features.meta.get("hook_name"), twin.meta.get("hook_name")
    if all(hooks) and hooks[0] != hooks[1]:
        said = f"{twin.path} is a scan of {hooks[1]}, {features.path} one of {hooks[0]}"
        raise ValueError(f"{said}: twins read the same hook")
    ours, theirs = features.W_dec, twin.W_dec
    if ours is not None and theirs is not None and ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"decoders are {ours.shape[1]} and {theirs.shape[1]} wide: twins read the same hook")


@torch.no_grad()
def nearest_rows(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """For each row of `ours`, the row of `theirs` of the largest cosine, and that cosine."""
    other = _unit(theirs)
    best = [(block @ other.T).max(1) for block in _unit(ours).split(_BLOCK)]
    return torch.cat([b.indices for b in best]).numpy(), torch.cat([b.values for b in best]).double().numpy()


@torch.no_grad()
def pairwise_mcc(ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"]) -> float:
    """PW-MCC: mean |cosine| of the best one-to-one matching; of unlike widths, all of the narrower are matched."""
    import scipy.optimize

    a, b = sorted((_unit(ours), _unit(theirs)), key=len)
    cosine = (a @ b.T).abs_().numpy()
    return float(cosine[scipy.optimize.linear_sum_assignment(cosine, maximize=True)].mean())


def _best_of(latents: Int64[np.ndarray, " unit"], ours: CodeStore, theirs: CodeStore) -> Float64[np.ndarray, " unit"]:
    """Of some latents of ours, by one pass over both codes."""
    products = np.zeros((len(latents), theirs.d_sae))
    moments = np.zeros((2, ours.d_sae)), np.zeros((2, theirs.d_sae))  # Σ z, Σ z²
    edges = range(_BLOCK, len(latents), _BLOCK)
    blocks = np.split(latents, edges), np.split(products, edges)
    n = 0
    for start in range(0, len(ours), ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, len(ours))
        encoded = (ours.present(start, stop) & theirs.present(start, stop)).numpy()
        n += encoded.sum()
        z = [_activations(codes[start:stop], encoded) for codes in (ours, theirs)]
        for each, (sums, squares) in zip(z, moments, strict=True):
            values = each.data.astype(np.float64)
            np.add.at(sums, each.indices, values)
            np.add.at(squares, each.indices, values**2)
        arrays = [array for each in (z[0].tocsc(), z[1]) for array in (each.indptr, each.indices, each.data)]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(partial(_add_products, *arrays), *blocks))
    means = [sums / max(n, 1) for sums, _ in moments]
    pairs = zip(moments, means, strict=True)
    stds = [np.sqrt(np.maximum(squares / max(n, 1) - mean**2, 0)) for (_, squares), mean in pairs]
    best = []
    for own, sums in zip(*blocks, strict=True):
        covariance = sums / max(n, 1) - np.outer(means[0][own], means[1])
        best.append(ratio(covariance, np.outer(stds[0][own], stds[1]), empty=-np.inf).max(1))
    found = np.concatenate(best)
    return np.where(np.isfinite(found), found, np.nan)


def _activations(codes: SparseCodes, encoded: Bool[np.ndarray, " row"]) -> scipy.sparse.csr_matrix:
    """On the rows that both encoded; 0 elsewhere."""
    z = codes.scipy()
    z.data = np.maximum(z.data, 0) * np.repeat(encoded, np.diff(z.indptr))
    return z


def _unit(W: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return torch.nn.functional.normalize(W.detach().float().cpu(), dim=1)


@njit(cache=True, nogil=True)
def _add_products(columns, rows, values, offsets, latents, others, ours, products):
    for i in range(len(ours)):
        product = products[i]
        for c in range(columns[ours[i]], columns[ours[i] + 1]):
            v = np.float64(values[c])
            if v > 0:
                for e in range(offsets[rows[c]], offsets[rows[c] + 1]):
                    product[latents[e]] += v * others[e]
