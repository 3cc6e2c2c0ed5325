"""Offsets of lists that are stored one after the other: list i is items[offsets[i]:offsets[i + 1]]."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def offsets_of_lengths(lengths: Sequence[int] | np.ndarray) -> Int64[np.ndarray, " list_plus_1"]:
    """Return where each list begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
