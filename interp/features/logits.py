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

_BLOCK = 256
_LEVELS = 4096


class LogitColumns:
    """Columns of the features table; null where there is no path to the logits."""

    def __init__(self, path: LogitPath, k: int, unigrams: np.ndarray):
        self.path, self.k, self.unigrams = path, k, unigrams
        self._parts: dict[str, list[np.ndarray]] = {}

    @torch.no_grad()
    def add(self, first: int, last: int, following: np.ndarray | None) -> None:
        """Latents first .. last, blocks in order. `following`: "pair 4" of latent * vocab_size + the token that
        follows, n, n_fit, mass; keys ascending. None: not counted."""
        if self.path.directions is None or self.path.W_U is None:
            return
        for start in range(first, last, _BLOCK):
            effects = self.path.directions[start : min(start + _BLOCK, last)] @ self.path.W_U
            effects -= effects.mean(1, keepdim=True)
            top, bottom = (effects.topk(min(self.k, effects.shape[1]), largest=largest) for largest in (True, False))
            columns = {
                "top_logit_tokens": top.indices.numpy(),
                "top_logits": top.values.numpy(),
                "bottom_logit_tokens": bottom.indices.numpy(),
                "bottom_logits": bottom.values.numpy(),
            }
            if following is not None:
                columns |= self._following(start, effects.numpy(), top.indices.numpy(), following)
            for name, part in columns.items():
                self._parts.setdefault(name, []).append(part)

    def columns(self) -> dict[str, Any]:
        whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        return {name: column if column.ndim == 1 else list(column) for name, column in whole.items()}

    def _following(self, start: int, effects: np.ndarray, top: np.ndarray, pairs: np.ndarray) -> dict[str, np.ndarray]:
        n_next, share, auroc = np.zeros(top.shape, np.int64), np.zeros(top.shape), np.empty(len(top))
        vocab_size = len(self.unigrams)
        low, high = np.searchsorted(pairs[:, 0], [start * vocab_size, (start + len(top)) * vocab_size])
        _follow(effects, top, start, self.unigrams, pairs[low:high], n_next, share, auroc)
        return {"top_logit_next": n_next, "top_logit_next_share": share, "next_auroc": auroc}


@njit(cache=True, nogil=True)
def _follow(effects, top, start, unigrams, pairs, n_next, share, auroc):
    vocab_size, at = len(unigrams), 0
    known = min(effects.shape[1], vocab_size)
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
        while at < len(pairs) and pairs[at, 0] < (start + i + 1) * vocab_size:
            t = pairs[at, 0] - (start + i) * vocab_size
            mass += pairs[at, 3]
            if t < known:
                level = int((effect[t] - low) * per_level)
                of_known += pairs[at, 3]
                won += pairs[at, 3] * (0.5 * (below[level] + below[level + 1]))
                if rank[t] >= 0:
                    n_next[i, rank[t]], share[i, rank[t]] = pairs[at, 1], pairs[at, 3]
            at += 1
        rank[top[i]] = -1
        share[i] /= max(mass, 1)
        auroc[i] = won / (np.float64(of_known) * below[_LEVELS]) if of_known > 0 else np.nan
