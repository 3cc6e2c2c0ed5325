"""Read and write interp's own format, which holds any dictionary, bit for bit.

`cfg.json` has the dictionary's `kind` and its `encoder`, and the widths and scales of a crosscoder's hooks. The tensors
are those of the dictionary and those of its encoder, under their own names.
"""

from pathlib import Path
from typing import Any

from interp.checks.errors import InterpError
from interp.sae.architectures.encoders import ENCODERS, Encoder
from interp.sae.file_tensors import FileTensors, read_number, read_whole_number
from interp.sae.formats.dictionary_format import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    EncodedFiles,
    dictionary_format,
    read_config,
    read_weights,
)
from interp.sae.formats.stored_dictionary import StoredDictionary, config_and_metadata, metadata_with_config

NATIVE = "interp"
"""The name of the format, and the architecture in `cfg.json`."""
_KINDS = ("transcoder", "crosscoder", "sae")


def is_native(folder: Path) -> bool:
    """Return whether the config of a dictionary is of our own format."""
    return read_config(folder).get("architecture") == NATIVE


def to_native(stored: StoredDictionary) -> EncodedFiles:
    tensors = {"W_enc": stored.W_enc, "W_dec": stored.W_dec, "b_enc": stored.b_enc, "b_dec": stored.b_dec}
    if stored.W_skip is not None:
        tensors["W_skip"] = stored.W_skip
    encoder = stored.encoder.to_stored()
    if ambiguous := tensors.keys() & encoder.tensors.keys():
        class_name = type(stored.encoder).__name__
        raise InterpError(
            f"the encoder {class_name} calls a tensor {', '.join(sorted(ambiguous))}: "
            "that is a weight of every dictionary"
        )
    tensors |= encoder.tensors
    cfg: dict[str, Any] = {
        "architecture": NATIVE,
        "kind": stored.kind,
        "encoder": {"kind": stored.encoder.name, **encoder.settings},
        "metadata": metadata_with_config(stored),
    }
    if stored.widths:
        cfg |= {"widths": list(stored.widths), "scales": list(stored.scales)}
    return EncodedFiles(cfg, tensors)


@dictionary_format(NATIVE, files=(CONFIG_FILE, WEIGHTS_FILE), owns=is_native, encode=to_native)
def read_native(folder: Path) -> StoredDictionary:
    """any dictionary, bit for bit, for interp"""
    cfg = read_config(folder)
    parts = read_weights(folder / WEIGHTS_FILE)
    source = str(folder / CONFIG_FILE)
    kind = cfg.get("kind")
    if kind not in _KINDS:
        raise InterpError(f"{source}: kind={kind!r} must be one of {', '.join(_KINDS)}")
    W_enc = parts.pop("W_enc", None, None)
    d_in, d_sae = W_enc.shape
    W_dec = parts.pop("W_dec", d_sae, None if kind == "transcoder" else d_in)
    d_out = W_dec.shape[1]
    stored = StoredDictionary(
        kind=kind,
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=parts.pop("b_enc", d_sae),
        b_dec=parts.pop("b_dec", d_out),
        W_skip=parts.pop("W_skip", d_in, d_out) if kind == "transcoder" and "W_skip" in parts else None,
        encoder=_encoder(cfg.get("encoder"), parts, d_sae, source),
        **(_widths_and_scales(cfg, d_out, source) if kind == "crosscoder" else {}),
        **config_and_metadata(cfg, source),
    )
    parts.end()
    return stored


def _widths_and_scales(cfg: dict[str, Any], d_out: int, source: str) -> dict[str, Any]:
    widths = cfg.get("widths")
    scales = cfg.get("scales")
    match widths, scales:
        case [[*_], [*_]] if len(widths) == len(scales):
            sizes = tuple(read_whole_number({"widths": width}, "widths", source, limit=d_out) for width in widths)
            if sum(sizes) == d_out:
                numbers = tuple(read_number({"scales": scale}, "scales", source, above=True) for scale in scales)
                return {"widths": sizes, "scales": numbers}
            raise InterpError(f"{source}: widths={widths} must sum to {d_out}, the width of W_dec")
    raise InterpError(f"{source}: widths={widths!r} and scales={scales!r} must hold one number for each hook")


def _encoder(fields: Any, parts: FileTensors, d_sae: int, source: str) -> Encoder:
    name = fields.get("kind") if isinstance(fields, dict) else None
    if not isinstance(name, str) or name not in ENCODERS:
        names = ", ".join(ENCODERS)
        raise InterpError(f"{source}: encoder={fields!r} is not known; {names} are: import the module that has yours")
    return ENCODERS[name].from_stored(fields, parts, d_sae, source)
