"""Does a twin dictionary, trained from another seed, have the same latent?

For latent i, the best match j in the twin, by decoder direction and by firing:

    decoder_cosine_i = max_j Ŵ_i · Ŵ'_j
    correlation_i    = max_j Pearson(z_i, z'_j)       over the rows that both encoded, 0 where silent

and for the two dictionaries, with M the best one-to-one matching (Hungarian algorithm),

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|                                                (arXiv 2505.20254)

Source: the best match by either is folklore; PW-MCC, Song et al. 2025 (arXiv 2505.20254), who take |cosine| and a
one-to-one matching, so that two latents cannot both claim a third.
Cost: products of the codes, L0² a row, and the matching, O(n³) at worst; beyond `EXACT_UP_TO` latents the matching is
greedy among each latent's `CANDIDATES` best, a lower bound. Memory: `buffer_mb` for correlations, in more passes if
they need more; n² for the exact matching.
Failing: stability, not meaning. A muddled direction that the data force on every seed is found again, and a fine
meaning that a narrow dictionary splits differently each time is not.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numba import njit
from torch import Tensor

from interp.codes import SparseCodes
from interp.features import FeatureStore
from interp.statistics.chunks import transpose

EXACT_UP_TO = 8192
CANDIDATES = 32
_BLOCK = 256
_ROWS = 1 << 16

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TwinAgreement:
    decoder_match: Int64[np.ndarray, " d_sae"]
    """The twin's latent; −1 where there is none: no decoder."""
    decoder_cosine: Float64[np.ndarray, " d_sae"]
    code_match: Int64[np.ndarray, " d_sae"]
    """−1 where the latent never fires."""
    correlation: Float64[np.ndarray, " d_sae"]
    pw_mcc: float
    """Over all latents, the dead ones too; NaN without both decoders."""


def twin_agreement(
    features: FeatureStore, twin: FeatureStore, *, buffer_mb: int = 256, progress: Progress | None = None
) -> TwinAgreement:
    """How well each latent of `features` is found again in `twin`, a scan of the same tokens.

    Raises ValueError if the tokens or the decoders' widths differ.
    """
    if not torch.equal(features.tokens, twin.tokens):
        raise ValueError(f"{twin.path} is a scan of other tokens than {features.path}: twins need the same")
    ours, theirs = features.W_dec, twin.W_dec
    match, cosine, pw_mcc = np.full(features.d_sae, -1), np.full(features.d_sae, np.nan), np.nan
    if ours is not None and theirs is not None:
        if ours.shape[1] != theirs.shape[1]:
            raise ValueError(f"decoders are {ours.shape[1]} and {theirs.shape[1]} wide: twins read the same hook")
        match, cosine = nearest_rows(ours, theirs)
        pw_mcc = pairwise_mcc(ours, theirs)
    code_match, correlation = _best_correlation(features, twin, buffer_mb, progress)
    return TwinAgreement(match, cosine, code_match, correlation, pw_mcc)


