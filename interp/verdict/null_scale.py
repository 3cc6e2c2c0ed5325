"""A statistic beside its null: how many of the null's standard deviations it stands above the null's mean, on text that
is shifted; and which neighbouring rows count as one observation, a group.

Firings of one passage share what the passage is about, so evidence is counted between groups of rows only:

    sequences ≥ 1024        up to 8 sequences a group, so that 512 groups are left: neighbours often share a document
    160 to 1023             one sequence a group
    fewer                   a sequence is min(⌊n_ctx / 128⌋, ⌈160 / n_seq⌉) groups, so that about 160 are reached

160 is as many as firings are sampled of a latent; sequences of fewer than 256 rows are never cut. Rows are counted
through the text in groups of one size, so a block may lie across the edge between two sequences.

A circular shift by s rows gives row i the tokens of row (i + s) mod n_rows and leaves the codes as they are: a latent
keeps its rate, its bursts and its company, and loses its meaning. s is at least a group and a sequence, either way
round, or a quarter of a text that is too short for that. Nulls of latents of similar size are pooled, POOL of them or
more, so that few shifts suffice. A scale needs about so many nulls in all: with few latents, more shifts.

Source: shifts against autocorrelation, Harris 2020 (arXiv 2012.06862); the pooling is own. Cost: a sort; 2 ms for 4096
latents and two repetitions.
Failing: blocks of one document are less independent than documents. A topic of one long document counts once a block,
and the two halves of the groups share their documents, so what sets a document apart can pass for a meaning of a latent
that fires in it alone. Many short sequences are better evidence than a few long ones. Mean ∓ 1.96 standard deviations
takes a null to be symmetric, so of a skewed one the lower end is too low and a large z likelier by chance than it
looks. The largest and smallest latents share the null of somewhat smaller and larger ones. All latents of a repetition
lie on one shifted text, so their nulls err together.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

POOL = 100
"""Nulls from which a mean and a standard deviation are taken, at least where there are so many."""
TARGET_GROUPS, MIN_BLOCK = 160, 128
MAX_SEQUENCES, MIN_LEFT = 8, 512
MIN_GROUPS = 20
"""A latent that fires in fewer groups of sequences is not tested: two halves of two senses, five firings each."""


class NullScale(NamedTuple):
    """Places each observation in the null of its unit's size; NaN where the observation is NaN or no null is finite."""

    z: Float64[np.ndarray, " unit"]
    """(observed − null mean) / null standard deviation"""
    low: Float64[np.ndarray, " unit"]
    high: Float64[np.ndarray, " unit"]
    """Mean ∓ 1.96 standard deviations."""


def rows_per_group(n_seq: int, n_ctx: int) -> int:
    """Rows of a group in a text of `n_seq` sequences of `n_ctx` rows."""
    blocks = min(n_ctx // MIN_BLOCK, -(-TARGET_GROUPS // max(n_seq, 1)))
    if blocks > 1:
        return -(-n_ctx // blocks)
    return max(1, min(MAX_SEQUENCES, n_seq // MIN_LEFT)) * n_ctx


def circular_shifts(
    n_seq: int, n_ctx: int, nulls: int, n_latents: int, seed: int, rng: np.random.Generator | None = None
) -> list[int]:
    """The rows by which each null shifts: `nulls` of them, more where so few latents fire that their nulls would be
    fewer than POOL together: the spread of a few is no scale. 0 stays 0. rng: draws the first `nulls`; None: a new one
    from the seed."""
    n_rows = n_seq * n_ctx
    first = min(max(rows_per_group(n_seq, n_ctx), n_ctx), n_rows // 4)
    end = max(n_rows - first, first + 1)
    shifts = (rng or np.random.default_rng(seed)).integers(first, end, nulls).tolist()
    more = max(0, -(-POOL // n_latents) - nulls) if nulls and n_latents else 0
    return shifts + np.random.default_rng([seed, POOL]).integers(first, end, more).tolist()


def null_scale(
    observed: Float64[np.ndarray, " unit"],
    nulls: Float64[np.ndarray, "repetition unit"],
    size: Float64[np.ndarray, " unit"],
    *,
    size_exponent: float = 0.0,
    min_std: float = 1e-6,
) -> NullScale:
    """How far the observations stand above the pooled nulls of units of similar size.

    `size_exponent` p: within a pool, the null's standard deviation goes as size^−p (1 for a mean over pairs).
    """
    sizes = np.broadcast_to(size, nulls.shape)
    usable = np.isfinite(nulls) & (sizes > 0)
    if not usable.any():
        return normal_scale(observed, np.nan, np.nan)
    order = np.argsort(sizes[usable], kind="stable")
    sizes, values = sizes[usable][order], nulls[usable][order]
    width = min(len(values), max(POOL, len(values) // 20))
    scale = sizes**size_exponent
    mean = _moving_mean(values, width)
    std = np.sqrt(_moving_mean(((values - mean) * scale) ** 2, width) * width / max(width - 1, 1)) / scale
    at = np.minimum(np.searchsorted(sizes, size), len(sizes) - 1)
    return normal_scale(observed, mean[at], np.where(size > 0, np.maximum(std[at], min_std), np.nan))


def normal_scale(observed: Float64[np.ndarray, " unit"], mean: Any, std: Any) -> NullScale:
    """How far the observations stand above a null of this mean and standard deviation; NaN where that is not finite."""
    known = np.isfinite(observed) & np.isfinite(std)
    low, high = (np.where(known, mean + side * 1.96 * std, np.nan) for side in (-1, 1))
    return NullScale(np.where(known, (observed - mean) / std, np.nan), low, high)


def _moving_mean(values: Float64[np.ndarray, " n"], width: int) -> Float64[np.ndarray, " n"]:
    """Mean over the `width` entries around each entry; at the ends, over the first or last `width`."""
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    first = np.clip(np.arange(len(values)) - width // 2, 0, len(values) - width)
    return (prefix[first + width] - prefix[first]) / width
