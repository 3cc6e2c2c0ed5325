"""Batches of the rows of a store, in a random order.

In:  shards, each a random sample of all rows. Out: batches [batch, Σ d] in float32, hooks side by side.

Shards come in a random order, and the rows of each in a random order: a shuffle of all rows, with sequential reads.
While the rows of one shard are returned, a thread reads the next, so that two shards are in memory at any time.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least, is_whole_number
from interp.runtime.processes import slice_of_part
from interp.statistics.randomness import shuffled_range
from interp.storage.job_parts import check_part

_GATHERED_ROWS = 512


@dataclass(frozen=True)
class HookRows:
    """The rows of one hook."""

    read: Callable[[int, Float[Tensor, "row d"]], Float[Tensor, "row d"]]
    """(shard index, a buffer that is long enough) → its rows, which may lie in the buffer."""
    d: int
    dtype: torch.dtype
    hook_name: str
    """The hook's name in the store."""
    digest: str
    """Identifies the data; a state is loaded only for the same data."""


class ActivationBatches(Iterator[Tensor]):
    """An iterator that can report its position and resume from there.

    Epoch e is the concatenation of the shards in an order drawn from (seed, e), each in an order drawn from (seed, e,
    shard). The state is the global row offset: the number of rows returned since the start of epoch 0.

    `part=(rank, count)` selects the rank's slice (`processes.slice_of_part`) of every batch; states count the rows of
    whole batches, and so are valid for any part.

    `next` raises ValueError when it reaches a damaged shard; calling it again is allowed. The thread starts with the
    first batch and ends with the iterator. After a fork, the child starts a reader thread of its own.
    """

    def __init__(
        self,
        columns: tuple[HookRows, ...],
        shard_rows: tuple[int, ...],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = 1,
        part: tuple[int, int] = (0, 1),
    ):
        check_at_least(1, epochs=epochs, batch_size=batch_size)
        if not is_whole_number(seed):
            raise InterpError(f"seed={seed!r} must be a whole number")
        self.columns, self.shard_rows, self.batch_size, self.part = columns, shard_rows, batch_size, part
        self.hook_names = tuple(column.hook_name for column in columns)
        self.widths = tuple(column.d for column in columns)
        self.seed, self.shuffle, self.epochs = seed, shuffle, epochs
        check_part(part)
        self._n_rows = sum(shard_rows)
        self._row = 0
        self._shards = _ShardsAhead(columns, max(shard_rows))
        self._acts = list[Tensor]()
        self._order = torch.empty(0, dtype=torch.int64)
        self._entered: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Return the total number of batches, from the start."""
        if self.epochs is None:
            raise TypeError("an endless iterator has no length")
        return math.ceil(self.epochs * self._n_rows / self.batch_size)

    def __next__(self) -> Float[Tensor, "batch d"]:
        n_rows = self.batch_size
        if self.epochs is not None:
            n_rows = min(n_rows, self.epochs * self._n_rows - self._row)
        if n_rows <= 0:
            self._shards = _ShardsAhead(self.columns, max(self.shard_rows))
            self._acts = []
            self._entered = None
            raise StopIteration  # without the thread and the shards in memory
        part = slice_of_part(n_rows, *self.part)
        batch = torch.empty(part.stop - part.start, sum(column.d for column in self.columns))
        filled = 0
        while filled < len(batch):
            at = self._enter(self._row + part.start + filled)
            rows = self._order[at.row : at.row + len(batch) - filled]
            gather_columns(self._acts, rows, batch[filled : filled + len(rows)])
            filled += len(rows)
        self._row += n_rows
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return JSON-able state, from which `load_state_dict` of an iterator with the same arguments resumes."""
        source = " ".join(column.digest for column in self.columns)
        return {"row": self._row, "seed": self.seed, "shuffle": self.shuffle, "source": source}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_state(state, self.state_dict())
        self._row = state["row"]

    def _enter(self, row: int) -> "_EpochRow":
        """Read the shard of a row, and start to read the next one."""
        at = self._find(row)
        if (at.epoch, at.shard) != self._entered:
            self._entered = None
            following = row - at.row + self.shard_rows[at.shard]
            more = self.epochs is None or following < self.epochs * self._n_rows
            self._acts = self._shards.get(at.shard, self._find(following).shard if more else None)
            n_rows = len(self._acts[0])
            order = shuffled_range(n_rows, self.seed, at.epoch, at.shard) if self.shuffle else np.arange(n_rows)
            self._order = torch.from_numpy(order)
            self._entered = (at.epoch, at.shard)
        return at

    def _find(self, row: int) -> "_EpochRow":
        epoch, row = divmod(row, self._n_rows)
        n_shards = len(self.shard_rows)
        shards = shuffled_range(n_shards, self.seed, epoch) if self.shuffle else np.arange(n_shards)
        ends = np.array(self.shard_rows)[shards].cumsum()
        slot = int(np.searchsorted(ends, row, side="right"))
        shard = int(shards[slot])
        return _EpochRow(epoch, shard, row - int(ends[slot]) + self.shard_rows[shard])


