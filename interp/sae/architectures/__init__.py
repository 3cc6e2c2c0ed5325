"""The dictionaries that can be trained, what fires, what it minimises, where it comes from.

    TopKConfig             the k largest of each row
    BatchTopKConfig        the k·B largest of a batch of B rows; trained, those above a threshold
    MatryoshkaConfig       BatchTopK whose prefixes must reconstruct on their own
    JumpReLUConfig         those above a threshold that is learnt for each latent
    ReLUConfig             those above zero, an L1 penalty
    GatedConfig            one path decides what fires, the other how strongly
    MatchingPursuitConfig  one latent after the other, each from what the ones before leave

`ARCHITECTURES` has them by name, a user's own among them. Every file of this folder is read, so that a new one needs no
other line.
"""

from dataclasses import asdict, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig

_NOW_CONSTANT = (
    ("decay_shape", "linear"),
    ("log_loss", True),
    ("ema", None),
    ("scale_inputs", True),
    ("threshold_decay", 0.999),
    ("bandwidth_end", None),
    ("tanh_scale", 4.0),
    ("p_end", 1.0),
)
"""Fields of earlier files, with the values that are built in."""


def config_to_dict(config: SAEConfig) -> dict[str, Any]:
    """JSON-able; `config_from_dict` reads it."""
    return {"architecture": config.architecture, **asdict(config)}


def config_from_dict(values: dict[str, Any]) -> SAEConfig:
    """Raises ValueError for an architecture or a field that is not known, as the fields are named now."""
    values = renamed(values)
    name = values.pop("architecture", None)
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is not known; {', '.join(ARCHITECTURES)} are")
    kind = ARCHITECTURES[name]
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kind(**given)


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a file of an earlier version under their present names, without those that are constants now."""
    values = {field: value for field, value in values.items() if (field, value) not in _NOW_CONSTANT}
    values.pop("max_norm", None)  # rows above a limit are left out of the store now
    if values.get("train_decoder") in (True, False) and not values.pop("train_decoder"):
        values["freeze"] = "decoder"
    return values


for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
