"""Match each latent with the most similar latent of another dictionary, such as a twin from another seed.

In: two scans of the same tokens, or two decoders. Out: for latent i, the best match j in the other by

    correlation_i = max_j Pearson(z_i, z'_j)       over the rows that both encoded, 0 where silent
    cosine_i      = max_j Ŵ_i · Ŵ'_j

For the two dictionaries, with M the best one-to-one matching (Hungarian algorithm), it gives

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|                                                (arXiv 2505.20254)

Correlations are computed from exact float64 sums over the rows that both encoded: S[i, j] = Σ z_i^p z'_j^q, for some
powers (p, q), over rows on which both fire. (0, 0) counts these rows; (2, 0) sums the squares of latent i where j
fires.

Sources: the best match by correlation or cosine is folklore. PW-MCC is by Song et al. 2025. They use |cosine| and a
one-to-one matching, so that two latents cannot both match a third.
Cost: L0 L0' operations per row and pair of powers, and 8 bytes per pair of latents and pair of powers. BUFFER_MB of
these are in memory at a time; dictionaries of more than about 5800 latents take further passes over the codes. The
matching costs O(n³) at worst, and n² in memory.
Limits: a match shows stability, not meaning. A mixed direction that every seed learns from the data is found again. A
fine meaning that a narrow dictionary splits differently each time is not.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numba import njit
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.code_chunks import CodeSource, read_chunks
from interp.features.decoder import decoder_directions
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_twin
from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import map_in_threads, slices
from interp.statistics.estimates import ratio, variance

BUFFER_MB = 256
_LATENTS_PER_BLOCK = 256


class Matches(NamedTuple):
    """For each latent of one dictionary, the latent of another with the most correlated activation."""

    other: Int64[np.ndarray, " d_sae"]
    correlation: Float64[np.ndarray, " d_sae"]
    """The Pearson correlation with `other`. NaN for a latent that never fires or is constant."""
    fired: Float64[np.ndarray, " d_sae"]
    """Rows on which the latent fires, among those that both dictionaries encoded."""


class CodeMoments(NamedTuple):
    """The sums of each latent's codes."""

    fired: Float64[np.ndarray, " d_sae"]
    """Rows."""
    total: Float64[np.ndarray, " d_sae"]
    """Σ z"""
    squares: Float64[np.ndarray, " d_sae"]


class JointSums(NamedTuple):
    """Sums over the rows that both dictionaries encoded, for some latents of the first."""

    latents: Int64[np.ndarray, " unit"]
    """The latents of the first dictionary to which the rows of the matrices belong."""
    n_rows: int
    """Rows that both dictionaries encoded."""
    ours: CodeMoments
    theirs: CodeMoments
    products: list[Float64[np.ndarray, "unit d_sae"]]
    """The matrices S, one for each pair of powers."""


def best_correlations(features: FeatureStore, twin: FeatureStore) -> Float64[np.ndarray, " d_sae"]:
    """Return the largest correlation of each latent's activation with that of a latent of the twin. It is NaN for a
    latent that never fires.

    Raises ValueError if the tokens or the decoders' widths differ.
    """
    check_twin(features, twin)
    return best_matches(features.codes, twin.codes).correlation


def best_matches(ours: CodeSource, theirs: CodeSource, progress: Progress = no_progress) -> Matches:
    """Find the best match of each latent over the rows that both encoded. Raises ValueError for codes of different
    numbers of rows."""
    parts = [_best_of(sums) for sums in joint_sums(ours, theirs, [(1, 1)], progress)]
    return Matches(*map(np.concatenate, zip(*parts, strict=True)))


