"""Prune a trained dictionary by leave-one-out: a latent fires only where the reconstruction without it falls short.

    s_j = ⟨x − x_hat, d_j⟩ + z_j ‖d_j‖,   d_j = W_dec[j] / ‖W_dec[j]‖        z_j ← z_j where s_j > τ, else 0

s_j is the length along d_j of the part of x that all other latents leave over. If the latent's feature is present, s_j
is about what the latent adds. If the latent fired only because others share its direction, s_j is small. Only latents
that already fire are considered (from a comment on "Letting Claude do Autonomous Research to Improve SAEs", LessWrong
2026). τ is the threshold with the best reconstruction of some rows; choosing it does not use the truth.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

TRIED = 21
"""Thresholds, from 0 to the median length z_j ‖d_j‖ of what fires."""


class LeaveOneOut(nn.Module):
    """`sae`: anything with `encode`, `decode` and `W_dec`."""

    def __init__(self, sae: Any, threshold: float):
        super().__init__()
        self.sae, self.threshold, self.W_dec = sae, threshold, sae.W_dec

    def encode(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]:
        z = self.sae.encode(x)
        return z * (left_out(self.sae, x, z) > self.threshold)

    def decode(self, z: Float[Tensor, "row d_sae"]) -> Float[Tensor, "row d_in"]:
        return self.sae.decode(z)


@torch.no_grad()
def prune(sae: Any, x: Float[Tensor, "row d_in"]) -> LeaveOneOut:
    z = sae.encode(x)
    lengths = left_out(sae, x, z)
    median = float((z * sae.W_dec.norm(dim=1))[z > 0].median()) if (z > 0).any() else 0.0
    tried = torch.linspace(0, median, TRIED).tolist()
    errors = [float((sae.decode(z * (lengths > threshold)) - x).square().sum()) for threshold in tried]
    return LeaveOneOut(sae, tried[errors.index(min(errors))])


def left_out(sae: Any, x: Float[Tensor, "row d_in"], z: Float[Tensor, "row d_sae"]) -> Float[Tensor, "row d_sae"]:
    norms = sae.W_dec.norm(dim=1).clamp(min=torch.finfo(z.dtype).tiny)
    return (x - sae.decode(z)) @ sae.W_dec.T / norms + z * norms
