"""Latents that fire above a threshold, with a penalty on firing: ReLU (Towards Monosemanticity; Circuits Updates, April
2024); Gated, in which one path decides what fires and the other how strongly (arXiv 2404.16014); JumpReLU, which learns
a threshold for each latent (arXiv 2407.14435).

    ReLU      z = pre where pre > 0,   loss = ‖x_hat − x‖² + λ Σ_j z_j ‖W_dec[j]‖
    Gated     u = (x − b_dec) W_enc,   π = u + b_gate,   z = ReLU(e^r u + b_mag) where π > 0
              loss = ‖x_hat − x‖² + ‖ReLU(π) W_dec + b_dec − x‖² (its decoder held fixed) + λ Σ_j ReLU(π_j)
    JumpReLU  z = pre where pre > θ_j
              loss = ‖x_hat − x‖² + λ · penalty of the number of latents that fire

θ learns by straight-through gradients of width ε:  ∂z/∂θ = −θ/ε and ∂[pre > θ]/∂θ = −1/ε where |pre − θ| < ε/2. So
JumpReLU's picks include entries down to half a bandwidth below θ. These do not fire (z = 0), but give θ its gradient.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.checks.errors import InterpError
from interp.checks.limits import Fraction, NonNegative, Positive
from interp.codes.sparse_codes import SparseCodes
from interp.sae.architectures.encoders import ActivationFunction, SAELensForm, StoredEncoder
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.auxk import revival_weight
from interp.sae.encode_rows import BFLOAT16_ERROR
from interp.sae.file_tensors import FileTensors
from interp.sae.forward_pass import ForwardPass, PickedEntries, StepInputs
from interp.sae.kernels.dispatch import kernels, pick_kernels
from interp.sae.kernels.torch_kernels import PreActivations

_PACE = 8.0
"""At each step ln τ falls by this / steps times the gap ln(L0 / target_l0), and rises if the gap is below 0."""
_MAX_GAP = 0.5
"""Largest gap that counts for the speed."""
_MIN_TAU = 0.5
"""Share of target_l0 below which τ does not fall."""
_TAU_RESTS = 0.25
"""Fraction of the training after which τ moves: by then L0 has fallen from its initial value."""


@dataclass(frozen=True, eq=False)
class Threshold(ActivationFunction):
    """The encoder z = pre where it exceeds its latent's threshold: JumpReLU, and ReLU at threshold 0."""

    name: ClassVar[str] = "threshold"
    threshold: Float[Tensor, " d_sae"]

    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        return pre * (pre > self.threshold.to(pre))

    def pick(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).above(pre, self.threshold.to(pre.device, pre.dtype))

    def pick_with_margin(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).above(pre, self.threshold - BFLOAT16_ERROR * self.threshold.abs().clamp(min=1))

    def pick_among(self, codes: SparseCodes) -> SparseCodes:
        return kernels(codes.values).keep_above(codes, self.threshold)

    def scaled(self, scale: float) -> "Threshold":
        return Threshold(self.threshold / scale)

    def to_stored(self) -> StoredEncoder:
        return StoredEncoder({}, {"threshold": self.threshold})

    @classmethod
    def from_stored(cls, settings: dict[str, Any], parts: FileTensors, d_sae: int, source: str) -> "Threshold":
        return cls(parts.pop("threshold", d_sae))

    def to_saelens(self, kind: str, *, skips: bool) -> SAELensForm | None:
        """Return `jumprelu`, which a trained BatchTopK, Matryoshka or Gated dictionary is too; at threshold 0
        `standard`."""
        if kind == "crosscoder" or bool((self.threshold < 0).any()):
            return None
        is_relu = not bool(self.threshold.any())
        tensors = {} if is_relu else {"threshold": self.threshold}
        if kind == "sae":
            return SAELensForm("standard" if is_relu else "jumprelu", {}, tensors)
        return SAELensForm(f"{'' if is_relu else 'jumprelu_'}{'skip_' if skips else ''}transcoder", {}, tensors)


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(SAEConfig):
    """The options that ReLU and Gated share: latents above zero fire, with a penalty."""

    resamples_along_residuals: ClassVar[bool] = False
    l1: NonNegative = 5.0
    """Weight λ of the penalty, for inputs of mean norm √d."""
    l1_warmup: Fraction = 0.05
    """Fraction over which λ rises from 0 (Circuits Updates, April 2024)."""

    def l1_at(self, step: int) -> float:
        return self.l1 * ramp(step + 1, self.l1_warmup, self.steps)

    def pick(self, step: StepInputs) -> Threshold:
        return Threshold(torch.zeros_like(step.weights["b_enc"]))


