"""One batch in a dictionary in training, as an architecture's methods get it. Each step adds to the one before:

    StepInputs       the rows and the weights: the input of `pick` and `encode`
    PickedEntries    with the entries that they chose, pre = (x − b_dec) W_enc + b_enc: the input of `activate`
    ForwardPass      with their values z: the input of `loss`, `revival_loss` and `observe`

Their methods are the operations of `sparse_ops` on the weights of this step. Plain torch on `pre`, `z` and `weights`
does the rest, and autograd the gradients.

Rows are those of this process. The trainer adds sums over rows across all processes. If the latents are divided among
processes (`ProcessGrid.shards`), weights, entries and vectors by latent cover this process's latents. The loss and its
parts, `total` and `row_sums`, cover all latents.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.runtime.processes import ProcessGrid
from interp.sae import sparse_ops
from interp.sae.encode_rows import Picker, Workspace, encode
from interp.sae.kernels.dispatch import kernels
from interp.sae.sparse_ops import Encoded, RowGradient, SquaredError, Support, sum_of_shards


class GlobalBatch(NamedTuple):
    """The batch of all processes together, and the position of this process's rows in it."""

    rows: int
    """Rows of all processes."""
    first: int
    """The number of rows before the rows of this process."""
    grid: ProcessGrid

    def strided_rows(self, n_latents: int, enough: int) -> slice:
        """Return every s-th row of the global batch, s the least for which n_latents / s is at most 2 · enough."""
        step = max(1, math.ceil(n_latents / (2 * enough)))
        return slice(-self.first % step, None, step)

    def rows_in(self, rows: slice) -> int:
        """Count the rows that these slices hold, of all processes together."""
        return len(range(0, self.rows, rows.step))


EntryFilter = Callable[[SparseCodes], SparseCodes]


