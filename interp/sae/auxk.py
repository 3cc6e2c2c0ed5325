"""AuxK: a loss that brings dead latents back while a dictionary trains.

    AuxK         aux_coefficient · f³ · min(1, n_dead / k_aux) · h(A) / (B·V),  A = Σ_i ‖ê_i + e_i‖²
                 ê reconstructs −e from the k_aux = d / 2 largest pre-activations among the dead latents; e and
                 E = Σ_i ‖e_i‖² are held fixed; h(A) = A up to E, beyond it 2√(A·E) − E
                 (Gao et al. 2024, arXiv 2406.04093, A.2, without f and h)

f = min(1, 12 FVU): while the FVU is above a twelfth, AuxK weighs as much as the main loss; below it, less and less. The
paper's code divides by the size of e, so its weight relative to the main loss is 1/32 / FVU: 2 at an FVU of 0.015,
which occurs if few dimensions hold all the variance. Revived latents then outweigh those that reconstruct. At high
learning rates ê (k_aux latents that are on in every row) can also become many times as large as e, and its gradient
then does little but shrink them. h, the loss of Huber (1964) of √(A / E), stops the pull from growing beyond E.

AuxK is dense over the dead latents alone. If many are dead, a share of the rows represents the batch (A, E and B are
then of that share), so the cost stays bounded. AuxK makes dead latents faint; `resampling` handles those.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.sae.forward_pass import ForwardPass
from interp.sae.sparse_ops import sum_of_shards

_FULL_FVU = 1 / 12
"""Above it dead latents are revived in full."""


def fading(fvu: float) -> float:
    """Return f: the weight of reviving dead latents at this FVU, in 0..1."""
    return min(1.0, fvu / _FULL_FVU)


def auxk(f: ForwardPass, dead: Int[Tensor, " dead"], coefficient: float) -> Float[Tensor, ""]:
    """Return this process's part of the loss, in units of the whole loss. `coefficient`: with f³; `dead`: of its own
    latents.

    Without a ReLU, a latent that is below zero on every row still gets a gradient and is revived.
    """
    k_aux = max(1, f.error.shape[1] // 2)
    rows = f.batch.strided_rows(f.n_dead, k_aux)
    error = f.error[rows]
    z = f.pre_activations(dead, rows)
    shards = f.batch.mesh.shards
    if f.n_dead > k_aux:
        largest, latents = z.detach().topk(min(k_aux, len(dead)), dim=1, sorted=False)
        left_out = torch.ones_like(z, dtype=torch.bool)
        left_out.scatter_(1, latents, False if shards.count == 1 else ~f.among_largest(largest, k_aux))
        z = z.masked_fill(left_out, 0)
    if shards.count == 1:
        revived = torch.addmm(error, z, f.decoder_rows(dead))
    else:
        revived = error + sum_of_shards(z @ f.decoder_rows(dead), shards)
    missed = torch.linalg.vector_norm(revived).square()  # of ê + e
    left = torch.linalg.vector_norm(error).square()  # of e
    a, e = f.everywhere(missed, left)
    pull = math.sqrt(e / a) if a > e else 1.0  # h'(A); and h(A) = h'(A) A + (h'(A) A − E) beyond E
    beyond = pull * missed.detach() - left if pull < 1 else 0.0
    weight = coefficient * min(1.0, f.n_dead / k_aux) / (f.batch.rows_in(rows) * f.variance)
    return weight * (pull * missed + beyond)
