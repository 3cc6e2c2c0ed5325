"""A dictionary's folder: one JSON file, and one file of named tensors. Nothing that is read can run code.

Whatever is damaged raises a ValueError that names the file and what is wrong with it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"


class Parts:
    """The tensors of one file, to be taken one by one."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str):
        self._tensors, self.source = dict(tensors), source

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int | None, dtype: torch.dtype | None = None) -> Tensor:
        """None in `shape`: any size. Raises ValueError if the tensor is missing, of another shape or not finite."""
        if name not in self._tensors:
            raise ValueError(f"{self.source} has no tensor {name}; it has {', '.join(self._tensors) or 'no others'}")
        tensor = self._tensors.pop(name)
        fits = len(shape) == tensor.ndim and all(s in (None, d) for s, d in zip(shape, tensor.shape, strict=True))
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{self.source}: {name} has shape {tuple(tensor.shape)}, but must have ({wanted})")
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise ValueError(f"{self.source}: {name} holds values that are no finite numbers")
        return tensor.detach().to(dtype or tensor.dtype)

    def end(self) -> None:
        """Raises ValueError if tensors are left: whoever wrote them computes something else."""
        if self._tensors:
            raise ValueError(f"{self.source} holds tensors that cannot be read: {', '.join(self._tensors)}")


def write_folder(folder: Path, cfg: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Weights first, then the config, each under a temporary name until it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(weights, folder / f"{WEIGHTS}.tmp")
    os.replace(folder / f"{WEIGHTS}.tmp", folder / WEIGHTS)
    (folder / f"{CONFIG}.tmp").write_text(json.dumps(cfg, indent=1))
    os.replace(folder / f"{CONFIG}.tmp", folder / CONFIG)


def read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold an object with named values, not a {type(values).__name__}")
    return values


def read_tensors(file: Path) -> Parts:
    try:
        return Parts(load_file(file), str(file))
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from error


def whole_number(cfg: Mapping[str, Any], name: str, most: int, source: str) -> int:
    """A field that must be in 1..most."""
    match cfg.get(name):
        case bool():
            pass
        case int() | float() as value if value == value // 1 and 1 <= value <= most:
            return int(value)
    raise ValueError(f"{source}: {name}={cfg.get(name)!r} must be a whole number in 1..{most}")
