"""Locks of files and folders: one process writes at a time, and a second one is refused.

    with lock_folder(folder): …

The lock is the system's, on the file or folder itself (flock): it leaves no file, and is released when the process ends
in any way.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from interp.checks.errors import InUseError
from interp.storage.addresses import as_local_path

log = logging.getLogger(__name__)


@contextmanager
def lock_folder(folder: str | Path, *, name: str | Path | None = None) -> Iterator[None]:
    """Hold the lock of a folder, which is created if necessary, and removed if it is empty after the block.

    Raises InUseError while another process holds it, and ValueError for an address such as s3://…; `name` is the
    folder's name in the error.
    """
    folder = as_local_path(folder)
    is_new = not folder.exists()

    def open_folder() -> int:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)

    try:
        handle = open_locked(folder, open_folder, warns_of=name or folder)
    except BlockingIOError:
        raise InUseError(
            f"{name or folder} is in use by another process: wait until it has ended, or choose another folder"
        ) from None
    try:
        yield
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(handle)


def open_locked(path: Path, open_path: Callable[[], int], *, warns_of: str | Path | None = None) -> int:
    """Return an open descriptor that holds the lock of what lies at this path now, not of what was replaced meanwhile.

    open_path: opens the path; its errors are passed on.
    warns_of: the name in a warning on a file system without locks, where the descriptor holds none; None: no warning.

    Raises BlockingIOError while another process holds the lock.
    """
    while True:
        handle = open_path()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError as error:
            if warns_of is not None:
                log.warning(
                    "%s cannot be locked (%s): make sure that no other process writes to it", warns_of, error.strerror
                )
        if _is_opened(handle, path):
            return handle
        os.close(handle)


@contextmanager
def wait_for_lock(file: Path) -> Iterator[None]:
    """Wait for the lock of a file, and hold it. The file may be replaced before, by whoever holds its lock, or within
    the block. On a file system without locks none is held."""
    while True:
        with open(file) as opened:
            with suppress(OSError):
                fcntl.flock(opened, fcntl.LOCK_EX)
            if _is_opened(opened.fileno(), file):
                yield
                return


def _is_opened(handle: int, path: Path) -> bool:
    """Return whether an open descriptor is that of the file or folder now at this path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False
