"""The sparse operations of a training step, written with torch: pick, decode, gradients, update.

Nothing of size [row, d_sae] or [row·k, d] is made after the pick. p is an entry of the codes, of row i and latent j:

    pick       z = the k largest positive pre-activations of each row (`top_k`), the n largest of all rows
               (`batch_top_k`), or those above a threshold (`above`); from bfloat16, with a margin, to `rescore`
               and to pick among (`keep_top_k`, `keep_batch_top_k`, `keep_above`)
    decode     x_hat_i = Σ_p values_p · W_dec[latents_p] + b_dec
    backward   e = x_hat − x,   gradient_p = ⟨e_i, W_dec[latents_p]⟩; if there are several
               prefixes of the latents, e is the mean of their errors
    gradients  out_j = Σ_p weights_p · dense[row_p]  over the entries p of latent j
    update     Adam, with the gradient parallel to a unit-norm row removed and the norm put back to one

All but the picks and the update are made of two sums, `_sum_bags` and `_dots`; a backend replaces these and what it can
do better. This one is the reference that the others are tested against. Results are deterministic; of equal
pre-activations the first stays.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.codes.offsets import offsets_from_lengths
from interp.codes.sparse_codes import SparseCodes

Rows = Float[Tensor, "row d"]
Matrix = Float[Tensor, "d_sae d"]
PerLatent = Float[Tensor, " d_sae"]
Vector = Float[Tensor, " d"]
Values = Float[Tensor, " nnz"]
_ENTRIES_AT_ONCE = 1 << 14


class Decoded(NamedTuple):
    """The errors e^(g) = x_hat^(g) − x of the G dictionaries of the first ends[g] latents; G = 1: of all latents."""

    error: Float[Tensor, "row d_in"]
    """e of all latents."""
    gradient: Float[Tensor, " nnz"]
    """d(½ Σ_g ‖e^(g)‖² / G)/d(value), for each stored entry"""
    residuals: Float[Tensor, "group row d_in"]
    """residuals[h] = Σ_{g ≥ h} e^(g) / G: the source of the gradients of the latents ends[h − 1]..ends[h]."""
    squared_errors: Float[Tensor, " group"]
    """Σ_i ‖e_i^(g)‖²"""

    @classmethod
    def of_all(cls, error: Rows, gradient: Values) -> "Decoded":
        return cls(error, gradient, error[None], torch.linalg.vector_norm(error).square()[None])


class ByLatent(NamedTuple):
    """The entries of codes sorted by latent, and by row within a latent (the CSC layout)."""

    offsets: Int[Tensor, " d_sae_plus_1"]
    rows: Int[Tensor, " nnz"]
    entries: Int[Tensor, " nnz"]
    """The place of each entry in the codes: `codes.values[entries]` are the values in this order."""


class LatentSum(NamedTuple):
    """A sum whose row j adds weights · dense[row] over the entries of latent j. Weights are in the order of the
    codes."""

    by_latent: ByLatent
    weights: Values
    dense: Rows


class AdamStep(NamedTuple):
    """The numbers of one Adam step (Kingma & Ba 2015); `step` counts from 1."""

    lr: float
    step: int
    scale: float = 1.0
    """The gradient is multiplied with it."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 6.25e-10
    unit_norm: bool = False
    """Whether the rows are, and stay, of norm one."""

    @property
    def coefficients(self) -> tuple[float, ...]:
        """lr over the bias correction of the mean, 1 over the root of that of the square, beta1, beta2, eps, and the
        weights of a new gradient and of its square in the running means."""
        rate = self.lr / (1 - self.beta1**self.step)
        correction = (1 - self.beta2**self.step) ** -0.5
        new_mean = (1 - self.beta1) * self.scale
        new_square = (1 - self.beta2) * self.scale**2
        return rate, correction, self.beta1, self.beta2, self.eps, new_mean, new_square


@dataclass(frozen=True)
class Tiled:
    """Pre-activations that never exist all at once: tiles of them are made as a loop comes to pick from them."""

    shape: torch.Size
    dtype: torch.dtype
    pieces: Sequence[slice]
    """Spans of rows: the parts of the work that threads share, the same for any number of threads."""
    tiles: Callable[[slice], Iterable[tuple[int, Float[Tensor, "row latent"]]]]
    """Gives a piece's tiles, each with its first latent; the next tile may overwrite it. On other devices than
    a CPU tiles are whole rows."""
    device: torch.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def numel(self) -> int:
        return self.shape.numel()


PreActivations = Float[Tensor, "row d_sae"] | Tiled


