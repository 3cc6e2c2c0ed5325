"""Stores of activations at an address (s3://bucket/store): written without a disk, read through a bounded cache.

    begun.json              the inputs of the store, while it is unfinished
    part-00000.safetensors  some rows, those of each shard together: `ends` [shard], SHA-256 sums [column, shard], the
                            state of the harvest after them, then row_ids [row] and one tensor [row, d] a hook
    tokens.safetensors, statistics.safetensors, manifest.json        as in a folder; the manifest comes last

Rows are buffered until a part is full (256 MB), and are written at once while the next part fills. Each part has rows
of all shards, and a shard is the concatenation of its rows in all parts: the same rows in the same order as in a
folder, so that reading shard by shard is a shuffle of all rows here as well.

A local store that was copied to an address can also be read there, a range of a shard at a time.

An interrupted harvest resumes after the last finished part, with the same rows, on any machine. Reading requests a
range of each part, checks it against its checksum, and caches it in a temporary folder of at most INTERP_CACHE_GB (10)
until the process ends; `ActivationBatches` reads the next shard while the rows of one are used. Two processes that
write the same store are not locked out: they write the same bytes.
"""

import json
import shutil
import tempfile
import weakref
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypedDict

from interp.activations.row_statistics import n_sample_rows
from interp.activations.shard_writer import StoreConfig, sample_rows, shard_of
from interp.activations.shards import (
    ROW_IDS,
    STORE_FORMAT,
    STORE_REMEDY,
    Column,
    ShardLayout,
    check_store_manifest,
    columns_of,
    damaged_part_error,
    small_tensors,
)
from interp.activations.store_writer import StoreWriter
from interp.checks.errors import DamagedError
from interp.checks.json_values import AtLeastOne, AtLeastZero, Digest, FileName, validate_json
from interp.storage.addresses import (
    Address,
    cache_bytes,
    has_object,
    read_object,
    read_ranges,
    remove_object,
    write_object,
)
from interp.storage.files import digest, digest_json, json_roundtrip, tensors_header
from interp.storage.manifests import MADE_OF, MANIFEST, files_listed
from interp.storage.remote_folders import BEGUN

PART_BYTES = 256 << 20
REMOTE_FORMAT = f"{STORE_FORMAT}/parts"
_HEAD_KEYS = ("ends", "sha256", "state")


class _Part(TypedDict):
    file: FileName
    bytes: AtLeastZero
    head: AtLeastOne
    """Bytes before the columns."""
    sha256: Digest
    """SHA-256 of the head."""


class _Parts(TypedDict):
    shards: list[dict[str, AtLeastZero]]
    parts: list[_Part]


class RemoteStoreWriter(StoreWriter):
    """A writer of a store at an address, as `StoreWriter` writes one in a folder."""

    def __init__(self, out: Address, config: StoreConfig, shard_rows: tuple[int, ...], *, batch_rows: int):
        self.address = out
        self._parts = list[dict[str, Any]]()
        self._folder = tempfile.TemporaryDirectory()
        super().__init__(Path(self._folder.name), config, shard_rows, batch_rows=batch_rows)

    @property
    def buffer_bytes(self) -> int:
        return PART_BYTES

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._folder.cleanup()

    def _begin(self, shard_rows: tuple[int, ...]) -> None:
        self._filled = np.zeros(len(shard_rows), np.int64)
        made_of = json_roundtrip(self.config.made_of)
        self._work = digest_json(made_of)
        write_object(self.address / BEGUN, json.dumps({MADE_OF: made_of, "resumes": True}).encode())
        while has_object(part := self.address / _part_name(len(self._parts))):
            head = _read_head(part)
            note = json.loads(bytes(head["state"].tolist()))
            if note.get("work") != self._work:  # left by another store, whose removal was interrupted
                break
            self._filled += np.diff(head["ends"].numpy(), prepend=0)
            self._parts.append(note["part"])
            self._take(note["state"], {hook: head[f"sums.{hook}"] for hook in self._sums})

    def _clear(self) -> None:
        clear(self.address)

    def _write(self, rows: dict[str, Tensor], state: dict[str, Any], sums: dict[str, Tensor]) -> None:
        """Write, in the thread, one object with the rows, sorted by shard, and the state of the harvest after them."""
        n_shards = len(self._filled)
        shards = shard_of(rows[ROW_IDS][:, 0].numpy(), n_shards, self.config.seed)
        if not len(shards):
            return
        order = torch.from_numpy(shards.argsort(kind="stable"))
        counts = np.bincount(shards, minlength=n_shards)
        ends = torch.from_numpy(counts.cumsum())
        columns = {column.name: rows[column.name][order] for column in self.config.columns}
        file = _part_name(len(self._parts))
        digests = [
            bytes.fromhex(digest(part.contiguous()))
            for column in columns.values()
            for part in column.tensor_split(ends[:-1])
        ]
        head: dict[str, Tensor] = {"ends": ends, **{f"sums.{hook}": total for hook, total in sums.items()}}
        head["sha256"] = _bytes(b"".join(digests)).view(len(columns), n_shards, 32)
        note = {"state": state, "part": {"file": file}, "work": self._work}
        head["state"] = _bytes(json.dumps(note).encode())
        data = _safetensors({**head, **_split_columns(columns, self.config.columns)}, n_head=len(head))
        write_object(self.address / file, data)
        self._filled += counts
        self._parts.append({"file": file})

    def _n_rows(self) -> int:
        return int(self._filled.sum())

    def _seal(self) -> dict[str, Any]:
        parts = []
        for part in self._parts:
            size, raw = _raw_head(self.address / part["file"])
            parts.append({"file": part["file"], "bytes": size, "head": len(raw), "sha256": digest(raw)})
        listed = {"shards": [{"n_rows": n} for n in self._filled.tolist()], "parts": parts}
        manifest = {**listed, "n_ids": self.config.n_ids, "dtype": self.config.dtype}
        manifest["hooks"] = {hook: {"d": d} for hook, d in self.config.widths.items()}
        self._written = RemoteFiles(self.address, manifest)
        return {"format": REMOTE_FORMAT, **listed}

    def _sample(self, hook: str) -> Tensor:
        columns = (self._written.column(i, name=hook) for i in range(len(self._filled)))
        return sample_rows(columns, n_sample_rows(self.config.widths[hook]), self.config.seed)

    def _publish(self, manifest: dict[str, Any]) -> None:
        for name in manifest["files"]:
            write_object(self.address / name, (self.out / name).read_bytes())
        write_object(self.address / MANIFEST, json.dumps(manifest, indent=1).encode())
        remove_object(self.address / BEGUN)


