"""Tokens in files of a bounded size, which are read as one tensor.

A folder holds, for each column, files COLUMN-00000.safetensors, COLUMN-00001.safetensors, … of the same number of rows,
the last of fewer; `names.json` has the numbers of rows, the names of the documents and the digest of the tokenizer.

    tokens, document_ids     [row, pos], 4 bytes each
    row_characters           [row]

The header of a file fills a page, and the rows of a file fill whole pages. The files of a column are therefore mapped
one after the other into one range of memory, as a tensor of all rows: a page is read when it is asked for, and the
system may drop it again.
"""

import ctypes
import json
import math
import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from interp.checks.errors import DamagedError
from interp.checks.json_values import AtLeastOne, validate_json
from interp.storage.files import read_json, tensors_header, write_json

SHARD_TOKENS = 1 << 24
"""Tokens of a file, about: 64 MiB."""
NAMES_FILE = "names.json"
CORPUS_REMEDY = "tokenize the corpus again"
COLUMNS: dict[str, np.dtype] = {
    "tokens": np.dtype(np.int32),
    "document_ids": np.dtype(np.int32),
    "row_characters": np.dtype(np.int64),
}
_PAGE = 16_384
"""Bytes: the largest page of the usual systems."""
_ROWS_MULTIPLE = 4096
"""The rows of a file are a multiple of it, which fills whole pages whatever the length of a row."""
_MAP_FIXED = 0x10
"""`sys/mman.h` of Linux, macOS and the BSDs; Python has no name for it."""


class _Names(TypedDict):
    n_rows: AtLeastOne
    n_ctx: AtLeastOne
    rows_per_shard: Annotated[int, Field(ge=_ROWS_MULTIPLE, multiple_of=_ROWS_MULTIPLE)]
    document_names: list[str]
    tokenizer: str


class TokenWriter:
    """Appends rows to the files of a folder."""

    def __init__(self, folder: Path, n_ctx: int):
        self.folder = folder
        self.n_ctx = n_ctx
        self.rows_per_shard = _ROWS_MULTIPLE * max(1, SHARD_TOKENS // (n_ctx * _ROWS_MULTIPLE))

    def go_back_to(self, n_rows: int) -> None:
        """Remove all rows but the first `n_rows`."""
        full, rest = divmod(n_rows, self.rows_per_shard)
        for name in COLUMNS:
            for file in self.folder.glob(f"{name}-*.safetensors"):
                number = int(file.stem.removeprefix(f"{name}-"))
                if number > full or (number == full and not rest):
                    file.unlink()
                elif number == full:
                    os.truncate(file, _PAGE + rest * self._row_bytes(name))
                    self._write_header(name, number, self.rows_per_shard)

    def append(self, columns: Mapping[str, np.ndarray], n_rows: int) -> None:
        """Write rows after the first `n_rows`."""
        n_new = len(columns["tokens"])
        start = 0
        while start < n_new:
            number, filled = divmod(n_rows + start, self.rows_per_shard)
            stop = min(n_new, start + self.rows_per_shard - filled)
            for name, dtype in COLUMNS.items():
                if not filled:
                    self._write_header(name, number, self.rows_per_shard)
                with open(self._file(name, number), "ab") as file:
                    columns[name][start:stop].astype(dtype).tofile(file)
            start = stop

    def finish(self, n_rows: int, document_names: Sequence[str], tokenizer: str) -> None:
        """Say how many rows there are, of which documents."""
        last = (n_rows - 1) // self.rows_per_shard
        for name in COLUMNS:
            self._write_header(name, last, n_rows - last * self.rows_per_shard)
        sizes = {"n_rows": n_rows, "n_ctx": self.n_ctx, "rows_per_shard": self.rows_per_shard}
        names = {"document_names": list(document_names), "tokenizer": tokenizer}
        write_json(self.folder / NAMES_FILE, sizes | names, indent=None)

    def _file(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number:05d}.safetensors"

    def _row_bytes(self, name: str) -> int:
        return (1 if name == "row_characters" else self.n_ctx) * COLUMNS[name].itemsize

    def _write_header(self, name: str, number: int, n_rows: int) -> None:
        shape = (n_rows,) if name == "row_characters" else (n_rows, self.n_ctx)
        entry = (name, COLUMNS[name], shape, n_rows * self._row_bytes(name))
        file = self._file(name, number)
        with open(file, "r+b" if file.exists() else "wb") as stream:
            stream.write(tensors_header([entry], align=_PAGE))


def read_shards(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the columns of a folder, mapped, and what `names.json` says. Raises ValueError for a file that is missing
    or of another size."""
    names = validate_json(_Names, read_json(folder / NAMES_FILE, CORPUS_REMEDY), folder / NAMES_FILE, CORPUS_REMEDY)
    n_rows = names["n_rows"]
    n_ctx = names["n_ctx"]
    rows_per_shard = names["rows_per_shard"]
    columns = {}
    for name, dtype in COLUMNS.items():
        shape = (n_rows,) if name == "row_characters" else (n_rows, n_ctx)
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        sizes = [row_bytes * min(rows_per_shard, n_rows - start) for start in range(0, n_rows, rows_per_shard)]
        files = [folder / f"{name}-{number:05d}.safetensors" for number in range(len(sizes))]
        columns[name] = torch.from_numpy(_map_file(name, files, sizes).view(dtype).reshape(shape))
    return columns, names


def _map_file(name: str, files: Sequence[Path], sizes: Sequence[int]) -> np.ndarray:
    """Return the bytes after the headers of the files as one array, which is written to without changing them."""
    for file, size in zip(files, sizes, strict=True):
        n_bytes = file.stat().st_size if file.is_file() else 0
        if n_bytes != _PAGE + size:  # reading a page past the end of a file is a crash
            raise DamagedError(f"{file} is truncated: {n_bytes} bytes, {_PAGE + size} were written; {CORPUS_REMEDY}")
        _check_header(name, file, size)
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    number = ctypes.c_int
    system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_long]
    system.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def place(at: int | None, size: int, protection: int, flags: int, file: int, offset: int) -> int:
        address = system.mmap(at, size, protection, mmap.MAP_PRIVATE | flags, file, offset)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), f"{files[0].parent} cannot be mapped")
        return address

    total = sum(sizes)
    start = place(None, total, mmap.PROT_READ, mmap.MAP_ANONYMOUS, -1, 0)
    memory = (ctypes.c_uint8 * total).from_address(start)
    weakref.finalize(memory, system.munmap, start, total)
    at = start
    for file, size in zip(files, sizes, strict=True):
        with open(file, "rb") as stream:
            place(at, size, mmap.PROT_READ | mmap.PROT_WRITE, _MAP_FIXED, stream.fileno(), _PAGE)
        at += size
    return np.frombuffer(cast(bytearray, memory), np.uint8)  # typed for the buffers of Python alone


def _check_header(name: str, file: Path, size: int) -> None:
    with open(file, "rb") as stream:
        header = stream.read(_PAGE)
    try:
        entry = json.loads(header[8:])[name]
        if len(header) != 8 + int.from_bytes(header[:8], "little") or entry["data_offsets"] != [0, size]:
            raise ValueError(entry)
    except (ValueError, LookupError, TypeError):
        raise DamagedError(f"{file} is damaged, its header is not that of {name}: {CORPUS_REMEDY}") from None
