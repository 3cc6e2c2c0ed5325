"""BatchTopK and Matryoshka: the k·B largest pre-activations of a batch of B rows; trained, those above a threshold.

    BatchTopK    loss = ‖x_hat − x‖²                                                     (arXiv 2412.06410)
    Matryoshka   the mean of that over the dictionaries that prefixes of the latents make (arXiv 2503.17547)

The threshold is a running mean of the smallest value that was picked (in the paper the mean over batches once trained).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes import SparseCodes
from interp.processes import Processes
from interp.sae.architectures.topk import PickConfig
from interp.sae.forward_pass import ForwardPass
from interp.sae.kernels import PreActivations, kernels, pick_kernels
from interp.sae.rules import MARGIN, Threshold

_THRESHOLD_DECAY = 0.999


@dataclass(frozen=True)
class BatchPick:
    """The n largest of the rows of all processes. Each shortlists as many as the whole batch may have; the values
    decide among all, and ties go to the first rows, as in one process."""

    n: int
    processes: Processes
    by_row: ClassVar[bool] = False

    def pick(self, pre: PreActivations) -> SparseCodes:
        return self.choose(pick_kernels(pre).batch_top_k(pre, min(self.n, pre.numel())))

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).batch_top_k(pre, min(self.n + max(MARGIN, self.n // 16), pre.numel()))

    def choose(self, codes: SparseCodes) -> SparseCodes:
        ops = kernels(codes.values)
        if self.processes.count == 1:
            return ops.keep_batch_top_k(codes, self.n)
        values = self.processes.gather(codes.values)
        if len(values) <= self.n:
            return ops.keep_batch_top_k(codes, codes.nnz)
        least = values.kthvalue(len(values) - self.n + 1).values
        ties = self.processes.gather((codes.values == least).sum()[None])
        left = self.n - int((values > least).sum()) - int(ties[: self.processes.rank].sum())
        kept = min(max(left, 0), int(ties[self.processes.rank]))
        return ops.keep_batch_top_k(codes, int((codes.values > least).sum()) + kept)


@dataclass(frozen=True, kw_only=True)
class BatchTopKConfig(PickConfig):
    """Bussmann et al. 2024, arXiv 2412.06410."""

    architecture: ClassVar[str] = "batchtopk"

    def pick(self, f: ForwardPass) -> BatchPick:
        return BatchPick(self.k_at(f.step) * f.batch.rows, f.batch.processes)

    def initial_state(self) -> dict[str, float]:
        return {f"threshold_{part}_{i}": 0.0 for i in range(self.refinements + 1) for part in ("sum", "weight")}

    def observe(self, f: ForwardPass) -> None:
        """The smallest value that each pass picked. The mean spans at most a twentieth of the steps."""
        decay = min(_THRESHOLD_DECAY, max(0.0, 1 - 20 / self.steps))
        for i, (_, values) in enumerate(f.passes):
            mine = values.detach().min() if len(values) else values.new_tensor(float("inf"))
            least = float(f.batch.processes.gather(mine[None]).min())
            f.state[f"threshold_sum_{i}"] *= decay
            f.state[f"threshold_sum_{i}"] += (1 - decay) * (least if least < float("inf") else 0.0)
            f.state[f"threshold_weight_{i}"] = decay * f.state[f"threshold_weight_{i}"] + (1 - decay)

    def trained_pass(self, i: int, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        weight = state[f"threshold_weight_{i}"]
        threshold = state[f"threshold_sum_{i}"] / weight if weight else 0.0
        return Threshold(torch.full_like(weights["b_enc"], threshold))


@dataclass(frozen=True, kw_only=True)
class MatryoshkaConfig(BatchTopKConfig):
    """Each prefix of the latents reconstructs on its own; the loss is the mean over the prefixes (Bussmann et al. 2025,
    arXiv 2503.17547)."""

    architecture: ClassVar[str] = "matryoshka"
    groups: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)
    """Shares of the latents that each prefix adds to the one before (the paper's); they sum to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.groups or min(self.groups) <= 0 or abs(sum(self.groups) - 1) > 1e-6:
            raise ValueError(f"groups={self.groups} must be positive shares that sum to 1")
        if len({0, *self.ends}) <= len(self.ends):
            raise ValueError(f"groups={self.groups} leave a group without a latent at d_sae={self.d_sae}: use fewer")

    @property
    def ends(self) -> tuple[int, ...]:
        """Where each prefix ends."""
        total, ends = 0.0, []
        for share in self.groups:
            total += share
            ends.append(round(total * self.d_sae))
        return tuple(ends)

    def loss(self, f: ForwardPass) -> Float[Tensor, ""]:
        return f.squared_error(ends=self.ends)
