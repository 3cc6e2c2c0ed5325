"""Offsets of lists that are stored one after the other: list i is items[offsets[i]:offsets[i + 1]]."""

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor


@overload
def offsets_from_lengths(lengths: Int[Tensor, " list"]) -> Int64[Tensor, " list_plus_1"]: ...


@overload
def offsets_from_lengths(lengths: Sequence[int] | np.ndarray) -> Int64[np.ndarray, " list_plus_1"]: ...


def offsets_from_lengths(lengths: Tensor | Sequence[int] | np.ndarray) -> Tensor | np.ndarray:
    """Return where each list begins, and the end of the last: a tensor for a tensor, on its device; else an array."""
    if not isinstance(lengths, Tensor):
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64, device=lengths.device)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return offsets
