"""One process a folder: whoever writes to a folder holds it, and the second one is told who does.

The lock is the system's, on the folder itself (flock): it leaves no file, and ends with the process, however that ends.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interp.processes import Processes

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: str | Path | None, team: "Processes | None" = None) -> Iterator[None]:
    """Hold the folder, which is made where it is not there and removed if the block leaves it empty. None: nothing is
    held. Of processes that work together the first holds it.

    Raises ValueError, with the number and command of the other process, while it is held.
    """
    with ExitStack() as stack:
        if folder is not None and team is None:
            stack.enter_context(_held(Path(folder)))
        elif folder is not None and team is not None:
            team.all_do(lambda: stack.enter_context(_held(Path(folder))) if team.is_first else None)
        yield


def check_free(folder: str | Path) -> None:
    """Raises ValueError while another process holds the folder: to be asked before libraries that take seconds."""
    if Path(folder).is_dir():
        with locked(folder):
            pass


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _take(handle, folder)
        yield
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        busy = f"{folder} is in use by {_holder(os.fstat(handle).st_ino)}"
        raise ValueError(f"{busy}: wait until it has ended, or choose another folder") from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): see that no other process writes to it", folder, error.strerror)


def _holder(inode: int) -> str:
    """As Linux tells it."""
    locks = Path("/proc/locks")
    for line in locks.read_text().splitlines() if locks.is_file() else ():
        fields = line.split()
        if "FLOCK" in fields and fields[-3].endswith(f":{inode}"):
            pid = fields[-4]
            command = Path("/proc", pid, "cmdline")
            said = (
                command.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip() if command.exists() else ""
            )
            return f"process {pid}" + (f" ({said})" if said else "")
    return "another process"
