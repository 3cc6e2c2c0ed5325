"""The differentiable operations of a dictionary, at the cost of the entries that fire.

    sparse_encode   value_p = ⟨x_i, W_enc[j]⟩ + b_enc[j]  of the entries p = (i, j) that a rule picks
    sparse_decode   x_hat_i = Σ_p value_p · W_dec[j] + b_dec
    squared_error   Σ_i ‖x_hat_i − y_i‖², or its mean over dictionaries made of prefixes of the latents
    at_latents      vector[j] of each entry;   latent_rows  W[j] of some latents;   row_norms  ‖W[j]‖ of all

Each is a `torch.autograd.Function` over `kernels`, so neither pass makes anything of size [row, d_sae] or [nnz, d]
(beyond the tiles of `encode`). Picks are held fixed. With a `RowGradient` to go `into`, the gradient of a matrix is
left there unsummed, for an optimizer that sums and uses it row by row; without one autograd gets the whole tensor.
"""

from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function

from interp.codes import SparseCodes
from interp.sae.encoding import PickingRule, Workspace, encode
from interp.sae.gradients import RowGradient, hand_over, hand_over_part
from interp.sae.kernels import ByLatent, LatentSum, kernels
from interp.sae.torch_kernels import Matrix, PerLatent, Rows, Values

Into = RowGradient | None


class Support:
    """Which entries of [row, d_sae] fire; `codes` holds them with the values that were picked, without a gradient."""

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
        return SparseCodes(self.codes.offsets, self.codes.latents, values.detach(), self.codes.d_sae)


class Encoded(NamedTuple):
    support: Support
    values: Values


class SquaredError(NamedTuple):
    loss: Float[Tensor, ""]
    error: Rows
    """x_hat − y of all latents together; no gradient goes through it."""
    whole: Float[Tensor, ""]
    """Its Σ ‖·‖², without a gradient too."""


def sparse_encode(
    x: Rows,
    encoder: Matrix,
    b_enc: PerLatent,
    rule: PickingRule,
    *,
    centre: Float[Tensor, " d"] | None = None,
    into: Into = None,
    low_precision: bool = False,
    workspace: Workspace | None = None,
) -> Encoded:
    """The entries that the rule picks, with their pre-activations. `encoder` holds one row a latent.

    centre: what was taken away from x, if x itself asks for no gradient: −Σ_ij g_ij W_enc[j] then reaches it at the
    cost of one row.
    """
    given = (x.detach(), encoder.detach(), b_enc.detach())
    support = Support(encode(*given, rule, low_precision=low_precision, workspace=workspace))
    return Encoded(support, encode_at(x, encoder, b_enc, support, centre=centre, into=into))


def encode_at(
    x: Rows, encoder: Matrix, b_enc: PerLatent, support: Support, *, centre: Tensor | None = None, into: Into = None
) -> Values:
    """The values that the support holds already, as a function of x and the weights."""
    return _Encode.apply(x, encoder, b_enc, centre, support, into)


def sparse_decode(encoded: Encoded, W_dec: Matrix, b_dec: Float[Tensor, " d"], *, into: Into = None) -> Rows:
    return _Decode.apply(encoded.values, W_dec, b_dec, encoded.support, into)


def squared_error(
    encoded: Encoded,
    W_dec: Matrix,
    b_dec: Float[Tensor, " d"],
    target: Rows,
    *,
    ends: tuple[int, ...] = (),
    into: Into = None,
) -> SquaredError:
    """`sparse_decode` and its squared distance to the target, in one pass over the decoder's rows.

    ends: the loss is the mean over the dictionaries of the first `end` latents each; the last holds all.
    """
    return SquaredError(*_SquaredError.apply(encoded.values, W_dec, b_dec, target, encoded.support, ends, into))


def at_latents(vector: PerLatent, support: Support) -> Values:
    return _AtLatents.apply(vector, support)


def latent_rows(matrix: Matrix, latents: Int[Tensor, " some"], into: Into = None) -> Float[Tensor, "some d"]:
    """The rows of some latents, each named once."""
    return _LatentRows.apply(matrix, latents, into)


def row_norms(matrix: Matrix, widths: tuple[int, ...], into: Into = None) -> PerLatent:
    """The norm of each row, or the sum of the norms of its parts of these widths."""
    return _RowNorms.apply(matrix, widths, into)


class _Encode(Function):
    @staticmethod
    def forward(ctx: Any, x, encoder, b_enc, centre, support, into):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x.detach(), encoder.detach())
        ctx.support, ctx.into = support, into
        return support.codes.values.detach()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        x, encoder = ctx.saved_tensors
        slope, support = slope.contiguous(), ctx.support
        sums = kernels(slope).latent_sums(support.by_latent, slope)
        needs_x, needs_encoder, _, needs_centre = ctx.needs_input_grad[:4]
        on_x = kernels(x).decode(support.codes_of(slope), encoder, x.new_zeros(x.shape[1])) if needs_x else None
        on_encoder = hand_over(LatentSum(support.by_latent, slope, x), ctx.into) if needs_encoder else None
        return on_x, on_encoder, sums, -(sums @ encoder) if needs_centre else None, None, None