class BatchReader(ABC):
    """A store whose rows lie in shards; returns batches of them, of one hook or of several side by side."""

    @property
    @abstractmethod
    def shard_rows(self) -> tuple[int, ...]:
        """Rows of each shard."""

    @abstractmethod
    def columns(self, hook: str | Sequence[str]) -> tuple[HookRows, ...]:
        """Return functions that read the rows of hooks into existing memory."""

    def batches(
        self,
        hook: str | Sequence[str],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = 1,
        part: tuple[int, int] = (0, 1),
    ) -> ActivationBatches:
        """Return batches of rows in float32; endless if `epochs` is None. The activations of several hooks are side by
        side. Batches continue over the end of an epoch, so only the very last may be short. Without `shuffle` the rows
        come in stored order. The order depends only on the store, `shuffle` and `seed`. `part=(rank, count)` selects
        the rank's slice of each batch.
        """
        columns, rows = self.columns(hook), self.shard_rows
        return ActivationBatches(columns, rows, batch_size, seed=seed, shuffle=shuffle, epochs=epochs, part=part)


class _EpochRow(NamedTuple):
    """The epoch and the shard in which a global row offset lies."""

    epoch: int
    shard: int
    row: int
    """The row's index within its shard, in the order of the epoch."""


class _ShardsAhead:
    """Two shards in memory: the one in use, and the next, which a thread reads at the same time."""

    def __init__(self, columns: tuple[HookRows, ...], longest: int):
        self._columns, self._longest = columns, longest
        self._process: int | None = None

    def get(self, shard: int, following: int | None) -> list[Float[Tensor, "row d"]]:
        """Return the columns of a shard, valid until the next call. The thread then reads the following shard."""
        if self._process != os.getpid():  # at the start, or in a fork: threads do not survive a fork
            self._process = os.getpid()
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="shards")
            # shard → (its memory, the future of its read)
            self._reads = dict[int, tuple[list[Tensor], Future[list[Tensor]]]]()
            self._free = [list[Tensor](), list[Tensor]()]
        needed = [shard] if following is None else [shard, following]
        for number in needed:
            if number not in self._reads:
                if not self._free:
                    other = next(other for other in self._reads if other not in needed)
                    self._free.append(self._reads.pop(other)[0])
                memory = self._free.pop()
                self._reads[number] = memory, self._thread.submit(_read, self._columns, self._longest, number, memory)
        memory, acts = self._reads[shard]
        if acts.exception() is not None:
            self._free.append(memory)
            del self._reads[shard]  # another call reads it again
        return acts.result()


def _read(columns: tuple[HookRows, ...], longest: int, shard: int, memory: list[Tensor]) -> list[Tensor]:
    """Read a shard, in the thread. Fresh memory costs more than reading, so memory is reused."""
    if not memory:
        memory.extend(torch.empty(longest, column.d, dtype=column.dtype) for column in columns)
    return [column.read(shard, into) for column, into in zip(columns, memory, strict=True)]


def check_state(state: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that a state is this iterator's. Raises ValueError for the state of another iterator."""
    for key in ("seed", "shuffle", "source"):
        if state.get(key) != expected.get(key):
            raise InterpError(
                f"the state belongs to an iterator with {key}={state.get(key)!r}, this one has {expected[key]!r}"
            )


def gather_columns(
    columns: list[Float[Tensor, "row d"]], rows: Int[Tensor, " batch"], out: Float[Tensor, "batch d"]
) -> None:
    """Copy rows of all columns side by side, in chunks, so that they are widened while they are in the cache."""
    for start in range(0, len(rows), _GATHERED_ROWS):
        chunk, into = rows[start : start + _GATHERED_ROWS], out[start : start + _GATHERED_ROWS]
        first = 0
        for acts in columns:
            into[:, first : first + acts.shape[1]] = acts.index_select(0, chunk)
            first += acts.shape[1]
