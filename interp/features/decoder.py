"""What a scan knows of a dictionary besides its codes: the norms and neighbours of its decoder rows, and their
path to the logits (`features.logit_path`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features.logit_path import LogitPath
from interp.runtime.processes import slice_of_part

_LATENTS_PER_BLOCK = 256


@dataclass(frozen=True)
class Decoder:
    """Properties of a dictionary other than its codes; each may be missing."""

    W_dec: Float[Tensor, "latent d_in"] | None
    W_enc: Float[Tensor, "d_in latent"] | None
    logits: LogitPath = LogitPath()
    fvu_rise: Float[Tensor, " latent"] | None = None
    """`features.variance_explained.VarianceExplained`."""

    @cached_property
    @torch.no_grad()
    def norms(self) -> dict[str, np.ndarray]:
        """Return columns of the features table."""
        if self.W_dec is None:
            return {}
        W_dec = self.W_dec.detach().float().cpu()
        columns = {"dec_norm": W_dec.norm(dim=1).numpy()}
        if self.W_enc is not None:
            W_enc = self.W_enc.detach().float().cpu().T
            columns["enc_dec_cosine"] = torch.nn.functional.cosine_similarity(W_enc, W_dec).numpy()
        if self.fvu_rise is not None:
            columns["fvu_rise"] = self.fvu_rise.float().numpy()
        return columns


@torch.no_grad()
def neighbour_tables(
    W_dec: Float[Tensor, "latent d_in"], k: int, part: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
    """Yield tables of the `k` other latents with the highest decoder cosine, block by block of latents.
    part: (rank, count), to yield only the tables of that rank."""
    unit = decoder_directions(W_dec)
    k = min(k, len(unit) - 1)
    starts = range(0, len(unit), _LATENTS_PER_BLOCK)
    for first in starts[slice_of_part(len(starts), *part)]:
        cosine = unit[first : first + _LATENTS_PER_BLOCK] @ unit.T
        latents = torch.arange(first, first + len(cosine))
        cosine[latents - first, latents] = -torch.inf
        best = cosine.topk(k, dim=1)
        yield {
            "latent": latents.repeat_interleave(k).numpy(),
            "other": best.indices.flatten().numpy(),
            "rank": np.tile(np.arange(k), len(latents)),
            "cosine": best.values.flatten().numpy(),
        }


def decoder_directions(W_dec: Float[Tensor, "latent d"]) -> Float[Tensor, "latent d"]:
    """Return the decoder rows at norm 1, in float32 on the CPU. A row of zeros stays zero."""
    return torch.nn.functional.normalize(W_dec.detach().float().cpu(), dim=1)
