"""A store of rows that were made elsewhere: batches [batch, d] → the files of `interp.activations.scatter`.

How many rows go to each shard must be known before the first is written, so they go through a temporary file.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.scatter import ScatterWriter
from interp.activations.shards import DTYPES, ScatterConfig, check_dtype, clear, naming_full_disk

_ROWS_A_WRITE = 8192

Batches = Iterable[Float[Tensor, "batch d"]] | Float[Tensor, "row d"]


def scatter_batches(
    batches: Batches, out: Path, hook_name: str, dtype: str, rows_per_shard: int | None, seed: int
) -> None:
    check_dtype(dtype)
    out.mkdir(parents=True, exist_ok=True)
    clear(out)
    spool = out / "rows.tmp"
    try:
        with naming_full_disk(out):
            n_rows, d = _spool(batches, spool, DTYPES[dtype])
        origin = {"source": "batches", "hook_names": [hook_name], "seed": seed}
        config = ScatterConfig(
            widths={hook_name: d}, dtype=dtype, rows_per_shard=rows_per_shard, n_ids=n_rows, seed=seed, origin=origin
        )
        row_ids, row_bytes = _AllRows(n_rows), d * DTYPES[dtype].itemsize
        with ScatterWriter(out, config, row_ids, batch_rows=_ROWS_A_WRITE) as writer:
            for ids in row_ids.split(_ROWS_A_WRITE):
                raw = np.fromfile(spool, np.uint8, len(ids) * row_bytes, offset=int(ids[0]) * row_bytes)
                acts = torch.from_numpy(raw).view(DTYPES[dtype]).view(-1, d)
                writer.add(ids, {hook_name: acts}, int(ids[-1]) + 1)
            writer.finish()
    finally:
        spool.unlink(missing_ok=True)


class _AllRows:
    """0, 1, 2, …: `shards.RowIds`."""

    def __init__(self, n_rows: int):
        self._n_rows = n_rows

    def __len__(self) -> int:
        return self._n_rows

    def split(self, size: int, /) -> Iterator[Int[Tensor, " row"]]:
        for start in range(0, self._n_rows, size):
            yield torch.arange(start, min(start + size, self._n_rows))


def _spool(batches: Batches, file: Path, dtype: torch.dtype) -> tuple[int, int]:
    """Write the rows of all batches behind one another; their number and width."""
    n_rows, d = 0, None
    with open(file, "wb") as stream:
        for batch in [batches] if isinstance(batches, Tensor) else batches:
            if batch.ndim != 2:
                raise ValueError(f"batch {tuple(batch.shape)} must have two dimensions, [batch, d]")
            if d not in (None, batch.shape[1]):
                raise ValueError(f"a batch is {batch.shape[1]} wide, those before it {d}")
            n_rows, d = n_rows + len(batch), batch.shape[1]
            for rows in batch.detach().split(_ROWS_A_WRITE):
                stream.write(rows.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)
    if not n_rows or not d:
        raise ValueError("batches hold no rows: there is nothing to store")
    return n_rows, d
