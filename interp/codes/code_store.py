"""Sparse codes of a whole token set on disk: sorted files that are read in ranges, and checked as they are read.

`codes.json` records the numbers of rows and latents and, once all files are complete, lists them under `runs`. Each
`run-NAME.safetensors` holds `row_ids` [row], ascending, `offsets` [row + 1], `latents` [nnz] and `values` [nnz], all
above 0; its row i has the firings offsets[i]:offsets[i + 1]. A slice of the store gathers the rows of all files in
token order, so memory is bounded by the slice, or by READ_AHEAD if slices are read in order. Every `_STEP`-th row id is
held in memory. Ranges are read rather than mapped, since pages of a mapped file count as the process's own memory.

Compiled loops do not check indices, so row ids, offsets and latents that are out of range are found here. Damage that
turns numbers into other valid ones is found only by a checksum (`storage.manifests.verify`).
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int32, Int64
from pydantic import ConfigDict, Field
from torch import Tensor
from typing_extensions import TypedDict

from interp.checks.errors import DamagedError, InterpError
from interp.checks.json_values import AtLeastZero, FileName, validate_json
from interp.codes.offsets import offsets_from_lengths
from interp.codes.sparse_codes import SparseCodes, entry_fault
from interp.storage.files import read_json, write_json, write_tensors
from interp.storage.remote_folders import local_path

META_FILE = "codes.json"
SCAN_REMEDY = "delete the folder of this scan, and scan again"
READ_AHEAD = 1 << 22
"""Firings that are read at once if slices are read in order. Every reading opens all files, whose number grows with the
tokens."""
_STEP = 4096
_MAX_HEADER = 1 << 12
_DTYPES = {"I64": np.int64, "I32": np.int32, "U16": np.uint16, "F32": np.float32}
_COLUMNS = {"row_ids": ("I64",), "offsets": ("I64",), "latents": ("U16", "I32"), "values": ("F32",)}


class _Meta(TypedDict):
    """`codes.json`."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    n_rows: Annotated[int, Field(ge=0, lt=1 << 48)]
    d_sae: Annotated[int, Field(ge=0, lt=1 << 48)]
    runs: NotRequired[dict[FileName, list[AtLeastZero]]]
    """Rows and firings of each file, once all are complete."""


class CodeFileSlice(NamedTuple):
    """The rows of a file of codes that lie in a range."""

    row_ids: Int64[np.ndarray, " row"]
    offsets: Int64[np.ndarray, " row_plus_1"]
    latents: Int32[np.ndarray, " nnz"]
    values: Float32[np.ndarray, " nnz"]


class _Column(NamedTuple):
    """The place of a column in a file of codes."""

    dtype: np.dtype
    start: int
    """The byte of the file at which the column starts."""
    length: int


