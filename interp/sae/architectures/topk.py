"""Dictionaries with a fixed number of picks: the k largest pre-activations of each row, or the k·B largest of a batch.

    TopK         z = the k largest positive entries of each row of pre,   loss = ‖x_hat − x‖²   (arXiv 2406.04093)
    BatchTopK    z = the k·B largest of B rows; once trained, those above a threshold, a running mean of the smallest
                 picked value (in the paper the mean over batches after training)              (arXiv 2412.06410)
    Matryoshka   BatchTopK with the mean of its loss over the dictionaries formed by prefixes of the latents
                                                                                                (arXiv 2503.17547)

They have no penalty. k decreases over the run.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.checks.errors import InterpError
from interp.checks.limits import Fraction, NonNegative
from interp.codes.sparse_codes import SparseCodes
from interp.runtime.processes import Processes
from interp.sae.architectures.encoders import ActivationFunction, SAELensForm, StoredEncoder, Weights
from interp.sae.architectures.sae_config import FractionsOfRun, SAEConfig
from interp.sae.architectures.thresholds import Threshold
from interp.sae.encode_rows import BFLOAT16_ERROR, MARGIN, encode, has_fast_bfloat16
from interp.sae.file_tensors import FileTensors, read_whole_number
from interp.sae.forward_pass import ForwardPass, StepInputs
from interp.sae.kernels.dispatch import kernels, pick_kernels
from interp.sae.kernels.torch_kernels import PreActivations, kept_entries
from interp.sae.sparse_ops import Encoded

_MOST_AT_START = 1 / 8
"""Upper bound on the initial k, as a fraction of d_in. If k is small relative to d_in, annealing lowers both the FVU on
held-out rows and the number of idle latents; at an eighth it has little effect, and at a quarter the FVU rises."""
_THRESHOLD_DECAY = 0.999
_CHECK_MARGIN = 32
"""Picks beyond k by which those of low precision are checked."""
_MIN_ROUNDED_ROWS = 1024
"""Rows that are worth rounding the encoder for."""


@dataclass(frozen=True)
class TopK(ActivationFunction):
    """The encoder z = the k largest positive entries of each row of pre."""

    name: ClassVar[str] = "topk"
    k: int

    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        values, latents = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, latents, values.relu())

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        """Pick with bfloat16 if that is faster, and again at full precision in the rows whose picks it does not
        decide."""
        wide = self.k + _CHECK_MARGIN
        if (
            len(x) < _MIN_ROUNDED_ROWS
            or wide > len(weights.encoder_rows)
            or x.device.type != "cpu"
            or not has_fast_bfloat16(x)
        ):
            return super().codes(x, weights)
        near = encode(x, weights.encoder_rows, weights.b_enc, TopK(wide), low_precision=True)
        codes = self.pick_among(near)
        others = _lowest(near, wide) + 2 * _rounding_error(x, weights)
        open_rows = (~(_lowest(codes, self.k) > others * (1 + BFLOAT16_ERROR))).nonzero()[:, 0]
        if not len(open_rows):
            return codes
        source = torch.arange(len(x)).index_copy_(0, open_rows, len(x) + torch.arange(len(open_rows)))
        return SparseCodes.cat([codes, super().codes(x[open_rows], weights)]).take(source)

    def pick(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).top_k(pre, self.k)

    def pick_with_margin(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).top_k(pre, min(self.k + MARGIN, pre.shape[1]))

    def pick_among(self, codes: SparseCodes) -> SparseCodes:
        return kernels(codes.values).keep_top_k(codes, self.k)

    def scaled(self, scale: float) -> "TopK":
        return self

    def to_stored(self) -> StoredEncoder:
        return StoredEncoder({"k": self.k}, {})

    @classmethod
    def from_stored(cls, settings: dict[str, Any], parts: FileTensors, d_sae: int, source: str) -> "TopK":
        return cls(read_whole_number(settings, "k", source, limit=d_sae))

    def to_saelens(self, kind: str, *, skips: bool) -> SAELensForm | None:
        settings = {"k": self.k, "rescale_acts_by_decoder_norm": False}
        return SAELensForm("topk", settings, {}) if kind == "sae" else None


@dataclass(frozen=True, kw_only=True)
class PickConfig(SAEConfig):
    """The options that TopK, BatchTopK and Matryoshka share: no penalty, and a fixed number of picks."""

    k: int = 32
    """Latents that fire per row (BatchTopK, Matryoshka: on average)."""
    k_start: int | None = None
    """k at the start; it then falls linearly, which keeps more latents alive (arXiv 2410.20526). If none is given, 2 k,
    but no more than d_in / 8 (or k)."""
    k_anneal: Fraction = 0.6
    """Fraction over which k falls (arXiv 2410.20526: 0.1)."""
    aux_coefficient: NonNegative = 1 / 32
    resample_at: FractionsOfRun = tuple(n / 25 for n in range(10, 24))
    """Every 25th of the training from 0.4 to 0.92. With a falling k this leaves far fewer latents idle than AuxK alone,
    at a lower FVU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "k_start"):
            k = getattr(self, name)
            if k is not None and not 1 <= k <= self.d_sae:
                raise InterpError(f"{name}={k} must be in 1..d_sae={self.d_sae}")
        if self.k_start is not None and self.k_start < self.k:
            raise InterpError(f"k_start={self.k_start} must be at least k={self.k}, to which k falls: raise it")

    @property
    def expected_l0(self) -> float:
        return self.k

    def k_at(self, step: int, d_in: int) -> int:
        limit = min(round(_MOST_AT_START * d_in), self.d_sae)
        start = self.k_start if self.k_start is not None else max(self.k, min(2 * self.k, limit))
        return round(self.k + (start - self.k) * max(0.0, 1 - step / max(self.k_anneal * self.steps, 1e-3)))


