"""Rules that go by a threshold, and pay for what fires: ReLU with an L1 or Lp penalty, Gated, JumpReLU.

With N_j = ‖W_dec[j]‖ and c = 1 / (rows · V), for each row and latent:

    ReLU       z = pre where pre > 0        penalty λ (z N)^p:  ∂z = λ c p (z N)^(p−1) N,  ∂N = λ c p (z N)^(p−1) z
    Gated      π = pre, z = ReLU(e^r (π − b_gate) + b_mag) where π > 0;  penalty λ π, and π must reconstruct x too
    JumpReLU   z = pre where pre > θ        penalty of the count of those that fire, or λ tanh(s z N)
               θ's slope is straight-through: −(θ / ε) g where |pre − θ| < ε / 2, and −(1 / ε) of the count's slope
"""

import math
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes import SparseCodes
from interp.processes import Processes
from interp.sae.architectures import GatedConfig, JumpReLUConfig, ReLUConfig, rise
from interp.sae.kernels import PreActivations, kernels, pick_kernels
from interp.sae.rules import Threshold
from interp.sae.selection import Firing, Slopes, Trained, TrainingRule, trained_as

_SLACK = 2.0**-6
"""Error allowed for in a bfloat16 pre-activation, relative to the larger of 1 and the threshold it is held against."""
_LP_OFFSET = 1e-3
"""Added to z in z^p with p < 1, whose slope would have no bound at 0."""
_PACE = 8.0
"""At each step ln τ falls by this / steps times the gap ln(L0 / target_l0), and rises where the gap is below 0."""
_FARTHEST = 0.5
"""Gap beyond which the pace grows no further."""
_LEAST = 0.5
"""Share of target_l0 below which τ does not fall."""
_BEGIN = 0.25
"""Fraction of the run after which τ moves: L0 has come down from its start."""


class _Positive(TrainingRule):
    def pick(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).above(pre, torch.zeros(pre.shape[1], dtype=pre.dtype, device=pre.device))

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).above(pre, torch.full((pre.shape[1],), -_SLACK, device=pre.device))

    def choose(self, codes: SparseCodes) -> SparseCodes:
        return kernels(codes.values).keep_above(codes, codes.values.new_zeros(codes.d_sae))


class TrainingReLU(_Positive):
    """penalty = c λ Σ (z N)^p, with c = mean Σ z N / mean Σ (z N)^p, so that it keeps its size as p falls."""

    penalises_norms = True

    def __init__(self, config: ReLUConfig, processes: Processes):
        super().__init__(config, processes)
        self.config = config
        self._sizes = [0.0, 0.0]

    def backward(self, firing: Firing) -> Slopes:
        c, z = self.config, firing.codes.values
        p, weight = c.p_at(self.at_step), c.l1 * rise(self.at_step + 1, c.l1_warmup, c.steps)
        if weight == 0:
            return Slopes(pre=firing.gradient, parameters={})
        norms = firing.norms[firing.codes.latents]
        size = z * norms if p == 1 else z * norms + _LP_OFFSET
        penalty = float((size**p).sum()) if p < 1 else float(size.sum())
        weight *= self._rescaled(float(size.sum()), penalty, p) / (firing.rows * firing.variance)
        slope = weight * p * size ** (p - 1) if p < 1 else torch.full_like(z, weight)
        by_norm = firing.by_latent(slope * z)
        return Slopes(pre=firing.gradient + slope * norms, norms=by_norm, parameters={}, loss=weight * penalty)

    def _rescaled(self, linear: float, penalty: float, p: float) -> float:
        if p == 1:
            return 1.0
        sums = self.processes.sum_(torch.tensor([linear, penalty], dtype=torch.float64)).tolist()
        self._sizes = [0.99 * old + 0.01 * new for old, new in zip(self._sizes, sums, strict=True)]
        return self._sizes[0] / self._sizes[1] if self._sizes[1] > 0 else 1.0

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        return trained_as(Threshold(torch.zeros_like(weights["b_enc"])), weights)

    def state(self) -> dict[str, float]:
        return {"linear": self._sizes[0], "penalty": self._sizes[1]}

    def load_state(self, state: dict[str, float]) -> None:
        self._sizes = [state["linear"], state["penalty"]]


class TrainingGated(_Positive):
    """Picks are the gates π > 0, whose bias is b_enc; z = ReLU(e^r (π − b_enc) + b_mag)."""

    initial = {"r_mag": 0.0, "b_mag": 0.0}

    def __init__(self, config: GatedConfig, processes: Processes):
        super().__init__(config, processes)
        self.config = config

    def fire(self, picked: SparseCodes) -> SparseCodes:
        magnitudes = self._stretch(picked) * self._inputs(picked) + self.parameters["b_mag"][picked.latents]
        return SparseCodes(picked.offsets, picked.latents, magnitudes.relu(), picked.d_sae)

    def backward(self, firing: Firing) -> Slopes:
        c, gates = self.config, firing.picked
        weight = c.l1 * rise(self.at_step + 1, c.l1_warmup, c.steps) / (firing.rows * firing.variance)
        loss, through_gate = firing.reconstruct(gates)
        through_gate = through_gate + weight
        magnitude = firing.gradient * (firing.codes.values > 0)
        stretched = magnitude * self._stretch(gates)
        return Slopes(
            pre=stretched + through_gate,
            bias=through_gate,
            parameters={
                "r_mag": firing.by_latent(stretched * self._inputs(gates)),
                "b_mag": firing.by_latent(magnitude),
            },
            loss=loss + weight * float(gates.values.sum()),
        )

    def _stretch(self, gates: SparseCodes) -> Float[Tensor, " nnz"]:
        return self.parameters["r_mag"].exp()[gates.latents]

    def _inputs(self, gates: SparseCodes) -> Float[Tensor, " nnz"]:
        return gates.values - self.parameters["b_enc"][gates.latents]

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        stretch, b_mag = weights["r_mag"].exp(), weights["b_mag"]
        return Trained(Threshold((b_mag - stretch * weights["b_enc"]).clamp(min=0)), stretch, b_mag)


