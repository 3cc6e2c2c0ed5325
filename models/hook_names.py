"""TransformerLens's names for the hooks of any Hugging Face causal language model, found by tracing, not by class.

In:  a model. Out: {name: (module, "output" | "input")}, the side of a module that a name refers to.

One forward pass of a few tokens records the input and output of each module. With x the input of a block and y its
output, a name is assigned only if the numbers confirm it exactly:

    blocks.N.hook_resid_pre, hook_resid_post    x and y
    blocks.N.hook_attn_out, hook_mlp_out        a and m with  y = x + a + m  in some order of the sums
    blocks.N.hook_resid_mid                     the input of a module that reads x + a
    blocks.N.mlp.hook_post, attn.hook_z         the input of the last matrix of the MLP, of attention
    blocks.N.mlp.hook_in, .hook_out             the input of the MLP, after its norm, and its output, before a norm
    hook_embed                                  e with  x_0 = e, or x_0 = e + the output of another embedding
    final_norm                                  the module that reads the last y and is read by the unembedding

So a parallel block has no hook_resid_mid, a block with norms after its MLP has those norms' outputs as hook_mlp_out,
and a mixture of experts has no mlp.hook_post.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

ModuleSide = tuple[nn.Module, Literal["output", "input"]]
"""A module and which side of it."""


@dataclass(frozen=True)
class Trace:
    """A record of each module's input at its first call (the first argument) and its output (the first entry of a
    tuple)."""

    into: dict[nn.Module, Tensor] = field(default_factory=dict)
    out: dict[nn.Module, Tensor] = field(default_factory=dict)

    def was_output(self, module: nn.Module, x: Tensor) -> bool:
        """Return whether the module's output was x."""
        return module in self.out and torch.equal(self.out[module], x)

    def was_input(self, module: nn.Module, x: Tensor) -> bool:
        return module in self.into and torch.equal(self.into[module], x)


@torch.no_grad()
def trace_hooks(model: nn.Module, tokens: Int[Tensor, "seq pos"]) -> Trace:
    seen = Trace()

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        first = next(iter((*args, *kwargs.values())), None)
        if isinstance(first, Tensor) and module not in seen.into:
            seen.into[module] = first.clone()

    def after(module: nn.Module, _: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor) and module not in seen.out:
            seen.out[module] = first.clone()

    with ExitStack() as stack:
        for module in model.modules():
            stack.enter_context(module.register_forward_pre_hook(before, with_kwargs=True))
            stack.enter_context(module.register_forward_hook(after))
        model(tokens)
    return seen


def find_hooks(model: nn.Module, n_layers: int, unembedding: nn.Module | None, seen: Trace) -> dict[str, ModuleSide]:
    """Name the hooks of a model by the rules above. `seen` is the trace of a forward pass of it.

    Empty if its blocks are not found.
    """
    blocks = _blocks(model, n_layers, seen)
    if not blocks:
        return {}
    hooks: dict[str, ModuleSide] = dict(_embedding(model, blocks, seen))
    for n, block in enumerate(blocks):
        hooks |= {f"blocks.{n}.{name}": side for name, side in _of_block(block, seen).items()}
    if unembedding in seen.into:  # a model may use its weights alone, without calling it
        inside = {module for block in blocks for module in block.modules()}
        for module in (module for module in model.modules() if module not in inside and _has_no_matrix(module)):
            if seen.was_output(module, seen.into[unembedding]) and seen.was_input(module, seen.out[blocks[-1]]):
                hooks["final_norm"] = module, "output"
                break
    return hooks


def _has_no_matrix(module: nn.Module) -> bool:
    return all(weight.ndim < 2 for weight in module.parameters())


def _blocks(model: nn.Module, n_layers: int, seen: Trace) -> Sequence[nn.Module]:
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            if all(_keeps_shape(block, seen) for block in module):
                return list(module)
    return []


def _keeps_shape(module: nn.Module, seen: Trace) -> bool:
    return module in seen.into and module in seen.out and seen.into[module].shape == seen.out[module].shape


def _embedding(model: nn.Module, blocks: Sequence[nn.Module], seen: Trace) -> Iterator[tuple[str, ModuleSide]]:
    start = seen.into[blocks[0]]
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding) and module in seen.out]
    for module in embeddings[:1]:
        embedded = seen.out[module]
        sums = (embedded + seen.out[other] for other in embeddings[1:] if seen.out[other].shape[-1] == start.shape[-1])
        if embedded.shape == start.shape and any(torch.equal(start, total) for total in (embedded, *sums)):
            yield "hook_embed", (module, "output")


def _of_block(block: nn.Module, seen: Trace) -> dict[str, ModuleSide]:
    x, y = seen.into[block], seen.out[block]
    parts = {
        name: part for name, part in block.named_children() if part in seen.out and seen.out[part].shape == x.shape
    }
    writers = sorted(parts, key=lambda name: _last_matrix(parts[name], seen) is None)  # before norms and dropouts
    attention, others = ([parts[name] for name in writers if ("att" in name.lower()) == side] for side in (True, False))
    hooks: dict[str, ModuleSide] = {"hook_resid_pre": (block, "input"), "hook_resid_post": (block, "output")}
    for a, m in product(attention, others):
        if _adds_up(x, seen.out[a], seen.out[m], y):
            hooks |= {"hook_attn_out": (a, "output"), "hook_mlp_out": (m, "output")}
            mid = next((part for part in block.children() if seen.was_input(part, x + seen.out[a])), None)
            if mid is not None:
                hooks["hook_resid_mid"] = mid, "input"
            break
    for name, candidates in (("attn.hook_z", attention), ("mlp.hook_post", others)):
        matrix = _last_matrix(candidates[0], seen) if attention and candidates else None  # no state space's mixer
        if matrix is not None and seen.into[matrix].ndim == 3:
            hooks[name] = matrix, "input"
            if name == "mlp.hook_post" and matrix is not candidates[0]:  # OPT's kin has no module of the whole MLP
                hooks["mlp.hook_in"] = candidates[0], "input"
                hooks["mlp.hook_out"] = candidates[0], "output"
    return hooks


def _last_matrix(module: nn.Module, seen: Trace) -> nn.Module | None:
    """Find the linear map inside the module that computes the module's output."""
    for part in reversed(list(module.modules())):
        weight = getattr(part, "weight", None)
        if (
            isinstance(weight, Tensor)
            and weight.ndim == 2
            and part in seen.into
            and seen.was_output(part, seen.out[module])
        ):
            return part
    return None


def _adds_up(x: Tensor, a: Tensor, m: Tensor, y: Tensor) -> bool:
    return any(torch.equal(total, y) for total in ((x + a) + m, (x + m) + a, x + (a + m)))
