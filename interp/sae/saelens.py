"""Dictionaries on disk, and speaking SAELens: to and from its folder, and from its releases.

A folder holds `sae_weights.safetensors` (W_enc, W_dec, b_enc, b_dec; JumpReLU adds threshold) and `cfg.json`.
A rule with thresholds is written as `jumprelu`: that is what a trained BatchTopK, Matryoshka or Gated dictionary is.
At threshold 0 it is `standard`. The config that a dictionary of ours was trained with stands in `cfg.json` under
metadata → `interp`. What SAELens has no architecture for is saved in a format of our own (`native`).

On the way in, all that SAELens does around the weights is folded into them:

    decoder norms n      W_enc ← W_enc n     b_enc ← b_enc n     W_dec ← W_dec / n        (so TopK keeps its selection)
    an input scale f     W_enc ← f W_enc     W_dec ← W_dec / f   b_dec ← b_dec / f
    an input as it is    b_enc ← b_enc + b_dec W_enc             (for x − b_dec, which ours reads)
    a gate               W_enc ← e^r W_enc   b_enc ← b_mag       θ = max(0, b_mag − e^r b_gate)
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.sae.folders import CONFIG, WEIGHTS, Parts, read_json, read_tensors, whole_number, write_folder
from interp.sae.model import SAE, Crosscoder, Transcoder
from interp.sae.native import ARCHITECTURE, from_native, to_native, with_config, without_config
from interp.sae.rules import MatchingPursuit, Threshold, TopK
from interp.sae.sparsify import SPARSIFY_WEIGHTS, from_sparsify

_SCALER = "activation_scaler.json"

_NORMS = ("topk", "batchtopk", "matryoshka_batchtopk")
"""Architectures whose pre-activations may be scaled by decoder norms. The last two are checkpoints of a training."""
_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
_READABLE = ("standard", "jumprelu", "gated", "matching_pursuit", *_NORMS, *_TRANSCODERS)


def saelens_architecture(sae: SAE) -> str | None:
    """What SAELens calls a dictionary like this one; None if it has none."""
    rule = sae.rule
    if isinstance(sae, Crosscoder) or (isinstance(rule, Threshold) and bool((rule.threshold < 0).any())):
        return None
    zero = isinstance(rule, Threshold) and not bool(rule.threshold.any())
    if isinstance(sae, Transcoder):
        skip = "" if sae.W_skip is None else "skip_"
        return f"{'' if zero else 'jumprelu_'}{skip}transcoder" if isinstance(rule, Threshold) else None
    match rule:
        case TopK():
            return "topk"
        case Threshold():
            return "standard" if zero else "jumprelu"
        case MatchingPursuit():
            return "matching_pursuit"
    return None


def preferred_format(sae: SAE) -> str:
    """`saelens` for what SAELens reads, else `interp`."""
    return "interp" if saelens_architecture(sae) is None else "saelens"


def save_sae(sae: SAE, folder: Path, format: str) -> None:
    """Raises ValueError for a format that is not known, or that has no place for the dictionary."""
    if format not in ("saelens", "interp"):
        raise ValueError(f"format={format!r} is not known; 'saelens' and 'interp' are")
    if format == "interp":
        return write_folder(folder, *to_native(sae))
    architecture = saelens_architecture(sae)
    if architecture is None:
        kind = f"{type(sae).__name__} with the rule {type(sae.rule).__name__}"
        raise ValueError(f"SAELens has no architecture for a {kind}; save it with format='interp'")
    write_folder(folder, _config(sae, architecture), _tensors(sae, architecture))


def load_sae(path_or_release: str | Path, sae_id: str | None = None, *, device: str = "cpu") -> SAE:
    """A dictionary from a folder of ours, SAELens's or sparsify's, or from a SAELens release and an id in it.

    A release needs the network, or its files in the Hugging Face cache. Raises ValueError, naming the file, for what is
    damaged and for what cannot be represented: architectures other than SAELens's standard, topk, jumprelu, gated,
    matching_pursuit and transcoders (and checkpoints of batchtopk), and scalings that differ from row to row.
    """
    folder = Path(path_or_release)
    if (folder / CONFIG).exists():
        return _from_folder(folder).to(device)
    if not folder.is_dir() and sae_id is None and (ids := _ids_of(str(folder))):
        shown = ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
        raise ValueError(f"the release {folder} has {len(ids)} dictionaries: give a sae_id, as {shown}")
    if folder.is_dir() or sae_id is None:
        inner = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG}"))
        remedy = f"give one of its folders ({', '.join(inner)})" if inner else "give the folder of a saved dictionary"
        raise ValueError(f"{folder} holds no {CONFIG}: {remedy}, or a SAELens release together with a sae_id")
    return _from_release(str(path_or_release), sae_id).to(device)


def _from_folder(folder: Path) -> SAE:
    cfg = read_json(folder / CONFIG)
    if (folder / SPARSIFY_WEIGHTS).exists():
        return from_sparsify(cfg, read_tensors(folder / SPARSIFY_WEIGHTS), str(folder / CONFIG))
    if not (folder / WEIGHTS).exists():
        raise ValueError(f"{folder} is not a whole dictionary: {WEIGHTS} is missing")
    parts = read_tensors(folder / WEIGHTS)
    if cfg.get("architecture") == ARCHITECTURE:
        return from_native(cfg, parts, str(folder / CONFIG))
    scaler = read_json(folder / _SCALER) if (folder / _SCALER).exists() else {}
    return _from_saelens(cfg, parts, str(folder / CONFIG), scaler)


def _ids_of(release: str) -> list[str]:
    """The dictionaries of a release that SAELens knows by name."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    return list(known[release].saes_map) if release in known else []


