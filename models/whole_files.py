"""Files that are whole or not there, and files that are read as what they should be or refused by name.

Files are written beside their place and renamed, so that a kill leaves the old one, by Python's own write: a full disk
is an OSError, and the mode is that of the umask. The readers raise ValueError or FileNotFoundError with the file and
its `remedy`, in words.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


@contextmanager
def atomic(file: str | Path) -> Iterator[Path]:
    """A path to write to that becomes `file` when the block ends; after an error `file` stays as it was."""
    file = Path(file)
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.unlink(missing_ok=True)  # what a kill left, or a link that would be written through
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: str | Path, text: str) -> None:
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(file: str | Path, content: Any) -> None:
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_tensors(file: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file; `metadata` is text in its header."""
    data = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, dict(metadata or {}) or None)
    with atomic(file) as temporary:
        temporary.write_bytes(data)


def read_json(file: str | Path, remedy: str) -> dict[str, Any]:
    """An object with named values."""
    file = _there(file, remedy)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}): {remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not an object with named values: {remedy}")
    return content


@contextmanager
def open_tensors(file: str | Path, remedy: str) -> Iterator[Any]:
    """A safetensors file, open. What the block misses in it, a tensor or a fact, is an error of the file too."""
    file = _there(file, remedy)
    try:
        with safe_open(str(file), "pt") as opened:
            yield opened
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}): {remedy}") from None
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} does not hold what it should ({error!r}): {remedy}") from None


def _there(file: str | Path, remedy: str) -> Path:
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} {'is a folder' if file.is_dir() else 'does not exist'}: {remedy}")
    return file
