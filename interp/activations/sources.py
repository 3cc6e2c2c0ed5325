"""The protocols of sources of activations: the methods that training and scans need.

    ActivationSource     rows to train on: their statistics, and batches in a random order
      StoredRows         rows that can be read again, shard after shard: what a scan needs too
        ActivationStore  a folder
        JoinedStore      several folders side by side
        ActivationStream a model that runs whenever rows are needed

A protocol or class that is indented extends the one above it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.outliers import is_within
from interp.activations.row_statistics import ActivationStatistics
from interp.checks.errors import InterpError
from interp.storage.manifests import MADE_OF


@dataclass(frozen=True)
class Shard:
    """Some rows of a hook, with their ids."""

    row_ids: Int[Tensor, " row"]
    """seq · n_ctx + pos of each row, ascending."""
    acts: Float[Tensor, "row d"]
    """In the dtype of the store."""

    def within(self, limit: float | None) -> "Shard":
        """Return the rows whose norm is not above the limit; all if there is none."""
        if limit is None:
            return self
        is_below = is_within(self.acts, limit)
        return Shard(self.row_ids[is_below], self.acts[is_below])


class RowLimit(NamedTuple):
    """The limit of a hook's rows and their statistics, which training needs first."""

    limit: float | None
    """The norm above which a row is an outlier, or None if there are no outliers."""
    has_outliers: bool
    """Whether the source may return rows above the limit, which training must leave out."""
    statistics: ActivationStatistics
    """Statistics of the rows within the limit."""


class Provenance(NamedTuple):
    """The origin of rows, which a dictionary trained on them records."""

    model_name: str | None
    """The name of the model; None if there was none, or several."""
    exclude: Sequence[int]
    """Token ids that were left out."""
    exclude_positions: Sequence[int]
    """Positions of a sequence that were left out."""
    prepend_bos: bool | None
    """Whether all sequences start with the same token; None if unknown."""

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> "Provenance":
        """Read the origin from the manifest of a store."""
        made_of = manifest[MADE_OF]
        return cls(
            model_name=manifest.get("model_name"),
            exclude=made_of.get("exclude") or (),
            exclude_positions=made_of.get("exclude_positions") or (),
            prepend_bos=manifest.get("prepend_bos"),
        )


def are_all_equal(ids: Int[Tensor, " id"]) -> bool:
    """Return whether there are ids, and all of them are the same."""
    return len(ids) > 0 and bool((ids == ids[0]).all())


@runtime_checkable
class ActivationSource(Protocol):
    """Rows x [row, d] of one or more hooks, all of the same tokens, to train on."""

    digest: str
    """Identifies the data: an interrupted training resumes only on the same data."""

    @property
    def hook_names(self) -> tuple[str, ...]: ...

    @property
    def n_ctx(self) -> int | None:
        """Tokens per sequence, or positions per input; None if the rows do not come from a model."""

    @property
    def weights(self) -> str | None:
        """Digest of the weights of the model that produced the rows; None if there was none, or several."""

    @property
    def norm_limits(self) -> dict[str, float]:
        """Norms above which rows were left out, by hook; a hook without a limit is not in it."""

    @property
    def provenance(self) -> Provenance: ...

    def __len__(self) -> int:
        """Count the rows."""

    def name_of(self, hook: str) -> str:
        """Return the source's name for a hook, from any of its names in the model. Raises ValueError if the source
        lacks it."""

    def d(self, hook: str) -> int:
        """Return the width of a hook. Raises ValueError for an unknown hook."""

    def statistics(self, hook: str) -> ActivationStatistics: ...

    def row_limit(self, hook: str) -> RowLimit: ...

    def batches(
        self,
        hook: str | Sequence[str],
        batch_size: int,
        seed: int = 0,
        *,
        epochs: int | None = 1,
        part: tuple[int, int] = (0, 1),
    ) -> Any:
        """Return batches [batch, Σ d] in float32, endless if `epochs` is None. They can resume with `state_dict` and
        `load_state_dict`."""


class StoredRows(ActivationSource, Protocol):
    """Rows that can be read again, each in a shard."""

    @property
    def location(self) -> str:
        """Where the rows are, for messages."""

    @property
    def tokens(self) -> Int[Tensor, "seq pos"] | None:
        """Token ids of all sequences, excluded rows included; None if the rows do not come from tokens."""

    @property
    def n_ids(self) -> int:
        """Number of rows of all sequences, including excluded ones: all row ids are below it."""

    @property
    def n_shards(self) -> int: ...

    @property
    def shard_rows(self) -> tuple[int, ...]:
        """Rows of each shard."""

    def shard(self, index: int, hook: str) -> Shard: ...


def first_rows(rows: StoredRows, hook: str) -> Shard:
    """Return the first shard that has rows, since some shards may be empty."""
    return rows.shard(next(index for index, n_rows in enumerate(rows.shard_rows) if n_rows), hook)


def canonical_name_in(hook: str, names: Sequence[str], aliases: Mapping[str, Sequence[str]], source: object) -> str:
    """Return the name of a hook in a source, from that name or one of its aliases.

    Raises ValueError if the source lacks it."""
    for name in names:
        if hook == name or hook in aliases.get(name, ()):
            return name
    raise InterpError(f"{source} has no activations of {hook!r}; it has {', '.join(names)}")
