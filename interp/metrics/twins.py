"""Does a twin dictionary, trained from another seed, have the same latent?

For latent i, the best match j in the twin, by decoder direction and by firing:

    decoder_cosine_i = max_j Ŵ_i · Ŵ'_j
    correlation_i    = max_j Pearson(z_i, z'_j)       over the rows that both encoded, 0 where silent

and for the two dictionaries, with M the best one-to-one matching (Hungarian algorithm),

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|                                                (arXiv 2505.20254)

Source: the best match by either is folklore; PW-MCC, Song et al. 2025 (arXiv 2505.20254), who take |cosine| and a
one-to-one matching, so that two latents cannot both claim a third.
Cost: products of the codes, L0² a row, and the matching, O(n³) at worst; beyond `EXACT_UP_TO` latents the matching is
greedy among each latent's `CANDIDATES` best, a lower bound. Memory: `buffer_mb` for correlations, in further passes if
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
from jaxtyping import Float, Float64, Int64
from numba import njit
from torch import Tensor

from interp.features.chunks import transpose
from interp.features.feature_store import FeatureStore
from interp.monosemanticity.firings import CodeChunk, chunks

EXACT_UP_TO = 8192
CANDIDATES = 32
_BLOCK = 256

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


class TwinSummer:
    """The best correlation of each latent of `features` with one of `twin`, a scan of the same tokens, from one pass
    over the codes of `features`: `add` each chunk, then ask for the `best`. What `buffer_mb` does not hold is read in
    passes of its own then.

    Raises ValueError if the tokens or the decoders' widths differ.
    """

    def __init__(self, features: FeatureStore, twin: FeatureStore, buffer_mb: int = 256):
        if not torch.equal(features.tokens, twin.tokens):
            raise ValueError(f"{twin.path} is a scan of other tokens than {features.path}: twins need the same")
        ours, theirs = features.W_dec, twin.W_dec
        if ours is not None and theirs is not None and ours.shape[1] != theirs.shape[1]:
            raise ValueError(f"decoders are {ours.shape[1]} and {theirs.shape[1]} wide: twins read the same hook")
        self._features, self._twin = features, twin
        size = max(1, (buffer_mb << 20) // (8 * twin.d_sae))
        self._blocks = np.split(np.arange(features.d_sae), range(size, features.d_sae, size))
        self._first = Correlator(features, twin, self._blocks[0])

    def add(self, chunk: CodeChunk) -> None:
        self._first.add(chunk)

    def best(self, progress: Progress | None = None) -> "Match":
        found = [self._first.best()]
        for latents in self._blocks[1:]:
            more = Correlator(self._features, self._twin, latents)
            for chunk in _all_codes(self._features, progress):
                more.add(chunk)
            found.append(more.best())
        return Match(*(np.concatenate(each) for each in zip(*found, strict=True)))


def twin_agreement(
    features: FeatureStore, twin: FeatureStore, *, buffer_mb: int = 256, progress: Progress | None = None
) -> TwinAgreement:
    """How well each latent of `features` is found again in `twin`, a scan of the same tokens.

    Raises ValueError if the tokens or the decoders' widths differ.
    """
    summer = TwinSummer(features, twin, buffer_mb)
    for chunk in _all_codes(features, progress):
        summer.add(chunk)
    by_code, by_row, pw_mcc = summer.best(progress), nearest_latents(features, twin), np.nan
    if features.W_dec is not None and twin.W_dec is not None:
        pw_mcc = pairwise_mcc(features.W_dec, twin.W_dec)
    return TwinAgreement(*by_row, *by_code, pw_mcc)


def nearest_latents(features: FeatureStore, twin: FeatureStore) -> "Match":
    """By decoder direction; −1 and NaN where one of them has none."""
    if features.W_dec is None or twin.W_dec is None:
        return Match(np.full(features.d_sae, -1), np.full(features.d_sae, np.nan))
    return Match(*nearest_rows(features.W_dec, twin.W_dec))


def _all_codes(features: FeatureStore, progress: Progress | None) -> Iterator[CodeChunk]:
    return chunks(features.codes, np.ones(features.d_sae, np.float32), 1, progress, "correlating twins")


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


class Match(NamedTuple):
    """The twin's best latent of each, and how well it matches; −1 and NaN where there is none."""

    latent: Int64[np.ndarray, " unit"]
    value: Float64[np.ndarray, " unit"]


