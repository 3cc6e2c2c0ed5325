"""The differentiable operations of a dictionary, at the cost of the entries that fire.

    sparse_encode   value_p = ⟨x_i, W_enc[j]⟩ + b_enc[j]  of the entries p = (i, j) that a rule picks
    sparse_decode   x_hat_i = Σ_p value_p · W_dec[j] + b_dec
    squared_error   Σ_i ‖x_hat_i − y_i‖², or its mean over dictionaries made of prefixes of the latents
    at_latents      vector[j] of each entry;   latent_rows  W[j] of some latents;   row_norms  ‖W[j]‖ of all

Each is a `torch.autograd.Function` over `kernels`, so neither pass makes anything of size [row, d_sae] or [nnz, d]
(beyond the tiles of `encode`). Picks are held fixed. With a `RowGradient` to go `into`, the gradient of a matrix is
left there unsummed, for an optimizer that sums and uses it row by row; without one autograd gets the whole tensor.
Results do not depend on the number of threads, and are the same bits each time.
"""

from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function

from interp.codes import SparseCodes
from interp.sae.encoding import PickingRule, Workspace, encode
from interp.sae.kernels import ByLatent, kernels


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

    def codes_of(self, values: Float[Tensor, " nnz"]) -> SparseCodes:
        return SparseCodes(self.codes.offsets, self.codes.latents, values.detach(), self.codes.d_sae)


class Encoded(NamedTuple):
    support: Support
    values: Float[Tensor, " nnz"]


class SquaredError(NamedTuple):
    loss: Float[Tensor, ""]
    error: Float[Tensor, "row d_out"]
    """x_hat − y of all latents together; no gradient goes through it."""
    whole: Float[Tensor, ""]
    """Its Σ ‖·‖², without a gradient too."""


class LatentSum(NamedTuple):
    """Row j is the sum of weights · dense[row] over the entries of latent j."""

    by_latent: ByLatent
    weights: Float[Tensor, " nnz"]
    dense: Float[Tensor, "row d"]


class RowGradient:
    """The gradient of one parameter, in the parts that backward passes leave."""

    def __init__(self, parameter: Tensor):
        self.parameter = parameter
        self.sums: list[LatentSum] = []
        self.rows: list[tuple[Int[Tensor, " some"], Float[Tensor, "some d"]]] = []
        self.multiples: list[tuple[tuple[int, ...], Float[Tensor, "part d_sae"]]] = []
        """What each part of each of the parameter's own rows is multiplied with."""

    @property
    def lone_sum(self) -> LatentSum | None:
        """All of the gradient, where it is one sum that nobody has asked to see."""
        alone = len(self.sums) == 1 and not self.rows and not self.multiples and self.parameter.grad is None
        return self.sums[0] if alone else None

    def tensor(self, memory: Workspace | None = None, name: str = "") -> Tensor:
        """All parts together. They are added up once, into memory that lives as long as the parameter's next step."""
        parameter = self.parameter
        if not self.sums and not self.rows and not self.multiples:
            return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        shape, where = parameter.shape, (parameter.dtype, parameter.device)
        total = (memory or Workspace()).take(name, shape[0], shape[1], *where)
        if self.sums:
            kernels(total).sum_by_latent(*self.sums[0], total)
        else:
            total.zero_()
        for more in self.sums[1:]:
            _add(total, more)
        for latents, rows in self.rows:
            total.index_add_(0, latents, rows)
        for widths, factors in self.multiples:
            parts = zip(total.split(list(widths), 1), parameter.detach().split(list(widths), 1), factors, strict=True)
            for into, part, factor in parts:
                into.addcmul_(part, factor[:, None])
        if parameter.grad is not None:
            total += parameter.grad
        self.sums, self.rows, self.multiples, parameter.grad = [], [], [], total
        return total


def sparse_encode(
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
    rule: PickingRule,
    *,
    centre: Float[Tensor, " d_in"] | None = None,
    into: RowGradient | None = None,
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
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
    support: Support,
    *,
    centre: Float[Tensor, " d_in"] | None = None,
    into: RowGradient | None = None,
) -> Float[Tensor, " nnz"]:
    """The values that the support holds already, as a function of x and the weights."""
    return _Encode.apply(x, encoder, b_enc, centre, support, into)


def sparse_decode(
    encoded: Encoded,
    W_dec: Float[Tensor, "d_sae d_out"],
    b_dec: Float[Tensor, " d_out"],
    *,
    into: RowGradient | None = None,
) -> Float[Tensor, "row d_out"]:
    return _Decode.apply(encoded.values, W_dec, b_dec, encoded.support, into)


