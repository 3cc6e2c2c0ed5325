"""Files that are whole or not there, digests of what a result depends on, and the small numbers that all rooms share.

    with atomic(folder / "table.csv") as file:      # a temporary path; renamed to table.csv if the block succeeds
        table.to_csv(file)
    write_json(folder / "manifest.json", {"tokens": digest(tokens), "config": digest_json(config)})

A process that is killed while it writes leaves `name.tmp` beside the last whole version of `name`, and never a part of
`name`. Nothing here imports torch, pandas or numba before it is used.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Progress = Callable[[int, int, str], None]
"""Told (done, total, note) as long work goes on; the note names the unit or the step."""


def no_progress(done: int, total: int, note: str) -> None:
    """A `Progress` that tells nobody."""


@contextmanager
def atomic(file: str | Path) -> Iterator[Path]:
    """A path to write to that becomes `file` when the block ends; after an error it is removed and `file` stays."""
    file = Path(file)
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(file: str | Path, text: str) -> None:
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(file: str | Path, content: Any, *, indent: int | None = 1) -> None:
    """NumPy and torch scalars are written as the numbers they hold."""
    write_text(file, json.dumps(content, indent=indent, ensure_ascii=False, default=_plain))


def write_parquet(file: str | Path, table: "pd.DataFrame") -> None:
    """The columns of a data frame, without its index."""
    with atomic(file) as temporary:
        table.to_parquet(temporary, index=False)


def write_tensors(file: str | Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file of tensors from any device; `metadata` is text in its header."""
    from safetensors.torch import save_file

    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(file) as temporary:
        save_file(on_cpu, temporary, dict(metadata) if metadata else None)


def digest(*parts: "str | bytes | np.ndarray | Tensor") -> str:
    """SHA-256, in hexadecimal, of texts (as UTF-8), bytes, arrays and tensors, one after the other."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else _raw(part))
    return total.hexdigest()


def digest_json(content: Any) -> str:
    """SHA-256 of a JSON value; the order of its keys does not count."""
    return digest(json.dumps(content, sort_keys=True, default=_plain))


def digest_file(file: str | Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(x: Any) -> Any:
    """SplitMix64 (Steele, Lea and Flood 2014): uint64 → uint64, an array or a number, as if drawn at random.

    A seeded hash of several keys is a chain, splitmix64(splitmix64(seed) + key), in uint64 throughout. For loops:
    `hashed = njit(cache=True, nogil=True)(splitmix64)`; the numbers are the same. NumPy scalars, unlike arrays and
    compiled code, warn as they wrap around.
    """
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def ratio(above: Any, below: Any, *, empty: float = np.nan) -> Float64[np.ndarray, "..."]:
    """above / below, broadcast, in float64; `empty` where `below` is not above 0."""
    a, b = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(a, b, out=np.full(a.shape, empty), where=b > 0)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def _raw(part: Any) -> Any:
    """The memory of an array or tensor, of any dtype."""
    if hasattr(part, "detach"):
        import torch

        part = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return part if isinstance(part, bytes) else np.ascontiguousarray(part).data.cast("B")
