"""The operations of `kernels` as Triton kernels on a CUDA device: same names, arguments and results.

Numbers are float32; pre-activations may be bfloat16.

    pick       maxima of groups of latents bound the k-th largest from below; the few that reach the bound are counted,
               written in order, and ranked exactly by a search over the bits of their values
    decode     one program a row (and tile of columns) over the row's entries, and again for ⟨error, row⟩
    gradients  one program a latent over its entries; latents that fire on many rows are summed in parts first
    update     one program a unit-norm row, or plain tiles

Nothing depends on the order in which programs run: equal inputs give equal bits. Of equal pre-activations the one of
the lowest latent is picked. Sorting entries by latent is torch's stable radix sort.
"""

from contextlib import nullcontext
from importlib import import_module
from typing import Any

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from interp.codes import SparseCodes
from interp.sae import triton_loops as loops
from interp.sae import triton_picking as picking
from interp.sae.kernels import AdamStep, ByLatent, Decoded, Nested, PreActivations, Tiled, batch_top_k_of_tiles
from interp.sae.kernels import keep_above as keep_above

_ENTRIES = 8
_PART = 256
_TILE = 1024
_PICK_TILE = 4096


def top_k(pre: Float[Tensor, "row d_sae"], k: int) -> SparseCodes:
    rows, width = pre.shape
    maxima = _group_maxima(pre, k)
    bounds = maxima.new_empty(rows)
    _launch(picking.row_bounds, (rows,), maxima, bounds, maxima.shape[1], k, BLOCK=_TILE)
    return keep_top_k(_picks(pre, bounds, by_latent=False), k)


