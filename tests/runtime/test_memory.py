"""Peak memory is counted from when it was last forgotten, and threads share a few arenas."""

import ctypes
import os
import sys
import threading

import numpy as np
import pytest

from interp.runtime.memory import limit_arenas, peak_memory, reset_peak

MIB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that since the process started")
def test_the_peak_is_forgotten():
    reset_peak()
    before = peak_memory()
    np.ones(100 * MIB, np.uint8)
    assert peak_memory() - before >= 90 * MIB
    reset_peak()
    assert peak_memory() - before < 50 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="arenas are glibc's")
def test_threads_share_as_many_arenas_as_there_are_cores(tmp_path):
    limit_arenas()
    before = n_arenas(tmp_path / "before.xml")
    met = threading.Barrier(4 * os.cpu_count() + 1)

    def allocate() -> None:
        assert len(bytearray(10_000))
        met.wait()

    threads = [threading.Thread(target=allocate) for _ in range(met.parties - 1)]
    for thread in threads:
        thread.start()
    met.wait()
    for thread in threads:
        thread.join()
    assert n_arenas(tmp_path / "after.xml") <= max(before, os.cpu_count())


def n_arenas(file) -> int:
    glibc = ctypes.CDLL(None)
    glibc.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(glibc.fopen(str(file).encode(), b"w"))
    glibc.malloc_info(0, stream)
    glibc.fclose(stream)
    return file.read_text().count("<heap ")
