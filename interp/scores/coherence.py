"""Do the contexts of a latent's firings resemble each other, and do weak firings mean what strong ones mean?

Coherence is the activation-weighted mean cosine between the contexts of two firings in different groups of sequences
(`firings.PairSums.coherence`; MonoScore, arXiv 2504.02821, with centred embeddings). Failing: a latent of one broad
meaning (any verb) has incoherent contexts; a union of two narrow meanings keeps half of its coherence.

Consistency compares the K slices of (0, max] of a latent's strengths, on its stratified sample of firings. With
C_uv = mean of e_i·e_j over i in slice u, j in slice v, in different groups,

    consistency = mean_{u<v} C_uv / max(mean_u C_uu, floor)

1: all strengths fire in the same contexts; 0: unrelated ones. No bias from slice sizes, since no i meets itself.

Every statistic has its null: the same codes laid on the text at another place, so that firing rates, bursts and
co-activations stay and meaning goes. Nulls of latents of similar size are pooled, so few repetitions suffice.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

CONSISTENCY_FLOOR = 0.02
"""Below this mean coherence within slices, agreement between them is not magnified."""
SLICE_MINIMUM = 4
"""Slices with fewer sampled firings are left out of the consistency."""


@dataclass(frozen=True)
class SampleCoherence:
    """Statistics of sampled firings under each set of weights (the first: all ones)."""

    context: Float[Tensor, "weighting unit"]
    token: Float[Tensor, "weighting unit"]
    consistency: Float[Tensor, "weighting unit"]


def sample_coherence(
    contexts: Float[Tensor, "unit firing dim"],
    tokens: Float[Tensor, "unit firing dim"],
    slices: Int[Tensor, " firing"],
    groups: Int[Tensor, "unit firing"],
    present: Bool[Tensor, "unit firing"],
    weights: Float[Tensor, "firing weighting"],
) -> SampleCoherence:
    """Coherence of contexts and tokens, and consistency, from all pairs of sampled firings in different groups.

    `slices` says to which slice of its strengths each firing belongs, in the same layout for each unit. Bootstrap
    replicates are columns of `weights`: how often each firing was drawn.
    """
    n_slices = int(slices.max()) + 1
    membership = torch.nn.functional.one_hot(slices, n_slices).to(contexts.dtype)  # firing slice
    spread = (weights[:, :, None] * membership[:, None, :]).flatten(1)  # firing weighting*slice
    different = (groups[:, :, None] != groups[:, None, :]) & present[:, :, None] & present[:, None, :]
    apart = different.to(contexts.dtype)

    def between_slices(pairs: Float[Tensor, "unit firing firing"]) -> Float[Tensor, "unit weighting slice slice"]:
        half = (pairs @ spread).unflatten(2, (-1, n_slices))  # unit firing weighting slice
        return torch.einsum("ufws,fw,ft->uwts", half, weights, membership)

    n_pairs = between_slices(apart)
    context = between_slices(torch.bmm(contexts, contexts.mT) * apart)
    token = between_slices(torch.bmm(tokens, tokens.mT) * apart)
    counts = torch.einsum("uf,fs->us", present.to(contexts.dtype), membership)
    enough = counts >= SLICE_MINIMUM
    total = n_pairs.sum((2, 3)).clamp_min(1)
    return SampleCoherence(
        (context.sum((2, 3)) / total).T,
        (token.sum((2, 3)) / total).T,
        _consistency(context, n_pairs, enough).T,
    )


def _consistency(
    dots: Float[Tensor, "unit weighting slice slice"],
    n_pairs: Float[Tensor, "unit weighting slice slice"],
    enough: Bool[Tensor, "unit slice"],
) -> Float[Tensor, "unit weighting"]:
    mean = dots / n_pairs.clamp_min(1)
    usable = (enough[:, None, :, None] & enough[:, None, None, :]) & (n_pairs > 0)
    same = torch.eye(dots.shape[-1], dtype=torch.bool)
    within = (mean * (usable & same)).sum((2, 3)) / (usable & same).sum((2, 3)).clamp_min(1)
    n_across = (usable & ~same).sum((2, 3))
    across = (mean * (usable & ~same)).sum((2, 3)) / n_across.clamp_min(1)
    ratio = (across / within.clamp_min(CONSISTENCY_FLOOR)).clamp(-1, 1)
    return torch.where(n_across > 0, ratio, torch.nan)


def null_z(
    observed: Float64[np.ndarray, " unit"],
    nulls: Float64[np.ndarray, "repetition unit"],
    size: Float64[np.ndarray, " unit"],
    *,
    size_exponent: float = 0.0,
    least_std: float = 1e-6,
) -> Float64[np.ndarray, " unit"]:
    """(observed − null mean) / null standard deviation, pooled over the nulls of units of similar size.

    `size_exponent` p: within a pool, the null's standard deviation goes as size^−p (1 for a mean over pairs).
    NaN where the observation is NaN or no null is finite.
    """
    sizes = np.broadcast_to(size, nulls.shape)
    usable = np.isfinite(nulls) & (sizes > 0)
    z = np.full(len(observed), np.nan)
    if not usable.any():
        return z
    order = np.argsort(sizes[usable], kind="stable")
    sizes, values = sizes[usable][order], nulls[usable][order]
    width = min(len(values), max(100, len(values) // 20))
    scale = sizes**size_exponent
    mean = _moving_mean(values, width)
    std = np.sqrt(_moving_mean(((values - mean) * scale) ** 2, width) * width / max(width - 1, 1)) / scale
    defined = np.isfinite(observed) & (size > 0)
    at = np.minimum(np.searchsorted(sizes, size[defined]), len(sizes) - 1)
    z[defined] = (observed[defined] - mean[at]) / np.maximum(std[at], least_std)
    return z


def _moving_mean(values: Float64[np.ndarray, " n"], width: int) -> Float64[np.ndarray, " n"]:
    """Mean over the `width` entries around each entry; at the ends, over the first or last `width`."""
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    first = np.clip(np.arange(len(values)) - width // 2, 0, len(values) - width)
    return (prefix[first + width] - prefix[first]) / width
