"""A foreign language model with the interface of interp's own: tokens in, logits out, a tokenizer, named hooks.

`models.load_model` makes it. Hooks have TransformerLens's names if the model's activations confirm them
(`models.hook_names`), and the names of its own submodules; a name that ends in `.input` means the input of a submodule.
"""

import copy
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.checks.errors import InterpError
from interp.runtime.model_sizes import size_of
from interp.runtime.padding import padding_mask
from models.hook_names import ModuleSide, find_hooks, trace_hooks

_N_PROBE_TOKENS = 3
"""Tokens of the forward pass in which hooks are looked for."""
_LAYER = re.compile(r"\.(\d+)(?=\.|$)")


class HookNames(list[str]):
    """Names of hooks. It is shown with a line for those that differ only in their layer."""

    def __repr__(self) -> str:
        layers: dict[str, list[int]] = {}
        for name in self:
            layer = _LAYER.search(name)
            layers.setdefault(_LAYER.sub(".N", name, count=1), []).extend([int(layer[1])] if layer else [])
        lines = [f"{name}    N = {_ranges(numbers)}" if numbers else name for name, numbers in layers.items()]
        return "\n".join([f"{len(self):,} hooks:", *(f"  {line}" for line in lines)])


class LanguageModel(nn.Module):
    """A wrapper of `inner`, a language model or text encoder of Hugging Face, or one of TransformerLens; its
    `state_dict` is that of `inner`."""

    hook_dict: Mapping[str, ModuleSide | nn.Module]
    """The names of hooks: TransformerLens's first, then the names of all submodules."""

    def __init__(self, inner: Any, tokenizer: Any = None, *, name: str = ""):
        super().__init__()
        self.inner: Any = inner
        self.tokenizer = tokenizer
        config: Any = getattr(inner, "config", None)
        self._is_lens = hasattr(inner, "hook_dict")
        accepts = set() if self._is_lens else {*inspect.signature(inner.forward).parameters}
        self._options = {"use_cache": False} if "use_cache" in accepts else {}
        facts: Any = inner.cfg if self._is_lens else config.get_text_config()
        self.name = name or str(getattr(facts, "model_name", None) or getattr(config, "_name_or_path", ""))
        self.d_model = int(getattr(facts, "d_model", None) or facts.hidden_size)
        self.n_layers = int(getattr(facts, "n_layers", None) or facts.num_hidden_layers)
        self.n_ctx: int | None = size_of(inner, "n_ctx")
        self.d_vocab = int(facts.d_vocab if self._is_lens else inner.get_input_embeddings().weight.shape[0])
        self._config = config
        if self._is_lens:
            self._vector_hooks = list(inner.hook_dict)
            self.hook_dict = {**inner.hook_dict, **layer_aliases(self.n_layers, inner.hook_dict)}
        else:
            self._find_hooks(inner)

    def _find_hooks(self, inner: Any) -> None:
        was_training = inner.training
        ids = torch.tensor([[self.d_vocab // n for n in range(2, 2 + _N_PROBE_TOKENS)]])
        ids = ids.repeat(2, 1).to(next(inner.parameters()).device)  # a table of positions puts out [1, pos, …]
        traced = trace_hooks(self.eval(), ids)
        self.train(was_training)
        hooks = find_hooks(inner, self.n_layers, inner.get_output_embeddings(), traced)
        named = {name: module for name, module in inner.named_modules() if name}
        self.hook_dict = {**hooks, **layer_aliases(self.n_layers, hooks), **named}
        fit = (
            name for name, module in named.items() if module in traced.out and traced.out[module].shape[:2] == ids.shape
        )
        names: dict[ModuleSide, str] = {}
        for name, side in (*hooks.items(), *((name, (named[name], "output")) for name in fit)):
            names.setdefault(side, name)
        self._vector_hooks = list(names.values())

    def forward(self, tokens: Int[Tensor, "seq pos"]) -> Float[Tensor, "seq pos d_vocab"]:
        """Return the logits or, if the model has none, its output. A text encoder does not read padding: every token of
        it reads all others."""
        output = self.inner(tokens, **self._options, **padding_mask(self.inner, tokens, self.tokenizer))
        return getattr(output, "logits", output)

    def hooks(self) -> HookNames:
        """List the hooks that return one vector per token, each under one name, TransformerLens's first."""
        return HookNames(self._vector_hooks)

    def __repr__(self) -> str:
        sizes = f"{self.n_layers} layers of width {self.d_model:,}, {self.d_vocab:,} tokens"
        return (
            f"LanguageModel({self.name!r}): {type(self.inner).__name__}, {sizes}, {len(self._vector_hooks):,} hooks "
            "(model.hooks() lists them, model.inner shows its modules)"
        )

    @property
    def cache_reader(self) -> nn.Module:
        """The module that can continue a text from cached keys and values of earlier tokens."""
        return self.inner

    @property
    def blocks(self) -> Any:
        """The blocks of a TransformerLens model, with its names of weights; other models have none."""
        return self.inner.blocks

    @property
    def final_norm(self) -> nn.Module | None:
        """The module between the last block and the unembedding; None if it is not a single module."""
        if self._is_lens:
            return getattr(self.inner, "ln_final", None)
        side: Any = self.hook_dict.get("final_norm")
        return side and side[0]

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"] | None:
        """The unembedding; None if the model has no known one."""
        if self._is_lens:
            return getattr(self.inner, "W_U", None)
        unembedding = self.inner.get_output_embeddings()
        return None if unembedding is None else unembedding.weight.T

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that are not text, such as BOS: the tokenizer's or, if it has none, the configuration's."""
        if self.tokenizer is not None:
            return self.tokenizer.special_ids
        named = (getattr(self._config, f"{end}_token_id", None) for end in ("bos", "eos", "pad"))
        lists = (each if isinstance(each, list) else [each] for each in named)
        return tuple(sorted({i for each in lists for i in each if isinstance(i, int) and 0 <= i < self.d_vocab}))

    def save(self, folder: str | Path) -> None:
        """Write the model and its tokenizer as Hugging Face does, for `load_model` to read.

        Raises ValueError for a model of TransformerLens."""
        if self._is_lens:
            raise InterpError(f"{type(self.inner).__name__} cannot be saved: save the model that it was made from")
        self.inner.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)

    def untrained(self, seed: int = 0) -> "LanguageModel | None":
        """Return a model of this architecture with its initial random weights; None for TransformerLens's models."""
        if self._is_lens:
            return None
        weight = next(self.inner.parameters())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn = type(self.inner)(copy.deepcopy(self.inner.config)).to(weight.device, weight.dtype)
        return LanguageModel(drawn.eval(), self.tokenizer, name=f"{self.name}, untrained")

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.load_state_dict(*args, **kwargs)


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers as ranges: 0 to 3, 5."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a} to {b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))


def layer_aliases(n_layers: int, hooks: Mapping[str, Any]) -> dict[str, Any]:
    """Return Hugging Face's names for the blocks' outputs of a model that has TransformerLens's."""
    named = {f"model.layers.{n}": f"blocks.{n}.hook_resid_post" for n in range(n_layers)}
    return {alias: hooks[name] for alias, name in named.items() if name in hooks}
