"""A model in which some hooks keep the output that they have on a prompt, whatever is changed before them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Int
from torch import Tensor

from models.transformer import Transformer

HELD = {
    "nothing held": (),
    "final norm held": ("ln_final.hook_scale",),
    "norms held": ("hook_scale",),
    "patterns held": ("hook_pattern",),
    "norms and patterns held": ("hook_scale", "hook_pattern"),
}
"""The parts that can be held, as hooks, by the ends of their names."""


@contextmanager
def hold_hooks(model: Transformer, tokens: Int[Tensor, "1 pos"], ends: tuple[str, ...]) -> Iterator[None]:
    """Inside the block, hooks whose names end in one of `ends` return the output that they have on `tokens`."""
    names = [name for name in model.hook_dict if name.endswith(ends)] if ends else []
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names)
    with ExitStack() as stack:
        for name in names:
            kept = cache[name]
            point = model.hook_dict[name]
            stack.enter_context(point.register_forward_hook(lambda _, __, out, kept=kept: kept.expand(out.shape)))
        yield
