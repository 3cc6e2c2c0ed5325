"""The differentiable operations of a dictionary, at the cost of the entries that fire.

    sparse_encode   value_p = ⟨x_i, W_enc[j]⟩ + b_enc[j]  of the entries p = (i, j) that were picked
    sparse_decode   x_hat_i = Σ_p value_p · W_dec[j] + b_dec
    squared_error   Σ_i ‖x_hat_i − y_i‖², or its mean over dictionaries made of prefixes of the latents
    sum_of_shards   a sum over all processes that hold latents
    at_latents      vector[j] of each entry;   latent_rows  W[j] of some latents;   row_norms  ‖W[j]‖ of all

Each operation computes its result with `kernels` and gives autograd a function for the backward pass, so neither pass
makes anything of size [row, d_sae] or [nnz, d] (beyond the tiles of `encode`). Picks are held fixed. The gradient of a
matrix is a sum over the entries of each latent. If a `RowGradient` is given (`into`), it collects the gradient in
parts, for an optimizer that sums and uses it row by row; otherwise autograd gets the whole tensor.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function

from interp.codes.sparse_codes import SparseCodes
from interp.runtime.processes import SINGLE_PROCESS, Processes
from interp.sae.encode_rows import Workspace
from interp.sae.kernels.dispatch import kernels
from interp.sae.kernels.torch_kernels import AdamStep, ByLatent, LatentSum, Matrix, PerLatent, Rows, Values, Vector

AddGradient = Callable[[Tensor], object]
"""Adds a part of a gradient to a tensor."""


class Support:
    """The entries of [row, d_sae] that fire; `codes` holds them with the values picked, without a gradient."""

    def __init__(self, codes: SparseCodes):
        self.codes = codes

    @property
    def latents(self) -> Int[Tensor, " nnz"]:
        return self.codes.latents

    @cached_property
    def rows(self) -> Int[Tensor, " nnz"]:
        return self.codes.rows

    @cached_property
    def by_latent(self) -> ByLatent:
        return kernels(self.codes.values).transpose(self.codes)

    def codes_of(self, values: Values) -> SparseCodes:
        return self.codes.with_values(values.detach())


class Encoded(NamedTuple):
    support: Support
    values: Values


class SquaredError(NamedTuple):
    loss: Float[Tensor, ""]
    error: Rows
    """x_hat − y of all latents together; no gradient goes through it."""
    sum_of_squares: Float[Tensor, ""]
    """Σ ‖error‖², also without a gradient."""


class RowGradient:
    """The gradient of one parameter, as the parts that backward passes produce.

    If it is one sum over the entries of each latent, the optimizer computes and uses it row by row without storing it;
    `tensor` returns it whole.
    """

    def __init__(self, parameter: Tensor, workspace: Workspace | None = None, name: str = ""):
        """Start without gradients. `workspace`: keeps the whole gradient under this name until the next step."""
        self.parameter = parameter
        self.workspace = workspace or Workspace()
        self.name = f"gradient of {name}"
        self.sums: list[LatentSum] = []
        self.other_parts: list[AddGradient] = []

    def tensor(self) -> Float[Tensor, "..."]:
        """Return all parts together, added up once."""
        parameter = self.parameter
        if not self.sums and not self.other_parts:
            return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        rows, width = parameter.shape
        total = self.workspace.buffer(self.name, rows, width, parameter.dtype, parameter.device)
        if self.sums:
            kernels(total).sum_by_latent(*self.sums[0], total)
        else:
            total.zero_()
        for more in self.sums[1:]:
            _add(total, more)
        for add in self.other_parts:
            add(total)
        if parameter.grad is not None:
            total += parameter.grad
        self.sums = []
        self.other_parts = []
        parameter.grad = total
        return total

    def adam_(self, weight: Tensor, mean: Tensor, square: Tensor, adam: AdamStep) -> None:
        """Take a step of the weight in place; row by row if the gradient is a single sum whose tensor was not
        requested."""
        one_sum = len(self.sums) == 1 and not self.other_parts and self.parameter.grad is None
        gradient = self.sums[0] if one_sum else self.tensor().view(-1, weight.shape[-1])
        weight, mean, square = (tensor.view(-1, weight.shape[-1]) for tensor in (weight, mean, square))
        kernels(weight).adam_(weight, gradient, mean, square, adam)


def sparse_encode(
    x: Rows,
    encoder_rows: Matrix,
    b_enc: PerLatent,
    support: Support,
    *,
    centre: Tensor | None = None,
    into: RowGradient | None = None,
) -> Values:
    """Return the values that the support already has, as a differentiable function of x and the weights
    (`encoder_rows`: W_enc transposed).

    centre: the vector that was subtracted from x, if x itself requires no gradient: −Σ_ij g_ij W_enc[j] then reaches it
    at the cost of one row.
    """
    rows, W_enc = x.detach(), encoder_rows.detach()

    def gradients(slope: Values) -> tuple[Tensor | None, ...]:
        slope = slope.contiguous()
        sums = kernels(slope).latent_sums(support.by_latent, slope)
        zero = rows.new_zeros(rows.shape[1])
        on_x = kernels(rows).decode(support.codes_of(slope), W_enc, zero) if x.requires_grad else None
        on_rows = collect_gradient(LatentSum(support.by_latent, slope, rows), encoder_rows, into)
        return on_x, on_rows, sums, None if centre is None else -(sums @ W_enc)

    return _Operation.apply(support.codes.values.detach(), gradients, x, encoder_rows, b_enc, centre)


def sparse_decode(encoded: Encoded, W_dec: Matrix, b_dec: Vector, *, into: RowGradient | None = None) -> Rows:
    support = encoded.support
    codes = encoded.support.codes_of(encoded.values)
    decoder = W_dec.detach()

    def gradients(slope: Rows) -> tuple[Tensor | None, ...]:
        slope = slope.contiguous()
        dots = kernels(slope).rescore(codes, slope, decoder, torch.zeros_like(decoder[:, 0])).values
        on_W_dec = collect_gradient(LatentSum(support.by_latent, codes.values, slope), W_dec, into)
        return dots, on_W_dec, slope.sum(0)

    x_hat = kernels(decoder).decode(codes, decoder, b_dec.detach())
    return _Operation.apply(x_hat, gradients, encoded.values, W_dec, b_dec)


def squared_error(
    encoded: Encoded,
    W_dec: Matrix,
    b_dec: Vector,
    target: Rows,
    *,
    ends: tuple[int, ...] = (),
    into: RowGradient | None = None,
    shards: Processes = SINGLE_PROCESS,
) -> SquaredError:
    """Return `sparse_decode` and its squared distance to the target, in one pass over the decoder's rows.

    ends: the loss is the mean over the dictionaries of the first `end` latents each; the last end is all latents.

    Let e be the error; with several prefixes, the mean of the errors of those that contain latent j. Then
    ∂value_p = 2 ⟨e_i, W_dec[j]⟩ and ∂W_dec[j] = 2 Σ_i value_p e_i.

    shards: the processes that hold the other latents. The loss covers all latents and is the same in each process; the
    gradients of b_dec and the target are this process's share of them.
    """
    support = encoded.support
    codes = encoded.support.codes_of(encoded.values)
    add_others = shards.sum_ if shards.count > 1 else None
    decoded = kernels(target).decode_backward(codes, W_dec.detach(), b_dec.detach(), target.detach(), ends, add_others)
    loss = decoded.squared_errors.mean()
    mean_error = decoded.residuals[0]

    def gradients(slope: Tensor) -> tuple[Tensor | None, ...]:
        twice = 2 * slope
        share = twice / shards.count
        entries = _in_table(support.by_latent, ends, len(mean_error))
        on_W_dec = collect_gradient(
            LatentSum(entries, twice * codes.values, decoded.residuals.flatten(0, 1)), W_dec, into
        )
        on_b_dec = share * mean_error.sum(0) if b_dec.requires_grad else None
        return twice * decoded.gradient, on_W_dec, on_b_dec, -share * mean_error if target.requires_grad else None

    differentiable = _Operation.apply(loss, gradients, encoded.values, W_dec, b_dec, target)
    return SquaredError(differentiable, decoded.error, sum_of_squares=decoded.squared_errors[-1])


def sum_of_shards(part: Tensor, shards: Processes) -> Tensor:
    """Add up the parts that processes with other latents have. The gradient goes to the part of this process."""
    if shards.count == 1:
        return part
    return _Operation.apply(shards.sum_(part.detach().clone()), lambda slope: (slope,), part)


def at_latents(vector: PerLatent, support: Support) -> Values:
    def gradients(slope: Values) -> tuple[PerLatent]:
        return (kernels(slope).latent_sums(support.by_latent, slope.contiguous()),)

    return _Operation.apply(vector.detach()[support.latents], gradients, vector)


def latent_rows(
    matrix: Matrix, latents: Int[Tensor, " some"], into: RowGradient | None = None
) -> Float[Tensor, "some d"]:
    """Return the rows of some latents, each named once."""

    def gradients(slope: Rows) -> tuple[Tensor | None]:
        return (collect_gradient(lambda total: total.index_add_(0, latents, slope), matrix, into),)

    return _Operation.apply(matrix.detach()[latents], gradients, matrix)


def row_norms(matrix: Matrix, widths: tuple[int, ...], into: RowGradient | None = None) -> PerLatent:
    """Return the norm of each row, or the sum of the norms of its parts of these widths."""
    parts = matrix.detach().split(list(widths), dim=1)
    norms = torch.stack([part.norm(dim=1) for part in parts])

    def gradients(slope: PerLatent) -> tuple[Tensor | None]:
        factors = slope / norms.clamp(min=torch.finfo(norms.dtype).tiny)

        def add(total: Tensor) -> None:
            for total_of_part, part, factor in zip(total.split(list(widths), 1), parts, factors, strict=True):
                total_of_part.addcmul_(part, factor[:, None])

        return (collect_gradient(add, matrix, into),)

    return _Operation.apply(norms.sum(0), gradients, matrix)


def collect_gradient(part: LatentSum | AddGradient, matrix: Matrix, into: RowGradient | None) -> Matrix | None:
    """Add a part of the matrix's gradient to its collector `into`; without one, return the gradient itself."""
    if not matrix.requires_grad:
        return None
    parts = RowGradient(matrix.detach()) if into is None else into
    if isinstance(part, LatentSum):
        parts.sums.append(part)
    else:
        parts.other_parts.append(part)
    return parts.tensor() if into is None else None


