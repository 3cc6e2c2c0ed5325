"""A dictionary told in a line, and shown in a notebook.

In: an SAE. Out: `TopK(128 → 4096, k=8, blocks.0.hook_resid_post)`; HTML with what it was trained with.
"""

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

from interp.notebook import card, facts

if TYPE_CHECKING:
    from interp.sae.model import SAE

SHOWN = ("k", "target_l0", "l1")
"""What sets how many latents fire; the first of them that a dictionary has is told."""
_ALWAYS = ("batch_size", "seed")


def describe(sae: "SAE") -> str:
    """Its architecture, or, of one from elsewhere, the rule by which it encodes; widths, sparsity and place."""
    given = sae.config if sae.config is not None else sae.rule
    name = type(given).__name__.removesuffix("Config")
    sparsity = [f"{field}={value}" for field in SHOWN if (value := getattr(given, field, None)) is not None][:1]
    widths = f"{sae.d_in} → {sae.d_sae}" + ("" if sae.d_out == sae.d_in else f" → {sae.d_out}")
    places = _places(sae)
    kind = "" if sae.kind == "sae" else f" {sae.kind}"
    return f"{name}{kind}({', '.join([widths, *sparsity, *places])})"


def show(sae: "SAE") -> str:
    config, metadata = sae.config, sae.metadata
    n_parameters = sum(each.numel() for each in sae.parameters())
    known = {"parameters": f"{n_parameters:,}", "model": metadata.get("model_name")}
    known["context"] = metadata.get("context_size")
    if config is None:
        return card(describe(sae), facts({**known, "training": "elsewhere"}))
    default = {field.name: field.default for field in fields(config) if field.default is not MISSING}
    changed = {name: value for name in default if (value := getattr(config, name)) != default[name] or name in _ALWAYS}
    return card(describe(sae), facts(known), facts({"trained on": f"{config.tokens:,} tokens", **changed}))


def _places(sae: "SAE") -> list[str]:
    """The hook it belongs to; of a transcoder the two, of a crosscoder all."""
    hooks = sae.metadata.get("hook_names") or [sae.metadata.get("hook_name"), sae.metadata.get("hook_name_out")]
    return [" → ".join(str(hook) for hook in dict.fromkeys(hooks) if hook)] if any(hooks) else []
