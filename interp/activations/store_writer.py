"""Write a store of activations, each row to a random shard.

In: batches of rows, in order: row ids and, for every hook, acts [row, d].
Out: the folder that `interp.activations.store` reads,

    shard-00000.safetensors   row_ids [row] and one tensor [row, d] a hook
    tokens.safetensors        tokens [seq, pos], if the rows come from tokens
    statistics.safetensors    mean, geometric_median and second_moment of each hook
    manifest.json             the contents, with sizes and SHA-256 sums; written last, so that an unfinished store has
                              none

A row's shard follows from a hash of its id, so a shard is a uniform sample of all rows.

Rows collect in a buffer (16 MiB) that a thread passes on while the next one fills, to `shard_writer.ShardWriter` for a
folder or `remote_writer.PartWriter` for an address. These write the rows with the state after them, from which an
interrupted writer resumes, to the same bytes. Memory: three buffers and one shard.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.outliers import outliers_among
from interp.activations.remote_writer import PartWriter
from interp.activations.row_statistics import TENSORS, n_sample_rows, running_sums, statistics_of
from interp.activations.shard_writer import ShardWriter, WriterState, sample_rows, write_side_file, write_tokens
from interp.activations.shards import (
    DTYPES,
    ROW_IDS,
    STATISTICS_FILE,
    STORE_FORMAT,
    TOKENS_FILE,
    as_stored_in_float32,
    overflow_hint,
)
from interp.activations.sources import are_all_equal
from interp.checks.errors import InterpError
from interp.storage.manifests import MADE_OF
from interp.storage.packages import versions_of

log = logging.getLogger(__name__)


class StoreWriter:
    """A writer of the rows that `add` receives; `finish` makes them a store. Use it as a context manager.

    Set these two before the first rows:
    limits      hook → the largest norm of a row that is kept; the others are left out and counted. None: keep all.
    outliers    the outliers known beforehand, for the manifest.

    `position` is the progress of an earlier writer: the `position` of the last rows that are safely on disk. If `add`
    or `finish` refuses its input, no file is left.
    """

    def __init__(self, files: ShardWriter | PartWriter, *, batch_rows: int):
        """Prepare to write.
        files: where the rows go.
        batch_rows: most rows that one `add` receives."""
        self.files, self.config = files, files.config
        self.limits: dict[str, float] | None = {}
        self.outliers: dict[str, Any] | None = None
        self.position = self._n_outliers = 0
        self._refused = False
        self._sums = {hook: torch.zeros(d + 2, dtype=torch.float64) for hook, d in self.config.widths.items()}
        columns = self.config.columns
        row_bytes = sum(column.row_bytes for column in columns)
        self._buffer_rows = max(batch_rows, min(files.buffer_bytes // row_bytes, sum(files.shard_rows)))
        shapes = {column.name: (self._buffer_rows, max(column.width, 1)) for column in columns}
        self._buffers = [{c.name: torch.empty(shapes[c.name], dtype=c.dtype) for c in columns} for _ in range(2)]
        self._used = 0
        self._pending: Future | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scatter")
        values, self._sums = files.begin(self._state())
        self.position, self._n_outliers, self.limits = values["position"], values["n_outliers"], values["limits"]
        self.outliers = values.get("outliers")

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True)
        if self._refused:  # bad input stays bad: there is nothing to resume
            self.files.clear()

    def add(self, row_ids: Int[Tensor, " row"], acts: Mapping[str, Float[Tensor, "row d"]], position: int) -> None:
        """Add the next rows, at most `batch_rows` of them. `position` is the position from which a run would resume
        after them.

        Raises ValueError, with hook and row, if an activation is not finite.
        """
        if self._used + len(row_ids) > self._buffer_rows:
            self._flush()
        dtype = DTYPES[self.config.dtype]
        wide = {hook: as_stored_in_float32(x, dtype) for hook, x in acts.items()}
        norms = {hook: torch.linalg.vector_norm(x, dim=1) for hook, x in wide.items()}
        for hook, norm in norms.items():
            if not norm.sum().isfinite():
                self._refuse_non_finite(hook, wide[hook], row_ids)
        if self.limits:
            row_ids, wide, norms = self._drop_outliers(row_ids, wide, norms, self.limits)
        rows = slice(self._used, self._used + len(row_ids))
        buffer = self._buffers[0]
        buffer[ROW_IDS][rows, 0] = row_ids
        for hook, x in wide.items():
            buffer[hook][rows] = x if x.is_cpu else x.to(dtype)  # one pass on a CPU, fewer bytes to copy from a GPU
            self._sums[hook] += running_sums(x, norms[hook])
        self._used = rows.stop
        self.position = position

    def finish(
        self,
        tokens: Int[Tensor, "seq pos"] | None = None,
        excluded: Mapping[str, int] = {},
        model_name: str = "",
        aliases: Mapping[str, Sequence[str]] = {},
    ) -> None:
        """Write the remaining rows, the small files, and the manifest last.
        excluded: rows left out earlier, by cause.
        aliases: further names of hooks."""
        self._flush()
        self._wait()
        n_rows = self.files.n_rows
        if not n_rows:
            self._refused = True
            raise InterpError("no row is left to store: every one was excluded")
        listed = self.files.seal()
        hooks = self._write_statistics(n_rows)
        if tokens is not None:
            self.files.add_file(TOKENS_FILE, partial(write_tokens, tokens=tokens))
        left_out = Counter(token=0, position=0, norm=self._n_outliers)
        left_out.update(excluded)
        content = {
            MADE_OF: dict(self.config.made_of),
            "versions": versions_of("interp", "torch"),
            "format": STORE_FORMAT,
            **({"model_name": model_name} if model_name else {}),
            **({"aliases": {name: list(others) for name, others in aliases.items()}} if aliases else {}),
            **({} if tokens is None else {"prepend_bos": are_all_equal(tokens[:, 0])}),
            "dtype": self.config.dtype,
            "n_rows": n_rows,
            "n_ids": self.config.n_ids,
            "n_ctx": self.config.n_ctx,
            "excluded": dict(left_out),
            "norm_limits": self.limits,
            **({} if self.outliers is None else {"outliers": self.outliers}),
            "hooks": hooks,
            **listed,
        }
        self.files.publish(content)

    def _refuse_non_finite(self, hook: str, acts: Float[Tensor, "row d"], row_ids: Int[Tensor, " row"]) -> None:
        bad = (~acts.isfinite()).nonzero()
        if not len(bad):
            if torch.linalg.vector_norm(acts, dim=1).isfinite().all():
                return  # only the sum of the norms overflowed
            self._refused = True
            raise InterpError(
                f"hook {hook!r}: the norm of a row is too large for float32, as activations reach "
                f"{float(acts.abs().max()):.3g}: divide them by a number first"
            )
        row, unit = bad[0].tolist()
        row_id = int(row_ids[row])
        n_ctx = self.config.n_ctx
        where = f"row {row_id}" if n_ctx is None else f"sequence {row_id // n_ctx}, position {row_id % n_ctx}"
        self._refused = True
        hint = overflow_hint(DTYPES[self.config.dtype])
        raise InterpError(f"hook {hook!r}: activation {acts[row, unit].item()} at {where}, unit {unit}{hint}")

    def _drop_outliers(
        self, row_ids: Tensor, acts: dict[str, Tensor], norms: dict[str, Tensor], limits: Mapping[str, float]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        keep = torch.stack([norms[hook] <= limit for hook, limit in limits.items()]).all(0)
        if keep.all():
            return row_ids, acts, norms
        self._n_outliers += int((~keep).sum())
        acts_within = {hook: x[keep] for hook, x in acts.items()}
        return row_ids[keep.cpu()], acts_within, {hook: norm[keep] for hook, norm in norms.items()}

    def _flush(self) -> None:
        """Pass the full buffer to the thread, and continue with the other buffer."""
        self._wait()
        rows = {name: tensor[: self._used] for name, tensor in self._buffers[0].items()}
        self._pending = self._thread.submit(self.files.write, rows, self._state())
        self._buffers.reverse()
        self._used = 0

    def _state(self) -> WriterState:
        limits = {"limits": self.limits, "outliers": self.outliers}
        values = {"position": self.position, "n_outliers": self._n_outliers, **limits}
        return WriterState(values, {hook: total.clone() for hook, total in self._sums.items()})

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write_statistics(self, n_rows: int) -> dict[str, dict[str, Any]]:
        """Write the statistics' tensors. Returns the manifest's entry of each hook."""
        tensors: dict[str, Tensor] = {}
        hooks = {}
        for hook, d in self.config.widths.items():
            sample = sample_rows(self.files.columns(hook), n_sample_rows(d), self.config.seed)
            statistics = statistics_of(self._sums[hook], n_rows, sample)
            outliers = outliers_among(sample, statistics, self.config.n_ctx)
            if outliers.are_dominant:
                is_trained_on = self.limits is None or hook in self.limits  # by `ActivationStore.row_limit`
                remedy = "max_norm='auto' leaves them out" if is_trained_on else "nothing is trained on them"
                log.warning("the store keeps outliers at %s: %s; %s", hook, outliers.summary, remedy)
            values = {field.name: getattr(statistics, field.name) for field in fields(statistics)}
            tensors |= {f"{hook}/{name}": values[name] for name in TENSORS if values[name] is not None}
            numbers = {name: values[name] for name in values if name not in (*TENSORS, "n_rows")}
            hooks[hook] = {"d": d, **numbers}
        self.files.add_file(STATISTICS_FILE, partial(write_side_file, tensors=tensors))
        return hooks
