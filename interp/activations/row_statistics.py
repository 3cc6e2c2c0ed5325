"""Statistics of a hook's activations, collected while they are written.

Over the rows x of a store,

    mean = E x,   mean_norm = E ‖x‖,   variance = E ‖x − mean‖² = E ‖x‖² − ‖mean‖²

are exact running sums in float64. Two more are computed from a seeded sample of the rows, as on all rows they would
cost as much as a small model's forward pass: the second moment E x xᵀ (d² per row), and the geometric median argmin_m E
‖x − m‖ (iterative).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

STATISTICS_ROWS = 32_768
_MEDIAN_ROWS = _CHUNK_ROWS = 4096
_WIDEST_SECOND_MOMENT = 2048
_MAX_MEDIAN_STEPS = 100
_MEDIAN_TOLERANCE = 1e-4
TENSORS = ("mean", "geometric_median", "second_moment")
"""The statistics that are stored as tensors; the others are numbers."""


@dataclass(frozen=True, kw_only=True)
class ActivationStatistics:
    """A store's statistics of one hook."""

    mean: Float[Tensor, " d"]
    mean_norm: float
    variance: float
    """Total variance E ‖x − mean‖²: the denominator of FVU."""
    second_moment: Float[Tensor, "d d"] | None
    """E x xᵀ, estimated from `second_moment_rows` sampled rows; None if d > 2048."""
    geometric_median: Float[Tensor, " d"]
    n_rows: int
    second_moment_rows: int
    geometric_median_rows: int

    @property
    def covariance(self) -> Float[Tensor, "d d"] | None:
        """E (x − mean)(x − mean)ᵀ."""
        return None if self.second_moment is None else self.second_moment - torch.outer(self.mean, self.mean)


def running_sums(acts: Float[Tensor, "row d"], norms: Float[Tensor, " row"]) -> Float[Tensor, " d_plus_2"]:
    """Return Σx (d numbers), Σ‖x‖ and Σ‖x‖² of some rows, in float64."""
    wide = norms.cpu().double()
    return torch.cat([acts.sum(0).cpu().double(), wide.sum()[None], wide.square().sum()[None]])


class Moments:
    """The number of some rows, and their running sums."""

    def __init__(self) -> None:
        self.n = 0
        self.sums = torch.zeros(1, dtype=torch.float64)

    def add(self, x: Float[Tensor, "row d"]) -> None:
        x = x.double()
        self.n, self.sums = self.n + len(x), self.sums + running_sums(x, torch.linalg.vector_norm(x, dim=1))

    @property
    def mean(self) -> Float[Tensor, " d"]:
        return self.sums[:-2] / self.n

    @property
    def total_squares(self) -> float:
        """Σ ‖x − mean‖²."""
        return float(self.sums[-1] - self.sums[:-2].square().sum() / self.n)

    def __add__(self, other: "Moments") -> "Moments":
        both = Moments()
        both.n, both.sums = self.n + other.n, self.sums + other.sums
        return both


def n_sample_rows(d: int) -> int:
    """Return the number of rows that estimates of a hook of width d are made from."""
    return STATISTICS_ROWS if d <= _WIDEST_SECOND_MOMENT else _MEDIAN_ROWS


def statistics_of(sums: Float[Tensor, " d_plus_2"], n_rows: int, sample: Float[Tensor, "n d"]) -> ActivationStatistics:
    """Compute statistics from the `running_sums` over all rows, and a random sample of the rows."""
    mean = sums[:-2] / n_rows
    mean_norm, mean_square = (sums[-2:] / n_rows).tolist()
    median_rows = sample[:_MEDIAN_ROWS].float()
    is_narrow = len(mean) <= _WIDEST_SECOND_MOMENT
    return ActivationStatistics(
        mean=mean.float(),
        mean_norm=mean_norm,
        variance=max(mean_square - float(mean.square().sum()), 0.0),
        second_moment=second_moment(sample, mean) if is_narrow else None,
        geometric_median=geometric_median(median_rows),
        n_rows=n_rows,
        second_moment_rows=len(sample) if is_narrow else 0,
        geometric_median_rows=len(median_rows),
    )


def second_moment(rows: Float[Tensor, "row d"], mean: Float[Tensor, " d"]) -> Float[Tensor, "d d"]:
    """Compute E x xᵀ: the scatter of the rows around `mean`, plus mean·meanᵀ, so that the covariance around that mean
    stays positive."""
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk in rows.split(_CHUNK_ROWS):
        centred = chunk.float() - mean.float()
        total += centred.T @ centred
    return (total / len(rows) + torch.outer(mean.double(), mean.double())).float()


def geometric_median(rows: Float[Tensor, "row d"]) -> Float[Tensor, " d"]:
    """Compute argmin_m Σ ‖x_i − m‖ by Weiszfeld's steps m ← Σ x_i/‖x_i − m‖ / Σ 1/‖x_i − m‖, until one is shorter than
    _MEDIAN_TOLERANCE × the mean distance."""
    median = rows.mean(0)
    for _ in range(_MAX_MEDIAN_STEPS):
        distances = torch.linalg.vector_norm(rows - median, dim=1)
        mean_distance = distances.mean()
        if mean_distance == 0:
            break
        weights = 1 / distances.clamp_min(1e-6 * mean_distance)
        step = (weights @ rows) / weights.sum() - median
        median = median + step
        if step.norm() < _MEDIAN_TOLERANCE * mean_distance:
            break
    return median


def evenly_spaced_rows(rows: Float[Tensor, "row d"], n: int) -> Float[Tensor, "some d"]:
    """Return at most n of the rows, evenly spaced."""
    return rows[:: max(1, math.ceil(len(rows) / n))]
