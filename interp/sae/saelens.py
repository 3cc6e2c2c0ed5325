"""Speaking SAELens: what its folders and releases hold, and what it calls a dictionary like one of ours.

A rule with thresholds is written as `jumprelu`: that is what a trained BatchTopK, Matryoshka or Gated dictionary is; at
threshold 0 it is `standard`. On the way in, all that SAELens does around the weights is folded into them:

    decoder norms n      W_enc ← W_enc n     b_enc ← b_enc n     W_dec ← W_dec / n        (so TopK keeps its selection)
    an input scale f     W_enc ← f W_enc     W_dec ← W_dec / f   b_dec ← b_dec / f
    an input as it is    b_enc ← b_enc + b_dec W_enc             (for x − b_dec, which ours reads)
    a gate               W_enc ← e^r W_enc   b_enc ← b_mag       θ = max(0, b_mag − e^r b_gate)

What is damaged raises a ValueError that names the file; what weights cannot hold, one that says what to do.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from interp.sae.architectures import ARCHITECTURES, config_from_dict, config_to_dict
from interp.sae.rules import MatchingPursuit, Threshold, TopK

if TYPE_CHECKING:
    from interp.sae.model import SAE

_NORMS = ("topk", "batchtopk", "matryoshka_batchtopk")
"""Architectures whose pre-activations may be scaled by decoder norms. The last two are checkpoints of a training."""
_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
_READABLE = ("standard", "jumprelu", "gated", "matching_pursuit", *_NORMS, *_TRANSCODERS)


class Stored(NamedTuple):
    kind: str
    """`sae`, `transcoder` or `crosscoder`."""
    given: dict[str, Any]
    """The arguments of its class."""


class Parts:
    """The tensors of one file, to be taken one by one."""

    dtype: torch.dtype | None = None
    """What they are taken as; None: as they are."""

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


def with_config(sae: "SAE") -> dict[str, Any]:
    """The metadata, with the config of the dictionary's training under `interp`."""
    return dict(sae.metadata) if sae.config is None else {**sae.metadata, "interp": config_to_dict(sae.config)}


def without_config(cfg: dict[str, Any], source: str) -> dict[str, Any]:
    metadata = cfg.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError(f"{source}: metadata={metadata!r} must be an object with named values")
    metadata = dict(metadata)
    ours = metadata.get("interp")
    if ours is None or (isinstance(ours, dict) and ours.get("architecture") not in ARCHITECTURES):
        return {"metadata": metadata, "config": None}  # from elsewhere, or of a script that is not imported here
    del metadata["interp"]
    try:
        return {"metadata": metadata, "config": config_from_dict(dict(ours))}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: metadata.interp is not the config of a dictionary: {error}") from error


def saelens_architecture(sae: "SAE") -> str | None:
    """What SAELens calls a dictionary like this one; None if it has none."""
    rule = sae.rule
    if sae.kind == "crosscoder" or (isinstance(rule, Threshold) and bool((rule.threshold < 0).any())):
        return None
    zero = isinstance(rule, Threshold) and not bool(rule.threshold.any())
    if sae.kind == "transcoder":
        skip = "" if getattr(sae, "W_skip", None) is None else "skip_"
        return f"{'' if zero else 'jumprelu_'}{skip}transcoder" if isinstance(rule, Threshold) else None
    match rule:
        case TopK():
            return "topk"
        case Threshold():
            return "standard" if zero else "jumprelu"
        case MatchingPursuit():
            return "matching_pursuit"
    return None


