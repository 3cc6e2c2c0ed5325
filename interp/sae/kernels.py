"""The operations of a training step, written with torch: pick, decode, gradients, update.

Everything after the pick works on `SparseCodes`, so nothing of size [row, d_sae] or [row·k, d] is made:

    pick       z = the k largest positive pre-activations of each row (`top_k`), the n largest of all rows
               (`batch_top_k`), or those above a threshold (`above`); from bfloat16, a shortlist to `rescore`
               and to choose from (`keep_top_k`, `keep_batch_top_k`, `keep_above`)
    decode     x_hat_i = Σ_p values_p · W_dec[latents_p] + b_dec over the entries p of row i
    backward   e = x_hat − x,   gradient_p = ⟨e_i, W_dec[latents_p]⟩; `nested_backward` for prefixes of the latents
    gradients  by latent row:  out_j = Σ_p weights_p · dense[row_p]  over the entries p of latent j
    update     Adam, with the gradient parallel to a unit-norm row removed and the norm put back to one

`kernels(tensor)` names the module whose operations are fastest where the tensor lives: this one (any device, any
dtype, and the twin that the others are tested against), or `numba_kernels` on a CPU. Both are deterministic.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.codes import SparseCodes

_ENTRIES_AT_ONCE = 1 << 14


class Decoded(NamedTuple):
    error: Float[Tensor, "row d_in"]
    """x_hat − x"""
    gradient: Float[Tensor, " nnz"]
    """d(½‖error‖²)/d(value), for each stored entry"""


class Nested(NamedTuple):
    """Of the dictionaries that the prefixes 0..ends[g] of the latents make, e^(g) = x_hat^(g) − x."""

    error: Float[Tensor, "row d_in"]
    """e of all latents."""
    gradient: Float[Tensor, " nnz"]
    """d(½ Σ_g ‖e^(g)‖²)/d(value), for each stored entry"""
    residuals: Float[Tensor, "group row d_in"]
    """residuals[h] = Σ_{g ≥ h} e^(g): where the latents of group h, ends[h − 1]..ends[h], get their gradients from."""
    squared_errors: Float[Tensor, " group"]
    """Σ_i ‖e_i^(g)‖²"""


class ByLatent(NamedTuple):
    """The entries of codes sorted by latent, and by row within a latent (the CSC layout)."""

    offsets: Int[Tensor, " d_sae_plus_1"]
    rows: Int[Tensor, " nnz"]
    entries: Int[Tensor, " nnz"]
    """Where each entry stands in the codes: `codes.values[entries]` are the values in this order."""


class AdamStep(NamedTuple):
    """The numbers of one Adam step (Kingma & Ba 2015); `step` counts from 1."""

    lr: float
    step: int
    scale: float = 1.0
    """What the gradient is multiplied with."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 6.25e-10

    @property
    def rests(self) -> tuple[float, float]:
        """What a new gradient, and its square, weigh in the running means."""
        return (1 - self.beta1) * self.scale, (1 - self.beta2) * self.scale**2


@dataclass(frozen=True)
class Tiled:
    """Pre-activations that are never all there: tiles of them are made as a loop comes to pick from them."""

    shape: torch.Size
    dtype: torch.dtype
    pieces: Sequence[slice]
    """Of the rows: the parts of the work that threads share, the same for any number of them."""
    tiles: Callable[[slice], Iterable[tuple[int, Float[Tensor, "row latent"]]]]
    """Of a piece: the first latent of each tile, and the tile, which the next one may overwrite. On other devices than
    a CPU tiles are whole rows."""
    device: torch.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def numel(self) -> int:
        return self.shape.numel()


PreActivations = Float[Tensor, "row d_sae"] | Tiled


def kernels(tensor: Tensor) -> ModuleType:
    """The module of operations to use for tensors that live where `tensor` does."""
    return _module(tensor.device.type, tensor.dtype in (torch.float32, torch.float64))


def pick_kernels(pre: PreActivations) -> ModuleType:
    """The module to pick with; it takes pre-activations in bfloat16 too."""
    return _module(pre.device.type, pre.dtype in (torch.bfloat16, torch.float32, torch.float64))


