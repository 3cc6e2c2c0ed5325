"""Dictionaries whose number of picks is set: the k largest pre-activations of each row, or the k·B largest of a batch.

    TopK         z = the k largest positive entries of each row of pre,   loss = ‖x_hat − x‖²   (arXiv 2406.04093)
    BatchTopK    z = the k·B largest of B rows; trained, those above a threshold, a running mean of the smallest value
                 that was picked (in the paper the mean over batches once trained)              (arXiv 2412.06410)
    Matryoshka   BatchTopK with the mean of that loss over the dictionaries that prefixes of the latents make
                                                                                                (arXiv 2503.17547)
    Pursuit      r = x − b_dec;  k times  j = argmax ⟨r, W_dec[j]⟩,  z_j = ReLU(⟨r, W_dec[j]⟩),  r ← r − z_j W_dec[j]
                                                                                                (arXiv 2506.03093)

They have no penalty. But for matching pursuit k falls over the run, and the encoder may be unrolled (`PickConfig`).
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.sae.architectures import INSIDE, NOT_NEGATIVE, Fraction, NonNegative, Positive, SAEConfig
from interp.sae.forward_pass import Encoded, ForwardPass
from interp.sae.kernels import kernels, pick_kernels
from interp.sae.rules import MARGIN, MatchingPursuit, PreActivationRule, Refined, Rule, Threshold, TopK
from interp.sae.sparse_ops import Support
from interp.sae.torch_kernels import PreActivations
from interp.storage.processes import Processes

_MOST_AT_START = 1 / 8
"""Of the input's dimensions. Where k is a small part of these, a fall makes FVU and idle latents fewer (held out: k 8
of 128, .047 → .044; k 32 of 576, .149 → .139); at an eighth it does little, and at a quarter FVU is more (.022 →
.023)."""
_THRESHOLD_DECAY = 0.999


@dataclass(frozen=True, kw_only=True)
class PickConfig(SAEConfig):
    """What TopK, BatchTopK and Matryoshka share: no penalty, the number of picks is set."""

    k: int = 32
    """Latents that fire on a row (BatchTopK, Matryoshka: on the mean)."""
    k_start: int | None = None
    """k at the start; it then falls linearly, which keeps more latents alive (arXiv 2410.20526). None = 2 k, but no
    more than d_in / 8 (or k)."""
    k_anneal: Fraction = 0.6
    """Fraction over which k falls (arXiv 2410.20526: 0.1)."""
    aux_coefficient: NonNegative = 1 / 32
    resample_at: Annotated[tuple[float, ...], INSIDE] = tuple(n / 25 for n in range(10, 24))
    """Every 25th of the run from .4 to .92. With k that falls this leaves 2 % of the demo's latents idle, where AuxK
    alone, at a weight of 1, leaves 33 %, at an FVU of .043 in place of .046."""
    refinements: Annotated[int, NOT_NEGATIVE] = 0
    """Steps by which the encoder improves its picks, each with the residual of the one before: an unrolled, LISTA-style
    encoder (Gregor & LeCun 2010),  pre ← z + refinement_step · ((x − x_hat) W_enc + b_enc)."""
    refinement_step: Positive = 0.5
    """Step size of a refinement (ISTA's; our own choice of it)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "k_start"):
            k = getattr(self, name)
            if k is not None and not 1 <= k <= self.d_sae:
                raise ValueError(f"{name}={k} must be in 1..d_sae={self.d_sae}")

    @classmethod
    def recovery(cls, *, d_sae: int, k: int, tokens: int, **given: Any) -> Self:
        """What finds the most true features of planted worlds: small batches and a high rate for many short steps, free
        decoder rows (held at norm 1, steps of this rate keep turning them), and k that falls from three times itself
        over all of the run. Above 1,024 latents, which come with more dimensions, the rate falls as 1 / d_sae.

        Matryoshka so trained finds 1,024 features of trees in 96 dimensions with F1 .89 and MCC .82, the mean of three
        seeds, where the best of SAELens's own, tuned, has .74 and .78 (`analyses.bench.recovery`, which uses this
        preset). Of features without trees TopK finds more than Matryoshka.
        """
        recipe = short_steps(d_sae, tokens) | {"k_start": min(3 * k, d_sae), "k_anneal": 1.0}
        recipe |= {"aux_coefficient": 1.0, "resample_at": ()}
        return cls(d_sae=d_sae, k=k, tokens=tokens, **(recipe | given))

    def k_at(self, step: int, d_in: int) -> int:
        most = min(round(_MOST_AT_START * d_in), self.d_sae)
        start = self.k_start if self.k_start is not None else max(self.k, min(2 * self.k, most))
        return round(self.k + (start - self.k) * max(0.0, 1 - step / max(self.k_anneal * self.steps, 1e-3)))

    def encode(self, f: ForwardPass) -> Encoded:
        encoded = super().encode(f)
        for _ in range(self.refinements):
            encoded = f.refine(encoded, self.pick(f), self.refinement_step)
        return encoded

    def trained(self, weights: dict[str, Tensor], state: dict[str, float]) -> Rule:
        rules = [self.trained_pass(i, weights, state) for i in range(self.refinements + 1)]
        return Refined(tuple(rules), self.refinement_step) if self.refinements else rules[0]

    def trained_pass(self, i: int, weights: dict[str, Tensor], state: dict[str, float]) -> PreActivationRule:
        """How the i-th pass of the trained encoder picks."""
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} says nowhere how its passes pick once trained: give it `trained_pass`")

    def check_site(self, *, tied: bool, hooks: int) -> None:
        super().check_site(tied=tied, hooks=hooks)
        if self.refinements and not tied:
            said = f"refinements={self.refinements} need a dictionary whose output is its input, not a transcoder"
            raise ValueError(said)


