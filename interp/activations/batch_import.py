"""Import activations that were made elsewhere into a store, without a forward pass.

Batches [batch, d] go through a temporary file, since the number of rows of each shard must be known before the first
row is written.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.shard_writer import ShardWriter, StoreConfig, check_dtype, explain_full_disk
from interp.activations.shards import DTYPES
from interp.activations.store_writer import StoreWriter
from interp.checks.errors import InterpError, OverwriteError
from interp.storage.folders import atomic_folder, check_output, is_finished

_ROWS_AT_ONCE = 8192

Batches = Iterable[Float[Tensor, "batch d"]] | Float[Tensor, "row d"]


def import_batches(
    batches: Batches,
    out: str | Path,
    *,
    hook_name: str,
    dtype: str,
    rows_per_shard: int | None,
    seed: int,
    overwrite: bool,
) -> None:
    """See `ActivationStore.from_batches`."""
    check_dtype(dtype)
    made_of = {"kind": "activations", "source": "batches", "hook_names": [hook_name], "seed": seed}
    check_output(out, made_of, overwrite=overwrite)
    if not overwrite and is_finished(out, made_of):
        raise OverwriteError(
            f"{out} holds a finished store, perhaps of other rows: choose another folder, or replace it with "
            "overwrite=True"
        )
    with atomic_folder(out, made_of, overwrite=True) as new:
        spool = new / "rows.tmp"
        with explain_full_disk(new):
            n_rows, d = _spool(batches, spool, DTYPES[dtype])
        config = StoreConfig(
            widths={hook_name: d}, dtype=dtype, rows_per_shard=rows_per_shard, n_ids=n_rows, seed=seed, made_of=made_of
        )
        blocks = [(start, min(start + _ROWS_AT_ONCE, n_rows)) for start in range(0, n_rows, _ROWS_AT_ONCE)]
        shard_rows = config.shard_rows((torch.arange(*block) for block in blocks), config.n_shards(n_rows))
        with (
            StoreWriter(ShardWriter(new, config, shard_rows), batch_rows=_ROWS_AT_ONCE) as writer,
            open(spool, "rb") as rows,
        ):
            for start, stop in blocks:
                raw = np.fromfile(rows, np.uint8, (stop - start) * d * DTYPES[dtype].itemsize)
                acts = torch.from_numpy(raw).view(DTYPES[dtype]).view(-1, d)
                writer.add(torch.arange(start, stop), {hook_name: acts}, stop)
            writer.finish()
        spool.unlink()


def _spool(batches: Batches, file: Path, dtype: torch.dtype) -> tuple[int, int]:
    """Write the rows of all batches to one file. Returns their number and width."""
    n_rows, d = 0, None
    with open(file, "wb") as stream:
        for batch in [batches] if isinstance(batches, Tensor | np.ndarray) else batches:
            batch = torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch
            if batch.ndim != 2:
                raise InterpError(f"batch {tuple(batch.shape)} must have two dimensions, [batch, d]")
            if d not in (None, batch.shape[1]):
                raise InterpError(f"a batch is {batch.shape[1]} wide, those before it {d}")
            n_rows = n_rows + len(batch)
            d = batch.shape[1]
            for rows in batch.detach().split(_ROWS_AT_ONCE):
                stream.write(rows.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)
    if not n_rows or not d:
        raise InterpError("batches hold no rows: there is nothing to store")
    return n_rows, d