@torch.no_grad()
def nearest_rows(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Find, for each row of `ours`, the row of `theirs` with the largest cosine, and that cosine."""
    other = decoder_directions(theirs)
    best = [(block @ other.T).max(1) for block in decoder_directions(ours).split(_LATENTS_PER_BLOCK)]
    return torch.cat([b.indices for b in best]).numpy(), torch.cat([b.values for b in best]).double().numpy()


@torch.no_grad()
def match_rows(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"]
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"], Float64[np.ndarray, " pair"]]:
    """Find the one-to-one matching with the largest sum of |cosine|. Returns the row of ours, the row of theirs, and
    their cosine. If the numbers of rows differ, all rows of the smaller decoder are matched."""
    import scipy.optimize

    if len(ours) > len(theirs):
        other, our_row, cosine = match_rows(theirs, ours)
        return our_row, other, cosine
    cosine = (decoder_directions(ours) @ decoder_directions(theirs).T).numpy()
    our_row, other = scipy.optimize.linear_sum_assignment(np.abs(cosine), maximize=True)
    return our_row, other, cosine[our_row, other].astype(np.float64)


def joint_sums(
    ours: CodeSource, theirs: CodeSource, powers: Sequence[tuple[int, int]], progress: Progress = no_progress
) -> Iterator[JointSums]:
    """Yield the sums of our latents block by block, each block from one pass over both codes. Progress counts the rows
    of all passes.

    Raises ValueError for codes of different numbers of rows.
    """
    if len(ours) != len(theirs):
        raise InterpError(
            f"codes of {len(ours)} and {len(theirs)} rows: to be compared they must be of the same tokens"
        )
    size = max(1, (BUFFER_MB << 20) // (8 * theirs.d_sae * len(powers))) if powers else ours.d_sae
    parts = np.split(np.arange(ours.d_sae), range(size, ours.d_sae, size))
    for i, latents in enumerate(parts):

        def advance(rows: int, passes: int = i) -> None:
            progress(passes * len(ours) + rows, len(parts) * len(ours), "reading codes")

        yield _sums_of(latents, ours, theirs, powers, advance)


def _sums_of(
    latents: np.ndarray,
    ours: CodeSource,
    theirs: CodeSource,
    powers: Sequence[tuple[int, int]],
    advance: Callable[[int], None],
) -> JointSums:
    sides = ours, theirs
    products = [np.zeros((len(latents), theirs.d_sae)) for _ in powers]
    moments = [CodeMoments(*np.zeros((3, codes.d_sae))) for codes in sides]
    n = 0
    for chunks in zip(*map(read_chunks, sides), strict=True):
        start, stop = chunks[0].start, chunks[0].stop
        encoded = (ours.present(start, stop) & theirs.present(start, stop)).numpy()
        n += int(encoded.sum())
        z = [chunk.in_rows(encoded).by_row for chunk in chunks]
        for side, sums in zip(z, moments, strict=True):
            for power, out in enumerate(sums):
                out += np.bincount(side.indices, _raise_to_power(power, side.data), len(out))
        ours_by_column = z[0].tocsc()
        other = z[1]
        for (p, q), product in zip(powers, products, strict=True):
            arrays = (
                ours_by_column.indptr,
                ours_by_column.indices,
                _raise_to_power(p, ours_by_column.data),
                other.indptr,
                other.indices,
                _raise_to_power(q, other.data),
            )
            blocks = slices(len(latents), _LATENTS_PER_BLOCK)
            add: Callable[..., None] = partial(_add_products, *arrays)
            map_in_threads([partial(add, latents[block], product[block]) for block in blocks], lambda task: task())
        advance(stop)
    return JointSums(latents, n, moments[0], moments[1], products)


def _raise_to_power(power: int, values: np.ndarray) -> Float64[np.ndarray, " nnz"]:
    return values.astype(np.float64) ** power


@njit(cache=True, nogil=True)
def _add_products(columns, rows, values, offsets, latents, others, ours, products):
    for i in range(len(ours)):
        product = products[i]
        for c in range(columns[ours[i]], columns[ours[i] + 1]):
            for e in range(offsets[rows[c]], offsets[rows[c] + 1]):
                product[latents[e]] += values[c] * others[e]


def _best_of(sums: JointSums) -> Matches:
    latents = sums.latents
    n = max(sums.n_rows, 1)
    means = [moments.total / n for moments in (sums.ours, sums.theirs)]
    pairs = zip((sums.ours, sums.theirs), means, strict=True)
    stds = [np.sqrt(variance(moments.squares / n, mean)) for moments, mean in pairs]
    best = np.empty(len(latents))
    match = np.empty(len(latents), np.int64)
    for start in range(0, len(latents), _LATENTS_PER_BLOCK):
        block = slice(start, start + _LATENTS_PER_BLOCK)
        covariance = sums.products[0][block] / n - np.outer(means[0][latents[block]], means[1])
        correlation = ratio(covariance, np.outer(stds[0][latents[block]], stds[1]), empty=-np.inf)
        match[block] = correlation.argmax(1)
        best[block] = correlation.max(1)
    return Matches(match, np.where(np.isfinite(best), best, np.nan), sums.ours.fired[latents])
