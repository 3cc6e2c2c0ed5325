"""Which latents fire: the architectures of dictionaries as rules over pre-activations.

    pre = (x − b_dec) W_enc + b_enc,     z = the part of pre that the rule picks

An architecture has a config, a rule that picks while it trains, and a rule that picks once it is trained:

    TopK       the k largest of each row (Gao et al. 2024, arXiv 2406.04093)
    BatchTopK  the k·B largest of a batch of B rows (Bussmann et al. 2024, arXiv 2412.06410); trained, those above a
               threshold: the running mean of the smallest value picked

Picks are positive: what a rule would pick at or below zero is left out (ReLU).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes import SparseCodes
from interp.sae.kernels import kernels

_PRE_ACTIVATIONS_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """What all architectures share. Fractions are of the steps of the run."""

    architecture: ClassVar[str]
    d_sae: int
    tokens: int
    """Rows to train on; a smaller store is read again, in another order."""
    batch_size: int = 2048
    lr: float | None = None
    """Peak learning rate; None = 2e-4 / √(d_sae / 2¹⁴) (arXiv 2406.04093, appendix A.3)."""
    warmup: float = 0.05
    """Fraction over which the rate rises linearly, 1,000 steps at most."""
    decay: float = 0.2
    """Last fraction, over which the rate falls linearly to zero."""
    aux_coefficient: float = 1 / 32
    """Weight of the AuxK loss: dead latents reconstruct what the others leave (arXiv 2406.04093, A.2)."""
    dead_after: int | None = None
    """Tokens without firing after which a latent is dead; None = a twentieth of `tokens`."""
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("d_sae", "tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr={self.lr} must be above 0 (None = the law over d_sae)")
        for name in ("warmup", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be a fraction of the steps in 0..1")
        if not self.aux_coefficient >= 0:
            raise ValueError(f"aux_coefficient={self.aux_coefficient} must not be negative")
        if self.dead_after is not None and self.dead_after < 1:
            raise ValueError(f"dead_after={self.dead_after} must be at least 1 token (None = a twentieth of tokens)")

    @property
    def steps(self) -> int:
        return max(1, self.tokens // self.batch_size)

    @property
    def peak_lr(self) -> float:
        return self.lr if self.lr is not None else 2e-4 / (self.d_sae / 2**14) ** 0.5

    @property
    def dead_tokens(self) -> int:
        return self.dead_after if self.dead_after is not None else max(self.batch_size, self.tokens // 20)

    def rule(self) -> "TrainingRule":
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TopKConfig(SAEConfig):
    architecture: ClassVar[str] = "topk"
    k: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_k(self.k, self.d_sae)

    def rule(self) -> "TopK":
        return TopK(self.k)


@dataclass(frozen=True, kw_only=True)
class BatchTopKConfig(SAEConfig):
    architecture: ClassVar[str] = "batchtopk"
    k: int = 32
    """Mean number of latents that fire on a row."""
    threshold_decay: float = 0.999
    """Of the running mean that gives the threshold; the mean spans a twentieth of a shorter run's steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_k(self.k, self.d_sae)
        if not 0 <= self.threshold_decay < 1:
            raise ValueError(f"threshold_decay={self.threshold_decay} must be in 0..1, 1 excluded")

    def rule(self) -> "BatchTopK":
        return BatchTopK(self.k, min(self.threshold_decay, max(0.0, 1 - 20 / self.steps)))


class Rule(Protocol):
    """Picks of a trained dictionary: each row on its own."""

    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]: ...

    def pick(self, pre: Float[Tensor, "row d_sae"]) -> SparseCodes: ...


class TrainingRule(Protocol):
    """Picks of a dictionary in training, and the state that they leave behind."""

    @property
    def by_row(self) -> bool:
        """Whether a row's picks depend on that row alone, so that a batch may be picked piece by piece."""

    def pick(self, pre: Float[Tensor, "row d_sae"]) -> SparseCodes: ...

    def observe(self, codes: SparseCodes) -> None:
        """Learn from the picks of a step."""

    def trained(self, d_sae: int, scale: float) -> Rule:
        """The rule for inputs, and so pre-activations, that are `scale` times smaller than those trained on."""

    def state(self) -> dict[str, float]: ...

    def load_state(self, state: dict[str, float]) -> None: ...


