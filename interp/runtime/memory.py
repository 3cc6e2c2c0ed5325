"""The peak memory of this process, and the memory that it gives back."""

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

_ARENA_MAX = -8
"""glibc's number of this option (malloc.h). By default each thread has an arena, up to eight per core, and each arena
may keep 64 MB of what was freed, which together may be nearly half of what a process holds."""


def limit_arenas() -> None:
    """Let the threads of this process allocate from as many arenas as there are cores, from now on (glibc only)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, os.cpu_count() or 1)


def release_freed() -> None:
    """Give freed memory back to the system. glibc alone keeps what threads have freed."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> None:
    """Count the process's peak memory from now on, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak remains the one since the process started
        return


def peak_memory() -> int:
    """Return the most memory that the process has held since `reset_peak`, in bytes."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(facts["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: the peak since the process started; macOS gives bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