@dataclass(frozen=True, kw_only=True)
class TopKConfig(PickConfig):
    """Gao et al. 2024, arXiv 2406.04093."""

    architecture: ClassVar[str] = "topk"

    def pick(self, f: ForwardPass) -> TopK:
        return TopK(self.k_at(f.step, f.x.shape[1]))

    def trained_pass(self, i: int, weights: dict[str, Tensor], state: dict[str, float]) -> TopK:
        return TopK(self.k)


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
        return BatchPick(self.k_at(f.step, f.x.shape[1]) * f.batch.rows, f.batch.processes)

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
    unit_norm: bool = False
    """Rows of norm one made FVU a tenth more on two hooks of a two-layer model, with 7 % of the latents dead, not 0."""
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
        return tuple(round(total * self.d_sae) for total in accumulate(self.groups))

    def loss(self, f: ForwardPass) -> Float[Tensor, ""]:
        return f.squared_error(ends=self.ends)


@dataclass(frozen=True, kw_only=True)
class MatchingPursuitConfig(SAEConfig):
    """Mallat & Zhang 1993; as an SAE Costa et al. 2025, arXiv 2506.03093. The decoder's rows encode too. Gradients go
    through all k steps, picks held fixed."""

    architecture: ClassVar[str] = "matching_pursuit"
    has_encoder: ClassVar[bool] = False
    k: int = 32
    """Steps, each of which adds a latent or changes one."""
    aux_coefficient: NonNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= self.d_sae:
            raise ValueError(f"k={self.k} must be in 1..d_sae={self.d_sae}")
        if not self.unit_norm or self.skip or self.aux_coefficient or self.resample_at:
            raise ValueError("matching pursuit needs unit_norm=True, skip=False, aux_coefficient=0 and no resample_at")

    def encode(self, f: ForwardPass) -> Encoded:
        """All steps' entries, of each row in the order in which they were taken; a latent may stand there twice."""
        residual = f.centred
        for step in range(self.k):
            taken = f.encode(TopK(1), residual)
            if step < self.k - 1:
                residual = f.residual(taken, residual)
        supports, parts = zip(*f.passes, strict=True)
        order = torch.cat([support.rows for support in supports]).argsort(stable=True)
        latents, values = torch.cat([support.latents for support in supports])[order], torch.cat(parts)[order]
        counts = torch.stack([support.codes.offsets.diff() for support in supports]).sum(0)
        return Encoded(Support(SparseCodes.from_counts(counts, latents, values.detach(), self.d_sae)), values)

    def folded(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**weights, "encoder": weights["W_dec"], "b_enc": torch.zeros_like(weights["W_dec"][:, 0])}

    def check_site(self, *, tied: bool, hooks: int) -> None:
        super().check_site(tied=tied, hooks=hooks)
        if not tied or hooks > 1:
            raise ValueError("matching pursuit reads and writes one hook; choose another architecture for several")

    def trained(self, weights: dict[str, Tensor], state: dict[str, float]) -> MatchingPursuit:
        return MatchingPursuit(self.k)


def short_steps(d_sae: int, tokens: int) -> dict[str, Any]:
    """What the recovery presets share."""
    rate = 5e-3 * min(1.0, 1024 / d_sae)
    return {"batch_size": 256, "lr": rate, "unit_norm": False, "dead_after": max(1, tokens // 100)}
