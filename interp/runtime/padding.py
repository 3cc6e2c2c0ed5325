"""Keep models of Hugging Face from reading padding, in whatever way they were loaded: text encoders by a mask, and the
others, which read from left to right, by refusing padding before a text."""

from inspect import signature
from typing import Any

from torch import Tensor, nn

from interp.checks.errors import InterpError


def padding_mask(module: nn.Module, tokens: Tensor, tokenizer: Any = None) -> dict[str, Tensor]:
    """Return the argument that keeps a text encoder of Hugging Face, in which every token reads all others, from
    reading padding; none for a text without padding, and for any other model.
    tokenizer: says which id is padding; the encoder's configuration does if there is none."""
    can_generate = getattr(module, "can_generate", None)
    is_encoder = can_generate is not None and not hasattr(module, "hook_dict") and not can_generate()
    if not is_encoder or tokens.is_floating_point() or "attention_mask" not in signature(module.forward).parameters:
        return {}
    padding = _padding_id(module, tokenizer)
    if padding is None or not bool((is_padding := tokens == padding).any()):
        return {}
    return {"attention_mask": (~is_padding | is_padding.all(1, keepdim=True)).long()}


def check_padding(module: nn.Module, tokens: Tensor) -> None:
    """Check that no text begins with padding that the model would read. A single token may divide two texts.

    Raises ValueError if one begins with two or more, unless the model is a text encoder."""
    inner: Any = getattr(module, "inner", module)
    can_generate = getattr(inner, "can_generate", None)
    if can_generate is None or not can_generate() or tokens.shape[1] < 2:
        return
    padding = _padding_id(inner, getattr(module, "tokenizer", None))
    if padding is None:
        return
    is_padding = tokens == padding
    if bool((begins := is_padding[:, :2].all(1) & ~is_padding.all(1)).any()):
        raise InterpError(
            f"sequence {int(begins.int().argmax())} begins with padding (id {padding}), which the model would read "
            'before its text: pad at the end (tokenizer.padding_side = "right")'
        )


def _padding_id(module: nn.Module, tokenizer: Any) -> int | None:
    """Return the id of padding, from the tokenizer or, if there is none, the model's configuration; None if there is no
    id that means nothing else."""
    owner, end = (getattr(module, "config", None), "_token_id") if tokenizer is None else (tokenizer, "_id")
    padding, *ends = (getattr(owner, f"{name}{end}", None) for name in ("pad", "bos", "eos"))
    return None if padding in ends else padding
