"""Which latents have one meaning, and how sure that is.

    evidence     coherence of contexts and tokens, consistency over strengths, number of senses    `interp.scores`
    probability  that evidence held against known unions of latents and against shifted text       `scores.calibration`
    verdict      dead | too_rare | dense | lexical, where one of these settles it; else by probability ≥ ½
    words        the rule that best predicts where the latent fires                                `interp.explain`

No label, no language model, and nothing but the feature store is needed. A verdict is about the text that was scanned.

Failing: a latent defined by what stands just before it, in any surroundings (whatever follows " the"), has contexts and
tokens as unlike as those of a union, and is called polysemantic; its explanation and that one's F1 tell.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64

from interp.features import FeatureStore

if TYPE_CHECKING:
    import pandas as pd

    from interp.scores.calibration import Calibrated
    from interp.scores.evidence import Evidence

DENSE = 0.5
"""A latent that fires on more than this share of tokens splits the text, whatever it means."""
DENSE_WITHOUT_MEANING = 0.1
"""The same, for latents whose contexts and tokens are no more alike than those of shifted text."""
BASE_RATE_Z = 3.0
LEXICAL_SHARE = 0.9
"""Activation mass on one token, spelt with or without a space and in any case, that makes a latent lexical."""

Progress = Callable[[int, int, str], None]


def rank_features(
    features: FeatureStore, *, nulls: int = 2, seed: int = 0, progress: Progress | None = None
) -> "pd.DataFrame":
    """Rank all latents, most monosemantic first (ties: by latent). One row a latent:

    latent                  index in the dictionary
    monosemanticity         probability of one meaning (`scores.calibration`); 0 for latents too rare to test, or dead
    ci_low, ci_high         its 95 % interval over the firings sampled; 0..1 for too_rare
    verdict                 dead           never fires
                            too_rare       fires in fewer than MIN_SEQUENCES (20) sequences (groups of up to 8
                                           neighbouring ones in a long text): not even two equal senses could be told
                                           from one at the 5 % level
                            dense          fires on > 50 % of tokens, or on > 10 % with coherence at the base rate
                            lexical        ≥ 90 % of its activation mass on one token and its variants in case and space
                            monosemantic   probability ≥ ½;    polysemantic   < ½
    n_senses                modes of its contexts (`scores.senses`); 0 where not tested
    explanation             words that predict where it fires, found on the fit half (`interp.explain`); "" if none
    explanation_f1, _precision, _recall      of that rule on all tokens of the held-out half
    coherence               mean cosine of the contexts of two firings, activation-weighted (`scores.coherence`)
    token_coherence         the same of the firing tokens' own vectors
    consistency             agreement of the contexts of weak and strong firings, 1 = alike
    separation              depth of the deepest valley between two senses, in standard deviations
    coherence_z, token_coherence_z, consistency_z, senses_z, separation_z
                            each (senses_z: of n_senses) above shifted text, in standard deviations of the latter
    token_entropy           of the firing tokens, nats
    token_share             activation mass on the commonest token and its variants
    density                 share of tokens it fires on;   n_active, n_sequences, burstiness: as in the features table

    nulls: number of shifted texts; latents of similar size share them, so two suffice.
    The same store and seed give the same table.
    Raises ValueError if nulls < 1.
    """
    from interp.explain import explain
    from interp.scores.calibration import calibrate
    from interp.scores.evidence import EvidenceConfig, collect_evidence

    table = features.table("features").sort_values("latent").reset_index(drop=True)
    maxima = table["max"].fillna(0).to_numpy(np.float32)
    config = EvidenceConfig(nulls=nulls, seed=seed)
    evidence = collect_evidence(
        features.tokens, features.codes, n_vocab=len(features.vocab), maxima=maxima, config=config, progress=progress
    )
    calibrated = calibrate(evidence, seed)
    words = explain(
        features.tokens,
        features.codes,
        features.vocab,
        features.fit_half(len(features.tokens)),
        maxima=maxima,
        seed=seed,
        progress=progress,
    )
    ranking = table[["latent"]].copy()
    _add_verdict(ranking, table, evidence, calibrated, _token_share(features, table))
    ranking["explanation"] = words.phrases
    ranking["explanation_f1"], ranking["explanation_precision"] = words.f1, words.precision
    ranking["explanation_recall"] = words.recall
    _add_evidence(ranking, evidence)
    for name in ("token_entropy", "token_share", "density", "n_active", "n_sequences", "burstiness"):
        ranking[name] = ranking.pop(name) if name in ranking else table[name]
    order = np.lexsort([ranking["latent"], -ranking["monosemanticity"]])
    return ranking.iloc[order].reset_index(drop=True)


def _add_verdict(
    ranking: "pd.DataFrame",
    table: "pd.DataFrame",
    evidence: "Evidence",
    calibrated: "Calibrated",
    token_share: Float64[np.ndarray, " d_sae"],
) -> None:
    tested = evidence.testable
    dead = table["n_active"].to_numpy() == 0
    ranking["monosemanticity"] = np.where(tested, calibrated.probability, 0.0)
    ranking["ci_low"] = np.where(tested, calibrated.ci_low, 0.0)
    ranking["ci_high"] = np.where(tested, calibrated.ci_high, np.where(dead, 0.0, 1.0))
    ranking["verdict"] = np.select(
        [dead, ~tested, _is_dense(table, evidence), token_share >= LEXICAL_SHARE, calibrated.probability >= 0.5],
        ["dead", "too_rare", "dense", "lexical", "monosemantic"],
        "polysemantic",
    )
    ranking["n_senses"] = np.nan_to_num(evidence.of("n_senses")).astype(np.int64)
    ranking["token_share"] = token_share


def _add_evidence(ranking: "pd.DataFrame", evidence: "Evidence") -> None:
    for name in ("coherence", "token_coherence", "consistency"):
        ranking[name] = evidence.of(name)
        ranking[f"{name}_z"] = evidence.z(name)
    ranking["senses_z"] = evidence.z("n_senses")
    ranking["separation"], ranking["separation_z"] = evidence.of("valley"), evidence.z("valley")


def _is_dense(table: "pd.DataFrame", evidence: "Evidence") -> Bool[np.ndarray, " d_sae"]:
    density = table["density"].to_numpy()
    z = np.fmax(evidence.z("coherence"), evidence.z("token_coherence"))
    return (density > DENSE) | ((density > DENSE_WITHOUT_MEANING) & ~(z >= BASE_RATE_Z))


def _token_share(features: FeatureStore, table: "pd.DataFrame") -> Float64[np.ndarray, " d_sae"]:
    """Share of each latent's activation mass on its commonest token and its variants in case and surrounding space."""
    from interp.explain.predicates import plain_strings

    spelt = [string.strip().casefold() or string for string in plain_strings(features.vocab)]
    firing = features.table("tokens").query("offset == 0")
    word = firing["token"].map(dict(enumerate(spelt)))
    most = firing["mass"].groupby([firing["latent"], word]).sum().groupby("latent").max()
    total = table["mean"].fillna(0).to_numpy(float) * table["n_active"].to_numpy()
    mass = most.reindex(table["latent"]).fillna(0).to_numpy()
    return np.divide(mass, total, out=np.zeros(len(table)), where=total > 0)
