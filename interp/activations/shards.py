"""The files of an activation store: how a shard is laid out, which shard a row goes to, how files are written.

A shard of n rows is one safetensors file: `row_ids` [n], then a tensor [n, d] a hook, each at a place that follows from
n and the widths alone. So a shard can be filled in any order by plain writes, and opens in every safetensors reader.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import save
from torch import Tensor

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
FORMAT = "interp.activations/1"
ROW_IDS = "row_ids"
MANIFEST, PROGRESS, TOKENS, STATISTICS = (
    "manifest.json",
    "progress.safetensors",
    "tokens.safetensors",
    "statistics.safetensors",
)

_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.int32: "I32", torch.int64: "I64"}
_SHARD_BYTES = 64 << 20
_MAX_SHARDS = 1024
_IDS_A_CHUNK = 1 << 22


class Column(NamedTuple):
    """One tensor of a shard: [row] if width is 0, else [row, width]."""

    name: str
    dtype: torch.dtype
    width: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * max(self.width, 1)


@dataclass(frozen=True)
class ShardLayout:
    """Where each tensor of a shard lies in its safetensors file: its header, then the columns, one after the other."""

    n_rows: int
    columns: tuple[Column, ...]

    @property
    def header(self) -> bytes:
        entries, start = {}, 0
        for column in self.columns:
            stop = start + self.n_rows * column.row_bytes
            shape = [self.n_rows, column.width] if column.width else [self.n_rows]
            entries[column.name] = {"dtype": _NAMES[column.dtype], "shape": shape, "data_offsets": [start, stop]}
            start = stop
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % 64)
        return len(text).to_bytes(8, "little") + text

    @property
    def size(self) -> int:
        return len(self.header) + self.n_rows * sum(column.row_bytes for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def offset(self, name: str, row: int = 0) -> int:
        """The byte at which a row of a column starts."""
        before = self.columns[: [column.name for column in self.columns].index(name)]
        rows = self.n_rows * sum(column.row_bytes for column in before)
        return len(self.header) + rows + row * self.column(name).row_bytes

    def read(self, file: Path, name: str, n_rows: int | None = None, *, into: Tensor | None = None) -> Tensor:
        """The first `n_rows` rows (all by default) of a column; in the memory of `into`, if that is given."""
        column, n_rows = self.column(name), self.n_rows if n_rows is None else n_rows
        n_values = n_rows * max(column.width, 1)
        tensor = torch.empty(n_values, dtype=column.dtype) if into is None else into.view(-1)[:n_values]
        data = tensor.view(torch.uint8).numpy()
        with open(file, "rb") as stream:
            stream.seek(self.offset(name))
            found = stream.readinto(data.data)
        if found < len(data):
            raise ValueError(f"{file} is truncated: {found} bytes of {name!r}, {len(data)} expected")
        return tensor.view(n_rows, column.width) if column.width else tensor


def check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(DTYPES)}")


def shard_of(row_ids: Int[np.ndarray, " row"], n_shards: int, seed: int) -> Int[np.ndarray, " row"]:
    """The shard of each row: a hash (splitmix64) of seed and row id, so that nothing need be remembered."""
    with np.errstate(over="ignore"):
        z = _splitmix(np.asarray(row_ids, np.uint64) + _splitmix(np.array([seed % 2**64], np.uint64)))
    return ((z >> np.uint64(32)) * np.uint64(n_shards) >> np.uint64(32)).astype(np.int64)


def count_shards(n_rows: int, row_bytes: int, rows_per_shard: int | None) -> int:
    """Shards for `n_rows` rows; by default of about 64 MiB, and at most 1024 of them."""
    if rows_per_shard is not None and rows_per_shard < 1:
        raise ValueError(f"rows_per_shard={rows_per_shard} must be at least 1")
    by_default = max(1, _SHARD_BYTES // row_bytes, -(-n_rows // _MAX_SHARDS))
    return max(1, -(-n_rows // (rows_per_shard or by_default)))


def shard_sizes(row_ids: Int[np.ndarray, " row"], n_shards: int, seed: int) -> tuple[int, ...]:
    """How many of the rows go to each shard."""
    counts = np.zeros(n_shards, np.int64)
    for start in range(0, len(row_ids), _IDS_A_CHUNK):
        chunk = shard_of(row_ids[start : start + _IDS_A_CHUNK], n_shards, seed)
        counts += np.bincount(chunk, minlength=n_shards)
    return tuple(counts.tolist())


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(tensor.contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()


def digest_file(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_tensors(tensors: Mapping[str, Tensor], file: Path, note: str = "") -> None:
    """Write a safetensors file under another name, then give it its own."""
    temporary = file.with_suffix(".tmp")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    temporary.write_bytes(save(contiguous, metadata={"json": note} if note else None))
    os.replace(temporary, file)


def save_text(text: str, file: Path) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, file)


def write_at(file: int, data: np.ndarray, offset: int) -> None:
    view = data.data.cast("B")
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def allocate(file: int, size: int) -> None:
    """Make room on the disk for `size` bytes, where the system can, and set the file's length."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    os.truncate(file, size)


@contextmanager
def naming_full_disk(folder: Path, needed: int | None = None) -> Iterator[None]:
    """A full disk as an OSError that says where, and how much is needed where that is known."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = "the store" if needed is None else f"the store ({needed / 1e9:.3g} GB)"
        remedy = "free some space and run it again" if needed is None else "free some space or choose another folder"
        raise OSError(error.errno, f"no room on the disk for {what}: {remedy}", str(folder)) from error


def clear(folder: Path) -> None:
    """Remove a store's files, finished or not; other files stay."""
    for name in (MANIFEST, PROGRESS, TOKENS, STATISTICS):  # the manifest first: without it nothing looks whole
        (folder / name).unlink(missing_ok=True)
        (folder / name).with_suffix(".tmp").unlink(missing_ok=True)
    for pattern in ("shard-*.partial", "shard-*.safetensors", "shard-*.tmp"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def check_same(there: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    """Raises ValueError that names what differs between the config of the store in `folder` and the one asked for."""
    differ = [
        f"{key} is {_short(there.get(key))}, not {_short(asked.get(key))}"
        for key in sorted({*there, *asked})
        if there.get(key) != asked.get(key)
    ]
    if differ:
        raise ValueError(
            f"{folder} holds a store of another config: {'; '.join(differ)}. "
            "Choose another folder, or resume=False to replace it"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _splitmix(z: np.ndarray) -> np.ndarray:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
