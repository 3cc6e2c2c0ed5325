"""Sum over pairs of firings, in one pass over the codes.

In: codes of rows in token order, chunk by chunk (`codes.code_chunks`). Out: sums over pairs of firings. Firings of one
passage share their surroundings, so only pairs of different groups (`verdict.measure_nulls`) count. For firing i of
latent u with strength a_i, in group g(i), with embedding e_i = [context | token]:

    dot_u  = Σ_{g(i) ≠ g(j)} a_i a_j e_i·e_j = ‖Σ_i a_i e_i‖² − Σ_g ‖Σ_{i∈g} a_i e_i‖²           (for each block of e)
    mass_u = Σ_{g(i) ≠ g(j)} a_i a_j         = (Σ_i a_i)²     − Σ_g (Σ_{i∈g} a_i)²

Latents fire where z > 0. Source: pair sums, the linear form of MonoScore (arXiv 2504.02821). Cost: on one core some 40
ns per firing in 128 dimensions; memory for latents × dim and a chunk of the codes. Limits: two groups may still share a
document at their border.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numba import njit

from interp.codes.code_chunks import CodeChunk
from interp.statistics.estimates import ratio

Embed = Callable[[Int64[np.ndarray, " row"]], Float32[np.ndarray, "row dim"]]


class PairSums(NamedTuple):
    coherences: Float64[np.ndarray, "latent block"]
    """dot / mass, the activation-weighted mean cosine of two firings in different groups, for each block of the
    embedding; NaN if all but a billionth of the activation is in one group."""
    n_groups: Int64[np.ndarray, " latent"]
    effective_groups: Float64[np.ndarray, " latent"]
    """(Σ_g m_g)² / Σ_g m_g² of the groups' masses m_g: how many groups the firings really spread over."""


class PairSummer:
    """Adds up `PairSums` chunk by chunk. The blocks of an embedding are equally wide and side by side; `embed` is asked
    for the rows on which anything fires."""

    def __init__(self, d_sae: int, embed: Embed, rows_per_group: int, n_blocks: int = 1):
        dim = embed(np.zeros(1, np.int64)).shape[1]
        self._embed, self._rows_per_group = embed, rows_per_group
        self._total = np.zeros((d_sae, dim))
        self._moments = np.zeros((d_sae, 3 + n_blocks))  # Σ_g of: mass, mass², 1, ‖each block‖²
        self._scratch = np.zeros((d_sae, dim), np.float32)

    def add(self, chunk: CodeChunk) -> None:
        embeddings = self._embed(chunk.start + np.flatnonzero(np.diff(chunk.offsets)))
        entries = chunk.offsets, chunk.latents, chunk.values
        _add_groups(*entries, embeddings, self._rows_per_group, self._total, self._moments, self._scratch)

    def result(self) -> PairSums:
        (mass, square, groups), vectors = self._moments[:, :3].T, self._moments[:, 3:]
        dot = np.square(self._total).reshape(*vectors.shape, -1).sum(2) - vectors
        pairs = np.where(mass**2 - square > 1e-9 * mass**2, mass**2 - square, 0)
        effective = mass**2 / np.where(square > 0, square, 1)
        return PairSums(ratio(dot, pairs[:, None]), groups.astype(np.int64), effective)


@njit(cache=True, nogil=True)
def _add_groups(offsets, latents, values, embeddings, rows_per_group, total, moments, scratch):
    n_rows, dim, n_blocks = len(offsets) - 1, embeddings.shape[1], moments.shape[1] - 3
    width, place = dim // n_blocks, 0
    mass, touched = np.zeros(len(total)), np.empty(len(total), np.int64)
    for group in range(0, n_rows, rows_per_group):
        n_touched = 0
        for row in range(group, min(group + rows_per_group, n_rows)):
            if offsets[row] == offsets[row + 1]:
                continue
            embedding = embeddings[place]
            place += 1
            for i in range(offsets[row], offsets[row + 1]):
                latent, value = latents[i], values[i]
                if value <= 0:
                    continue
                vector = scratch[latent]
                if mass[latent] == 0:
                    touched[n_touched] = latent
                    n_touched += 1
                    vector[:] = 0
                mass[latent] += value
                for d in range(dim):
                    vector[d] += value * embedding[d]
        for t in range(n_touched):
            latent = touched[t]
            moments[latent, 0] += mass[latent]
            moments[latent, 1] += mass[latent] * mass[latent]
            moments[latent, 2] += 1
            vector = scratch[latent]
            for block in range(n_blocks):
                moments[latent, 3 + block] += _square(vector[block * width : (block + 1) * width])
            for d in range(dim):
                total[latent, d] += vector[d]
            mass[latent] = 0


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _square(vector):
    total = 0.0
    for d in range(len(vector)):
        total += np.float64(vector[d]) * vector[d]
    return total
