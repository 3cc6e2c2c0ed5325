"""What holds for every test."""

import fcntl
import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # before the library is imported: no test asks the network for a model


@pytest.fixture(autouse=True)
def threads_as_they_were():
    """An analysis sets the number of torch's threads; last bits of matmuls follow it, and other tests compare bits."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of `tests.tiny.TINY`, made once for all workers: read it, and copy what you change."""
    from interp import run_stages
    from tests.tiny import TINY

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with open(folder / "tiny.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker makes it, the others find it done
        return run_stages(TINY, folder / "tiny")