class TorchKernels:
    """All operations, and the base of each backend, which replaces some of them.

    A subclass with a public method that is no operation of the reference raises TypeError when it is defined.
    """

    name: ClassVar[str] = "torch"
    """Its name in warnings."""
    dtypes: ClassVar[tuple[torch.dtype, ...]] = ()
    """The types of numbers that a backend computes with; for others the reference is used."""
    is_tried: ClassVar[bool] = True
    """Whether a process compares a backend with the reference before it uses it."""

    def __init_subclass__(cls) -> None:
        operations = {name for name in vars(cls) if not name.startswith("_") and callable(getattr(cls, name))}
        if unknown := operations - vars(TorchKernels).keys():
            raise TypeError(f"{cls.__name__} defines {min(unknown)}, which is no operation: see TorchKernels")

    def top_k(self, pre: PreActivations, k: int) -> SparseCodes:
        """Return the k largest of each row; those that are not positive are left out (ReLU)."""
        pre = all_pre_activations(pre)
        values, latents = pre.topk(k, dim=1, sorted=False)
        fires = values > 0
        return SparseCodes.from_counts(
            fires.sum(1), latents[fires].int(), at_least_float32(values[fires]), pre.shape[1]
        )

    def batch_top_k(self, pre: PreActivations, n: int) -> SparseCodes:
        """Return the n largest of all rows together; those that are not positive are left out."""
        if isinstance(pre, Tiled):
            return self._batch_top_k_of_tiles(pre, n)
        values, flat = pre.flatten().topk(min(n, pre.numel()), sorted=False)
        flat = flat[values > 0].sort().values
        counts = torch.bincount(flat // pre.shape[1], minlength=len(pre))
        return SparseCodes.from_counts(
            counts, (flat % pre.shape[1]).int(), at_least_float32(pre.flatten()[flat]), pre.shape[1]
        )

    def _batch_top_k_of_tiles(self, pre: Tiled, n: int) -> SparseCodes:
        """Return the n largest so far, and of each further tile what exceeds the least of them: of equal ones the first
        stay.

        Tiles hold whole rows here.
        """
        largest: SparseCodes | None = None
        for _, tile in itertools.chain.from_iterable(map(pre.tiles, pre.pieces)):
            if largest is None or largest.nnz < max(n, 1):
                picks = self.batch_top_k(tile, n)
            else:
                picks = self.above(tile, largest.values.min().expand(tile.shape[1]))
            largest = picks if largest is None else self.keep_batch_top_k(SparseCodes.cat([largest, picks]), n)
        assert largest is not None
        return largest

    def above(self, pre: PreActivations, threshold: PerLatent) -> SparseCodes:
        """Return all that exceed their latent's threshold."""
        pre = all_pre_activations(pre)
        active = pre > threshold
        return SparseCodes.from_counts(
            active.sum(1), active.nonzero()[:, 1].int(), at_least_float32(pre[active]), pre.shape[1]
        )

    def keep_top_k(self, codes: SparseCodes, k: int) -> SparseCodes:
        """Return the k largest positive entries of each row, the first of equal ones."""
        order = codes.values.argsort(descending=True, stable=True)
        order = order[codes.rows[order].argsort(stable=True)]
        rank = torch.empty_like(order)
        rank[order] = torch.arange(codes.nnz, device=order.device) - codes.offsets[codes.rows]
        return kept_entries(codes, (rank < k) & (codes.values > 0))

    def keep_batch_top_k(self, codes: SparseCodes, n: int) -> SparseCodes:
        """Return the n largest positive entries of all rows together, the first of equal ones."""
        chosen = codes.values > 0
        if n < codes.nnz:
            least = codes.values.topk(max(n, 1), sorted=False).values.amin()
            larger, equal = chosen & (codes.values > least), chosen & (codes.values == least)
            chosen = larger | (equal & (equal.cumsum(0) <= n - larger.sum()))
        return kept_entries(codes, chosen)

    def keep_above(self, codes: SparseCodes, threshold: PerLatent) -> SparseCodes:
        """Return the entries that exceed their latent's threshold."""
        return kept_entries(codes, codes.values > threshold[codes.latents])

    def rescore(self, codes: SparseCodes, x: Rows, encoder: Matrix, b_enc: PerLatent) -> SparseCodes:
        """Compute the entries' values ⟨x, encoder[latent]⟩ + b_enc at x's full precision, whatever their sign."""
        return codes.with_values(self._dots(codes.offsets, codes.latents, x, encoder).add_(b_enc[codes.latents]))

    def decode(self, codes: SparseCodes, W_dec: Matrix, b_dec: Vector) -> Rows:
        return self._sum_bags(codes.offsets, codes.latents, codes.values, W_dec).add_(b_dec)

    def decode_backward(
        self,
        codes: SparseCodes,
        W_dec: Matrix,
        b_dec: Vector,
        x: Rows,
        ends: Sequence[int] = (),
        add_others: Callable[[Tensor], Tensor] | None = None,
    ) -> Decoded:
        """Decode, and return the error and its gradients. `ends` do not fall, and the last is d_sae. A group's rows are
        added to the sum of the groups before it.

        add_others: adds, in place, what latents that other processes hold decode to.
        """
        if len(ends) < 2:
            if add_others is None:
                error = self.decode(codes, W_dec, b_dec).sub_(x)
            else:
                error = add_others(self.decode(codes, W_dec, torch.zeros_like(b_dec))).add_(b_dec).sub_(x)
            return Decoded.of_all(error, self._dots(codes.offsets, codes.latents, error, W_dec))
        rows = len(x)
        groups = torch.searchsorted(torch.tensor(ends, device=x.device), codes.latents, right=True)
        parts = SparseCodes(codes.offsets, groups * rows + codes.rows, codes.values, len(ends) * rows)
        offsets, _, entries = self.transpose(parts)
        latents = codes.latents[entries]
        gradient = torch.empty_like(codes.values)
        residuals = self._sum_bags(offsets, latents, codes.values[entries], W_dec).view(len(ends), *x.shape)
        if add_others is not None:
            add_others(residuals)
        residuals[0] += b_dec - x
        for h in range(1, len(ends)):
            residuals[h] += residuals[h - 1]
        error = residuals[-1].clone()
        squares = torch.linalg.vector_norm(residuals, dim=(1, 2)).square()
        for h in reversed(range(len(ends) - 1)):
            residuals[h] += residuals[h + 1]
        gradient[entries] = self._dots(offsets, latents, residuals.flatten(0, 1), W_dec)
        return Decoded(error, gradient.div_(len(ends)), residuals.div_(len(ends)), squares)

    def transpose(self, codes: SparseCodes) -> ByLatent:
        latents, entries = codes.latents.sort(stable=True)
        every = torch.arange(codes.d_sae + 1, device=latents.device, dtype=latents.dtype)
        return ByLatent(torch.searchsorted(latents, every), codes.rows[entries], entries)

    def sum_by_latent(self, by_latent: ByLatent, weights: Values, dense: Rows, out: Matrix | None = None) -> Matrix:
        """Return the sums of a `LatentSum`."""
        return self._sum_bags(by_latent.offsets, by_latent.rows, weights[by_latent.entries], dense, out)

    def latent_sums(self, by_latent: ByLatent, weights: Values) -> PerLatent:
        """Return the sum of the weights over the entries of each latent."""
        return _sum_bags(by_latent.offsets, by_latent.entries, torch.ones_like(weights), weights[:, None])[:, 0]

    def adam_(self, weight: Rows, gradient: Rows | LatentSum, mean: Rows, square: Rows, adam: AdamStep) -> None:
        """Take one Adam step on `weight`, `mean` and `square` in place."""
        gradient = self.sum_by_latent(*gradient) if isinstance(gradient, LatentSum) else gradient
        if adam.unit_norm:
            gradient = gradient - (gradient * weight).sum(1, keepdim=True) * weight
        rate, correction, beta1, beta2, eps, new_mean, new_square = adam.coefficients
        mean.mul_(beta1).add_(gradient, alpha=new_mean)
        square.mul_(beta2).addcmul_(gradient, gradient, value=new_square)
        weight.addcdiv_(mean, square.sqrt().mul_(correction).add_(eps), value=-rate)
        if adam.unit_norm:
            weight /= weight.norm(dim=1, keepdim=True)

    def _sum_bags(
        self, offsets: Tensor, ids: Tensor, weights: Tensor, table: Tensor, out: Tensor | None = None
    ) -> Float[Tensor, "bag d"]:
        """Return Σ weights · table[ids] over the entries of each bag."""
        sums = _sum_bags(offsets, ids, weights, table)
        return sums if out is None else out.copy_(sums)

    def _dots(self, offsets: Tensor, ids: Tensor, x: Float[Tensor, "bag d"], table: Tensor) -> Values:
        """Return ⟨x[bag], table[ids]⟩ of each entry, so many entries at once that memory stays bounded."""
        bags = torch.arange(len(x), device=x.device).repeat_interleave(offsets.diff(), output_size=len(ids))
        pieces = zip(bags.split(_ENTRIES_AT_ONCE), ids.split(_ENTRIES_AT_ONCE), strict=True)
        return torch.cat([(x[rows] * table[columns]).sum(1) for rows, columns in pieces])


def kept_entries(codes: SparseCodes, mask: Bool[Tensor, " nnz"]) -> SparseCodes:
    return SparseCodes(offsets_from_lengths(mask)[codes.offsets], codes.latents[mask], codes.values[mask], codes.d_sae)


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values in single precision at least: NumPy and SciPy read no bfloat16, or no half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def all_pre_activations(pre: PreActivations) -> Float[Tensor, "row d_sae"]:
    assert isinstance(pre, Tensor), "rows are picked from tiles on a CPU alone"
    return pre


def _sum_bags(offsets: Tensor, ids: Tensor, weights: Tensor, table: Tensor) -> Tensor:
    """Return Σ weights · table[ids] of each bag, without an [nnz, d] tensor and without atomics."""
    ids, offsets = ids.long(), offsets.long()
    return F.embedding_bag(ids, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)