@dataclass(frozen=True, kw_only=True)
class ReLUConfig(PenaltyConfig):
    """Latents above zero fire, with the penalty Σ_j z_j ‖W_dec[j]‖. The defaults are those of Circuits Updates, April
    2024, except that decoder rows begin at norm 0.5 (there: 0.1), since shorter rows rotate too fast, which raises FVU
    at equal L0, and that AuxK keeps the last latents alive."""

    architecture: ClassVar[str] = "relu"
    shardable: ClassVar[bool] = True
    clip: Positive | None = 0.01
    """Largest norm of the gradient of ln loss, so small that it always clips (Circuits Updates, April 2024: 1, for a
    loss that is not divided by V)."""
    unit_norm: bool = False

    @property
    def initial_norm(self) -> float:
        return 1.0 if self.unit_norm else 0.5

    def loss(self, step: ForwardPass) -> Float[Tensor, ""]:
        weight = self.l1_at(step.steps_done)
        return (
            step.squared_error() + weight * step.total(step.z * step.at(step.decoder_norms))
            if weight
            else step.squared_error()
        )

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        return Threshold(torch.zeros_like(weights["b_enc"]))


@dataclass(frozen=True, kw_only=True)
class GatedConfig(PenaltyConfig):
    """Latents whose gate is above zero fire: the Gated SAE of Rajamanoharan et al. 2024, arXiv 2404.16014. Its b_gate
    is stored in the weights as b_enc. Trained, it is a JumpReLU with the threshold b_mag − e^r b_gate."""

    architecture: ClassVar[str] = "gated"
    shardable: ClassVar[bool] = True
    aux_coefficient: NonNegative = 0.0

    def activate(self, step: PickedEntries) -> Float[Tensor, " nnz"]:
        u = step.pre - step.at(step.weights["b_enc"])
        return (step.at(step.weights["r_mag"].exp()) * u + step.at(step.weights["b_mag"])).relu()

    def loss(self, step: ForwardPass) -> Float[Tensor, ""]:
        gates = step.squared_error(step.pre, frozen_decoder=True) + self.l1_at(step.steps_done) * step.total(step.pre)
        return step.squared_error() + gates

    def initial_parameters(self, pre_std: float) -> dict[str, float]:
        return {"r_mag": 0.0, "b_mag": 0.0}

    def folded_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        stretch = weights["r_mag"].exp()[:, None]
        return {**weights, "encoder_rows": stretch * weights["encoder_rows"], "b_enc": weights["b_mag"]}

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        return Threshold((weights["b_mag"] - weights["r_mag"].exp() * weights["b_enc"]).clamp(min=0))


