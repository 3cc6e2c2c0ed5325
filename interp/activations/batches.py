"""Batches of the rows of a store, in a random order.

In:  shards, each a random sample of all rows. Out: batches [batch, d] in float32.

Shards come in a random order, and the rows of each in a random order: a shuffle of all rows, with sequential reads and
one shard in memory. All of it follows from the seed, so that where an iterator stands is one number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ShardSource:
    """What the rows are read from."""

    read: Callable[[int], Float[Tensor, "row d"]]
    """Shard number → its rows, in any float dtype."""
    shard_rows: tuple[int, ...]
    d: int
    fingerprint: str
    """Says which data this is; a state is only loaded on the same."""


class ActivationBatches(Iterator[Tensor]):
    """Iterator over batches [batch, d] in float32 that can say where it stands and go on from there.

    Epoch e is the concatenation of the shards in an order drawn from (seed, e), each in an order drawn from (seed, e,
    shard). The state is the number of rows given out, of the endless row of epochs.
    """

    def __init__(
        self,
        source: ShardSource,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = 1,
        drop_last: bool = False,
    ):
        if epochs is not None and epochs < 1:
            raise ValueError(f"epochs={epochs} must be at least 1, or None for an endless iterator")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.source, self.batch_size = source, batch_size
        self.seed, self.shuffle, self.epochs, self.drop_last = seed, shuffle, epochs, drop_last
        self._n_rows = sum(source.shard_rows)
        self._row = 0
        self._epoch = -1
        self._shards = np.arange(len(source.shard_rows))
        self._ends = np.cumsum(source.shard_rows)
        self._slot = -1
        self._acts = torch.empty(0)
        self._order = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Batches in all, from the start."""
        if self.epochs is None:
            raise TypeError("an endless iterator has no length")
        rows = self.epochs * self._n_rows
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __next__(self) -> Float[Tensor, "batch d"]:
        wanted = self.batch_size
        if self.epochs is not None:
            wanted = min(wanted, self.epochs * self._n_rows - self._row)
        if wanted <= 0 or (self.drop_last and wanted < self.batch_size):
            raise StopIteration
        batch, filled = torch.empty(wanted, self.source.d), 0
        while filled < wanted:
            rows = self._rows(wanted - filled)
            batch[filled : filled + len(rows)] = rows
            filled += len(rows)
            self._row += len(rows)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; `load_state_dict` of an iterator with the same arguments goes on from here."""
        return {
            "row": self._row,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "source": self.source.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        mine = self.state_dict()
        for key in ("seed", "shuffle", "source"):
            if state[key] != mine[key]:
                raise ValueError(f"the state is of an iterator with {key}={state[key]!r}, this one has {mine[key]!r}")
        self._row = state["row"]

    def _rows(self, at_most: int) -> Float[Tensor, "row d"]:
        """The next rows, as far as the shard goes that the next one is in."""
        epoch, row = divmod(self._row, self._n_rows)
        if epoch != self._epoch:
            self._epoch, self._slot = epoch, -1
            if self.shuffle:
                self._shards = self._generator(epoch).permutation(len(self._shards))
            self._ends = np.array(self.source.shard_rows)[self._shards].cumsum()
        slot = int(np.searchsorted(self._ends, row, side="right"))
        if slot != self._slot:
            shard = int(self._shards[slot])
            self._acts, self._slot = self.source.read(shard), slot
            n_rows = len(self._acts)
            order = self._generator(epoch, shard).permutation(n_rows) if self.shuffle else np.arange(n_rows)
            self._order = torch.from_numpy(order)
        first = row - (int(self._ends[slot]) - len(self._acts))
        return self._acts[self._order[first : first + at_most]]

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**64, *key])
