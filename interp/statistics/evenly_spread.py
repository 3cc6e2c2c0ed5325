"""Choose rows or sequences spread evenly over a text, when not all of it is read."""

import math

import numpy as np
from jaxtyping import Int64


def spread_rows(n_rows: int, at_most: int) -> Int64[np.ndarray, " some"]:
    """Return at most `at_most` of the rows 0..n_rows-1, ascending, including the first and the last."""
    return np.unique(np.linspace(0, max(n_rows - 1, 0), at_most).astype(np.int64))[:n_rows]


def spread_sequences(sequences: Int64[np.ndarray, " seq"], n_ctx: int, at_most: int) -> Int64[np.ndarray, " some"]:
    """Return every k-th of these sequences of `n_ctx` rows, so that they have at most `at_most` rows together; at least
    one sequence."""
    return sequences[:: max(1, math.ceil(len(sequences) * n_ctx / at_most))]


def rows_of(sequences: Int64[np.ndarray, " seq"], n_ctx: int) -> Int64[np.ndarray, " row"]:
    """Return all rows seq * n_ctx + pos of these sequences."""
    return (sequences[:, None] * n_ctx + np.arange(n_ctx)).reshape(-1)