class CodeFile:
    """Codes in one file, read in ranges. Opening and reading raise DamagedError with the file and the fault."""

    def __init__(self, path: Path, *, n_rows: int, d_sae: int):
        """Open a file of codes. n_rows: all row ids are below it."""
        self.path = path
        self._d_sae = d_sae
        self._columns = self._layout()
        self.n_rows = self._columns["row_ids"].length
        self.nnz = self._columns["values"].length
        if self._columns["offsets"].length != self.n_rows + 1 or self._columns["latents"].length != self.nnz:
            raise self.damaged("its columns have different lengths")
        if self._read("offsets", 0, 1)[0] != 0 or self._read("offsets", self.n_rows, self.n_rows + 1)[0] != self.nnz:
            raise self.damaged(f"its offsets do not run from 0 to {self.nnz}")
        first_ids = [self._read("row_ids", row, row + 1)[0] for row in range(0, self.n_rows, _STEP)]
        self._first_ids = np.array([*first_ids, n_rows], np.int64)
        if self._first_ids[0] < 0 or (np.diff(self._first_ids) <= 0).any():
            raise self.damaged(f"its row ids do not ascend below {n_rows}")

    def row_ids(self, start: int, stop: int) -> tuple[int, Int64[np.ndarray, " row"]]:
        """Return the ids of the file's rows in the range, and the number of the file's rows before them."""
        low = max(int(np.searchsorted(self._first_ids[:-1], start, side="right")) - 1, 0)
        high = int(np.searchsorted(self._first_ids[:-1], stop, side="left"))
        ids = self._read("row_ids", low * _STEP, min(high * _STEP, self.n_rows))
        ends = self._first_ids[[low, max(low, high)]]
        if len(ids) and (ids[0] != ends[0] or ids[-1] >= ends[1] or not (ids[1:] > ids[:-1]).all()):
            raise self.damaged("its row ids do not ascend")
        first, last = np.searchsorted(ids, [start, stop])
        return low * _STEP + int(first), ids[first:last]

    def read(self, start: int, stop: int) -> CodeFileSlice:
        """Return the codes of the file's rows in the range."""
        first, ids = self.row_ids(start, stop)
        offsets = self._read("offsets", first, first + len(ids) + 1)
        if offsets[0] < 0 or offsets[-1] > self.nnz or (np.diff(offsets) < 0).any():
            raise self.damaged("its offsets do not ascend")
        latents, values = (self._read(name, offsets[0], offsets[-1]) for name in ("latents", "values"))
        offsets -= offsets[0]
        if fault := entry_fault(offsets, latents, values, self._d_sae):
            raise self.damaged(fault)
        if len(values) and values.min() <= 0:
            raise self.damaged("it has a firing that is not above 0")
        return CodeFileSlice(ids, offsets, latents.astype(np.int32, copy=False), values)

    def damaged(self, fault: str) -> DamagedError:
        return DamagedError(f"{self.path} is damaged: {fault}: {SCAN_REMEDY}")

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        column = self._columns[name]
        at = column.start + int(start) * column.dtype.itemsize
        values = np.fromfile(self.path, column.dtype, max(int(stop - start), 0), offset=at)
        if len(values) < stop - start:
            raise self.damaged("it is truncated")
        return values

    def _layout(self) -> dict[str, _Column]:
        """Read the columns from the file's header, which must account for every byte of the file."""
        with open(self.path, "rb") as stream:
            size = self.path.stat().st_size
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if length <= _MAX_HEADER else b""
        try:
            header: dict[str, Any] = json.loads(text)
            columns = {name: _column(header[name], dtypes, 8 + length) for name, dtypes in _COLUMNS.items()}
        except (ValueError, LookupError, TypeError):
            raise self.damaged("its header is not one of a file of codes") from None
        if 8 + length + sum(column.dtype.itemsize * column.length for column in columns.values()) != size:
            raise self.damaged(f"it has {size} bytes, which does not match its header")
        return columns


