"""What each latent's decoder direction says by itself: the logits it pushes, and the directions near it.

The direct effect of a latent at activation 1 on the logits, through the final norm at its mean scale s:

    effect = (d - mean(d)) diag(w) W_U / s,  minus its mean over the vocabulary

with d the latent's direction in the residual stream: its decoder row, or for a hook inside a block the row times that
block's W_out or W_O. (An RMS norm does not centre d; a folded norm has no w.) What later layers do is not in it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.hooks import capture, resolve_hooks, to_model

_RESIDUAL = re.compile(r"(blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)|hook_(pos_)?embed)$")
_BLOCK_HOOK = re.compile(r"blocks\.(\d+)\.(mlp\.hook_post|attn\.hook_z)$")
_BLOCK = 256


@dataclass(frozen=True)
class LogitPath:
    """Directions in front of the unembedding and the unembedding, or why there is none."""

    directions: Float[Tensor, "latent d_model"] | None
    W_U: Float[Tensor, "d_model d_vocab"] | None
    note: str


@dataclass(frozen=True)
class Decoder:
    """What is known of a dictionary besides its codes; each part may be missing."""

    W_dec: Float[Tensor, "latent d_in"] | None
    W_enc: Float[Tensor, "d_in latent"] | None
    logits: LogitPath

    @cached_property
    @torch.no_grad()
    def norms(self) -> dict[str, np.ndarray]:
        """Columns of the features table: the decoder row's length, and its cosine with the encoder's column."""
        if self.W_dec is None:
            return {}
        W_dec = self.W_dec.detach().float().cpu()
        columns = {"dec_norm": W_dec.norm(dim=1).numpy()}
        if self.W_enc is not None:
            W_enc = self.W_enc.detach().float().cpu().T
            columns["enc_dec_cosine"] = torch.nn.functional.cosine_similarity(W_enc, W_dec).numpy()
        return columns


@torch.no_grad()
def logit_path(
    W_dec: Float[Tensor, "latent d_in"], model: torch.nn.Module, hook_name: str, tokens: Int[Tensor, "seq pos"]
) -> LogitPath:
    """The path from a hook to the logits; the scale of the final norm is measured on `tokens`."""
    W_U = getattr(model, "W_U", None)
    if W_U is None:
        return LogitPath(None, None, "no logit effects: the model has no W_U")
    W_U = W_U.detach().float().cpu()
    to_stream = _to_residual_stream(model, hook_name, W_dec.shape[1], W_U.shape[0])
    if to_stream is None:
        return LogitPath(None, None, f"no logit effects: no direct path from {hook_name} to the logits is known")
    directions = W_dec.detach().float().cpu() @ to_stream
    norm = getattr(model, "ln_final", None)
    if norm is not None:
        if "RMS" not in type(norm).__name__:
            directions = directions - directions.mean(1, keepdim=True)
        if getattr(norm, "w", None) is not None:
            directions = directions * norm.w.detach().float().cpu()
    scale = _final_scale(model, tokens)
    through = "without a final norm's scale" if scale is None else f"through the final norm's mean scale {scale:.4g}"
    return LogitPath(directions / (scale or 1), W_U, f"logit effects {through}")


@torch.no_grad()
def neighbour_tables(W_dec: Float[Tensor, "latent d_in"], k: int) -> Iterator[dict[str, np.ndarray]]:
    """The `k` other latents of the highest decoder cosine of each latent, for some latents after the others."""
    unit = torch.nn.functional.normalize(W_dec.detach().float().cpu(), dim=1)
    k = min(k, len(unit) - 1)
    for first in range(0, len(unit), _BLOCK):
        cosine = unit[first : first + _BLOCK] @ unit.T
        latents = torch.arange(first, first + len(cosine))
        cosine[latents - first, latents] = -torch.inf
        best = cosine.topk(k, dim=1)
        yield {
            "latent": latents.repeat_interleave(k).numpy(),
            "other": best.indices.flatten().numpy(),
            "rank": np.tile(np.arange(k), len(latents)),
            "cosine": best.values.flatten().numpy(),
        }


def _to_residual_stream(model: torch.nn.Module, hook_name: str, d_in: int, d_model: int) -> Tensor | None:
    """The linear map from the hooked activation to what it adds to the residual stream."""
    if _RESIDUAL.match(hook_name):
        return torch.eye(d_model) if d_in == d_model else None
    inside = _BLOCK_HOOK.match(hook_name)
    if not inside:
        return None
    block: Any = model.blocks[int(inside[1])]  # type: ignore[index,union-attr]
    weight = block.mlp.W_out if inside[2].startswith("mlp") else block.attn.W_O
    weight = weight.detach().float().cpu().reshape(-1, weight.shape[-1])
    return weight if weight.shape == (d_in, d_model) else None


def _final_scale(model: torch.nn.Module, tokens: Int[Tensor, "seq pos"]) -> float | None:
    """Mean over tokens of what the final norm divides by; None if the model does not show it."""
    name = "ln_final.hook_scale"
    try:
        return float(capture(model, to_model(model, tokens), resolve_hooks(model, [name]))[name].float().mean())
    except ValueError:
        return None
