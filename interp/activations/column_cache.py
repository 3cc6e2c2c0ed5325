"""A cache of columns of shards in a temporary folder, for stores that are read at an address."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from threading import Lock

import numpy as np

from interp.checks.errors import InterpError


class ColumnCache:
    """A cache of columns of shards in files; the least recently used are removed if it is full."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="interp-cache-")
        self._limit = _limit()
        self._sizes: dict[str, int] = {}
        self._lock = Lock()
        weakref.finalize(self, shutil.rmtree, self._folder, True)

    def read(self, key: str, into: np.ndarray) -> bool:
        """Return whether it is cached; if so, it is read."""
        with self._lock:
            if key not in self._sizes:
                return False
            self._sizes[key] = self._sizes.pop(key)  # used last
            with open(Path(self._folder, key), "rb") as file:
                return file.readinto(into.data) == len(into)

    def write(self, key: str, data: np.ndarray) -> None:
        with self._lock:
            if len(data) > self._limit or key in self._sizes:
                return
            while sum(self._sizes.values()) + len(data) > self._limit:
                oldest = next(iter(self._sizes))
                del self._sizes[oldest]
                Path(self._folder, oldest).unlink()
            data.tofile(Path(self._folder, key))
            self._sizes[key] = len(data)


def _limit() -> int:
    """Return the most bytes of the cache. Raises ValueError if INTERP_CACHE_GB is not a number."""
    text = os.environ.get("INTERP_CACHE_GB", "10")
    try:
        return int(float(text) * 1e9)
    except (ValueError, OverflowError):
        raise InterpError(f"INTERP_CACHE_GB={text!r} must be a number of gigabytes") from None
