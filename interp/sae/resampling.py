"""Resample idle latents: give them a new start at rows that are reconstructed badly.

    rows        a weighted reservoir (Efraimidis & Spirakis 2006): row i stays while ln(u_i) / loss_i² is among the
                largest, u_i uniform; a sample ∝ loss² without replacement
    latents     each along a row (`latents_along_rows`: Towards Monosemanticity, 2023), or along the residual of a row
                (`latents_along_residuals`), with rows drawn ∝ (loss / ‖row‖²)²

AuxK alone makes dead latents faint. A latent resampled along a residual starts as a step of matching pursuit does, and
no two start at the same row. Then few latents are idle, and the FVU is lower.

Rows are chosen by the share of them that is lost, not by the loss itself. If a few rows are several times as long as
the others, choosing by the loss would put the new latents at these few rows. On held-out text, similar rows would then
fire them far more strongly, and a few rows would have much of the error.

A latent starts as strong as is best on the rows of a batch, and is not drawn if it helps little. If only noise is
missing, latents as strong as what one row lacks make the others worse.

A draw compares its rows with one another and with rows of a batch. `n_compared_rows` keeps the cost below a twentieth
of the run, however long the run and however wide the dictionary.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.sae.encode_rows import has_fast_bfloat16
from interp.sae.forward_pass import GlobalBatch

MAX_KEPT_ROWS = 4096
"""Rows that are kept for resampling."""
BATCH_ROWS = 1024
"""Rows of a batch on which the benefit of a latent is measured: with a quarter of them FVU is higher."""
CANDIDATES_PER_LATENT = 4
"""Candidate rows per idle latent: some are similar to others, and on some a latent would help little."""
_MIN_KEPT_ROWS = 64
_COLLECTED_SHARE = 1 / 3
_MAX_COLLECTED_STEPS = 100
"""Rows are collected in the last steps before a draw: in this share of the steps since the draw before it, and in at
most this many. More steps would give other rows, not better ones, and collecting costs a part of a step that counts if
the dictionary is small."""
_RESAMPLED_ENCODER = 0.2
_MAX_COST_SHARE = 0.05
"""Largest cost of the comparisons of a resampling, as a share of the encoder's matmuls since the previous one."""


class NewLatents(NamedTuple):
    """The weights with which resampled latents start."""

    W_dec: Float[Tensor, "latent d_out"]
    encoder_rows: Float[Tensor, "latent d_in"]
    b_enc: Float[Tensor, " latent"]


def n_compared_rows(d_sae: int, batch_size: int, at: Sequence[int]) -> int:
    """Return the number of rows to compare, so that resampling at these steps costs little compared with the steps
    between.

    n rows make n² pairs with one another and 2 n `BATCH_ROWS` with rows of the batch; a step makes batch_size · d_sae.
    """
    steps = min((after - before for before, after in itertools.pairwise((0, *at))), default=0)
    pairs = _MAX_COST_SHARE * steps * batch_size * d_sae
    return min(d_sae, MAX_KEPT_ROWS, max(_MIN_KEPT_ROWS, round(math.sqrt(BATCH_ROWS**2 + pairs) - BATCH_ROWS)))


@dataclass
class Reservoir:
    """Centred rows, and their residuals, from the steps before a resampling."""

    at: tuple[int, ...]
    """Steps, counted from 1, after which idle latents are resampled."""
    size: int
    seed: int
    rows: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    missing: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    keys: Tensor = field(default_factory=lambda: torch.empty(0))

    def collects(self, step: int) -> bool:
        """Return whether rows of this step are collected."""
        for before, at in itertools.pairwise((0, *self.at)):
            steps = min(_MAX_COLLECTED_STEPS, math.ceil(_COLLECTED_SHARE * (at - before)))
            if at - steps < step <= at:
                return True
        return False

    def collect(
        self,
        step: int,
        rows: Float[Tensor, "row d_in"],
        error: Float[Tensor, "row d_out"],
        loss: Float[Tensor, " row"],
        batch: GlobalBatch,
    ) -> None:
        """Add the drawn rows of this process; all processes keep the same reservoir."""
        losses = batch.grid.data.all_gather(loss)
        n_before = len(self.keys)
        generator = torch.Generator().manual_seed((self.seed << 32) + step)
        uniform = torch.rand(len(losses), generator=generator, dtype=torch.float64).clamp_(min=1e-300)
        new_keys = uniform.log().to(losses) / losses.square().clamp(min=torch.finfo(losses.dtype).tiny)
        keys = torch.cat([self.keys.to(new_keys), new_keys])
        drawn = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
        drawn[keys.topk(min(self.size, len(keys))).indices] = True
        drawn_here = drawn[n_before + batch.first : n_before + batch.first + len(rows)].nonzero()[:, 0]
        new_rows, new_missing = (
            batch.grid.data.all_gather(rows[drawn_here]),
            batch.grid.data.all_gather(-error[drawn_here]),
        )
        if n_before:
            stay = drawn[:n_before]
            new_rows = torch.cat([self.rows[stay], new_rows])
            new_missing = torch.cat([self.missing[stay], new_missing])
        self.rows = new_rows
        self.missing = new_missing
        self.keys = keys[drawn]

    def draw(self, n: int) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
        """Empty the reservoir, and return at most n rows with their residuals, in the order of their priority."""
        order = self.keys.topk(min(n, len(self.keys))).indices
        drawn = self.rows[order], self.missing[order]
        self.rows, self.missing, self.keys = self.rows[:0], self.missing[:0], self.keys[:0]
        return drawn

    def state(self) -> dict[str, Tensor]:
        return {"resample.rows": self.rows, "resample.missing": self.missing, "resample.keys": self.keys}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.rows, self.missing = tensors["resample.rows"], tensors["resample.missing"]
        self.keys = tensors["resample.keys"]


