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

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Float64, Int64
from numba import njit
from torch import Tensor

from interp.features.feature_store import FeatureStore
from interp.monosemanticity.firings import CodeChunk, chunks

_BLOCK = 256


def best_correlations(
    features: FeatureStore, twin: FeatureStore, buffer_mb: int = 256
) -> Float64[np.ndarray, " d_sae"]:
    """The largest correlation of each latent's activation with one of the twin's; NaN for one that never fires.

    Raises ValueError if the tokens or the decoders' widths differ.
    """
    check_twin(features, twin)
    size = max(1, (buffer_mb << 20) // (8 * twin.d_sae))
    found = []
    for first in range(0, features.d_sae, size):
        sums = _Products(features, twin, np.arange(first, min(first + size, features.d_sae)))
        for chunk in chunks(features.codes, np.ones(features.d_sae, np.float32), 1):
            sums.add(chunk)
        found.append(sums.largest())
    return np.concatenate(found)


def check_twin(features: FeatureStore, twin: FeatureStore) -> None:
    if not torch.equal(features.tokens, twin.tokens):
        raise ValueError(f"{twin.path} is a scan of other tokens than {features.path}: twins need the same")
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


class _Products:
    """Adds up the products of some latents' activations with all of the twin's, chunk by chunk."""

    def __init__(self, features: FeatureStore, twin: FeatureStore, latents: Int64[np.ndarray, " unit"]):
        self._features, self._twin, self._latents = features, twin, latents
        self._n_shared = 0
        self._products = np.zeros((len(latents), twin.d_sae))
        self._sums = np.zeros((features.d_sae, 2)), np.zeros((twin.d_sae, 2))  # Σ z, Σ z²

    def add(self, chunk: CodeChunk) -> None:
        start, stop = chunk.start, chunk.stop
        other = self._twin.codes[start:stop]
        keep = (self._features.codes.present(start, stop) & self._twin.codes.present(start, stop)).numpy()
        mine = chunk.offsets, chunk.latents, chunk.activations
        theirs = other.offsets.numpy(), other.latents.numpy(), other.values.numpy()
        self._n_shared += int(keep.sum())
        _add_moments(*mine, keep, self._sums[0])
        _add_moments(*theirs, keep, self._sums[1])
        entries, shape = (chunk.activations, chunk.latents, chunk.offsets), (len(keep), self._features.d_sae)
        own = scipy.sparse.csr_matrix(entries, shape).tocsc()
        blocks = [slice(first, first + _BLOCK) for first in range(0, len(self._latents), _BLOCK)]

        def multiply(block: slice) -> None:
            _multiply(self._latents[block], own.indptr, own.indices, own.data, *theirs, keep, self._products[block])

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(multiply, blocks))

    def largest(self) -> Float64[np.ndarray, " unit"]:
        """By correlation; NaN for a latent that never fires."""
        n, best = max(self._n_shared, 1), np.full(len(self._latents), np.nan)
        mean, their_mean = (sums[:, 0] / n for sums in self._sums)
        variances = (sums[:, 1] / n - own**2 for sums, own in zip(self._sums, (mean, their_mean), strict=True))
        std, their_std = (np.sqrt(np.maximum(variance, 0)) for variance in variances)
        for first in range(0, len(best), _BLOCK):
            latents = self._latents[first : first + _BLOCK]
            covariance = self._products[first : first + _BLOCK] / n - np.outer(mean[latents], their_mean)
            scale = np.outer(std[latents], their_std)
            correlation = np.divide(covariance, scale, out=np.full(scale.shape, -np.inf), where=scale > 0).max(1)
            best[first : first + _BLOCK] = np.where(np.isfinite(correlation), correlation, np.nan)
        return best


def _unit(W: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return torch.nn.functional.normalize(W.detach().float().cpu(), dim=1)


@njit(cache=True, nogil=True)
def _add_moments(offsets, latents, values, keep, sums):
    for row in range(len(keep)):
        if keep[row]:
            for e in range(offsets[row], offsets[row + 1]):
                v = np.float64(max(values[e], np.float32(0)))
                sums[latents[e], 0] += v
                sums[latents[e], 1] += v * v


@njit(cache=True, nogil=True)
def _multiply(ours, columns, rows, values, offsets, latents, others, keep, products):
    for i in range(len(ours)):
        product = products[i]
        for c in range(columns[ours[i]], columns[ours[i] + 1]):
            row = rows[c]
            if keep[row] and values[c] > 0:
                v = np.float64(values[c])
                for e in range(offsets[row], offsets[row + 1]):
                    product[latents[e]] += v * max(others[e], np.float32(0))
