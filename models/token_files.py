"""Tokens in safetensors files that grow row by row, and are mapped when they are read.

A folder holds one file for each column, and `names.json` with the names of the documents and the digest of the
tokenizer.

    tokens, document_ids     [row, pos], 4 bytes each
    row_characters           [row]

A file begins with a header of a fixed size, which is written last, when the number of rows is known.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import TypedDict

from interp.checks.json_values import validate_json
from interp.storage.files import open_tensors, read_json, tensors_header, write_json

NAMES_FILE = "names.json"
CORPUS_REMEDY = "tokenize the corpus again (`interp tokenize`)"
COLUMNS: dict[str, np.dtype] = {
    "tokens": np.dtype(np.int32),
    "document_ids": np.dtype(np.int32),
    "row_characters": np.dtype(np.int64),
}
_HEADER_BYTES = 4096


class _Names(TypedDict):
    document_names: list[str]
    tokenizer: str


class TokenWriter:
    """Appends rows to the files of a folder."""

    def __init__(self, folder: Path, n_ctx: int):
        self.folder = folder
        self.n_ctx = n_ctx

    def go_back_to(self, n_rows: int) -> bool:
        """Remove all rows but the first `n_rows`. Returns whether there are as many."""
        sizes = {_file(self.folder, name): _HEADER_BYTES + self._n_bytes(name, n_rows) for name in COLUMNS}
        if n_rows and not all(file.is_file() and file.stat().st_size >= size for file, size in sizes.items()):
            return False
        for file, size in sizes.items():
            if n_rows:
                os.truncate(file, size)
            else:
                file.unlink(missing_ok=True)
        return True

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        for name, dtype in COLUMNS.items():
            with open(_file(self.folder, name), "ab") as stream:
                if not stream.tell():
                    stream.write(bytes(_HEADER_BYTES))
                columns[name].astype(dtype).tofile(stream)

    def finish(self, n_rows: int, document_names: Sequence[str], tokenizer: str) -> None:
        """Say how many rows there are, of which documents."""
        for name, dtype in COLUMNS.items():
            entry = (name, dtype, self._shape(name, n_rows), self._n_bytes(name, n_rows))
            with open(_file(self.folder, name), "r+b") as stream:
                stream.write(tensors_header([entry], align=_HEADER_BYTES))
        names = {"document_names": list(document_names), "tokenizer": tokenizer}
        write_json(self.folder / NAMES_FILE, names, indent=None)

    def _shape(self, name: str, n_rows: int) -> tuple[int, ...]:
        return (n_rows,) if name == "row_characters" else (n_rows, self.n_ctx)

    def _n_bytes(self, name: str, n_rows: int) -> int:
        return int(np.prod(self._shape(name, n_rows))) * COLUMNS[name].itemsize


def read_token_files(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the columns of a folder, mapped, and what `names.json` says. Raises DamagedError for a damaged file."""
    names = validate_json(_Names, read_json(folder / NAMES_FILE, CORPUS_REMEDY), folder / NAMES_FILE, CORPUS_REMEDY)
    columns = {}
    for name in COLUMNS:
        with open_tensors(_file(folder, name), CORPUS_REMEDY) as file:
            columns[name] = file.get_tensor(name)
    return columns, names


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"