@dataclass(frozen=True, kw_only=True)
class TopKConfig(PickConfig):
    """The k largest latents of each row fire: the TopK SAE of Gao et al. 2024, arXiv 2406.04093."""

    architecture: ClassVar[str] = "topk"
    shardable: ClassVar[bool] = True

    def pick(self, step: StepInputs) -> TopK:
        return TopK(min(self.k_at(step.steps_done, step.x.shape[1]), len(step.weights["b_enc"])))

    def encode(self, step: StepInputs) -> Encoded:
        """Encode. If the latents are sharded, each process picks k of its own and keeps those that are among the k of
        all."""
        if step.batch.grid.shards.count == 1:
            return super().encode(step)

        def among_all(codes: SparseCodes) -> SparseCodes:
            k = self.k_at(step.steps_done, step.x.shape[1])
            places = torch.arange(codes.nnz, device=codes.latents.device) - codes.offsets[codes.rows]
            values = codes.values.new_zeros(len(codes), min(k, codes.d_sae))
            values[codes.rows, places] = codes.values
            return kept_entries(codes, step.mark_largest(values, k)[codes.rows, places])

        return step.encode(self.pick(step), keep=among_all)

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> TopK:
        return TopK(self.k)


@dataclass(frozen=True)
class BatchPick:
    """The n largest of the rows and latents of all processes. Each process picks the number that the global batch
    may have; the largest values of all are kept, and ties go to the first processes, as they go to the first rows
    within a process."""

    n: int
    processes: Processes
    by_row: ClassVar[bool] = False

    def pick(self, pre: PreActivations) -> SparseCodes:
        return self.pick_among(pick_kernels(pre).batch_top_k(pre, min(self.n, pre.numel())))

    def pick_with_margin(self, pre: PreActivations) -> SparseCodes:
        return pick_kernels(pre).batch_top_k(pre, min(self.n + max(MARGIN, self.n // 16), pre.numel()))

    def pick_among(self, codes: SparseCodes) -> SparseCodes:
        ops = kernels(codes.values)
        if self.processes.count == 1:
            return ops.keep_batch_top_k(codes, self.n)
        values = self.processes.all_gather(codes.values)
        if len(values) <= self.n:
            return ops.keep_batch_top_k(codes, codes.nnz)
        least = values.kthvalue(len(values) - self.n + 1).values
        ties = self.processes.all_gather((codes.values == least).sum()[None], same_length=True)
        n_left = self.n - int((values > least).sum()) - int(ties[: self.processes.rank].sum())
        n_ties = min(max(n_left, 0), int(ties[self.processes.rank]))
        return ops.keep_batch_top_k(codes, int((codes.values > least).sum()) + n_ties)


@dataclass(frozen=True, kw_only=True)
class BatchTopKConfig(PickConfig):
    """The largest of a batch fire, k a row on average: the BatchTopK SAE of Bussmann et al. 2024, arXiv 2412.06410."""

    architecture: ClassVar[str] = "batchtopk"
    shardable: ClassVar[bool] = True

    def pick(self, step: StepInputs) -> BatchPick:
        return BatchPick(self.k_at(step.steps_done, step.x.shape[1]) * step.batch.rows, step.batch.grid.world)

    def initial_state(self) -> dict[str, float]:
        return {"threshold_sum": 0.0, "threshold_weight": 0.0}

    def observe(self, step: ForwardPass) -> None:
        """Keep a running mean of the smallest value that was picked. It spans at most a twentieth of the steps."""
        decay = min(_THRESHOLD_DECAY, max(0.0, 1 - 20 / self.steps))
        smallest = step.pre.detach().min() if len(step.pre) else step.pre.new_tensor(float("inf"))
        least = float(step.batch.grid.world.all_gather(smallest[None], same_length=True).min())
        step.state["threshold_sum"] *= decay
        step.state["threshold_sum"] += (1 - decay) * (least if least < float("inf") else 0.0)
        step.state["threshold_weight"] = decay * step.state["threshold_weight"] + (1 - decay)

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        weight = state["threshold_weight"]
        threshold = state["threshold_sum"] / weight if weight else 0.0
        return Threshold(torch.full_like(weights["b_enc"], threshold))


@dataclass(frozen=True, kw_only=True)
class MatryoshkaConfig(BatchTopKConfig):
    """As BatchTopK, and each prefix of the latents reconstructs: the Matryoshka SAE of Bussmann et al. 2025, arXiv
    2503.17547. The loss is the mean over the prefixes."""

    architecture: ClassVar[str] = "matryoshka"
    shardable: ClassVar[bool] = True
    unit_norm: bool = False
    """Rows of norm one raise FVU and leave latents dead."""
    groups: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)
    """Shares of the latents that each prefix adds to the one before (the paper's); they sum to 1. A share of no
    whole latent is left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.groups or min(self.groups) <= 0 or abs(sum(self.groups) - 1) > 1e-6:
            raise InterpError(f"groups={self.groups} must be positive shares that sum to 1")

    @property
    def ends(self) -> tuple[int, ...]:
        """The number of latents in each prefix."""
        return tuple(sorted({round(total * self.d_sae) for total in accumulate(self.groups)} - {0}))

    def loss(self, step: ForwardPass) -> Float[Tensor, ""]:
        return step.squared_error(ends=self.ends)


def _lowest(codes: SparseCodes, k: int) -> Float[Tensor, " row"]:
    """Return the smallest of the k values of each row, 0 if there are fewer."""
    values = codes.values.new_zeros(len(codes), k)
    values[torch.arange(k) < codes.offsets.diff()[:, None]] = codes.values
    return values.amin(1)


def _rounding_error(x: Float[Tensor, "row d_in"], weights: Weights) -> Float[Tensor, " row"]:
    """Return a bound of the error of pre-activations of bfloat16 numbers, before they are rounded themselves: by Cauchy
    and Schwarz, and by sums at single precision."""
    encoder_rows = weights.encoder_rows
    length = x.norm(dim=1)
    weight_error, x_error = (rows - rows.bfloat16() for rows in (encoder_rows, x))
    longest = encoder_rows.norm(dim=1).max()
    sum_error = (128 + x.shape[1]) * 2.0**-23 * (length * longest + weights.b_enc.abs().max())
    return length * weight_error.norm(dim=1).max() + x_error.norm(dim=1) * longest * (1 + BFLOAT16_ERROR) + sum_error
