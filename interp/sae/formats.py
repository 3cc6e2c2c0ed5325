"""Dictionaries on disk: folders in the formats of interp, SAELens and sparsify, and SAELens releases.

A folder holds `sae_weights.safetensors` (W_enc, W_dec, b_enc, b_dec, …) and `cfg.json`.

    saelens    as `sae_lens.SAE.load_from_disk` reads it (`saelens`)
    interp     any dictionary, bit for bit: `cfg.json` has its `kind` and its `encoder`
    sparsify   (read only) cfg.json and sae.safetensors: encoder.weight [d_sae, d_in], encoder.bias, W_dec, b_dec and
               W_skip [d_out, d_in]; all are TopK, and transcoders read x unchanged

The config that a dictionary was trained with is in `cfg.json` under metadata → `interp`; it stays there if its
architecture is not imported. Nothing that is read can run code. Damaged files raise a ValueError that names the file
and the fault.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from interp.checks.arguments import check_finite
from interp.checks.errors import DamagedError, InterpError
from interp.sae.architectures.encoders import ENCODERS, Encoder, SAELensForm
from interp.sae.architectures.topk import TopK
from interp.sae.file_tensors import FileTensors, read_number, read_truth, read_whole_number
from interp.sae.saelens import from_saelens, to_saelens
from interp.sae.stored_dictionary import StoredDictionary, config_and_metadata, metadata_with_config
from interp.storage.artifacts import check_exists, looks_like_path
from interp.storage.files import read_json, read_tensors, write_json, write_tensors
from interp.storage.manifests import verify

WEIGHTS_FILE, CONFIG_FILE, _SCALER, _SPARSIFY = (
    "sae_weights.safetensors",
    "cfg.json",
    "activation_scaler.json",
    "sae.safetensors",
)
_REMEDY = "save it again, or download it again"
_KINDS = ("transcoder", "crosscoder", "sae")


class EncodedFiles(NamedTuple):
    """A dictionary encoded in one format."""

    cfg: dict[str, Any]
    tensors: dict[str, Tensor]

    def write(self, folder: Path) -> None:
        write_tensors(folder / WEIGHTS_FILE, self.tensors)
        write_json(folder / CONFIG_FILE, self.cfg)


def encode_files(stored: StoredDictionary, format: str) -> EncodedFiles:
    """Return a dictionary as files of a format. Raises ValueError for an unknown format, or one that cannot represent
    the dictionary."""
    if format not in ("saelens", "interp"):
        raise InterpError(f"format={format!r} is not known; 'saelens' and 'interp' are")
    return EncodedFiles(*(_to_native(stored) if format == "interp" else to_saelens(stored, _saelens_form(stored))))


def read_dictionary(path_or_release: str | Path, sae_id: str | None) -> StoredDictionary:
    """Return the dictionary in a folder or of a release. Raises DamagedError, naming the file, for damaged files, and
    for weights that are not finite once scales and norms are folded in."""
    stored = _read(path_or_release, sae_id)
    tensors = {name: getattr(stored, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec", "W_skip")}
    tensors["threshold"] = getattr(stored.encoder, "threshold", None)
    try:
        check_finite(**tensors)
    except ValueError as error:
        raise DamagedError(f"{path_or_release}: {error}") from None
    return stored


def _read(path_or_release: str | Path, sae_id: str | None) -> StoredDictionary:
    folder = Path(path_or_release)
    for file in (CONFIG_FILE, WEIGHTS_FILE, _SPARSIFY, _SCALER) if folder.is_dir() else ():
        verify(folder / file)
    if (folder / CONFIG_FILE).exists():
        if sae_id is not None:
            raise InterpError(f"{folder} is one dictionary's folder, not a release with {sae_id!r}: leave sae_id out")
        return _from_folder(folder)
    if sae_id is None and looks_like_path(str(folder)):
        check_exists(folder, "sae")
    if not folder.is_dir() and sae_id is None and (ids := _ids_of(str(folder))):
        shown = ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
        spelling = f"on the command line {folder}:{ids[0]}"
        raise InterpError(f"the release {folder} has {len(ids)} dictionaries: give a sae_id, as {shown} ({spelling})")
    if folder.is_dir() or sae_id is None:
        inner = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG_FILE}"))
        remedy = f"give one of its folders ({', '.join(inner)})" if inner else "give the folder of a saved dictionary"
        raise InterpError(f"{folder} contains no {CONFIG_FILE}: {remedy}, or a SAELens release together with a sae_id")
    return _from_release(str(path_or_release), sae_id)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a dictionary's `cfg.json`. Raises DamagedError if it is not a JSON object."""
    return read_json(folder / CONFIG_FILE, _REMEDY)


