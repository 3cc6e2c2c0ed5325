"""Write the shards of a store: created at their full size, filled in any order, sealed at the end.

The size of a shard is known before its first row: headers are written and disk space is reserved at the start, and each
row is written once, after the earlier rows of its shard. `progress.safetensors` records how many rows of each shard are
valid, from where writing resumes, to the same bytes. A power cut may lose data that the system had not yet written to
disk; the checksums detect it.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.harvest_options import Dtype
from interp.activations.shards import (
    DTYPES,
    PROGRESS_FILE,
    ROW_IDS,
    ShardColumn,
    ShardLayout,
    columns_of,
    remove_store_files,
)
from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least, check_value
from interp.statistics.randomness import shuffled_range, splitmix64
from interp.storage.files import digest_file, open_tensors, tensors_header, write_atomically, write_json, write_tensors
from interp.storage.manifests import MANIFEST, manifest_of

_BUFFER_BYTES = 16 << 20
_SHARD_BYTES = 64 << 20
_MAX_SHARDS = 1024
_IDS_A_CHUNK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """The settings with which a store is written. Equal settings and the same rows give the same bytes."""

    widths: Mapping[str, int]
    """Hook name → d."""
    dtype: str = "bfloat16"
    rows_per_shard: int | None = None
    """Approximate number of rows per shard; by default 64 MiB of the widest hook, in at most 1024 shards."""
    n_ids: int
    """Row ids lie in 0..n_ids-1."""
    n_ctx: int | None = None
    """Row id = seq · n_ctx + pos; None if the rows do not come from a model."""
    seed: int = 0
    made_of: Mapping[str, Any]
    """The inputs on which the rows depend; an interrupted harvest is resumed only with the same ones."""

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        for name in (ROW_IDS, "__metadata__"):
            if name in self.widths:
                raise InterpError(f"a hook cannot be called {name!r}: the store uses that name")
        check_at_least(1, rows_per_shard=self.rows_per_shard)

    @property
    def columns(self) -> tuple[ShardColumn, ...]:
        return columns_of(self.n_ids, self.widths, self.dtype)

    def n_shards(self, n_rows: int) -> int:
        row_bytes = max(self.widths.values()) * DTYPES[self.dtype].itemsize
        default_rows = max(1, _SHARD_BYTES // row_bytes, math.ceil(n_rows / _MAX_SHARDS))
        return max(1, math.ceil(n_rows / (self.rows_per_shard or default_rows)))

    def shard_rows(self, row_ids: Iterable[Int[Tensor, " row"]], n_shards: int) -> tuple[int, ...]:
        """Return the number of rows that go to each shard. Rows come in blocks, so that they need not all be in
        memory."""
        counts = (np.bincount(shard_of(ids.numpy(), n_shards, self.seed), minlength=n_shards) for ids in row_ids)
        return tuple(sum(counts, np.zeros(n_shards, np.int64)).tolist())


class WriterState(NamedTuple):
    """The state of a `store_writer.StoreWriter` after some rows, from which another one resumes."""

    values: dict[str, Any]
    """Its position and what it has left out, as JSON."""
    sums: dict[str, Tensor]
    """The running sums of each hook."""


class ShardWriter:
    """The files of a store in the folder `out`, with shards of `shard_rows` rows each. `begin` comes first, then
    `write`, `seal` and `publish`.

    sharing: the number of writers that share the bytes of the buffers."""

    def __init__(self, out: Path, config: StoreConfig, shard_rows: tuple[int, ...], *, sharing: int = 1):
        self.out, self.config, self.shard_rows = out, config, shard_rows
        self.buffer_bytes = _BUFFER_BYTES // sharing
        """Bytes of rows that are buffered before they are written."""
        self._columns = config.columns
        self._layouts = [ShardLayout(rows, self._columns) for rows in shard_rows]
        self._filled = np.zeros(len(shard_rows), np.int64)
        self._hashes = [{column.name: hashlib.sha256() for column in self._columns} for _ in shard_rows]
        self._side_files: dict[str, dict[str, Any]] = {}

    @property
    def n_rows(self) -> int:
        """Rows that are written."""
        return int(self._filled.sum())

    def begin(self, state: WriterState) -> WriterState:
        """Create the files, or continue those of an earlier writer. Returns the state before the next rows."""
        if (self.out / PROGRESS_FILE).exists():
            return self._restore()
        try:
            self._reserve()
            self._write_progress(state)
        except OSError:
            self.clear()
            raise
        return state

    def clear(self) -> None:
        """Remove the store."""
        remove_store_files(self.out)

    def write(self, rows: Mapping[str, Tensor], state: WriterState) -> None:
        """Append each row to its shard. `state` is the one after these rows."""
        n_shards = len(self._layouts)
        shards = shard_of(rows[ROW_IDS][:, 0].numpy(), n_shards, self.config.seed)
        arrays = {name: tensor.view(torch.uint8).numpy() for name, tensor in rows.items()}
        order = shards.argsort(kind="stable")
        ends = np.bincount(shards, minlength=n_shards).cumsum()
        for shard, (start, end) in enumerate(zip(np.r_[0, ends], ends, strict=False)):
            if start == end:
                continue
            with explain_full_disk(self.out), open(self._partial(shard), "r+b", buffering=0) as file:
                for name, array in arrays.items():
                    block = array.take(order[start:end], axis=0)
                    self._hashes[shard][name].update(block.data)
                    write_at(file.fileno(), block, self._layouts[shard].offset(name, int(self._filled[shard])))
            self._filled[shard] += end - start
        self._write_progress(state)

    def seal(self) -> dict[str, Any]:
        """Finish the shards. Returns their entries in the manifest."""
        return {"shards": [self._seal_shard(shard) for shard in range(len(self._layouts))]}

    def columns(self, hook: str) -> Iterator[Float[Tensor, "row d"]]:
        """Read the rows of a hook, shard by shard, once they are sealed."""
        for shard, n_rows in enumerate(self._filled.tolist()):
            yield ShardLayout(n_rows, self._columns).read(self._final(shard), hook)

    def add_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Add a file next to the shards."""
        file = self.out / name
        write(file)
        self._side_files[name] = file_entry(file)

    def publish(self, content: Mapping[str, Any]) -> None:
        """Write the manifest, the last file. A finished store has no progress: were both there after a kill, the store
        would hold a file that its manifest does not know, and could not be replaced."""
        (self.out / PROGRESS_FILE).unlink()
        write_json(self.out / MANIFEST, manifest_of(content, self._side_files))

    def _reserve(self) -> None:
        """Create every shard at its full size, so that a full disk is detected before the first forward pass."""
        remove_store_files(self.out)
        needed = sum(layout.size for layout in self._layouts)
        self.out.mkdir(parents=True, exist_ok=True)
        with explain_full_disk(self.out, needed):
            if shutil.disk_usage(self.out).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for shard, layout in enumerate(self._layouts):
                with open(self._partial(shard), "wb") as file:
                    file.write(layout.header)
                    file.flush()
                    _allocate(file.fileno(), layout.size)

    def _write_progress(self, state: WriterState) -> None:
        sums = {f"sums.{hook}": total for hook, total in state.sums.items()}
        tensors = {"filled": torch.from_numpy(self._filled), **sums}
        write_side_file(self.out / PROGRESS_FILE, tensors, {"json": json.dumps(state.values)})

    def _restore(self) -> WriterState:
        """Continue the work of an earlier writer; checksums are recomputed from its files."""
        with open_tensors(self.out / PROGRESS_FILE, "remove this file, and the harvest starts again") as file:
            self._filled = file.get_tensor("filled").numpy()
            sums = {hook: file.get_tensor(f"sums.{hook}") for hook in self.config.widths}
            state = WriterState(json.loads(file.metadata()["json"]), sums)
        for shard, n_rows in enumerate(self._filled.tolist()):
            path = self._partial(shard)
            layout = self._layouts[shard]
            if self._final(shard).exists():
                path = self._final(shard)
                layout = ShardLayout(n_rows, self._columns)
            for name, total in self._hashes[shard].items():
                total.update(layout.read(path, name, n_rows).view(torch.uint8).numpy().data)
        return state

    def _seal_shard(self, shard: int) -> dict[str, Any]:
        """Rename a shard to its final name, without the space left by excluded rows. Returns its entry of the
        manifest."""
        filled = int(self._filled[shard])
        layout = self._layouts[shard]
        sealed = ShardLayout(filled, self._columns)
        partial = self._partial(shard)
        final = self._final(shard)
        if not final.exists() and filled == layout.n_rows:
            os.replace(partial, final)
        elif not final.exists():
            with explain_full_disk(self.out), write_atomically(final) as temporary, open(temporary, "wb") as file:
                file.write(sealed.header)
                for column in self._columns:
                    file.write(layout.read(partial, column.name, filled).view(torch.uint8).numpy().data)
        partial.unlink(missing_ok=True)
        sums = {name: total.hexdigest() for name, total in self._hashes[shard].items()}
        return {"file": final.name, "n_rows": filled, "bytes": sealed.size, "sha256": sums}

    def _partial(self, shard: int) -> Path:
        return self.out / f"shard-{shard:05d}.partial"

    def _final(self, shard: int) -> Path:
        return self.out / f"shard-{shard:05d}.safetensors"


