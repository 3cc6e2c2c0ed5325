"""Shards that are being filled: created at their full size, written in any order of shards, sealed at the end.

The size of a shard is known before its first row: headers are written and disk space is reserved at the start, and each
row is written once, behind the earlier rows of its shard. What is on disk is good up to `filled` rows of each shard.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from interp.activations.shards import ROW_IDS, Column, ShardLayout, clear, naming_full_disk, shard_of
from interp.files import atomic


class FillingShards:
    """The shards of `shard_rows` rows each, in the folder `out`. `reserve` or `restore` comes first."""

    def __init__(self, out: Path, columns: tuple[Column, ...], shard_rows: tuple[int, ...], seed: int):
        self.out, self.columns, self.seed = out, columns, seed
        self.layouts = [ShardLayout(rows, columns) for rows in shard_rows]
        self.filled = np.zeros(len(shard_rows), np.int64)
        self._hashes = [{column.name: hashlib.sha256() for column in columns} for _ in shard_rows]

    def reserve(self) -> None:
        """Create every shard at its full size, so that a disk too small is known before the first forward pass."""
        clear(self.out)
        needed = sum(layout.size for layout in self.layouts)
        self.out.mkdir(parents=True, exist_ok=True)
        with naming_full_disk(self.out, needed):
            if shutil.disk_usage(self.out).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for shard, layout in enumerate(self.layouts):
                with open(self._partial(shard), "wb") as file:
                    file.write(layout.header)
                    file.flush()
                    _allocate(file.fileno(), layout.size)

    def restore(self, filled: Int64[np.ndarray, " shard"]) -> None:
        """Go on behind what an earlier writer left; its sums are made again from what it wrote."""
        self.filled = filled
        for shard, n_rows in enumerate(filled.tolist()):
            path, layout = self._partial(shard), self.layouts[shard]
            if self._final(shard).exists():
                path, layout = self._final(shard), ShardLayout(n_rows, self.columns)
            for name, total in self._hashes[shard].items():
                total.update(layout.read(path, name, n_rows).view(torch.uint8).numpy().data)

    def write(self, rows: Mapping[str, Tensor]) -> None:
        """Each row behind those that its shard has."""
        shards = shard_of(rows[ROW_IDS][:, 0].numpy(), len(self.layouts), self.seed)
        arrays = {name: tensor.view(torch.uint8).numpy() for name, tensor in rows.items()}
        order = shards.argsort(kind="stable")
        ends = np.bincount(shards, minlength=len(self.layouts)).cumsum()
        for shard, (start, end) in enumerate(zip(np.r_[0, ends], ends, strict=False)):
            if start == end:
                continue
            with naming_full_disk(self.out), open(self._partial(shard), "r+b", buffering=0) as file:
                for name, array in arrays.items():
                    block = array.take(order[start:end], axis=0)
                    self._hashes[shard][name].update(block.data)
                    write_at(file.fileno(), block, self.layouts[shard].offset(name, int(self.filled[shard])))
            self.filled[shard] += end - start

    def seal(self, shard: int) -> dict[str, Any]:
        """Give a shard its final name, without the room that excluded rows left; its entry of the manifest."""
        filled, layout = int(self.filled[shard]), self.layouts[shard]
        sealed = ShardLayout(filled, self.columns)
        partial, final = self._partial(shard), self._final(shard)
        if not final.exists() and filled == layout.n_rows:
            os.replace(partial, final)
        elif not final.exists():
            with naming_full_disk(self.out), atomic(final) as temporary, open(temporary, "wb") as file:
                file.write(sealed.header)
                for column in self.columns:
                    file.write(layout.read(partial, column.name, filled).view(torch.uint8).numpy().data)
        partial.unlink(missing_ok=True)
        sums = {name: total.hexdigest() for name, total in self._hashes[shard].items()}
        return {"file": final.name, "n_rows": filled, "bytes": sealed.size, "sha256": sums}

    def sample(self, name: str, n_rows: int, seed: int) -> Tensor:
        """A random sample of a column: some rows of the first sealed shards, as each is a random sample already."""
        parts: list[Tensor] = []
        for shard, filled in enumerate(self.filled.tolist()):
            parts.append(ShardLayout(filled, self.columns).read(self._final(shard), name))
            if sum(map(len, parts)) >= n_rows:
                break
        rows = torch.cat(parts)
        picked: Int[np.ndarray, " row"] = np.random.default_rng([seed % 2**64, len(rows)]).permutation(len(rows))
        return rows[torch.from_numpy(picked[:n_rows])]

    def _partial(self, shard: int) -> Path:
        return self.out / f"shard-{shard:05d}.partial"

    def _final(self, shard: int) -> Path:
        return self.out / f"shard-{shard:05d}.safetensors"


def write_at(file: int, data: np.ndarray, offset: int) -> None:
    view = data.data.cast("B")
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _allocate(file: int, size: int) -> None:
    """Make room on the disk for `size` bytes, where the system can, and set the file's length."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    os.truncate(file, size)
