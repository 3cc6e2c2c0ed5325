"""Speaking SAELens: dictionaries to and from its folder, and from its releases.

A folder holds `sae_weights.safetensors` (W_enc, W_dec, b_enc, b_dec; JumpReLU adds threshold) and `cfg.json`.
TopK is written as `topk`, a rule with thresholds as `jumprelu`: that is what a trained BatchTopK is. The config that
a dictionary of ours was trained with stands in `cfg.json` under metadata → `interp`.
"""

import dataclasses
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.sae.model import SAE
from interp.sae.selection import BatchTopKConfig, Rule, SAEConfig, Threshold, TopK, TopKConfig

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
_CONFIGS: dict[str, type[SAEConfig]] = {kind.architecture: kind for kind in (TopKConfig, BatchTopKConfig)}


def save_saelens(sae: SAE, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(sae, name).detach() for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    cfg: dict[str, Any] = {
        "architecture": "topk",
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": str(sae.W_dec.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": version("sae-lens"), "prepend_bos": True, **sae.metadata},
    }
    if isinstance(sae.rule, TopK):
        cfg |= {"k": sae.rule.k, "rescale_acts_by_decoder_norm": False}
    elif isinstance(sae.rule, Threshold):
        cfg["architecture"] = "jumprelu"
        tensors["threshold"] = sae.rule.threshold.to(sae.W_dec)
    else:
        raise ValueError(f"SAELens has no architecture for the rule {type(sae.rule).__name__}")
    if sae.config is not None:
        cfg["metadata"]["interp"] = {"architecture": sae.config.architecture, **dataclasses.asdict(sae.config)}
    weights = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(weights, folder / f"{WEIGHTS}.tmp")
    os.replace(folder / f"{WEIGHTS}.tmp", folder / WEIGHTS)
    (folder / f"{CONFIG}.tmp").write_text(json.dumps(cfg, indent=1))
    os.replace(folder / f"{CONFIG}.tmp", folder / CONFIG)


def load_sae(path_or_release: str | Path, sae_id: str | None = None, *, device: str = "cpu") -> SAE:
    """A dictionary from a folder of ours or SAELens's, or from a SAELens release: `load_sae(release, sae_id)`.

    A release name needs the network, or its files in the Hugging Face cache. Raises ValueError for an architecture
    other than topk, jumprelu and standard, and for input scalings that depend on the activations.
    """
    folder = Path(path_or_release)
    if (folder / CONFIG).exists():
        for file in (folder / WEIGHTS, folder / CONFIG):
            if not file.exists():
                raise ValueError(f"{folder} is not a whole dictionary: {file.name} is missing")
        cfg = json.loads((folder / CONFIG).read_text())
        tensors: dict[str, Tensor] = load_file(folder / WEIGHTS)
    elif folder.is_dir() or sae_id is None:
        raise ValueError(
            f"{path_or_release} holds no {CONFIG}: give the folder of a saved dictionary, "
            "or a SAELens release together with a sae_id"
        )
    else:
        import sae_lens

        loaded = sae_lens.SAE.from_pretrained(str(path_or_release), sae_id)
        cfg, tensors = loaded.cfg.to_dict(), dict(loaded.state_dict())
    return _from_saelens(cfg, tensors).to(device)


def _from_saelens(cfg: dict[str, Any], tensors: dict[str, Tensor]) -> SAE:
    scaling, reshape = cfg.get("normalize_activations", "none"), cfg.get("reshape_activations", "none")
    if scaling not in ("none", None) or reshape not in ("none", None):
        raise ValueError(
            f"normalize_activations={scaling!r}, reshape_activations={reshape!r}: only 'none' can be read; "
            "fold them into the weights in SAELens first"
        )
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    if cfg.get("rescale_acts_by_decoder_norm"):
        norms = tensors["W_dec"].norm(dim=1)
        tensors["W_enc"], tensors["b_enc"] = tensors["W_enc"] * norms, tensors["b_enc"] * norms
        tensors["W_dec"] = tensors["W_dec"] / norms[:, None]
    if not cfg.get("apply_b_dec_to_input", True):
        tensors["b_enc"] = tensors["b_enc"] + tensors["b_dec"] @ tensors["W_enc"]
    metadata = dict(cfg.get("metadata") or {})
    ours = metadata.pop("interp", None)
    return SAE(
        **{name: tensors[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")},
        rule=_rule(cfg, tensors),
        config=read_config(ours) if ours else None,
        metadata=metadata,
    )


def _rule(cfg: dict[str, Any], tensors: dict[str, Tensor]) -> Rule:
    match cfg.get("architecture"):
        case "topk":
            return TopK(cfg["k"])
        case "jumprelu":
            return Threshold(tensors["threshold"].clamp(min=0))  # SAELens applies a ReLU as well
        case "standard":
            return Threshold(torch.zeros(len(tensors["W_dec"])))
        case other:
            raise ValueError(f"architecture {other!r} cannot be read; topk, jumprelu and standard can")


def read_config(fields: dict[str, Any]) -> SAEConfig:
    fields = dict(fields)
    return _CONFIGS[fields.pop("architecture")](**fields)
