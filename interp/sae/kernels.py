"""The operations of a training step, written with torch: pick, decode, gradients, update.

Everything after the pick works on `SparseCodes`, so nothing of size [row, d_sae] or [row·k, d] is made:

    pick       z = the k largest positive pre-activations of each row (`top_k`), the n largest of all rows
               (`batch_top_k`), or those above a threshold (`above`)
    decode     x_hat_i = Σ_p values_p · W_dec[latents_p] + b_dec over the entries p of row i
    backward   e = x_hat − x,   gradient_p = ⟨e_i, W_dec[latents_p]⟩
    gradients  by latent row:  out_j = Σ_p weights_p · dense[row_p]  over the entries p of latent j
    update     Adam, with the gradient parallel to a unit-norm row removed and the norm put back to one

`kernels(tensor)` names the module whose operations are fastest where the tensor lives: this one (any device, any
dtype, and the twin that the others are tested against), or `numba_kernels` on a CPU. Both are deterministic.
"""

from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp.codes import SparseCodes

_ENTRIES_AT_ONCE = 1 << 14


class Decoded(NamedTuple):
    error: Float[Tensor, "row d_in"]
    """x_hat − x"""
    gradient: Float[Tensor, " nnz"]
    """d(½‖error‖²)/d(value), for each stored entry"""


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
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 6.25e-10


def kernels(tensor: Tensor) -> ModuleType:
    """The module of operations to use for tensors that live where `tensor` does."""
    from interp.sae import kernels as torch_kernels

    if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
        from interp.sae import numba_kernels

        return numba_kernels
    return torch_kernels


def top_k(pre: Float[Tensor, "row d_sae"], k: int) -> SparseCodes:
    """The k largest of each row; those that are not positive are left out (ReLU)."""
    values, latents = pre.topk(k, dim=1, sorted=False)
    return _positive(latents, values, pre.shape[1])


def batch_top_k(pre: Float[Tensor, "row d_sae"], n: int) -> SparseCodes:
    """The n largest of all rows together; those that are not positive are left out."""
    values, flat = pre.flatten().topk(min(n, pre.numel()), sorted=False)
    flat = flat[values > 0].sort().values
    counts = torch.bincount(flat // pre.shape[1], minlength=len(pre))
    return SparseCodes(_offsets(counts), (flat % pre.shape[1]).int(), pre.flatten()[flat], pre.shape[1])


def above(pre: Float[Tensor, "row d_sae"], threshold: Float[Tensor, " d_sae"]) -> SparseCodes:
    """All that exceed their latent's threshold."""
    active = pre > threshold
    return SparseCodes(_offsets(active.sum(1)), active.nonzero()[:, 1].int(), pre[active], pre.shape[1])


def rescore(
    codes: SparseCodes,
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
) -> SparseCodes:
    """The same picks with the values ⟨x, encoder[latent]⟩ + b_enc at the full precision of x, never below zero."""
    values = b_enc[codes.latents] + _row_dots(codes, x, encoder)
    return SparseCodes(codes.offsets, codes.latents, values.clamp(min=0), codes.d_sae)


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
    mean.lerp_(gradient, 1 - adam.beta1)
    square.mul_(adam.beta2).addcmul_(gradient, gradient, value=1 - adam.beta2)
    spread = (square / (1 - adam.beta2**adam.step)).sqrt_().add_(adam.eps)
    weight.addcdiv_(mean, spread, value=-adam.lr / (1 - adam.beta1**adam.step))
    if unit_norm:
        weight /= weight.norm(dim=1, keepdim=True)


def _positive(latents: Int[Tensor, "row k"], values: Float[Tensor, "row k"], d_sae: int) -> SparseCodes:
    kept = values > 0
    return SparseCodes(_offsets(kept.sum(1)), latents[kept].int(), values[kept], d_sae)


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
