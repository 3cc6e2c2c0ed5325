"""What the training of a dictionary left out, by its metadata: tokens, positions, and rows above a norm."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from interp.activations.sources import ActivationSource
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary


def untrained_positions(dictionary: Dictionary, n_ctx: int) -> list[int]:
    """Return the positions below n_ctx that were excluded from the dictionary's training, by its metadata."""
    metadata = dictionary.metadata
    excluded = set(metadata.get("exclude_positions") or ())
    if bounds := metadata.get("seqpos_slice"):
        length = metadata.get("context_size") or n_ctx
        trained = range(length)[slice(*bounds)]
        excluded |= set(range(length)) - set(trained)
    return sorted(position for position in excluded if 0 <= position < n_ctx)


def untrained_tokens(dictionary: Dictionary) -> list[int]:
    """Return the token ids that were excluded from the dictionary's training, by its metadata."""
    excluded: Any = dictionary.metadata.get("exclude_special_tokens")
    return sorted(excluded) if isinstance(excluded, list | tuple) else []


def has_trained_token(
    tokens: Int[Tensor, "seq pos"], module: nn.Module, dictionary: Dictionary
) -> Bool[Tensor, "seq pos"]:
    """Mark the tokens that are neither special tokens of the model nor left out of the dictionary's training."""
    ids = {*getattr(module, "special_ids", ()), *untrained_tokens(dictionary)}
    return ~torch.isin(tokens, torch.tensor(sorted(ids), dtype=torch.long, device=tokens.device))


def is_included(tokens: Int[Tensor, "seq pos"], module: nn.Module, dictionary: Dictionary) -> Bool[Tensor, "seq pos"]:
    """Mark the tokens that were included in the dictionary's training. Special tokens of the model, and tokens and
    positions that training left out, are not."""
    included = has_trained_token(tokens, module, dictionary)
    included[:, untrained_positions(dictionary, tokens.shape[1])] = False
    return included


def norm_limit(dictionary: Dictionary) -> float | None:
    """Return the norm above which rows are not meaningful to a dictionary (`metadata["norm_limit"]`); None if it has no
    limit.

    Raises ValueError for a limit that is not a number above 0."""
    limit: Any = dictionary.metadata.get("norm_limit")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise InterpError(f"the dictionary's metadata has norm_limit={limit!r}: it must be a number above 0, or absent")
    return float(limit)


def norm_limit_on(dictionary: Dictionary, store: ActivationSource, hook: str) -> float | None:
    """Return the norm limit of a dictionary if the store may hold rows above it, else None."""
    limit = norm_limit(dictionary)
    return None if limit is None or limit >= store.norm_limits.get(store.name_of(hook), float("inf")) else limit