@torch.no_grad()
def nearest_rows(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """For each row of `ours`, the row of `theirs` of the largest cosine, and that cosine."""
    other = _unit(theirs)
    best = [(block @ other.T).max(1) for block in _unit(ours).split(_BLOCK)]
    return torch.cat([b.indices for b in best]).numpy(), torch.cat([b.values for b in best]).double().numpy()


@torch.no_grad()
def pairwise_mcc(ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"], exact_up_to: int = EXACT_UP_TO) -> float:
    """PW-MCC: mean |cosine| of the best one-to-one matching; of unlike widths, all of the narrower are matched."""
    import scipy.optimize

    a, b = sorted((_unit(ours), _unit(theirs)), key=len)
    if len(b) <= exact_up_to:
        every = (a @ b.T).abs_().numpy()
        return float(every[scipy.optimize.linear_sum_assignment(every, maximize=True)].mean())
    best = [(block @ b.T).abs_().topk(min(CANDIDATES, len(b)), dim=1) for block in a.split(_BLOCK)]
    cosine, other = torch.cat([x.values for x in best]).flatten(), torch.cat([x.indices for x in best]).flatten()
    order = cosine.argsort(descending=True, stable=True)
    latent = order // (len(cosine) // len(a))
    return float(_greedy(latent.numpy(), other[order].numpy(), cosine[order].double().numpy(), len(a), len(b)))


class _Moments(NamedTuple):
    n: int
    mean: Float64[np.ndarray, " latent"]
    std: Float64[np.ndarray, " latent"]


def _best_correlation(
    features: FeatureStore, twin: FeatureStore, buffer_mb: int, progress: Progress | None
) -> tuple[Int64[np.ndarray, " d_sae"], Float64[np.ndarray, " d_sae"]]:
    match, best = np.full(features.d_sae, -1), np.full(features.d_sae, np.nan)
    size = max(1, (buffer_mb << 20) // (8 * twin.d_sae))
    sums = [np.zeros((store.d_sae, 2)) for store in (features, twin)]
    n_rows, done, total = 0, 0, -(-features.d_sae // size) * len(features.codes)
    for first in range(0, features.d_sae, size):
        products = np.zeros((min(size, features.d_sae - first), twin.d_sae))
        for keep, mine, other in _shared_rows(features, twin):
            if first == 0:
                n_rows += int(keep.sum())
                for codes, into in zip((mine, other), sums, strict=True):
                    _add_moments(codes.offsets.numpy(), codes.latents.numpy(), codes.values.numpy(), keep, into)
            _add_products(mine, other, keep, first, products)
            done += len(keep)
            if progress:
                progress(done, total, "correlating twins")
        ours, theirs = (_moments(each, n_rows) for each in sums)
        _best_of(products, first, ours, theirs, match, best)
    return match, best


def _shared_rows(
    features: FeatureStore, twin: FeatureStore
) -> Iterator[tuple[Bool[np.ndarray, " row"], SparseCodes, SparseCodes]]:
    """Which rows both encoded, and the codes of both, in token order."""
    for start in range(0, len(features.codes), _ROWS):
        stop = min(start + _ROWS, len(features.codes))
        keep = features.codes.present(start, stop) & twin.codes.present(start, stop)
        yield keep.numpy(), features.codes[start:stop], twin.codes[start:stop]


def _add_products(
    mine: SparseCodes, other: SparseCodes, keep: Bool[np.ndarray, " row"], first: int, products: np.ndarray
) -> None:
    """Σ_row z_i z'_j of latents first .. first + len(products), some in each thread."""
    columns, rows, values, _ = transpose(mine.offsets.numpy(), mine.latents.numpy(), mine.values.numpy(), mine.d_sae)
    theirs = other.offsets.numpy(), other.latents.numpy(), other.values.numpy()
    n_threads = torch.get_num_threads()
    limits = np.linspace(0, len(products), n_threads + 1).astype(int)

    def add(i: int) -> None:
        low, high = limits[i], limits[i + 1]
        _multiply(columns[first + low : first + high + 1], rows, values, *theirs, keep, products[low:high])

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(add, range(n_threads)))


def _moments(sums: Float64[np.ndarray, "latent 2"], n: int) -> _Moments:
    mean = sums[:, 0] / max(n, 1)
    return _Moments(n, mean, np.sqrt(np.maximum(sums[:, 1] / max(n, 1) - mean**2, 0)))


def _best_of(
    products: np.ndarray, first: int, ours: _Moments, theirs: _Moments, match: np.ndarray, best: np.ndarray
) -> None:
    for start in range(0, len(products), _BLOCK):
        rows = slice(first + start, first + min(start + _BLOCK, len(products)))
        covariance = products[start : start + _BLOCK] / max(ours.n, 1) - np.outer(ours.mean[rows], theirs.mean)
        scale = np.outer(ours.std[rows], theirs.std)
        correlation = np.divide(covariance, scale, out=np.full(scale.shape, -np.inf), where=scale > 0)
        found = np.isfinite(correlation).any(1)
        match[rows] = np.where(found, correlation.argmax(1), -1)
        best[rows] = np.where(found, correlation.max(1), np.nan)


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
def _multiply(columns, rows, values, offsets, latents, others, keep, products):
    for i in range(len(columns) - 1):
        product = products[i]
        for c in range(columns[i], columns[i + 1]):
            row = rows[c]
            if keep[row] and values[c] > 0:
                v = np.float64(values[c])
                for e in range(offsets[row], offsets[row + 1]):
                    product[latents[e]] += v * max(others[e], np.float32(0))


@njit(cache=True, nogil=True)
def _greedy(latents, others, cosines, n, m):
    """Mean over `n` latents of the cosines of pairs taken best first, each latent and other once."""
    taken, used, total = np.zeros(n, np.bool_), np.zeros(m, np.bool_), 0.0
    for i in range(len(cosines)):
        if not taken[latents[i]] and not used[others[i]]:
            taken[latents[i]] = used[others[i]] = True
            total += cosines[i]
    return total / n