@dataclass(frozen=True, kw_only=True)
class JumpReLUConfig(SAEConfig):
    """Latents above a learnt threshold fire: the JumpReLU SAE of Rajamanoharan et al. 2024, arXiv 2407.14435.

    Penalty of a row: `l0` ‖z‖₀, or `target_l0` (‖z‖₀ / τ − 1)². With a fixed τ the mean L0 settles above τ, because
    more firing latents reconstruct better. So τ starts at `target_l0`, and after a quarter of the run moves until L0
    is `target_l0`; it does not fall below half of `target_l0`. A loss λ Σ_j ReLU(θ_j − pre_j) ‖W_dec[j]‖ revives dead
    latents (Circuits Updates, January 2025). Below an FVU of a twelfth it falls with FVU².
    """

    architecture: ClassVar[str] = "jumprelu"
    shardable: ClassVar[bool] = True
    penalty: Literal["target_l0", "l0"] = "target_l0"
    """`target_l0` leads L0 to a value, `l0` makes each firing cost the same."""
    target_l0: Positive = 32.0
    """Mean number of latents that fire, which the penalty `target_l0` leads to."""
    coefficient: NonNegative = 0.1
    """Weight λ of the penalty. For `target_l0` it is in units of V: 0.1 weighs a row at twice τ as much as losing a
    tenth of the variance. Ten times as much raises FVU at equal L0."""
    coefficient_warmup: Fraction = 0.1
    """Fraction over which λ rises from 0."""
    threshold: NonNegative | None = None
    """Initial threshold θ; if none is given, the value at which about 25 × `target_l0` latents would fire on Gaussian
    inputs, at most two fifths of all: with fewer, more latents die (Circuits Updates, January 2025: 0.1)."""
    bandwidth: Positive = 0.1
    """Width of the window around θ in which a pre-activation contributes to the gradient of θ (Circuits Updates,
    January 2025: 2)."""
    aux_coefficient: NonNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty == "target_l0" and self.target_l0 > self.d_sae:
            raise InterpError(f"target_l0={self.target_l0} must be at most d_sae={self.d_sae}")

    @property
    def expected_l0(self) -> float | None:
        return self.target_l0 if self.penalty == "target_l0" else None

    def initial_parameters(self, pre_std: float) -> dict[str, float]:
        firing = min(0.4, 25 * self.target_l0 / self.d_sae)
        begin = pre_std * NormalDist().inv_cdf(1 - firing) if self.threshold is None else self.threshold
        return {"threshold": begin}

    def initial_state(self) -> dict[str, float]:
        return {"tau": self.target_l0}

    def pick(self, step: StepInputs) -> Threshold:
        return Threshold(step.weights["threshold"].detach() - self.bandwidth / 2)

    def activate(self, step: PickedEntries) -> Float[Tensor, " nnz"]:
        threshold, near, fires = self._window(step)
        return straight_through(step.pre * fires, -threshold.detach() * near, threshold)

    def loss(self, step: ForwardPass) -> Float[Tensor, ""]:
        weight = self.coefficient * ramp(step.steps_done + 1, self.coefficient_warmup, self.steps)
        threshold, near, fires = self._window(step)
        counts = step.row_sums(straight_through(fires, -near, threshold))
        if self.penalty == "l0":
            return step.squared_error() + weight * counts.sum()
        return step.squared_error() + weight * step.variance * (counts / step.state["tau"] - 1).square().sum()

    def _window(self, step: PickedEntries) -> tuple[Tensor, Tensor, Tensor]:
        """Return θ of each entry; 1/ε where pre is near it, else 0; whether it fires."""
        threshold = step.at(step.weights["threshold"])
        above = step.pre.detach() - threshold.detach()
        return threshold, (above.abs() < self.bandwidth / 2).to(above) / self.bandwidth, (above > 0).to(above)

    def revival_loss(self, step: ForwardPass, dead: Int[Tensor, " dead"]) -> Tensor | float:
        if self.coefficient == 0:
            return super().revival_loss(step, dead)
        rows = step.batch.strided_rows(step.n_dead, step.x.shape[1])
        weight = self.coefficient * revival_weight(step.fvu) ** 2 / (step.batch.rows_in(rows) * step.variance)
        below = step.weights["threshold"][dead] - step.pre_activations(dead, rows)
        norms = step.weights["W_dec"].detach()[dead].norm(dim=1)
        return super().revival_loss(step, dead) + weight * step.total(below.relu() * norms)

    def observe(self, step: ForwardPass) -> None:
        """Move τ in proportion to the distance of this step's L0 from the target."""
        if self.penalty != "target_l0" or step.steps_done < _TAU_RESTS * self.steps:
            return
        fired, rows = step.everywhere(step.total(step.z > 0), len(step.x))
        gap = math.log(max(fired, 1) / max(rows, 1) / self.target_l0)
        moved = step.state["tau"] * math.exp(-_PACE / self.steps * max(-_MAX_GAP, min(_MAX_GAP, gap)))
        step.state["tau"] = min(self.target_l0, max(_MIN_TAU * self.target_l0, moved))

    def project(self, weights: dict[str, Tensor]) -> None:
        weights["threshold"].clamp_(min=0)

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        return Threshold(weights["threshold"].clone())


def ramp(step: int, fraction: float, steps: int) -> float:
    """Return a number that rises from 0 to 1 over the first `fraction` of the steps; 1 at once for a fraction of 0."""
    return 1.0 if fraction == 0 else min(1.0, step / max(1.0, fraction * steps))


def straight_through(value: Tensor, slope: Tensor, parameter: Tensor) -> Tensor:
    """Return the value with an additional derivative: `slope` with respect to the parameter."""
    return value + slope * (parameter - parameter.detach())
