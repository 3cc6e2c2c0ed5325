"""Statistics of a hook's activations, collected while they are written, and the outliers among its rows.

Over the rows x of a store,

    mean = E x,   mean_norm = E ‖x‖,   variance = E ‖x − mean‖² = E ‖x‖² − ‖mean‖²

are exact running sums in float64. Two more are computed from a seeded sample of the rows, as on all rows they would
cost as much as a small model's forward pass: the second moment E x xᵀ (d² per row), and the geometric median argmin_m E
‖x − m‖ (iterative).

Outliers are the few rows that hold most of the variance, as attention sinks do (arXiv 2309.17453):

    limit = 10 × the median norm;    found: the rows above it are under 1 % of all, and hold over half of the variance

If a share s of the rows holds over half of the sum of squares, their mean square is more than (1 − s) / s times that of
the others, 99 times for s = 1 %, so their norm is more than √99 ≈ 10 times as large. A sequence may have a sink or two,
however short it is; so for sequences below 200 tokens the bound is two rows each instead of 1 %. The limit is in the
unit of the activations. A store records it in its manifest, a dictionary in its metadata; rows above it are not
encoded.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

STATISTICS_ROWS = 32_768
_MEDIAN_ROWS = _CHUNK_ROWS = 4096
_WIDEST_SECOND_MOMENT = 2048
_MAX_MEDIAN_STEPS = 100
_MEDIAN_TOLERANCE = 1e-4
TENSORS = ("mean", "geometric_median", "second_moment")
"""The statistics that are stored as tensors; the others are numbers."""
TIMES_MEDIAN = 10.0
MAX_SHARE_OF_OUTLIERS = 0.01
"""Outliers are fewer than this share of all rows, or than MAX_OUTLIERS_PER_SEQUENCE if that is more."""
MAX_OUTLIERS_PER_SEQUENCE = 2
"""Rows per sequence."""
MIN_VARIANCE = 0.5
_ROUNDING = 1e-6
"""Variance in units of the squared median norm, up to which it may be rounding: that of equal rows is not exactly 0."""
NORM_SAMPLE_ROWS = 1 << 13
"""Enough for a median that is accurate to a percent or two, and for eight sinks if one row in a thousand is one."""


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


class Outliers(NamedTuple):
    median_norm: float
    limit: float
    row_share: float
    """The share of the rows that are above the limit, in [0, 1]."""
    variance_share: float
    """The share of the variance, around the centre of the other rows, that these rows hold, in [0, 1]."""
    are_dominant: bool
    """Whether few rows hold most of the variance."""

    @property
    def summary(self) -> str:
        """The outliers in a line."""
        times = f"above {self.limit / self.median_norm:.3g} × the median {self.median_norm:.4g}"
        return f"{self.row_share:.2%} of the rows, with norms {times}, hold {self.variance_share:.1%} of the variance"

    def to_manifest(self) -> dict[str, float]:
        """Return the entry of the store's manifest."""
        return {"median_norm": self.median_norm, "rows": self.row_share, "variance": self.variance_share}


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


def find_outliers(
    norms: Float[Tensor, " row"],
    squares: Float[Tensor, " row"],
    n_ctx: int | None,
    max_norm: float | str | None = "auto",
    *,
    mean_square: float | None = None,
) -> Outliers:
    """Find the outliers among rows, from their norms and their squared distances from a centre. Rows that are not
    finite do not count.
    mean_square: the mean of the squared distances over all rows, if these rows are a sample, which may lack the
    rarest."""
    finite = norms.isfinite() & squares.isfinite()
    norms = norms[finite]
    squares = squares[finite].double()
    median = norms.median().item() if len(norms) else 0.0
    limit = median * (max_norm if isinstance(max_norm, int | float) else TIMES_MEDIAN)
    below = norms <= limit
    row_share = 1.0 - below.double().mean().item() if len(norms) else 0.0
    total = squares.mean().item() if mean_square is None else mean_square
    has_variance = len(squares) > 0 and total > _ROUNDING * median**2
    variance_share = max(0.0, 1.0 - squares[below].sum().item() / len(squares) / total) if has_variance else 0.0
    max_share = max(MAX_SHARE_OF_OUTLIERS, MAX_OUTLIERS_PER_SEQUENCE / n_ctx if n_ctx else 0.0)
    are_dominant = median > 0 and row_share < max_share and variance_share > MIN_VARIANCE
    return Outliers(median, limit, row_share, variance_share, are_dominant)


def outliers_among(rows: Float[Tensor, "row d"], all_rows: ActivationStatistics, n_ctx: int | None) -> Outliers:
    """Find the outliers among all rows of a store, of which `rows` are a random sample."""
    rows = evenly_spaced_rows(rows, NORM_SAMPLE_ROWS)
    blocks = rows.split(_CHUNK_ROWS)
    norms = torch.cat([torch.linalg.vector_norm(block.float(), dim=1) for block in blocks])
    centre = evenly_spaced_rows(rows[norms <= TIMES_MEDIAN * norms.median()], _CHUNK_ROWS).float().mean(0)
    squares = torch.cat([(block.float() - centre).square().sum(1) for block in blocks])
    off = float((all_rows.mean - centre).double().square().sum())
    return find_outliers(norms, squares, n_ctx, mean_square=all_rows.variance + off)


def is_within(rows: Float[Tensor, "row d"], limit: float) -> Bool[Tensor, " row"]:
    """Return whether each row's norm is at most `limit`."""
    return torch.linalg.vector_norm(rows.float(), dim=1) <= limit


def evenly_spaced_rows(rows: Float[Tensor, "row d"], n: int) -> Float[Tensor, "some d"]:
    """Return at most n of the rows, evenly spaced."""
    return rows[:: max(1, math.ceil(len(rows) / n))]
