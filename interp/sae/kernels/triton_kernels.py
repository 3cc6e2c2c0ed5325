"""The operations of `torch_kernels` on a CUDA device, as Triton kernels: same names, arguments and results.

Numbers are float32; pre-activations may be bfloat16.

    pick       maxima of groups of latents bound the k-th largest from below; the few that reach the bound are counted,
               written in order, and ranked exactly by a search over the bits of their values
    sums       one program a bag of entries (and tile of columns); latents that fire on many rows are summed in parts
    update     one program a unit-norm row, or plain tiles

Each program writes to its own part of the result, and none needs an atomic: equal inputs give equal bits. Of equal
pre-activations the one of the lowest latent is picked. The compiled functions stand below the class.
"""

import math
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from interp.codes.offsets import offsets_from_lengths
from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels.torch_kernels import (
    AdamStep,
    ByLatent,
    LatentSum,
    Matrix,
    PreActivations,
    Rows,
    Tiled,
    TorchKernels,
    Values,
    all_pre_activations,
)

_ENTRIES = 8
_PART_SIZE = 256
_TILE = 1024
_PICK_TILE = 4096


class TritonKernels(TorchKernels):
    name = "Triton"
    dtypes = (torch.float32,)

    def top_k(self, pre: PreActivations, k: int) -> SparseCodes:
        pre = all_pre_activations(pre)
        maxima = _group_maxima(pre, k)
        bounds = maxima.new_empty(len(pre))
        _launch(row_bounds, (len(pre),), maxima, bounds, maxima.shape[1], k, BLOCK=_TILE)
        return self.keep_top_k(_picks(pre, bounds, by_latent=False), k)

    def batch_top_k(self, pre: PreActivations, n: int) -> SparseCodes:
        if isinstance(pre, Tiled):
            return self._batch_top_k_of_tiles(pre, n)
        rows = len(pre)
        n = min(n, pre.numel())
        maxima = _group_maxima(pre, math.ceil(n / max(rows, 1))).flatten()
        bound = maxima.topk(n, sorted=False).values.amin() if n else maxima.new_zeros(())
        return self.keep_batch_top_k(_picks(pre, bound.clamp(min=1).repeat(rows), by_latent=False), n)

    def above(self, pre: PreActivations, threshold: Tensor) -> SparseCodes:
        return _picks(all_pre_activations(pre), threshold.float().contiguous(), by_latent=True)

    def keep_top_k(self, codes: SparseCodes, k: int) -> SparseCodes:
        keys = codes.values.where(codes.values > 0, 0).view(torch.int32)
        offsets = offsets_from_lengths(offsets_from_lengths(keys > 0)[codes.offsets].diff().clamp(max=k))
        nnz = int(offsets[-1])
        latents, values = codes.latents.new_empty(nnz), codes.values.new_empty(nnz)
        arrays = (codes.offsets, codes.latents, keys, k, offsets, latents, values.view(torch.int32))
        _launch(keep_largest, (len(codes),), *arrays, BLOCK=256)
        return SparseCodes(offsets, latents, values, codes.d_sae)

    def sum_by_latent(self, by_latent: ByLatent, weights: Values, dense: Rows, out: Matrix | None = None) -> Matrix:
        offsets = by_latent.offsets
        rows = by_latent.rows
        weights = weights[by_latent.entries]
        max_parts = 2 * len(rows) // _PART_SIZE
        if max_parts < 2:
            return self._sum_bags(offsets, rows, weights, dense, out)
        starts, stops = offsets[:-1], offsets[1:]
        out = dense.new_empty(len(starts), dense.shape[1]) if out is None else out
        counts = stops - starts
        parts = offsets_from_lengths(torch.where(counts > _PART_SIZE, (counts + _PART_SIZE - 1) // _PART_SIZE, 0))
        _sum_bags(starts, torch.where(counts > _PART_SIZE, starts, stops), rows, weights, dense, out)
        # More parts than there are, so that their number need not be known here: the others are not read.
        part = torch.arange(max_parts, device=offsets.device)
        latent = torch.searchsorted(parts[1:], part, right=True).clamp_(max=len(starts) - 1)
        first = starts[latent] + _PART_SIZE * (part - parts[latent])
        sums = dense.new_empty(max_parts, dense.shape[1])
        _sum_bags(first, torch.minimum(first + _PART_SIZE, stops[latent]), rows, weights, dense, sums)
        _sum_bags(parts[:-1], parts[1:], part, weights.new_ones(max_parts), sums, out, skip_empty=True)
        return out

    def adam_(self, weight: Rows, gradient: Rows | LatentSum, mean: Rows, square: Rows, adam: AdamStep) -> None:
        gradient = self.sum_by_latent(*gradient) if isinstance(gradient, LatentSum) else gradient
        n = weight.numel()
        d = weight.shape[1] if adam.unit_norm else _TILE
        tensors = (weight, gradient.contiguous(), mean, square)
        tile = _tile(d)
        _launch(adam_rows, (triton.cdiv(n, d),), *tensors, n, d, *adam.coefficients, UNIT=adam.unit_norm, **tile)

    def _sum_bags(
        self, offsets: Tensor, ids: Tensor, weights: Tensor, table: Tensor, out: Tensor | None = None
    ) -> Float[Tensor, "bag d"]:
        out = table.new_empty(len(offsets) - 1, table.shape[1]) if out is None else out
        _sum_bags(offsets[:-1], offsets[1:], ids, weights, table, out)
        return out

    def _dots(self, offsets: Tensor, ids: Tensor, x: Float[Tensor, "bag d"], table: Tensor) -> Values:
        out = x.new_empty(len(ids))
        d = x.shape[1]
        _launch(bag_dots, (len(x),), *_make_contiguous(offsets, ids, x, table), out, d, ENTRIES=_ENTRIES, **_tile(d))
        return out


def _group_maxima(pre: Float[Tensor, "row d_sae"], k: int) -> Int[Tensor, "row group"]:
    """Return keys of the maxima of groups of 16, or of more and smaller ones where k is large: the bound stays
    close."""
    rows, width = pre.shape
    groups = min(width, max(4 * k, triton.cdiv(width, 16)))
    maxima = torch.empty(rows, groups, dtype=torch.int32, device=pre.device)
    grid = (rows, triton.cdiv(groups, _TILE))
    _launch(group_maxima, grid, pre.contiguous(), maxima, width, groups, BLOCK=_TILE)
    return maxima


def _picks(pre: Float[Tensor, "row d_sae"], bounds: Tensor, by_latent: bool) -> SparseCodes:
    """Return all that exceed their latent's threshold, or whose key reaches their row's bound."""
    (rows, width), pre = pre.shape, pre.contiguous()
    tiles = triton.cdiv(width, _PICK_TILE)
    sizes = {"BY_LATENT": by_latent, "BLOCK": _PICK_TILE, "num_warps": 8}
    counts = torch.empty(rows * tiles, dtype=torch.int32, device=pre.device)
    _launch(count_picks, (rows, tiles), pre, bounds, counts, width, **sizes)
    starts = offsets_from_lengths(counts)
    nnz = int(starts[-1])
    latents = counts.new_empty(nnz)
    values = torch.empty(nnz, device=pre.device)
    _launch(fill_picks, (rows, tiles), pre, bounds, starts, latents, values, width, **sizes)
    return SparseCodes(starts[::tiles].contiguous(), latents, values, width)


def _sum_bags(
    starts: Tensor, stops: Tensor, ids: Tensor, weights: Tensor, table: Tensor, out: Tensor, skip_empty: bool = False
) -> None:
    """Compute out[bag] = Σ weights · table[ids] over the entries starts … stops of a bag (`skip_empty`: if any)."""
    d = table.shape[1]
    tile = _tile(table.shape[1])
    grid = (len(out), triton.cdiv(d, tile["BLOCK"]))
    arrays = _make_contiguous(starts, stops, ids, weights, table)
    _launch(sum_bags, grid, *arrays, out, d, SKIP_EMPTY=skip_empty, ENTRIES=_ENTRIES, **tile)


def _tile(d: int) -> dict[str, int]:
    """Return the widest tile of columns that wastes at most an eighth of its lanes, and a warp for each 128 of them."""
    wide = [block for block in (_TILE, _TILE // 2) if triton.cdiv(d, block) * block * 7 <= d * 8]
    block = wide[0] if wide else max(16, min(_TILE // 4, triton.next_power_of_2(d)))
    return {"BLOCK": block, "num_warps": max(1, block // 128)}


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **sizes: Any) -> None:
    """Launch on the device of the tensors, which need not be the current one; the compiler may fuse a·b + c."""
    assert all(argument.is_contiguous() for argument in arguments if isinstance(argument, Tensor))
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, enable_fp_fusion=True, **sizes)


def _make_contiguous(*tensors: Tensor) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


@triton.jit
def sum_bags(
    starts, stops, ids, weights, table, out, d, SKIP_EMPTY: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr
):
    """Compute out[bag] = Σ weights · table[ids] over the entries of the bag, for one bag and one tile of columns."""
    bag = tl.program_id(0).to(tl.int64)
    first, last = tl.load(starts + bag), tl.load(stops + bag)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < (tl.where(first < last, d, 0) if SKIP_EMPTY else d)
    total = tl.zeros([BLOCK], tl.float32)
    for p in range(first, last, ENTRIES):
        entries = p + tl.arange(0, ENTRIES)
        stored = entries < last
        weight = tl.load(weights + entries, mask=stored, other=0.0)
        rows = _rows_of(table, ids, entries, stored, columns, inside, d)
        total += tl.sum(weight[:, None] * rows, axis=0)
    tl.store(out + bag * d + columns, total, mask=inside)


@triton.jit
def bag_dots(offsets, ids, x, table, out, d, ENTRIES: tl.constexpr, BLOCK: tl.constexpr):
    """Compute ⟨x[bag], table[ids]⟩ of the entries of one bag."""
    bag = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + bag), tl.load(offsets + bag + 1)
    for p in range(first, last, ENTRIES):
        entries = p + tl.arange(0, ENTRIES)
        stored = entries < last
        products = tl.zeros([ENTRIES, BLOCK], tl.float32)
        for start in range(0, d, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            inside = columns < d
            dense = tl.load(x + bag * d + columns, mask=inside, other=0.0)
            products += dense[None, :] * _rows_of(table, ids, entries, stored, columns, inside, d)
        tl.store(out + entries, tl.sum(products, axis=1), mask=stored)


@triton.jit
def _rows_of(table, ids, entries, stored, columns, inside, d):
    """Load table[ids[entries], columns], with zero where an entry or a column does not exist."""
    rows = tl.load(ids + entries, mask=stored, other=0).to(tl.int64)
    return tl.load(table + rows[:, None] * d + columns[None, :], mask=stored[:, None] & inside[None, :], other=0.0)


@triton.jit
def adam_rows(
    weight, grad, mean, square, n, d,
    rate, correction, beta1, beta2, eps, new_mean, new_square,
    UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Update d of n numbers, with the coefficients of an `AdamStep`.
    UNIT: a row of norm one, without the gradient parallel to it, and back to norm one."""
    row = tl.program_id(0).to(tl.int64)
    if UNIT:
        products = tl.zeros([BLOCK], tl.float32)
        for start in range(0, d, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            w = tl.load(weight + row * d + columns, mask=columns < d, other=0.0)
            products += w * tl.load(grad + row * d + columns, mask=columns < d, other=0.0)
        parallel = tl.sum(products, axis=0)
    squares = tl.zeros([BLOCK], tl.float32)
    for start in range(0, d, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        at = row * d + columns
        inside = (columns < d) & (at < n)
        w = tl.load(weight + at, mask=inside, other=0.0)
        slope = tl.load(grad + at, mask=inside, other=0.0)
        if UNIT:
            slope -= parallel * w
        m = beta1 * tl.load(mean + at, mask=inside, other=0.0) + new_mean * slope
        v = beta2 * tl.load(square + at, mask=inside, other=0.0) + new_square * slope * slope
        tl.store(mean + at, m, mask=inside)
        tl.store(square + at, v, mask=inside)
        w -= rate * m / (tl.sqrt_rn(v) * correction + eps)
        squares += w * w
        tl.store(weight + at, w, mask=inside)
    if UNIT:
        norm = tl.sqrt_rn(tl.sum(squares, axis=0))
        tl.debug_barrier()  # threads read below what other threads of the program stored above
        for start in range(0, d, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            at = row * d + columns
            inside = columns < d
            tl.store(weight + at, tl.load(weight + at, mask=inside, other=0.0) / norm, mask=inside)


@triton.jit
def _keys(values):
    """Return the bits of positive floats, which are ordered as they are. A value that is not positive, or not a number,
    has key 0."""
    return tl.where(values > 0, values.to(tl.int32, bitcast=True), 0)


@triton.jit
def _kth_largest(keys, n, k, BLOCK: tl.constexpr):
    """Return a key that exactly k of the n keys reach or, where ties forbid that, the k-th largest; 0 if fewer are
    above 0."""
    low, high = 0, 0x7F800001  # above the bits of infinity
    while high - low > 1:
        middle = low + (high - low) // 2
        reached = tl.zeros([BLOCK], tl.int32)
        for start in range(0, n, BLOCK):
            at = start + tl.arange(0, BLOCK)
            reached += (tl.load(keys + at, mask=at < n, other=0) >= middle).to(tl.int32)
        count = tl.sum(reached, axis=0)
        if count >= k:
            low = middle
        if count <= k:
            high = tl.maximum(low + 1, middle)
    return low


@triton.jit
def group_maxima(pre, maxima, width, groups, BLOCK: tl.constexpr):
    """Compute the largest key of row[g], row[g + groups], row[g + 2·groups] … for a tile of groups g."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    largest = tl.zeros([BLOCK], tl.int32)
    for start in range(0, width, groups):
        columns = start + group
        values = tl.load(pre + row * width + columns, mask=(group < groups) & (columns < width), other=0.0)
        largest = tl.maximum(largest, _keys(values.to(tl.float32)))
    tl.store(maxima + row * groups + group, largest, mask=group < groups)


@triton.jit
def row_bounds(maxima, bounds, groups, k, BLOCK: tl.constexpr):
    """Compute a key above 0 that the k largest of the row reach, because k of its group maxima do."""
    row = tl.program_id(0).to(tl.int64)
    tl.store(bounds + row, tl.maximum(_kth_largest(maxima + row * groups, groups, k, BLOCK), 1))


@triton.jit
def _mark_picked(values, bounds, row, columns, inside, BY_LATENT: tl.constexpr):
    """Mark entries above the threshold of the latent, or with a key that reaches the row's bound."""
    if BY_LATENT:
        return inside & (values > tl.load(bounds + columns, mask=inside, other=0.0))
    else:
        return inside & (_keys(values) >= tl.load(bounds + row))


@triton.jit
def count_picks(pre, bounds, counts, width, BY_LATENT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(pre + row * width + columns, mask=columns < width, other=0.0).to(tl.float32)
    picked = _mark_picked(values, bounds, row, columns, columns < width, BY_LATENT)
    tl.store(counts + row * tl.num_programs(1) + tl.program_id(1), tl.sum(picked.to(tl.int32), axis=0))


@triton.jit
def fill_picks(pre, bounds, starts, latents, picks, width, BY_LATENT: tl.constexpr, BLOCK: tl.constexpr):
    """Write the picks of one row and one tile, in the order of the latents, from the tile's place on."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tile = row * tl.num_programs(1) + tl.program_id(1)
    first, last = tl.load(starts + tile), tl.load(starts + tile + 1)
    if first < last:
        values = tl.load(pre + row * width + columns, mask=columns < width, other=0.0).to(tl.float32)
        picked = _mark_picked(values, bounds, row, columns, columns < width, BY_LATENT)
        at = first + tl.cumsum(picked.to(tl.int32), axis=0) - 1
        tl.store(latents + at, columns, mask=picked)
        tl.store(picks + at, values, mask=picked)


@triton.jit
def keep_largest(offsets, latents, keys, k, kept_offsets, kept_latents, kept_keys, BLOCK: tl.constexpr):
    """Keep the k largest keys above 0 of one row, of equal ones the first."""
    row = tl.program_id(0).to(tl.int64)
    first = tl.load(offsets + row)
    n = (tl.load(offsets + row + 1) - first).to(tl.int32)
    place = tl.load(kept_offsets + row)
    least = tl.maximum(_kth_largest(keys + first, n, k, BLOCK), 1)
    above = tl.zeros([BLOCK], tl.int32)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        above += (tl.load(keys + first + at, mask=at < n, other=0) > least).to(tl.int32)
    equal_left = k - tl.sum(above, axis=0)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        key = tl.load(keys + first + at, mask=at < n, other=0)
        equal = (key == least).to(tl.int32)
        kept = (key > least) | ((equal > 0) & (tl.cumsum(equal, axis=0) <= equal_left))
        to = place + tl.cumsum(kept.to(tl.int32), axis=0) - 1
        tl.store(kept_latents + to, tl.load(latents + first + at, mask=kept, other=0), mask=kept)
        tl.store(kept_keys + to, key, mask=kept)
        equal_left -= tl.sum(equal, axis=0)
        place += tl.sum(kept.to(tl.int32), axis=0)
