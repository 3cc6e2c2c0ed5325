"""The operations of `kernels` as loops on a CPU: same names, arguments and results.

Rows (or latents) are shared out among threads of our own, whose loops hold no lock: numba's own thread pools would
compete with torch's, or break when forked. `picking` has the loops that pick, `loops` those of all that follows.
"""

import threading
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp.codes import SparseCodes
from interp.sae import loops, picking
from interp.sae.kernels import AdamStep, ByLatent, Decoded, Nested, PreActivations, Tiled
from interp.sae.kernels import keep_above as keep_above
from interp.sae.threads import share, share_pieces

_CACHE = _TILE = 1 << 21
_PICKED_AT_ONCE = 1 << 20
_CANDIDATES = 8
"""For each of a batch's picks, before a piece drops those that cannot be among them: rarely so many come."""
_ADAM, _ENTRY = 8, 32
"""Products that take as long as Adam's update of a number, or as an entry that is compared or moved on its own."""
_KEYS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def top_k(pre: PreActivations, k: int) -> SparseCodes:
    pre = _tiled(pre)
    latents, keys, counts = _room(len(pre), k, pre.dtype)

    def pick(piece: slice) -> None:
        n = piece.stop - piece.start
        near, near_keys, found = _room(n, -(-3 * k // picking.LANES) * picking.LANES + picking.LANES, pre.dtype)
        bounds, found[:] = np.zeros(n, keys.dtype), 0
        for first, tile in pre.tiles(piece):
            picking.top_k(_whole_vectors(tile), first, k, _groups(tile.shape[1], k), bounds, near, near_keys, found)
        picking.finish_top_k(near, near_keys, found, k, latents[piece], keys[piece], counts[piece])

    share_pieces(pre.pieces, pick)
    return _filled(latents, keys, counts, pre.dtype, pre.shape[1])


def batch_top_k(pre: PreActivations, n: int) -> SparseCodes:
    """The bound of all rows rises as threads come to it; the picks are those above the last, however it rose.

    A piece holds a bounded number of candidates, even where activations rise with the latent's index.
    """
    pre = _tiled(pre)
    bound = _Bound(max(n, 1), pre.dtype)

    def collect(piece: slice) -> list[_Entries]:
        found: list[_Entries] = []
        for first, tile in pre.tiles(piece):
            limits = np.full(tile.shape[1], bound.least - 1, _numpy(pre.dtype))
            found.append(_exceeding(tile, limits, first))
            bound.see(found[-1].keys)
            if sum(len(entries.keys) for entries in found) > _CANDIDATES * n:
                found = [_largest_of(piece, found, pre.dtype, bound.least, n)]
        return found

    found = share_pieces(pre.pieces, collect)
    least = bound.least
    pieces = share_pieces(list(zip(pre.pieces, found, strict=True)), lambda each: _by_row(*each, pre.dtype, least))
    return _codes(*_largest(*_stacked(pieces, pre.dtype), n), pre.dtype, pre.shape[1])


def above(pre: PreActivations, threshold: Float[Tensor, " d_sae"]) -> SparseCodes:
    pre, limits = _tiled(pre), _limits(threshold, pre.dtype)

    def collect(piece: slice) -> _ByRow:
        tiles = pre.tiles(piece)
        parts = [_exceeding(tile, limits[first : first + tile.shape[1]], first) for first, tile in tiles]
        return _by_row(piece, parts, pre.dtype, np.iinfo(limits.dtype).min)

    return _codes(*_stacked(share_pieces(pre.pieces, collect), pre.dtype), pre.dtype, pre.shape[1])


def keep_top_k(codes: SparseCodes, k: int) -> SparseCodes:
    entry_keys = _keys(codes.values)
    latents, keys, counts = _room(len(codes), k, codes.values.dtype)
    arrays = (codes.offsets.numpy(), codes.latents.numpy(), entry_keys, k, latents, keys, counts)
    share(len(codes), _ENTRY * codes.nnz, picking.keep_top_k, *arrays)
    return _filled(latents, keys, counts, codes.values.dtype, codes.d_sae)


def keep_batch_top_k(codes: SparseCodes, n: int) -> SparseCodes:
    arrays = codes.offsets.numpy(), codes.latents.numpy(), _keys(codes.values)
    return _codes(*_largest(*arrays, n), codes.values.dtype, codes.d_sae)


def rescore(
    codes: SparseCodes,
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
) -> SparseCodes:
    values = torch.empty(codes.nnz, dtype=x.dtype)
    if _is_dense(codes.offsets, encoder):
        _dense_dots(codes, x, encoder, values)
        values += b_enc[codes.latents]
    else:
        arrays = _arrays(codes.offsets, codes.latents, x, encoder, b_enc, values)
        share(len(codes), codes.nnz * x.shape[1], loops.rescore, *arrays)
    return SparseCodes(codes.offsets, codes.latents, values, codes.d_sae)


def decode(
    codes: SparseCodes, W_dec: Float[Tensor, "d_sae d_in"], b_dec: Float[Tensor, " d_in"]
) -> Float[Tensor, "row d_in"]:
    out = torch.empty(len(codes), W_dec.shape[1], dtype=W_dec.dtype)
    if _is_dense(codes.offsets, W_dec):
        _dense_bags(codes.offsets, codes.latents, codes.values, W_dec, out)
        return out.add_(b_dec)
    arrays = _arrays(codes.offsets, codes.latents, codes.values, W_dec, b_dec, out)
    share(len(codes), (codes.nnz + len(codes)) * out.shape[1], loops.decode, *arrays)
    return out


def decode_backward(
    codes: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"],
    x: Float[Tensor, "row d_in"],
) -> Decoded:
    if _is_dense(codes.offsets, W_dec):
        error, gradient = decode(codes, W_dec, b_dec).sub_(x), torch.empty_like(codes.values)
        _dense_dots(codes, error, W_dec, gradient)
        return Decoded(error, gradient)
    error, gradient = torch.empty_like(x), torch.empty_like(codes.values)
    arrays = _arrays(codes.offsets, codes.latents, codes.values, W_dec, b_dec, x, error, gradient)
    share(len(codes), (2 * codes.nnz + len(codes)) * x.shape[1], loops.decode_backward, *arrays)
    return Decoded(error, gradient)


def nested_backward(
    codes: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"],
    x: Float[Tensor, "row d_in"],
    ends: Int[Tensor, " group"],
) -> Nested:
    residuals, gradient = x.new_empty(len(ends), *x.shape), torch.empty_like(codes.values)
    error, squares = torch.empty_like(x), x.new_empty(len(x), len(ends))
    given = _arrays(codes.offsets, codes.latents, codes.values, W_dec, b_dec, x, ends)
    results = _arrays(error, residuals, gradient, squares)
    work = 2 * codes.nnz * (x.shape[1] + _ENTRY) + 4 * len(codes) * len(ends) * x.shape[1]
    share(len(codes), work, loops.nested_backward, *given, *results)
    return Nested(error, gradient, residuals, squares.sum(0))


def transpose(codes: SparseCodes) -> ByLatent:
    offsets = np.zeros(codes.d_sae + 1, np.int64)
    rows, entries = np.empty(codes.nnz, np.int64), np.empty(codes.nnz, np.int64)
    loops.count_latents(codes.latents.numpy(), offsets)
    loops.transpose(codes.offsets.numpy(), codes.latents.numpy(), offsets, rows, entries)
    return ByLatent(torch.from_numpy(offsets), torch.from_numpy(rows), torch.from_numpy(entries))


def sum_by_latent(
    by_latent: ByLatent,
    weights: Float[Tensor, " nnz"],
    dense: Float[Tensor, "row d_in"],
    out: Float[Tensor, "d_sae d_in"] | None = None,
) -> Float[Tensor, "d_sae d_in"]:
    latents = len(by_latent.offsets) - 1
    out = torch.empty(latents, dense.shape[1], dtype=dense.dtype) if out is None else out
    if _is_dense(by_latent.offsets, dense):
        _dense_bags(by_latent.offsets, by_latent.rows, weights[by_latent.entries], dense, out)
    else:
        work = (len(by_latent.rows) + latents) * dense.shape[1]
        share(latents, work, loops.sum_by_latent, *_arrays(*by_latent, weights, dense, out))
    return out


def latent_sums(by_latent: ByLatent, weights: Float[Tensor, " nnz"]) -> Float[Tensor, " d_sae"]:
    out = torch.empty(len(by_latent.offsets) - 1, dtype=weights.dtype)
    arrays = _arrays(by_latent.offsets, by_latent.entries, weights, out)
    share(len(out), _ENTRY // 4 * len(weights) + len(out), loops.latent_sums, *arrays)
    return out


def squared_distance(x: Float[Tensor, "row d"], point: Float[Tensor, " d"]) -> float:
    squares = np.empty(len(x))
    share(len(x), x.numel(), loops.squared_distances, *_arrays(x, point), squares)
    return float(squares.sum())


def adam_(
    weight: Float[Tensor, "row d"],
    gradient: Float[Tensor, "row d"],
    mean: Float[Tensor, "row d"],
    square: Float[Tensor, "row d"],
    adam: AdamStep,
    unit_norm: bool = False,
) -> None:
    arrays = _arrays(weight, gradient, mean, square, _numbers(adam, weight.dtype))
    share(len(weight), _ADAM * weight.numel(), loops.adam, *arrays, unit_norm)


def sum_by_latent_adam_(
    by_latent: ByLatent,
    weights: Float[Tensor, " nnz"],
    dense: Float[Tensor, "row d_in"],
    weight: Float[Tensor, "d_sae d_in"],
    mean: Float[Tensor, "d_sae d_in"],
    square: Float[Tensor, "d_sae d_in"],
    adam: AdamStep,
    unit_norm: bool = False,
) -> None:
    if _is_dense(by_latent.offsets, dense):
        return adam_(weight, sum_by_latent(by_latent, weights, dense), mean, square, adam, unit_norm)
    arrays = _arrays(*by_latent, weights, dense, weight, mean, square, _numbers(adam, weight.dtype))
    work = len(by_latent.rows) * dense.shape[1] + _ADAM * weight.numel()
    share(len(weight), work, loops.sum_by_latent_adam, *arrays, unit_norm)


def _is_dense(offsets: Tensor, table: Tensor) -> bool:
    """Whether so many entries are stored that matmuls over tiles that hold the zeros too are the faster way.

    An entry costs about as much as eight numbers of a dense matmul, or four if the table's rows come from the cache.
    """
    ratio = 8 if table.nbytes > _CACHE else 4
    return int(offsets[-1] - offsets[0]) * ratio > (len(offsets) - 1) * len(table)


def _tiles(rows: int, width: int) -> list[slice]:
    tile = max(1, _TILE // width)
    return [slice(start, min(start + tile, rows)) for start in range(0, rows, tile)]


def _dense_bags(offsets: Tensor, ids: Tensor, weights: Tensor, table: Tensor, out: Tensor) -> None:
    """out[bag] = Σ weights · table[ids] over its entries."""

    def fill(bags: slice) -> None:
        tile = torch.zeros(bags.stop - bags.start, len(table), dtype=table.dtype)
        loops.scatter(*_arrays(offsets[bags.start : bags.stop + 1], ids, weights, tile))
        torch.mm(tile, table, out=out[bags])

    share_pieces(_tiles(len(out), len(table)), fill)


def _dense_dots(codes: SparseCodes, x: Tensor, table: Tensor, out: Tensor) -> None:
    """⟨x[row], table[latent]⟩ of each entry."""

    def fill(rows: slice) -> None:
        dots = x[rows] @ table.T
        loops.gather(*_arrays(codes.offsets[rows.start : rows.stop + 1], codes.latents, dots, out))

    share_pieces(_tiles(len(x), len(table)), fill)


def _keys(floats: Tensor) -> np.ndarray:
    """The bits of the floats, as integers."""
    return floats.detach().contiguous().view(_KEYS[floats.dtype]).numpy()


def _whole_vectors(tile: Tensor) -> np.ndarray:
    """The keys, and zeros up to the end of a vector."""
    missing = -tile.shape[1] % picking.LANES
    return _keys(F.pad(tile, (0, missing)) if missing else tile)


def _limits(threshold: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Keys in the order of all floats, such that a float of `dtype` has a larger one if it exceeds the threshold."""
    full = torch.float32 if dtype == torch.bfloat16 else dtype
    keys = _keys(threshold.to(full) + 0.0)  # so that 0 does not exceed −0
    sign = 8 * keys.itemsize - 1
    ordered = keys ^ ((keys >> sign) & ((1 << sign) - 1))
    if dtype == torch.bfloat16:
        ordered = ((ordered - ((ordered >> sign) & 0xFFFF)) >> 16).astype(np.int16)
    return ordered


def _tiled(pre: PreActivations) -> Tiled:
    """Pre-activations that are all there: tiles of whole rows."""
    if isinstance(pre, Tiled):
        return pre
    at_once = max(1, _PICKED_AT_ONCE // max(1, pre.shape[1]))
    pieces = [slice(start, min(start + at_once, len(pre))) for start in range(0, len(pre), at_once)]
    return Tiled(pre.shape, pre.dtype, pieces, lambda piece: [(0, pre[piece])])


class _Bound:
    """A key that the n largest of all keys seen so far reach; threads raise it together."""

    def __init__(self, n: int, dtype: torch.dtype):
        self._n, self._shift = n, 8 * dtype.itemsize - 16
        self._counts, self._leading, self._reaching = np.zeros(1 << 15, np.int64), 0, 0
        self._lock = threading.Lock()

    @property
    def least(self) -> int:
        return max(1, self._leading << self._shift)

    def see(self, keys: np.ndarray) -> None:
        with self._lock:
            bound = picking.raise_bound(keys, self._shift, self._counts, self._n, self._leading, self._reaching)
            self._leading, self._reaching = bound


class _Entries(NamedTuple):
    rows: np.ndarray
    """Within the piece."""
    latents: np.ndarray
    keys: np.ndarray


class _ByRow(NamedTuple):
    counts: np.ndarray
    """Of each row."""
    latents: np.ndarray
    keys: np.ndarray


def _exceeding(tile: Tensor, limits: np.ndarray, first: int) -> _Entries:
    """The entries of a tile of latents first, first + 1 … that exceed their latent's limit."""
    keys = _whole_vectors(tile)
    limits = np.pad(limits, (0, keys.shape[1] - len(limits)), constant_values=np.iinfo(keys.dtype).max)
    room = np.empty(keys.size, np.int32), np.empty(keys.size, np.int32), np.empty(keys.size, keys.dtype)
    count = picking.collect(keys, limits, first, *room)
    return _Entries(*(part[:count].copy() for part in room))


def _by_row(piece: slice, tiles: list[_Entries], dtype: torch.dtype, least: int) -> _ByRow:
    """The entries of these tiles with at least that key."""
    counts = np.zeros(piece.stop - piece.start, np.int64)
    for entries in tiles:
        picking.count_rows(*entries, least, counts)
    offsets = _offsets(counts)
    latents, keys = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], _numpy(dtype))
    for entries in tiles:
        picking.sort_by_row(*entries, least, offsets, latents, keys)
    return _ByRow(counts, latents, keys)


def _stacked(pieces: list[_ByRow], dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, latents and keys of all pieces."""
    none = _ByRow(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, _numpy(dtype)))
    counts, latents, keys = (np.concatenate(parts) for parts in zip(none, *pieces, strict=True))
    return _offsets(counts), latents, keys


def _groups(width: int, k: int) -> int:
    """Groups of 32, or more and smaller ones where k is large: four a pick keeps the lower bound close."""
    return min(width, max(4 * k, -(-width // 32)))


def _numpy(dtype: torch.dtype) -> np.dtype:
    """Of the keys."""
    return np.dtype(f"int{8 * dtype.itemsize}")


def _room(rows: int, k: int, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty((rows, k), np.int32), np.empty((rows, k), _numpy(dtype)), np.empty(rows, np.int64)


def _filled(latents: np.ndarray, keys: np.ndarray, counts: np.ndarray, dtype: torch.dtype, d_sae: int) -> SparseCodes:
    """Codes of the first counts[row] entries of each row."""
    k = latents.shape[1]
    if counts.min(initial=k) < k:
        kept = np.arange(k) < counts[:, None]
        latents, keys = latents[kept], keys[kept]
    return _codes(_offsets(counts), latents.reshape(-1), keys.reshape(-1), dtype, d_sae)


def _largest_of(piece: slice, tiles: list[_Entries], dtype: torch.dtype, least: int, n: int) -> _Entries:
    """Of the entries of these tiles those that may be among the n largest of all, by row."""
    counts, latents, keys = _by_row(piece, tiles, dtype, least)
    offsets, latents, keys = _largest(_offsets(counts), latents, keys, n)
    return _Entries(np.repeat(np.arange(len(counts), dtype=np.int32), np.diff(offsets)), latents, keys)


def _largest(
    offsets: np.ndarray, latents: np.ndarray, keys: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, latents and keys of the n largest positive entries, the first of equal ones."""
    last = len(keys) - max(n, 1)  # of none, the largest: no entry exceeds it, and none of those equal to it is left
    least = max(1, np.partition(keys, last)[last] if len(keys) > n else 1)
    larger, reaching = int((keys > least).sum()), int((keys >= least).sum())
    n = min(n, reaching)
    kept = np.empty_like(offsets), np.empty(n, np.int32), np.empty(n, keys.dtype)
    picking.keep_largest(offsets, latents, keys, least, n - larger, *kept)
    return kept


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])


def _codes(offsets: np.ndarray, latents: np.ndarray, keys: np.ndarray, dtype: torch.dtype, d_sae: int) -> SparseCodes:
    values = torch.from_numpy(keys).view(dtype)
    values = values.float() if dtype == torch.bfloat16 else values
    return SparseCodes(torch.from_numpy(offsets), torch.from_numpy(latents), values, d_sae)


def _numbers(adam: AdamStep, dtype: torch.dtype) -> Tensor:
    rate = adam.lr / (1 - adam.beta1**adam.step)
    root = (1 - adam.beta2**adam.step) ** -0.5
    return torch.tensor((rate, root, adam.beta1, adam.beta2, adam.eps, *adam.rests), dtype=dtype)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
