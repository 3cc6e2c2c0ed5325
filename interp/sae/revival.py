"""What brings dead latents back.

    AuxK            aux_coefficient · f³ · min(1, n_dead / k_aux) · h(A) / (B·V),  A = Σ_i ‖ê_i + e_i‖²
                    ê reconstructs −e from the k_aux = d / 2 largest pre-activations among the dead latents; e and
                    E = Σ_i ‖e_i‖² are held fixed; h(A) = A up to E, beyond it 2√(A·E) − E
                    (Gao et al. 2024, arXiv 2406.04093, A.2, without f and h)
    pre-activation  λ · f² · mean over rows of Σ_j ReLU(θ_j − pre_j) ‖W_dec[j]‖ over dead latents j
                    (Anthropic, January 2025, without f)
    resampling      a dead latent begins anew at a row drawn ∝ (its loss)² (Towards Monosemanticity, 2023)

f = min(1, 12 FVU): while the FVU is above a twelfth AuxK weighs as much as the main loss, below it less and less. The
paper's code divides by the size of e, so that its weight beside the main loss is 1/32 / FVU: 2 at an FVU of .015, as
where few dimensions hold all the variance. Revived latents then outweigh those that reconstruct. At high rates ê, k_aux
latents that are on in every row, can also become many times as large as e; its gradient then does little but shrink
them. h is the loss of Huber (1964) of √(A / E): beyond E the pull grows no further.

The losses are dense over the dead latents alone, so they cost little while few are dead; where many are, a share of the
rows stands for the batch (A, E and B are then of that share), so that the cost stays bounded.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.processes import Processes
from interp.sae.gradients import Gradients
from interp.sae.optimizer import squared_norm
from interp.sae.rules import Weights

_FULL_FVU = 1 / 12
"""Above it dead latents are drawn back in full."""
_RESERVOIR_STEPS = 100
_REBORN_ENCODER = 0.2


class Batch(NamedTuple):
    """Where the rows of this process stand in the batch of all."""

    rows: int
    """Of the whole batch."""
    first: int
    processes: Processes

    def spread(self, n_dead: int, enough: int) -> slice:
        """Every s-th row of the whole batch, s so large that rows · n_dead stays below 2 · rows · enough."""
        step = max(1, -(-n_dead // (2 * enough)))
        return slice(-self.first % step, None, step)

    def rows_in(self, rows: slice) -> int:
        """How many rows these slices hold, of all processes together."""
        return len(range(0, self.rows, rows.step))


def fading(fvu: float) -> float:
    """f: how strongly dead latents are drawn back at this FVU, in 0..1."""
    return min(1.0, fvu / _FULL_FVU)


def add_auxk(
    gradients: Gradients,
    w: Weights,
    x: Float[Tensor, "row d_in"],
    error: Float[Tensor, "row d_out"],
    dead: Int[Tensor, " dead"],
    coefficient: float,
    variance: float,
    batch: Batch,
    tied_input: bool,
) -> float:
    """Add to the gradients; the result is this process's part of the loss. `coefficient`: with f³.

    There is no ReLU here: a latent that is below zero on every row gets a gradient all the same, and comes back.
    `tied_input`: x was centred by b_dec, whose gradient therefore gets a part.
    """
    k_aux = max(1, error.shape[1] // 2)
    if len(dead) == 0 or coefficient == 0:
        return 0.0
    rows = batch.spread(len(dead), k_aux)
    x, error = x[rows], error[rows]
    encoder, W_dec = w.encoder[dead], w.W_dec[dead]
    z = torch.addmm(w.b_enc[dead], x, encoder.T)
    left_out = None
    if len(dead) > k_aux:
        left_out = torch.ones_like(z, dtype=torch.bool)
        left_out.scatter_(1, z.topk(k_aux, dim=1, sorted=False).indices, False)
        z.masked_fill_(left_out, 0)
    left = torch.addmm(error, z, W_dec)  # ê + e
    sums = torch.tensor([squared_norm(left), squared_norm(error)], dtype=torch.float64)
    missed, there = batch.processes.sum_(sums).tolist()  # A, E
    pull = math.sqrt(there / missed) if missed > there else 1.0  # h'(A)
    total = batch.rows_in(rows) * variance
    weight = coefficient * min(1.0, len(dead) / k_aux) / total
    slope = 2 * weight * pull * left
    z_slope = slope @ W_dec.T
    if left_out is not None:
        z_slope.masked_fill_(left_out, 0)
    gradients["W_dec"][dead] += z.T @ slope
    _add_encoder(gradients, dead, z_slope, x, encoder, tied_input)
    return weight * (2 * pull * missed - there if pull < 1 else missed) / batch.processes.count


def add_pre_activation_loss(
    gradients: Gradients,
    w: Weights,
    x: Float[Tensor, "row d_in"],
    dead: Int[Tensor, " dead"],
    threshold: Float[Tensor, " d_sae"],
    norms: Float[Tensor, " dead"],
    coefficient: float,
    batch: Batch,
    tied_input: bool,
) -> float:
    """`coefficient` = λ f² / V. The norms are held fixed."""
    if len(dead) == 0 or coefficient == 0:
        return 0.0
    rows = batch.spread(len(dead), x.shape[1])
    weight = coefficient / batch.rows_in(rows)
    x, encoder = x[rows], w.encoder[dead]
    below = threshold[dead] - torch.addmm(w.b_enc[dead], x, encoder.T)
    slope = -weight * norms * (below > 0)
    gradients["threshold"][dead] -= slope.sum(0)
    _add_encoder(gradients, dead, slope, x, encoder, tied_input)
    return float(weight * (below.relu() * norms).sum())


@dataclass
class Resampler:
    """Rows to begin anew at: a weighted reservoir (Efraimidis & Spirakis 2006) of the steps before a resampling.

    Row i stays while ln(u_i) / loss_i² is among the largest, u_i uniform: a sample ∝ loss² without replacement.
    """

    at: tuple[int, ...]
    """Steps, counted from 1, after which dead latents are begun anew."""
    size: int
    seed: int
    processes: Processes
    rows: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    keys: Tensor = field(default_factory=lambda: torch.empty(0))

    def collects(self, step: int) -> bool:
        return any(step <= at < step + _RESERVOIR_STEPS for at in self.at)

    def collect(self, step: int, x: Float[Tensor, "row d_in"], loss: Float[Tensor, " row"]) -> None:
        x, loss = self.processes.gather(x), self.processes.gather(loss)
        generator = torch.Generator().manual_seed((self.seed << 32) + step)
        uniform = torch.rand(len(x), generator=generator, dtype=torch.float64).clamp_(min=1e-300)
        keys = uniform.log().to(loss) / loss.square().clamp(min=torch.finfo(loss.dtype).tiny)
        if len(self.keys):
            x, keys = torch.cat([self.rows, x]), torch.cat([self.keys, keys])
        kept = keys.topk(min(self.size, len(keys))).indices
        self.rows, self.keys = x[kept], keys[kept]

    def due(self, step: int) -> bool:
        return step in self.at

    def take(self, n: int) -> Float[Tensor, "n d_in"]:
        """Up to n rows, the reservoir is empty after it."""
        rows = self.rows[:n]
        self.rows, self.keys = self.rows[:0], self.keys[:0]
        return rows

    def state(self) -> dict[str, Tensor]:
        return {"resample.rows": self.rows, "resample.keys": self.keys}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.rows, self.keys = tensors["resample.rows"], tensors["resample.keys"]


def begin_anew(
    weights: dict[str, Tensor],
    moments: list[dict[str, Tensor]],
    initial: dict[str, float],
    dead: Int[Tensor, " dead"],
    rows: Float[Tensor, "dead d_in"],
) -> None:
    """Decoder rows point to the given rows (centred), encoder rows too, at a fifth of the mean norm of those alive.

    Adam forgets what it knew of them; parameters of the rule go back to where they began.
    """
    dead = dead[: len(rows)]
    if len(dead) == 0:
        return
    alive = torch.ones(len(weights["W_dec"]), dtype=torch.bool, device=dead.device)
    alive[dead] = False
    norm = weights["encoder"][alive].norm(dim=1).mean() if alive.any() else weights["encoder"].norm(dim=1).mean()
    directions = rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    weights["W_dec"][dead] = directions
    weights["encoder"][dead] = _REBORN_ENCODER * norm * directions
    for name, value in {"b_enc": 0.0, **initial}.items():
        weights[name][dead] = value
    for moment in moments:
        for name in ("W_dec", "encoder", "b_enc", *initial):
            moment[name][dead] = 0


def _add_encoder(
    gradients: Gradients, dead: Tensor, z_slope: Tensor, x: Tensor, encoder: Tensor, tied_input: bool
) -> None:
    biases = z_slope.sum(0)
    gradients["encoder"][dead] += z_slope.T @ x
    gradients["b_enc"][dead] += biases
    if tied_input:
        gradients["b_dec"] -= biases @ encoder
