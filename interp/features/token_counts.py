"""Count the tokens on which a latent fires, and the tokens before and after them, and measure their concentration.

For each latent, token and offset o in -n_before .. N_AFTER, it counts the firings with this token at that offset and
how many of these are in the fit half, and sums their activation mass. Let n_t be the number of firings with token t at
the offset, N = Σ n_t, P_t = n_t / N, and U_t the share of token t in the text, without padding (`ScanInput.unigrams`).
Then

    entropy   = −Σ_t P_t log P_t                   nats
    kl        = Σ_t P_t log(P_t / U_t)             nats; ≥ 0, and 0 where the tokens are like any text
    top_share = max_t P_t
    n_80      = the smallest number of tokens that make up 80 % of N

All are exact counts. Both entropy and kl are biased in small samples: with K different tokens, entropy is too low and
kl too high by about (K − 1) / 2N. Masses are summed as integers, in steps of 2^-30 of the power of two at or above the
latent's maximum, so the sum is the same in any order.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from interp.features.firing_statistics import FiringStatistics
from interp.features.scan_input import N_AFTER, FiringsByLatent, ScanInput, insert_best

TOKEN, N, _, MASS = range(4)
"""Columns of `TokenCounts.pairs`."""
_SMALL = 1024
_COUNT_COLUMNS = ("n", "n_tokens", "n_80", "top_token", "mass", "entropy", "kl", "top_share")


class TokenCounts(NamedTuple):
    """Counts of tokens at one offset. The pairs of latent j are pairs[pair_offsets[j]:pair_offsets[j + 1]], with
    ascending tokens."""

    pair_offsets: np.ndarray
    pairs: np.ndarray
    """Int64 [pair, 4]: token, n, n_fit, mass in steps."""


def count_tokens(firings: FiringsByLatent, statistics: FiringStatistics, scan: ScanInput) -> dict[int, TokenCounts]:
    """For each offset, count the tokens at that distance after the firing tokens. A negative offset is before them."""
    counts = {}
    for offset in range(-scan.config.n_before, N_AFTER + 1):
        pair_offsets, pairs = _count(
            firings.offsets,
            firings.rows,
            firings.values,
            1 / statistics.mass_steps,
            scan.tokens.reshape(-1),
            scan.n_ctx,
            scan.fit,
            scan.vocab_size,
            offset,
        )
        counts[offset] = TokenCounts(pair_offsets, pairs)
    return counts


def token_table(counts: dict[int, TokenCounts], statistics: FiringStatistics, k: int) -> dict[str, np.ndarray]:
    """Return the table `tokens`: the `k` most frequent tokens of each latent and offset; of equally frequent ones, the
    smaller."""
    best = np.stack([_most_frequent(*counts_at_offset, k) for counts_at_offset in counts.values()], 1)
    latent, which, rank = np.nonzero(best >= 0)
    shifts = np.cumsum([0, *(len(counts_at_offset.pairs) for counts_at_offset in counts.values())])
    pairs = np.concatenate([counts_at_offset.pairs for counts_at_offset in counts.values()])
    token, n, n_fit, mass = pairs[best[latent, which, rank] + shifts[which]].T
    return {
        "latent": statistics.first + latent,
        "offset": np.array(list(counts))[which],
        "token": token,
        "n": n,
        "n_fit": n_fit,
        "mass": mass * statistics.mass_steps[latent],
    }


def offset_table(counts: dict[int, TokenCounts], statistics: FiringStatistics, unigrams: np.ndarray) -> dict[str, Any]:
    """Return the table `offsets`, and `top_token`. If no firing has a token at the offset, its numbers are NaN or 0,
    and its token is −1."""
    share = unigrams / max(unigrams.sum(), 1)
    log_share = np.log(share, out=np.zeros(len(share)), where=share > 0)
    parts = [_summarise(*counts_at_offset, log_share) for counts_at_offset in counts.values()]
    columns: dict[str, Any] = {
        name: np.stack(part, 1) for name, part in zip(_COUNT_COLUMNS, zip(*parts, strict=True), strict=True)
    }
    latent, which = np.indices(columns["n"].shape)
    columns["mass"] = columns["mass"] * statistics.mass_steps[latent]
    columns |= {"latent": statistics.first + latent, "offset": np.array(list(counts))[which]}
    return {name: column.reshape(-1) for name, column in columns.items()}


@njit(cache=True, nogil=True)
def _count(offsets, rows, values, per_activation, text, n_ctx, fit, vocab_size, offset):
    d = len(offsets) - 1
    size = 0
    for j in range(d):
        size += min(offsets[j + 1] - offsets[j], vocab_size)
    pair_offsets = np.zeros(d + 1, np.int64)
    pairs = np.empty((size, 4), np.int64)
    counts = np.zeros((vocab_size, 3), np.int64)
    place_of_token = np.empty(vocab_size, np.int32)
    n_pairs = 0
    for j in range(d):
        n_seen = 0
        for e in range(offsets[j], offsets[j + 1]):
            seq = rows[e] // n_ctx
            position = rows[e] - seq * n_ctx + offset
            if position < 0 or position >= n_ctx:
                continue
            token = text[rows[e] + offset]
            if counts[token, 0] == 0:
                place_of_token[n_seen] = token
                n_seen += 1
            counts[token, 0] += 1
            counts[token, 1] += fit[seq]
            counts[token, 2] += np.int64(values[e] * per_activation[j] + 0.5)
        many = 8 * n_seen > vocab_size  # reading every token costs less than sorting those that occur
        for token in np.arange(vocab_size, dtype=np.int32) if many else np.sort(place_of_token[:n_seen]):
            if counts[token, 0]:
                pairs[n_pairs, 0] = token
                pairs[n_pairs, 1:] = counts[token]
                counts[token] = 0
                n_pairs += 1
        pair_offsets[j + 1] = n_pairs
    return pair_offsets, pairs[:n_pairs]


@njit(cache=True, nogil=True)
def _most_frequent(pair_offsets, pairs, k):
    """Return the pairs [latent, rank] with the largest n. −1 fills the rest."""
    best = np.full((len(pair_offsets) - 1, k), -1, np.int64)
    for j in range(len(best)):
        scores = np.zeros(k, np.int64)
        for pair in range(pair_offsets[j], pair_offsets[j + 1]):
            insert_best(pairs[pair, 1], pair, scores, best[j])
    return best


@njit(cache=True, nogil=True)
def _summarise(pair_offsets, pairs, log_share):
    d = len(pair_offsets) - 1
    n = np.zeros(d, np.int64)
    n_tokens = np.zeros(d, np.int64)
    n_80 = np.zeros(d, np.int64)
    top_token = np.full(d, -1, np.int64)
    mass = np.zeros(d, np.int64)
    entropy = np.full(d, np.nan)
    kl = np.full(d, np.nan)
    top_share = np.full(d, np.nan)
    for j in range(d):
        pairs_of_latent = pairs[pair_offsets[j] : pair_offsets[j + 1]]
        if len(pairs_of_latent) == 0:
            continue
        most = 0
        self_log = 0.0
        text_log = 0.0
        for pair in range(len(pairs_of_latent)):
            token, count = pairs_of_latent[pair, 0], pairs_of_latent[pair, 1]
            n[j] += count
            mass[j] += pairs_of_latent[pair, 3]
            self_log += count * np.log(count)
            text_log += count * log_share[token]
            if count > most:
                most, top_token[j] = count, token
        n_tokens[j] = len(pairs_of_latent)
        top_share[j] = most / n[j]
        n_80[j] = _n_80(pairs_of_latent[:, 1], n[j])
        entropy[j] = max(np.log(n[j]) - self_log / n[j], 0.0)
        kl[j] = max(self_log / n[j] - np.log(n[j]) - text_log / n[j], 0.0)
    return n, n_tokens, n_80, top_token, mass, entropy, kl, top_share


@njit(cache=True, nogil=True)
def _n_80(counts, total):
    """Return how many of the largest counts add up to 80 % of their total. Small counts are tallied by their value."""
    covered = 0
    n = 0
    n_with_count = np.zeros(_SMALL, np.int64)
    for count in counts:
        if count < _SMALL:
            n_with_count[count] += 1
    for count in np.sort(counts[counts >= _SMALL])[::-1]:
        covered += count
        n += 1
        if 5 * covered >= 4 * total:
            return n
    for count in range(_SMALL - 1, 0, -1):
        missing = (4 * total - 5 * covered + 5 * count - 1) // (5 * count)
        if missing <= n_with_count[count]:
            return n + missing
        covered += count * n_with_count[count]
        n += n_with_count[count]
    return n
