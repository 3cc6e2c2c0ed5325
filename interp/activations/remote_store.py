"""Stores of activations at an address (s3://bucket/store): written without a disk, read through a bounded cache.

    begun.json              the inputs of the store, while it is unfinished
    part-00000.safetensors  some rows, those of each shard together: row_ids [row] and one tensor [row, d] a hook. Its
                            header says where the rows of each shard end, has a SHA-256 of each shard's rows of each
                            tensor, and the state of the harvest after them
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypedDict

from interp.activations.shard_writer import StoreConfig, WriterState, file_entry, shard_of
from interp.activations.shards import (
    ROW_IDS,
    STORE_FORMAT,
    STORE_REMEDY,
    ShardColumn,
    ShardLayout,
    check_store_manifest,
    columns_in,
    damaged_part_error,
    side_file_tensors,
)
from interp.checks.errors import DamagedError, InterpError
from interp.checks.json_values import AtLeastOne, AtLeastZero, Digest, FileName, validate_json
from interp.storage.addresses import (
    Address,
    cache_bytes,
    has_object,
    read_object,
    read_ranges,
    remove_object,
    write_file,
    write_object,
)
from interp.storage.files import digest, digest_json, json_roundtrip, parse_json
from interp.storage.manifests import MADE_OF, MANIFEST, check_manifest, listed_files, manifest_of
from interp.storage.remote_folders import BEGUN

PART_BYTES = 256 << 20
REMOTE_FORMAT = f"{STORE_FORMAT}/parts"


class _Part(TypedDict):
    file: FileName
    bytes: AtLeastZero
    head: AtLeastOne
    """Bytes of the header."""
    sha256: Digest
    """SHA-256 of the header."""


class _Parts(TypedDict):
    shards: list[dict[str, AtLeastZero]]
    parts: list[_Part]


class PartWriter:
    """The objects of a store at an address, as `shard_writer.ShardWriter` has the files of a folder."""

    def __init__(self, address: Address, config: StoreConfig, shard_rows: tuple[int, ...]):
        self.address, self.config, self.shard_rows = address, config, shard_rows
        self.buffer_bytes = PART_BYTES
        made_of = json_roundtrip(config.made_of)
        self._begun = {MADE_OF: made_of, "resumes": True}
        self._work = digest_json(made_of)
        self._filled = np.zeros(len(shard_rows), np.int64)
        self._parts = list[dict[str, Any]]()
        self._small_files: dict[str, dict[str, Any]] = {}

    @property
    def n_rows(self) -> int:
        return int(self._filled.sum())

    def begin(self, state: WriterState) -> WriterState:
        """Continue after the parts of an earlier writer, if there are any. Returns the state before the next rows."""
        write_object(self.address / BEGUN, json.dumps(self._begun).encode())
        while has_object(part := self.address / _part_name(len(self._parts))):
            header = _read_header(part)
            head = _head_of(header)
            if head["work"] != self._work:  # left by another store, whose removal was interrupted
                break
            self._filled += np.diff(head["ends"], prepend=0)
            self._parts.append(_entry_of(part.name, header))
            sums = {hook: torch.tensor(head["sums"][hook], dtype=torch.float64) for hook in self.config.widths}
            state = WriterState(head["state"], sums)
        return state

    def clear(self) -> None:
        remove_store_objects(self.address)

    def write(self, rows: Mapping[str, Tensor], state: WriterState) -> None:
        """Write one object with the rows, sorted by shard, and the state after them."""
        n_shards = len(self._filled)
        shards = shard_of(rows[ROW_IDS][:, 0].numpy(), n_shards, self.config.seed)
        if not len(shards):
            return
        order = torch.from_numpy(shards.argsort(kind="stable"))
        counts = np.bincount(shards, minlength=n_shards)
        ends = counts.cumsum().tolist()
        columns = [rows[column.name][order] for column in self.config.columns]
        head = {
            "ends": ends,
            "sha256": [[digest(part) for part in column.tensor_split(ends[:-1])] for column in columns],
            "sums": {hook: total.tolist() for hook, total in state.sums.items()},
            "state": state.values,
            "work": self._work,
        }
        header = ShardLayout(len(shards), self.config.columns).header_with({"head": json.dumps(head)})
        data = bytearray(header)
        for column in columns:
            data += column.view(torch.uint8).numpy().data
        entry = _entry_of(_part_name(len(self._parts)), header)
        write_object(self.address / entry["file"], data)
        self._filled += counts
        self._parts.append(entry)

    def seal(self) -> dict[str, Any]:
        listed = {"shards": [{"n_rows": n} for n in self._filled.tolist()], "parts": self._parts}
        manifest = {**listed, "n_ids": self.config.n_ids, "dtype": self.config.dtype}
        manifest["hooks"] = {hook: {"d": d} for hook, d in self.config.widths.items()}
        self._written = RemoteFiles(self.address, manifest)
        return {"format": REMOTE_FORMAT, **listed}

    def columns(self, hook: str) -> Iterator[Tensor]:
        return (self._written.column(i, name=hook) for i in range(len(self._filled)))

    def add_file(self, name: str, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            write(file)
            self._small_files[name] = file_entry(file)
            write_file(self.address / name, file)

    def publish(self, content: Mapping[str, Any]) -> None:
        manifest = manifest_of(content, self._small_files)
        write_object(self.address / MANIFEST, json.dumps(manifest, indent=1).encode())
        remove_object(self.address / BEGUN)


class RemoteFiles:
    """The tensors of a store at an address, as `shards.StoreFiles` has for a folder."""

    def __init__(self, address: Address, manifest: dict[str, Any]):
        self.path, self.manifest = address, manifest
        self.columns = columns_in(manifest)
        self.layouts = [ShardLayout(shard["n_rows"], self.columns) for shard in manifest["shards"]]
        self._heads: list[dict[str, Any]] | None = None
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

    def side_file(self, name: str) -> dict[str, Tensor]:
        """Return a file next to the parts."""
        return side_file_tensors(read_object(self.path / name), self.manifest, self.path / name)

    def verify(self) -> None:
        """Check every byte of all files."""
        for name in self.manifest["files"]:
            self.side_file(name)
        for i in range(len(self.layouts)):
            for column in self.columns:
                self._fetch(i, column)

    def _fetch(self, index: int, column: ShardColumn) -> bytes:
        """Return the bytes of a column of a shard, a range of each part that has some, each checked against its
        checksum."""
        if "parts" not in self.manifest:
            return self._fetch_shard(index, column)
        number = self.columns.index(column)
        ranges = []
        sums = []
        files = []
        for part, head in zip(self.manifest["parts"], self._all_heads(), strict=True):
            ends = head["ends"]
            first = ends[index - 1] if index else 0
            last = ends[index]
            if last == first:
                continue
            before = part["head"] + ends[-1] * sum(each.row_bytes for each in self.columns[:number])
            ranges.append((before + first * column.row_bytes, before + last * column.row_bytes))
            sums.append(head["sha256"][number][index])
            files.append(self.path / part["file"])
        parts = read_ranges(files, ranges)
        for file, data, expected in zip(files, parts, sums, strict=True):
            if digest(data) != expected:
                raise damaged_part_error(file, "a part of it")
        data = b"".join(parts)
        if len(data) != self.layouts[index].n_rows * column.row_bytes:
            raise damaged_part_error(self.path / MANIFEST, "a part of it")
        return data

    def _fetch_shard(self, index: int, column: ShardColumn) -> bytes:
        """Fetch a column of a shard of a store that was copied from a folder."""
        shard = self.manifest["shards"][index]
        start = self.layouts[index].offset(column.name)
        file = self.path / shard["file"]
        size = self.layouts[index].n_rows * column.row_bytes
        data = read_ranges([file], [(start, start + size)])[0] if size else b""
        if digest(data) != shard["sha256"][column.name]:
            raise damaged_part_error(file, "a part of it")
        return data

    def _all_heads(self) -> list[dict[str, Any]]:
        """Return what the header of each part says."""
        with self._lock:
            if self._heads is None:
                parts = self.manifest["parts"]
                raw = read_ranges([self.path / part["file"] for part in parts], [(0, part["head"]) for part in parts])
                for part, data in zip(parts, raw, strict=True):
                    if digest(data) != part["sha256"]:
                        raise damaged_part_error(self.path / part["file"], "a part of it")
                self._heads = [_head_of(data) for data in raw]
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
        raise InterpError(f"{address} holds no activation store: `interp harvest` makes one") from None
    manifest = parse_json(data, address / MANIFEST, STORE_REMEDY)
    if manifest.get("format") != REMOTE_FORMAT:
        return check_store_manifest(manifest, address / MANIFEST), digest(data)
    manifest = check_manifest(manifest, address / MANIFEST, STORE_REMEDY)
    parts = {name: manifest.get(name) for name in ("shards", "parts")}
    validate_json(_Parts, parts, address / MANIFEST, STORE_REMEDY)
    return manifest, digest(data)


def remove_store_objects(address: Address) -> None:
    """Remove a store, the manifest first: without it the store is not considered finished."""
    listed = listed_files(address) or set()
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


def _read_header(address: Address) -> bytes:
    """Return the bytes of a part before its columns."""
    [length] = read_ranges([address], [(0, 8)])
    [text] = read_ranges([address], [(8, 8 + int.from_bytes(length, "little"))])
    return length + text


def _head_of(header: bytes) -> dict[str, Any]:
    """Return what the header of a part says besides the places of its columns."""
    return json.loads(json.loads(header[8:])["__metadata__"]["head"])


def _entry_of(file: str, header: bytes) -> dict[str, Any]:
    """Return the entry of a part in the manifest."""
    columns = json.loads(header[8:])
    del columns["__metadata__"]
    size = len(header) + max(column["data_offsets"][1] for column in columns.values())
    return {"file": file, "bytes": size, "head": len(header), "sha256": digest(header)}
