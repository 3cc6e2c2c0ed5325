"""Pruning by leaving one out: a latent of a trained dictionary fires only where the reconstruction misses it.

    s_j = ⟨x − x_hat, d_j⟩ + z_j ‖d_j‖,   d_j = W_dec[j] / ‖W_dec[j]‖        z_j ← z_j where s_j > τ, else 0

s_j is the length along d_j of what all other latents leave of x: about that of the part that the latent adds where its
feature is there, short where it fired because others share its direction. Only latents that fire already are looked
at (from a comment on "Letting Claude do Autonomous Research to Improve SAEs", LessWrong 2026). τ is the threshold with
which some rows are reconstructed best: choosing it needs no truth.
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
