"""What a latent of one dictionary does, times what a latent of another does, summed over the rows of a text.

In: two sources of codes of the same rows. Out: for each pair of powers (p, q) a matrix

    S[i, j] = Σ z_i^p z'_j^q        over the rows that both encoded, and on which both fire

so that (0, 0) counts the rows on which both fire, (1, 1) is what a correlation needs, and (2, 0) the squares of latent
i where j fires. Sums are exact, in float64.

Cost: L0 L0' a row and matrix. Memory: 8 bytes for each two latents and matrix; `buffer_mb` holds them, in further
passes over the codes if they need more.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float64, Int64
from numba import njit

from interp.codes import SparseCodes
from interp.files import Progress, no_progress
from interp.monosemanticity.firings import ROWS_PER_CHUNK, CodeSource

_BLOCK = 256


class Moments(NamedTuple):
    """Of each latent of a dictionary."""

    fired: Float64[np.ndarray, " d_sae"]
    """Rows."""
    total: Float64[np.ndarray, " d_sae"]
    """Σ z"""
    squares: Float64[np.ndarray, " d_sae"]


class JointSums(NamedTuple):
    latents: Int64[np.ndarray, " unit"]
    """Those of ours that the matrices are of."""
    n_rows: int
    """That both encoded."""
    ours: Moments
    theirs: Moments
    products: list[Float64[np.ndarray, "unit d_sae"]]
    """One for each pair of powers."""


def joint_sums(
    ours: CodeSource,
    theirs: CodeSource,
    powers: Sequence[tuple[int, int]],
    buffer_mb: int = 256,
    progress: Progress = no_progress,
) -> Iterator[JointSums]:
    """For some of our latents after the others, each by one pass over both codes; progress counts rows of all passes.

    Raises ValueError for codes of unlike numbers of rows.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"codes of {len(ours)} and {len(theirs)} rows: to be compared they must be of the same tokens")
    size = max(1, (buffer_mb << 20) // (8 * theirs.d_sae * len(powers))) if powers else ours.d_sae
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
    moments = [Moments(*np.zeros((3, codes.d_sae))) for codes in sides]
    n = 0
    for start in range(0, len(ours), ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, len(ours))
        encoded = _present(ours, start, stop) & _present(theirs, start, stop)
        n += int(encoded.sum())
        z = [_activations(codes[start:stop], encoded) for codes in sides]
        for each, sums in zip(z, moments, strict=True):
            for power, out in enumerate(sums):
                out += np.bincount(each.indices, _to_the(power, each.data), len(out))
        own, other = z[0].tocsc(), z[1]
        for (p, q), product in zip(powers, products, strict=True):
            arrays = own.indptr, own.indices, _to_the(p, own.data), other.indptr, other.indices, _to_the(q, other.data)
            blocks = [range(i, min(i + _BLOCK, len(latents))) for i in range(0, len(latents), _BLOCK)]
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                parts = [(latents[block.start : block.stop], product[block.start : block.stop]) for block in blocks]
                list(pool.map(partial(_add_products, *arrays), *zip(*parts, strict=True)))
        advance(stop)
    return JointSums(latents, n, moments[0], moments[1], products)


def _present(codes: Any, start: int, stop: int) -> Bool[np.ndarray, " row"]:
    """Codes in memory are of every row."""
    return codes.present(start, stop).numpy() if hasattr(codes, "present") else np.ones(stop - start, bool)


def _activations(codes: SparseCodes, encoded: Bool[np.ndarray, " row"]) -> scipy.sparse.csr_matrix:
    """What fires on the rows that both encoded."""
    z = codes.scipy()
    z.data = np.maximum(z.data, 0) * np.repeat(encoded, np.diff(z.indptr))
    z.eliminate_zeros()
    return z


def _to_the(power: int, values: np.ndarray) -> Float64[np.ndarray, " nnz"]:
    return values.astype(np.float64) ** power


@njit(cache=True, nogil=True)
def _add_products(columns, rows, values, offsets, latents, others, ours, products):
    for i in range(len(ours)):
        product = products[i]
        for c in range(columns[ours[i]], columns[ours[i] + 1]):
            for e in range(offsets[rows[c]], offsets[rows[c] + 1]):
                product[latents[e]] += values[c] * others[e]
