"""The files of an activation store: how a shard is laid out, and which shard a row goes to.

A shard of n rows is one safetensors file: `row_ids` [n], then a tensor [n, d] a hook, each at a place that follows from
n and the widths alone. So a shard can be filled in any order by plain writes, and opens in every safetensors reader.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from interp.files import atomic, splitmix64, tensors_header, write_tensors

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
FORMAT = "interp.activations/1"
ROW_IDS = "row_ids"
MANIFEST = "manifest.json"
PROGRESS, TOKENS, STATISTICS = (f"{name}.safetensors" for name in ("progress", "tokens", "statistics"))

_SHARD_BYTES = 64 << 20
_MAX_SHARDS = 1024
_IDS_A_CHUNK = 1 << 18


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
        shapes = {c: (self.n_rows, c.width) if c.width else (self.n_rows,) for c in self.columns}
        entries = ((c.name, c.dtype, shape, self.n_rows * c.row_bytes) for c, shape in shapes.items())
        return tensors_header(entries, align=64)

    @property
    def size(self) -> int:
        return len(self.header) + self.n_rows * sum(column.row_bytes for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def offset(self, name: str, row: int = 0) -> int:
        """The byte at which a row of a column starts."""
        before = self.columns[: self.columns.index(self.column(name))]
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


@dataclass(frozen=True, kw_only=True)
class ScatterConfig:
    """What is written. Two writers with the same config and the same rows write the same bytes."""

    widths: Mapping[str, int]
    """Hook name → d."""
    dtype: str = "bfloat16"
    rows_per_shard: int | None = None
    """About so many; by default 64 MiB of the widest hook, in at most 1024 shards."""
    n_ids: int
    """Row ids lie in 0..n_ids-1."""
    n_ctx: int | None = None
    """Row id = seq · n_ctx + pos; None where rows come from no tokens."""
    seed: int = 0
    origin: Mapping[str, Any]
    """Where the rows come from; a run that was cut off is only resumed with the same origin."""

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        for name in (ROW_IDS, "__metadata__"):
            if name in self.widths:
                raise ValueError(f"a hook cannot be called {name!r}: the store uses that name")
        if self.rows_per_shard is not None and self.rows_per_shard < 1:
            raise ValueError(f"rows_per_shard={self.rows_per_shard} must be at least 1")

    @property
    def columns(self) -> tuple[Column, ...]:
        return columns_of(self.n_ids, self.widths, self.dtype)

    def n_shards(self, n_rows: int) -> int:
        row_bytes = max(self.widths.values()) * DTYPES[self.dtype].itemsize
        by_default = max(1, _SHARD_BYTES // row_bytes, -(-n_rows // _MAX_SHARDS))
        return max(1, -(-n_rows // (self.rows_per_shard or by_default)))

    def shard_rows(self, row_ids: Iterable[Int[Tensor, " row"]], n_shards: int) -> tuple[int, ...]:
        """How many of the rows go to each shard. They come in blocks, so that they need not all be in memory."""
        each = (np.bincount(shard_of(ids.numpy(), n_shards, self.seed), minlength=n_shards) for ids in row_ids)
        return tuple(sum(each, np.zeros(n_shards, np.int64)).tolist())


def columns_of(n_ids: int, widths: Mapping[str, int], dtype: str) -> tuple[Column, ...]:
    """Of a store whose row ids lie in 0..n_ids-1 and whose hooks have these widths."""
    ids = Column(ROW_IDS, torch.int32 if n_ids <= 2**31 else torch.int64, 0)
    return ids, *(Column(name, DTYPES[dtype], d) for name, d in widths.items())


def check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(DTYPES)}")


def shard_of(row_ids: Int[np.ndarray, " row"], n_shards: int, seed: int) -> Int[np.ndarray, " row"]:
    """The shard of each row: a hash of seed and row id, so that nothing need be remembered."""
    with np.errstate(over="ignore"):
        z = splitmix64(np.asarray(row_ids, np.uint64) + splitmix64(np.array([seed % 2**64], np.uint64)))
    return ((z >> np.uint64(32)) * np.uint64(n_shards) >> np.uint64(32)).astype(np.int64)


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


def write_tokens(file: Path, tokens: Int[Tensor, "seq pos"]) -> None:
    """The safetensors file of one tensor, in the smallest type that holds the ids; converted a block at a time."""
    dtype = np.dtype(np.uint16 if int(tokens.max()) < 1 << 16 else np.int32)
    with naming_full_disk(file.parent), atomic(file) as temporary, open(temporary, "wb") as stream:
        stream.write(tensors_header([("tokens", dtype, tokens.shape, tokens.numel() * dtype.itemsize)]))
        for block in tokens.split(max(1, _IDS_A_CHUNK // tokens.shape[1])):
            stream.write(np.ascontiguousarray(block.numpy().astype(dtype)).data)


def write_small(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Another file beside the shards."""
    with naming_full_disk(file.parent):
        write_tensors(file, tensors, metadata)


def clear(folder: Path) -> None:
    """Remove a store's files, finished or not; other files stay."""
    for name in (MANIFEST, PROGRESS, TOKENS, STATISTICS):  # the manifest first: without it nothing looks whole
        (folder / name).unlink(missing_ok=True)
        (folder / f"{name}.tmp").unlink(missing_ok=True)
    for pattern in ("shard-*.partial", "shard-*.safetensors", "shard-*.tmp"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def check_same(there: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    """Raises ValueError that names what differs between the config of the store in `folder` and the one asked for."""
    differ = [key for key in sorted({*there, *asked}) if there.get(key) != asked.get(key)]
    if differ:
        said = "; ".join(f"{key} is {_short(there.get(key))}, not {_short(asked.get(key))}" for key in differ)
        what = f"{folder} holds a store of another config: {said}"
        raise ValueError(f"{what}. Choose another folder, or resume=False to replace it")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