def latents_along_rows(rows: Float[Tensor, "row d_in"], mean_norm: Float[Tensor, ""]) -> NewLatents:
    """Return latents that point along centred rows, their encoder at a fifth of the mean norm of the others' encoder
    rows."""
    along = torch.nn.functional.normalize(rows, dim=1)
    return NewLatents(along, _RESAMPLED_ENCODER * mean_norm * along, along.new_zeros(len(along)))


def latents_along_residuals(
    rows: Float[Tensor, "row d_in"],
    missing: Float[Tensor, "row d_in"],
    precision: Float[Tensor, "d_in d_in"],
    batch_rows: Float[Tensor, "batch d_in"],
    batch_missing: Float[Tensor, "batch d_in"],
) -> NewLatents:
    """Return latents that each add the residual of a centred row, on it and on similar rows; there may be fewer latents
    than rows.
    batch_rows, batch_missing: further centred rows and their residuals, on which each latent is tried: a part of a
    batch.

    The encoder is a matched filter, P row with P the inverse of the rows' covariance. Among filters with the same
    response to its own row, it has the smallest mean square response to the other rows. If it responds half as much or
    less, the latent does not fire; else its value is strength · a, with a proportional to the response beyond the half,
    and 1 on the row. With d its direction and m the residual,

        strength = Σ a (m · d) / Σ a²         over the row itself and the batch: it minimises the squared error

    Rows at which this is less than half of the residual are left out. So are rows on which another row's new latent
    would fire, because both would add the same.
    """
    filters = rows @ precision
    filters = filters / (filters * rows).sum(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    independent = _independent_set(_product(filters, rows) > 0.5)
    filters, missing = filters[independent], missing[independent]
    lost = missing.norm(dim=1)
    along = torch.nn.functional.normalize(missing, dim=1)
    a = torch.relu(2 * _product(batch_rows, filters) - 1)
    strength = (lost + (a * _product(batch_missing, along)).sum(0)) / (1 + a.square().sum(0))
    helps = strength > lost / 2
    strength = strength[helps]
    return NewLatents(along[helps], 2 * strength[:, None] * filters[helps], -strength)


def _product(a: Float[Tensor, "i d"], b: Float[Tensor, "j d"]) -> Float[Tensor, "i j"]:
    """Return a bᵀ, with bfloat16 if that is faster."""
    if min(len(a), len(b)) < _MIN_KEPT_ROWS or not has_fast_bfloat16(a):
        return a @ b.T
    return (a.bfloat16() @ b.bfloat16().T).to(a.dtype)


def _independent_set(alike: Bool[Tensor, "row row"]) -> Int[Tensor, " kept"]:
    """Return the greedy maximal independent set of the graph that joins rows which are alike in either direction.

    A row is in it if no earlier row of the set is joined to it. Each round decides all rows at once that are joined to
    no undecided earlier row: they are kept, and the rows joined to them are left out.
    """
    alike = alike | alike.T
    before = alike.tril(-1).to(torch.float32)
    undecided = torch.ones(len(alike), device=alike.device)
    in_set = torch.zeros_like(undecided)
    while bool(undecided.any()):
        free = undecided * (before @ undecided == 0)
        in_set += free
        undecided = undecided * (1 - free) * (before @ free == 0)
    return in_set.nonzero()[:, 0]