class _Decode(Function):
    @staticmethod
    def forward(ctx: Any, values, W_dec, b_dec, support, into):  # type: ignore[no-untyped-def]
        values, W_dec = values.detach(), W_dec.detach()
        ctx.save_for_backward(values, W_dec)
        ctx.support, ctx.into = support, into
        return kernels(W_dec).decode(support.codes_of(values), W_dec, b_dec.detach())

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        values, W_dec = ctx.saved_tensors
        slope, support = slope.contiguous(), ctx.support
        dots = kernels(slope).rescore(support.codes, slope, W_dec, torch.zeros_like(W_dec[:, 0])).values
        latent_sum = LatentSum(support.by_latent, values, slope)
        return dots, hand_over(latent_sum, ctx.into) if ctx.needs_input_grad[1] else None, slope.sum(0), None, None


class _SquaredError(Function):
    """∂value_p = 2 ⟨e_i, W_dec[j]⟩ and ∂W_dec[j] = 2 Σ_i value_p e_i; of prefixes, e is the mean of those with j."""

    @staticmethod
    def forward(ctx: Any, values, W_dec, b_dec, target, support, ends, into):  # type: ignore[no-untyped-def]
        given = (support.codes_of(values), W_dec.detach(), b_dec.detach(), target.detach())
        ops = kernels(target)
        if len(ends) < 2:
            error, dots = ops.decode_backward(*given)
            loss = whole = torch.linalg.vector_norm(error).square()
            ctx.save_for_backward(values.detach(), dots, error, error)
        else:
            nested = ops.nested_backward(*given, torch.tensor(ends, device=target.device))
            error, table = nested.error, nested.residuals.div_(len(ends))
            loss, whole = nested.squared_errors.mean(), nested.squared_errors[-1]
            ctx.save_for_backward(values.detach(), nested.gradient / len(ends), table.flatten(0, 1), table[0])
        ctx.support, ctx.ends, ctx.into = support, ends, into
        whole = whole.clone().to(loss)
        ctx.mark_non_differentiable(error, whole)
        ctx.set_materialize_grads(False)
        return loss, error, whole

    @staticmethod
    def backward(ctx: Any, slope: Tensor, *_: Any) -> Any:
        values, dots, table, mean_error = ctx.saved_tensors
        twice, (_, needs_W_dec, needs_b_dec, needs_target) = 2 * slope, ctx.needs_input_grad[:4]
        on_W_dec = None
        if needs_W_dec:
            by_latent = _in_table(ctx.support.by_latent, ctx.ends, len(mean_error))
            on_W_dec = hand_over(LatentSum(by_latent, twice * values, table), ctx.into)
        on_b_dec = twice * mean_error.sum(0) if needs_b_dec else None
        on_target = -twice * mean_error if needs_target else None
        return twice * dots, on_W_dec, on_b_dec, on_target, None, None, None


class _AtLatents(Function):
    @staticmethod
    def forward(ctx: Any, vector, support):  # type: ignore[no-untyped-def]
        ctx.support = support
        return vector.detach()[support.latents]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        return kernels(slope).latent_sums(ctx.support.by_latent, slope.contiguous()), None


class _LatentRows(Function):
    @staticmethod
    def forward(ctx: Any, matrix, latents, into):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(matrix.detach())
        ctx.latents, ctx.into = latents, into
        return matrix.detach()[latents]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (matrix,), latents = ctx.saved_tensors, ctx.latents
        return hand_over_part(lambda total: total.index_add_(0, latents, slope), matrix, ctx.into), None, None


class _RowNorms(Function):
    @staticmethod
    def forward(ctx: Any, matrix, widths, into):  # type: ignore[no-untyped-def]
        norms = torch.stack([part.norm(dim=1) for part in matrix.detach().split(list(widths), dim=1)])
        ctx.save_for_backward(matrix.detach(), norms)
        ctx.widths, ctx.into = list(widths), into
        return norms.sum(0)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (matrix, norms), widths = ctx.saved_tensors, ctx.widths
        factors = slope / norms.clamp(min=torch.finfo(norms.dtype).tiny)

        def add(total: Tensor) -> None:
            for into, part, factor in zip(total.split(widths, 1), matrix.split(widths, 1), factors, strict=True):
                into.addcmul_(part, factor[:, None])

        return hand_over_part(add, matrix, ctx.into), None, None


def _in_table(by_latent: ByLatent, ends: tuple[int, ...], rows: int) -> ByLatent:
    """Entries that name their row in the table of the prefix that their latent came with, if there are several."""
    if len(ends) < 2:
        return by_latent
    entries = by_latent.offsets[list(ends)].diff(prepend=by_latent.offsets[:1])
    prefix = torch.repeat_interleave(torch.arange(len(ends), device=entries.device), entries)
    return by_latent._replace(rows=by_latent.rows + prefix * rows)
