"""AuxK: a loss that brings dead latents back while a dictionary trains (Gao et al. 2024, arXiv 2406.04093, A.2; f and h
are ours).

    AuxK   aux_coefficient · f³ · min(1, n_dead / k_aux) · h(A) / (B·V)

    e      x_hat − x, held fixed
    ê      the reconstruction of −e from the k_aux largest pre-activations among the dead latents;  k_aux = d / 2
    A      Σ_i ‖ê_i + e_i‖²
    E      Σ_i ‖e_i‖²
    h(A)   A up to E; beyond it 2√(A·E) − E
    f      min(1, 12 FVU)
    B, V   rows of the batch; total variance of the outputs

f: while the FVU is above a twelfth, AuxK weighs as much as the main loss; below it, less and less. The paper's code
divides by the size of e, so its weight relative to the main loss is 1/32 / FVU: 2 at an FVU of 0.015, which occurs if
few dimensions hold all the variance. Revived latents then outweigh those that reconstruct.

h: at high learning rates ê (k_aux latents that are on in every row) can become many times as large as e. The gradient
of A then does little but shrink them. h, the loss of Huber (1964) of √(A / E), stops the pull from growing beyond E.

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
"""The FVU above which dead latents are revived in full."""


def revival_weight(fvu: float) -> float:
    """Return f: the weight of reviving dead latents at this FVU, in 0..1."""
    return min(1.0, fvu / _FULL_FVU)


def auxk(forward: ForwardPass, dead: Int[Tensor, " dead"], coefficient: float) -> Float[Tensor, ""]:
    """Return this process's part of the loss, in units of the whole loss.

    dead: the dead ones among this process's latents. coefficient: aux_coefficient · f³.

    Without a ReLU, a latent that is below zero on every row still gets a gradient and is revived.
    """
    k_aux = max(1, forward.error.shape[1] // 2)
    rows = forward.batch.strided_rows(forward.n_dead, k_aux)
    error = forward.error[rows]
    z = forward.pre_activations(dead, rows)
    shards = forward.batch.grid.shards
    if forward.n_dead > k_aux:
        largest, latents = z.detach().topk(min(k_aux, len(dead)), dim=1, sorted=False)
        left_out = torch.ones_like(z, dtype=torch.bool)
        left_out.scatter_(1, latents, ~forward.mark_largest(largest, k_aux))
        z = z.masked_fill(left_out, 0)
    if shards.count == 1:
        revived = torch.addmm(error, z, forward.decoder_rows(dead))
    else:
        revived = error + sum_of_shards(z @ forward.decoder_rows(dead), shards)
    revived_square = torch.linalg.vector_norm(revived).square()  # of ê + e
    error_square = torch.linalg.vector_norm(error).square()  # of e
    revived_total, error_total = forward.everywhere(revived_square, error_square)
    # h(A) = h'(A) A, and beyond E further h'(A) A − E
    pull = math.sqrt(error_total / revived_total) if revived_total > error_total else 1.0  # h'(A)
    beyond = pull * revived_square.detach() - error_square if pull < 1 else 0.0
    weight = coefficient * min(1.0, forward.n_dead / k_aux) / (forward.batch.rows_in(rows) * forward.variance)
    return weight * (pull * revived_square + beyond)