@dataclass(frozen=True, kw_only=True, eq=False)
class StepInputs:
    """The rows of a step, and the weights."""

    weights: dict[str, Tensor]
    """Leaves of the graph: `W_dec`, `b_dec`, `encoder_rows` (W_enc transposed, one row per latent), `b_enc`, and
    the architecture's own."""
    gradients: dict[str, RowGradient]
    """Collect the gradients of the weights in the backward pass."""
    inputs: Float[Tensor, "row d_in"]
    """Scaled to a mean norm of √d."""
    outputs: Float[Tensor, "row d_out"]
    """The rows to reconstruct: for a transcoder the rows of another hook, else the inputs."""
    x: Float[Tensor, "row d_in"]
    """The inputs, centred by b_dec if they are reconstructed. It requires no gradient."""
    tied: bool
    batch: GlobalBatch
    steps_done: int
    """Steps before this one."""
    variance: float
    """V, the total variance of the outputs, by which the loss is divided."""
    state: dict[str, float]
    """Numbers that the architecture carries from step to step."""
    part_widths: tuple[int, ...]
    """Width of each hook's part of a decoder row."""
    unit_norm: bool
    low_precision: bool
    workspace: Workspace
    n_dead: int
    """Dead latents of all processes."""

    @property
    def centred(self) -> Float[Tensor, "row d_in"]:
        """x as a function of b_dec."""
        return self.inputs - self.weights["b_dec"] if self.tied else self.inputs

    @property
    def decoder_norms(self) -> Float[Tensor, " d_sae"]:
        """‖W_dec[j]‖; for several hooks the sum of the norms of its parts."""
        W_dec = self.weights["W_dec"]
        if self.unit_norm and len(self.part_widths) == 1:
            return W_dec.new_ones(len(W_dec))
        return sparse_ops.row_norms(W_dec, self.part_widths, self.gradients["W_dec"])

    def encode(
        self, picker: Picker, x: Float[Tensor, "row d_in"] | None = None, *, keep: EntryFilter | None = None
    ) -> Encoded:
        """Return the picks and their values, of x or of another input (a residual), which then gets its gradient.

        keep: chooses among the picks.
        """
        w = self.weights
        name = "encoder_rows" if "encoder_rows" in self.weights else "W_dec"
        b_enc = w.get("b_enc", torch.zeros_like(w["W_dec"][:, 0]))
        rows = self.x if x is None else x
        low = self.low_precision and x is None
        codes = encode(
            rows.detach(), w[name].detach(), b_enc.detach(), picker, low_precision=low, workspace=self.workspace
        )
        support = Support(codes if keep is None else keep(codes))
        centre = w["b_dec"] if x is None and self.tied else None
        values = sparse_ops.sparse_encode(rows, w[name], b_enc, support, centre=centre, into=self.gradients[name])
        return Encoded(support, values)

    def residual(self, encoded: Encoded, x: Float[Tensor, "row d_in"] | None = None) -> Float[Tensor, "row d_in"]:
        """Return x − z W_dec, of x or of another input."""
        W_dec = self.weights["W_dec"]
        x = self.centred if x is None else x
        return x - sparse_ops.sparse_decode(
            encoded, W_dec, W_dec.new_zeros(W_dec.shape[1]), into=self.gradients["W_dec"]
        )

    def total(self, values: Tensor) -> Tensor:
        """Sum values that have one number per entry, or per latent."""
        return sum_of_shards(values.sum(), self.batch.grid.shards)

    def mark_largest(self, values: Float[Tensor, "row some"], k: int) -> Bool[Tensor, "row some"]:
        """Mark the values that are among the k largest of their row in all processes; each process passes at most k."""
        shards = self.batch.grid.shards
        rows, n = values.shape
        padded = torch.nn.functional.pad(values.detach(), (0, k - n), value=-torch.inf)
        largest_of_shards = (
            shards.all_gather(padded, same_length=True).view(shards.count, rows, k).transpose(0, 1).flatten(1)
        )
        largest = largest_of_shards.topk(k, dim=1, sorted=False).indices
        marks = torch.zeros_like(largest_of_shards, dtype=torch.bool).scatter_(1, largest, True)
        return marks[:, shards.rank * k : shards.rank * k + n]

    def pre_activations(self, latents: Int[Tensor, " some"], rows: slice) -> Float[Tensor, "row some"]:
        """Return the pre-activations of some latents, dense."""
        gradient = self.gradients["encoder_rows"]
        encoder_rows = sparse_ops.latent_rows(self.weights["encoder_rows"], latents, gradient)
        bias = self.weights["b_enc"][latents]
        if self.tied:  # x is a constant; this zero carries the gradient of b_dec, of d numbers instead of row · d
            bias = bias - encoder_rows.detach() @ (self.weights["b_dec"] - self.weights["b_dec"].detach())
        return torch.addmm(bias, self.x[rows], encoder_rows.T)

    def decoder_rows(self, latents: Int[Tensor, " some"]) -> Float[Tensor, "some d_out"]:
        return sparse_ops.latent_rows(self.weights["W_dec"], latents, self.gradients["W_dec"])

    def everywhere(self, *sums: Tensor | float) -> list[float]:
        """Sum over all processes values that are sums over this process's rows, without a gradient."""
        numbers = [float(part.detach()) if isinstance(part, Tensor) else part for part in sums]
        return self.batch.grid.data.sum_(torch.tensor(numbers, dtype=torch.float64)).tolist()


def fields_of(step: StepInputs) -> dict[str, Any]:
    """Return the fields of a step by name, of which the next part of the step is made."""
    return {one.name: getattr(step, one.name) for one in fields(step)}


@dataclass(frozen=True, kw_only=True, eq=False)
class PickedEntries(StepInputs):
    """A step whose entries are chosen."""

    support: Support
    """Their rows and latents."""
    pre: Float[Tensor, " nnz"]
    """Their pre-activations."""

    def at(self, vector: Float[Tensor, " d_sae"]) -> Float[Tensor, " nnz"]:
        """Return the element of `vector` at each entry's latent."""
        return sparse_ops.at_latents(vector, self.support)

    def dot_rows(self, name: str) -> Float[Tensor, " nnz"]:
        """Return ⟨x, row⟩ of each entry, for its latent's row of a further matrix of the architecture
        (`SAEConfig.initial_matrices`), as `pre` has it for `encoder_rows`, without a bias."""
        matrix = self.weights[name]
        no_bias = matrix.new_zeros(len(matrix))
        codes = kernels(matrix).rescore(self.support.codes, self.x, matrix.detach(), no_bias)
        centre = self.weights["b_dec"] if self.tied else None
        into = self.gradients[name]
        return sparse_ops.sparse_encode(self.x, matrix, no_bias, Support(codes), centre=centre, into=into)

    def row_sums(self, values: Float[Tensor, " nnz"]) -> Float[Tensor, " row"]:
        """Sum over each row's entries."""
        sums = torch.segment_reduce(values, "sum", offsets=self.support.codes.offsets, initial=0, unsafe=True)
        return sum_of_shards(sums, self.batch.grid.shards)