class TrainingJumpReLU(TrainingRule):
    """Picks reach down to half a bandwidth below the threshold: those fire not (z = 0), but tell it where to go."""

    def __init__(self, config: JumpReLUConfig, processes: Processes):
        super().__init__(config, processes)
        self.config = config
        self.penalises_norms = config.penalty == "tanh"
        self._tau = config.target_l0

    def place(self, weights: dict[str, Tensor], spread: float) -> None:
        c = self.config
        firing = min(0.4, 25 * c.target_l0 / c.d_sae)
        begin = spread * NormalDist().inv_cdf(1 - firing) if c.threshold is None else c.threshold
        self.initial = {"threshold": begin}
        super().place(weights, spread)

    @property
    def _reach(self) -> Float[Tensor, " d_sae"]:
        return self.parameters["threshold"] - self.config.bandwidth_at(self.at_step) / 2

    def pick(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).above(pre, self._reach)

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        reach = self._reach
        return pick_kernels(pre).above(pre, reach - _SLACK * reach.abs().clamp(min=1))

    def choose(self, codes: SparseCodes) -> SparseCodes:
        return kernels(codes.values).keep_above(codes, self._reach)

    def fire(self, picked: SparseCodes) -> SparseCodes:
        active = picked.values > self.parameters["threshold"][picked.latents]
        return SparseCodes(picked.offsets, picked.latents, picked.values * active, picked.d_sae)

    def backward(self, firing: Firing) -> Slopes:
        c, latents, width = self.config, firing.picked.latents, self.config.bandwidth_at(self.at_step)
        threshold = self.parameters["threshold"][latents]
        active = firing.picked.values > threshold
        near = (firing.picked.values - threshold).abs() < width / 2
        weight = c.coefficient * rise(self.at_step + 1, c.coefficient_warmup, c.steps) / firing.rows
        gradient, by_norm, loss = firing.gradient, None, 0.0
        if c.penalty == "tanh":
            weight /= firing.variance
            norms = firing.norms[latents]
            flat = torch.tanh(c.tanh_scale * norms * firing.codes.values)
            steep = weight * c.tanh_scale * (1 - flat.square())
            gradient, by_norm = gradient + steep * norms, firing.by_latent(steep * firing.codes.values)
            on_threshold, loss = threshold * gradient, weight * float(flat.sum())
        else:
            if c.penalty == "l0":
                weight /= firing.variance
            count_slope, loss = self._of_counts(firing, active, weight)
            on_threshold = threshold * gradient + count_slope
        pull = firing.by_latent(torch.where(near, on_threshold, 0)) / -width
        return Slopes(pre=gradient * active, norms=by_norm, parameters={"threshold": pull}, loss=loss)

    def _of_counts(self, firing: Firing, active: Tensor, weight: float) -> tuple[Tensor, float]:
        """The penalty's slope in ‖z‖₀ of each entry's row, and its sum."""
        rows = firing.codes.rows
        counts = torch.zeros(len(firing.codes), dtype=firing.gradient.dtype, device=rows.device)
        counts.index_add_(0, rows, active.to(counts))
        if self.config.penalty == "l0":
            return torch.full_like(firing.gradient, weight), weight * float(counts.sum())
        off = counts / self._tau - 1
        return (2 * weight / self._tau * off)[rows], weight * float(off.square().sum())

    def observe(self, codes: SparseCodes) -> None:
        """Move τ by how far the L0 of this step is from the target."""
        c = self.config
        if c.penalty != "target_l0" or self.at_step < _BEGIN * c.steps:
            return
        sums = torch.tensor([float((codes.values > 0).sum()), len(codes)], dtype=torch.float64)
        fired, rows = self.processes.sum_(sums).tolist()
        gap = math.log(max(fired, 1) / max(rows, 1) / c.target_l0)
        moved = self._tau * math.exp(-_PACE / c.steps * max(-_FARTHEST, min(_FARTHEST, gap)))
        self._tau = min(c.target_l0, max(_LEAST * c.target_l0, moved))

    def project(self) -> None:
        self.parameters["threshold"].clamp_(min=0)

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        return trained_as(Threshold(weights["threshold"].clone()), weights)

    def state(self) -> dict[str, float]:
        return {"tau": self._tau}

    def load_state(self, state: dict[str, float]) -> None:
        self._tau = state["tau"]
