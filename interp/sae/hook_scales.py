"""The hooks that a dictionary reads and writes, each scaled to a mean norm of √d.

Three settings differ by their hooks:

    autoencoder  x → x                one hook
    crosscoder   x¹ … xᴸ → the same   several hooks, of layers or of models, share latents (Lindsey et al. 2024)
    transcoder   x → y                an input hook and one or several output hooks (Dunefsky et al. 2024,
                                      arXiv 2406.11944)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationStatistics
from interp.activations.outliers import is_within

COVARIANCE_FLOOR = 10
"""Added to the covariance of a matched filter (`HookScales.precision`), in units of the mean variance. If it is much
smaller, filters rely on directions that hardly vary and respond far too strongly to rare rows; if much larger, FVU
jumps at each resampling."""


@dataclass(frozen=True, kw_only=True)
class HookScales:
    """Statistics of the hooks, and values derived from them: scales, variances, the filter of resampling."""

    inputs: tuple[ActivationStatistics, ...]
    outputs: tuple[ActivationStatistics, ...] = ()
    """Hooks that a transcoder writes; empty if the hooks that are read are also written."""
    limits: tuple[float | None, ...] = ()
    """Norms above which a row of a hook is not used for training (None: no limit), first of the inputs, then of the
    outputs."""

    @property
    def tied(self) -> bool:
        """Whether the hooks that are read are also written."""
        return not self.outputs

    @property
    def targets(self) -> tuple[ActivationStatistics, ...]:
        return self.outputs or self.inputs

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hooks that are written."""
        return tuple(len(target.mean) for target in self.targets)

    @property
    def d_in(self) -> int:
        return sum(len(hook.mean) for hook in self.inputs)

    @property
    def d_out(self) -> int:
        return sum(self.widths)

    @property
    def input_scales(self) -> Float[Tensor, " d_in"]:
        return _scales(self.inputs)

    @property
    def output_scales(self) -> Float[Tensor, " d_out"]:
        return _scales(self.targets)

    @property
    def input_std(self) -> float:
        """Standard deviation of scaled inputs, the mean over all directions."""
        return (_variance(self.inputs) / self.d_in) ** 0.5

    @cached_property
    def precision(self) -> Float[Tensor, "d_in d_in"]:
        """Inverse of the covariance of scaled inputs, of each hook separately; if a hook's covariance is unknown, all
        its directions are assumed to vary equally. COVARIANCE_FLOOR times the mean variance is added to the variance of
        each direction."""
        blocks = []
        for hook in self.inputs:
            d = len(hook.mean)
            scale = scale_of(hook)
            variance = max(hook.variance, torch.finfo(torch.float32).tiny) / d
            covariance = variance * torch.eye(d) if hook.covariance is None else hook.covariance.float()
            blocks.append(
                torch.linalg.inv((covariance + COVARIANCE_FLOOR * variance * torch.eye(d)).double()) / scale**2
            )
        return torch.block_diag(*blocks)

    @property
    def variance(self) -> float:
        """V, the total variance of all scaled outputs."""
        return max(_variance(self.targets), torch.finfo(torch.float32).tiny)

    def within(self, rows: Float[Tensor, "batch d"]) -> Float[Tensor, "row d"]:
        """Return the rows that are above none of the limits."""
        if not any(self.limits):
            return rows
        parts = rows.split([len(hook.mean) for hook in self.inputs + self.outputs], dim=1)
        pairs = zip(parts, self.limits, strict=True)
        return rows[torch.stack([is_within(part, limit) for part, limit in pairs if limit is not None]).all(0)]

    def split(self, rows: Float[Tensor, "row d"]) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
        """Split rows that have inputs and outputs side by side."""
        return (rows, rows) if self.tied else (rows[:, : self.d_in], rows[:, self.d_in :])


def scale_of(hook: ActivationStatistics) -> float:
    """Return the factor that brings its activations to a mean norm of √d."""
    return len(hook.mean) ** 0.5 / hook.mean_norm if hook.mean_norm > 0 else 1.0


def _scales(hooks: Sequence[ActivationStatistics]) -> Tensor:
    return torch.cat([torch.full((len(hook.mean),), scale_of(hook), dtype=torch.float64) for hook in hooks])


def _variance(hooks: Sequence[ActivationStatistics]) -> float:
    """Return the total variance of all scaled activations."""
    return sum(hook.variance * scale_of(hook) ** 2 for hook in hooks)
