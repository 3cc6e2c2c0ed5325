"""Nulls that need no shifted text: chance has a closed form, or a direction is drawn.

    burstiness     n firings fall on N rows of S sequences:  n / K,   K the sequences hit,
                   E K = S (1 − q₁),   Var K = S q₁ (1 − q₁) + S (S − 1) (q₂ − q₁²),   q_j = C(N − jN/S, n) / C(N, n)
    next_auroc     what follows is any text:                 ½ ± 1 / √(12 G),   G effective groups of sequences
    max_cosine, dimensionality, twin_cosine     of random directions, each in the place of a decoder row:
                             v ∝ N(0, C),   C = mean of Ŵ Ŵᵀ, shrunk:   as anisotropic as the dictionary, nothing learnt
    enc_dec_cosine           0 ± √tr C²:   of two such directions

Source: occupancy, Johnson & Kotz 1977 (Urn Models); the variance of a mean of uniform ranks; shrinkage, Ledoit & Wolf
2004, without which C fits its own rows; the rest, own. Cost: N/S steps over the latents; n d² for C, n d a direction.
Failing: all sequences are taken to have as many rows. ½ ± … is wider than it need be where the firings of a group have
unlike followers, so a latent within it may raise what follows all the same. A largest cosine is skewed, and its band is
as if it were not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interp.features.feature_store import FeatureStore
from interp.metrics.null_scale import NullScale
from interp.metrics.twins import nearest_rows


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
    n: int,
    seed: int,
) -> dict[str, NullScale]:
    """Those of the directions among `measures`, beside `n` random ones, each in the place of a row drawn at random."""
    if features.W_dec is None or not (features.W_dec.norm(dim=1) > 0).any():
        return {}
    W = features.W_dec.float()[features.W_dec.norm(dim=1) > 0]
    moments = second_moments(W)
    directions = random_directions(moments, n, seed)
    null: dict[str, tuple[Any, Any]] = {
        "enc_dec_cosine": (0.0, float(moments.square().sum().sqrt())),
        "dimensionality": _dimensionality(features.W_dec.float(), directions),
    }
    if len(W) > 1:
        largest = _largest_cosine(W, directions, seed)
        null["max_cosine"] = largest.mean(), largest.std(ddof=1)
    if twin is not None and twin.W_dec is not None:
        nearest = nearest_rows(directions, twin.W_dec)[1]
        null["twin_cosine"] = nearest.mean(), nearest.std(ddof=1)
    found = {}
    for name, (mean, std) in null.items():
        observed = measures.get(name, np.full(features.d_sae, np.nan))
        if np.isfinite(observed).any():
            ends = (np.broadcast_to(x, observed.shape) for x in (mean, np.maximum(std, 1e-6)))
            found[name] = _normal(observed, *ends)
    return found


def random_directions(moments: Float[Tensor, "d d"], n: int, seed: int) -> Float[Tensor, "n d"]:
    """Unit vectors of Gaussian draws with these second moments."""
    values, vectors = torch.linalg.eigh(moments)
    draws = torch.randn(n, len(moments), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return _unit((draws * values.clamp(min=0).sqrt()) @ vectors.T).float()


def second_moments(W: Float[Tensor, "row d"]) -> Float[Tensor, "d d"]:
    """Of the rows' directions, shrunk."""
    from sklearn.covariance import ledoit_wolf

    return torch.from_numpy(ledoit_wolf(_unit(W).double().numpy(), assume_centered=True)[0])


def _largest_cosine(
    W: Float[Tensor, "row d"], directions: Float[Tensor, "n d"], seed: int
) -> Float64[np.ndarray, " n"]:
    """With any other row, each direction in the place of one."""
    taken = torch.randint(len(W), (len(directions),), generator=torch.Generator().manual_seed(seed))
    cosines = directions @ _unit(W).T
    cosines[torch.arange(len(directions)), taken] = -torch.inf
    return cosines.max(1).values.double().numpy()


def _dimensionality(
    W: Float[Tensor, "d_sae d"], directions: Float[Tensor, "n d"]
) -> tuple[Float64[np.ndarray, " d_sae"], Float64[np.ndarray, " d_sae"]]:
    """Mean and standard deviation of each row's, were it of its length and in one of the directions."""
    shared = (directions @ W.T).double().square()
    every, square = shared.sum(1, keepdim=True), W.norm(dim=1).double().square()
    total, squares = torch.zeros_like(square), torch.zeros_like(square)
    for own, others in zip(shared, every, strict=True):
        value = square / (square + others - own)
        total += value
        squares += value.square()
    mean = total / len(directions)
    variance = (squares / len(directions) - mean.square()) * len(directions) / max(len(directions) - 1, 1)
    return mean.numpy(), variance.clamp(min=0).sqrt().numpy()


def _unit(W: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    return torch.nn.functional.normalize(W, dim=1)


def _normal(
    observed: Float64[np.ndarray, " unit"], mean: Float64[np.ndarray, " unit"], std: Float64[np.ndarray, " unit"]
) -> NullScale:
    known = np.isfinite(observed) & np.isfinite(std)
    ends = (np.where(known, mean + side * 1.96 * std, np.nan) for side in (-1, 1))
    return NullScale(np.where(known, (observed - mean) / std, np.nan), *ends)
