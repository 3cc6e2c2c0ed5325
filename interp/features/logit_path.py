"""The direct path from a hook to the logits: which logits a decoder direction raises.

It has two steps, in any model that shows its unembedding `W_U`:

1. A decoder row becomes a direction d in the residual stream. At a hook of the stream it is the row itself; elsewhere
   the row is multiplied with the output matrix of its MLP or attention, W_out or W_O.
2. The final norm is  norm(x) = w (x − c mean(x)) / s(x) + b  with c = 1 (LayerNorm) or 0 (RMS norm). Since its class
   may be unknown, w, c and s are measured on chosen inputs. The path uses the s that occurs in the text that was
   encoded, which leaves out padding:

    direction = w (d − c mean(d)) · mean over tokens of 1 / s        effect = direction W_U, minus its mean over tokens

This is the mean gradient of the norm's output along d, with s held fixed. If the model multiplies its logits by a
factor, as Cohere and Granite do, so is the effect. It leaves out the effect of later layers, and other operations after
the unembedding (a soft cap, a bias).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from interp.activations.hooks import Hook, capture, evaluating, hook_named, hooks_of, to_model
from interp.activations.next_tokens import NoNextTokens, check_predicts_next, logits_of
from interp.checks.errors import InterpError

_RESIDUAL_HOOK = re.compile(r"(blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)|hook_(pos_)?embed)$")
_INNER_HOOK = re.compile(r"blocks\.(\d+)\.(mlp\.hook_post|attn\.hook_z)$")
_N_SEQUENCES, _N_POSITIONS = 2, 32
"""The tokens by which a factor of the logits is measured: few, as each has logits of the whole vocabulary."""
_ROUNDING = 0.01
"""Share by which logits in half precision may differ."""
_INPUT_LENGTH = 1e4
"""The length of the inputs on which a norm is measured. It is so large that the norm's epsilon (1e-5) is negligible."""


@dataclass(frozen=True)
class LogitPath:
    """Directions before the unembedding, and the unembedding. Without them, `note` gives the reason."""

    note: str = "no logit effects: no model was given"
    directions: Float[Tensor, "latent d_model"] | None = None
    W_U: Float[Tensor, "d_model d_vocab"] | None = None
    blocks_past: int = 0
    """Number of blocks of the model, or parts of blocks, that follow the hook and that the path leaves out."""


@torch.no_grad()
def logit_path(
    W_dec: Float[Tensor, "latent d_in"],
    model: nn.Module,
    hook_name: str,
    tokens: Int[Tensor, "seq pos"],
    counted: Bool[Tensor, "seq pos"] | None = None,
) -> LogitPath:
    """Return the path to the logits from the hook that a dictionary writes.
    tokens: the text on which the scale of the final norm is measured.
    counted: the tokens that count in it, not padding; by default all."""
    W_U = getattr(model, "W_U", None)
    if W_U is None:
        return LogitPath("no logit effects: the model has no W_U")
    if not hook_name:
        return LogitPath("no logit effects: the transcoder does not name the hook that it writes")
    directions = _in_residual_stream(W_dec.detach(), model, hook_name)
    if directions is None:
        return LogitPath(f"no logit effects: no direct path from {hook_name} to the logits is known")
    if directions.shape[1] != W_U.shape[0]:
        return LogitPath(f"no logit effects: {hook_name} has width {directions.shape[1]}, W_U reads {W_U.shape[0]}")
    try:
        check_predicts_next(model, tokens)
    except NoNextTokens as reason:
        return LogitPath(f"no logit effects: {reason}")
    norm = getattr(model, "final_norm", getattr(model, "ln_final", None))
    through = "without a final norm"
    if norm is not None:
        with evaluating(model):
            inputs = capture(model, to_model(model, tokens), {"norm": Hook(norm, "input")})["norm"]
            factor = _logit_factor(model, norm, W_U, tokens)
        if counted is not None and counted.any():
            inputs = inputs[counted.to(inputs.device)]
        linear = _as_linear(norm, inputs.float().flatten(0, -2))
        if linear is None:
            return LogitPath(f"no logit effects: {type(norm).__name__} is neither a LayerNorm nor an RMS norm")
        directions = _centre_and_weight(directions, linear.weight, linear.centres) * (linear.inverse_scale * factor)
        times = "" if factor == 1 else f" and the model's factor {factor:.4g}"
        through = f"through the final norm's mean scale {1 / linear.inverse_scale:.4g}{times}"
    blocks = _blocks_after(model, hook_name)
    past = f", past {blocks} later block{'' if blocks == 1 else 's'}" if blocks else ""
    return LogitPath(f"logit effects {through}{past}", directions.cpu(), W_U.detach().float().cpu(), blocks)


def check_unembedding(W_U: Float[Tensor, "d_model d_vocab"] | None, tokens: Int[Tensor, "seq pos"]) -> None:
    """Check that W_U has a column for every token that occurs. Raises ValueError if it has fewer. More are usual, since
    vocabularies are padded."""
    if W_U is not None and W_U.shape[1] <= (high := int(tokens.max())):
        raise InterpError(f"W_U has {W_U.shape[1]} tokens, but token id {high} occurs: give the model's own")


