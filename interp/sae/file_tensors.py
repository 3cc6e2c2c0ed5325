"""Take the tensors of a dictionary's file, and the numbers and truth values of its config, and check each of them."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from interp.checks.errors import DamagedError
from interp.checks.limits import NonNegative, Positive, check_value


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

    def pop_skip_path(self, d_in: int, d_out: int) -> Tensor:
        """Remove and return the skip path of a transcoder [d_in, d_out], which files keep transposed."""
        return self.pop("W_skip", d_out, d_in).T.contiguous()

    def end(self) -> None:
        """Check that every tensor was read. Raises DamagedError if some are left, since the dictionary then computes
        something else."""
        if self._tensors:
            raise DamagedError(f"{self.source} contains tensors that cannot be interpreted: {', '.join(self._tensors)}")


def read_whole_number(cfg: Mapping[str, Any], name: str, source: str, *, limit: int) -> int:
    """Take a field that must be in 1..limit."""
    return _read(name, cfg.get(name), Annotated[int, Field(ge=1, le=limit)], source)


def read_number(
    cfg: Mapping[str, Any], name: str, source: str, *, default: float | None = None, above: bool = False
) -> float:
    """Take a field that must be a finite number of at least 0, or above 0; if it is missing, take the default."""
    return _read(name, cfg.get(name, default), Positive if above else NonNegative, source)


def read_truth(cfg: Mapping[str, Any], name: str, source: str, *, default: bool | None = None) -> bool:
    """Take a field that must be true or false; if it is missing or null, take the default."""
    value = cfg.get(name)
    return _read(name, default if value is None else value, bool, source)


def _read(name: str, value: Any, hint: Any, source: str) -> Any:
    try:
        return check_value(name, value, hint)
    except ValueError as error:
        raise DamagedError(f"{source}: {error}") from None
