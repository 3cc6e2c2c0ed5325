"""Keep text encoders of Hugging Face from reading padding, in whatever way they were loaded."""

from inspect import signature
from typing import Any

from torch import Tensor, nn


def padding_mask(module: nn.Module, tokens: Tensor, tokenizer: Any = None) -> dict[str, Tensor]:
    """Return the argument that keeps a text encoder of Hugging Face, in which every token reads all others, from
    reading padding; none for a text without padding, and for any other model.
    tokenizer: says which id is padding; the encoder's configuration does if there is none."""
    can_generate = getattr(module, "can_generate", None)
    is_encoder = can_generate is not None and not hasattr(module, "hook_dict") and not can_generate()
    if not is_encoder or tokens.is_floating_point() or "attention_mask" not in signature(module.forward).parameters:
        return {}
    owner, end = (getattr(module, "config", None), "_token_id") if tokenizer is None else (tokenizer, "_id")
    padding, *ends = (getattr(owner, f"{name}{end}", None) for name in ("pad", "bos", "eos"))
    if padding is None or padding in ends or not bool((is_padding := tokens == padding).any()):
        return {}
    return {"attention_mask": (~is_padding | is_padding.all(1, keepdim=True)).long()}
