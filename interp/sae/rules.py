"""How a trained dictionary encodes: each row on its own.

    TopK, Threshold     z = the rule's part of pre = x W_enc + b_enc
    Refined             z₀ = the first rule's; then pre = z + η ((x − z W_dec) W_enc + b_enc), z = the next rule's
    MatchingPursuit     k times: j = argmax ⟨r, W_dec[j]⟩, z_j += ⟨r, W_dec[j]⟩, r −= that · W_dec[j];  r = x at first

x is centred already. `encode` is differentiable torch operations over dense latents, `codes` the fast way to the same.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels import PickingRule, encode, has_fast_bfloat16, kernels, pick_kernels
from interp.sae.torch_kernels import PreActivations, Tiled
from interp.storage.processes import slices

_PRE_ACTIVATIONS_AT_ONCE = 1 << 22
MARGIN = 8
"""Picks beyond k that low precision shortlists, to be ranked at full precision."""
_SLACK = 2.0**-6
"""Error allowed for in a bfloat16 pre-activation, relative to the larger of 1 and the threshold it is held against."""
_FURTHER, _MIN_ROWS = 32, 1024
"""Picks beyond k by which those of low precision are checked, and rows that are worth rounding the encoder for."""


class Weights(NamedTuple):
    """Of a dictionary, as far as encoding needs them; `encoder` holds one row a latent."""

    encoder: Float[Tensor, "d_sae d_in"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]


class Rule(Protocol):
    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]: ...

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes: ...

    def scaled(self, scale: float) -> "Rule":
        """The rule for pre-activations that are `scale` times smaller."""


class PreActivationRule(PickingRule):
    """A rule that only looks at pre-activations, of each row on its own."""

    by_row = True

    @abstractmethod
    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]: ...

    @abstractmethod
    def scaled(self, scale: float) -> "PreActivationRule": ...

    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]:
        return self.dense(x @ weights.encoder.T + weights.b_enc)

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        return encode(x, weights.encoder, weights.b_enc, self)


@dataclass(frozen=True)
class TopK(PreActivationRule):
    k: int

    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        values, latents = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, latents, values.relu())

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        """Where bfloat16 is the faster, by it, and once more at full precision the rows whose picks it leaves open."""
        wide = self.k + _FURTHER
        if len(x) < _MIN_ROWS or wide > len(weights.encoder) or x.device.type != "cpu" or not has_fast_bfloat16(x):
            return super().codes(x, weights)
        near = encode(x, weights.encoder, weights.b_enc, TopK(wide), low_precision=True)
        codes, others = self.choose(near), _lowest(near, wide) + 2 * _rounding_error(x, weights)
        open_rows = (~(_lowest(codes, self.k) > others * (1 + _SLACK))).nonzero()[:, 0]
        if not len(open_rows):
            return codes
        source = torch.arange(len(x)).index_copy_(0, open_rows, len(x) + torch.arange(len(open_rows)))
        return SparseCodes.cat([codes, super().codes(x[open_rows], weights)]).take(source)

    def pick(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).top_k(pre, self.k)

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).top_k(pre, min(self.k + MARGIN, pre.shape[1]))

    def choose(self, codes: SparseCodes) -> SparseCodes:
        return kernels(codes.values).keep_top_k(codes, self.k)

    def scaled(self, scale: float) -> "TopK":
        return self


@dataclass(frozen=True, eq=False)
class Threshold(PreActivationRule):
    """z = pre where it exceeds its latent's threshold: JumpReLU, and ReLU at threshold 0."""

    threshold: Float[Tensor, " d_sae"]

    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        return pre * (pre > self.threshold.to(pre))

    def pick(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).above(pre, self.threshold.to(pre.device, pre.dtype))

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).above(pre, self.threshold - _SLACK * self.threshold.abs().clamp(min=1))

    def choose(self, codes: SparseCodes) -> SparseCodes:
        return kernels(codes.values).keep_above(codes, self.threshold)

    def scaled(self, scale: float) -> "Threshold":
        return Threshold(self.threshold / scale)


