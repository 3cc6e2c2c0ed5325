"""A dictionary as it is stored in files: its tensors, its encoder, its origin.

The other files of this package read folders into a `StoredDictionary` and write folders from one; `model` turns it into
a module.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor
from typing_extensions import TypedDict

from interp.checks.errors import DamagedError
from interp.checks.json_values import validate_json
from interp.sae.architectures.encoders import Encoder
from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig, config_from_dict, config_to_dict


class FileMetadata(TypedDict, total=False):
    """The entries of `interp.codes.dictionary.Metadata` that are checked in a file; others are kept unchanged."""

    hook_name: str | None
    hook_name_out: str | None
    hook_names: list[str] | None
    exclude_special_tokens: bool | list[int] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredDictionary:
    kind: str = "sae"
    """`sae`, `transcoder` or `crosscoder`."""
    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor
    encoder: Encoder
    config: SAEConfig | None = None
    """Its training config; None for a dictionary that interp did not train."""
    metadata: dict[str, Any] = field(default_factory=dict)
    W_skip: Tensor | None = None
    """The linear path of a transcoder."""
    widths: tuple[int, ...] = ()
    """The hooks of a crosscoder: widths and scales."""
    scales: tuple[float, ...] = ()

    @property
    def preferred_format(self) -> str:
        """`saelens` if SAELens can read the dictionary, else `interp`."""
        form = self.encoder.to_saelens(self.kind, skips=self.W_skip is not None)
        return "interp" if form is None else "saelens"


def metadata_with_config(stored: StoredDictionary) -> dict[str, Any]:
    """Return the metadata, with the config of the dictionary's training under `interp`."""
    if stored.config is None:
        return dict(stored.metadata)
    return {**stored.metadata, "interp": config_to_dict(stored.config)}


def config_and_metadata(cfg: dict[str, Any], source: str) -> dict[str, Any]:
    """Return `config` and `metadata` of a file's config. The config of an architecture that is not imported, or of a
    version with other fields, stays in the metadata."""
    metadata = cfg.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise DamagedError(f"{source}: metadata={metadata!r} must be an object with named values")
    metadata = dict(validate_json(FileMetadata, metadata, f"{source}, metadata", "correct it"))
    ours = metadata.get("interp")
    if ours is None or (isinstance(ours, dict) and not _is_known(ours)):
        return {"metadata": metadata, "config": None}
    del metadata["interp"]
    try:
        return {"metadata": metadata, "config": config_from_dict(ours)}
    except (TypeError, ValueError) as error:
        raise DamagedError(f"{source}: metadata.interp is not the config of a dictionary: {error}") from error


def _is_known(config: dict[str, Any]) -> bool:
    architecture = ARCHITECTURES.get(str(config.get("architecture")))
    return architecture is not None and set(config) <= {"architecture", *(field.name for field in fields(architecture))}
