"""Find the sizes of a language model, in whatever way it was loaded."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def size_of(model: nn.Module, name: str) -> int | None:
    """Return n_ctx or d_vocab, as recorded by a language model, its `cfg` or Hugging Face's `config`; None if none has
    it. XLNet, which has no longest context, records −1. RoBERTa and its kin count positions from that of the padding
    on, and have fewer than they record."""
    values = (getattr(owner, name, None) for owner in (model, getattr(model, "cfg", None)))
    if (size := _first_size(values)) is not None:
        return size
    config: Any = getattr(model, "config", None)
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    theirs = {"n_ctx": ("max_position_embeddings", "n_ctx", "max_seq_len"), "d_vocab": ("vocab_size",)}[name]
    size = _first_size(getattr(text_config, key, None) for key in theirs)
    return size and size - (_n_unused_positions(model) if name == "n_ctx" else 0)


def _first_size(sizes: Iterable[Any]) -> int | None:
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)


def _n_unused_positions(model: nn.Module) -> int:
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    unused = (table.padding_idx for table in tables if isinstance(table, nn.Embedding))
    return max((last + 1 for last in unused if last is not None), default=0)
