"""Masks that label the rows of a scan: whether they belong to its tokens, their shapes and their digests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.checks.errors import InterpError
from interp.storage.files import digest


def check_labelled(labels: Mapping[str, Any] | None, tokens: Int[Tensor, "seq pos"], where: object) -> None:
    """Check that labels belong to these tokens, if the labels record their tokens (`labels.tokens`). Raises ValueError
    otherwise."""
    labelled = getattr(labels, "tokens", None)
    if labelled is not None and not torch.equal(labelled.cpu().int(), tokens.cpu().int()):
        raise InterpError(
            f"the labels belong to other tokens {tuple(labelled.shape)}, not those {tuple(tokens.shape)} scanned in "
            f"{where}: give the labels of the tokens harvested"
        )


def masks_of(labels: Mapping[str, Any] | None, shape: Sequence[int], *, is_text: bool = True) -> Mapping[str, Any]:
    """Return the masks, each with the shape [seq, pos] of the scanned rows. If the rows are not text, a mask [seq]
    applies to all positions of a sequence. Raises ValueError for a mask of another shape."""
    if labels is not None and not isinstance(labels, Mapping):
        raise InterpError(f"labels must be masks by name, {{name: mask [seq, pos]}}, not one {type(labels).__name__}")
    masks = dict[str, Any]()
    for name, mask in (labels or {}).items():
        if not is_text and tuple(mask.shape) == (shape[0],):
            masks[name] = torch.as_tensor(mask)[:, None].expand(*shape)
        elif tuple(mask.shape) != tuple(shape):
            raise InterpError(f"label {name!r} is {tuple(mask.shape)}, what was scanned is {tuple(shape)}")
    return {name: masks.get(name, labels[name]) for name in labels} if labels and masks else labels or {}


def labels_digest(labels: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return a digest of some of the masks, in this order. Raises ValueError for values other than 0 and 1."""
    masks = ((name, np.packbits(as_mask(labels[name], f"label {name!r}"))) for name in names)
    return digest(*(part for mask in masks for part in mask))


def as_mask(values: Any, name: str) -> Bool[np.ndarray, "seq pos"]:
    """Return a mask as booleans. Raises ValueError for other values, which would all count as true: NaN for an unknown
    label, or the number of a class.
    name: what the mask is called in the error."""
    array = np.asarray(values)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise InterpError(f"{name} has values other than 0 and 1: give a mask, such as labels == 1")
    return array.astype(bool)
