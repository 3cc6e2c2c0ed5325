"""Does a twin dictionary, trained from another seed, have the same latent?

In: two scans of the same tokens, or two decoders. Out: for latent i the best match j in the twin,

    correlation_i = max_j Pearson(z_i, z'_j)       over the rows that both encoded, 0 where silent
    cosine_i      = max_j Ŵ_i · Ŵ'_j

and for the two dictionaries, with M the best one-to-one matching (Hungarian algorithm),

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|                                                (arXiv 2505.20254)

Source: the best match by either is folklore; PW-MCC, Song et al. 2025, who take |cosine| and a one-to-one matching, so
that two latents cannot both claim a third.
Cost: products of the codes, L0² a row (`joint_sums`); the matching, O(n³) at worst and n² in memory. `buffer_mb` holds
the correlations, in further passes over the codes if they need more (of more than some 5800 latents each).
Failing: stability, not meaning. A muddled direction that the data force on every seed is found again, and a fine
meaning that a narrow dictionary splits differently each time is not.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interp.features.feature_store import FeatureStore
from interp.files import Progress, no_progress, ratio
from interp.metrics.joint_sums import JointSums, joint_sums
from interp.monosemanticity.firings import CodeSource

_BLOCK = 256


class Matches(NamedTuple):
    """For each latent of one dictionary, that of another whose activation is most correlated with its own."""

    other: Int64[np.ndarray, " d_sae"]
    correlation: Float64[np.ndarray, " d_sae"]
    """NaN for one that never fires."""
    fired: Float64[np.ndarray, " d_sae"]
    """Rows, of those that both encoded."""


def best_correlations(
    features: FeatureStore, twin: FeatureStore, buffer_mb: int = 256
) -> Float64[np.ndarray, " d_sae"]:
    """The largest correlation of each latent's activation with one of the twin's; NaN for one that never fires.

    Raises ValueError if the tokens or the decoders' widths differ.
    """
    check_twin(features, twin)
    return best_matches(features.codes, twin.codes, buffer_mb).correlation


def best_matches(
    ours: CodeSource, theirs: CodeSource, buffer_mb: int = 256, progress: Progress = no_progress
) -> Matches:
    """Over the rows that both encoded. Raises ValueError for codes of unlike numbers of rows."""
    parts = [_best_of(sums) for sums in joint_sums(ours, theirs, [(1, 1)], buffer_mb, progress)]
    return Matches(*map(np.concatenate, zip(*parts, strict=True)))


def check_twin(features: FeatureStore, twin: FeatureStore) -> None:
    if not torch.equal(features.tokens, twin.tokens):
        raise ValueError(f"{twin.path} is a scan of other tokens than {features.path}: twins need the same")
    hooks = features.meta.get("hook_name"), twin.meta.get("hook_name")
    if all(hooks) and hooks[0] != hooks[1]:
        said = f"{twin.path} is a scan of {hooks[1]}, {features.path} one of {hooks[0]}"
        raise ValueError(f"{said}: twins read the same hook")
    ours, theirs = features.W_dec, twin.W_dec
    if ours is not None and theirs is not None and ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"decoders are {ours.shape[1]} and {theirs.shape[1]} wide: twins read the same hook")


@torch.no_grad()
def nearest_rows(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """For each row of `ours`, the row of `theirs` of the largest cosine, and that cosine."""
    other = _unit(theirs)
    best = [(block @ other.T).max(1) for block in _unit(ours).split(_BLOCK)]
    return torch.cat([b.indices for b in best]).numpy(), torch.cat([b.values for b in best]).double().numpy()


@torch.no_grad()
def matched_rows(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"]
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"], Float64[np.ndarray, " pair"]]:
    """The one-to-one matching of largest |cosine| in sum: row of ours, row of theirs, and their cosine; of unlike
    widths, all of the narrower are matched."""
    import scipy.optimize

    if len(ours) > len(theirs):
        other, own, cosine = matched_rows(theirs, ours)
        return own, other, cosine
    cosine = (_unit(ours) @ _unit(theirs).T).numpy()
    own, other = scipy.optimize.linear_sum_assignment(np.abs(cosine), maximize=True)
    return own, other, cosine[own, other].astype(np.float64)


def _best_of(sums: JointSums) -> Matches:
    own, n = sums.latents, max(sums.n_rows, 1)
    means = [each.total / n for each in (sums.ours, sums.theirs)]
    pairs = zip((sums.ours, sums.theirs), means, strict=True)
    stds = [np.sqrt(np.maximum(each.squares / n - mean**2, 0)) for each, mean in pairs]
    best, at = np.empty(len(own)), np.empty(len(own), np.int64)
    for start in range(0, len(own), _BLOCK):
        block = slice(start, start + _BLOCK)
        covariance = sums.products[0][block] / n - np.outer(means[0][own[block]], means[1])
        correlation = ratio(covariance, np.outer(stds[0][own[block]], stds[1]), empty=-np.inf)
        at[block], best[block] = correlation.argmax(1), correlation.max(1)
    return Matches(at, np.where(np.isfinite(best), best, np.nan), sums.ours.fired[own])


def _unit(W: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return torch.nn.functional.normalize(W.detach().float().cpu(), dim=1)
