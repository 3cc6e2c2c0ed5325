"""Gated: one path decides what fires, the other how strongly (Rajamanoharan et al. 2024, arXiv 2404.16014).

    u = (x − b_dec) W_enc,   π = u + b_gate,   z = ReLU(e^r u + b_mag) where π > 0
    loss = ‖z W_dec + b_dec − x‖² + ‖ReLU(π) W_dec + b_dec − x‖² (its decoder held fixed) + λ Σ_j ReLU(π_j)

b_gate stands in the weights as b_enc. Trained, it is a JumpReLU with the threshold b_mag − e^r b_gate.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from interp.sae.architectures.relu import PenaltyConfig
from interp.sae.forward_pass import ForwardPass
from interp.sae.rules import Threshold


@dataclass(frozen=True, kw_only=True)
class GatedConfig(PenaltyConfig):
    """Gate π = u + b_gate and magnitude e^r u + b_mag share u = (x − b_dec) W_enc (Rajamanoharan et al. 2024,
    arXiv 2404.16014). Penalty: Σ_j ReLU(π_j), and ReLU(π) must reconstruct x too, through the decoder as it is.
    Trained, it is a JumpReLU with the threshold b_mag − e^r b_gate."""

    architecture: ClassVar[str] = "gated"
    aux_coefficient: float = 0.0

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
