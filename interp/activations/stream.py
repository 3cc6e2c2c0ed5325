"""Activations that are never stored: the model runs whenever a training or a scan needs rows.

In:  a model, tokens, hooks. Out: `StoredRows`: what a store gives to training and to a scan.

1. In each epoch the sequences are put in a random order and cut into chunks that fill a buffer in memory.
2. The model runs on the sequences of a chunk; their rows, rounded as a store rounds them, leave in a random order.
3. A scan reads the sequences in their order: a shard is as many of them as fill the buffer.
4. Scales and the first b_dec come from 32,768 tokens spread evenly over the text (a geometric median from as many of
   their rows as a chunk has), norm limits from 8,192 (`harvest`).

Where all rows fit the buffer the model runs once, the statistics are exact, and the batches are those of a store with
one shard: the weights come out bit for bit as from `harvest` and `train_sae`. Otherwise a batch mixes the sequences of
a chunk, not of all the text, and each epoch runs the model again. A training that resumes runs the model only on the
chunk at which it stopped.

The last chunk is kept until another is asked for. Trainings and scans of several hooks that take turns at each chunk
(`train_saes`, `scan_saes`) therefore share the passes of the model.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.batches import check_state, gather_columns
from interp.activations.harvest_options import Dtype, RowOptions
from interp.activations.hooks import Model, as_hook_names, evaluating
from interp.activations.model_passes import ModelPasses, TokenBatches, concatenate_tokens
from interp.activations.row_statistics import ActivationStatistics, n_sample_rows, running_sums, statistics_of
from interp.activations.shards import DTYPES, as_stored_in_float32, overflow_hint
from interp.activations.sources import Provenance, RowLimit, Shard, are_all_equal, canonical_name_in
from interp.checks.errors import InterpError
from interp.checks.limits import PositiveInt, check_at_least, check_value
from interp.runtime.processes import slice_of_part
from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import torch_on_all_threads
from interp.statistics.randomness import shuffled_range
from interp.storage.files import digest_json

BUFFER_BYTES = 256 << 20
_STATISTICS_TOKENS = 32_768


class Chunk(NamedTuple):
    sequences: Int[Tensor, " seq"]
    row_ids: Int[Tensor, " row"]
    acts: dict[str, Float[Tensor, "row d"]]
    sums: dict[str, Float[Tensor, " d_plus_2"]]
    """`running_sums` of the rows before rounding."""


class ActivationStream:
    """Rows that a model gives whenever they are asked for. `tokens` are those of `harvest`."""

    def __init__(
        self,
        model: Model,
        tokens: TokenBatches,
        hook_names: Sequence[str],
        *,
        dtype: Dtype = "bfloat16",
        batch_size: int = 64,
        exclude: Sequence[int] = (),
        exclude_positions: Sequence[int] = (),
        max_norm: float | Literal["auto"] | None = "auto",
        buffer_bytes: int = BUFFER_BYTES,
        max_tokens: int | None = None,
        progress: Progress = no_progress,
    ):
        """Find the norm limits; no rows are kept yet. The options of rows are those of `harvest`.

        buffer_bytes: most bytes of rows in memory.
        max_tokens: from a generator, which may be endless, take batches until they have so many tokens.
        progress: called for each chunk.
        """
        options = RowOptions(
            dtype=dtype, batch_size=batch_size, exclude=exclude, exclude_positions=exclude_positions, max_norm=max_norm
        )
        check_value("buffer_bytes", buffer_bytes, PositiveInt)
        tokens = concatenate_tokens(tokens, max_tokens)
        self.passes = ModelPasses.of(model, tokens, hook_names, options)
        config = {"source": "stream", **self.passes.made_of()}
        self.progress = progress
        self._dtype = DTYPES[options.dtype]
        self._last_chunk: Chunk | None = None
        with evaluating(self.passes.module):
            widths = self.passes.widths()
            norm_limits = self.passes.norm_limits().limits
        self.norm_limits: dict[str, float] = norm_limits or {}
        row_bytes = sum(widths.values()) * self._dtype.itemsize
        n_seq = len(tokens)
        n_ctx = self.passes.n_ctx
        self.n_chunks = math.ceil(n_seq / max(1, buffer_bytes // (n_ctx * row_bytes)))
        self.digest = digest_json({**config, "n_chunks": self.n_chunks})
        self.hook_names = tuple(widths)
        self.n_ctx = n_ctx
        self._widths = widths
        self.weights: str = config["weights"]
        prepend_bos = are_all_equal(tokens[:, 0]) if self.passes.is_text else None
        left_out = config["exclude"], config.get("exclude_positions", ())
        self.provenance = Provenance(self.passes.name or None, *left_out, prepend_bos)

    def __len__(self) -> int:
        """Return the number of rows per epoch, including rows above a norm limit, which are unknown before the model
        runs."""
        return self.passes.n_rows

    def __repr__(self) -> str:
        hooks = ", ".join(f"{hook} ({d})" for hook, d in self._widths.items())
        return f"ActivationStream({len(self):,} rows of {hooks}, in {self.n_chunks} chunks)"

    def name_of(self, hook: str) -> str:
        """Return the stream's name for a hook, from any of its names in the model. Raises ValueError if it is not
        streamed."""
        return canonical_name_in(hook, self.hook_names, self.passes.aliases, "the stream")

    def d(self, hook: str) -> int:
        """Return the width of a hook. Raises ValueError for a hook that is not streamed."""
        return self._widths[self.name_of(hook)]

    @property
    def location(self) -> str:
        return "the stream"

    @property
    def tokens(self) -> Int[Tensor, "seq pos"] | None:
        """Token ids of all sequences, excluded rows included; None where the rows are not text."""
        return self.passes.tokens.int() if self.passes.is_text else None

    @property
    def n_ids(self) -> int:
        """Rows of all sequences, those left out too: row ids are below it."""
        return len(self.passes)

    @property
    def n_shards(self) -> int:
        return self.n_chunks

    @cached_property
    def shard_rows(self) -> tuple[int, ...]:
        """Most rows of each shard; those above a norm limit count, as they are not known before the model runs."""
        return tuple(len(self.passes.kept_rows(sequences)) for sequences in self._in_order())

    def shard(self, index: int, hook: str) -> Shard:
        """Run the model on the sequences of a shard, unless the last call was for them."""
        chunk = self.chunk(self._in_order()[index])
        return Shard(chunk.row_ids, chunk.acts[self.name_of(hook)])

    def _in_order(self) -> tuple[Int[Tensor, " seq"], ...]:
        return torch.arange(len(self.passes.tokens)).tensor_split(self.n_chunks)

    def statistics(self, hook: str) -> ActivationStatistics:
        return self._statistics[self.name_of(hook)]

    @cached_property
    def _statistics(self) -> dict[str, ActivationStatistics]:
        """The statistics of each hook, from a sample that is run a buffer at a time."""
        n_seq = len(self.passes.tokens)
        sequences = self.passes.evenly_spaced(_STATISTICS_TOKENS if self.n_chunks > 1 else len(self.passes))
        parts = sequences.split(math.ceil(n_seq / self.n_chunks))
        sums = {name: torch.zeros(d + 2, dtype=torch.float64) for name, d in self._widths.items()}
        samples: dict[str, list[Tensor]] = {name: [] for name in self._widths}
        n_rows = 0
        for part in parts:
            chunk = self.chunk(part)
            n_rows += len(chunk.row_ids)
            order = torch.from_numpy(shuffled_range(len(chunk.row_ids), 0, len(chunk.row_ids)))
            for name, rows in chunk.acts.items():
                n_sample = min(n_sample_rows(rows.shape[1]), len(part) * self.n_ctx)
                samples[name].append(rows[order[: math.ceil(n_sample / len(parts))]])
                sums[name] += chunk.sums[name]
        if not n_rows:
            raise InterpError(
                "every row that the statistics are made of is above a norm limit: nothing is left to train on"
            )
        return {name: statistics_of(sums[name], n_rows, _mixed(samples[name])) for name in sums}

    def row_limit(self, hook: str) -> RowLimit:
        """Return the limit of a hook's rows and their statistics; all returned rows are within it."""
        return RowLimit(self.norm_limits.get(self.name_of(hook)), False, self.statistics(hook))

    def batches(
        self,
        hook: str | Sequence[str],
        batch_size: int,
        seed: int = 0,
        *,
        epochs: int | None = 1,
        part: tuple[int, int] = (0, 1),
    ) -> "StreamBatches":
        """Return batches of rows in float32; endless if `epochs` is None. Batches continue over the end of an epoch, so
        only the very last may be short. `part=(rank, count)` selects the rank's slice of each."""
        return StreamBatches(self, tuple(map(self.name_of, as_hook_names(hook))), batch_size, seed, epochs, part)

    def chunk(self, sequences: Int[Tensor, " seq"]) -> Chunk:
        """Run the model on these sequences, unless the last call had the same ones."""
        if self._last_chunk is not None and torch.equal(self._last_chunk.sequences, sequences):
            return self._last_chunk
        self._last_chunk = None
        used = 0
        n_rows = len(sequences) * self.passes.n_ctx
        widths = {name: self.d(name) for name in self.hook_names}
        acts = {name: torch.empty(n_rows, d, dtype=self._dtype) for name, d in widths.items()}
        sums = {name: torch.zeros(d + 2, dtype=torch.float64) for name, d in widths.items()}
        row_ids = torch.empty(n_rows, dtype=torch.int64)
        with evaluating(self.passes.module), torch_on_all_threads():
            for batch in sequences.split(self.passes.options.batch_size):
                ids_of_batch, rows_of_batch = self.passes.run(batch)
                rows = {name: as_stored_in_float32(x, self._dtype) for name, x in rows_of_batch.items()}
                norms = {name: torch.linalg.vector_norm(x, dim=1) for name, x in rows.items()}
                within = torch.ones(len(rows[self.hook_names[0]]), dtype=torch.bool)
                for name, norm in norms.items():
                    if not norm.isfinite().all():
                        raise InterpError(
                            f"hook {name!r}: activations in sequences {batch.tolist()} are not finite"
                            f"{overflow_hint(self._dtype)}"
                        )
                    within &= (norm <= self.norm_limits.get(name, float("inf"))).cpu()
                at = slice(used, used + int(within.sum()))
                row_ids[at] = ids_of_batch[within]
                for name, x in rows.items():
                    x, norm = (x, norms[name]) if within.all() else (x[within], norms[name][within])
                    acts[name][at] = x
                    sums[name] += running_sums(x, norm)
                used += int(within.sum())
                self.progress(used, n_rows, "rows of a chunk")
        self._last_chunk = Chunk(sequences, row_ids[:used], {name: x[:used] for name, x in acts.items()}, sums)
        return self._last_chunk