@dataclass(frozen=True)
class TopK:
    k: int
    by_row: ClassVar[bool] = True

    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        values, latents = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, latents, values.relu())

    def pick(self, pre: Float[Tensor, "row d_sae"]) -> SparseCodes:
        return kernels(pre).top_k(pre, self.k)

    def observe(self, codes: SparseCodes) -> None:
        """Nothing to learn."""

    def trained(self, d_sae: int, scale: float) -> "TopK":
        return self

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Nothing to restore."""


@dataclass(frozen=True, eq=False)
class Threshold:
    """z = pre where it exceeds its latent's threshold: JumpReLU, and ReLU at threshold 0."""

    threshold: Float[Tensor, " d_sae"]

    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]:
        return pre * (pre > self.threshold.to(pre))

    def pick(self, pre: Float[Tensor, "row d_sae"]) -> SparseCodes:
        return kernels(pre).above(pre, self.threshold.to(pre))


class BatchTopK:
    by_row = False

    def __init__(self, k: int, decay: float):
        self.k, self.decay = k, decay
        self._sum, self._weight = 0.0, 0.0

    def pick(self, pre: Float[Tensor, "row d_sae"]) -> SparseCodes:
        return kernels(pre).batch_top_k(pre, self.k * len(pre))

    def observe(self, codes: SparseCodes) -> None:
        least = codes.values.min().item() if codes.nnz else 0.0
        self._sum = self.decay * self._sum + (1 - self.decay) * least
        self._weight = self.decay * self._weight + (1 - self.decay)

    @property
    def threshold(self) -> float:
        return self._sum / self._weight if self._weight else 0.0

    def trained(self, d_sae: int, scale: float) -> Threshold:
        return Threshold(torch.full((d_sae,), self.threshold / scale))

    def state(self) -> dict[str, float]:
        return {"threshold_sum": self._sum, "threshold_weight": self._weight}

    def load_state(self, state: dict[str, float]) -> None:
        self._sum, self._weight = state["threshold_sum"], state["threshold_weight"]


def encode(
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
    pick: Callable[[Tensor], SparseCodes],
    *,
    by_row: bool = True,
    low_precision: bool = False,
    buffer: Float[Tensor, "piece d_sae"] | None = None,
) -> SparseCodes:
    """The picks of pre = x encoderᵀ + b_enc, in pieces of rows where the rule allows it, so that pre stays in cache.

    `low_precision`: pick from a bfloat16 matmul, then compute the values of the picks at the precision of x.
    `buffer`: memory for pre, of `piece_rows` rows, that a training loop hands over again each step.
    """
    rows = piece_rows(len(x), len(encoder), by_row)
    if buffer is None or len(buffer) < rows:
        buffer = x.new_empty(rows, len(encoder))
    weight = encoder.bfloat16().T if low_precision else encoder.T
    parts = []
    for piece in x.split(rows):
        pre = buffer[: len(piece)]
        if low_precision:
            torch.add(piece.bfloat16() @ weight, b_enc, out=pre)
        else:
            torch.addmm(b_enc, piece, weight, out=pre)
        parts.append(pick(pre))
    codes = parts[0] if len(parts) == 1 else SparseCodes.cat(parts)
    return kernels(x).rescore(codes, x, encoder, b_enc) if low_precision else codes


def piece_rows(rows: int, d_sae: int, by_row: bool) -> int:
    """How many rows `encode` takes at a time."""
    return max(1, min(rows, max(64, _PRE_ACTIVATIONS_AT_ONCE // d_sae)) if by_row else rows)


def has_fast_bfloat16(x: Tensor) -> bool:
    """Whether a bfloat16 matmul is the faster one where x lives (on a CPU: AVX-512 BF16 or AMX units)."""
    if x.dtype != torch.float32:
        return False
    if x.device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return x.device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes)


def _check_k(k: int, d_sae: int) -> None:
    if not 1 <= k <= d_sae:
        raise ValueError(f"k={k} must be in 1..d_sae={d_sae}")
