"""Do the tokens that a latent promotes follow its firings?

With T the tokens of its largest direct logit effects, a_i the activation of firing i, x_i the token that follows it,
and U the text's unigrams:

    hits      = Σ_i a_i [x_i ∈ T] / Σ_i a_i
    base      = U(T), half a token added
    log_lift  = log((N · hits + base) / ((N + 1) · base))        as if one firing more had been followed as any token is
    auroc     = P(effect on what follows > effect on any token of the text), what follows weighted by a_i

Source: exact counts of what follows, and the direct effects, both of the scan; the idea is that of logit attribution
(Bricken et al. 2023: "feature downstream effects"). Cost: none beyond the scan.
Failing: it reads the last step only. Latents of early layers act through later layers, so that a clear feature has
direct effects that say nothing; a latent that detects one of two tokens that precede the same one is coherent here and
has two meanings; and a latent that foretells many tokens a little has a low lift.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from interp.features.feature_store import FeatureStore


@dataclass(frozen=True)
class LogitCoherence:
    """NaN where there are no logit effects, or nothing follows."""

    hits: Float64[np.ndarray, " d_sae"]
    base: Float64[np.ndarray, " d_sae"]
    log_lift: Float64[np.ndarray, " d_sae"]
    auroc: Float64[np.ndarray, " d_sae"]


def logit_coherence(features: FeatureStore) -> LogitCoherence:
    """Lift and AUROC of the promoted tokens among those that follow."""
    table = features.table("features").sort_values("latent")
    columns = "top_logit_tokens", "top_logit_next_share", "next_auroc"
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"{features.path} lacks {', '.join(missing)}: an earlier version scanned it; scan it again")
    hits, base, log_lift = (np.full(len(table), np.nan) for _ in range(3))
    auroc = table["next_auroc"].to_numpy(float)
    known = np.flatnonzero(table["top_logit_next_share"].notna().to_numpy() & ~np.isnan(auroc))
    if len(known):
        top = np.stack(table["top_logit_tokens"].iloc[known].to_list())
        hits[known] = np.stack(table["top_logit_next_share"].iloc[known].to_list()).sum(1)
        base[known] = base_rate(features, top)
        following = features.table("offsets").query("offset == 1").sort_values("latent")["n"].to_numpy()
        log_lift[known] = log_lift_of(hits[known], base[known], following[known])
    return LogitCoherence(hits, base, log_lift, auroc)


def base_rate(features: FeatureStore, top: Int64[np.ndarray, "latent token"]) -> Float64[np.ndarray, " latent"]:
    """Share of the text that the promoted tokens `top` of each latent are."""
    counts = np.bincount(features.tokens.flatten().numpy(), minlength=top.max() + 1)
    return (counts[top].sum(1) + 0.5) / (counts.sum() + 1)


def log_lift_of(
    hits: Float64[np.ndarray, " latent"], base: Float64[np.ndarray, " latent"], following: Int64[np.ndarray, " latent"]
) -> Float64[np.ndarray, " latent"]:
    """`following`: firings that any token follows."""
    return np.log((following * hits + base) / ((following + 1) * base))