def squared_error(
    encoded: Encoded,
    W_dec: Float[Tensor, "d_sae d_out"],
    b_dec: Float[Tensor, " d_out"],
    target: Float[Tensor, "row d_out"],
    *,
    ends: tuple[int, ...] = (),
    into: RowGradient | None = None,
) -> SquaredError:
    """`sparse_decode` and its squared distance to the target, in one pass over the decoder's rows.

    ends: the loss is the mean over the dictionaries of the first `end` latents each; the last holds all.
    """
    return SquaredError(*_SquaredError.apply(encoded.values, W_dec, b_dec, target, encoded.support, ends, into))


def at_latents(vector: Float[Tensor, " d_sae"], support: Support) -> Float[Tensor, " nnz"]:
    return _AtLatents.apply(vector, support)


def latent_rows(
    matrix: Float[Tensor, "d_sae d"], latents: Int[Tensor, " some"], into: RowGradient | None = None
) -> Float[Tensor, "some d"]:
    """The rows of some latents, each named once."""
    return _LatentRows.apply(matrix, latents, into)


def row_norms(
    matrix: Float[Tensor, "d_sae d"], widths: tuple[int, ...], into: RowGradient | None = None
) -> Float[Tensor, " d_sae"]:
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
        on_x, on_encoder, _, on_centre = ctx.needs_input_grad[:4]
        return (
            kernels(x).decode(support.codes_of(slope), encoder, torch.zeros_like(x[:1].sum(0))) if on_x else None,
            _hand_over(LatentSum(support.by_latent, slope, x), ctx.into) if on_encoder else None,
            sums,
            -(sums @ encoder) if on_centre else None,
            None,
            None,
        )


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
        return dots, _hand_over(latent_sum, ctx.into) if ctx.needs_input_grad[1] else None, slope.sum(0), None, None


class _SquaredError(Function):
    """With e the error, of prefixes the mean of those that hold the latent:  ∂value_p = 2 ⟨e_i, W_dec[j]⟩,
    ∂W_dec[j] = 2 Σ_i value_p e_i."""

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
        twice, (on_values, on_W_dec, on_b_dec, on_target) = 2 * slope, ctx.needs_input_grad[:4]
        by_latent = ctx.support.by_latent if on_W_dec else None
        if by_latent is not None and len(ctx.ends) > 1:
            by_latent = _in_table(by_latent, ctx.ends, len(mean_error))
        return (
            twice * dots if on_values else None,
            None if by_latent is None else _hand_over(LatentSum(by_latent, twice * values, table), ctx.into),
            twice * mean_error.sum(0) if on_b_dec else None,
            -twice * mean_error if on_target else None,
            None,
            None,
            None,
        )


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
        ctx.latents, ctx.into, ctx.shape = latents, into, matrix.shape
        return matrix.detach()[latents]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        if ctx.into is None:
            return slope.new_zeros(ctx.shape).index_add_(0, ctx.latents, slope), None, None
        ctx.into.rows.append((ctx.latents, slope))
        return None, None, None


class _RowNorms(Function):
    @staticmethod
    def forward(ctx: Any, matrix, widths, into):  # type: ignore[no-untyped-def]
        norms = torch.stack([part.norm(dim=1) for part in matrix.detach().split(list(widths), dim=1)])
        ctx.save_for_backward(matrix.detach(), norms)
        ctx.widths, ctx.into = widths, into
        return norms.sum(0)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        matrix, norms = ctx.saved_tensors
        into = ctx.into or RowGradient(matrix)
        into.multiples.append((ctx.widths, slope / norms.clamp(min=torch.finfo(norms.dtype).tiny)))
        return (into.tensor() if ctx.into is None else None), None, None


def _hand_over(latent_sum: LatentSum, into: RowGradient | None) -> Tensor | None:
    """To whoever collects it unsummed; else the gradient itself."""
    if into is None:
        return kernels(latent_sum.dense).sum_by_latent(*latent_sum)
    into.sums.append(latent_sum)
    return None


def _add(total: Tensor, latent_sum: LatentSum) -> None:
    """At the cost of the latents that fire."""
    offsets, rows, entries = latent_sum.by_latent
    fires = offsets.diff().nonzero()[:, 0]
    of_these = ByLatent(torch.cat([offsets[fires], offsets[-1:]]), rows, entries)
    sums = kernels(total).sum_by_latent(of_these, latent_sum.weights, latent_sum.dense)
    total.index_add_(0, fires, sums)


def _in_table(by_latent: ByLatent, ends: tuple[int, ...], rows: int) -> ByLatent:
    """Entries that name their row in the table of the prefix that their latent came with."""
    cuts = torch.tensor(ends, device=by_latent.offsets.device)
    entries = by_latent.offsets[cuts].diff(prepend=by_latent.offsets[:1])
    prefix = torch.repeat_interleave(torch.arange(len(ends), device=cuts.device), entries)
    return by_latent._replace(rows=by_latent.rows + prefix * rows)
