"""One pass over the codes: where latents fire, summed and sampled so that each measure can go on without them.

In: codes of rows in token order, chunk by chunk. Out: sums over pairs of firings, and a sample of firings. Firings of
one passage share their surroundings, so pairs are of different groups (`metrics.null_scale`) only. With firing i of
latent u at strength a_i, in group g(i), with embedding e_i = [context | token]:

    dot_u  = Σ_{g(i) ≠ g(j)} a_i a_j e_i·e_j = ‖Σ_i a_i e_i‖² − Σ_g ‖Σ_{i∈g} a_i e_i‖²           (for each block of e)
    mass_u = Σ_{g(i) ≠ g(j)} a_i a_j         = (Σ_i a_i)²     − Σ_g (Σ_{i∈g} a_i)²

Latents fire where z > 0. Source: pair sums, the linear form of MonoScore (arXiv 2504.02821); the sample, the smallest
of hashed keys (bottom-k: Cohen & Kaplan 2007). Cost: on one core some 40 ns a firing to sample, and as much to sum in
128 dimensions; memory for latents × (dim + sample) and a chunk of the codes.
Failing: two groups may still share a document at their border. Of a meaning with a hundredth of the firings there are
one or two in the sample.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32, Int64
from numba import njit
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.storage.files import Progress, no_progress, ratio, splitmix64

ROWS_PER_CHUNK = 1 << 16
_BLOCK = 16  # keys of which the largest is kept, so that it need not be looked for among all


class CodeSource(Protocol):
    """`SparseCodes` or a `CodeStore`: codes of rows seq * n_ctx + pos, in token order."""

    @property
    def d_sae(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> SparseCodes: ...


def check_codes(codes: CodeSource, tokens: Int[Tensor, "seq pos"]) -> None:
    """Raises ValueError where the codes are not of these tokens, or point outside; a store checks its own when read."""
    if isinstance(codes, SparseCodes):
        codes.check(tokens.numel())
    elif len(codes) != tokens.numel():
        raise ValueError(f"codes have {len(codes)} rows, but there are {tokens.numel()} tokens")


class FiringFacts(NamedTuple):
    maxima: Float32[np.ndarray, " d_sae"]
    n_active: Int64[np.ndarray, " d_sae"]


def count_firings(codes: CodeSource) -> FiringFacts:
    """What must be known before firings are sampled, by reading the codes; of a feature store the scan has counted."""
    maxima, n_active = np.zeros(codes.d_sae, np.float32), np.zeros(codes.d_sae, np.int64)
    for start in range(0, len(codes), ROWS_PER_CHUNK):
        part = codes[start : start + ROWS_PER_CHUNK]
        latents, values = part.latents.numpy(), np.maximum(part.values.float().numpy(), 0)
        np.maximum.at(maxima, latents, values)
        n_active += np.bincount(latents[values > 0], minlength=codes.d_sae)
    return FiringFacts(maxima, n_active)


class CodeChunk(NamedTuple):
    start: int
    """First row."""
    offsets: Int64[np.ndarray, " row_plus_1"]
    latents: Int32[np.ndarray, " nnz"]
    values: Float32[np.ndarray, " nnz"]
    """Activations over the latent's largest; 0 on rows that do not count."""
    activations: Float32[np.ndarray, " nnz"]

    @property
    def stop(self) -> int:
        return self.start + len(self.offsets) - 1

    @property
    def rows(self) -> Int64[np.ndarray, " nnz"]:
        return np.repeat(np.arange(self.start, self.stop), np.diff(self.offsets))


Listener = Callable[[CodeChunk], None]
"""Adds up something of its own while the codes are read; beside others in threads, so it leaves the chunk as it is."""
Embed = Callable[[Int64[np.ndarray, " row"]], Float32[np.ndarray, "row dim"]]


class PairSums(NamedTuple):
    coherences: Float64[np.ndarray, "latent block"]
    """dot / mass, the activation-weighted mean cosine of two firings in different groups, for each block of the
    embedding; NaN where all but a billionth of the activation is in one group."""
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
        _add_groups(*chunk[1:4], embeddings, self._rows_per_group, self._total, self._moments, self._scratch)

    def result(self) -> PairSums:
        (mass, square, groups), own = self._moments[:, :3].T, self._moments[:, 3:]
        dot = np.square(self._total).reshape(*own.shape, -1).sum(2) - own
        pairs = np.where(mass**2 - square > 1e-9 * mass**2, mass**2 - square, 0)
        effective = mass**2 / np.where(square > 0, square, 1)
        return PairSums(ratio(dot, pairs[:, None]), groups.astype(np.int64), effective)


