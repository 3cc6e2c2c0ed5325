"""Take the tensors of a dictionary's file, and the numbers and truth values of its config, and check each of them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from interp.checks.errors import DamagedError


class FileTensors:
    """The tensors of one file, to be taken one by one."""

    dtype: torch.dtype | None = None
    """Tensors are converted to it, unless it is None."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str):
        self._tensors = dict(tensors)
        self.source = source

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def pop(self, name: str, *shape: int | None) -> Tensor:
        """Remove and return the tensor of this name. None in `shape`: any size. Raises DamagedError if the tensor is
        missing, has another shape, is not of floating point, or is not finite."""
        if name not in self._tensors:
            raise DamagedError(f"{self.source} has no tensor {name}; it has {', '.join(self._tensors) or 'no others'}")
        tensor = self._tensors.pop(name)
        fits = len(shape) == tensor.ndim and all(s in (None, d) for s, d in zip(shape, tensor.shape, strict=True))
        if not fits:
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise DamagedError(f"{self.source}: {name} has shape {tuple(tensor.shape)}, but must have ({expected})")
        if not tensor.is_floating_point():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise DamagedError(f"{self.source}: {name} has the type {dtype}, but must be of floating point")
        if not bool(tensor.isfinite().all()):
            raise DamagedError(f"{self.source}: {name} contains NaN or infinity: fix the weights before loading")
        return tensor.detach().to(self.dtype or tensor.dtype)

    def end(self) -> None:
        """Check that every tensor was read. Raises DamagedError if some are left, since the dictionary then computes
        something else."""
        if self._tensors:
            raise DamagedError(f"{self.source} contains tensors that cannot be interpreted: {', '.join(self._tensors)}")


def read_whole_number(cfg: Mapping[str, Any], name: str, limit: int, source: str) -> int:
    """Take a field that must be in 1..limit."""
    match cfg.get(name):
        case bool():
            pass
        case int() | float() as value if 1 <= value <= limit and value == value // 1:
            return int(value)
    raise DamagedError(f"{source}: {name}={cfg.get(name)!r} must be a whole number in 1..{limit}")


def read_number(value: Any, name: str, source: str, *, above: bool = False) -> float:
    """Check that a value is a finite number of at least 0, or above 0, and return it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or (above and value == 0):
        raise DamagedError(f"{source}: {name}={value!r} must be a number {'above' if above else 'of at least'} 0")
    return float(value)


def read_truth(cfg: Mapping[str, Any], name: str, default: bool, source: str) -> bool:
    """Take a field that must be true or false; if it is missing or null, take the default."""
    value = cfg.get(name)
    if value is not None and not isinstance(value, bool):
        raise DamagedError(f"{source}: {name}={value!r} must be true or false")
    return default if value is None else value