def batch_top_k(pre: PreActivations, n: int) -> SparseCodes:
    if isinstance(pre, Tiled):
        return batch_top_k_of_tiles(pre, n, import_module(__name__))
    rows = len(pre)
    n = min(n, pre.numel())
    maxima = _group_maxima(pre, -(-n // max(rows, 1))).flatten()
    bound = maxima.topk(n, sorted=False).values.amin() if n else maxima.new_zeros(())
    return keep_batch_top_k(_picks(pre, bound.clamp(min=1).repeat(rows), by_latent=False), n)


def above(pre: Float[Tensor, "row d_sae"], threshold: Float[Tensor, " d_sae"]) -> SparseCodes:
    return _picks(pre, threshold.float().contiguous(), by_latent=True)


def keep_top_k(codes: SparseCodes, k: int) -> SparseCodes:
    keys = codes.values.where(codes.values > 0, 0).view(torch.int32)
    offsets = _offsets(_offsets(keys > 0)[codes.offsets].diff().clamp(max=k))
    nnz = int(offsets[-1])
    latents, values = codes.latents.new_empty(nnz), codes.values.new_empty(nnz)
    arrays = (codes.offsets, codes.latents, keys, k, offsets, latents, values.view(torch.int32))
    _launch(picking.keep_largest, (len(codes),), *arrays, BLOCK=256)
    return SparseCodes(offsets, latents, values, codes.d_sae)


def keep_batch_top_k(codes: SparseCodes, n: int) -> SparseCodes:
    values = codes.values.where(codes.values > 0, 0)
    kept = values > 0
    if n < codes.nnz:
        least = values.topk(max(n, 1), sorted=False).values.amin()
        larger, equal = values > least, kept & (values == least)
        kept = larger | (equal & (equal.cumsum(0) <= n - larger.sum()))
    return SparseCodes(_offsets(kept)[codes.offsets], codes.latents[kept], codes.values[kept], codes.d_sae)


def rescore(
    codes: SparseCodes,
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
) -> SparseCodes:
    values = x.new_empty(codes.nnz)
    arrays = _contiguous(codes.offsets, codes.latents, x, encoder, b_enc, values)
    _launch(loops.rescore, (len(codes),), *arrays, x.shape[1], ENTRIES=_ENTRIES, **_tile(x.shape[1]))
    return SparseCodes(codes.offsets, codes.latents, values, codes.d_sae)


def decode(
    codes: SparseCodes, W_dec: Float[Tensor, "d_sae d_in"], b_dec: Float[Tensor, " d_in"]
) -> Float[Tensor, "row d_in"]:
    out = W_dec.new_empty(len(codes), W_dec.shape[1])
    _sum_bags(codes.offsets[:-1], codes.offsets[1:], codes.latents, codes.values, W_dec, out, bias=b_dec.contiguous())
    return out


def decode_backward(
    codes: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"],
    x: Float[Tensor, "row d_in"],
) -> Decoded:
    error, gradient = x.new_empty(x.shape), torch.empty_like(codes.values)
    arrays = _contiguous(codes.offsets, codes.latents, codes.values, W_dec, b_dec, x, error, gradient)
    _launch(loops.decode_backward, (len(codes),), *arrays, x.shape[1], ENTRIES=_ENTRIES, **_tile(x.shape[1]))
    return Decoded(error, gradient)


def nested_backward(
    codes: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"],
    x: Float[Tensor, "row d_in"],
    ends: Int[Tensor, " group"],
) -> Nested:
    (rows, d), tile = x.shape, _tile(x.shape[1])
    groups, tiles = len(ends), triton.cdiv(d, tile["BLOCK"])
    error, residuals = x.new_empty(rows, d), x.new_empty(groups, rows, d)
    squares, gradient = x.new_empty(rows * tiles, groups), torch.empty_like(codes.values)
    values, W_dec, b_dec, x = _contiguous(codes.values, W_dec, b_dec, x)
    ends = torch.as_tensor(ends, dtype=torch.int64, device=x.device)
    entries, sizes = (codes.offsets, codes.latents), {"ENTRIES": _ENTRIES, **tile}
    arrays = (values, W_dec, b_dec, x, ends, error, residuals, squares)
    _launch(loops.nested_errors, (rows, tiles), *entries, *arrays, groups, d, **sizes)
    _launch(loops.nested_dots, (rows,), *entries, W_dec, ends, residuals, gradient, groups, d, **sizes)
    return Nested(error, gradient, residuals, squares.sum(0))


def transpose(codes: SparseCodes) -> ByLatent:
    latents, entries = codes.latents.sort(stable=True)
    every = torch.arange(codes.d_sae + 1, device=latents.device, dtype=latents.dtype)
    rows = torch.arange(len(codes), device=latents.device)
    rows = rows.repeat_interleave(codes.offsets.diff(), output_size=codes.nnz)
    return ByLatent(torch.searchsorted(latents, every), rows[entries], entries)


def sum_by_latent(
    by_latent: ByLatent,
    weights: Float[Tensor, " nnz"],
    dense: Float[Tensor, "row d_in"],
    out: Float[Tensor, "d_sae d_in"] | None = None,
) -> Float[Tensor, "d_sae d_in"]:
    offsets, rows, weights = by_latent.offsets, by_latent.rows, weights[by_latent.entries]
    starts, stops = offsets[:-1], offsets[1:]
    out = dense.new_empty(len(starts), dense.shape[1]) if out is None else out
    most_parts = 2 * len(rows) // _PART
    if most_parts < 2:
        _sum_bags(starts, stops, rows, weights, dense, out)
        return out
    counts = stops - starts
    parts = _offsets(torch.where(counts > _PART, (counts + _PART - 1) // _PART, 0))
    _sum_bags(starts, torch.where(counts > _PART, starts, stops), rows, weights, dense, out)
    # More parts than there are, so that their number need not be known here: the others are not read.
    part = torch.arange(most_parts, device=offsets.device)
    latent = torch.searchsorted(parts[1:], part, right=True).clamp_(max=len(starts) - 1)
    first = starts[latent] + _PART * (part - parts[latent])
    sums = dense.new_empty(most_parts, dense.shape[1])
    _sum_bags(first, torch.minimum(first + _PART, stops[latent]), rows, weights, dense, sums)
    _sum_bags(parts[:-1], parts[1:], part, weights.new_ones(most_parts), sums, out, skip_empty=True)
    return out


def adam_(
    weight: Float[Tensor, "row d"],
    gradient: Float[Tensor, "row d"],
    mean: Float[Tensor, "row d"],
    square: Float[Tensor, "row d"],
    adam: AdamStep,
    unit_norm: bool = False,
) -> None:
    rate, root = adam.lr / (1 - adam.beta1**adam.step), (1 - adam.beta2**adam.step) ** -0.5
    rest1, rest2 = adam.rests
    numbers = (rate, root, adam.beta1, rest1, adam.beta2, rest2, adam.eps)
    tensors = (weight, gradient.contiguous(), mean, square)
    if unit_norm:
        d = weight.shape[1]
        _launch(loops.adam_unit_rows, (len(weight),), *tensors, d, *numbers, **_tile(d))
    else:
        _launch(loops.adam, (triton.cdiv(weight.numel(), _TILE),), *tensors, weight.numel(), *numbers, BLOCK=_TILE)


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
    gradient = sum_by_latent(by_latent, weights, dense)
    adam_(weight, gradient, mean, square, adam, unit_norm)


def _group_maxima(pre: Float[Tensor, "row d_sae"], k: int) -> Int[Tensor, "row group"]:
    """Keys of the maxima of groups of 16, or of more and smaller ones where k is large: the bound stays close."""
    rows, width = pre.shape
    groups = min(width, max(4 * k, triton.cdiv(width, 16)))
    maxima = torch.empty(rows, groups, dtype=torch.int32, device=pre.device)
    grid = (rows, triton.cdiv(groups, _TILE))
    _launch(picking.group_maxima, grid, pre.contiguous(), maxima, width, groups, BLOCK=_TILE)
    return maxima


def _picks(pre: Float[Tensor, "row d_sae"], bounds: Tensor, by_latent: bool) -> SparseCodes:
    """All that exceed their latent's threshold, or whose key reaches their row's bound."""
    (rows, width), pre = pre.shape, pre.contiguous()
    tiles = triton.cdiv(width, _PICK_TILE)
    sizes = {"BY_LATENT": by_latent, "BLOCK": _PICK_TILE, "num_warps": 8}
    counts = torch.empty(rows * tiles, dtype=torch.int32, device=pre.device)
    _launch(picking.count_picks, (rows, tiles), pre, bounds, counts, width, **sizes)
    places = _offsets(counts)
    nnz = int(places[-1])
    latents, values = counts.new_empty(nnz), torch.empty(nnz, device=pre.device)
    _launch(picking.fill_picks, (rows, tiles), pre, bounds, places, latents, values, width, **sizes)
    return SparseCodes(places[::tiles].contiguous(), latents, values, width)


def _sum_bags(
    starts: Tensor,
    stops: Tensor,
    ids: Tensor,
    weights: Tensor,
    table: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    skip_empty: bool = False,
) -> None:
    """out[bag] = bias + Σ weights · table[ids] over the entries starts … stops of a bag (`skip_empty`: if any)."""
    d, tile = table.shape[1], _tile(table.shape[1])
    arrays = _contiguous(starts, stops, ids, weights, table)
    grid = (len(out), triton.cdiv(d, tile["BLOCK"]))
    _launch(loops.sum_bags, grid, *arrays, bias, out, d, SKIP_EMPTY=skip_empty, ENTRIES=_ENTRIES, **tile)


def _tile(d: int) -> dict[str, int]:
    """The widest tile of columns that wastes at most an eighth of its lanes, and a warp for each 128 of them."""
    wide = [block for block in (_TILE, _TILE // 2) if triton.cdiv(d, block) * block * 7 <= d * 8]
    block = wide[0] if wide else max(16, min(_TILE // 4, triton.next_power_of_2(d)))
    return {"BLOCK": block, "num_warps": max(1, block // 128)}


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **sizes: Any) -> None:
    """On the device of the tensors, which need not be the current one; the compiler may fuse a·b + c."""
    assert all(argument.is_contiguous() for argument in arguments if isinstance(argument, Tensor))
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, enable_fp_fusion=True, **sizes)


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


def _offsets(counts: Tensor) -> Int[Tensor, " bag_plus_1"]:
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))
