"""How concentrated are the tokens at one offset from a latent's firings?

With n_t firings that have token t at the offset, N = Σ_t n_t, P_t = n_t / N and the text's unigrams U_t:

    entropy   = −Σ_t P_t log P_t                   nats
    kl        = Σ_t P_t log(P_t / U_t)             nats; ≥ 0, and 0 where the tokens are like any text
    top_share = max_t P_t
    n_80      = the smallest number of tokens that make up 80 % of N

All are exact, from the counts of every token, weighted by count. Both entropy and kl are biased in small samples: of K
tokens seen, entropy is low and kl high by about (K − 1) / 2N.
"""

import numpy as np
from numba import njit

_FINE = 1024
"""Counts below this are sorted by counting."""


class OffsetSummary:
    """One row a latent and offset; NaN, 0 or −1 where no firing has a token at the offset."""

    def __init__(self, d_sae: int, offsets: list[int], unigrams: np.ndarray):
        shape = (d_sae, len(offsets))
        self.offsets = offsets
        self.n, self.n_tokens, self.n_80 = (np.zeros(shape, np.int64) for _ in range(3))
        self.entropy, self.kl, self.top_share = (np.full(shape, np.nan) for _ in range(3))
        self.top_token = np.full(shape, -1, np.int64)
        self.mass = np.zeros(shape, np.int64)
        share = unigrams / max(unigrams.sum(), 1)
        self._log_share = np.log(share, out=np.zeros(len(share)), where=share > 0)

    def add(self, offset: int, pairs: np.ndarray) -> None:
        """All pairs of some latents: Int64 "pair 4" of latent * vocab_size + token, n, n_fit, mass; keys ascending."""
        at = self.offsets.index(offset)
        integers = (self.n, self.n_tokens, self.n_80, self.top_token, self.mass)
        _summarise(
            pairs,
            self._log_share,
            *(column[:, at] for column in integers),
            *(column[:, at] for column in (self.entropy, self.kl, self.top_share)),
        )

    def table(self, steps: np.ndarray) -> dict[str, np.ndarray]:
        """The table `offsets`; `steps` says what one unit of a latent's mass is."""
        d_sae, n_offsets = self.n.shape
        columns = {
            "latent": np.repeat(np.arange(d_sae), n_offsets),
            "offset": np.tile(self.offsets, d_sae),
            "mass": (self.mass * steps[:, None]).reshape(-1),
        }
        names = ("n", "n_tokens", "n_80", "entropy", "kl", "top_share")
        return columns | {name: getattr(self, name).reshape(-1) for name in names}

    def features(self) -> dict[str, np.ndarray]:
        """Columns of the features table: of the firing token itself."""
        at = self.offsets.index(0)
        columns = {name: getattr(self, name)[:, at] for name in ("top_token", "n_tokens")}
        return columns | {"top_token_share": self.top_share[:, at], "token_entropy": self.entropy[:, at]}


@njit(cache=True, nogil=True)
def _summarise(pairs, log_share, n, n_tokens, n_80, top_token, mass, entropy, kl, top_share):
    vocab_size, first = len(log_share), 0
    of_count = np.zeros(_FINE, np.int64)  # how many of the latent's tokens have this count
    while first < len(pairs):
        latent = pairs[first, 0] // vocab_size
        end = (latent + 1) * vocab_size
        last, total, units, most, best = first, 0, 0, 0, -1
        self_log, text_log = 0.0, 0.0
        of_count[:] = 0
        n_many = 0
        while last < len(pairs) and pairs[last, 0] < end:
            count, token = pairs[last, 1], pairs[last, 0] - latent * vocab_size
            total += count
            units += pairs[last, 3]
            self_log += count * np.log(count)
            text_log += count * log_share[token]
            if count > most:
                most, best = count, token
            if count < _FINE:
                of_count[count] += 1
            else:
                n_many += 1
            last += 1
        n[latent], n_tokens[latent], mass[latent] = total, last - first, units
        top_token[latent], top_share[latent] = best, most / total
        entropy[latent] = max(np.log(total) - self_log / total, 0.0)
        kl[latent] = max(self_log / total - np.log(total) - text_log / total, 0.0)
        n_80[latent] = _n_80(pairs[first:last, 1], n_many, of_count, total)
        first = last


@njit(cache=True, nogil=True)
def _n_80(counts, n_many, of_count, total):
    """How many of the largest counts add up to 80 % of their total."""
    many, i = np.empty(n_many, np.int64), 0
    for count in counts:
        if count >= _FINE:
            many[i] = count
            i += 1
    covered, tokens = 0, 0
    for count in np.sort(many)[::-1]:
        covered += count
        tokens += 1
        if 5 * covered >= 4 * total:
            return tokens
    for count in range(_FINE - 1, 0, -1):
        missing = (4 * total - 5 * covered + 5 * count - 1) // (5 * count)
        if missing <= of_count[count]:
            return tokens + missing
        covered += count * of_count[count]
        tokens += of_count[count]
    return tokens