class Correlator:
    """Adds up the correlations of some latents with all of a twin's, chunk by chunk, over the rows that both encoded;
    each row with the twin's `moved` rows further on, in a ring."""

    def __init__(self, features: FeatureStore, twin: FeatureStore, latents: Int64[np.ndarray, " unit"], moved: int = 0):
        self._features, self._twin, self._latents, self._moved = features, twin, latents, moved
        self._n_shared = 0
        self._products = np.zeros((len(latents), twin.d_sae))
        self._sums = np.zeros((features.d_sae, 2)), np.zeros((twin.d_sae, 2))  # Σ z, Σ z²

    def add(self, chunk: CodeChunk) -> None:
        n_rows = len(self._twin.codes)
        first = (chunk.start + self._moved) % n_rows
        here = min(chunk.stop - chunk.start, n_rows - first)
        self._add(chunk, 0, here, first)
        if here < chunk.stop - chunk.start:
            self._add(chunk, here, chunk.stop - chunk.start, 0)

    def best(self) -> Match:
        """By correlation; −1 and NaN for a latent that never fires."""
        match, best = np.full(len(self._latents), -1), np.full(len(self._latents), np.nan)
        (mean, std), (their_mean, their_std) = (_mean_and_std(each, self._n_shared) for each in self._sums)
        for start in range(0, len(match), _BLOCK):
            rows = slice(start, start + _BLOCK)
            latents = self._latents[rows]
            covariance = self._products[rows] / max(self._n_shared, 1) - np.outer(mean[latents], their_mean)
            scale = np.outer(std[latents], their_std)
            correlation = np.divide(covariance, scale, out=np.full(scale.shape, -np.inf), where=scale > 0)
            found = np.isfinite(correlation).any(1)
            match[rows] = np.where(found, correlation.argmax(1), -1)
            best[rows] = np.where(found, correlation.max(1), np.nan)
        return Match(match, best)

    def _add(self, chunk: CodeChunk, low: int, high: int, first: int) -> None:
        """Rows low .. high of the chunk, beside the twin's from `first` on."""
        start, stop, last = chunk.start + low, chunk.start + high, first + high - low
        other = self._twin.codes[first:last]
        keep = (self._features.codes.present(start, stop) & self._twin.codes.present(first, last)).numpy()
        offsets = chunk.offsets[low : high + 1]
        inside = slice(offsets[0], offsets[-1])
        mine = offsets - offsets[0], chunk.latents[inside], chunk.activations[inside]
        theirs = other.offsets.numpy(), other.latents.numpy(), other.values.numpy()
        self._n_shared += int(keep.sum())
        _add_moments(*mine, keep, self._sums[0])
        _add_moments(*theirs, keep, self._sums[1])
        columns, rows, values, _ = transpose(*mine, self._features.d_sae)
        n_threads = min(torch.get_num_threads(), -(-len(self._latents) // _BLOCK))
        limits = np.linspace(0, len(self._latents), n_threads + 1).astype(int)

        def multiply(i: int) -> None:
            part = slice(limits[i], limits[i + 1])
            _multiply(self._latents[part], columns, rows, values, *theirs, keep, self._products[part])

        with ThreadPoolExecutor(max(n_threads, 1)) as pool:
            list(pool.map(multiply, range(n_threads)))


def _mean_and_std(
    sums: Float64[np.ndarray, "latent 2"], n: int
) -> tuple[Float64[np.ndarray, " latent"], Float64[np.ndarray, " latent"]]:
    mean = sums[:, 0] / max(n, 1)
    return mean, np.sqrt(np.maximum(sums[:, 1] / max(n, 1) - mean**2, 0))


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


@njit(cache=True, nogil=True)
def _greedy(latents, others, cosines, n, m):
    """Mean over `n` latents of the cosines of pairs taken best first, each latent and other once."""
    taken, used, total = np.zeros(n, np.bool_), np.zeros(m, np.bool_), 0.0
    for i in range(len(cosines)):
        if not taken[latents[i]] and not used[others[i]]:
            taken[latents[i]] = used[others[i]] = True
            total += cosines[i]
    return total / n
