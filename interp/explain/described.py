"""Latents and their senses in words: where each fires, what follows there, and a rule that tells it.

In: the parts into which the sampled firings of a latent fall (`monosemanticity.senses`). Out: what the ranking says of
each.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor

from interp.explain.counting import FitSample
from interp.explain.explanations import Explanations, explain
from interp.features.feature_store import FeatureStore
from interp.files import Progress, no_progress
from interp.monosemanticity.evidence import Evidence

SHOWN = 8
"""Example rows of a sense."""
FOLLOWING = 5
"""Tokens that follow in a sense."""


class Described(NamedTuple):
    words: Explanations
    senses: list[list[dict[str, Any]]]
    """One list a latent, the largest sense first; empty for latents with one."""


def describe(
    features: FeatureStore,
    evidence: Evidence,
    sample: FitSample,
    maxima: Float32[np.ndarray, " d_sae"],
    chosen: Bool[np.ndarray, " d_sae"],
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    progress: Progress | None = None,
) -> Described:
    """The latents chosen and their senses. sample: of the pass that the evidence is from; maxima: of each latent;
    labels: those that rules may name.

    A sense is `share` of the activation mass, `monosemanticity` and what of it is `by_chance`, `stability`, `n` sampled
    firings, `rows` of the strongest, `following` tokens, `promoted` share, `rule` and its `f1`
    (`ranking.rank_features`).
    """
    found = _senses(features, evidence)
    words, senses = explain(
        features.tokens,
        features.codes,
        features.vocab,
        features.fit_half(),
        maxima=maxima,
        senses=[(latent, rows) for latent, rows, _ in found],
        chosen=chosen,
        labels=labels,
        spelt=features.is_spelt,
        sample=sample,
        progress=progress or no_progress,
    )
    described: list[list[dict[str, Any]]] = [[] for _ in range(features.d_sae)]
    for (latent, _, sense), rule, f1 in zip(found, senses.phrases, senses.f1, strict=True):
        described[latent].append(sense | {"rule": rule, "f1": _known(f1)})
    return Described(words, described)


def _senses(
    features: FeatureStore, evidence: Evidence
) -> list[tuple[int, Int64[np.ndarray, " firing"], dict[str, Any]]]:
    """Latent, rows with the strongest first, and what is known of each sense without its rule."""
    flat, promoted, found = features.tokens.numpy().reshape(-1), _promoted(features), []
    for latent in np.flatnonzero(evidence.n_senses > 1).tolist():
        for sense in range(evidence.n_senses[latent]):
            at = np.flatnonzero(evidence.senses[latent] == sense)
            at = at[np.argsort(-evidence.shares[latent, at], kind="stable")]
            rows = evidence.rows[latent, at]
            following = _following(flat, features.n_ctx, rows)
            about = {
                "share": float(evidence.shares[latent, at].sum()),
                "monosemanticity": _known(evidence.sense_one[latent, sense]),
                "by_chance": _known(evidence.sense_by_chance(latent, sense)),
                "stability": float(evidence.stability[latent, sense]),
                "n": len(rows),
                "rows": rows[:SHOWN].tolist(),
                "following": _commonest(following),
                "promoted": _promoted_share(following, promoted.get(latent, ())),
            }
            found.append((latent, rows, about))
    return found


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _following(
    flat: Int[np.ndarray, " row"], n_ctx: int, rows: Int64[np.ndarray, " firing"]
) -> Int[np.ndarray, " token"]:
    """The token behind each firing that is not its sequence's last."""
    return flat[rows[rows % n_ctx < n_ctx - 1] + 1]


def _commonest(following: Int[np.ndarray, " token"]) -> list[int]:
    """The tokens that follow most often, those that follow once left out."""
    tokens, counts = np.unique(following, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:FOLLOWING]
    return [int(tokens[place]) for place in order if counts[place] > 1]


def _promoted(features: FeatureStore) -> dict[int, Sequence[int]]:
    """The tokens of each latent's largest direct logit effects, where the scan knew the model's unembedding."""
    table = features.table("features")
    if "top_logit_tokens" not in table:
        return {}
    known = table[table["top_logit_tokens"].notna()]
    return dict(zip(known["latent"], known["top_logit_tokens"], strict=True))


def _promoted_share(following: Int[np.ndarray, " token"], promoted: Sequence[int]) -> float | None:
    """Share of the firings that a promoted token follows: which of its senses a latent's output serves. None where
    nothing is known to be promoted, or nothing follows."""
    return float(np.isin(following, promoted).mean()) if len(promoted) and len(following) else None
