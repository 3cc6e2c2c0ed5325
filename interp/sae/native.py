"""Our own format: any dictionary, in the two files of SAELens's folder, with the architecture `interp`.

`cfg.json` says what it is (`kind`) and how it encodes (`rule`); thresholds are tensors beside the weights. What comes
back is bit for bit what was saved.
"""

from typing import Any

from torch import Tensor

from interp.sae.architectures import SAEConfig, config_from_dict, config_to_dict
from interp.sae.folders import Parts, whole_number
from interp.sae.model import SAE, Crosscoder, Transcoder
from interp.sae.rules import MatchingPursuit, PreActivationRule, Refined, Rule, Threshold, TopK

ARCHITECTURE = "interp"
_KINDS: dict[str, type[SAE]] = {"transcoder": Transcoder, "crosscoder": Crosscoder, "sae": SAE}


def to_native(sae: SAE) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What goes into `cfg.json`, and the tensors."""
    kind = next(name for name, kind in _KINDS.items() if isinstance(sae, kind))
    rule, tensors = _from_rule(sae.rule, "threshold")
    tensors |= {name: getattr(sae, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    cfg: dict[str, Any] = {"architecture": ARCHITECTURE, "kind": kind, "rule": rule, "metadata": with_config(sae)}
    if isinstance(sae, Transcoder) and sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip
    if isinstance(sae, Crosscoder):
        cfg |= {"widths": list(sae.widths), "scales": list(sae.scales)}
    return cfg, tensors


def from_native(cfg: dict[str, Any], parts: Parts, source: str) -> SAE:
    """`source` is the name of the config in errors."""
    kind = _KINDS.get(str(cfg.get("kind")))
    if kind is None:
        raise ValueError(f"{source}: kind={cfg.get('kind')!r} must be one of {', '.join(_KINDS)}")
    W_enc = parts.take("W_enc", None, None)
    d_in, d_sae = W_enc.shape
    W_dec = parts.take("W_dec", d_sae, None if kind is Transcoder else d_in)
    d_out = W_dec.shape[1]
    given: dict[str, Any] = {"W_enc": W_enc, "W_dec": W_dec}
    given |= {"b_enc": parts.take("b_enc", d_sae), "b_dec": parts.take("b_dec", d_out)}
    if kind is Transcoder and "W_skip" in parts:
        given["W_skip"] = parts.take("W_skip", d_in, d_out)
    if kind is Crosscoder:
        given |= _hooks(cfg, d_out, source)
    given["rule"] = _to_rule(cfg.get("rule"), parts, d_sae, source)
    parts.end()
    metadata, config = without_config(cfg, source)
    return kind(**given, config=config, metadata=metadata)


def with_config(sae: SAE) -> dict[str, Any]:
    """The metadata, with the config of the dictionary's training under `interp`."""
    return dict(sae.metadata) if sae.config is None else {**sae.metadata, "interp": config_to_dict(sae.config)}


def without_config(cfg: dict[str, Any], source: str) -> tuple[dict[str, Any], SAEConfig | None]:
    metadata = cfg.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError(f"{source}: metadata={metadata!r} must be an object with named values")
    metadata = dict(metadata)
    ours = metadata.pop("interp", None)
    if ours is None:
        return metadata, None
    try:
        return metadata, config_from_dict(dict(ours))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: metadata.interp is not the config of a dictionary: {error}") from error


def _hooks(cfg: dict[str, Any], d_out: int, source: str) -> dict[str, tuple[Any, ...]]:
    widths, scales = cfg.get("widths"), cfg.get("scales")
    match widths, scales:
        case [[*_], [*_]] if len(widths) == len(scales) and all(isinstance(n, int | float) for n in widths + scales):
            if sum(widths) == d_out:
                return {"widths": tuple(widths), "scales": tuple(scales)}
            raise ValueError(f"{source}: widths={widths} must sum to {d_out}, the width of W_dec")
    raise ValueError(f"{source}: widths={widths!r} and scales={scales!r} must hold one number for each hook")


def _from_rule(rule: Rule, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """As JSON, and its tensors; a refined rule's are numbered."""
    match rule:
        case TopK(k):
            return {"kind": "topk", "k": k}, {}
        case Threshold(threshold):
            return {"kind": "threshold"}, {name: threshold}
        case MatchingPursuit(k, residual_threshold, stop_on_repeat):
            settings = {"residual_threshold": residual_threshold, "stop_on_repeat": stop_on_repeat}
            return {"kind": "matching_pursuit", "k": k} | settings, {}
        case Refined(rules, step):
            each = [_from_rule(inner, f"{name}.{i}") for i, inner in enumerate(rules)]
            tensors = {key: tensor for _, inner in each for key, tensor in inner.items()}
            return {"kind": "refined", "step": step, "rules": [inner for inner, _ in each]}, tensors
    raise ValueError(f"the rule {type(rule).__name__} has no form on disk")


def _to_rule(fields: Any, parts: Parts, d_sae: int, source: str, name: str = "threshold") -> Rule:
    match fields:
        case {"kind": "topk"}:
            return TopK(whole_number(fields, "k", d_sae, source))
        case {"kind": "threshold"}:
            return Threshold(parts.take(name, d_sae))
        case {"kind": "matching_pursuit", "residual_threshold": int() | float() as least, "stop_on_repeat": bool(stop)}:
            return MatchingPursuit(whole_number(fields, "k", 1 << 31, source), least, stop)
        case {"kind": "refined", "step": int() | float() as step, "rules": [_, *_] as rules}:
            inner = [_to_rule(each, parts, d_sae, source, f"{name}.{i}") for i, each in enumerate(rules)]
            picking = tuple(rule for rule in inner if isinstance(rule, PreActivationRule))
            if len(picking) == len(inner):
                return Refined(picking, step)
    raise ValueError(f"{source}: rule={fields!r} is not known")