def to_saelens(sae: "SAE", architecture: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What goes into `cfg.json`, and the tensors."""
    rule, W_skip = sae.rule, getattr(sae, "W_skip", None)
    cfg: dict[str, Any] = {"d_in": sae.d_in, "d_sae": sae.d_sae, "device": "cpu"}
    cfg |= {"dtype": str(sae.W_dec.dtype).removeprefix("torch."), "normalize_activations": "none"}
    cfg |= {"apply_b_dec_to_input": sae.kind != "transcoder", "reshape_activations": "none"}
    names = ("W_dec", "b_dec") if architecture == "matching_pursuit" else ("W_enc", "W_dec", "b_enc", "b_dec")
    tensors: dict[str, Tensor] = {name: getattr(sae, name) for name in names}
    match rule:
        case TopK(k):
            cfg |= {"k": k, "rescale_acts_by_decoder_norm": False}
        case MatchingPursuit(k, residual_threshold, stop_on_repeat):
            cfg |= {"max_iterations": k, "residual_threshold": residual_threshold}
            cfg |= {"stop_on_duplicate_support": stop_on_repeat}
        case Threshold(threshold) if "jumprelu" in architecture:
            tensors["threshold"] = threshold.to(sae.W_dec)
    if sae.kind == "transcoder":
        cfg["d_out"] = sae.d_out
    if W_skip is not None:
        tensors["W_skip"] = W_skip.T
    metadata = {"prepend_bos": True, **with_config(sae), "sae_lens_version": version("sae-lens")}
    return {**cfg, "metadata": metadata}, tensors


def from_saelens(cfg: dict[str, Any], parts: Parts, source: str, scaler: dict[str, Any]) -> Stored:
    cfg, parts.dtype = _current(cfg, source), torch.float32
    architecture = cfg.get("architecture")
    if architecture not in _READABLE:
        raise ValueError(f"{source}: architecture {architecture!r} cannot be read; {', '.join(_READABLE)} can")
    if cfg.get("reshape_activations") not in ("none", None):
        raise ValueError(
            f"{source}: reshape_activations={cfg['reshape_activations']!r} cannot be read; only 'none' can: "
            "flatten the heads, then set it to 'none'"
        )
    scale = _input_scale(cfg, scaler, source)
    given = (_pursuit if architecture == "matching_pursuit" else _one_pass)(cfg, parts, scale, source)
    for name, size in zip(("d_in", "d_sae"), given["W_enc"].shape, strict=True):
        if cfg.get(name, size) != size:
            raise ValueError(f"{source}: {name}={cfg[name]} but the weights in {parts.source} have {size}")
    parts.end()
    kind = "transcoder" if architecture in _TRANSCODERS else "sae"
    return Stored(kind, given | without_config(cfg, source))


def _current(cfg: dict[str, Any], source: str) -> dict[str, Any]:
    """A config of before SAELens 6 as SAELens itself understands it."""
    metadata = cfg.get("metadata")
    wrote = cfg.get("sae_lens_version") or (metadata.get("sae_lens_version") if isinstance(metadata, dict) else None)
    major = str(wrote).partition(".")[0]
    if (major.isdigit() and int(major) >= 6) or cfg.get("architecture", "standard") not in _READABLE:
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
    W_dec = parts.take("W_dec", None, None)
    b_dec = parts.take("b_dec", W_dec.shape[1]) / scale
    short, stop = cfg.get("residual_threshold", 1e-2), cfg.get("stop_on_duplicate_support", True)
    if not isinstance(short, int | float) or not isinstance(stop, bool):
        raise ValueError(
            f"{source}: residual_threshold={short!r} or stop_on_duplicate_support={stop!r} is of a wrong kind"
        )
    steps = {"max_iterations": W_dec.shape[1]} if cfg.get("max_iterations") is None else cfg
    rule = MatchingPursuit(whole_number(steps, "max_iterations", 1 << 31, source), float(short) / scale, stop)
    given = {"W_enc": W_dec.T, "W_dec": W_dec, "b_enc": torch.zeros(len(W_dec)), "rule": rule}
    return {**given, "b_dec": b_dec if cfg.get("apply_b_dec_to_input", True) else torch.zeros_like(b_dec)}


def _one_pass(cfg: dict[str, Any], parts: Parts, scale: float, source: str) -> dict[str, Any]:
    architecture = cfg["architecture"]
    tied = architecture not in _TRANSCODERS
    W_enc = parts.take("W_enc", None, None)
    d_in, d_sae = W_enc.shape
    W_dec = parts.take("W_dec", d_sae, d_in if tied else None)
    b_dec = parts.take("b_dec", W_dec.shape[1])
    stretch, b_enc, threshold = _firing(architecture, parts, d_sae)
    W_enc = W_enc * stretch
    if cfg.get("rescale_acts_by_decoder_norm") and architecture in _NORMS:
        norms = W_dec.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms[:, None]
    if tied and not cfg.get("apply_b_dec_to_input", True):
        b_enc = b_enc + b_dec @ W_enc
    given: dict[str, Any] = {"W_enc": W_enc * scale, "W_dec": W_dec / scale, "b_enc": b_enc, "b_dec": b_dec / scale}
    if "skip" in architecture:
        given["W_skip"] = parts.take("W_skip", W_dec.shape[1], d_in).T.contiguous()
    rule = TopK(whole_number(cfg, "k", d_sae, source)) if architecture == "topk" else Threshold(threshold)
    return {**given, "rule": rule}


def _firing(architecture: str, parts: Parts, d_sae: int) -> tuple[Tensor, Tensor, Tensor]:
    """What encoder rows are multiplied with, b_enc, and the thresholds (SAELens applies a ReLU beside them)."""
    one, zero = torch.ones(d_sae), torch.zeros(d_sae)
    if architecture == "gated":
        b_gate, b_mag, r_mag = (parts.take(name, d_sae) for name in ("b_gate", "b_mag", "r_mag"))
        return r_mag.exp(), b_mag, (b_mag - r_mag.exp() * b_gate).clamp(min=0)
    b_enc = parts.take("b_enc", d_sae)
    if "batchtopk" in architecture:
        return one, b_enc, (zero + parts.take("topk_threshold")).clamp(min=0)
    if "jumprelu" not in architecture:
        return one, b_enc, zero
    if "log_threshold" in parts:
        return one, b_enc, parts.take("log_threshold", d_sae).exp()
    return one, b_enc, parts.take("threshold", d_sae).clamp(min=0)