def _from_release(release: str, sae_id: str) -> SAE:
    import sae_lens

    source = f"{release}, {sae_id}"
    try:
        loaded = sae_lens.SAE.from_pretrained(release, sae_id)
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        remedy = "load it once with the network, it then stays in the Hugging Face cache"
        raise ValueError(f"{source} could not be fetched: {remedy} ({reason})") from error
    except ValueError as error:
        raise ValueError(f"{source} is no dictionary that SAELens knows: {error}") from error
    return _from_saelens(loaded.cfg.to_dict(), Parts(loaded.state_dict(), source), source, {})


def _config(sae: SAE, architecture: str) -> dict[str, Any]:
    cfg: dict[str, Any] = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": str(sae.W_dec.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": not isinstance(sae, Transcoder),
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    match sae.rule:
        case TopK(k):
            cfg |= {"k": k, "rescale_acts_by_decoder_norm": False}
        case MatchingPursuit(k, residual_threshold, stop_on_repeat):
            cfg |= {"max_iterations": k, "residual_threshold": residual_threshold}
            cfg |= {"stop_on_duplicate_support": stop_on_repeat}
    if isinstance(sae, Transcoder):
        cfg["d_out"] = sae.d_out
    return cfg | {"metadata": {"prepend_bos": True, **with_config(sae), "sae_lens_version": version("sae-lens")}}


def _tensors(sae: SAE, architecture: str) -> dict[str, Tensor]:
    names = ("W_dec", "b_dec") if architecture == "matching_pursuit" else ("W_enc", "W_dec", "b_enc", "b_dec")
    tensors: dict[str, Tensor] = {name: getattr(sae, name) for name in names}
    if "jumprelu" in architecture and isinstance(sae.rule, Threshold):
        tensors["threshold"] = sae.rule.threshold.to(sae.W_dec)
    if isinstance(sae, Transcoder) and sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip.T
    return tensors


def _from_saelens(cfg: dict[str, Any], parts: Parts, source: str, scaler: dict[str, Any]) -> SAE:
    cfg = _current(cfg, source)
    architecture = cfg.get("architecture")
    if architecture not in _READABLE:
        raise ValueError(f"{source}: architecture {architecture!r} cannot be read; {', '.join(_READABLE)} can")
    if cfg.get("reshape_activations") not in ("none", None):
        raise ValueError(
            f"{source}: reshape_activations={cfg['reshape_activations']!r} cannot be read; only 'none' can: "
            "flatten the heads, then set it to 'none'"
        )
    scale = _input_scale(cfg, scaler, source)
    read = _pursuit if architecture == "matching_pursuit" else _one_pass
    given = read(cfg, parts, scale, source)
    for name in ("d_in", "d_sae"):
        size = given["W_enc"].shape[name == "d_sae"]
        if cfg.get(name, size) != size:
            raise ValueError(f"{source}: {name}={cfg[name]} but the weights in {parts.source} have {size}")
    parts.end()
    metadata, config = without_config(cfg, source)
    kind = Transcoder if architecture in _TRANSCODERS else SAE
    return kind(**given, config=config, metadata=metadata)


def _current(cfg: dict[str, Any], source: str) -> dict[str, Any]:
    """A config of before SAELens 6 as SAELens itself understands it."""
    metadata = cfg.get("metadata")
    wrote = cfg.get("sae_lens_version") or (metadata.get("sae_lens_version") if isinstance(metadata, dict) else None)
    if str(wrote).partition(".")[0].isdigit() and int(str(wrote).partition(".")[0]) >= 6:
        return cfg
    if cfg.get("architecture", "standard") not in _READABLE:
        return cfg
    from sae_lens.loading.pretrained_sae_loaders import handle_pre_6_0_config

    try:
        return handle_pre_6_0_config(cfg)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{source} is no config of SAELens, of whatever version ({error!r})") from error


