"""Which latents fire while a dictionary trains: what rules over pre-activations are, and those that count picks.

    pre = u + b_enc,   u = (x − b_dec) W_enc,      z = what the rule makes of the part of pre that it picks

A rule in training picks entries of pre, says what they are worth (z), and carries the gradient back from z to u, to
the bias and to parameters of its own (a threshold, …), adding that of its penalty; see `architectures` for the sources.
Trained, each becomes one of `interp.sae.rules`. Rules that go by a threshold and a penalty are in `thresholds`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes import SparseCodes
from interp.processes import Processes
from interp.sae.architectures import BatchTopKConfig, SAEConfig, TopKConfig
from interp.sae.kernels import PreActivations, kernels, pick_kernels
from interp.sae.rules import Rule, Threshold, TopK

_MARGIN = 8
"""Picks beyond k that low precision shortlists, to be ranked at full precision; of a batch at least so many."""


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One batch, forward, and what is known of the loss's slope: what a rule needs on the way back."""

    picked: SparseCodes
    """Pre-activations of the entries."""
    codes: SparseCodes
    """z of the same entries."""
    gradient: Float[Tensor, " nnz"]
    """d reconstruction loss / d z."""
    norms: Float[Tensor, " d_sae"]
    """‖W_dec[j]‖, for several hooks the sum of the norms of its parts."""
    variance: float
    """V; a penalty of size 1 on each row adds λ / V to the loss."""
    rows: int
    """Of the whole batch, over all processes."""
    by_latent: Callable[[Float[Tensor, " nnz"]], Float[Tensor, " d_sae"]]
    """Sums over the entries of each latent."""
    reconstruct: Callable[[SparseCodes], tuple[float, Float[Tensor, " nnz"]]]
    """The reconstruction loss of other values of the same entries and its slope, the decoder held fixed."""


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """What a rule makes of it."""

    pre: Float[Tensor, " nnz"]
    """d loss / d u"""
    bias: Float[Tensor, " nnz"] | None = None
    """d loss / d b_enc of each entry, where it is another than that of u."""
    norms: Float[Tensor, " d_sae"] | None = None
    """d loss / d ‖W_dec[j]‖"""
    parameters: dict[str, Float[Tensor, " d_sae"]]
    loss: float = 0.0
    """What the penalty adds, over the rows of this process."""


class Trained(NamedTuple):
    rule: Rule
    stretch: Float[Tensor, " d_sae"]
    """What the rows of the encoder are multiplied with."""
    b_enc: Float[Tensor, " d_sae"]


class TrainingRule:
    """Picks of a dictionary in training. Subclasses say what differs from picks that are z themselves."""

    by_row = True
    """Whether a row's picks depend on that row alone, so that a batch may be picked piece by piece."""
    penalises_norms = False
    """Whether the penalty grows with the norms of the decoder's rows."""
    initial: dict[str, float] = {}
    """Parameters of its own, one number a latent, and where they begin."""

    def __init__(self, config: SAEConfig, processes: Processes):
        self.processes = processes
        self.parameters: dict[str, Tensor] = {}
        self.at_step = 0

    def place(self, weights: dict[str, Tensor], spread: float) -> None:
        """Add the parameters to the weights; what learns there is what the rule reads.

        `spread`: standard deviation of the pre-activations, as training begins.
        """
        self.parameters = weights
        for name, value in self.initial.items():
            weights[name] = torch.full_like(weights["b_enc"], value)

    def pick(self, pre: PreActivations) -> SparseCodes:
        raise NotImplementedError

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        """From pre-activations of low precision: at least what `pick` takes."""
        raise NotImplementedError

    def choose(self, codes: SparseCodes) -> SparseCodes:
        """What `pick` takes, among a shortlist at full precision."""
        raise NotImplementedError

    def fire(self, picked: SparseCodes) -> SparseCodes:
        return picked

    def backward(self, firing: Firing) -> Slopes:
        return Slopes(pre=firing.gradient, parameters={})

    def observe(self, codes: SparseCodes) -> None:
        """Learn from the picks of a step."""

    def project(self) -> None:
        """Bring parameters back to where they may be, after an update."""

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        """What becomes of it, with the weights that are saved."""
        raise NotImplementedError

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Nothing to restore."""


class TrainingTopK(TrainingRule):
    def __init__(self, config: TopKConfig, processes: Processes):
        super().__init__(config, processes)
        self.config = config

    @property
    def k(self) -> int:
        return self.config.k_at(self.at_step)

    def pick(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).top_k(pre, self.k)

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).top_k(pre, min(self.k + _MARGIN, pre.shape[1]))

    def choose(self, codes: SparseCodes) -> SparseCodes:
        return kernels(codes.values).keep_top_k(codes, self.k)

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        return trained_as(TopK(self.config.k), weights)


class TrainingBatchTopK(TrainingRule):
    """Of several processes each shortlists as many as the whole batch may have; the values decide among all."""

    by_row = False

    def __init__(self, config: BatchTopKConfig, processes: Processes):
        super().__init__(config, processes)
        self.config = config
        self.decay = min(config.threshold_decay, max(0.0, 1 - 20 / config.steps))
        self._sum, self._weight = 0.0, 0.0
        self._n = 0

    def _picks(self, rows: int) -> int:
        """Of the whole batch."""
        everywhere = int(self.processes.sum_(torch.tensor(rows)))
        return self.config.k_at(self.at_step) * everywhere

    def pick(self, pre: PreActivations) -> SparseCodes:
        self._n = self._picks(len(pre))
        return self.choose(pick_kernels(pre).batch_top_k(pre, min(self._n, pre.numel())))

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        self._n = self._picks(len(pre))
        return pick_kernels(pre).batch_top_k(pre, min(self._n + max(_MARGIN, self._n // 16), pre.numel()))

    def choose(self, codes: SparseCodes) -> SparseCodes:
        ops = kernels(codes.values)
        if self.processes.count == 1:
            return ops.keep_batch_top_k(codes, self._n)
        values = self.processes.gather(codes.values)
        if len(values) <= self._n:
            return ops.keep_batch_top_k(codes, codes.nnz)
        least = values.kthvalue(len(values) - self._n + 1).values
        ties = self.processes.gather((codes.values == least).sum()[None])
        left = self._n - int((values > least).sum()) - int(ties[: self.processes.rank].sum())
        kept = min(max(left, 0), int(ties[self.processes.rank]))  # ties go to the first rows, as in one process
        return ops.keep_batch_top_k(codes, int((codes.values > least).sum()) + kept)

    def observe(self, codes: SparseCodes) -> None:
        mine = codes.values.min() if codes.nnz else codes.values.new_tensor(float("inf"))
        least = float(self.processes.gather(mine[None]).min())
        self._sum = self.decay * self._sum + (1 - self.decay) * (least if least < float("inf") else 0.0)
        self._weight = self.decay * self._weight + (1 - self.decay)

    @property
    def threshold(self) -> float:
        return self._sum / self._weight if self._weight else 0.0

    def trained(self, weights: dict[str, Tensor]) -> Trained:
        return trained_as(Threshold(torch.full_like(weights["b_enc"], self.threshold)), weights)

    def state(self) -> dict[str, float]:
        return {"threshold_sum": self._sum, "threshold_weight": self._weight}

    def load_state(self, state: dict[str, float]) -> None:
        self._sum, self._weight = state["threshold_sum"], state["threshold_weight"]


def trained_as(rule: Rule, weights: dict[str, Tensor]) -> Trained:
    return Trained(rule, torch.ones_like(weights["b_enc"]), weights["b_enc"])
