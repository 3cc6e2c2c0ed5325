"""Locks of folders: one process writes a folder at a time, and a second one is refused.

    with hold_lock(folder): …

The lock is the system's, on the folder itself (flock): it leaves no file, and is released when the process ends in any
way.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp.checks.errors import InUseError
from interp.storage.addresses import check_local

log = logging.getLogger(__name__)


@contextmanager
def hold_lock(folder: str | Path, *, name: str | Path | None = None) -> Iterator[None]:
    """Hold the lock of a folder, which is created if necessary, and removed if it is empty after the block.

    Raises InUseError while another process holds it, and ValueError for an address such as s3://…; `name` is the
    folder's name in the error.
    """
    check_local(folder)
    folder = Path(folder)
    is_new = not folder.exists()
    handle = _open_locked(folder, name or folder)
    try:
        yield
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(handle)


def _open_locked(folder: Path, name: str | Path) -> int:
    """Return an open descriptor that holds the lock of the folder now at this path, not of one that was replaced."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise InUseError(
                f"{name} is in use by another process: wait until it has ended, or choose another folder"
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s): make sure that no other process writes to it", name, error.strerror)
        if folder.exists() and os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
        os.close(handle)
