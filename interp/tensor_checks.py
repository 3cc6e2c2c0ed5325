"""Tensors from anywhere, looked at first: token ids, before counts take memory for each id, and finite numbers."""

from jaxtyping import Int
from torch import Tensor

MAX_ID = (1 << 22) - 1
"""Sixteen times the largest vocabulary of a language model in 2025 (262,144); nothing is said of larger ids."""


def check_finite(**tensors: Tensor | None) -> None:
    """Raises ValueError for the first that holds a number that is not finite; None is let through."""
    for name, tensor in tensors.items():
        if tensor is not None and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} {tuple(tensor.shape)} holds numbers that are not finite: mend the dictionary")


def check_token_ids(tokens: Int[Tensor, "seq pos"], n_vocab: int | None = None) -> int:
    """The largest id. Raises ValueError where they are no integers [seq, pos] from 0 on, or one is beyond the
    vocabulary, or, where none is given, beyond any."""
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.is_complex() or tokens.element_size() < 1:
        raise ValueError(f"tokens of type {getattr(tokens, 'dtype', type(tokens).__name__)} must be an integer tensor")
    if tokens.ndim != 2 or tokens.numel() == 0:
        raise ValueError(f"tokens are {tuple(tokens.shape)}: (seq, pos) with at least one token is needed")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0:
        raise ValueError(f"token id {low} occurs: ids count from 0")
    if n_vocab is None and high > MAX_ID:
        raise ValueError(
            f"token id {high} occurs, beyond any vocabulary: pass vocab, or number the tokens up to {MAX_ID}"
        )
    if n_vocab is not None and high >= n_vocab:
        raise ValueError(f"vocab has {n_vocab} strings, but token id {high} occurs: give the model's own tokens")
    return high


def is_constant(ids: Int[Tensor, " id"]) -> bool:
    """Whether all are the same, of some at least."""
    return len(ids) > 0 and bool((ids == ids[0]).all())