def _from_folder(folder: Path) -> StoredDictionary:
    cfg = read_config(folder)
    source = str(folder / CONFIG_FILE)
    weights = folder / (_SPARSIFY if (folder / _SPARSIFY).exists() else WEIGHTS_FILE)
    if not weights.exists():
        raise DamagedError(f"{folder} is not a complete dictionary: {WEIGHTS_FILE} is missing")
    parts = FileTensors(read_tensors(weights, _REMEDY), str(weights))
    if weights.name == _SPARSIFY:
        return _from_sparsify(cfg, parts, source)
    if cfg.get("architecture") == "interp":
        return _from_native(cfg, parts, source)
    scaler = read_json(folder / _SCALER, _REMEDY) if (folder / _SCALER).exists() else {}
    return from_saelens(cfg, parts, source, scaler)


def _ids_of(release: str) -> list[str]:
    """Return the dictionaries of a release that SAELens knows by name."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    return list(known[release].saes_map) if release in known else []


def _from_release(release: str, sae_id: str) -> StoredDictionary:
    import sae_lens

    source = f"{release}, {sae_id}"
    try:
        loaded = sae_lens.SAE.from_pretrained(release, sae_id)
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InterpError(
            f"{source} could not be downloaded: load it once while online, it then stays in the Hugging Face cache "
            f"({reason})"
        ) from error
    except ValueError as error:
        raise InterpError(f"{source} is not a dictionary that SAELens knows: {error}") from error
    return from_saelens(loaded.cfg.to_dict(), FileTensors(loaded.state_dict(), source), source, {})


def _saelens_form(stored: StoredDictionary) -> SAELensForm:
    form = stored.encoder.to_saelens(stored.kind, skips=stored.W_skip is not None)
    if form is None:
        raise InterpError(
            f"SAELens has no architecture for this {stored.kind} with the encoder {type(stored.encoder).__name__}; "
            "save it with format='interp'"
        )
    return form


def _to_native(stored: StoredDictionary) -> tuple[dict[str, Any], dict[str, Tensor]]:
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
        "architecture": "interp",
        "kind": stored.kind,
        "encoder": {"kind": stored.encoder.name, **encoder.settings},
        "metadata": metadata_with_config(stored),
    }
    if stored.widths:
        cfg |= {"widths": list(stored.widths), "scales": list(stored.scales)}
    return cfg, tensors


def _from_native(cfg: dict[str, Any], parts: FileTensors, source: str) -> StoredDictionary:
    """Read a dictionary of our own format. `source` is the name of the config in errors."""
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
        known = ", ".join(ENCODERS)
        raise InterpError(f"{source}: encoder={fields!r} is not known; {known} are: import the module that has yours")
    return ENCODERS[name].from_stored(fields, parts, d_sae, source)


def _from_sparsify(cfg: dict[str, Any], parts: FileTensors, source: str) -> StoredDictionary:
    activation = cfg.get("activation", "topk")
    signed = read_truth(cfg, "signed", source, default=False)
    if activation != "topk" or signed:
        raise InterpError(
            f"{source}: activation={activation!r} with signed={signed!r} cannot be read; "
            "only 'topk' of positive latents can: train the coder with activation='topk'"
        )
    transcodes = read_truth(cfg, "transcode", source, default=False)
    parts.dtype = torch.float32
    encoder_rows = parts.pop("encoder.weight", None, None)
    d_sae, d_in = encoder_rows.shape
    W_dec = parts.pop("W_dec", d_sae, None if transcodes else d_in)
    b_enc = parts.pop("encoder.bias", d_sae)
    b_dec = parts.pop("b_dec", W_dec.shape[1])
    W_skip = parts.pop("W_skip", W_dec.shape[1], d_in).T.contiguous() if "W_skip" in parts else None
    topk = TopK(read_whole_number(cfg, "k", source, limit=d_sae))
    parts.end()
    if not transcodes and W_skip is not None:
        b_enc = b_enc - encoder_rows @ b_dec
    return StoredDictionary(
        kind="sae" if W_skip is None and not transcodes else "transcoder",
        W_enc=encoder_rows.T,
        W_dec=W_dec,
        b_enc=b_enc,
        b_dec=b_dec,
        encoder=topk,
        W_skip=W_skip,
    )
