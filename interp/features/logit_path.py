"""The direct path from a hook to the logits, of any model that shows its unembedding `W_U`.

In:  decoder rows, a model, the name of a hook. Out: `LogitPath`, directions with  effect = direction W_U.

1. A row becomes a direction d in the residual stream: itself at a hook of the stream, or what the output matrix of its
   MLP or attention makes of it, W_out or W_O.
2. Final norms of every make are  norm(x) = w (x − c mean(x)) / s(x) + b  with c = 1 (LayerNorm) or 0 (RMS norm). Which
   w, c, s is asked of the norm itself, by what it makes of chosen inputs. The path takes s as it is in the text:

    direction = w (d − c mean(d)) · mean over tokens of 1 / s

That is the mean gradient of what the norm puts out along d, s held fixed. What later layers do is not in it, nor what
comes behind the unembedding (a soft cap, a bias).
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from interp.hooks import Hook, capture, find_hook, hooks_of, to_model

_RESIDUAL = re.compile(r"(blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)|hook_(pos_)?embed)$")
_INSIDE = re.compile(r"blocks\.(\d+)\.(mlp\.hook_post|attn\.hook_z)$")
_FAR = 1e4
"""The length of an input on which a norm is tried: what is added to its variance (1e-5) is nothing beside it."""


@dataclass(frozen=True)
class LogitPath:
    """Directions in front of the unembedding and the unembedding, or why there is none."""

    note: str
    directions: Float[Tensor, "latent d_model"] | None = None
    W_U: Float[Tensor, "d_model d_vocab"] | None = None


@torch.no_grad()
def logit_path(
    W_dec: Float[Tensor, "latent d_in"], model: nn.Module, hook_name: str, tokens: Int[Tensor, "seq pos"]
) -> LogitPath:
    """The path from a hook to the logits; the scale of the final norm is measured on `tokens`."""
    W_U = getattr(model, "W_U", None)
    if W_U is None:
        return LogitPath("no logit effects: the model has no W_U")
    directions = _in_residual_stream(W_dec.detach(), model, hook_name)
    if directions is None:
        return LogitPath(f"no logit effects: no direct path from {hook_name} to the logits is known")
    if directions.shape[1] != W_U.shape[0]:
        return LogitPath(f"no logit effects: {hook_name} has width {directions.shape[1]}, W_U reads {W_U.shape[0]}")
    norm, through = getattr(model, "final_norm", getattr(model, "ln_final", None)), "without a final norm"
    if norm is not None:
        inputs = capture(model, to_model(model, tokens), {"norm": Hook(norm, "input")})["norm"]
        linear = _as_linear(norm, inputs.float().flatten(0, -2))
        if linear is None:
            return LogitPath(f"no logit effects: {type(norm).__name__} is no LayerNorm and no RMS norm")
        directions = linear.apply(directions)
        through = f"through the final norm's mean scale {1 / linear.inverse_scale:.4g}"
    return LogitPath(f"logit effects {through}", directions.cpu(), W_U.detach().float().cpu())


def check_unembedding(W_U: Float[Tensor, "d_model d_vocab"] | None, tokens: Int[Tensor, "seq pos"]) -> None:
    """Raises ValueError for one of fewer tokens than occur. One of more is usual: vocabularies are padded."""
    if W_U is not None and W_U.shape[1] <= int(tokens.max()):
        raise ValueError(
            f"W_U is of {W_U.shape[1]} tokens, but token id {int(tokens.max())} occurs: give the model's own"
        )


def _in_residual_stream(rows: Float[Tensor, "latent d_in"], model: nn.Module, hook_name: str) -> Tensor | None:
    """What rows at a hook add to the residual stream; None where that is not known."""
    known = hooks_of(model)
    hook = find_hook(known, hook_name)
    names = [hook_name] + [name for name, other in known.items() if other == hook]
    W_U: Any = model.W_U
    rows = rows.to(W_U.device, torch.float32)
    if any(map(_RESIDUAL.match, names)):
        return rows
    inside = next(filter(None, map(_INSIDE.match, names)), None)
    if inside is None:
        return None
    part = inside[2].split(".")[0]
    if hook is None or hook.reads == "output":
        return _through_weights(rows, model, int(inside[1]), part)
    written = known.get(f"blocks.{inside[1]}.hook_{part}_out")
    if written is None or hook.module not in set(written.module.modules()):  # a norm comes between
        return None
    return _run(hook.module, rows) - _run(hook.module, torch.zeros_like(rows[:1]))


def _through_weights(rows: Tensor, model: Any, layer: int, part: str) -> Tensor | None:
    """In a model with TransformerLens's names of weights."""
    block: Any = model.blocks[layer]
    if getattr(block, "ln2_post" if part == "mlp" else "ln1_post", None) is not None:
        return None
    weight = block.mlp.W_out if part == "mlp" else block.attn.W_O
    weight = weight.detach().float().reshape(-1, weight.shape[-1])
    return rows @ weight if len(weight) == rows.shape[1] else None


class _Linear(NamedTuple):
    """A norm with its scale held fixed."""

    weight: Float[Tensor, " d_model"]
    centres: bool
    inverse_scale: float
    """Mean over tokens of 1 / s."""

    def apply(self, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        return _shaped(x, self.weight, self.centres) * self.inverse_scale


def _as_linear(norm: nn.Module, x: Float[Tensor, "row d_model"]) -> _Linear | None:
    """None for a module that is no norm as above; `x` is what it reads in a text."""
    probe = torch.ones_like(x[:1])
    probe[:, ::2] = -1
    probe = _FAR * (probe - probe.mean())  # of mean 0 and without a zero, so that s is its root mean square
    along, against = _run(norm, probe), _run(norm, -probe)
    weight, bias = (along - against) / 2 / probe * probe.square().mean().sqrt(), (along + against) / 2
    centres = torch.allclose(_run(norm, probe + _FAR), along, rtol=1e-3, atol=1e-3)
    found, shaped = _run(norm, x) - bias, _shaped(x, weight, centres)
    inverse = (found * shaped).sum(1, keepdim=True) / shaped.square().sum(1, keepdim=True)
    if (shaped * inverse - found).norm() > 1e-3 * found.norm():
        return None
    return _Linear(weight[0], centres, float(inverse.mean()))


def _shaped(x: Tensor, weight: Tensor, centres: bool) -> Tensor:
    return (x - x.mean(1, keepdim=True) if centres else x) * weight


def _run(module: nn.Module, x: Tensor) -> Tensor:
    """In single precision, whatever that of the model is."""
    weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return functional_call(module, {name: weight.detach().float() for name, weight in weights.items()}, (x,))