def _in_residual_stream(rows: Float[Tensor, "latent d_in"], model: Any, hook_name: str) -> Tensor | None:
    """Return the vectors that decoder rows at a hook add to the residual stream, or None if they are unknown."""
    hooks = hooks_of(model)
    hook = hook_named(hooks, hook_name)
    names = _names_of(hooks, hook_name)
    rows = rows.to(model.W_U.device, torch.float32)
    if any(map(_RESIDUAL_HOOK.match, names)):
        return rows
    inside = next(filter(None, map(_INNER_HOOK.match, names)), None)
    if inside is None:
        return None
    part = inside[2].split(".")[0]
    if hook is None or hook.side == "output":
        return _through_weights(rows, model, int(inside[1]), part)
    written = hooks.get(f"blocks.{inside[1]}.hook_{part}_out")
    if written is None or hook.module not in set(written.module.modules()):  # a norm comes between
        return None
    return _run(hook.module, rows) - _run(hook.module, torch.zeros_like(rows[:1]))


def _names_of(hooks: Mapping[str, Hook], hook_name: str) -> list[str]:
    """Return the given name of a hook, followed by all its other names."""
    hook = hook_named(hooks, hook_name)
    return [hook_name, *(name for name, other in hooks.items() if other == hook)]


def _blocks_after(model: nn.Module, hook_name: str) -> int:
    """Count the blocks that read the output at a hook, including a block of which only the MLP does."""
    hooks = hooks_of(model)
    names = _names_of(hooks, hook_name)
    last = max((int(m[1]) for name in hooks if (m := re.match(r"blocks\.(\d+)\.", name))), default=-1)
    for name in names:
        if match := re.match(r"blocks\.(\d+)\.(hook_resid_post|hook_mlp_out|mlp\.hook_post)?", name):
            return max(0, last - int(match[1]) + (match[2] is None))  # a model within another module has other names
    return last + 1


def _through_weights(rows: Tensor, model: Any, layer: int, part: str) -> Tensor | None:
    """Return the path through the weights of a block, in a model with TransformerLens's names."""
    block: Any = model.blocks[layer]
    if getattr(block, "ln2_post" if part == "mlp" else "ln1_post", None) is not None:
        return None
    weight = block.mlp.W_out if part == "mlp" else block.attn.W_O
    weight = weight.detach().float().reshape(-1, weight.shape[-1])
    return rows @ weight if len(weight) == rows.shape[1] else None


class _Linear(NamedTuple):
    """A norm whose scale is held fixed."""

    weight: Float[Tensor, " d_model"]
    centres: bool
    inverse_scale: float
    """The mean over tokens of 1 / s."""


def _as_linear(norm: nn.Module, x: Float[Tensor, "row d_model"]) -> _Linear | None:
    """Return a norm as a linear map, or None for a module that is not such a norm.
    x: the norm's inputs in a text."""
    probe = torch.ones_like(x[:1])
    probe[:, ::2] = -1
    probe = _INPUT_LENGTH * (probe - probe.mean())  # its mean is 0 and no entry is 0, so s is its root mean square
    along, against = _run(norm, probe), _run(norm, -probe)
    weight = (along - against) / 2 / probe * probe.square().mean().sqrt()
    bias = (along + against) / 2
    centres = torch.allclose(_run(norm, probe + _INPUT_LENGTH), along, rtol=1e-3, atol=1e-3)
    normed = _run(norm, x) - bias
    shaped = _centre_and_weight(x, weight, centres)
    inverse = (normed * shaped).sum(1, keepdim=True) / shaped.square().sum(1, keepdim=True)
    if (shaped * inverse - normed).norm() > 1e-3 * normed.norm():
        return None
    return _Linear(weight[0], centres, float(inverse.mean()))


def _logit_factor(model: nn.Module, norm: nn.Module, W_U: Tensor, tokens: Int[Tensor, "seq pos"]) -> float:
    """Return the factor by which a model multiplies the logits of its unembedding: 1 if they are no multiple of these.
    A bias, which is the same at each position, does not count."""
    normed = list[Tensor]()
    with Hook(norm).attach(lambda acts: normed.append(acts.detach())):
        logits = logits_of(model(to_model(model, tokens[:_N_SEQUENCES, :_N_POSITIONS]))).flatten(0, 1)
    unscaled = normed[-1].flatten(0, 1).float() @ W_U.detach().float()
    if logits.shape != unscaled.shape:
        return 1.0
    logits, unscaled = (x - x.mean(0) for x in (logits, unscaled))
    factor = float((logits * unscaled).sum() / unscaled.square().sum().clamp(min=1e-30))
    is_multiple = float((logits - factor * unscaled).norm()) <= _ROUNDING * float(logits.norm())
    return factor if is_multiple and factor > 0 and abs(factor - 1) > _ROUNDING else 1.0


def _centre_and_weight(x: Tensor, weight: Tensor, centres: bool) -> Tensor:
    return (x - x.mean(1, keepdim=True) if centres else x) * weight


def _run(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module in single precision, whatever the model's precision is."""
    weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return functional_call(module, {name: weight.detach().float() for name, weight in weights.items()}, (x,))