def _mixed(parts: Sequence[Float[Tensor, "row d"]]) -> Float[Tensor, "all_rows d"]:
    """Return the rows of all parts in a random order, since the geometric median is made of the first ones. The rows of
    a single part are in a random order already."""
    rows = torch.cat(list(parts))
    return rows if len(parts) == 1 else rows[torch.from_numpy(shuffled_range(len(rows), 0, len(rows)))]


class StreamBatches(Iterator[Tensor]):
    """The batches of a stream, from chunks whose numbers of rows are unknown before the model runs."""

    def __init__(
        self,
        stream: ActivationStream,
        hooks: tuple[str, ...],
        batch_size: int,
        seed: int,
        epochs: int | None,
        part: tuple[int, int],
    ):
        check_at_least(1, epochs=epochs, batch_size=batch_size)
        self.stream, self.hooks, self.batch_size, self.seed, self.part = stream, hooks, batch_size, seed, part
        self.epochs = epochs
        self._epoch, self._chunk, self._row = 0, 0, 0
        self._shuffled: tuple[tuple[int, int], Tensor, Tensor] | None = None
        """An epoch and a chunk, the sequences of this chunk, and the order of its rows."""

    def __next__(self) -> Float[Tensor, "batch d"]:
        batch = torch.empty(self.batch_size, sum(map(self.stream.d, self.hooks)))
        filled = 0
        n_empty = 0  # chunks without a row, the last ones
        while filled < self.batch_size and self._epoch != self.epochs:
            acts, order = self._chunk_in_order()
            n_rows = len(order)
            rows = order[self._row : self._row + self.batch_size - filled]
            gather_columns([acts[name] for name in self.hooks], rows, batch[filled : filled + len(rows)])
            filled, self._row = filled + len(rows), self._row + len(rows)
            if self._row == n_rows:
                done = self._epoch * self.stream.n_chunks + self._chunk + 1
                (self._epoch, self._chunk), self._row = divmod(done, self.stream.n_chunks), 0
                n_empty = 0 if n_rows else n_empty + 1
                if self._chunk == 0 and n_empty >= self.stream.n_chunks:
                    raise InterpError("every row of the stream is above a norm limit: there is no batch")
        if not filled:
            raise StopIteration
        return batch[slice_of_part(filled, *self.part)]

    def state_dict(self) -> dict[str, Any]:
        at = {"epoch": self._epoch, "chunk": self._chunk, "row": self._row}
        return {**at, "seed": self.seed, "source": self.stream.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_state(state, self.state_dict())
        self._epoch, self._chunk, self._row = state["epoch"], state["chunk"], state["row"]

    def _chunk_in_order(self) -> tuple[dict[str, Float[Tensor, "row d"]], Int[Tensor, " row"]]:
        """Return the activations of the chunk and the order of its rows, which is drawn once for all its batches."""
        at = self._epoch, self._chunk
        if self._shuffled is not None and self._shuffled[0] == at:
            return self.stream.chunk(self._shuffled[1]).acts, self._shuffled[2]
        parts = np.array_split(
            shuffled_range(len(self.stream.passes.tokens), self.seed, self._epoch), self.stream.n_chunks
        )
        sequences = torch.from_numpy(np.sort(parts[self._chunk]))
        chunk = self.stream.chunk(sequences)
        order = torch.from_numpy(shuffled_range(len(chunk.row_ids), self.seed, *at))
        self._shuffled = at, sequences, order
        return chunk.acts, order
