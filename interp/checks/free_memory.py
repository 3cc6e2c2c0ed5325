"""Check that the memory that work needs is free."""

import resource

import psutil

from interp.checks.errors import TooLargeError


def check_memory(n_bytes: int, purpose: str, remedy: str) -> None:
    """Check that this much memory is free. Raises TooLargeError if not; the message starts with `purpose` and ends
    with the remedy."""
    if n_bytes > (free := free_memory()):
        needs = f"{purpose} needs {n_bytes / 1e9:,.1f} GB of memory, but only {free / 1e9:,.1f} GB are free"
        raise TooLargeError(f"{needs}: {remedy}")


def free_memory() -> int:
    """Return the free bytes of the machine, or the bytes that this process may still allocate if these are fewer."""
    free = psutil.virtual_memory().available
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return free
    return max(0, min(free, limit - psutil.Process().memory_info().vms))