class FiringSampler:
    """For each latent and slice of (0, 1], a uniform sample of `size` firings, at most one from a group: those with the
    smallest hash of row and latent, so that it depends on the seed alone. Strengths are codes over their maximum."""

    def __init__(self, d_sae: int, n_slices: int, size: int, seed: int, rows_per_group: int):
        self.rows = np.full((d_sae, n_slices, size), -1, np.int64)  # −1 where a slice has fewer firings
        # Of all firings, sampled or not: the sum of their strengths, and how many they are.
        self.mass, self.count = np.zeros((d_sae, n_slices)), np.zeros(d_sae, np.int64)
        self._keys = np.full((d_sae, n_slices, size), np.inf)
        self._last = np.full((d_sae, n_slices, 2), -1, np.int64)  # group of the newest entry, and its place
        self._worst = np.full((d_sae, n_slices, 1 + -(-size // _BLOCK)), np.inf)  # the largest key, then of each block
        self._constants = rows_per_group, np.uint64(seed)

    def add(self, chunk: CodeChunk) -> None:
        _sample(*chunk[:4], *self._constants, self.rows, self.mass, self.count, self._keys, self._last, self._worst)

    @property
    def shares(self) -> Float64[np.ndarray, "d_sae slice firing"]:
        """The share of its latent's activation mass that each firing stands for: an equal part of its slice's."""
        sampled = self.rows >= 0
        each = self.mass / np.maximum(sampled.sum(2), 1) / np.maximum(self.mass.sum(1, keepdims=True), 1e-30)
        return sampled * each[:, :, None]


def chunks(
    codes: CodeSource,
    maxima: Float32[np.ndarray, " d_sae"],
    rows_per_group: int,
    progress: Progress | None = None,
    note: str = "",
    counted: Bool[np.ndarray, " row"] | None = None,
) -> Iterator[CodeChunk]:
    """The codes in token order, whole groups at a time; maxima: of each latent, 0 where it never fires; counted: the
    rows that count (`features.examples`), if not all."""
    n_rows = max(1, ROWS_PER_CHUNK // rows_per_group) * rows_per_group
    scale = np.divide(1, maxima, out=np.zeros(len(maxima), np.float32), where=maxima > 0).astype(np.float32)
    for start in range(0, len(codes), n_rows):
        part = codes[start : start + n_rows]
        latents = part.latents.numpy().astype(np.int32, copy=False)
        offsets, activations = part.offsets.numpy(), np.maximum(part.values.float().numpy(), 0)
        values = activations * scale[latents]
        values *= 1 if counted is None else np.repeat(counted[start : start + n_rows], np.diff(offsets))
        yield CodeChunk(start, offsets, latents, values, activations)
        (progress or no_progress)(min(start + n_rows, len(codes)), len(codes), note)


_mix = njit(cache=True, nogil=True)(splitmix64)


@njit(cache=True, nogil=True)
def hashed(a: np.uint64, b: np.uint64) -> np.uint64:
    return _mix(a * np.uint64(0x9E3779B97F4A7C15) + b + np.uint64(0xC4F46BE25A6A6404))


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


@njit(cache=True, nogil=True)
def _sample(start, offsets, latents, values, rows_per_group, seed, rows, mass, count, keys, last, worst):
    n_slices, size = keys.shape[1:]
    for row in range(len(offsets) - 1):
        row_seed = hashed(seed, np.uint64(start + row))
        group = (start + row) // rows_per_group
        for i in range(offsets[row], offsets[row + 1]):
            latent, value = latents[i], values[i]
            if value == 0:
                continue
            part = min(n_slices - 1, max(0, int(np.ceil(value * n_slices)) - 1))
            mass[latent, part] += value
            count[latent] += 1
            key = float(hashed(row_seed, np.uint64(latent)) >> np.uint64(11))
            if key >= worst[latent, part, 0]:
                continue
            mine, largest = keys[latent, part], worst[latent, part, 1:]
            if last[latent, part, 0] == group:
                place = last[latent, part, 1]
                if key >= mine[place]:
                    continue
            else:
                first = np.argmax(largest) * _BLOCK
                place = first + np.argmax(mine[first : first + _BLOCK])
            mine[place] = key
            rows[latent, part, place] = start + row
            last[latent, part, 0], last[latent, part, 1] = group, place
            own = mine[place - place % _BLOCK :][:_BLOCK]
            largest[place // _BLOCK] = own[np.argmax(own)]
            worst[latent, part, 0] = largest[np.argmax(largest)]
