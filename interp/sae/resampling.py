"""Idle latents drawn again: a new start at rows that are reconstructed badly.

A dead or faint latent (`interp.codes`) is drawn along a row chosen ∝ (its loss)² (Towards Monosemanticity, 2023), or
along what the reconstruction of a row lacks, chosen ∝ (its loss / ‖row‖²)².

AuxK alone makes dead latents faint: on the demo's activations it leaves .5 % dead and 33 % faint. Latents that are
drawn again (`resample_missing`) begin as a step of matching pursuit does, with what is missing in one row; no two begin
with the same. Then 2 % are idle, at an FVU of .043, not .046. Rows are chosen by the share that is lost: by the loss
itself, where few rows are several times as long as others, latents are drawn at these, and their like on held-out text
fires them a hundredfold (SmolLM2, layer 15: a seventh of the error on two rows of 20,309). A latent begins as strongly
as it helps on the rows of a batch, and not at all where it helps little: where nothing is missing but noise, those
drawn as strong as one row lacks make the others worse (BatchTopK on a hook of few dimensions: FVU .018 in place of
.0155).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.storage.processes import Processes

_RESERVOIR_STEPS = 100
_RESAMPLED_ENCODER = 0.2
MAX_ROWS = 4096
"""Rows that are kept to draw latents again at, and compared, each with each."""


@dataclass
class Resampler:
    """Rows to draw latents again at: a weighted reservoir (Efraimidis & Spirakis 2006) of the steps before.

    Row i stays while ln(u_i) / loss_i² is among the largest, u_i uniform: a sample ∝ loss² without replacement.
    """

    at: tuple[int, ...]
    """Steps, counted from 1, after which idle latents are resampled."""
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

    def take(self) -> Float[Tensor, "row d_in"]:
        """All rows, those first that were drawn first; the reservoir is empty after it."""
        rows = self.rows
        self.rows, self.keys = self.rows[:0], self.keys[:0]
        return rows

    def state(self) -> dict[str, Tensor]:
        return {"resample.rows": self.rows, "resample.keys": self.keys}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.rows, self.keys = tensors["resample.rows"], tensors["resample.keys"]


def resample(
    weights: dict[str, Tensor],
    moments: list[dict[str, Tensor]],
    initial: dict[str, float],
    idle: Int[Tensor, " idle"],
    rows: Float[Tensor, "row d_in"],
) -> Int[Tensor, " latent"]:
    """Point decoder and encoder rows of idle latents along centred rows, the latter at a fifth of the mean norm of the
    others'. Returns which: as many as there are rows.

    Adam forgets what it knew of them; parameters of the architecture go back to where they began.
    """
    idle, rows = idle[: len(rows)], rows[: len(idle)]
    others = torch.ones(len(weights["W_dec"]), dtype=torch.bool, device=idle.device)
    others[idle] = False
    norm = (
        weights["encoder_rows"][others].norm(dim=1).mean()
        if others.any()
        else weights["encoder_rows"].norm(dim=1).mean()
    )
    along = torch.nn.functional.normalize(rows, dim=1)
    new = {"W_dec": along, "encoder_rows": _RESAMPLED_ENCODER * norm * along, "b_enc": 0.0, **initial}
    _replace(weights, moments, idle, new)
    return idle


def resample_missing(
    weights: dict[str, Tensor],
    moments: list[dict[str, Tensor]],
    initial: dict[str, float],
    idle: Int[Tensor, " idle"],
    rows: Float[Tensor, "row d_in"],
    missing: Float[Tensor, "row d_in"],
    precision: Float[Tensor, "d_in d_in"],
    batch: tuple[Float[Tensor, "batch d_in"], Float[Tensor, "batch d_in"]],
) -> Int[Tensor, " latent"]:
    """Let idle latents each add what is missing in a centred row, there and on rows that are much like it. Returns
    which: there may be fewer rows that are unlike than idle latents. batch: further centred rows and what they lack.

    The encoder is a matched filter, P row with P the inverse of the rows' covariance: of all that respond alike to the
    row it responds least to others. Where it responds half as much or less the latent does not fire; else its value is
    strength · a, a in proportion to what is beyond the half and 1 on the row. With d its direction, m what is missing,

        strength = Σ a (m · d) / Σ a²         over the row itself and the batch: what lowers the squared error the most

    Rows at which that is less than half of what is missing are left out, and those on which the latent of another would
    fire: both would add the same.
    """
    filters = rows @ precision
    filters = filters / (filters * rows).sum(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    kept = _unlike(filters @ rows.T > 0.5)
    filters, lost = filters[kept], missing[kept].norm(dim=1)
    along = torch.nn.functional.normalize(missing[kept], dim=1)
    a = torch.relu(2 * batch[0] @ filters.T - 1)
    strength = (lost + (a * (batch[1] @ along.T)).sum(0)) / (1 + a.square().sum(0))
    helps = (strength > lost / 2).nonzero()[: len(idle), 0]
    latents, strength = idle[: len(helps)], strength[helps]
    new = {"W_dec": along[helps], "encoder_rows": 2 * strength[:, None] * filters[helps], "b_enc": -strength, **initial}
    _replace(weights, moments, latents, new)
    return latents


def _unlike(alike: Bool[Tensor, "row row"]) -> Int[Tensor, " kept"]:
    """The first row, and each that is like none before it that is kept, nor they like it."""
    alike, left = (alike | alike.T).cpu(), torch.ones(len(alike), dtype=torch.bool)
    kept = []
    for row in range(len(alike)):
        if left[row]:
            kept.append(row)
            left &= ~alike[row]
    return torch.tensor(kept, dtype=torch.int64)


def _replace(
    weights: dict[str, Tensor], moments: list[dict[str, Tensor]], latents: Int[Tensor, " latent"], new: dict[str, Any]
) -> None:
    """`moments`: Adam's means, which begin at 0, and its squares, which begin where those of all latents are: from 0
    its first steps would be several times the learning rate."""
    means, squares = moments
    for name, values in new.items():
        weights[name][latents] = values
        means[name][latents] = 0
        squares[name][latents] = squares[name].mean(0)