class RemoteFiles:
    """The tensors of a store at an address, as `shards.StoreFiles` has for a folder."""

    def __init__(self, address: Address, manifest: dict[str, Any]):
        self.path, self.manifest = address, manifest
        widths = {hook: entry["d"] for hook, entry in manifest["hooks"].items()}
        self.columns = columns_of(manifest["n_ids"], widths, manifest["dtype"])
        self.layouts = [ShardLayout(shard["n_rows"], self.columns) for shard in manifest["shards"]]
        self._heads: list[tuple[int, dict[str, Tensor]]] | None = None
        self._cache = _Cache()
        self._lock = Lock()

    def column(self, index: int, into: Tensor | None = None, *, name: str) -> Tensor:
        """Return a column of shard `index`, in the memory of `into` if given."""
        column = self.layouts[index].column(name)
        n_rows = self.layouts[index].n_rows
        n_values = n_rows * max(column.width, 1)
        tensor = torch.empty(n_values, dtype=column.dtype) if into is None else into.view(-1)[:n_values]
        data = tensor.view(torch.uint8).numpy()
        key = f"{index}-{self.columns.index(column)}"
        if not self._cache.read(key, data):
            data[:] = np.frombuffer(self._fetch(index, column), np.uint8)
            self._cache.write(key, data)
        return tensor.view(n_rows, column.width) if column.width else tensor

    def small(self, name: str) -> dict[str, Tensor]:
        """Return a file next to the parts."""
        return small_tensors(read_object(self.path / name), self.manifest, self.path / name)

    def verify(self) -> None:
        """Check every byte of all files."""
        for name in self.manifest["files"]:
            self.small(name)
        for i in range(len(self.layouts)):
            for column in self.columns:
                self._fetch(i, column)

    def _fetch(self, index: int, column: Column) -> bytes:
        """Return the bytes of a column of a shard, a range of each part that has some, each checked against its
        checksum."""
        if "parts" not in self.manifest:
            return self._fetch_shard(index, column)
        number = self.columns.index(column)
        ranges = []
        sums = []
        files = []
        for part, (start, head) in zip(self.manifest["parts"], self._all_heads(), strict=True):
            ends = head["ends"]
            n_rows = int(ends[-1])
            first = int(ends[index - 1]) if index else 0
            last = int(ends[index])
            if last == first:
                continue
            before = start + n_rows * sum(each.row_bytes for each in self.columns[:number])
            ranges.append((before + first * column.row_bytes, before + last * column.row_bytes))
            sums.append(bytes(head["sha256"][number, index].tolist()).hex())
            files.append(self.path / part["file"])
        parts = read_ranges(files, ranges)
        for file, data, expected in zip(files, parts, sums, strict=True):
            if digest(data) != expected:
                raise damaged_part_error(file, "a part of it")
        data = b"".join(parts)
        if len(data) != self.layouts[index].n_rows * column.row_bytes:
            raise damaged_part_error(self.path / MANIFEST, "a part of it")
        return data

    def _fetch_shard(self, index: int, column: Column) -> bytes:
        """Fetch a column of a shard of a store that was copied from a folder."""
        shard = self.manifest["shards"][index]
        start = self.layouts[index].offset(column.name)
        file = self.path / shard["file"]
        size = self.layouts[index].n_rows * column.row_bytes
        data = read_ranges([file], [(start, start + size)])[0] if size else b""
        if digest(data) != shard["sha256"][column.name]:
            raise damaged_part_error(file, "a part of it")
        return data

    def _all_heads(self) -> list[tuple[int, dict[str, Tensor]]]:
        """Return the start of each part's columns, and the tensors before them."""
        with self._lock:
            if self._heads is None:
                parts = self.manifest["parts"]
                raw = read_ranges([self.path / part["file"] for part in parts], [(0, part["head"]) for part in parts])
                for part, data in zip(parts, raw, strict=True):
                    if digest(data) != part["sha256"]:
                        raise damaged_part_error(self.path / part["file"], "a part of it")
                self._heads = [(len(data), _head_tensors(data)) for data in raw]
            return self._heads


