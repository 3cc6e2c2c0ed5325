"""Check that the memory that work needs is free."""

import resource
from contextlib import suppress
from pathlib import Path

import psutil

from interp.checks.errors import TooLargeError


def check_memory(n_bytes: int, purpose: str, remedy: str) -> None:
    """Check that this much memory is free. Raises TooLargeError if not; the message starts with `purpose` and ends
    with the remedy."""
    if n_bytes > (free := free_memory()):
        needs = f"{purpose} needs {n_bytes / 1e9:,.1f} GB of memory, but only {free / 1e9:,.1f} GB are free"
        raise TooLargeError(f"{needs}: {remedy}")


def free_memory() -> int:
    """Return the free bytes of the machine, or the bytes that this process or its container may still allocate if these
    are fewer."""
    free = [psutil.virtual_memory().available, *free_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def free_in_groups(groups: Path, mount: Path) -> list[int]:
    """Return the bytes that each limit of Linux's control groups (version 2) leaves, as containers and cluster
    schedulers set them.

    groups: the file that lists this process's groups (/proc/self/cgroup).
    mount: the folder with all groups (/sys/fs/cgroup).

    Pages of files count as free, as the kernel takes them back when memory is needed.
    """
    free = []
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, path = line.split(":", 2)
        inner = mount / path.lstrip("/")
        for group in (inner, *inner.parents) if controllers == "" else ():
            if not group.is_relative_to(mount):
                break
            with suppress(OSError, ValueError):  # it has no limit, or lies outside of what a container sees
                limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
                stat = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
                free.append(limit - used + int(stat["active_file"]) + int(stat["inactive_file"]))
    return free
