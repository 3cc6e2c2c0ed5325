"""Which tokens a latent promotes, and whether they follow its firings.

With e_t the direct effect on the logit of token t (`interp.features.decoder`), P the tokens that follow the
firings, each weighted by its activation, and U the text's unigrams:

    next_auroc = P(e_s > e_t) + ½ P(e_s = e_t),   s ~ P, t ~ U        ½: they follow no more often than in any text

e is compared to 1/4096 of its range over the vocabulary. The counts of what follows are those of all firings.
"""

from typing import Any

import numpy as np
import torch
from numba import njit

from interp.features.decoder import LogitPath
from interp.features.token_counts import TokenCounts

_LEVELS = 4096


@torch.no_grad()
def logit_columns(
    path: LogitPath, first: int, last: int, following: TokenCounts | None, unigrams: np.ndarray, k: int
) -> dict[str, Any]:
    """Columns of the features table for latents first .. last; none where there is no path to the logits.

    `following` counts the tokens behind the firings; None where they were not counted.
    """
    if path.directions is None or path.W_U is None:
        return {}
    effects = path.directions[first:last] @ path.W_U
    effects -= effects.mean(1, keepdim=True)
    top, bottom = (effects.topk(min(k, effects.shape[1]), largest=largest) for largest in (True, False))
    columns = {
        "top_logit_tokens": list(top.indices.numpy()),
        "top_logits": list(top.values.numpy()),
        "bottom_logit_tokens": list(bottom.indices.numpy()),
        "bottom_logits": list(bottom.values.numpy()),
    }
    if following is None:
        return columns
    n_next, share, auroc = _follow(effects.numpy(), top.indices.numpy(), unigrams, following.starts, following.pairs)
    return columns | {"top_logit_next": list(n_next), "top_logit_next_share": list(share), "next_auroc": auroc}


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
