"""What holds for every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def threads_as_they_were():
    """An analysis sets the number of torch's threads; last bits of matmuls follow it, and other tests compare bits."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
