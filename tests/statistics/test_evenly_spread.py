"""Rows and sequences spread over a text."""

import numpy as np
import pytest

from interp.statistics.evenly_spread import rows_of, spread_rows, spread_sequences


@pytest.mark.parametrize(("n_rows", "at_most"), [(0, 5), (1, 5), (7, 5), (5, 7), (1000, 9)])
def test_spread_rows_are_evenly_spread_and_as_many_as_given(n_rows, at_most):
    rows = spread_rows(n_rows, at_most)
    assert len(rows) == min(n_rows, at_most)
    if n_rows > at_most:
        assert rows[0] == 0 and rows[-1] == n_rows - 1 and np.ptp(np.diff(rows)) <= 1


def test_sequences_are_every_kth():
    sequences = np.array([3, 4, 8, 9, 10, 20])
    assert spread_sequences(sequences, 10, 60).tolist() == sequences.tolist()
    assert spread_sequences(sequences, 10, 59).tolist() == [3, 8, 10]
    assert spread_sequences(sequences, 10, 1).tolist() == [3]
    assert rows_of(np.array([2, 5]), 3).tolist() == [6, 7, 8, 15, 16, 17]