@lru_cache
def _module(device: str, fast: bool) -> ModuleType:
    if fast and device == "cpu":
        return import_module("interp.sae.numba_kernels")
    if fast and device == "cuda" and find_spec("triton"):
        return import_module("interp.sae.triton_kernels")
    return import_module("interp.sae.kernels")


def top_k(pre: Float[Tensor, "row d_sae"], k: int) -> SparseCodes:
    """The k largest of each row; those that are not positive are left out (ReLU)."""
    values, latents = pre.topk(k, dim=1, sorted=False)
    kept = values > 0
    return SparseCodes(_offsets(kept.sum(1)), latents[kept].int(), _full(values[kept]), pre.shape[1])


def batch_top_k(pre: PreActivations, n: int) -> SparseCodes:
    """The n largest of all rows together; those that are not positive are left out."""
    if isinstance(pre, Tiled):
        return batch_top_k_of_tiles(pre, n, import_module(__name__))
    values, flat = pre.flatten().topk(min(n, pre.numel()), sorted=False)
    flat = flat[values > 0].sort().values
    counts = torch.bincount(flat // pre.shape[1], minlength=len(pre))
    return SparseCodes(_offsets(counts), (flat % pre.shape[1]).int(), _full(pre.flatten()[flat]), pre.shape[1])


def batch_top_k_of_tiles(pre: Tiled, n: int, ops: ModuleType) -> SparseCodes:
    """The n largest so far, and of each further piece what exceeds the least of them: of equal ones the first stay."""
    kept: SparseCodes | None = None
    for first, tile in itertools.chain.from_iterable(map(pre.tiles, pre.pieces)):
        assert first == 0 and tile.shape[1] == pre.shape[1], "a tile must hold whole rows"
        if kept is None or kept.nnz < max(n, 1):
            found = ops.batch_top_k(tile, n)
        else:
            found = ops.above(tile, kept.values.min().expand(tile.shape[1]))
        kept = found if kept is None else ops.keep_batch_top_k(SparseCodes.cat([kept, found]), n)
    assert kept is not None
    return kept


def above(pre: Float[Tensor, "row d_sae"], threshold: Float[Tensor, " d_sae"]) -> SparseCodes:
    """All that exceed their latent's threshold."""
    active = pre > threshold
    return SparseCodes(_offsets(active.sum(1)), active.nonzero()[:, 1].int(), _full(pre[active]), pre.shape[1])


def keep_top_k(codes: SparseCodes, k: int) -> SparseCodes:
    """The k largest positive entries of each row, the first of equal ones."""
    order = codes.values.argsort(descending=True, stable=True)
    order = order[codes.rows[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(codes.nnz, device=order.device) - codes.offsets[codes.rows]
    return _kept(codes, (rank < k) & (codes.values > 0))


def keep_batch_top_k(codes: SparseCodes, n: int) -> SparseCodes:
    """The n largest positive entries of all rows together, the first of equal ones."""
    kept = torch.zeros_like(codes.values, dtype=torch.bool)
    kept[codes.values.argsort(descending=True, stable=True)[:n]] = True
    return _kept(codes, kept & (codes.values > 0))


def keep_above(codes: SparseCodes, threshold: Float[Tensor, " d_sae"]) -> SparseCodes:
    """The entries that exceed their latent's threshold."""
    return _kept(codes, codes.values > threshold[codes.latents])


def rescore(
    codes: SparseCodes,
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
) -> SparseCodes:
    """The same entries with the values ⟨x, encoder[latent]⟩ + b_enc at the full precision of x, whatever their sign."""
    values = b_enc[codes.latents] + _row_dots(codes, x, encoder)
    return SparseCodes(codes.offsets, codes.latents, values, codes.d_sae)


def decode(
    codes: SparseCodes, W_dec: Float[Tensor, "d_sae d_in"], b_dec: Float[Tensor, " d_in"]
) -> Float[Tensor, "row d_in"]:
    return _bags(W_dec, codes.latents, codes.offsets, codes.values) + b_dec


def decode_backward(
    codes: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"],
    x: Float[Tensor, "row d_in"],
) -> Decoded:
    error = decode(codes, W_dec, b_dec) - x
    return Decoded(error, _row_dots(codes, error, W_dec))


def nested_backward(
    codes: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"],
    x: Float[Tensor, "row d_in"],
    ends: Int[Tensor, " group"],
) -> Nested:
    """`ends` increase, and the last is d_sae."""
    groups = torch.searchsorted(ends, codes.latents, right=True)
    parts = [_kept(codes, groups == h) for h in range(len(ends))]
    zero = torch.zeros_like(b_dec)
    errors = torch.stack([decode(part, W_dec, zero) for part in parts]).cumsum(0) + (b_dec - x)
    residuals = errors.flip(0).cumsum(0).flip(0)
    gradient = torch.empty_like(codes.values)
    for h, part in enumerate(parts):
        gradient[groups == h] = _row_dots(part, residuals[h], W_dec)
    return Nested(errors[-1], gradient, residuals, errors.square().sum((1, 2)))


def transpose(codes: SparseCodes) -> ByLatent:
    entries = codes.latents.argsort(stable=True)
    counts = torch.bincount(codes.latents, minlength=codes.d_sae)
    return ByLatent(_offsets(counts), codes.rows[entries], entries)


def sum_by_latent(
    by_latent: ByLatent,
    weights: Float[Tensor, " nnz"],
    dense: Float[Tensor, "row d_in"],
    out: Float[Tensor, "d_sae d_in"] | None = None,
) -> Float[Tensor, "d_sae d_in"]:
    """Row j of the result: Σ weights · dense[row] over the entries of latent j (weights in the order of the codes)."""
    sums = _bags(dense, by_latent.rows, by_latent.offsets, weights[by_latent.entries])
    return sums if out is None else out.copy_(sums)


def latent_sums(by_latent: ByLatent, weights: Float[Tensor, " nnz"]) -> Float[Tensor, " d_sae"]:
    """The sum of the weights over the entries of each latent."""
    return _bags(weights[:, None], by_latent.entries, by_latent.offsets, torch.ones_like(weights))[:, 0]


def squared_distance(x: Float[Tensor, "row d"], point: Float[Tensor, " d"]) -> float:
    """Σ_i ‖x_i − point‖²"""
    return float((x - point).square().sum())


def adam_(
    weight: Float[Tensor, "row d"],
    gradient: Float[Tensor, "row d"],
    mean: Float[Tensor, "row d"],
    square: Float[Tensor, "row d"],
    adam: AdamStep,
    unit_norm: bool = False,
) -> None:
    """One Adam step on `weight`, `mean` and `square` in place. `unit_norm`: the rows are, and stay, of norm one."""
    if unit_norm:
        gradient = gradient - (gradient * weight).sum(1, keepdim=True) * weight
    rest1, rest2 = adam.rests
    mean.mul_(adam.beta1).add_(gradient, alpha=rest1)
    square.mul_(adam.beta2).addcmul_(gradient, gradient, value=rest2)
    spread = (square / (1 - adam.beta2**adam.step)).sqrt_().add_(adam.eps)
    weight.addcdiv_(mean, spread, value=-adam.lr / (1 - adam.beta1**adam.step))
    if unit_norm:
        weight /= weight.norm(dim=1, keepdim=True)


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
    """`adam_` with the gradient that `sum_by_latent` gives."""
    adam_(weight, sum_by_latent(by_latent, weights, dense), mean, square, adam, unit_norm)


def _kept(codes: SparseCodes, mask: Bool[Tensor, " nnz"]) -> SparseCodes:
    return SparseCodes(_offsets(mask)[codes.offsets], codes.latents[mask], codes.values[mask], codes.d_sae)


def _full(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.bfloat16 else values


def _bags(table: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Σ weights · table[ids] over each bag, without an [nnz, d] tensor and without atomics."""
    ids, offsets = ids.long(), offsets.long()
    return F.embedding_bag(ids, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _row_dots(codes: SparseCodes, x: Tensor, table: Tensor) -> Tensor:
    """⟨x[row], table[latent]⟩ of each entry, so many entries at once that memory stays bounded."""
    pieces = zip(codes.rows.split(_ENTRIES_AT_ONCE), codes.latents.split(_ENTRIES_AT_ONCE), strict=True)
    return torch.cat([(x[rows] * table[latents]).sum(1) for rows, latents in pieces])


def _offsets(counts: Int[Tensor, " bag"]) -> Int[Tensor, " bag_plus_1"]:
    return F.pad(counts.cumsum(0), (1, 0))
