"""Outliers among the rows of a hook: the few rows that hold most of the variance, as attention sinks do (arXiv
2309.17453).

    limit = 10 × the median norm;    found: the rows above it are under 1 % of all, and hold over half of the variance

If a share s of the rows holds over half of the sum of squares, their mean square is more than (1 − s) / s times that of
the others, 99 times for s = 1 %, so their norm is more than √99 ≈ 10 times as large. A sequence may have a sink or two,
however short it is; so for sequences below 200 tokens the bound is two rows each instead of 1 %. The limit is in the
unit of the activations. A store records it in its manifest, a dictionary in its metadata; rows above it are not
encoded.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.activations.row_statistics import ActivationStatistics, evenly_spaced_rows

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
_CENTRE_ROWS = 512
_CHUNK_ROWS = 4096


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


class NormLimits(NamedTuple):
    """The norms above which rows are left out, for the manifest."""

    limits: dict[str, float] | None
    """By hook; None if all rows are kept, whatever their norm."""
    outliers: dict[str, Any] | None
    """What a sample of each hook's rows says of its outliers."""


class NormSample:
    """Norms of the rows of a hook that `add` receives, and their distances from the geometric median of the first
    ones."""

    def __init__(self) -> None:
        self._norms: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._row_ids: list[Tensor] = []
        self._centre: Tensor | None = None

    def add(self, row_ids: Int[Tensor, " row"], rows: Float[Tensor, "row d"]) -> None:
        if not len(rows):
            return
        rows = rows.float()
        if self._centre is None:
            self._centre = evenly_spaced_rows(rows, _CENTRE_ROWS).median(0).values
        self._row_ids.append(row_ids)
        self._norms.append(torch.linalg.vector_norm(rows, dim=1).cpu())
        self._squares.append((rows - self._centre).square().sum(1).cpu())

    def outliers(self, n_ctx: int, max_norm: float | str | None) -> Outliers:
        return find_outliers(torch.cat(self._norms), torch.cat(self._squares), n_ctx, max_norm)

    def where_above(
        self, limit: float, n_ctx: int, tokens: Int[Tensor, "seq pos"] | None, token_strings: Sequence[str] | None
    ) -> str:
        """Describe where most of the rows above a limit are.
        tokens: None if the inputs are not text.
        token_strings: the strings of the token ids, if known."""
        row_ids = torch.cat(self._row_ids)[torch.cat(self._norms) > limit]
        positions = ", ".join(map(str, _most_frequent(row_ids % n_ctx)))
        if tokens is None:
            return f"most at positions {positions}"
        token_ids = _most_frequent(tokens.flatten()[row_ids])
        strings = ", ".join(repr(token_strings[i]) if token_strings else str(i) for i in token_ids)
        return f"most at positions {positions}, of tokens {strings}"


def _most_frequent(numbers: Int[Tensor, " n"]) -> list[int]:
    return [number for number, _ in Counter(numbers.tolist()).most_common(3)]
