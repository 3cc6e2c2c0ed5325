"""Which tokens a latent fires on, and which stand before them.

For every latent, token and offset o in 0, -1, .. -n_before: the firings whose token at that offset is this one, how
many of them lie in the fit half, and their activation mass. Counted exactly (`PairCounts`). The rows of a chunk are
visited token by token, so that one token's counts over all latents stay in cache.
Masses are summed as integers, in steps of 2^-30 of the power of two at or above the latent's maximum, so that the sum
is the same in any order.
"""

from pathlib import Path

import numpy as np
from numba import njit

from interp.statistics.chunks import Chunk, group_by
from interp.statistics.pairs import PairCounts, strongest_of_each


class TokenCounts:
    """Feeds one `PairCounts` an offset; after the last chunk, `tables` gives the columns."""

    def __init__(self, folder: Path, *, maxima: np.ndarray, vocab_size: int, n_before: int, buffer_rows: int):
        self.steps = np.ldexp(1.0, np.frexp(maxima)[1] - 30)
        self.vocab_size = vocab_size
        self.pairs = [
            PairCounts(
                folder / f"before-{before}",
                n_latents=len(maxima),
                n_items=vocab_size,
                n_counts=3,
                buffer_rows=buffer_rows // (n_before + 1),
            )
            for before in range(n_before + 1)
        ]

    def add(self, chunk: Chunk) -> None:
        masses = np.rint(chunk.values / self.steps[chunk.latents]).astype(np.int64)
        position = np.arange(len(chunk.tokens)) % chunk.n_ctx
        for before, pairs in enumerate(self.pairs):
            tokens = np.where(position >= before, np.roll(chunk.tokens, before), -1)
            starts, order = group_by(tokens, self.vocab_size)
            found = _count(starts, order, chunk.offsets, chunk.latents, masses, chunk.fit, chunk.d_sae)
            _, by_latent = group_by(found[:, 0] // self.vocab_size, chunk.d_sae)
            pairs.add(found[by_latent])

    def tables(self, n_active: np.ndarray, k: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The tokens table, with the `k` most frequent of each latent and offset, and columns of the features table."""
        d_sae = len(n_active)
        kept = np.full((d_sae, len(self.pairs), k, 4), -1, np.int64)
        features = {
            "top_token": np.full(d_sae, -1, np.int32),
            "top_token_share": np.full(d_sae, np.nan),
            "token_entropy": np.full(d_sae, np.nan),
            "n_tokens": np.zeros(d_sae, np.int32),
        }
        for before, pairs in enumerate(self.pairs):
            for block in pairs.blocks():
                latents, tokens = np.divmod(block[:, 0], self.vocab_size)
                best = strongest_of_each(latents, block[:, 1], tokens, d_sae, k)
                chosen = block[best[best >= 0]]
                chosen[:, 0] %= self.vocab_size
                kept[:, before][best >= 0] = chosen
                if before == 0:
                    _token_columns(latents, tokens, block[:, 1], n_active, features)
        return self._table(kept), features

    def _table(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        latent, before, rank = np.nonzero(kept[..., 1] >= 0)
        token, n, n_fit, mass = kept[latent, before, rank].T
        return {
            "latent": latent,
            "offset": -before,
            "token": token,
            "n": n,
            "n_fit": n_fit,
            "mass": mass * self.steps[latent],
        }


def _token_columns(latents, tokens, counts, n_active, features) -> None:
    """Most frequent token, its share, entropy in nats and number of tokens, for the latents of a block."""
    if len(latents) == 0:
        return
    firsts = np.flatnonzero(np.diff(latents, prepend=-1))
    present = latents[firsts]
    share = counts / n_active[latents]
    features["n_tokens"][present] = np.diff(firsts, append=len(latents))
    features["token_entropy"][present] = -np.add.reduceat(share * np.log(share), firsts)
    best = strongest_of_each(latents, counts, tokens, len(n_active), 1)[present, 0]
    features["top_token"][present] = tokens[best]
    features["top_token_share"][present] = share[best]


@njit(cache=True)
def _count(starts, order, offsets, latents, masses, fit, d_sae):
    """Int64 "pair 4": key = latent * n_tokens + token, n, n_fit, mass; tokens ascending, latents in any order."""
    n_tokens = len(starts) - 1
    n, n_fit, mass = np.zeros(d_sae, np.int64), np.zeros(d_sae, np.int64), np.zeros(d_sae, np.int64)
    touched = np.empty(d_sae, np.int32)
    out = np.empty((len(latents), 4), np.int64)
    size = 0
    for token in range(n_tokens):
        n_touched = 0
        for row in order[starts[token] : starts[token + 1]]:
            for e in range(offsets[row], offsets[row + 1]):
                j = latents[e]
                if n[j] == 0:
                    touched[n_touched] = j
                    n_touched += 1
                n[j] += 1
                n_fit[j] += fit[row]
                mass[j] += masses[e]
        for j in touched[:n_touched]:
            out[size, 0], out[size, 1] = np.int64(j) * n_tokens + token, n[j]
            out[size, 2], out[size, 3] = n_fit[j], mass[j]
            n[j], n_fit[j], mass[j] = 0, 0, 0
            size += 1
    return out[:size]
