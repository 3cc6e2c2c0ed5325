"""Statistics of a hook's activations, gathered while they are written.

Over the rows x of a store,

    mean = E x,   mean_norm = E ‖x‖,   variance = E ‖x − mean‖² = E ‖x‖² − ‖mean‖²

are exact running sums in float64. Two more come from a seeded sample of the rows, as they would cost as much as a small
model's forward pass: the second moment E x xᵀ (d² a row), and the geometric median argmin_m E ‖x − m‖ (iterative).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_CHUNK_ROWS = 4096
_SAMPLE_ROWS = 32_768
_MEDIAN_ROWS = 4096
_WIDEST_SECOND_MOMENT = 2048

TENSORS = ("mean", "geometric_median", "second_moment")
"""Those of the statistics that are stored as tensors; the others are numbers."""


@dataclass(frozen=True, kw_only=True)
class ActivationStatistics:
    """What a store knows about one hook."""

    mean: Float[Tensor, " d"]
    mean_norm: float
    variance: float
    """Total variance E ‖x − mean‖²: the denominator of FVU."""
    second_moment: Float[Tensor, "d d"] | None
    """E x xᵀ, estimated from `second_moment_rows` sampled rows; None where d > 2048."""
    geometric_median: Float[Tensor, " d"]
    n_rows: int
    second_moment_rows: int
    geometric_median_rows: int

    @property
    def covariance(self) -> Float[Tensor, "d d"] | None:
        """E (x − mean)(x − mean)ᵀ."""
        return None if self.second_moment is None else self.second_moment - torch.outer(self.mean, self.mean)


def running_sums(acts: Float[Tensor, "row d"], norms: Float[Tensor, " row"]) -> Float[Tensor, " d_plus_2"]:
    """Σx (d numbers), Σ‖x‖ and Σ‖x‖² of some rows, in float64."""
    wide = norms.cpu().double()
    return torch.cat([acts.sum(0).cpu().double(), wide.sum()[None], wide.square().sum()[None]])


class Moments:
    """Of rows: how many, and their running sums."""

    def __init__(self) -> None:
        self.n, self.sums = 0, torch.zeros(1, dtype=torch.float64)

    def add(self, x: Float[Tensor, "row d"]) -> None:
        x = x.double()
        self.n, self.sums = self.n + len(x), self.sums + running_sums(x, torch.linalg.vector_norm(x, dim=1))

    @property
    def mean(self) -> Float[Tensor, " d"]:
        return self.sums[:-2] / self.n

    @property
    def spread(self) -> float:
        """Σ ‖x − mean‖²."""
        return float(self.sums[-1] - self.sums[:-2].square().sum() / self.n)

    def __add__(self, other: "Moments") -> "Moments":
        both = Moments()
        both.n, both.sums = self.n + other.n, self.sums + other.sums
        return both


def sample_rows(d: int) -> int:
    """How many rows the estimates of a hook of width d are made from."""
    return _SAMPLE_ROWS if d <= _WIDEST_SECOND_MOMENT else _MEDIAN_ROWS


def statistics_of(
    sums: Float[Tensor, " d_plus_2"], n_rows: int, sample: Float[Tensor, "row d"]
) -> ActivationStatistics:
    """From the `running_sums` over all rows, and a random sample of the rows."""
    mean = sums[:-2] / n_rows
    mean_norm, mean_square = (sums[-2:] / n_rows).tolist()
    few = sample[:_MEDIAN_ROWS].float()
    narrow = len(mean) <= _WIDEST_SECOND_MOMENT
    return ActivationStatistics(
        mean=mean.float(),
        mean_norm=mean_norm,
        variance=max(mean_square - float(mean.square().sum()), 0.0),
        second_moment=second_moment(sample, mean) if narrow else None,
        geometric_median=geometric_median(few),
        n_rows=n_rows,
        second_moment_rows=len(sample) if narrow else 0,
        geometric_median_rows=len(few),
    )


def second_moment(rows: Float[Tensor, "row d"], mean: Float[Tensor, " d"]) -> Float[Tensor, "d d"]:
    """Scatter of the rows around `mean`, plus mean·meanᵀ: so that the covariance around that mean stays positive."""
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk in rows.split(_CHUNK_ROWS):
        centred = chunk.float() - mean.float()
        total += centred.T @ centred
    return (total / len(rows) + torch.outer(mean.double(), mean.double())).float()


def geometric_median(
    rows: Float[Tensor, "row d"], *, max_steps: int = 100, tolerance: float = 1e-4
) -> Float[Tensor, " d"]:
    """argmin_m Σ ‖x_i − m‖ by Weiszfeld's steps m ← Σ x_i/‖x_i − m‖ / Σ 1/‖x_i − m‖.

    Stops when a step is shorter than `tolerance` × the mean distance.
    """
    median = rows.mean(0)
    for _ in range(max_steps):
        distances = torch.linalg.vector_norm(rows - median, dim=1)
        spread = distances.mean()
        if spread == 0:
            break
        weights = 1 / distances.clamp_min(1e-6 * spread)
        step = (weights @ rows) / weights.sum() - median
        median = median + step
        if step.norm() < tolerance * spread:
            break
    return median
