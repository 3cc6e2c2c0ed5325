"""How much of its own direction has a latent in its dictionary?

With decoder rows W_i, Ŵ_i = W_i / ‖W_i‖:

    dimensionality_i = ‖W_i‖² / Σ_j (Ŵ_i · W_j)²            1: a direction of its own; 1/2: a pair shares one
    max_cosine_i     = max_{j ≠ i} Ŵ_i · Ŵ_j

Among n isotropic random directions in d dimensions a cosine exceeds c ≥ 0 with probability t = ½ I_{1−c²}((d−1)/2, ½),
so the largest of n − 1 does with probability 1 − (1 − t)^(n−1): `max_cosine_p`. Its median is `null_cosine`.

Source: dimensionality, Elhage et al. 2022 (Toy Models of Superposition). Cost: n² d multiplications, in blocks.
Failing: this is superposition, not meaning. A neuron basis has dimensionality 1 throughout, and random rows have the
same as a trained dictionary of that width.
"""

from dataclasses import dataclass

import numpy as np
import scipy.special
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

_BLOCK = 256


@dataclass(frozen=True)
class DirectionMeasures:
    dimensionality: Float64[np.ndarray, " d_sae"]
    """NaN for rows of length 0."""
    max_cosine: Float64[np.ndarray, " d_sae"]
    """NaN if there is one row only."""
    nearest: Int64[np.ndarray, " d_sae"]
    """The other latent of the largest cosine; −1 if there is none."""
    max_cosine_p: Float64[np.ndarray, " d_sae"]
    """Probability that random directions come as near."""
    null_cosine: float
    """Median of the largest cosine among random directions; NaN for fewer than 2 dimensions or rows."""


@torch.no_grad()
def direction_measures(W_dec: Float[Tensor, "d_sae d_in"]) -> DirectionMeasures:
    """Measures of decoder rows against each other, `_BLOCK` rows at a time."""
    W = W_dec.detach().float().cpu()
    n, d = W.shape
    norms = W.norm(dim=1)
    unit = torch.nn.functional.normalize(W, dim=1)
    dimensionality, cosine, nearest = np.empty(n), np.full(n, np.nan), np.full(n, -1, np.int64)
    for first in range(0, n, _BLOCK):
        block = unit[first : first + _BLOCK]
        rows = slice(first, first + len(block))
        shared = (block @ W.T).double().square().sum(1)
        square = norms[rows].double().square()
        dimensionality[rows] = torch.where(square > 0, square / shared, torch.nan).numpy()
        if n > 1:
            cosines = block @ unit.T
            cosines[torch.arange(len(block)), torch.arange(first, first + len(block))] = -torch.inf
            best = cosines.max(1)
            cosine[rows], nearest[rows] = best.values.double().numpy(), best.indices.numpy()
    return DirectionMeasures(dimensionality, cosine, nearest, _p_of_largest(cosine, n, d), null_cosine(n, d))


def null_cosine(n: int, d: int) -> float:
    """Median of the largest cosine of one of `n` random directions in `d` dimensions with the others."""
    if n < 2 or d < 2:
        return np.nan
    tail = -np.expm1(np.log(0.5) / (n - 1))
    if tail >= 0.5:
        return 0.0
    return float(np.sqrt(1 - scipy.special.betaincinv((d - 1) / 2, 0.5, 2 * tail)))


def _p_of_largest(cosine: Float64[np.ndarray, " row"], n: int, d: int) -> Float64[np.ndarray, " row"]:
    if d < 2:
        return np.full(len(cosine), np.nan)
    beyond = 0.5 * scipy.special.betainc((d - 1) / 2, 0.5, np.clip(1 - cosine**2, 0, 1))
    tail = np.where(cosine >= 0, beyond, 1 - beyond)
    return -np.expm1((n - 1) * np.log1p(-np.minimum(tail, 1 - 1e-16)))
