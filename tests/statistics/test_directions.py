"""Rows at norm 1, compared with torch."""

import numpy as np
import pytest
import torch

from interp.statistics.directions import unit_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_rows_are_those_of_torch_and_zeros_stay_zero(dtype):
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    rows[2], rows[3] = 0, 1e-20
    unit = unit_rows(rows)
    assert unit.dtype == dtype and not unit[2].any() and np.abs(unit[3]).max() < 1e-7
    assert np.linalg.norm(unit[[0, 1, 4]], axis=1) == pytest.approx(1)
    assert unit == pytest.approx(torch.nn.functional.normalize(torch.tensor(rows), dim=1).numpy(), rel=1e-6, abs=1e-30)
