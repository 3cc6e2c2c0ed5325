"""The files of a user's text, which paths, globs and addresses name (`paths` of a `CorpusConfig`)."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from interp.storage.addresses import address_of, list_objects

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Endings of files that are unpacked as they are read."""


def matching_files(pattern: str) -> list[Path]:
    """List the file of that name, or the files that a glob matches, sorted: files and pipes, but no devices; possibly
    none."""
    pattern = os.path.expanduser(pattern)
    paths = [pattern] if Path(pattern).exists() else glob.glob(pattern, recursive=True)
    return sorted(path for path in map(Path, paths) if path.is_file() or path.is_fifo())


def named_files(pattern: str) -> list[str]:
    """List the files that a path, a glob or an address names. Raises OSError for a folder, and if there are none."""
    pattern = os.path.expanduser(pattern)
    address = address_of(pattern)
    if address is None and Path(pattern).is_dir():
        raise IsADirectoryError(f"{pattern} is a folder: name its files by a glob, such as {pattern}/**/*.txt")
    files = matching_files(pattern) if address is None else list_objects(address)
    if not files:
        is_device = address is None and Path(pattern).exists()
        reason = "is a device" if is_device else "does not exist"
        raise FileNotFoundError(f"{pattern} {reason}: name a text file, or a glob that matches some")
    return [str(file) for file in files]


def is_compressed(path: str) -> bool:
    """Return whether a file is unpacked when it is read, which its ending says."""
    return path.endswith(COMPRESSED)


def local_files(patterns: Iterable[str]) -> list[Path]:
    """List the files on this machine that these name, each once; possibly none."""
    here = [pattern for pattern in patterns if address_of(pattern) is None]
    return sorted({path for pattern in here for path in matching_files(pattern) if path.is_file()})


def check_local_files(patterns: Iterable[str]) -> None:
    """Check that each of these that is not an address names a file. Raises OSError if one does not."""
    for pattern in patterns:
        if address_of(pattern) is None:
            named_files(pattern)