@dataclass(frozen=True)
class Refined:
    """An unrolled encoder: the rules of its steps, and η."""

    rules: tuple[PreActivationRule, ...]
    step: float

    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]:
        encoder, b_enc, W_dec = weights
        z = self.rules[0].encode(x, weights)
        for rule in self.rules[1:]:
            z = rule.dense(z + self.step * ((x - z @ W_dec) @ encoder.T + b_enc))
        return z

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        codes = self.rules[0].codes(x, weights)
        for rule in self.rules[1:]:
            residual = x - kernels(x).decode(codes, weights.W_dec, x.new_zeros(x.shape[1]))
            codes = refine(residual, codes, weights, rule, self.step)
        return codes

    def scaled(self, scale: float) -> "Refined":
        return Refined(tuple(rule.scaled(scale) for rule in self.rules), self.step)


@dataclass(frozen=True)
class MatchingPursuit:
    k: int
    residual_threshold: float = 0.0
    """A row stops once its residual is shorter than this; 0 = never."""
    stop_on_repeat: bool = False
    """A row stops once a step brings no latent that it did not have."""

    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]:
        rows, W_dec = x.reshape(-1, x.shape[-1]), weights.W_dec
        z = rows.new_zeros(len(rows), len(W_dec))
        going = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        for _ in range(self.k):
            with torch.no_grad():
                latents = (rows @ W_dec.T).argmax(1)
            values = (rows * W_dec[latents]).sum(1).relu() * going
            new = (z.gather(1, latents[:, None])[:, 0] == 0) & (values > 0)
            z = z.scatter_add(1, latents[:, None], values[:, None])
            rows = rows - values[:, None] * W_dec[latents]
            if self.stop_on_repeat:
                going = going & new
            if self.residual_threshold > 0:
                going = going & (rows.norm(dim=1) >= self.residual_threshold)
        return z.reshape(*x.shape[:-1], len(W_dec))

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        rows = max(1, _PRE_ACTIVATIONS_AT_ONCE // len(weights.W_dec))
        return SparseCodes.cat([SparseCodes.from_dense(self.encode(part, weights)) for part in x.split(rows)])

    def scaled(self, scale: float) -> "MatchingPursuit":
        return replace(self, residual_threshold=self.residual_threshold / scale)


def refine(
    residual: Float[Tensor, "row d_in"], codes: SparseCodes, weights: Weights, rule: PickingRule, step: float
) -> SparseCodes:
    """The rule's picks of z + step · (residual W_enc + b_enc), in pieces of rows."""
    n, d_sae = len(residual), codes.d_sae
    pieces = slices(n, max(1, _PRE_ACTIVATIONS_AT_ONCE // d_sae))  # one at least: others wait for the rule's sums

    def pre_of(rows: slice) -> Float[Tensor, "row d_sae"]:
        z = codes[rows]
        pre = torch.addmm(weights.b_enc, residual[rows], weights.encoder.T).mul_(step)
        pre.view(-1)[z.rows * d_sae + z.latents] += z.values
        return pre

    if rule.by_row:
        return SparseCodes.cat([rule.pick(pre_of(rows)) for rows in pieces])
    shape, device = torch.Size((n, d_sae)), residual.device
    return rule.pick(Tiled(shape, residual.dtype, pieces, lambda rows: [(0, pre_of(rows))], device))


def _lowest(codes: SparseCodes, k: int) -> Float[Tensor, " row"]:
    """The smallest of the k values of each row, 0 where there are fewer."""
    values = codes.values.new_zeros(len(codes), k)
    values[torch.arange(k) < codes.offsets.diff()[:, None]] = codes.values
    return values.amin(1)


def _rounding_error(x: Float[Tensor, "row d_in"], weights: Weights) -> Float[Tensor, " row"]:
    """By how much pre-activations of bfloat16 numbers may be off, before they are rounded themselves: by Cauchy and
    Schwarz, and by sums at single precision."""
    encoder, length = weights.encoder, x.norm(dim=1)
    of_weights, of_x = (rows - rows.bfloat16() for rows in (encoder, x))
    longest = encoder.norm(dim=1).max()
    of_sums = (128 + x.shape[1]) * 2.0**-23 * (length * longest + weights.b_enc.abs().max())
    return length * of_weights.norm(dim=1).max() + of_x.norm(dim=1) * longest * (1 + _SLACK) + of_sums
