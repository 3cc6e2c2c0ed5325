"""Outliers: the few rows of a hook that hold most of its variance, as attention sinks do (arXiv 2309.17453).

In: norms of rows. Out: `Outliers`: how many rows lie above a limit, and how much of the variance they hold.

    limit = 10 × the median norm;    found: the rows above it are under 1 % of all, and hold over half of the variance

Why 10: where a share s of the rows holds over half of the sum of squares, the mean square of these rows is more than
(1 − s) / s times that of the others, 99 times for s = 1 %: their norm is more than √99 ≈ 10 times that of the others.
A sequence may have a sink or two, however short it is; so of sequences below 200 tokens it is two rows each, not 1 %.

The limit is absolute, in the unit of the activations. A store has it in its manifest, a dictionary in its metadata;
whoever encodes rows leaves those above it alone.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.activations.moments import ActivationStatistics, running_sums, sample_rows, statistics_of

if TYPE_CHECKING:
    from interp.activations.store import ActivationStore

log = logging.getLogger(__name__)

TIMES_MEDIAN = 10.0
MAX_ROWS, MAX_A_SEQUENCE = 0.01, 2
"""Outliers are fewer: of all rows, or of those of a sequence where that is more."""
MIN_VARIANCE = 0.5
SAMPLE_ROWS = 1 << 13
"""A median is good to a percent or two, and sinks of one row in a thousand are eight."""
_CENTRE_ROWS = 512
_CHUNK_ROWS = 4096


class Outliers(NamedTuple):
    median_norm: float
    limit: float
    rows: float
    """Share above the limit."""
    variance: float
    """Share that they hold, about the centre of the others."""
    found: bool
    """Whether they are few and hold most of it."""

    @property
    def said(self) -> str:
        times = f"above {self.limit / self.median_norm:.3g} × the median {self.median_norm:.4g}"
        return f"{self.rows:.2%} of the rows, with norms {times}, hold {self.variance:.1%} of the variance"

    @property
    def told(self) -> dict[str, float]:
        """For the manifest."""
        return {"median_norm": self.median_norm, "rows": self.rows, "variance": self.variance}


def check_max_norm(max_norm: float | str | None) -> None:
    if not (max_norm is None or max_norm == "auto" or (isinstance(max_norm, int | float) and max_norm > 0)):
        raise ValueError(f"max_norm={max_norm!r} must be 'auto', None, or above 0 (in units of the median norm)")


def find_outliers(
    norms: Float[Tensor, " row"],
    squares: Float[Tensor, " row"],
    n_ctx: int | None,
    max_norm: float | str | None = "auto",
    *,
    mean_square: float | None = None,
) -> Outliers:
    """Among rows of these norms and squared distances from a centre; those that are not finite do not count.

    `mean_square`: of the distances of all rows, where these are a sample, which may lack the rarest.
    """
    finite = norms.isfinite() & squares.isfinite()
    norms, squares = norms[finite], squares[finite].double()
    median = norms.median().item() if len(norms) else 0.0
    limit = median * (max_norm if isinstance(max_norm, int | float) else TIMES_MEDIAN)
    within = norms <= limit
    rows = 1.0 - within.double().mean().item() if len(norms) else 0.0
    total = squares.mean().item() if mean_square is None else mean_square
    held = max(0.0, 1.0 - squares[within].sum().item() / len(squares) / total) if len(squares) and total > 0 else 0.0
    few = max(MAX_ROWS, MAX_A_SEQUENCE / n_ctx if n_ctx else 0.0)
    return Outliers(median, limit, rows, held, median > 0 and rows < few and held > MIN_VARIANCE)


def outliers_among(
    rows: Float[Tensor, "row d"],
    all_rows: ActivationStatistics,
    n_ctx: int | None,
    max_norm: float | str | None = "auto",
) -> Outliers:
    """Among all rows, of which these are a random sample."""
    rows = _some(rows, SAMPLE_ROWS)
    blocks = rows.split(_CHUNK_ROWS)
    norms = torch.cat([torch.linalg.vector_norm(block.float(), dim=1) for block in blocks])
    centre = _some(rows[norms <= TIMES_MEDIAN * norms.median()], _CHUNK_ROWS).float().mean(0)
    squares = torch.cat([(block.float() - centre).square().sum(1) for block in blocks])
    off = float((all_rows.mean - centre).double().square().sum())
    return find_outliers(norms, squares, n_ctx, max_norm, mean_square=all_rows.variance + off)


def outliers_of(store: "ActivationStore", hook: str, max_norm: float | str | None = "auto") -> Outliers:
    """Of a store's rows, told by one shard and its statistics."""
    return outliers_among(_one_shard(store, hook), store.statistics(hook), store.n_ctx, max_norm)