def sample_rows(shards: Iterable[Tensor], n_rows: int, seed: int) -> Tensor:
    """Return a random sample of a column: some rows of the first shards, each of which is a random sample."""
    parts: list[Tensor] = []
    for part in shards:
        parts.append(part)
        if sum(map(len, parts)) >= n_rows:
            break
    rows = torch.cat(parts)
    return rows[torch.from_numpy(shuffled_range(len(rows), seed, len(rows))[:n_rows])]


def file_entry(file: Path) -> dict[str, Any]:
    """Return the entry in the manifest of a file next to the shards."""
    return {"bytes": file.stat().st_size, "sha256": digest_file(file)}


def check_dtype(dtype: str) -> None:
    """Raise ValueError for a type that a store cannot have."""
    check_value("dtype", dtype, Dtype)


def shard_of(row_ids: Int[np.ndarray, " row"], n_shards: int, seed: int) -> Int[np.ndarray, " row"]:
    """Return the shard of each row: a hash of seed and row id, so that no state is needed."""
    with np.errstate(over="ignore"):
        z = splitmix64(np.asarray(row_ids, np.uint64) + splitmix64(np.array([seed % 2**64], np.uint64)))
    return ((z >> np.uint64(32)) * np.uint64(n_shards) >> np.uint64(32)).astype(np.int64)


