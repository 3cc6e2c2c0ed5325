"""Sort short lists in compiled loops: NumPy's sorts take seconds to compile wherever they are used."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def largest_first(values):
    """Return the indices of the values, from the largest value on; equal ones stay in order. Cost: n² / 4 steps in the
    worst case, and n if they are in order already."""
    order = np.empty(len(values), np.int64)
    for i in range(len(values)):
        place = i
        while place > 0 and values[order[place - 1]] < values[i]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = i
    return order
