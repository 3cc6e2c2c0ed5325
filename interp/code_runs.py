"""The files of sparse codes on disk: sorted runs that are read in ranges, and checked as they are read.

`codes.json` says how many rows and latents there are and, once all runs are there, which. A run is a safetensors file
of `row_ids` [row], ascending, `offsets` [row + 1], `latents` [nnz] and `values` [nnz]; row i of it has the entries
offsets[i]:offsets[i + 1]. Every `_STEP`-th row id is held in memory, and ranges are read rather than mapped: pages of a
mapped file count as the process's own.

Compiled loops follow row ids, offsets and latents unchecked, so none leaves here that points outside. Damage that makes
other numbers of the right kind is not seen: that takes a checksum.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64

from interp.files import read_json

META = "codes.json"
REMEDY = "delete the folder of this scan, and scan again"
_STEP = 4096
_MAX_HEADER = 1 << 12
_TYPES = {"I64": np.int64, "I32": np.int32, "U16": np.uint16, "F32": np.float32}
_COLUMNS = {"row_ids": ("I64",), "offsets": ("I64",), "latents": ("U16", "I32"), "values": ("F32",)}


class RunSlice(NamedTuple):
    """The rows of a run that lie in a range."""

    row_ids: Int64[np.ndarray, " row"]
    offsets: Int64[np.ndarray, " row_plus_1"]
    latents: Int32[np.ndarray, " nnz"]
    values: Float32[np.ndarray, " nnz"]


class _Column(NamedTuple):
    dtype: np.dtype
    start: int
    """Byte of the file."""
    length: int


class CodeRun:
    """Raises ValueError that names the file and what is wrong with it, when it is opened or when it is read."""

    def __init__(self, file: Path, *, n_rows: int, d_sae: int):
        """n_rows: row ids are below it."""
        self.file, self._d_sae = file, d_sae
        self._columns = self._layout()
        self.n_rows, self.nnz = self._columns["row_ids"].length, self._columns["values"].length
        if self._columns["offsets"].length != self.n_rows + 1 or self._columns["latents"].length != self.nnz:
            raise self.damaged("its columns have unlike lengths")
        if self._read("offsets", 0, 1)[0] != 0 or self._read("offsets", self.n_rows, self.n_rows + 1)[0] != self.nnz:
            raise self.damaged(f"its offsets do not run from 0 to {self.nnz}")
        firsts = [self._read("row_ids", row, row + 1)[0] for row in range(0, self.n_rows, _STEP)]
        self._firsts = np.array([*firsts, n_rows], np.int64)
        if self._firsts[0] < 0 or (np.diff(self._firsts) <= 0).any():
            raise self.damaged(f"its row ids do not ascend below {n_rows}")

    def row_ids(self, start: int, stop: int) -> tuple[int, Int64[np.ndarray, " row"]]:
        """Those of the run's rows in the range, and the place of the first among all of the run."""
        low = max(int(np.searchsorted(self._firsts[:-1], start, side="right")) - 1, 0)
        high = int(np.searchsorted(self._firsts[:-1], stop, side="left"))
        ids = self._read("row_ids", low * _STEP, min(high * _STEP, self.n_rows))
        ends = self._firsts[[low, max(low, high)]]
        if len(ids) and (ids[0] != ends[0] or ids[-1] >= ends[1] or not (ids[1:] > ids[:-1]).all()):
            raise self.damaged("its row ids do not ascend")
        first, last = np.searchsorted(ids, [start, stop])
        return low * _STEP + int(first), ids[first:last]

    def read(self, start: int, stop: int) -> RunSlice:
        """The codes of the run's rows in the range."""
        first, ids = self.row_ids(start, stop)
        offsets = self._read("offsets", first, first + len(ids) + 1)
        if offsets[0] < 0 or offsets[-1] > self.nnz or (np.diff(offsets) < 0).any():
            raise self.damaged("its offsets do not ascend")
        latents, values = (self._read(name, offsets[0], offsets[-1]) for name in ("latents", "values"))
        offsets -= offsets[0]
        if fault := entry_fault(offsets, latents, values, self._d_sae):
            raise self.damaged(fault)
        return RunSlice(ids, offsets, latents.astype(np.int32, copy=False), values)

    def damaged(self, what: str) -> ValueError:
        return ValueError(f"{self.file} is damaged: {what}: {REMEDY}")

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        column = self._columns[name]
        at = column.start + int(start) * column.dtype.itemsize
        found = np.fromfile(self.file, column.dtype, max(int(stop - start), 0), offset=at)
        if len(found) < stop - start:
            raise self.damaged("it is truncated")
        return found

    def _layout(self) -> dict[str, _Column]:
        """From the file's header, where it describes all of the file."""
        with open(self.file, "rb") as stream:
            size, length = self.file.stat().st_size, int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if length <= _MAX_HEADER else b""
        try:
            header: dict[str, Any] = json.loads(text)
            columns = {name: _column(header[name], kinds, 8 + length) for name, kinds in _COLUMNS.items()}
        except (ValueError, LookupError, TypeError, RecursionError):
            raise self.damaged("its header is not that of codes") from None
        if 8 + length + sum(column.dtype.itemsize * column.length for column in columns.values()) != size:
            raise self.damaged(f"it has {size} bytes, which are not those of its header")
        return columns


class Meta(NamedTuple):
    n_rows: int
    d_sae: int
    runs: dict[str, list[int]] | None
    """Rows and firings of each run, where all are there."""


def read_meta(file: Path) -> Meta:
    """Raises ValueError that names the file where it is not what a store wrote."""
    meta = read_json(file, REMEDY)
    sizes, runs = [meta.get("n_rows"), meta.get("d_sae")], meta.get("runs")
    are_sizes = all(type(size) is int and 0 <= size < 1 << 48 for size in sizes)
    is_list = "runs" not in meta or (isinstance(runs, dict) and not any("/" in name for name in runs))
    if not are_sizes or not is_list or not set(meta) <= {"n_rows", "d_sae", "runs"}:
        raise ValueError(f"{file} is damaged: it does not say what codes there are: {REMEDY}")
    return Meta(meta["n_rows"], meta["d_sae"], runs)


def entry_fault(offsets: np.ndarray, latents: np.ndarray, values: np.ndarray, d_sae: int) -> str | None:
    """What is wrong with codes in memory, in a few words; None where nothing is."""
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(latents) or (offsets[1:] < offsets[:-1]).any():
        return f"its offsets do not ascend from 0 to {len(latents)}"
    if len(values) != len(latents):
        return f"it has {len(latents)} latents and {len(values)} values"
    if len(latents) and not 0 <= latents.min() <= latents.max() < d_sae:
        return f"a latent is not in 0..{d_sae - 1}"
    if len(values) and not (np.isfinite(values.min()) and np.isfinite(values.max())):  # NaN passes through both
        at = np.flatnonzero(~np.isfinite(values))[0]
        row = np.searchsorted(offsets, at, side="right") - 1
        return f"latent {latents[at]} is {values[at]} at row {row}"
    return None


def _column(entry: dict[str, Any], kinds: tuple[str, ...], first: int) -> _Column:
    (length,), (start, stop), dtype = entry["shape"], entry["data_offsets"], np.dtype(_TYPES[entry["dtype"]])
    whole = all(type(number) is int and number >= 0 for number in (length, start, stop))
    if entry["dtype"] not in kinds or not whole or stop - start != length * dtype.itemsize:
        raise ValueError(entry)
    return _Column(dtype, first + start, length)
