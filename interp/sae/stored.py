"""A dictionary as the files hold it: its tensors, how it encodes, where it comes from.

`formats` and `saelens` read folders into a `Stored` and write folders from one; `model` makes it a module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from interp.sae.architectures.encoders import Encoder
from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig, config_from_dict, config_to_dict


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    kind: str = "sae"
    """`sae`, `transcoder` or `crosscoder`."""
    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor
    encoder: Encoder
    config: SAEConfig | None = None
    """How it was trained; None for a dictionary from elsewhere."""
    metadata: dict[str, Any] = field(default_factory=dict)
    W_skip: Tensor | None = None
    """The linear path of a transcoder."""
    widths: tuple[int, ...] = ()
    """The hooks of a crosscoder: widths and scales."""
    scales: tuple[float, ...] = ()


class Parts:
    """The tensors of one file, to be taken one by one."""

    dtype: torch.dtype | None = None
    """What tensors are converted to; None: they stay as they are."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str):
        self._tensors, self.source = dict(tensors), source

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int | None) -> Tensor:
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
        return tensor.detach().to(self.dtype or tensor.dtype)

    def end(self) -> None:
        """Raises ValueError if tensors are left: whoever wrote them computes something else."""
        if self._tensors:
            raise ValueError(f"{self.source} holds tensors that cannot be read: {', '.join(self._tensors)}")


def whole_number(cfg: Mapping[str, Any], name: str, limit: int, source: str) -> int:
    """A field that must be in 1..limit."""
    match cfg.get(name):
        case bool():
            pass
        case int() | float() as value if value == value // 1 and 1 <= value <= limit:
            return int(value)
    raise ValueError(f"{source}: {name}={cfg.get(name)!r} must be a whole number in 1..{limit}")


def metadata_with_config(stored: Stored) -> dict[str, Any]:
    """The metadata, with the config of the dictionary's training under `interp`."""
    if stored.config is None:
        return dict(stored.metadata)
    return {**stored.metadata, "interp": config_to_dict(stored.config)}


def config_and_metadata(cfg: dict[str, Any], source: str) -> dict[str, Any]:
    """`config` and `metadata` of a file's config. The config of an architecture that is not imported here, or of a
    version with other fields, stays in the metadata."""
    metadata = cfg.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError(f"{source}: metadata={metadata!r} must be an object with named values")
    metadata = dict(metadata)
    ours = metadata.get("interp")
    if ours is None or (isinstance(ours, dict) and not _is_known(ours)):
        return {"metadata": metadata, "config": None}
    del metadata["interp"]
    try:
        return {"metadata": metadata, "config": config_from_dict(ours)}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: metadata.interp is not the config of a dictionary: {error}") from error


def _is_known(config: dict[str, Any]) -> bool:
    architecture = ARCHITECTURES.get(str(config.get("architecture")))
    return architecture is not None and set(config) <= {"architecture", *(each.name for each in fields(architecture))}
