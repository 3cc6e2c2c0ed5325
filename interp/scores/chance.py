"""Nulls that need no shifted text: chance has a closed form, or a direction is drawn.

    burstiness     n firings fall on N rows of S sequences:  n / K,   K the sequences hit,
                   E K = S (1 − q₁),   Var K = S q₁ (1 − q₁) + S (S − 1) (q₂ − q₁²),   q_j = C(N − jN/S, n) / C(N, n)
    next_auroc     what follows is any text:                 ½ ± 1 / √(12 G),   G effective groups of sequences
    max_cosine, dimensionality, twin_cosine     of random mixtures of all decoder rows, each in the place of a row:
                             v ∝ Σ_j g_j Ŵ_j,  g ~ N(0, 1):  as anisotropic as the dictionary, and nothing learnt
    enc_dec_cosine           0 ± √tr C²,   C = mean of Ŵ Ŵᵀ:  of two such mixtures

Source: occupancy, Johnson & Kotz 1977 (Urn Models); the variance of a mean of uniform ranks; mixtures, own. Cost: N/S
steps over the latents; n d multiplications a mixture.
Failing: all sequences are taken to have as many rows. ½ ± … is wider than it need be where the firings of a group have
unlike followers, so a latent within it may raise what follows all the same. A largest cosine is skewed, and its band is
as if it were not.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

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


@torch.no_grad()
def direction_scales(
    features: FeatureStore,
    twin: FeatureStore | None,
    measures: Mapping[str, Float64[np.ndarray, " d_sae"]],
    testable: Bool[np.ndarray, " d_sae"],
    n_units: int,
    seed: int,
) -> dict[str, NullScale]:
    """Those of the directions among `measures`, beside mixtures in the place of `n_units` of the testable latents."""
    W = features.W_dec
    if W is None or not testable.any():
        return {}
    alive = W.float()[W.norm(dim=1) > 0]
    rng = np.random.default_rng(seed)
    units = torch.from_numpy(np.sort(rng.permutation(np.flatnonzero(testable))[:n_units]))
    mixtures = random_mixtures(alive, len(units), int(rng.integers(1 << 62)))
    null = _in_place_of(W.float(), units, mixtures)
    if twin is not None and twin.W_dec is not None:
        null["twin_cosine"] = (mixtures @ _unit(twin.W_dec.float()).T).max(1).values.double().numpy()
    spread = float((_unit(alive).T @ _unit(alive) / len(alive)).double().square().sum().sqrt())
    moments = {name: (values.mean(), values.std(ddof=1)) for name, values in null.items() if len(values) > 1}
    moments["enc_dec_cosine"] = (0.0, spread)
    n = len(testable)
    return {
        name: _normal(np.where(testable, measures[name], np.nan), np.full(n, mean), np.full(n, max(std, 1e-6)))
        for name, (mean, std) in moments.items()
        if np.isfinite(measures.get(name, np.nan)).any()
    }


def random_mixtures(W: Float[Tensor, "row d"], n: int, seed: int) -> Float[Tensor, "n d"]:
    """Unit vectors with the second moments of the rows' directions: Gaussian mixtures of all of them."""
    weights = torch.randn(n, len(W), generator=torch.Generator().manual_seed(seed))
    return _unit(weights @ _unit(W))


def _in_place_of(
    W: Float[Tensor, "d_sae d"], units: Int64[Tensor, " unit"], directions: Float[Tensor, "unit d"]
) -> dict[str, Float64[np.ndarray, " unit"]]:
    """Dimensionality and largest cosine, were the unit's row of its length and in this direction."""
    norms, place = W.norm(dim=1), torch.arange(len(units))
    shared = (directions @ W.T).double().square()
    shared[place, units] = 0
    square = norms[units].double().square()
    null = {"dimensionality": (square / (square + shared.sum(1))).numpy()}
    if len(W) > 1:
        cosines = directions @ _unit(W).T
        cosines[place, units] = -torch.inf
        null["max_cosine"] = cosines.max(1).values.double().numpy()
    return null


def _unit(W: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    return torch.nn.functional.normalize(W, dim=1)


def _normal(
    observed: Float64[np.ndarray, " unit"], mean: Float64[np.ndarray, " unit"], std: Float64[np.ndarray, " unit"]
) -> NullScale:
    known = np.isfinite(observed) & np.isfinite(std)
    ends = (np.where(known, mean + side * 1.96 * std, np.nan) for side in (-1, 1))
    return NullScale(np.where(known, (observed - mean) / std, np.nan), *ends)
