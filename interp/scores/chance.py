"""Nulls that need no shifted text, since chance has a closed form.

    burstiness     n firings fall on N rows of S sequences:  n / K,   K the sequences hit,
                   E K = S (1 − q₁),   Var K = S q₁ (1 − q₁) + S (S − 1) (q₂ − q₁²),   q_j = C(N − jN/S, n) / C(N, n)
    next_auroc     what follows is any text:                 ½ ± 1 / √(12 G),   G effective groups of sequences

Source: occupancy, Johnson & Kotz 1977 (Urn Models); the variance of a mean of uniform ranks. Cost: N/S steps over the
latents.
Failing: all sequences are taken to have as many rows. ½ ± … is wider than it need be where the firings of a group have
unlike followers, so a latent within it may raise what follows all the same.
"""

import numpy as np
from jaxtyping import Float64, Int64

from interp.features import FeatureStore
from interp.scores.nulls import NullScale


def burstiness_scale(
    n_active: Float64[np.ndarray, " d_sae"], n_hit: Int64[np.ndarray, " d_sae"], features: FeatureStore
) -> NullScale:
    """Firings a sequence that is hit, beside those of as many firings thrown on the rows. z is that of the number of
    sequences that are not hit; half a sequence is the least standard deviation."""
    n_seq, n_ctx = len(features.tokens), max(1, round(features.meta["n_tokens"] / len(features.tokens)))
    n, n_rows = np.minimum(n_active, n_seq * n_ctx), n_seq * n_ctx
    first, second = np.zeros(len(n)), np.zeros(len(n))  # log q₁, and log q₂ / q₁
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(n_ctx):
            first += np.log1p(-np.minimum(n / (n_rows - i), 1))
            second += np.log1p(-np.minimum(n / max(n_rows - n_ctx - i, 1), 1))
        both = np.where(np.isfinite(first), np.exp(2 * first) * np.expm1(second - first), 0)  # q₂ − q₁²
        empty = np.exp(first)
        mean = n_seq * (1 - empty)
        std = np.sqrt(np.maximum(n_seq * empty * (1 - empty) + n_seq * (n_seq - 1.0) * both, 0))
        hit = _normal(np.where(n > 0, n_hit, np.nan), mean, np.maximum(std, 0.5))
        most = np.minimum(n, n_seq)
        low, high = (n_active / np.clip(end, 1, np.maximum(most, 1)) for end in (hit.high, hit.low))
    return NullScale(-hit.z, low, high)


def next_scale(auroc: Float64[np.ndarray, " d_sae"], groups: Float64[np.ndarray, " d_sae"]) -> NullScale:
    """The chance that a latent raises what follows above any token, beside that of followers like any text's. NaN where
    `groups`, the effective number of its groups of sequences, is 0."""
    with np.errstate(divide="ignore"):
        std = 1 / np.sqrt(12 * groups)
    return _normal(auroc, np.full(len(auroc), 0.5), std)


def _normal(
    observed: Float64[np.ndarray, " unit"], mean: Float64[np.ndarray, " unit"], std: Float64[np.ndarray, " unit"]
) -> NullScale:
    known = np.isfinite(observed) & np.isfinite(std)
    ends = (np.where(known, mean + side * 1.96 * std, np.nan) for side in (-1, 1))
    return NullScale(np.where(known, (observed - mean) / std, np.nan), *ends)
