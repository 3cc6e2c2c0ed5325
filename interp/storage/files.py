"""Write files completely or not at all, and compute digests of what a result depends on.

    with write_atomically(folder / "table.csv") as file:      # a temporary path, which becomes table.csv at the end
        table.to_csv(file)
    write_json(folder / "manifest.json", {"tokens": digest(tokens), "config": digest_json(config)})

A process killed while it writes, or a power cut, leaves `name.tmp` next to the last complete version of `name`, never
a partial `name`. Damaged content raises a DamagedError with the file and the remedy. Nothing here imports torch, numpy
or pandas before it is used.
"""

import ast
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.errors import DamagedError, InterpError, InUseError
from interp.storage.addresses import as_local_path
from interp.storage.locks import open_locked

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor

_DTYPES = "BOOL U8 U16 U32 U64 I8 I16 I32 I64 F16 BF16 F32 F64".split()
"""The types of tensors in safetensors files, by their names there."""


@contextmanager
def write_atomically(file: str | Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `file` when the block ends; after an error it is removed and `file` is
    kept.

    Raises InUseError while another process writes the same file.
    """
    file = as_local_path(file)
    temporary = file.with_name(f"{file.name}.tmp")
    handle = _claim(temporary)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, file)
        with suppress(OSError):  # some network file systems flush no folders
            _flush(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def write_text(file: str | Path, text: str) -> None:
    with write_atomically(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(file: str | Path, content: Any, *, indent: int | None = 1) -> None:
    """Write JSON; scalars of NumPy and torch become plain numbers."""
    write_text(file, json.dumps(content, indent=indent, ensure_ascii=False, default=_to_plain))


def json_roundtrip(content: Any) -> Any:
    """Return the content as it would be read back from JSON: lists for tuples, text for keys, plain numbers for
    scalars."""
    return json.loads(json.dumps(content, default=_to_plain))


def read_any_json(file: str | Path, remedy: str) -> Any:
    """Read a JSON file. Raises DamagedError, with the remedy, for a file that is not JSON; ValueError for a pipe or
    device, which may never end; FileNotFoundError if there is none."""
    return parse_any_json(_check_file_exists(file, remedy).read_bytes(), file, remedy)


def read_json(file: str | Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object. Raises DamagedError, with the remedy, for a file that is not a JSON object."""
    return parse_json(_check_file_exists(file, remedy).read_bytes(), file, remedy)


def parse_json(data: bytes, file: str | Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in the bytes of a file. Raises DamagedError, with the remedy, if they are none."""
    content = parse_any_json(data, file, remedy)
    if not isinstance(content, dict):
        raise DamagedError(f"{file} is damaged: it is not a JSON object: {remedy}")
    return content


def parse_any_json(data: bytes, file: str | Path, remedy: str) -> Any:
    """Return the JSON value in the bytes of a file. Raises DamagedError, with the remedy, if they are none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{file} is damaged: it is not valid JSON ({error}): {remedy}") from None


def write_parquet(file: str | Path, table: "pd.DataFrame") -> None:
    """Write the columns of a data frame, without its index."""
    with write_atomically(file) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)


@dataclass(frozen=True)
class StreamedTensor:
    """A tensor that is never whole in memory: consecutive pieces of it, made on demand."""

    dtype: "torch.dtype"
    shape: tuple[int, ...]
    make: "Callable[[], Iterator[Tensor]]"

    def __iter__(self) -> "Iterator[Tensor]":
        return self.make()


def write_tensors(
    file: str | Path, tensors: Mapping[str, "Tensor | StreamedTensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file of tensors from any device; `metadata` is text for its header.

    Tensors are written by Python, with one in memory at a time, so a full disk raises OSError, and the file has the
    usual mode.
    """
    ordered = in_file_order(tensors)
    entries = ((name, x.dtype, x.shape, math.prod(x.shape) * x.dtype.itemsize) for name, x in ordered.items())
    with write_atomically(file) as temporary, open(temporary, "wb") as stream:
        stream.write(tensors_header(entries, metadata))
        for tensor in ordered.values():
            for piece in tensor if isinstance(tensor, StreamedTensor) else (tensor,):
                stream.write(_raw(piece))


def in_file_order(tensors: Mapping[str, "Tensor | StreamedTensor"]) -> dict[str, "Tensor | StreamedTensor"]:
    """Return the tensors in the order of a safetensors file."""
    return dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))


def tensors_header(
    entries: Iterable[tuple[str, Any, Sequence[int], int]], metadata: Mapping[str, str] | None = None, *, align: int = 8
) -> bytes:
    """Return the first bytes of a safetensors file, a multiple of `align`.
    entries: name, dtype, shape and bytes of each tensor, in order."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, dtype, shape, n_bytes in entries:
        header[name] = {"dtype": _dtype(dtype), "shape": [*shape], "data_offsets": [start, start + n_bytes]}
        start += n_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % align)
    return len(text).to_bytes(8, "little") + text


@contextmanager
def open_tensors(file: str | Path, remedy: str) -> Iterator[Any]:
    """Open a safetensors file as `safetensors.safe_open` does. Raises DamagedError, with the remedy, for a damaged
    file, or if the block asks for a tensor, a key or text that is missing; FileNotFoundError if there is no file."""
    from safetensors import SafetensorError, safe_open

    _check_file_exists(file, remedy)
    try:
        with safe_open(str(file), "pt") as stored:
            yield stored
    except (SafetensorError, json.JSONDecodeError, RecursionError, KeyError, TypeError) as error:
        raise DamagedError(f"{file} is damaged ({error}): {remedy}") from error


def read_tensors(file: str | Path, remedy: str) -> "dict[str, Tensor]":
    """Return all tensors of a safetensors file, mapped. Raises as `open_tensors`."""
    with open_tensors(file, remedy) as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}


def digest(*parts: "str | bytes | np.ndarray | Tensor") -> str:
    """Return the SHA-256, in hexadecimal, of the concatenation of texts (as UTF-8), bytes, arrays and tensors."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else _raw(part))
    return total.hexdigest()


def digest_json(content: Any) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return digest(json.dumps(content, sort_keys=True, default=_to_plain))


def digest_code(source: str | bytes) -> str:
    """Return the SHA-256 of Python code, in which comments, blank lines and docstrings have no part. Raises SyntaxError
    if it is not Python."""
    code = ast.parse(source)
    for node in ast.walk(code):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            del node.body[: ast.get_docstring(node) is not None]
    return digest(ast.unparse(code))


def digest_file(file: str | Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_file_exists(file: str | Path, remedy: str) -> Path:
    file = as_local_path(file)
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist: {remedy}")
    if not file.is_file():
        raise InterpError(f"{file} is not a file: {remedy}")
    return file


def _to_plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def _claim(temporary: Path) -> int:
    """Create a temporary file, or take over the one of a killed process, lock it, and return its open descriptor."""
    if temporary.is_symlink():  # it would be written through
        temporary.unlink()
    try:
        handle = open_locked(temporary, lambda: os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))
    except BlockingIOError:
        raise InUseError(
            f"another process is writing {temporary.with_suffix('')}: wait until it has finished"
        ) from None
    os.truncate(handle, 0)
    return handle


def _flush(path: Path) -> None:
    """Write to the disk what the system still holds of a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _dtype(dtype: Any) -> str:
    """Return safetensors' name for a dtype of torch or numpy: F32, BF16, U8, BOOL. Raises ValueError for a type that
    nothing here reads."""
    name = str(dtype).removeprefix("torch.").replace("bfloat", "BF").replace("float", "F")
    name = name.replace("uint", "U").replace("int", "I").replace("bool", "BOOL")
    if name not in _DTYPES:
        raise InterpError(f"numbers of type {dtype} cannot be written as safetensors: convert them, as to float32")
    return name


def _raw(part: Any) -> Any:
    """Return the memory of an array or tensor, of any dtype."""
    if hasattr(part, "detach"):
        import torch

        part = part.detach().cpu().contiguous().flatten()
        part = part.view(torch.uint8).numpy() if len(part) else b""  # an empty one may have strides that have no view
    if isinstance(part, bytes):
        return part
    import numpy as np

    return np.ascontiguousarray(part).data.cast("B")