class _Operation(Function):
    """A result, and the function that maps its gradient to the gradients of its inputs."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, gradients: Callable[[Tensor], Any], *inputs: Any) -> Tensor:
        ctx.gradients = gradients
        return result

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None  # its memory is free from here on
        return None, None, *gradients(slope)


def _add(total: Tensor, latent_sum: LatentSum) -> None:
    """Add the sum to the total, at the cost of the latents that fire."""
    offsets, rows, entries = latent_sum.by_latent
    fires = offsets.diff().nonzero()[:, 0]
    firing_latents = ByLatent(torch.cat([offsets[fires], offsets[-1:]]), rows, entries)
    sums = kernels(total).sum_by_latent(firing_latents, latent_sum.weights, latent_sum.dense)
    total.index_add_(0, fires, sums)


def _in_table(by_latent: ByLatent, ends: tuple[int, ...], rows: int) -> ByLatent:
    """Shift the row of each entry into the block of its latent's prefix. With one prefix, nothing changes."""
    if len(ends) < 2:
        return by_latent
    entries = by_latent.offsets[list(ends)].diff(prepend=by_latent.offsets[:1])
    prefix = torch.repeat_interleave(torch.arange(len(ends), device=entries.device), entries)
    return by_latent._replace(rows=by_latent.rows + prefix * rows)
