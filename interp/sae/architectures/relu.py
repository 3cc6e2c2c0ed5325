"""Latents that fire above zero and pay for it: ReLU with a penalty (Anthropic, October 2023 and April 2024), and Gated,
where one path decides what fires, the other how strongly (Rajamanoharan et al. 2024, arXiv 2404.16014).

    ReLU     z = pre where pre > 0,   loss = ‖x_hat − x‖² + λ Σ_j z_j ‖W_dec[j]‖
    Gated    u = (x − b_dec) W_enc,   π = u + b_gate,   z = ReLU(e^r u + b_mag) where π > 0
             loss = ‖x_hat − x‖² + ‖ReLU(π) W_dec + b_dec − x‖² (its decoder held fixed) + λ Σ_j ReLU(π_j)
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.architectures.sae_config import SAEConfig, rise
from interp.sae.field_limits import ABOVE_0, Fraction, NonNegative, Positive
from interp.sae.forward_pass import ForwardPass
from interp.sae.rules import Threshold


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(SAEConfig):
    """What ReLU and Gated share: latents above zero fire, and pay for it."""

    resamples_what_is_missing: ClassVar[bool] = False
    l1: NonNegative = 5.0
    """λ, for inputs of mean norm √d."""
    l1_warmup: Fraction = 0.05
    """Fraction over which λ rises from 0 (April 2024)."""

    def l1_at(self, step: int) -> float:
        return self.l1 * rise(step + 1, self.l1_warmup, self.steps)

    def pick(self, f: ForwardPass) -> Threshold:
        return Threshold(torch.zeros_like(f.weights["b_enc"]))


@dataclass(frozen=True, kw_only=True)
class ReLUConfig(PenaltyConfig):
    """Penalty: Σ_j z_j ‖W_dec[j]‖. The defaults are Anthropic's of April 2024, but that decoder rows begin at norm 0.5
    (April 2024: 0.1), since shorter rows turn too fast (at equal L0 their FVU is up to 7 % higher), and that AuxK keeps
    the last latents alive."""

    architecture: ClassVar[str] = "relu"
    clip: Annotated[float | None, ABOVE_0] = 0.01
    """So small that it always holds (April 2024: 1, for a loss that is not divided by V)."""
    unit_norm: bool = False
    decoder_init: Positive = 0.5

    @classmethod
    def october_2023(cls, **given: Any) -> "ReLUConfig":
        """Towards Monosemanticity: unit decoder rows, a plain L1 penalty, resampling four times in the first half."""
        unit: dict[str, Any] = {"unit_norm": True, "decoder_init": 1.0, "clip": None}
        recipe = {"l1_warmup": 0.0, "resample_at": (0.125, 0.25, 0.375, 0.5), "aux_coefficient": 0.0}
        return cls(**(unit | recipe | given))

    def loss(self, f: ForwardPass) -> Float[Tensor, ""]:
        weight = self.l1_at(f.step)
        return f.squared_error() + weight * (f.z * f.at(f.decoder_norms)).sum() if weight else f.squared_error()

    def trained(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        return Threshold(torch.zeros_like(weights["b_enc"]))


@dataclass(frozen=True, kw_only=True)
class GatedConfig(PenaltyConfig):
    """Rajamanoharan et al. 2024, arXiv 2404.16014. b_gate stands in the weights as b_enc. Trained, it is a JumpReLU
    with the threshold b_mag − e^r b_gate."""

    architecture: ClassVar[str] = "gated"
    aux_coefficient: NonNegative = 0.0

    def activate(self, f: ForwardPass) -> Float[Tensor, " nnz"]:
        u = f.pre - f.at(f.weights["b_enc"])
        return (f.at(f.weights["r_mag"].exp()) * u + f.at(f.weights["b_mag"])).relu()

    def loss(self, f: ForwardPass) -> Float[Tensor, ""]:
        gates = f.squared_error(f.pre, frozen_decoder=True) + self.l1_at(f.step) * f.pre.sum()
        return f.squared_error() + gates

    def initial_parameters(self, spread: float) -> dict[str, float]:
        return {"r_mag": 0.0, "b_mag": 0.0}

    def folded(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        stretch = weights["r_mag"].exp()[:, None]
        return {**weights, "encoder": stretch * weights["encoder"], "b_enc": weights["b_mag"]}

    def trained(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        return Threshold((weights["b_mag"] - weights["r_mag"].exp() * weights["b_enc"]).clamp(min=0))
