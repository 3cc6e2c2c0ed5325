"""SAELens's folders and releases, written and read.

For writing, each encoder gives its SAELens architecture (`Encoder.to_saelens`). For reading, everything that SAELens
computes around the weights is folded into them:

    decoder norms n      W_enc ← W_enc n     b_enc ← b_enc n     W_dec ← W_dec / n        (so TopK keeps its selection)
    an input scale f     W_enc ← f W_enc     W_dec ← W_dec / f   b_dec ← b_dec / f
    an input as it is    b_enc ← b_enc + b_dec W_enc             (for x − b_dec, which ours reads)
    a gate               W_enc ← e^r W_enc   b_enc ← b_mag       θ = max(0, b_mag − e^r b_gate)

Damaged files raise a ValueError that names the file. So does what weights cannot represent, with a remedy.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.checks.errors import DamagedError, InterpError
from interp.sae.architectures.matching_pursuit import MatchingPursuit, most_steps
from interp.sae.architectures.thresholds import Threshold
from interp.sae.architectures.topk import TopK
from interp.sae.file_tensors import FileTensors, read_number, read_truth, read_whole_number
from interp.sae.formats.dictionary_format import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    EncodedFiles,
    dictionary_format,
    read_config,
    read_optional_config,
    read_weights,
)
from interp.sae.formats.native import is_native
from interp.sae.formats.stored_dictionary import StoredDictionary, config_and_metadata, metadata_with_config

_SCALER = "activation_scaler.json"
"""The file of a scale of the inputs, beside some dictionaries."""
_NORMS = ("topk", "batchtopk", "matryoshka_batchtopk")
"""Architectures whose pre-activations may be scaled by decoder norms. The last two are checkpoints of a training."""
_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
SAELENS_VERSION = "6.54.12"
"""The release of SAELens whose format `to_saelens` writes."""
_READABLE_ARCHITECTURES = ("standard", "jumprelu", "gated", "matching_pursuit", *_NORMS, *_TRANSCODERS)


def to_saelens(stored: StoredDictionary) -> EncodedFiles:
    """Encode a dictionary. Raises ValueError if SAELens has no architecture for it."""
    form = stored.encoder.to_saelens(stored.kind, skips=stored.W_skip is not None)
    if form is None:
        raise InterpError(
            f"SAELens has no architecture for this {stored.kind} with the encoder {type(stored.encoder).__name__}; "
            "save it with format='interp'"
        )
    W_enc, W_dec = stored.W_enc, stored.W_dec
    cfg: dict[str, Any] = {
        "architecture": form.architecture,
        "d_in": len(W_enc),
        "d_sae": len(W_dec),
        "device": "cpu",
        "dtype": str(W_dec.dtype).removeprefix("torch."),
        "normalize_activations": "none",
        "apply_b_dec_to_input": stored.kind != "transcoder",
        "reshape_activations": "none",
        **form.settings,
    }
    encoder = {"W_enc": W_enc, "b_enc": stored.b_enc} if form.has_encoder else {}
    extra_tensors = {name: tensor.to(W_dec.dtype) for name, tensor in form.tensors.items()}
    tensors = {"W_dec": W_dec, "b_dec": stored.b_dec, **encoder, **extra_tensors}
    if stored.kind == "transcoder":
        cfg["d_out"] = W_dec.shape[1]
    if stored.W_skip is not None:
        tensors["W_skip"] = stored.W_skip.T
    metadata = {**metadata_with_config(stored), "sae_lens_version": SAELENS_VERSION}
    return EncodedFiles({**cfg, "metadata": metadata}, tensors)


@dictionary_format(
    "saelens",
    files=(CONFIG_FILE, WEIGHTS_FILE),
    optional_files=(_SCALER,),
    owns=lambda folder: not is_native(folder),
    encode=to_saelens,
)
def read_saelens(folder: Path) -> StoredDictionary:
    """the format that sae_lens.SAE.load_from_disk reads"""
    parts = read_weights(folder / WEIGHTS_FILE)
    scaler = read_optional_config(folder / _SCALER)
    return from_saelens(read_config(folder), parts, str(folder / CONFIG_FILE), scaler)


def ids_of_release(release: str) -> list[str]:
    """Return the dictionaries of a release that SAELens knows by name."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    return list(releases[release].saes_map) if release in releases else []


def read_release(release: str, sae_id: str) -> StoredDictionary:
    """Return a dictionary of a release. Raises ValueError if it cannot be downloaded, or if SAELens does not know
    it."""
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


def from_saelens(cfg: dict[str, Any], parts: FileTensors, source: str, scaler: dict[str, Any]) -> StoredDictionary:
    cfg = _current(cfg, source)
    parts.dtype = torch.float32
    architecture = cfg.get("architecture")
    if architecture not in _READABLE_ARCHITECTURES:
        raise InterpError(
            f"{source}: architecture {architecture!r} cannot be read; {', '.join(_READABLE_ARCHITECTURES)} can"
        )
    if cfg.get("reshape_activations") not in ("none", "hook_z", None):  # rows have heads side by side anyway
        raise InterpError(
            f"{source}: reshape_activations={cfg['reshape_activations']!r} cannot be read; only 'none' and 'hook_z' can"
        )
    if "scaling_factor" in parts:  # old releases wrote it, of ones, which SAELens drops too
        factors = parts.pop("scaling_factor", None)
        if not torch.allclose(factors, torch.ones_like(factors)):
            raise DamagedError(
                f"{parts.source} contains tensors that cannot be interpreted: scaling_factor, which is not 1 throughout"
            )
    scale = _input_scale(cfg, scaler, source)
    read = _pursuit if architecture == "matching_pursuit" else _one_pass
    weights = read(cfg, parts, scale, source)
    for name, size in zip(("d_in", "d_sae"), weights["W_enc"].shape, strict=True):
        if cfg.get(name, size) != size:
            raise DamagedError(f"{source}: {name}={cfg[name]} but the weights in {parts.source} have {size}")
    parts.end()
    kind = "transcoder" if architecture in _TRANSCODERS else "sae"
    return StoredDictionary(kind=kind, **weights, **config_and_metadata(cfg, source))


