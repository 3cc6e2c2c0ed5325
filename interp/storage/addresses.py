"""Read and write objects at addresses such as s3://bucket/store, through fsspec, with errors of one line.

    store = address_of("s3://bucket/store")              # None for a local path
    write_object(store / "manifest.json", data)          # complete or absent
    read_ranges([store / "a", store / "b"], [(0, 8), (64, 128)])

The store's library repeats requests that are dropped or throttled. Listings may be stale, so objects are always
requested by name. Endpoint and credentials are given as the store's library expects them, for S3 in AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID and so on. Nothing here imports numpy before it is used.
"""

import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from interp.checks.errors import InterpError

Result = TypeVar("Result")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]+):/+")
"""The first part of an address; one letter before the colon would be a drive. A `Path` has one slash after it."""


class RemoteAddress(str):
    """A folder or an object, such as s3://bucket/store; `/` names what it contains, as for a path."""

    def __truediv__(self, name: str) -> "RemoteAddress":
        return RemoteAddress(f"{self}{'' if self.endswith('/') else '/'}{name}")

    @property
    def name(self) -> str:
        return self.rstrip("/").rpartition("/")[2]


def address_of(path: str | Path) -> RemoteAddress | None:
    """Return the address that `path` names; None for a local path."""
    scheme = _SCHEME.match(str(path))
    if scheme is None:
        return None
    slashes = "///" if scheme[1] in ("file", "local") else "//"
    return RemoteAddress(f"{scheme[1]}:{slashes}{str(path)[scheme.end() :].rstrip('/')}")


def as_path(name: str | Path) -> Path | RemoteAddress:
    """Return the path or the address that a name means. In a path, "~" is the user's folder."""
    return address_of(name) or Path(name).expanduser()


def as_local_path(name: str | Path) -> Path:
    """Return the path that a name means, as `as_path` does. Raises ValueError for an address."""
    if (address := address_of(name)) is not None:
        raise InterpError(f"{address} is an address, and only a path of this machine can be named here: copy it")
    return Path(name).expanduser()


def read_object(address: RemoteAddress) -> bytes:
    """Return the whole content of an object. Raises FileNotFoundError if there is none."""
    system, path = _system(address)
    return _ask(address, lambda: system.cat_file(path))


def read_ranges(addresses: Sequence[RemoteAddress], ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the bytes start..end of each object, read in parallel if the store supports it. Raises OSError if some are
    missing."""
    if not addresses:
        return []
    system, _ = _system(addresses[0])
    paths = [_system(address)[1] for address in addresses]
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]

    def read() -> list[bytes]:
        parts = system.cat_ranges(paths, starts, ends, on_error="raise")
        for address, part, start, end in zip(addresses, parts, starts, ends, strict=True):
            if len(part) != end - start:
                raise OSError(f"{address} gave {len(part)} of the bytes {start}..{end}")
        return parts

    return _ask(addresses[0], read)


def list_objects(pattern: RemoteAddress) -> list[RemoteAddress]:
    """List the object of this name, or those that a glob matches, sorted; a listing may be stale. Raises
    FileNotFoundError if no object has the name."""
    system, path = _system(pattern)

    def names() -> list[str]:
        system.invalidate_cache()
        if glob.has_magic(path) and not system.isfile(path):  # a name may have brackets
            return sorted(system.glob(path))
        return [path] if system.info(path)["type"] == "file" else []

    return [RemoteAddress(system.unstrip_protocol(name)) for name in _ask(pattern, names)]


def open_object(address: RemoteAddress) -> BinaryIO:
    """Open an object that may be larger than memory for reading from its beginning to its end. Raises
    FileNotFoundError if there is none."""
    system, path = _system(address)
    return _ask(address, lambda: system.open(path, "rb"))


def write_object(address: RemoteAddress, data: Any) -> None:
    """Write an object atomically."""
    system, path = _system(address)
    _ask(address, lambda: system.pipe_file(path, bytes(data)))


def fetch_file(address: RemoteAddress, file: Path) -> None:
    """Copy an object to a file, a block of it in memory at a time. Raises FileNotFoundError if there is none."""
    system, path = _system(address)
    _ask(address, lambda: system.get_file(path, str(file)))


def write_file(address: RemoteAddress, file: Path) -> None:
    """Put a file in its place, a block of it in memory at a time."""
    system, path = _system(address)
    _ask(address, lambda: system.put_file(str(file), path))


def has_object(address: RemoteAddress) -> bool:
    system, path = _system(address)

    def has() -> bool:
        system.invalidate_cache()
        return bool(system.exists(path))

    return _ask(address, has)


def remove_object(address: RemoteAddress) -> None:
    """Remove an object, if it exists."""
    if has_object(address):
        system, path = _system(address)
        _ask(address, lambda: system.rm_file(path))


def cache_folder() -> Path:
    """Return where copies of what lies at addresses are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "interp"


def _system(address: RemoteAddress) -> tuple[Any, str]:
    try:
        import fsspec

        return fsspec.core.url_to_fs(str(address))
    except ImportError as error:
        raise InterpError(
            f"{address} cannot be reached ({error}): pip install 'interp[remote]' installs what S3 needs"
        ) from None
    except ValueError as error:
        raise InterpError(f"{address} cannot be reached: {error}") from None


def _ask(address: RemoteAddress, ask: Callable[[], Result]) -> Result:
    """Return the answer to a request. Raises FileNotFoundError, or OSError with the reason on one line."""
    try:
        return ask()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{address} does not exist, or its bucket does not") from error
    except Exception as error:  # each file system of fsspec raises its own kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise OSError(f"{address} cannot be reached ({reason}): check its bucket and your keys") from error
