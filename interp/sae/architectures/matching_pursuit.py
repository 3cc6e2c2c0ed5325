"""Matching pursuit: one latent after the other, each from what the ones before leave (Mallat & Zhang 1993).

    r₀ = x − b_dec;   k times   j = argmax ⟨r, W_dec[j]⟩,   z_j = ReLU(⟨r, W_dec[j]⟩),   r ← r − z_j W_dec[j]
    loss = ‖x_hat − x‖²

As an SAE: Costa et al. 2025, arXiv 2506.03093. Gradients go through all k steps, picks held fixed.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from interp.codes import SparseCodes
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.field_limits import NonNegative
from interp.sae.forward_pass import Encoded, ForwardPass
from interp.sae.rules import MatchingPursuit, TopK
from interp.sae.sparse_ops import Support


@dataclass(frozen=True, kw_only=True)
class MatchingPursuitConfig(SAEConfig):
    """Costa et al. 2025, arXiv 2506.03093. The decoder's rows encode too."""

    architecture: ClassVar[str] = "matching_pursuit"
    has_encoder: ClassVar[bool] = False
    k: int = 32
    """Steps, each of which adds a latent or changes one."""
    aux_coefficient: NonNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= self.d_sae:
            raise ValueError(f"k={self.k} must be in 1..d_sae={self.d_sae}")
        if not self.unit_norm or self.skip or self.aux_coefficient or self.resample_at:
            needed = "unit_norm=True, skip=False, aux_coefficient=0 and no resample_at"
            raise ValueError(f"matching pursuit needs {needed}")

    def encode(self, f: ForwardPass) -> Encoded:
        """All steps' entries, of each row in the order in which they were taken; a latent may stand there twice."""
        residual = f.centred
        for step in range(self.k):
            taken = f.encode(TopK(1), residual)
            if step < self.k - 1:
                residual = f.residual(taken, residual)
        supports = [support for support, _ in f.passes]
        order = torch.cat([support.rows for support in supports]).argsort(stable=True)
        latents = torch.cat([support.latents for support in supports])[order]
        values = torch.cat([values for _, values in f.passes])[order]
        counts = torch.stack([support.codes.offsets.diff() for support in supports]).sum(0)
        return Encoded(Support(SparseCodes.from_counts(counts, latents, values.detach(), self.d_sae)), values)

    def folded(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**weights, "encoder": weights["W_dec"], "b_enc": torch.zeros_like(weights["W_dec"][:, 0])}

    def check_site(self, *, tied: bool, hooks: int) -> None:
        super().check_site(tied=tied, hooks=hooks)
        if not tied or hooks > 1:
            raise ValueError("matching pursuit reads and writes one hook; choose another architecture for several")

    def trained(self, weights: dict[str, Tensor], state: dict[str, float]) -> MatchingPursuit:
        return MatchingPursuit(self.k)
