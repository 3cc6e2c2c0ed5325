"""The columns of logit effects in the table of features: which tokens a latent raises and lowers most, and whether the
raised ones follow its firings.

Only tokens that occur in the text are listed. Tokens that never occur were hardly trained, so they have the largest
effects of all, and no example could show them. The mean is over the whole vocabulary, so an effect does not depend on
the scanned text. The distribution of the effects on the tokens of the text is kept as counts in N_LOGIT_BINS bins of
equal width. Let P be the distribution of the tokens that follow the firings, each weighted by its activation, and U
that of the text's tokens. Then

    next_auroc = P(effect_s > effect_t) + ½ P(effect_s = effect_t),   s ~ P, t ~ U     ½: no more often than in any text

Effects are compared in steps of 1/4096 of their range over the vocabulary. All firings are counted.
"""

from typing import Any

import numpy as np
import torch
from numba import njit

from interp.features.logit_path import LogitPath
from interp.features.scan_input import ScanInput
from interp.features.token_counts import MASS, TOKEN, N, TokenCounts

N_LOGIT_BINS = 40
_LEVELS = 4096


@torch.no_grad()
def logit_columns(path: LogitPath, latents: slice, following: TokenCounts, scan: ScanInput) -> dict[str, Any]:
    """Return columns of the features table for some latents, or no columns if there is no path to the logits.
    `following` counts the tokens after the firings."""
    if path.directions is None or path.W_U is None:
        return {}
    effects = path.directions[latents] @ path.W_U
    effects -= effects.mean(1, keepdim=True)
    occurring = torch.from_numpy(np.flatnonzero(scan.unigrams[: effects.shape[1]] > 0))
    k = min(scan.config.n_logits, len(occurring))
    columns: dict[str, Any] = {}
    for side in ("top", "bottom"):
        best = effects[:, occurring].topk(k, largest=side == "top")
        of_side = {"logit_tokens": occurring[best.indices], "logits": best.values}
        columns |= {f"{side}_{name}": list(tensor.numpy()) for name, tensor in of_side.items()}
    spread = (torch.histc(effect[occurring], N_LOGIT_BINS) for effect in effects)
    columns["logit_counts"] = [counts.int().numpy() for counts in spread]
    n_next, share, auroc = _count_following(
        effects.numpy(), np.stack(columns["top_logit_tokens"]), scan.unigrams, *following
    )
    return columns | {"top_logit_next": list(n_next), "top_logit_next_share": list(share), "next_auroc": auroc}


@njit(cache=True, nogil=True)
def _count_following(effects, top, unigrams, pair_offsets, pairs):
    """Compute for each latent how often each top token follows its firings, with the share of their mass, and the AUROC
    of the effects for the following tokens.
    pair_offsets, pairs: those of a `TokenCounts`."""
    n_next = np.zeros(top.shape, np.int64)
    share = np.zeros(top.shape)
    auroc = np.empty(len(top))
    n_known = min(effects.shape[1], len(unigrams))
    below = np.empty(_LEVELS + 1, np.int64)  # how many of the text's tokens have an effect below this level
    rank = np.full(effects.shape[1], -1, np.int64)
    for i in range(len(effects)):
        effect = effects[i]
        low = effect.min()
        levels_per_unit = (_LEVELS - 1) / max(np.float64(effect.max()) - low, 1e-30)
        below[:] = 0
        for t in range(n_known):
            below[int((effect[t] - low) * levels_per_unit) + 1] += unigrams[t]
        for level in range(_LEVELS):
            below[level + 1] += below[level]
        rank[top[i]] = np.arange(top.shape[1])
        mass = 0
        known_mass = 0
        won = 0.0
        for pair in range(pair_offsets[i], pair_offsets[i + 1]):
            token, units = pairs[pair, TOKEN], pairs[pair, MASS]
            mass += units
            if token < n_known:
                level = int((effect[token] - low) * levels_per_unit)
                known_mass += units
                won += units * (0.5 * (below[level] + below[level + 1]))
                if rank[token] >= 0:
                    n_next[i, rank[token]] = pairs[pair, N]
                    share[i, rank[token]] = units
        rank[top[i]] = -1
        share[i] /= max(mass, 1)
        auroc[i] = won / (np.float64(known_mass) * below[_LEVELS]) if known_mass > 0 else np.nan
    return n_next, share, auroc
