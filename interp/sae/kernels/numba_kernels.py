"""The operations of `torch_kernels` on a CPU, as compiled loops: same names, arguments and results.

Rows (or latents) are divided among our own threads, whose loops hold no lock. numba's thread pools would compete with
torch's, or break when forked. `numba_loops` has the loops. If codes are nearly dense, matmuls over tiles that include
the zeros replace them.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interp.codes.offsets import offsets_from_lengths
from interp.codes.sparse_codes import SparseCodes
from interp.runtime.threads import loop_in_threads, map_in_threads, slices
from interp.sae.kernels import numba_loops as loops
from interp.sae.kernels.torch_kernels import (
    AdamStep,
    ByLatent,
    Decoded,
    LatentSum,
    PreActivations,
    Rows,
    Tiled,
    TorchKernels,
    at_least_float32,
    kept_entries,
)

_CACHE = _TILE_ENTRIES = 1 << 21
_PICKED_AT_ONCE = 1 << 20
_CANDIDATES_PER_PICK = 8
"""Candidates that a piece may hold for each pick of a batch before it drops those that cannot be among the picks."""
_ADAM_COST = 8
"""The cost of Adam's update of a number, in multiplications."""
_ENTRY_COST = 32
"""The cost of comparing or moving a single entry, in multiplications."""
_KEY_TYPES = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