@contextmanager
def explain_full_disk(folder: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the error of a full disk into an OSError with the folder, and the bytes needed if known."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "no room on the disk for the store: free some space and run it again"
        if needed is not None:
            message = f"no room on the disk for the store ({needed / 1e9:.3g} GB): free some or choose another folder"
        raise OSError(error.errno, message, str(folder)) from error


def write_tokens(file: Path, tokens: Int[Tensor, "seq pos"]) -> None:
    """Write the token ids as a safetensors file, a block at a time, in the type in which they are used: a reader maps
    the file and copies nothing."""
    dtype = np.dtype(np.int32)
    with explain_full_disk(file.parent), write_atomically(file) as temporary, open(temporary, "wb") as stream:
        stream.write(tensors_header([("tokens", dtype, tokens.shape, tokens.numel() * dtype.itemsize)]))
        for block in tokens.split(max(1, _IDS_A_CHUNK // tokens.shape[1])):
            stream.write(np.ascontiguousarray(block.numpy().astype(dtype)).data)


def write_side_file(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write one of the small files next to the shards."""
    with explain_full_disk(file.parent):
        write_tensors(file, tensors, metadata)


def write_at(file: int, data: np.ndarray, offset: int) -> None:
    view = data.data.cast("B")
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset = offset + written


def _allocate(file: int, size: int) -> None:
    """Reserve `size` bytes on the disk, if the system supports it, and set the file's length."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    os.truncate(file, size)
