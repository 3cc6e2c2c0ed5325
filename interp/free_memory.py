"""Whether there is memory enough, asked before it is taken: a slip in a size is an error of one line, not a kill."""

import os
import resource
from pathlib import Path


def check_memory(n_bytes: int, what: str) -> None:
    """Raises ValueError, beginning with `what`, where it needs more than is free."""
    if n_bytes > (free := free_memory()):
        raise ValueError(f"{what} needs {n_bytes / 1e9:,.1f} GB of memory, of which {free / 1e9:,.1f} GB are free")


def free_memory() -> int:
    """In bytes: what the machine has left, or what this process may still take if that is less."""
    try:
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return free
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return max(0, min(free, limit - taken))


def forget_peak() -> None:
    """Count the process's peak memory from now on, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak stays that of the whole process
        return


def peak_memory() -> int:
    """The most memory that the process has held since `forget_peak`, in bytes."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(facts["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: of the whole process, in bytes on macOS
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