class NumbaKernels(TorchKernels):
    name = "numba"
    dtypes = (torch.float32, torch.float64)
    is_tried = False
    """To compile all loops would delay each process, and CPUs compute alike: the tests compare them."""

    def top_k(self, pre: PreActivations, k: int) -> SparseCodes:
        pre = _as_tiles(pre)
        latents, keys, counts = _empty_entries(len(pre), k, pre.dtype)

        def pick(piece: slice) -> None:
            n = piece.stop - piece.start
            near, near_keys, near_counts = _empty_entries(
                n, -(-3 * k // loops.LANES) * loops.LANES + loops.LANES, pre.dtype
            )
            bounds = np.zeros(n, keys.dtype)
            near_counts[:] = 0
            for first, tile in pre.tiles(piece):
                width = tile.shape[1]
                groups = min(width, max(4 * k, -(-width // 32)))  # of 32, or four a pick: the bound stays close
                loops.top_k(_whole_vectors(tile), first, k, groups, bounds, near, near_keys, near_counts)
            loops.finish_top_k(near, near_keys, near_counts, k, latents[piece], keys[piece], counts[piece])

        map_in_threads(pre.pieces, pick)
        return _codes_of(latents, keys, counts, pre.dtype, pre.shape[1])

    def batch_top_k(self, pre: PreActivations, n: int) -> SparseCodes:
        """Return the n largest of all rows. Threads raise a common bound; the picks are the entries above the final
        bound, in whichever order it rose.

        A piece holds a bounded number of candidates, even where activations rise with the latent's index.
        """
        pre = _as_tiles(pre)
        bound = _Bound(max(n, 1), pre.dtype)

        def collect(piece: slice) -> list[_Entries]:
            candidates: list[_Entries] = []
            for first, tile in pre.tiles(piece):
                limits = np.full(tile.shape[1], bound.lowest - 1, _numpy(pre.dtype))
                candidates.append(_entries_above(tile, limits, first))
                bound.see(candidates[-1].keys)
                if sum(len(entries.keys) for entries in candidates) > _CANDIDATES_PER_PICK * n:
                    kept = self.keep_batch_top_k(_by_row(pre, piece, candidates, bound.lowest), n)
                    candidates = [_Entries(kept.rows.int().numpy(), kept.latents.numpy(), _keys(kept.values))]
            return candidates

        candidates = map_in_threads(pre.pieces, collect)
        lowest = bound.lowest
        by_row = map_in_threads(
            list(zip(pre.pieces, candidates, strict=True)), lambda pair: _by_row(pre, *pair, lowest)
        )
        codes = self.keep_batch_top_k(SparseCodes.cat(by_row), n)
        return codes.with_values(at_least_float32(codes.values))

    def above(self, pre: PreActivations, threshold: Tensor) -> SparseCodes:
        pre, limits = _as_tiles(pre), _limits(threshold, pre.dtype)

        def collect(piece: slice) -> SparseCodes:
            tiles = pre.tiles(piece)
            parts = [_entries_above(tile, limits[first : first + tile.shape[1]], first) for first, tile in tiles]
            return _by_row(pre, piece, parts, np.iinfo(limits.dtype).min)

        codes = SparseCodes.cat(map_in_threads(pre.pieces, collect))
        return codes.with_values(at_least_float32(codes.values))

    def keep_top_k(self, codes: SparseCodes, k: int) -> SparseCodes:
        latents, keys, counts = _empty_entries(len(codes), k, codes.values.dtype)
        arrays = (codes.offsets.numpy(), codes.latents.numpy(), _keys(codes.values), k, latents, keys, counts)
        loop_in_threads(len(codes), _ENTRY_COST * codes.nnz, loops.keep_top_k, *arrays)
        return _codes_of(latents, keys, counts, codes.values.dtype, codes.d_sae)

    def keep_batch_top_k(self, codes: SparseCodes, n: int) -> SparseCodes:
        keys = _keys(codes.values)
        last = len(keys) - max(n, 1)  # of none, the largest: no entry exceeds it, and none of those equal to it is left
        lowest = max(1, np.partition(keys, last)[last] if len(keys) > n else 1)
        kept = keys > lowest
        kept[(keys == lowest).nonzero()[0][: max(0, n - int(kept.sum()))]] = True
        return kept_entries(codes, torch.from_numpy(kept))

    def decode_backward(
        self,
        codes: SparseCodes,
        W_dec: Tensor,
        b_dec: Tensor,
        x: Tensor,
        ends: Sequence[int] = (),
        add_others: Callable[[Tensor], Tensor] | None = None,
    ) -> Decoded:
        if len(ends) > 1 or add_others is not None or _is_dense(codes.offsets, W_dec):
            return super().decode_backward(codes, W_dec, b_dec, x, ends, add_others)
        error, gradient = x.new_empty(x.shape), torch.empty_like(codes.values)  # in row order, whatever that of x
        arrays = _arrays(codes.offsets, codes.latents, codes.values, W_dec, b_dec, x, error, gradient)
        loop_in_threads(len(codes), (2 * codes.nnz + len(codes)) * x.shape[1], loops.decode_backward, *arrays)
        return Decoded.of_all(error, gradient)

    def transpose(self, codes: SparseCodes) -> ByLatent:
        offsets = np.zeros(codes.d_sae + 1, np.int64)
        rows, entries = np.empty(codes.nnz, np.int64), np.empty(codes.nnz, np.int64)
        loops.transpose(codes.offsets.numpy(), codes.latents.numpy(), offsets, rows, entries)
        return ByLatent(torch.from_numpy(offsets), torch.from_numpy(rows), torch.from_numpy(entries))

    def adam_(self, weight: Rows, gradient: Rows | LatentSum, mean: Rows, square: Rows, adam: AdamStep) -> None:
        if isinstance(gradient, LatentSum) and _is_dense(gradient.by_latent.offsets, gradient.dense):
            gradient = self.sum_by_latent(*gradient)
        moved = _arrays(weight, mean, square, torch.tensor(adam.coefficients, dtype=weight.dtype))
        if isinstance(gradient, Tensor):
            loop_in_threads(
                len(weight), _ADAM_COST * weight.numel(), loops.adam, *_arrays(gradient), *moved, adam.unit_norm
            )
            return
        (offsets, rows, entries), weights, dense = gradient
        summed = _arrays(offsets, rows, weights[entries], dense)
        work = len(rows) * dense.shape[1] + _ADAM_COST * weight.numel()
        loop_in_threads(len(weight), work, loops.sum_by_latent_adam, *summed, *moved, adam.unit_norm)

    def _sum_bags(
        self, offsets: Tensor, ids: Tensor, weights: Tensor, table: Tensor, out: Tensor | None = None
    ) -> Tensor:
        bags = len(offsets) - 1
        d = table.shape[1]
        out = torch.empty(bags, d, dtype=table.dtype) if out is None else out
        if not _is_dense(offsets, table):
            loop_in_threads(bags, (len(ids) + bags) * d, loops.bags, *_arrays(offsets, ids, weights, table, out))
            return out

        def fill(part: slice) -> None:
            tile = torch.zeros(part.stop - part.start, len(table), dtype=table.dtype)
            loops.scatter(*_arrays(offsets[part.start : part.stop + 1], ids, weights, tile))
            torch.mm(tile, table, out=out[part])

        map_in_threads(slices(bags, max(1, _TILE_ENTRIES // len(table))), fill)
        return out

    def _dots(self, offsets: Tensor, ids: Tensor, x: Tensor, table: Tensor) -> Tensor:
        out = torch.empty(len(ids), dtype=x.dtype)
        if not _is_dense(offsets, table):
            loop_in_threads(len(x), len(ids) * x.shape[1], loops.row_dots, *_arrays(offsets, ids, x, table, out))
            return out

        def fill(rows: slice) -> None:
            dots = x[rows] @ table.T
            loops.gather(*_arrays(offsets[rows.start : rows.stop + 1], ids, dots, out))

        map_in_threads(slices(len(x), max(1, _TILE_ENTRIES // len(table))), fill)
        return out


def _is_dense(offsets: Tensor, table: Tensor) -> bool:
    """Return whether so many entries are stored that matmuls over tiles with the zeros are faster.

    An entry costs about as much as eight numbers of a dense matmul, or four if the table's rows come from the cache.
    """
    ratio = 8 if table.nbytes > _CACHE else 4
    return int(offsets[-1] - offsets[0]) * ratio > (len(offsets) - 1) * len(table)


def _keys(floats: Tensor) -> np.ndarray:
    """Return the bits of the floats, as integers."""
    return floats.detach().contiguous().view(_KEY_TYPES[floats.dtype]).numpy()


def _whole_vectors(tile: Tensor) -> np.ndarray:
    """Return the keys, and zeros up to the end of a vector."""
    missing = -tile.shape[1] % loops.LANES
    return _keys(F.pad(tile, (0, missing)) if missing else tile)


def _limits(threshold: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Return keys in the order of all floats, such that a float of `dtype` has a larger one if it exceeds the
    threshold."""
    single = torch.float32 if dtype == torch.bfloat16 else dtype
    keys = _keys(threshold.to(single) + 0.0)  # so that 0 does not exceed −0
    sign = 8 * keys.itemsize - 1
    ordered = keys ^ ((keys >> sign) & ((1 << sign) - 1))
    if dtype == torch.bfloat16:
        ordered = ((ordered - ((ordered >> sign) & 0xFFFF)) >> 16).astype(np.int16)
    return ordered


def _as_tiles(pre: PreActivations) -> Tiled:
    """Return pre-activations that are all there: tiles of whole rows."""
    if isinstance(pre, Tiled):
        return pre
    pieces = slices(len(pre), max(1, _PICKED_AT_ONCE // max(1, pre.shape[1])))
    return Tiled(pre.shape, pre.dtype, pieces, lambda piece: [(0, pre[piece])])


class _Bound:
    """A key that the n largest of all keys seen so far reach; threads raise it together."""

    def __init__(self, n: int, dtype: torch.dtype):
        self._n = n
        self._shift = 8 * dtype.itemsize - 16
        self._counts = np.zeros(1 << 15, np.int64)
        self._leading = 0
        self._reaching = 0
        self._lock = threading.Lock()

    @property
    def lowest(self) -> int:
        return max(1, self._leading << self._shift)

    def see(self, keys: np.ndarray) -> None:
        with self._lock:
            bound = loops.raise_bound(keys, self._shift, self._counts, self._n, self._leading, self._reaching)
            self._leading, self._reaching = bound


class _Entries(NamedTuple):
    rows: np.ndarray
    """Within the piece."""
    latents: np.ndarray
    keys: np.ndarray


def _entries_above(tile: Tensor, limits: np.ndarray, first: int) -> _Entries:
    """Return the entries of a tile of latents first, first + 1 … that exceed their latent's limit."""
    keys = _whole_vectors(tile)
    limits = np.pad(limits, (0, keys.shape[1] - len(limits)), constant_values=np.iinfo(keys.dtype).max)
    room = np.empty(keys.size, np.int32), np.empty(keys.size, np.int32), np.empty(keys.size, keys.dtype)
    count = loops.collect(keys, limits, first, *room)
    return _Entries(*(part[:count].copy() for part in room))


def _by_row(pre: Tiled, piece: slice, tiles: list[_Entries], lowest: int) -> SparseCodes:
    """Return the entries of a piece's tiles with at least that key; values are of the pre-activations' dtype."""
    offsets = np.zeros(piece.stop - piece.start + 1, np.int64)
    for entries in tiles:
        loops.count_rows(entries.rows, entries.keys, lowest, offsets)
    offsets.cumsum(out=offsets)
    latents, keys = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], _numpy(pre.dtype))
    following = offsets.copy()
    for entries in tiles:
        loops.sort_by_row(*entries, lowest, following, latents, keys)
    values = torch.from_numpy(keys).view(pre.dtype)
    return SparseCodes(torch.from_numpy(offsets), torch.from_numpy(latents), values, pre.shape[1])


def _numpy(dtype: torch.dtype) -> np.dtype:
    """Return the type of the keys."""
    return np.dtype(f"int{8 * dtype.itemsize}")


def _empty_entries(rows: int, k: int, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty((rows, k), np.int32), np.empty((rows, k), _numpy(dtype)), np.empty(rows, np.int64)


def _codes_of(latents: np.ndarray, keys: np.ndarray, counts: np.ndarray, dtype: torch.dtype, d_sae: int) -> SparseCodes:
    """Return codes of the first counts[row] entries of each row."""
    k = latents.shape[1]
    if counts.min(initial=k) < k:
        is_entry = np.arange(k) < counts[:, None]
        latents, keys = latents[is_entry], keys[is_entry]
    values = at_least_float32(torch.from_numpy(keys.reshape(-1)).view(dtype))
    return SparseCodes(
        offsets_from_lengths(torch.from_numpy(counts)), torch.from_numpy(latents.reshape(-1)), values, d_sae
    )


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