class CodeStore:
    """Codes of `n_rows` rows on disk: `codes.json` and one `run-*.safetensors` for each `write_file`.

    `codes.json` lists the files once all are complete (`finish`).

    Raises DamagedError, with the file, if a file is missing or was replaced, or a code is out of range. Files are
    checked on opening, codes on reading.
    """

    def __init__(self, path: str | Path):
        self.path = local_path(path)
        meta = validate_json(_Meta, read_json(self.path / META_FILE, SCAN_REMEDY), self.path / META_FILE, SCAN_REMEDY)
        self.n_rows = meta["n_rows"]
        self.d_sae = meta["d_sae"]
        listed = meta.get("runs")
        names = [file.stem.removeprefix("run-") for file in self.path.glob("run-*.safetensors")]
        self._files = [self._file(name) for name in sorted(names if listed is None else listed)]
        for file, (_, sizes) in zip(self._files, sorted((listed or {}).items()), strict=False):
            if [file.n_rows, file.nnz] != sizes:
                raise file.damaged(f"it has {file.n_rows} rows and {file.nnz} firings, {META_FILE} says {sizes}")
        if sum(file.n_rows for file in self._files) > self.n_rows:
            raise DamagedError(
                f"{self.path / META_FILE} is damaged: its files have more than {self.n_rows} rows: {SCAN_REMEDY}"
            )
        self._end_of_last = -1
        """The row after the last slice."""
        self._ahead: tuple[int, SparseCodes] | None = None
        """The first row of what was read ahead, and its codes."""

    @classmethod
    def create(cls, path: str | Path, *, n_rows: int, d_sae: int) -> "CodeStore":
        """Open a store to write to. Existing files stay, and a resumed scan continues after them."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / META_FILE, {"n_rows": n_rows, "d_sae": d_sae})
        return cls(path)

    def has_file(self, name: str) -> bool:
        return (self.path / f"run-{name}.safetensors").exists()

    def write_file(self, name: str, row_ids: Int[Tensor, " row"], codes: SparseCodes) -> None:
        """Store the firings in the rows `row_ids` (each row id in one file only), sorted by row id."""
        order = row_ids.argsort()
        codes = codes.take(order)
        codes = codes.with_values(codes.values.float()).positive()  # in float32, a tiny number of float64 is 0
        tensors = {
            "row_ids": row_ids[order].long(),
            "offsets": codes.offsets,
            "latents": codes.latents.to(torch.uint16 if self.d_sae <= 1 << 16 else torch.int32),
            "values": codes.values,
        }
        write_tensors(self.path / f"run-{name}.safetensors", tensors)
        self._files.append(self._file(name))
        self._ahead = None

    def finish(self) -> None:
        """List the files in `codes.json`, after the last was written. From then on a missing file is an error."""
        sizes = {file.path.stem.removeprefix("run-"): [file.n_rows, file.nnz] for file in self._files}
        meta = {"n_rows": self.n_rows, "d_sae": self.d_sae, "runs": dict(sorted(sizes.items()))}
        write_json(self.path / META_FILE, meta, indent=None)

    def __len__(self) -> int:
        return self.n_rows

    @property
    def nnz(self) -> int:
        return sum(file.nnz for file in self._files)

    @property
    def n_present(self) -> int:
        """Rows that were encoded."""
        return sum(file.n_rows for file in self._files)

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        """Mark the rows of the range that were encoded; the others were excluded at harvest."""
        mask = torch.zeros(stop - start, dtype=torch.bool)
        for file in self._files:
            _, row_ids = file.row_ids(start, stop)
            mask[torch.from_numpy(row_ids - start)] = True
        return mask

    def __getitem__(self, rows: slice) -> SparseCodes:
        """Return the codes of a range of rows in token order; rows that were excluded are empty."""
        start, stop, step = rows.indices(self.n_rows)
        if step != 1:
            raise IndexError(f"CodeStore takes slices of step 1, got step {step}")
        stop = max(start, stop)
        first, ahead = self._ahead or (0, None)
        if ahead is None or not first <= start <= stop <= first + len(ahead):
            n_slices = READ_AHEAD * self.n_rows // max(self.nnz, 1) // max(stop - start, 1)
            n_slices = max(1, n_slices) if start == self._end_of_last else 1
            first, ahead = start, self._read(start, min(start + n_slices * (stop - start), self.n_rows))
        self._ahead = (first, ahead) if stop < first + len(ahead) else None
        self._end_of_last = stop
        return ahead[start - first : stop - first]

    def _read(self, start: int, stop: int) -> SparseCodes:
        """Read the codes of the rows start … stop − 1."""
        length = stop - start
        parts = [file.read(start, stop) for file in self._files]
        counts = np.zeros(length, np.int64)
        is_there = np.zeros(length, bool)
        for file, part in zip(self._files, parts, strict=True):
            rows_read = part.row_ids - start
            if is_there[rows_read].any():
                raise file.damaged("it has a row that another file has too")
            is_there[rows_read] = True
            counts[rows_read] = np.diff(part.offsets)
        offsets = offsets_from_lengths(counts)
        latents = np.empty(offsets[-1], np.int32)
        values = np.empty(offsets[-1], np.float32)
        for part in parts:
            shift = offsets[part.row_ids - start] - part.offsets[:-1]  # from an entry of the file to one of the result
            entries = np.repeat(shift, np.diff(part.offsets)) + np.arange(len(part.latents))
            latents[entries] = part.latents
            values[entries] = part.values
        return SparseCodes(torch.from_numpy(offsets), torch.from_numpy(latents), torch.from_numpy(values), self.d_sae)

    def _file(self, name: str) -> CodeFile:
        file = self.path / f"run-{name}.safetensors"
        if not file.is_file():
            raise DamagedError(f"{file} is missing, but {META_FILE} lists it: {SCAN_REMEDY}")
        return CodeFile(file, n_rows=self.n_rows, d_sae=self.d_sae)


def _column(entry: dict[str, Any], dtypes: tuple[str, ...], first: int) -> _Column:
    (length,) = entry["shape"]
    start, stop = entry["data_offsets"]
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    whole = all(type(number) is int and number >= 0 for number in (length, start, stop))
    if entry["dtype"] not in dtypes or not whole or stop - start != length * dtype.itemsize:
        raise InterpError(f"{entry} is not a column of {' or '.join(dtypes)}")
    return _Column(dtype, first + start, length)