@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardPass(PickedEntries):
    """A step whose latents have values."""

    z: Float[Tensor, " nnz"]
    """The values of the entries."""
    _errors: list[SquaredError] = field(default_factory=list, init=False, repr=False)
    """The errors of z, once `squared_error` has computed them."""

    @cached_property
    def target(self) -> Float[Tensor, "row d_out"]:
        """The rows that the latents reconstruct: the outputs minus the skip path."""
        return self.outputs - self.x @ self.weights["W_skip"] if "W_skip" in self.weights else self.outputs

    def decode(self, z: Float[Tensor, " nnz"] | None = None) -> Float[Tensor, "row d_out"]:
        """Return x_hat, to compare with `target`; `squared_error` does both at once."""
        encoded = Encoded(self.support, self.z if z is None else z)
        w = self.weights
        return sparse_ops.sparse_decode(encoded, w["W_dec"], w["b_dec"], into=self.gradients["W_dec"])

    def squared_error(
        self, z: Float[Tensor, " nnz"] | None = None, *, ends: tuple[int, ...] = (), frozen_decoder: bool = False
    ) -> Float[Tensor, ""]:
        """Return Σ over rows of ‖x_hat − target‖², of z or of other values of its entries.

        ends: take the mean over the dictionaries of the first `end` latents each; the last end is d_sae.
        """
        values = self.z if z is None else z
        W_dec = self.weights["W_dec"]
        b_dec = self.weights["b_dec"]
        target = self.target
        into = self.gradients["W_dec"]
        encoded = Encoded(self.support, values)
        shards = self.batch.grid.shards
        first = shards.rank * len(W_dec)
        ends = tuple(min(max(0, end - first), len(W_dec)) for end in ends)
        if frozen_decoder:
            fixed = W_dec.detach(), b_dec.detach(), target.detach()
            return sparse_ops.squared_error(encoded, *fixed, ends=ends, shards=shards).loss
        errors = sparse_ops.squared_error(encoded, W_dec, b_dec, target, ends=ends, into=into, shards=shards)
        if values is self.z:
            self._errors[:] = [errors]
        return errors.loss

    @property
    def error(self) -> Float[Tensor, "row d_out"]:
        """x_hat − target, without a gradient."""
        return self.errors.error

    @cached_property
    def fvu(self) -> float:
        """Σ ‖x_hat − target‖² over rows · V, of the global batch."""
        return self.everywhere(self.errors.sum_of_squares)[0] / (self.batch.rows * self.variance)

    def count_fired(self) -> Float[Tensor, " d_sae"]:
        """Count the rows on which each latent fired."""
        is_above = self.z.detach() > 0
        if bool(is_above.all()):
            return self.support.by_latent.offsets.diff().to(self.z)
        fires = is_above.to(self.z)
        return kernels(fires).latent_sums(self.support.by_latent, fires)

    def strongest(self) -> Float[Tensor, " d_sae"]:
        """Return the largest z · ‖W_dec[j]‖ of each latent, 0 if it did not fire."""
        with torch.no_grad():
            none = self.weights["W_dec"].new_zeros(len(self.weights["W_dec"]))
            largest = none.scatter_reduce_(0, self.support.latents, self.z.detach(), "amax")
            return largest if self.unit_norm else largest * self.decoder_norms

    @property
    def errors(self) -> SquaredError:
        """The errors of z, over the rows of this process."""
        if not self._errors:  # the architecture's own loss did not compute them
            with torch.no_grad():
                self.squared_error()
        return self._errors[0]
