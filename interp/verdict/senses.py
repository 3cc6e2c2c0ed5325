"""Describe the senses of latents: the firings of each, the predicates that they share, and its rule in words.

In: the evidence of a ranking, with the senses of each latent's sampled firings (`similarity`). Out: a dictionary of
facts for each sense, including its rule. The same passes give the explanations of the latents themselves
(`explanations`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from interp.features.feature_store import FeatureStore
from interp.runtime.progress import Progress, no_progress
from interp.text.rules import atoms_json
from interp.text.vocabulary import quoted_text
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import FiringEvidence
from interp.verdict.explanations import Explanations, Sense, explain
from interp.verdict.rule_search import FitFirings

N_STRONGEST_ROWS = 8
"""Number of example rows of a sense among its strongest firings."""
N_WEAKEST_ROWS = 4
"""Number of example rows of a sense among its weakest firings."""
N_FOLLOWING_TOKENS = 5
"""Number of following tokens that are listed for a sense."""


class DescribedLatents(NamedTuple):
    """The latents in words, and their senses."""

    rules: Explanations
    senses: list[list[dict[str, Any]]]
    """One list per latent, the largest sense first; empty for latents with one sense."""


def describe(
    features: FeatureStore,
    text: CodedText,
    evidence: FiringEvidence,
    *,
    sample: FitFirings,
    chosen: Bool[np.ndarray, " d_sae"],
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    progress: Progress = no_progress,
) -> DescribedLatents:
    """Explain the chosen latents, and describe their senses.
    text: the text of the features.
    sample: firings from the pass that gave the evidence.
    labels: labels that rules may name.

    A sense has `share` (of the activation mass), `monosemanticity`, `by_chance` (share of shifted text that reaches
    it), `common` (what its firings share, in words, and `common_json`), `n` (sampled firings), `rows` of the strongest
    and `weak_rows`, `following` tokens, `promoted` (a share), and `rule` with its `rule_json`, `f1`, `precision` and
    `recall`; if no rule was found, the rule is the token of most of its firings, else the first of `common`, and its
    JSON is "".
    """
    found_senses = _senses(features, evidence)
    latent_rules, senses = explain(
        text,
        sample,
        senses=[sense for sense, _ in found_senses],
        chosen=chosen,
        labels=labels,
        progress=progress,
    )
    described: list[list[dict[str, Any]]] = [[] for _ in range(features.d_sae)]
    for number, (sense, facts) in enumerate(found_senses):
        scores = {name: _none_if_nan(getattr(senses, name)[number]) for name in ("f1", "precision", "recall")}
        rule = senses.phrases[number] or _token_of_most(text, sense) or next(iter(facts["common"]), "")
        described[sense.latent].append(facts | {"rule": rule, "rule_json": senses.json[number]} | scores)
    return DescribedLatents(latent_rules, described)


def _token_of_most(text: CodedText, sense: Sense) -> str:
    """Return the token at more than half of a sense's firings, quoted; "" for none."""
    tokens, counts = np.unique(text.tokens.numpy().reshape(-1)[sense.rows], return_counts=True)
    is_most = 2 * counts.max() > len(sense.rows)
    return quoted_text(text.predicates.text.token_name(int(tokens[counts.argmax()]))) if is_most else ""


def _senses(features: FeatureStore, evidence: FiringEvidence) -> list[tuple[Sense, dict[str, Any]]]:
    """Return each sense, its rows from the strongest on, with the facts other than its rule."""
    flat = features.tokens.numpy().reshape(-1)
    promoted = _promoted_tokens(features)
    senses = []
    one = evidence.sense_one
    chance_share = evidence.sense_by_chance
    n_senses = evidence.observed.n_senses
    for latent in np.flatnonzero(n_senses > 1).tolist():
        for sense in range(n_senses[latent]):
            firings = np.flatnonzero(evidence.observed.senses[latent] == sense)
            rows = evidence.sampled_rows[latent, firings[::-1]]  # the strongest tenth first
            following = tokens_following(flat, features.n_ctx, rows)
            common = evidence.observed.shared.get((latent, sense), ())
            about = {
                "share": float(evidence.mass_shares[latent, firings].sum()),
                "monosemanticity": _none_if_nan(one[latent, sense]),
                "by_chance": _none_if_nan(chance_share[latent, sense]),
                "common": [atom.words for atom in common],
                "common_json": atoms_json(common),
                "n": len(rows),
                "rows": rows[:N_STRONGEST_ROWS].tolist(),
                "weak_rows": rows[N_STRONGEST_ROWS:][-N_WEAKEST_ROWS:].tolist(),
                "following": _commonest_tokens(following),
                "promoted": promoted_share(following, promoted.get(latent, ())),
            }
            senses.append((Sense(latent, rows, float(evidence.count_shares[latent, firings].sum())), about))
    return senses


def _none_if_nan(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def tokens_following(
    flat: Int[np.ndarray, " row"], n_ctx: int, rows: Int64[np.ndarray, " firing"]
) -> Int[np.ndarray, " token"]:
    """Return the token after each firing that is not its sequence's last."""
    return flat[rows[rows % n_ctx < n_ctx - 1] + 1]


def _commonest_tokens(following: Int[np.ndarray, " token"]) -> list[int]:
    """Return the tokens that follow most often. A token that follows only once is left out."""
    tokens, counts = np.unique(following, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:N_FOLLOWING_TOKENS]
    return [int(tokens[index]) for index in order if counts[index] > 1]


def _promoted_tokens(features: FeatureStore) -> dict[int, Sequence[int]]:
    """Return the tokens of each latent's largest direct logit effects, if the scan had the model's unembedding."""
    if not features.has_logits:
        return {}
    table = features.table("features")
    return dict(zip(table["latent"], table["top_logit_tokens"], strict=True))


def promoted_share(following: Int[np.ndarray, " token"], promoted: Sequence[int]) -> float | None:
    """Return the share of the firings that are followed by a promoted token. It shows which senses a latent's output
    serves. Returns None if no promoted tokens are known, or if nothing follows."""
    return float(np.isin(following, promoted).mean()) if len(promoted) and len(following) else None