def read_remote_manifest(address: Address) -> tuple[dict[str, Any], str]:
    """Return the manifest of a finished store, and its digest. Raises ValueError if there is none, and
    DamagedError for a damaged one."""
    try:
        data = read_object(address / MANIFEST)
    except FileNotFoundError:
        if has_object(address / BEGUN):
            raise DamagedError(
                f"{address} holds a store that was cut off: run the same harvest again to finish it"
            ) from None
        raise ValueError(f"{address} holds no activation store: `interp harvest` makes one") from None
    try:
        manifest = json.loads(data)
        if manifest["format"] != REMOTE_FORMAT:
            check_store_manifest(manifest, address / MANIFEST)
            return manifest, digest(data)
        parts = {name: manifest[name] for name in ("shards", "parts")}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DamagedError(f"{address / MANIFEST} is damaged ({error!r}): {STORE_REMEDY}") from None
    validate_json(_Parts, parts, address / MANIFEST, STORE_REMEDY)
    return manifest, digest(data)


def clear(address: Address) -> None:
    """Remove a store, the manifest first: without it the store is not considered finished."""
    listed = files_listed(address) or set()
    for name in (MANIFEST, BEGUN, *sorted(listed - {MANIFEST})):
        remove_object(address / name)
    number = 0
    while has_object(address / _part_name(number)):
        remove_object(address / _part_name(number))
        number += 1


class _Cache:
    """A cache of columns of shards in files; the least recently used are removed if it is full."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="interp-cache-")
        self._limit = cache_bytes()
        self._sizes: dict[str, int] = {}
        self._lock = Lock()
        weakref.finalize(self, shutil.rmtree, self._folder, True)

    def read(self, key: str, into: np.ndarray) -> bool:
        """Return whether it is cached; if so, it is read."""
        with self._lock:
            if key not in self._sizes:
                return False
            self._sizes[key] = self._sizes.pop(key)  # used last
            with open(Path(self._folder, key), "rb") as file:
                return file.readinto(into.data) == len(into)

    def write(self, key: str, data: np.ndarray) -> None:
        with self._lock:
            if len(data) > self._limit or key in self._sizes:
                return
            while sum(self._sizes.values()) + len(data) > self._limit:
                oldest = next(iter(self._sizes))
                del self._sizes[oldest]
                Path(self._folder, oldest).unlink()
            data.tofile(Path(self._folder, key))
            self._sizes[key] = len(data)


def _part_name(number: int) -> str:
    return f"part-{number:05d}.safetensors"


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _split_columns(columns: dict[str, Tensor], layout: tuple[Column, ...]) -> dict[str, Tensor]:
    return {c.name: columns[c.name] if c.width else columns[c.name].flatten() for c in layout}


def _safetensors(tensors: dict[str, Tensor], n_head: int) -> bytearray:
    """Return a safetensors file of the tensors in this order; `__metadata__` records the end of the first `n_head`."""
    entries = [(name, x.dtype, tuple(x.shape), x.numel() * x.dtype.itemsize) for name, x in tensors.items()]
    n_bytes = sum(entry[3] for entry in entries[:n_head])
    header = tensors_header(entries, {"head": f"{n_bytes:012d}"})
    data = bytearray(header)
    for x in tensors.values():
        data += x.contiguous().view(torch.uint8).numpy().data if x.numel() else b""
    return data


def _raw_head(address: Address) -> tuple[int, bytes]:
    """Return the size of a part, and the bytes before its columns."""
    [length] = read_ranges([address], [(0, 8)])
    n_header = int.from_bytes(length, "little")
    [header] = read_ranges([address], [(8, 8 + n_header)])
    entries = json.loads(header)
    stop = 8 + n_header + int(entries.pop("__metadata__")["head"])
    [raw] = read_ranges([address], [(0, stop)])
    return 8 + n_header + max(entry["data_offsets"][1] for entry in entries.values()), raw


def _read_head(address: Address) -> dict[str, Tensor]:
    return _head_tensors(_raw_head(address)[1])


def _head_tensors(raw: bytes) -> dict[str, Tensor]:
    """Return the tensors before the columns of a part."""
    n_header = int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8 : 8 + n_header])
    tensors = {}
    entries.pop("__metadata__")
    types = {"I64": torch.int64, "U8": torch.uint8, "F64": torch.float64}
    for name, entry in entries.items():
        if name in _HEAD_KEYS or name.startswith("sums."):
            start, stop = (8 + n_header + offset for offset in entry["data_offsets"])
            data = torch.frombuffer(bytearray(raw[start:stop]), dtype=torch.uint8)
            tensors[name] = data.clone().view(types[entry["dtype"]]).view(entry["shape"])
    return tensors