def _current(cfg: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a config older than SAELens 6 as SAELens itself understands it."""
    metadata = cfg.get("metadata")
    wrote = cfg.get("sae_lens_version") or (metadata.get("sae_lens_version") if isinstance(metadata, dict) else None)
    major = str(wrote).partition(".")[0]
    if (major.isdigit() and int(major) >= 6) or cfg.get("architecture", "standard") not in _READABLE_ARCHITECTURES:
        return cfg
    from sae_lens.loading.pretrained_sae_loaders import handle_pre_6_0_config

    try:
        return handle_pre_6_0_config(cfg)
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedError(f"{source} is not a config of any SAELens version ({error!r})") from error


def _input_scale(cfg: dict[str, Any], scaler: dict[str, Any], source: str) -> float:
    scaling = cfg.get("normalize_activations")
    factor = scaler.get("scaling_factor")
    if scaling in ("none", None):
        return 1.0
    if scaling == "expected_average_only_in":
        if factor is not None and cfg["architecture"] not in _TRANSCODERS:
            return read_number(scaler, "scaling_factor", source, above=True)
        raise InterpError(
            f"{source}: normalize_activations={scaling!r} cannot be read; the factor is not in the folder: "
            "fold_activation_norm_scaling_factor(…) in SAELens, then save it again"
        )
    if scaling == "covariance_whitening":
        raise InterpError(
            f"{source}: normalize_activations={scaling!r} cannot be read; fold_activation_whitening(…) in SAELens, "
            "then save it again"
        )
    raise InterpError(
        f"{source}: normalize_activations={scaling!r} cannot be read; its rows are scaled one by one, which cannot "
        "be folded into weights: use it through sae_lens"
    )


def _pursuit(cfg: dict[str, Any], parts: FileTensors, scale: float, source: str) -> dict[str, Any]:
    """Convert a matching pursuit. The encoder is the decoder, so an input scale moves to the latents' unit."""
    W_dec = parts.pop("W_dec", None, None)
    b_dec = parts.pop("b_dec", W_dec.shape[1]) / scale
    short = read_number(cfg, "residual_threshold", source, default=1e-2)
    stop = read_truth(cfg, "stop_on_duplicate_support", source, default=True)
    steps = {"max_iterations": W_dec.shape[1]} if cfg.get("max_iterations") is None else cfg
    return {
        "W_enc": W_dec.T,
        "W_dec": W_dec,
        "b_enc": torch.zeros(len(W_dec)),
        "b_dec": b_dec if read_truth(cfg, "apply_b_dec_to_input", source, default=True) else torch.zeros_like(b_dec),
        "encoder": MatchingPursuit(
            read_whole_number(steps, "max_iterations", source, limit=most_steps(len(W_dec))), short / scale, stop
        ),
    }


def _one_pass(cfg: dict[str, Any], parts: FileTensors, scale: float, source: str) -> dict[str, Any]:
    architecture = cfg["architecture"]
    tied = architecture not in _TRANSCODERS
    W_enc = parts.pop("W_enc", None, None)
    d_in, d_sae = W_enc.shape
    W_dec = parts.pop("W_dec", d_sae, d_in if tied else None)
    b_dec = parts.pop("b_dec", W_dec.shape[1])
    stretch, b_enc, threshold = _firing(architecture, parts, d_sae)
    W_enc = W_enc * stretch
    if read_truth(cfg, "rescale_acts_by_decoder_norm", source, default=False) and architecture in _NORMS:
        norms = W_dec.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        W_enc = W_enc * norms
        b_enc = b_enc * norms
        W_dec = W_dec / norms[:, None]
    if tied and not read_truth(cfg, "apply_b_dec_to_input", source, default=True):
        b_enc = b_enc + b_dec @ W_enc
    is_topk = architecture == "topk"
    return {
        "W_enc": W_enc * scale,
        "W_dec": W_dec / scale,
        "b_enc": b_enc,
        "b_dec": b_dec / scale,
        "encoder": TopK(read_whole_number(cfg, "k", source, limit=d_sae)) if is_topk else Threshold(threshold),
        "W_skip": parts.pop_skip_path(d_in, W_dec.shape[1]) if "skip" in architecture else None,
    }


def _firing(architecture: str, parts: FileTensors, d_sae: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors of the encoder rows, b_enc, and the thresholds (SAELens applies a ReLU as well)."""
    one = torch.ones(d_sae)
    zero = torch.zeros(d_sae)
    if architecture == "gated":
        b_gate, b_mag, r_mag = (parts.pop(name, d_sae) for name in ("b_gate", "b_mag", "r_mag"))
        return r_mag.exp(), b_mag, (b_mag - r_mag.exp() * b_gate).clamp(min=0)
    b_enc = parts.pop("b_enc", d_sae)
    if "batchtopk" in architecture:
        return one, b_enc, (zero + parts.pop("topk_threshold")).clamp(min=0)
    if "jumprelu" not in architecture:
        return one, b_enc, zero
    if "log_threshold" in parts:
        return one, b_enc, parts.pop("log_threshold", d_sae).exp()
    return one, b_enc, parts.pop("threshold", d_sae).clamp(min=0)
