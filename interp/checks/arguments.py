"""Check arguments: ids of latents and of tokens, and tensors.

Nothing here imports torch before it is used.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from interp.checks.errors import InterpError
from interp.checks.limits import is_whole_number

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

MAX_ID = (1 << 22) - 1
"""Sixteen times the largest vocabulary of a language model in 2025 (262,144); larger ids are refused if the vocabulary
is unknown."""


def check_latents(latents: "Iterable[int] | Tensor", d_sae: int) -> list[int]:
    """Check latent ids of a dictionary, and return each once, in the given order. Raises ValueError if there are none,
    or if one is not a whole number in 0..d_sae − 1."""
    to_list = getattr(latents, "tolist", None)  # of an array or a tensor
    chosen = to_list() if to_list else list(cast("Iterable[int]", latents))
    if to_list and any(isinstance(latent, bool) for latent in chosen):
        raise InterpError("latents is a mask: give the numbers of its latents, as mask.nonzero() has them")
    for latent in chosen:
        if not is_whole_number(latent) or not 0 <= latent < d_sae:
            raise InterpError(f"latent {latent!r} must be a whole number in 0..{d_sae - 1}, the dictionary's latents")
    if not chosen:
        raise InterpError("latents is empty: name at least one")
    return list(dict.fromkeys(map(int, chosen)))


def has_lone_surrogate(text: str) -> bool:
    """Return whether a text contains half a surrogate pair, which UTF-8 cannot write."""
    return re.search("[\ud800-\udfff]", text) is not None


def check_finite(**tensors: "Tensor | None") -> None:
    """Check that all numbers are finite. Raises ValueError for the first tensor with NaN or infinity; None passes."""
    for name, tensor in tensors.items():
        if tensor is not None and not bool(tensor.isfinite().all()):
            raise InterpError(f"{name} {tuple(tensor.shape)} contains NaN or infinity: fix the weights before loading")


def check_token_ids(tokens: "Int[Tensor, 'seq pos']", n_vocab: int | None = None) -> int:
    """Check token ids, and return the largest. Raises ValueError if they are not integers [seq, pos] from 0 on, or if
    one is outside the vocabulary (without one: above `MAX_ID`)."""
    from torch import Tensor

    if not isinstance(tokens, Tensor):
        raise InterpError(f"tokens is a {type(tokens).__name__}: it must be a tensor of integers [seq, pos]")
    if tokens.is_floating_point() or tokens.is_complex() or tokens.ndim != 2 or tokens.numel() == 0:
        raise InterpError(f"tokens of shape {tuple(tokens.shape)} and {tokens.dtype} must be integers [seq, pos]")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0:
        raise InterpError(f"token id {low} occurs: ids start at 0")
    if n_vocab is None and high > MAX_ID:
        raise InterpError(
            f"token id {high} occurs, which is larger than any vocabulary: pass vocab, or number the tokens up to "
            f"{MAX_ID}"
        )
    if n_vocab is not None and high >= n_vocab:
        raise InterpError(
            f"the vocabulary has {n_vocab} tokens, but token id {high} occurs: tokenize with the model's tokenizer"
        )
    return high
