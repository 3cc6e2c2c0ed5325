"""Read a store at an address (`activations.remote_store`), a range of each part at a time, through a cache."""

from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.activations.column_cache import ColumnCache
from interp.activations.remote_store import contents_of
from interp.activations.shards import ShardColumn, ShardLayout, columns_in, damaged_part_error, side_file_tensors
from interp.storage.addresses import RemoteAddress, read_object, read_ranges
from interp.storage.files import digest
from interp.storage.manifests import MANIFEST


class RemoteFiles:
    """The tensors of a store at an address, as `shards.StoreFiles` has for a folder."""

    def __init__(self, address: RemoteAddress, manifest: dict[str, Any]):
        self.path, self.manifest = address, manifest
        self.columns = columns_in(manifest)
        self.layouts = [ShardLayout(shard["n_rows"], self.columns) for shard in manifest["shards"]]
        self._contents: list[dict[str, Any]] | None = None
        self._cache = ColumnCache()
        self._lock = Lock()

    def column(self, index: int, into: Tensor | None = None, *, name: str) -> Tensor:
        """Return a column of shard `index`, in the memory of `into` if given."""
        column = self.layouts[index].column(name)
        tensor = self.layouts[index].buffer(name, into=into)
        data = tensor.view(-1).view(torch.uint8).numpy()
        key = f"{index}-{self.columns.index(column)}"
        if not self._cache.read(key, data):
            data[:] = np.frombuffer(self._fetch(index, column), np.uint8)
            self._cache.write(key, data)
        return tensor

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
        for part, contents in zip(self.manifest["parts"], self._all_contents(), strict=True):
            ends = contents["ends"]
            first = ends[index - 1] if index else 0
            last = ends[index]
            if last == first:
                continue
            before = part["head"] + ends[-1] * sum(each.row_bytes for each in self.columns[:number])
            ranges.append((before + first * column.row_bytes, before + last * column.row_bytes))
            sums.append(contents["sha256"][number][index])
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

    def _all_contents(self) -> list[dict[str, Any]]:
        """Return what the header of each part says."""
        with self._lock:
            if self._contents is None:
                parts = self.manifest["parts"]
                raw = read_ranges([self.path / part["file"] for part in parts], [(0, part["head"]) for part in parts])
                for part, data in zip(parts, raw, strict=True):
                    if digest(data) != part["sha256"]:
                        raise damaged_part_error(self.path / part["file"], "a part of it")
                self._contents = [contents_of(data) for data in raw]
            return self._contents
