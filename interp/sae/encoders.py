"""From inputs to latents and back: the ways to encode, each with its own gradient.

    OnePass    entries = the rule's picks of x W_enc + b_enc,  x centred
    Unrolled   z₀ = one pass, then T times   pre = z + η ((x − z W_dec) W_enc + b_enc),  z = the next rule's picks
               (a LISTA-style encoder, Gregor & LeCun 2010)
    Pursuit    r₀ = x;  T times  j = argmax ⟨r, W_dec[j]⟩,  z_j = ⟨r, W_dec[j]⟩,  r ← r − z_j W_dec[j]
               (matching pursuit, Mallat & Zhang 1993; as an SAE: Costa et al. 2025, arXiv 2506.03093)

`forward` gives the codes and what they came from; `backward` takes the slope g of the loss in each value and adds what
follows from it to the gradients. Picks are held fixed, as they are in autograd:

    OnePass    ∂W_enc[j] = Σ_i g_ij x_i        ∂b_enc[j] = Σ_i g_ij        ∂x_i = Σ_j g_ij W_enc[j]
    Unrolled   each step the same with its residual r for x and η g for g; then, with ∂r_i = η Σ_j g_ij W_enc[j],
               ∂W_dec[q] −= Σ_i z_iq ∂r_i,   and in the values before the step  g_iq ← g_iq − ⟨∂r_i, W_dec[q]⟩
    Pursuit    from the last pick to the first, with R = 0 at first and r the residual before the pick:
               d = g_j − ⟨R, W_dec[j]⟩,   ∂W_dec[j] += d r − z_j R,   R ← R + d W_dec[j];   at the end ∂x = R
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes import SparseCodes
from interp.processes import Processes
from interp.sae.architectures import (
    BatchTopKConfig,
    GatedConfig,
    JumpReLUConfig,
    MatchingPursuitConfig,
    PickConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)
from interp.sae.encoding import Workspace, encode
from interp.sae.gradients import Gradients, LatentSum
from interp.sae.kernels import ByLatent, kernels
from interp.sae.rules import MatchingPursuit, PreActivationRule, Refined, Weights, pursue, refine
from interp.sae.selection import Slopes, Trained, TrainingBatchTopK, TrainingRule, TrainingTopK
from interp.sae.thresholds import TrainingGated, TrainingJumpReLU, TrainingReLU


@dataclass(kw_only=True)
class Encoded:
    picked: SparseCodes
    """Entries with their pre-activations."""
    codes: SparseCodes
    """The same entries with z."""
    steps: tuple[SparseCodes, ...]
    """z after each step of the encoder, the last included."""
    by_latent: ByLatent


class Encoder(Protocol):
    rules: list[TrainingRule]
    """One for each step; the last says how its entries fire and what they cost."""

    def forward(self, w: Weights, x: Float[Tensor, "row d_in"]) -> Encoded: ...

    def backward(
        self, w: Weights, x: Float[Tensor, "row d_in"], encoded: Encoded, slopes: Slopes, gradients: Gradients
    ) -> Float[Tensor, " d_in"]:
        """Set the gradients of encoder and b_enc where there are any, add to that of W_dec; the result is Σ_i ∂x_i."""

    def trained(self, weights: dict[str, Tensor]) -> Trained: ...


class OnePass:
    def __init__(self, rule: TrainingRule, workspace: Workspace, low_precision: bool):
        self.rules = [rule]
        self.workspace, self.low_precision = workspace, low_precision

    def forward(self, w: Weights, x: Float[Tensor, "row d_in"]) -> Encoded:
        low, memory = self.low_precision, self.workspace
        picked = encode(x, w.encoder, w.b_enc, self.rules[0], low_precision=low, workspace=memory)
        codes = self.rules[0].fire(picked)
        return Encoded(picked=picked, codes=codes, steps=(codes,), by_latent=kernels(x).transpose(codes))

    def backward(
        self, w: Weights, x: Float[Tensor, "row d_in"], encoded: Encoded, slopes: Slopes, gradients: Gradients
    ) -> Float[Tensor, " d_in"]:
        ops, by_latent = kernels(x), encoded.by_latent
        gradients.wait("encoder", LatentSum(by_latent, slopes.pre, x))
        sums = ops.latent_sums(by_latent, slopes.pre)
        gradients["b_enc"].copy_(sums if slopes.bias is None else ops.latent_sums(by_latent, slopes.bias))
        return sums @ w.encoder

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        return self.rules[0].trained(weights)


class Unrolled:
    def __init__(self, first: OnePass, further: list[TrainingRule], step: float):
        self.first, self.step = first, step
        self.rules = [*first.rules, *further]

    def forward(self, w: Weights, x: Float[Tensor, "row d_in"]) -> Encoded:
        steps = [self.first.forward(w, x).codes]
        for rule in self.rules[1:]:
            steps.append(refine(_residual(w, x, steps[-1]), steps[-1], w, rule, self.step))
        by_latent = kernels(x).transpose(steps[-1])
        return Encoded(picked=steps[-1], codes=steps[-1], steps=tuple(steps), by_latent=by_latent)

    def backward(
        self, w: Weights, x: Float[Tensor, "row d_in"], encoded: Encoded, slopes: Slopes, gradients: Gradients
    ) -> Float[Tensor, " d_in"]:
        ops, zero = kernels(x), x.new_zeros(x.shape[1])
        encoder, b_enc, total = torch.zeros_like(w.encoder), torch.zeros_like(w.b_enc), zero.clone()
        slope, by_latent = slopes.pre, encoded.by_latent
        for before, after in reversed(list(zip(encoded.steps, encoded.steps[1:], strict=False))):
            stepped = self.step * slope
            encoder += ops.sum_by_latent(by_latent, stepped, _residual(w, x, before))
            b_enc += ops.latent_sums(by_latent, stepped)
            on_residual = ops.decode(SparseCodes(after.offsets, after.latents, stepped, after.d_sae), w.encoder, zero)
            total += on_residual.sum(0)
            by_latent = ops.transpose(before)
            gradients["W_dec"] -= ops.sum_by_latent(by_latent, before.values, on_residual)
            dots = ops.rescore(before, on_residual, w.W_dec, torch.zeros_like(w.b_enc)).values
            slope = _at_entries(before, after, slope) - dots
        first = encoded.steps[0]
        zeroth = Encoded(picked=first, codes=first, steps=(first,), by_latent=by_latent)
        total += self.first.backward(w, x, zeroth, Slopes(pre=slope, parameters={}), gradients)
        gradients["encoder"] += encoder
        gradients["b_enc"] += b_enc
        return total

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        steps = [rule.trained(weights) for rule in self.rules]
        rules = tuple(each.rule for each in steps if isinstance(each.rule, PreActivationRule))
        return steps[-1]._replace(rule=Refined(rules, self.step))


class Pursuit:
    """The encoder is the decoder, and there is no b_enc."""

    def __init__(self, rule: TrainingRule, k: int):
        self.rules, self.k = [rule], k

    def forward(self, w: Weights, x: Float[Tensor, "row d_in"]) -> Encoded:
        codes = pursue(x, w.W_dec, self.k)
        return Encoded(picked=codes, codes=codes, steps=(codes,), by_latent=kernels(x).transpose(codes))

    def backward(
        self, w: Weights, x: Float[Tensor, "row d_in"], encoded: Encoded, slopes: Slopes, gradients: Gradients
    ) -> Float[Tensor, " d_in"]:
        codes, on_r = encoded.codes, torch.zeros_like(x)
        counts, r = codes.offsets.diff(), _residual(w, x, codes)
        for taken in reversed(range(self.k)):
            rows = (counts > taken).nonzero()[:, 0]
            entries = codes.offsets[rows] + taken
            latents, z, g = codes.latents[entries].long(), codes.values[entries], slopes.pre[entries]
            atoms, on_rows = w.W_dec[latents], on_r[rows]
            before = r[rows] + z[:, None] * atoms
            d = (g - (on_rows * atoms).sum(1))[:, None]
            gradients["W_dec"].index_put_((latents,), d * before - z[:, None] * on_rows, accumulate=True)
            r[rows], on_r[rows] = before, on_rows + d * atoms
        return on_r.sum(0)

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        silent = torch.zeros_like(weights["W_dec"][:, 0])
        return Trained(MatchingPursuit(self.k), torch.ones_like(silent), silent)


_RULES: dict[type[SAEConfig], type[TrainingRule]] = {
    TopKConfig: TrainingTopK,
    BatchTopKConfig: TrainingBatchTopK,
    ReLUConfig: TrainingReLU,
    GatedConfig: TrainingGated,
    JumpReLUConfig: TrainingJumpReLU,
    MatchingPursuitConfig: TrainingRule,
}


def encoder_for(config: SAEConfig, processes: Processes, *, low_precision: bool) -> Encoder:
    """The rule is that of the config's architecture, or of the one that it refines (Matryoshka: BatchTopK)."""
    rule = next(_RULES[kind] for kind in type(config).__mro__ if kind in _RULES)
    if isinstance(config, MatchingPursuitConfig):
        return Pursuit(rule(config, processes), config.k)
    one_pass = OnePass(rule(config, processes), Workspace(), low_precision)
    if not isinstance(config, PickConfig) or config.refinements == 0:
        return one_pass
    further = [rule(config, processes) for _ in range(config.refinements)]
    return Unrolled(one_pass, further, config.refinement_step)


def _residual(w: Weights, x: Float[Tensor, "row d_in"], codes: SparseCodes) -> Float[Tensor, "row d_in"]:
    return x - kernels(x).decode(codes, w.W_dec, x.new_zeros(x.shape[1]))


def _at_entries(wanted: SparseCodes, given: SparseCodes, values: Float[Tensor, " nnz"]) -> Float[Tensor, " wanted"]:
    """The value that belongs to each entry of `wanted` among those of `given`, 0 where it has none."""
    keys, order = (given.rows * given.d_sae + given.latents).sort()
    mine = wanted.rows * wanted.d_sae + wanted.latents
    at = torch.searchsorted(keys, mine).clamp(max=max(len(keys) - 1, 0))
    if len(keys) == 0:
        return torch.zeros_like(wanted.values)
    return torch.where(keys[at] == mine, values[order[at]], 0)
