"""A user's own text: text files, and JSON lines and Hugging Face data sets, whose rows may have labels.

In: paths, globs or a data set's name. Out: an iterator of `Document`s, read on demand. Raises ValueError or OSError,
with the file and the place in it, on text that is missing, empty, not UTF-8 or without the named field.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.compression import compr
from fsspec.utils import infer_compression

from interp.checks.errors import InterpError
from interp.storage.addresses import address_of, open_object
from models.documents import Document, Span, cut_work, piece_end
from models.sources import text_source
from models.text_files import COMPRESSED, is_compressed, named_files


@text_source(fields=("paths",), takes="at least one file or glob")
def files(patterns: Sequence[str], size: int) -> Iterator[Document]:
    """Text files (UTF-8), named by path or glob, in the order named. The files of one glob are sorted."""
    for pattern in patterns:
        pieces = (_cut_stream(_read_text(path), "files", path, size) for path in named_files(pattern))
        yield from _check_not_empty(chain.from_iterable(pieces), f"{pattern} is empty: name a file with text in it")


@text_source(
    fields=("paths", "field", "label_field"),
    takes="at least one file or glob",
    owns=lambda location: location.endswith((".jsonl", *(f".jsonl{ending}" for ending in COMPRESSED))),
)
def jsonl(patterns: Sequence[str], field: str, label_field: str, size: int) -> Iterator[Document]:
    """The text under `field` of every line of JSON-lines files, labelled by `label_field`. Blank lines are skipped."""
    for pattern in patterns:
        rows = chain.from_iterable(map(_read_rows, named_files(pattern)))
        pieces = (
            _cut_row(row, name, field=field, label_field=label_field, source="jsonl", size=size) for name, row in rows
        )
        yield from _check_not_empty(
            chain.from_iterable(pieces), f"{pattern} is empty: it holds no text under the field {field!r}"
        )


def _data_set_files(config: Any) -> list[Path]:
    """Return the files of a data set in a local folder."""
    folder = Path(config.name).expanduser()
    return [path for path in (folder, *folder.rglob("*")) if path.is_file()]


@text_source(
    endless=True,
    files=_data_set_files,
    fields=("name", "subset", "split", "field", "label_field"),
    takes="a data set on the hub, or a local folder",
)
def huggingface(name: str, subset: str, split: str, field: str, label_field: str, size: int) -> Iterator[Document]:
    """The text under `field` of a Hugging Face data set (hub name or local folder), streamed row by row."""
    name = os.path.expanduser(name)
    if Path(name).is_file():
        raise InterpError(f"name={name!r} is a file: give the folder of the data set, {str(Path(name).parent)!r}")
    try:
        import datasets
    except ImportError as error:
        raise InterpError(f"data sets need a package that is missing ({error}): pip install 'interp[hub]'") from None

    def pieces() -> Iterator[Document]:
        for number, row in enumerate(datasets.load_dataset(name, subset or None, split=split, streaming=True)):
            yield from _cut_row(
                row, f"{name}:{number}", field=field, label_field=label_field, source="huggingface", size=size
            )

    yield from _check_not_empty(
        pieces(), f"{name}, split {split!r}, is empty: it holds no text under the field {field!r}"
    )


def _check_not_empty(documents: Iterator[Document], fault: str) -> Iterator[Document]:
    """Yield the documents. Raises ValueError with `fault` if there are none."""
    first = next(documents, None)
    if first is None:
        raise InterpError(fault)
    yield first
    yield from documents


def _cut_stream(blocks: Iterable[str], source: str, name: str, size: int) -> Iterator[Document]:
    """Apply `cut_work` to text that arrives in blocks: the rest of one block is prepended to the next."""
    rest = ""
    for block in blocks:
        rest += block
        begin = 0
        while len(rest) - begin > size:
            end = piece_end(rest, begin, size)
            yield Document(rest[begin:end], (), source, name)
            begin = end
        rest = rest[begin:]
    yield from cut_work(rest, (), source, name, size=size)


@contextmanager
def open_binary(path: str) -> Iterator[BinaryIO]:
    """Open a file or an address for reading; compressed files, recognized by their ending, are unpacked on the fly."""
    address = address_of(path)
    with open(path, "rb") if address is None else open_object(address) as file:
        if not is_compressed(path):
            yield file
            return
        try:
            unpacked = compr[infer_compression(path)](file, mode="rb")
            yield io.BufferedReader(unpacked)  # the reader of .zst cannot iterate over lines
        except (ValueError, GeneratorExit):
            raise
        except Exception as error:  # decompressors raise their own kinds
            raise OSError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def _read_text(path: str) -> Iterator[str]:
    """Yield blocks of a UTF-8 file, without a byte order mark and with Unix line ends."""
    with open_binary(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig")
        try:
            while block := text.read(1 << 20):
                yield block
        except UnicodeDecodeError as error:  # the offset is within the block that ends at the current position
            offset = f" at offset {file.tell() - len(error.object) + error.start}" if file.seekable() else ""
            byte = f"{error.object[error.start]:#04x}"
            raise InterpError(f"{path} is not UTF-8: byte {byte}{offset}; {_remedy(path)}") from None


def _remedy(path: str) -> str:
    """Return what to do with a file that is not UTF-8."""
    if path.endswith(".parquet"):
        folder = str(Path(path).parent)
        return f"a run reads its folder, with source = 'huggingface' and name = {folder!r} in [corpus]"
    return "convert it first"


def _cut_row(
    row: Mapping[str, Any], name: str, *, field: str, label_field: str, source: str, size: int
) -> Iterator[Document]:
    """Divide the text of a row into documents, each with all labels of the row."""
    fields = f"its fields are {', '.join(row) or 'none'}"
    if not isinstance(text := row.get(field), str):
        raise InterpError(f"{name} has no text under {field!r}; {fields}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InterpError(f"{name} has half a surrogate pair under {field!r}, character {error.start}") from None
    if label_field and label_field not in row:
        raise InterpError(f"{name} has no label under {label_field!r}; {fields}")
    value = row.get(label_field) if label_field else None
    labels = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise InterpError(f"{name} has {value!r} under {label_field!r}: a label is a name, or a list of names")
    for piece in cut_work(text, (), source, name, size=size):
        spans = tuple(Span(0, len(piece.text), label) for label in dict.fromkeys(labels))
        yield replace(piece, spans=spans)


def _read_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the fields of each line of a JSON-lines file that is not blank."""
    with open_binary(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{path}:{number}", _read_row(line, f"{path}:{number}")


def _read_row(line: bytes, row: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"))  # the first line may begin with a byte order mark
    except UnicodeDecodeError as error:
        raise InterpError(
            f"{row} is not UTF-8: byte {line[error.start]:#04x} at offset {error.start} of the line; "
            f"{_remedy(row.rpartition(':')[0])}"
        ) from None
    except json.JSONDecodeError as error:
        raise InterpError(f"{row} is not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise InterpError(f"{row} holds a {type(value).__name__}, not an object with fields")
    return value
