"""Directions: rows at norm 1."""

import numpy as np
from jaxtyping import Float

_MIN_NORM = 1e-12
"""A smaller norm is what rounding leaves of a row of zeros, which has no direction (the limit of
`torch.nn.functional.normalize`)."""


def unit_rows(rows: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row d"]:
    """Return each row divided by its norm, in the same dtype. A row of zeros stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _MIN_NORM)