def _one_shard(store: "ActivationStore", hook: str) -> Float[Tensor, "row d"]:
    """The longest: some may be empty."""
    return store.shard(max(range(store.n_shards), key=store.shard_rows.__getitem__), hook).acts


def warn_of_outliers(where: object, hook: str, found: Outliers) -> None:
    if found.found:
        remedy = "`store.select(…, max_norm='auto')` makes one without them"
        log.warning("the store %s keeps outliers at %s: %s; %s", where, hook, found.said, remedy)


class Limited(NamedTuple):
    """What there is to know of a hook's rows before training on them."""

    limit: float | None
    """The norm above which a row is an outlier; None: none is."""
    mask: float | None
    """The limit, where there may be rows above it."""
    statistics: ActivationStatistics
    """Of the rows within the limit."""


def limited(store: "ActivationStore", hook: str) -> Limited:
    """A store that was made under a limit holds no row above it, and one that was to keep all keeps them. In another
    outliers are looked for: where there are some (a warning), the statistics are those of one shard without them.
    """
    statistics = store.statistics(hook)
    if hook in store.norm_limits or store.keeps_outliers:
        return Limited(store.norm_limits.get(hook), None, statistics)
    found = outliers_among(acts := _one_shard(store, hook), statistics, store.n_ctx)
    if not found.found:
        return Limited(None, None, statistics)
    log.warning("%s in %s: %s; they do not train. `store.select(…, max_norm='auto')`", hook, store.path, found.said)
    kept = acts[within(acts, found.limit)]
    sums = running_sums(kept.double(), torch.linalg.vector_norm(kept.float(), dim=1))
    few = _some(kept, sample_rows(acts.shape[1]))
    return Limited(found.limit, found.limit, statistics_of(sums, len(kept), few))


def limit_on(dictionary: Any, store: "ActivationStore", hook: str) -> float | None:
    """The limit of a dictionary, where a store may hold rows above it."""
    limit = norm_limit(dictionary)
    return None if limit is None or limit >= store.norm_limits.get(hook, float("inf")) else limit


def within(rows: Float[Tensor, "row d"], limit: float) -> Bool[Tensor, " row"]:
    return torch.linalg.vector_norm(rows.float(), dim=1) <= limit


def norm_limit(dictionary: Any) -> float | None:
    """The norm above which rows mean nothing to a dictionary (`metadata["norm_limit"]`); None where it has no limit.

    Raises ValueError for one that is no number above 0."""
    limit = (getattr(dictionary, "metadata", None) or {}).get("norm_limit")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise ValueError(f"the dictionary's metadata say norm_limit={limit!r}: a number above 0, or none, is needed")
    return float(limit)


class NormSample:
    """Norms of the rows of a hook, as `add` is given them, and their distances from the first ones' median."""

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
            self._centre = _some(rows, _CENTRE_ROWS).median(0).values
        self._row_ids.append(row_ids)
        self._norms.append(torch.linalg.vector_norm(rows, dim=1).cpu())
        self._squares.append((rows - self._centre).square().sum(1).cpu())

    def outliers(self, n_ctx: int, max_norm: float | str | None) -> Outliers:
        return find_outliers(torch.cat(self._norms), torch.cat(self._squares), n_ctx, max_norm)

    def places(self, limit: float, tokens: Int[Tensor, "seq pos"], words: Sequence[str] | None) -> str:
        """Where most of the rows above a limit are. words: of the token ids, where they are known."""
        at = torch.cat(self._row_ids)[torch.cat(self._norms) > limit]
        positions, ids = at % tokens.shape[1], tokens.flatten()[at]
        named = ", ".join(repr(words[i]) if words else str(i) for i in _frequent(ids))
        return f"most at positions {', '.join(map(str, _frequent(positions)))}, of tokens {named}"


def _some(rows: Float[Tensor, "row d"], n: int) -> Float[Tensor, "some d"]:
    """At most n, spread evenly."""
    return rows[:: max(1, -(-len(rows) // n))]


def _frequent(numbers: Int[Tensor, " n"]) -> list[int]:
    return [number for number, _ in Counter(numbers.tolist()).most_common(3)]
