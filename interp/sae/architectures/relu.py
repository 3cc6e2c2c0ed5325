"""ReLU with a penalty: z = pre where pre > 0 (Anthropic, October 2023 and April 2024; arXiv 2408.00113).

    loss = ‖x_hat − x‖² + λ Σ_j (z_j · ‖W_dec[j]‖)^p

With p below 1 the penalty is rescaled by mean Σ z N / mean Σ (z N)^p, so that it keeps its size as p falls.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.architectures.sae_config import SAEConfig, check, rise
from interp.sae.forward_pass import ForwardPass
from interp.sae.rules import Threshold

_LP_OFFSET = 1e-3
"""Added to z in z^p with p < 1, whose slope would have no bound at 0."""


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(SAEConfig):
    """What ReLU and Gated share: latents above zero fire, and pay for it."""

    l1: float = 5.0
    """λ, for inputs of mean norm √d."""
    l1_warmup: float = 0.05
    """Fraction over which λ rises from 0 (April 2024)."""
    resample_at: tuple[float, ...] = ()
    """Fractions of the run at which dead latents are resampled, at rows drawn ∝ loss² (October 2023)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "not be negative", "l1")
        check(self, "be a fraction of the steps in 0..1", "l1_warmup")
        check(self, "be fractions of the run between 0 and 1", "resample_at")

    @property
    def resampling_steps(self) -> tuple[int, ...]:
        return tuple(round(fraction * self.steps) for fraction in self.resample_at)

    def l1_at(self, step: int) -> float:
        return self.l1 * rise(step + 1, self.l1_warmup, self.steps)

    def pick(self, f: ForwardPass) -> Threshold:
        return Threshold(torch.zeros_like(f.weights["b_enc"]))


@dataclass(frozen=True, kw_only=True)
class ReLUConfig(PenaltyConfig):
    """Penalty: Σ_j (z_j · ‖W_dec[j]‖)^p. The defaults are Anthropic's of April 2024, p = 1 throughout, but that decoder
    rows begin at norm 0.5 (April 2024: 0.1), since shorter rows turn too fast (at equal L0 their FVU is up to 7 %
    higher), and that AuxK keeps the last latents alive."""

    architecture: ClassVar[str] = "relu"
    p_end: float = 1.0
    """Below 1: p falls linearly from 1 to this over the second half of the run, λ following so that the penalty keeps
    its size (p-annealing, arXiv 2408.00113)."""
    clip: float | None = 0.01
    """So small that it always holds (April 2024: 1, for a loss that is not divided by V)."""
    unit_norm: bool = False
    decoder_init: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.p_end <= 1:
            raise ValueError(f"p_end={self.p_end} must be in 0..1, 0 excluded")

    @classmethod
    def october_2023(cls, **given: Any) -> "ReLUConfig":
        """Towards Monosemanticity: unit decoder rows, a plain L1 penalty, resampling four times in the first half."""
        unit: dict[str, Any] = {"unit_norm": True, "decoder_init": 1.0, "clip": None}
        recipe = {"l1_warmup": 0.0, "resample_at": (0.125, 0.25, 0.375, 0.5), "aux_coefficient": 0.0}
        return cls(**(unit | recipe | given))

    def p_at(self, step: int) -> float:
        progress = min(1.0, max(0.0, 2 * step / self.steps - 1))
        return 1 - progress * (1 - self.p_end)

    def loss(self, f: ForwardPass) -> Float[Tensor, ""]:
        weight = self.l1_at(f.step)
        return f.squared_error() + weight * self._penalty(f) if weight else f.squared_error()

    def _penalty(self, f: ForwardPass) -> Float[Tensor, ""]:
        p, size = self.p_at(f.step), f.z * f.at(f.decoder_norms)
        if p == 1:
            return size.sum()
        size = size + _LP_OFFSET
        penalty = (size**p).sum()
        for name, found in zip(("linear", "penalty"), f.everywhere(size.sum(), penalty), strict=True):
            f.state[name] = 0.99 * f.state[name] + 0.01 * found
        return penalty * (f.state["linear"] / f.state["penalty"] if f.state["penalty"] > 0 else 1.0)

    def initial_state(self) -> dict[str, float]:
        return {"linear": 0.0, "penalty": 0.0}

    def trained(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        return Threshold(torch.zeros_like(weights["b_enc"]))
