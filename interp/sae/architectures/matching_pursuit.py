"""Matching pursuit: latents are picked one by one, each from the residual of the previous ones.

    r = x − b_dec;   k times   j = argmax ⟨r, W_dec[j]⟩,   z_j += ReLU(⟨r, W_dec[j]⟩),   r ← r − that · W_dec[j]

Source: Mallat & Zhang 1993; as an SAE, Costa et al. 2025, arXiv 2506.03093.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.checks.errors import InterpError
from interp.checks.limits import NonNegative
from interp.codes.sparse_codes import SparseCodes
from interp.sae.architectures.encoders import Encoder, SAELensForm, StoredEncoder, Weights
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.architectures.topk import TopK
from interp.sae.file_tensors import FileTensors, read_number, read_truth, read_whole_number
from interp.sae.forward_pass import StepInputs
from interp.sae.sparse_ops import Encoded, Support


def most_steps(d_sae: int) -> int:
    """Return the largest number of steps allowed for a stored dictionary: four times its number of latents."""
    return 4 * d_sae


@dataclass(frozen=True)
class MatchingPursuit(Encoder):
    name: ClassVar[str] = "matching_pursuit"
    k: int
    residual_threshold: float = 0.0
    """A row stops once its residual is shorter than this; 0 = never."""
    stop_on_repeat: bool = False
    """A row stops once a step picks a latent that it already has."""

    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]:
        rows = x.reshape(-1, x.shape[-1])
        W_dec = weights.W_dec
        z = rows.new_zeros(len(rows), len(W_dec))
        going = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        for _ in range(self.k):
            with torch.no_grad():
                latents = (rows @ W_dec.T).argmax(1)
            values = (rows * W_dec[latents]).sum(1).relu() * going
            new = (z.gather(1, latents[:, None])[:, 0] == 0) & (values > 0)
            z = z.scatter_add(1, latents[:, None], values[:, None])
            rows = rows - values[:, None] * W_dec[latents]
            if self.stop_on_repeat:
                going = going & new
            if self.residual_threshold > 0:
                going = going & (rows.norm(dim=1) >= self.residual_threshold)
            if (self.stop_on_repeat or self.residual_threshold > 0) and not going.any():
                break
        return z.reshape(*x.shape[:-1], len(W_dec))

    def scaled(self, scale: float) -> "MatchingPursuit":
        return replace(self, residual_threshold=self.residual_threshold / scale)

    def to_stored(self) -> StoredEncoder:
        return StoredEncoder(asdict(self), {})

    @classmethod
    def from_stored(cls, settings: dict[str, Any], parts: FileTensors, d_sae: int, source: str) -> "MatchingPursuit":
        return cls(
            read_whole_number(settings, "k", source, limit=most_steps(d_sae)),
            read_number(settings, "residual_threshold", source),
            read_truth(settings, "stop_on_repeat", source),
        )

    def to_saelens(self, kind: str, *, skips: bool) -> SAELensForm | None:
        settings = {"max_iterations": self.k, "residual_threshold": self.residual_threshold}
        settings["stop_on_duplicate_support"] = self.stop_on_repeat
        return SAELensForm(self.name, settings, {}, has_encoder=False) if kind == "sae" else None


@dataclass(frozen=True, kw_only=True)
class MatchingPursuitConfig(SAEConfig):
    """Latents are picked one by one, each from the residual of those before. The decoder's rows also encode. Gradients
    flow through all k steps, with the picks held fixed."""

    architecture: ClassVar[str] = "matching_pursuit"
    has_encoder: ClassVar[bool] = False
    k: int = 32
    """Steps, each of which adds a latent or changes one."""
    aux_coefficient: NonNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= self.d_sae:
            raise InterpError(f"k={self.k} must be in 1..d_sae={self.d_sae}")
        if not self.unit_norm or self.skip or self.aux_coefficient or self.resample_at:
            raise InterpError("matching pursuit needs unit_norm=True, skip=False, aux_coefficient=0 and no resample_at")

    @property
    def expected_l0(self) -> float:
        return self.k

    def encode(self, step: StepInputs) -> Encoded:
        """Return the latents that the steps picked, row by row, each with the sum of its values over all steps."""
        residual = step.centred
        steps = list[Encoded]()
        for i in range(self.k):
            steps.append(step.encode(TopK(1), residual))
            if i < self.k - 1:
                residual = step.residual(steps[-1], residual)
        supports, parts = zip(*steps, strict=True)
        entries = torch.cat([support.rows * self.d_sae + support.latents for support in supports])
        entries, order = entries.sort(stable=True)
        entries, repeats = entries.unique_consecutive(return_counts=True)
        values = torch.segment_reduce(torch.cat(parts)[order], "sum", lengths=repeats, unsafe=True)
        counts = (entries // self.d_sae).bincount(minlength=len(residual))
        codes = SparseCodes.from_counts(counts, (entries % self.d_sae).int(), values.detach(), self.d_sae)
        return Encoded(Support(codes), values)

    def folded_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**weights, "encoder_rows": weights["W_dec"], "b_enc": torch.zeros_like(weights["W_dec"][:, 0])}

    def check_hooks(self, *, tied: bool, n_hooks: int) -> None:
        super().check_hooks(tied=tied, n_hooks=n_hooks)
        if not tied or n_hooks > 1:
            raise InterpError("matching pursuit reads and writes one hook; choose another architecture for several")

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> MatchingPursuit:
        return MatchingPursuit(self.k)
