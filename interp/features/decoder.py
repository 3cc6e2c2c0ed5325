"""What each latent's decoder direction says: the directions near it, the logits it pushes, and whether they follow.

The direct effect of a latent at activation 1 on the logits, with its direction in front of the unembedding
(`features.logit_path`):

    effect = direction W_U,  minus its mean over the vocabulary

Of the vocabulary are listed the tokens that occur in the text at least `ScanConfig.min_occurrences` times: a model was
hardly taught those that never do, so they have the largest effects of all, and what they say can be seen nowhere. The
mean is over the whole vocabulary none the less, so that an effect is the same number whatever text is scanned. How the
effects on those tokens are spread is kept as counts in N_LOGIT_BINS bins of equal width, from the least to the largest.
With P the tokens that follow the firings, each weighted by its activation, and U the text's unigrams:

    next_auroc = P(effect_s > effect_t) + ½ P(effect_s = effect_t),   s ~ P, t ~ U     ½: no more often than in any text

compared to 1/4096 of the effect's range over the vocabulary. The counts of what follows are those of all firings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from interp.features.chunks import Rows
from interp.features.logit_path import LogitPath
from interp.features.token_counts import TokenCounts

N_LOGIT_BINS = 40
_BLOCK = 256
_LEVELS = 4096


@dataclass(frozen=True)
class Decoder:
    """What is known of a dictionary besides its codes; each part may be missing."""

    W_dec: Float[Tensor, "latent d_in"] | None
    W_enc: Float[Tensor, "d_in latent"] | None
    logits: LogitPath = LogitPath("no logit effects: no model was given")
    fvu_rise: Float[Tensor, " latent"] | None = None
    """`features.contributions`."""

    @cached_property
    @torch.no_grad()
    def norms(self) -> dict[str, np.ndarray]:
        """Columns of the features table: of the decoder row, the length and the cosine with the encoder's column; the
        rise of FVU without the latent."""
        if self.W_dec is None:
            return {}
        W_dec = self.W_dec.detach().float().cpu()
        columns = {"dec_norm": W_dec.norm(dim=1).numpy()}
        if self.W_enc is not None:
            W_enc = self.W_enc.detach().float().cpu().T
            columns["enc_dec_cosine"] = torch.nn.functional.cosine_similarity(W_enc, W_dec).numpy()
        if self.fvu_rise is not None:
            columns["fvu_rise"] = self.fvu_rise.float().numpy()
        return columns


@torch.no_grad()
def logit_columns(path: LogitPath, latents: slice, following: TokenCounts | None, rows: Rows) -> dict[str, Any]:
    """Columns of the features table for some latents; none where there is no path to the logits.

    `following` counts the tokens behind the firings; None where they were not counted.
    """
    if path.directions is None or path.W_U is None:
        return {}
    effects = path.directions[latents] @ path.W_U
    effects -= effects.mean(1, keepdim=True)
    shown = torch.from_numpy(np.flatnonzero(rows.unigrams[: effects.shape[1]] >= rows.config.min_occurrences))
    k = min(rows.config.n_logits, len(shown))
    columns: dict[str, Any] = {}
    tokens: dict[str, np.ndarray] = {}
    for side, largest in (("top", True), ("bottom", False)):
        best = effects[:, shown].topk(k, largest=largest)
        tokens[side] = shown[best.indices].numpy()
        columns |= {f"{side}_logit_tokens": list(tokens[side]), f"{side}_logits": list(best.values.numpy())}
    spread = (torch.histc(own[shown], N_LOGIT_BINS) for own in effects)
    columns["logit_counts"] = [counts.int().numpy() for counts in spread]
    if following is None:
        return columns
    n_next, share, auroc = _follow(effects.numpy(), tokens["top"], rows.unigrams, *following)
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
