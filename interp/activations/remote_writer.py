"""Write a store at an address, part by part, without a disk (`activations.remote_store` has the format)."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.activations.remote_reader import RemoteFiles
from interp.activations.remote_store import REMOTE_FORMAT, contents_of, part_name, remove_store_objects
from interp.activations.shard_writer import StoreConfig, WriterState, file_entry, shard_of
from interp.activations.shards import ROW_IDS, ShardLayout
from interp.storage.addresses import RemoteAddress, has_object, read_ranges, remove_object, write_file, write_object
from interp.storage.files import digest, digest_json, json_roundtrip
from interp.storage.manifests import MADE_OF, MANIFEST, manifest_of
from interp.storage.remote_folders import BEGUN

PART_BYTES = 256 << 20


class PartWriter:
    """The objects of a store at an address, as `shard_writer.ShardWriter` has the files of a folder."""

    def __init__(self, address: RemoteAddress, config: StoreConfig, shard_rows: tuple[int, ...]):
        self.address, self.config, self.shard_rows = address, config, shard_rows
        self.buffer_bytes = PART_BYTES
        made_of = json_roundtrip(config.made_of)
        self._begun = {MADE_OF: made_of, "resumes": True}
        self._work = digest_json(made_of)
        self._filled = np.zeros(len(shard_rows), np.int64)
        self._parts = list[dict[str, Any]]()
        self._side_files: dict[str, dict[str, Any]] = {}
        self._written: RemoteFiles | None = None

    @property
    def n_rows(self) -> int:
        return int(self._filled.sum())

    def begin(self, state: WriterState) -> WriterState:
        """Continue after the parts of an earlier writer, if there are any. Returns the state before the next rows."""
        write_object(self.address / BEGUN, json.dumps(self._begun).encode())
        while has_object(part := self.address / part_name(len(self._parts))):
            header = _read_header(part)
            contents = contents_of(header)
            if contents["work"] != self._work:  # left by another store, whose removal was interrupted
                break
            self._filled += np.diff(contents["ends"], prepend=0)
            self._parts.append(_entry_of(part.name, header))
            sums = {hook: torch.tensor(contents["sums"][hook], dtype=torch.float64) for hook in self.config.widths}
            state = WriterState(contents["state"], sums)
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
        contents = {
            "ends": ends,
            "sha256": [[digest(part) for part in column.tensor_split(ends[:-1])] for column in columns],
            "sums": {hook: total.tolist() for hook, total in state.sums.items()},
            "state": state.values,
            "work": self._work,
        }
        header = ShardLayout(len(shards), self.config.columns).header_with({"head": json.dumps(contents)})
        data = bytearray(header)
        for column in columns:
            data += column.view(torch.uint8).numpy().data
        entry = _entry_of(part_name(len(self._parts)), header)
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
        """Yield the column of a hook of each shard, once the store is sealed."""
        assert self._written is not None
        return map(partial(self._written.column, name=hook), range(len(self._filled)))

    def add_file(self, name: str, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            write(file)
            self._side_files[name] = file_entry(file)
            write_file(self.address / name, file)

    def publish(self, content: Mapping[str, Any]) -> None:
        manifest = manifest_of(content, self._side_files)
        write_object(self.address / MANIFEST, json.dumps(manifest, indent=1).encode())
        remove_object(self.address / BEGUN)


def _read_header(address: RemoteAddress) -> bytes:
    """Return the bytes of a part before its columns."""
    [length] = read_ranges([address], [(0, 8)])
    [text] = read_ranges([address], [(8, 8 + int.from_bytes(length, "little"))])
    return length + text


def _entry_of(file: str, header: bytes) -> dict[str, Any]:
    """Return the entry of a part in the manifest."""
    columns = json.loads(header[8:])
    del columns["__metadata__"]
    size = len(header) + max(column["data_offsets"][1] for column in columns.values())
    return {"file": file, "bytes": size, "head": len(header), "sha256": digest(header)}