def _input_scale(cfg: dict[str, Any], scaler: dict[str, Any], source: str) -> float:
    scaling, factor = cfg.get("normalize_activations"), scaler.get("scaling_factor")
    if scaling in ("none", None):
        return 1.0
    remedy = "its rows are scaled one by one, which weights cannot hold: use it through sae_lens"
    if scaling == "expected_average_only_in":
        if isinstance(factor, int | float) and factor > 0 and cfg["architecture"] not in _TRANSCODERS:
            return float(factor)
        remedy = (
            "the factor is not in the folder: fold_activation_norm_scaling_factor(…) in SAELens, then save it again"
        )
    if scaling == "covariance_whitening":
        remedy = "fold_activation_whitening(…) in SAELens, then save it again"
    raise ValueError(f"{source}: normalize_activations={scaling!r} cannot be read; {remedy}")


def _pursuit(cfg: dict[str, Any], parts: Parts, scale: float, source: str) -> dict[str, Any]:
    """The encoder is the decoder, so an input scale moves to the latents' unit."""
    W_dec = parts.take("W_dec", None, None, dtype=torch.float32)
    b_dec = parts.take("b_dec", W_dec.shape[1], dtype=torch.float32) / scale
    least, stop = cfg.get("residual_threshold", 1e-2), cfg.get("stop_on_duplicate_support", True)
    if not isinstance(least, int | float) or not isinstance(stop, bool):
        raise ValueError(
            f"{source}: residual_threshold={least!r} or stop_on_duplicate_support={stop!r} is of a wrong kind"
        )
    steps = {"max_iterations": W_dec.shape[1]} if cfg.get("max_iterations") is None else cfg
    rule = MatchingPursuit(whole_number(steps, "max_iterations", 1 << 31, source), float(least) / scale, stop)
    given = {"W_enc": W_dec.T, "W_dec": W_dec, "b_enc": torch.zeros(len(W_dec)), "rule": rule}
    return {**given, "b_dec": b_dec if cfg.get("apply_b_dec_to_input", True) else torch.zeros_like(b_dec)}


def _one_pass(cfg: dict[str, Any], parts: Parts, scale: float, source: str) -> dict[str, Any]:
    architecture, single = cfg["architecture"], torch.float32
    tied = architecture not in _TRANSCODERS
    W_enc = parts.take("W_enc", None, None, dtype=single)
    d_in, d_sae = W_enc.shape
    W_dec = parts.take("W_dec", d_sae, d_in if tied else None, dtype=single)
    b_dec = parts.take("b_dec", W_dec.shape[1], dtype=single)
    stretch, b_enc, threshold = _firing(architecture, parts, d_sae)
    W_enc = W_enc * stretch
    if cfg.get("rescale_acts_by_decoder_norm") and architecture in _NORMS:
        norms = W_dec.norm(dim=1).clamp(min=torch.finfo(single).tiny)
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms[:, None]
    if tied and not cfg.get("apply_b_dec_to_input", True):
        b_enc = b_enc + b_dec @ W_enc
    given: dict[str, Any] = {"W_enc": W_enc * scale, "W_dec": W_dec / scale, "b_enc": b_enc, "b_dec": b_dec / scale}
    if "skip" in architecture:
        given["W_skip"] = parts.take("W_skip", W_dec.shape[1], d_in, dtype=single).T.contiguous()
    rule = TopK(whole_number(cfg, "k", d_sae, source)) if architecture == "topk" else Threshold(threshold)
    return {**given, "rule": rule}


def _firing(architecture: str, parts: Parts, d_sae: int) -> tuple[Tensor, Tensor, Tensor]:
    """What encoder rows are multiplied with, b_enc, and the thresholds (SAELens applies a ReLU beside them)."""
    one, zero, single = torch.ones(d_sae), torch.zeros(d_sae), torch.float32
    if architecture == "gated":
        b_gate, b_mag, r_mag = (parts.take(name, d_sae, dtype=single) for name in ("b_gate", "b_mag", "r_mag"))
        return r_mag.exp(), b_mag, (b_mag - r_mag.exp() * b_gate).clamp(min=0)
    b_enc = parts.take("b_enc", d_sae, dtype=single)
    if "batchtopk" in architecture:
        return one, b_enc, (zero + parts.take("topk_threshold", dtype=single)).clamp(min=0)
    if "jumprelu" not in architecture:
        return one, b_enc, zero
    if "log_threshold" in parts:
        return one, b_enc, parts.take("log_threshold", d_sae, dtype=single).exp()
    return one, b_enc, parts.take("threshold", d_sae, dtype=single).clamp(min=0)
