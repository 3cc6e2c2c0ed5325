"""What each latent's decoder direction says: the directions near it, the logits it pushes, and whether they follow.

The direct effect of a latent at activation 1 on the logits, through the final norm at its mean scale s:

    effect = (d - mean(d)) diag(w) W_U / s,  minus its mean over the vocabulary

with d the latent's direction in the residual stream: its decoder row, or for a hook inside a block the row times that
block's W_out or W_O. (An RMS norm does not centre d; a folded norm has no w.) What later layers do is not in it.
With P the tokens that follow the firings, each weighted by its activation, and U the text's unigrams:

    next_auroc = P(effect_s > effect_t) + ½ P(effect_s = effect_t),   s ~ P, t ~ U     ½: no more often than in any text

compared to 1/4096 of the effect's range over the vocabulary. The counts of what follows are those of all firings.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor

from interp.features.chunks import Rows
from interp.features.token_counts import TokenCounts
from interp.hooks import capture, resolve_hooks, to_model

_RESIDUAL = re.compile(r"(blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)|hook_(pos_)?embed)$")
_BLOCK_HOOK = re.compile(r"blocks\.(\d+)\.(mlp\.hook_post|attn\.hook_z)$")
_BLOCK = 256
_LEVELS = 4096


@dataclass(frozen=True)
class LogitPath:
    """Directions in front of the unembedding and the unembedding, or why there is none."""

    note: str
    directions: Float[Tensor, "latent d_model"] | None = None
    W_U: Float[Tensor, "d_model d_vocab"] | None = None


@dataclass(frozen=True)
class Decoder:
    """What is known of a dictionary besides its codes; each part may be missing."""

    W_dec: Float[Tensor, "latent d_in"] | None
    W_enc: Float[Tensor, "d_in latent"] | None
    logits: LogitPath = LogitPath("no logit effects: no model was given")

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
        return LogitPath("no logit effects: the model has no W_U")
    W_U = W_U.detach().float().cpu()
    to_stream = _to_residual_stream(model, hook_name, W_dec.shape[1], W_U.shape[0])
    if to_stream is None:
        return LogitPath(f"no logit effects: no direct path from {hook_name} to the logits is known")
    directions = W_dec.detach().float().cpu() @ to_stream
    norm = getattr(model, "ln_final", None)
    if norm is not None:
        if "RMS" not in type(norm).__name__:
            directions = directions - directions.mean(1, keepdim=True)
        if getattr(norm, "w", None) is not None:
            directions = directions * norm.w.detach().float().cpu()
    scale = _final_scale(model, tokens)
    through = "without a final norm's scale" if scale is None else f"through the final norm's mean scale {scale:.4g}"
    return LogitPath(f"logit effects {through}", directions / (scale or 1), W_U)


@torch.no_grad()
def logit_columns(path: LogitPath, latents: slice, following: TokenCounts | None, rows: Rows) -> dict[str, Any]:
    """Columns of the features table for some latents; none where there is no path to the logits.

    `following` counts the tokens behind the firings; None where they were not counted.
    """
    if path.directions is None or path.W_U is None:
        return {}
    effects = path.directions[latents] @ path.W_U
    effects -= effects.mean(1, keepdim=True)
    k = min(rows.config.n_logits, effects.shape[1])
    top, bottom = (effects.topk(k, largest=largest) for largest in (True, False))
    columns = {
        "top_logit_tokens": list(top.indices.numpy()),
        "top_logits": list(top.values.numpy()),
        "bottom_logit_tokens": list(bottom.indices.numpy()),
        "bottom_logits": list(bottom.values.numpy()),
    }
    if following is None:
        return columns
    n_next, share, auroc = _follow(effects.numpy(), top.indices.numpy(), rows.unigrams, *following)
    return columns | {"top_logit_next": list(n_next), "top_logit_next_share": list(share), "next_auroc": auroc}


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


def check_unembedding(W_U: Float[Tensor, "d_model d_vocab"] | None, tokens: Int[Tensor, "seq pos"]) -> None:
    """Raises ValueError for one of fewer tokens than occur. One of more is usual: vocabularies are padded."""
    if W_U is not None and W_U.shape[1] <= int(tokens.max()):
        raise ValueError(
            f"W_U is of {W_U.shape[1]} tokens, but token id {int(tokens.max())} occurs: give the model's own"
        )


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


@njit(cache=True, nogil=True)
def _follow(effects, top, unigrams, starts, pairs):
    n_next, share, auroc = np.zeros(top.shape, np.int64), np.zeros(top.shape), np.empty(len(top))
    known = min(effects.shape[1], len(unigrams))
    below = np.empty(_LEVELS + 1, np.int64)  # how many of the text's tokens have an effect below this level
    rank = np.full(effects.shape[1], -1, np.int64)
    for i in range(len(effects)):
        effect = effects[i]
        low = effect.min()
        per_level = (_LEVELS - 1) / max(np.float64(effect.max()) - low, 1e-30)
        below[:] = 0
        for t in range(known):
            below[int((effect[t] - low) * per_level) + 1] += unigrams[t]
        for level in range(_LEVELS):
            below[level + 1] += below[level]
        rank[top[i]] = np.arange(top.shape[1])
        mass, of_known, won = 0, 0, 0.0
        for at in range(starts[i], starts[i + 1]):
            token, units = pairs[at, 0], pairs[at, 3]
            mass += units
            if token < known:
                level = int((effect[token] - low) * per_level)
                of_known += units
                won += units * (0.5 * (below[level] + below[level + 1]))
                if rank[token] >= 0:
                    n_next[i, rank[token]], share[i, rank[token]] = pairs[at, 1], units
        rank[top[i]] = -1
        share[i] /= max(mass, 1)
        auroc[i] = won / (np.float64(of_known) * below[_LEVELS]) if of_known > 0 else np.nan
    return n_next, share, auroc
