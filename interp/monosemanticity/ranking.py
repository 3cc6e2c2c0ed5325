"""Which latents have one meaning, and how sure that is.

    evidence     what the firings have in common, whether they fall into unrelated parts       `cohesion`, `splits`
    probability  of one meaning, calibrated on planted worlds whose truth is known             `scores.calibration`
    verdict      dead | too_rare | dense | lexical, where one of these settles it; else by probability ≥ ½
    senses       the parts of a polysemantic latent, each with its rule                        `scores.senses`
    words        the rule that best predicts where the latent fires                            `interp.explain`

The codes are read twice: for all evidence and samples, and to count the rules. No label, no language model, and nothing
but tokens and codes is needed. Labels, where there are any, are evidence for the reader, and words for the rules if
asked; no verdict knows them. A verdict is about the text that was scanned. How often it is right is measured by
`analyses/scorecard.py`.

Failing: what lies in none of the views that are looked at (`scores.views`: surroundings, the token, its spelling,
its neighbours), an idea or a tone, say, is no common meaning here; and two meanings of one script, topic or form count
as one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int

from interp.features.feature_store import FeatureStore
from interp.features.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

    from interp.metrics.embeddings import SequenceVectors
    from interp.metrics.recount import Masks
    from interp.metrics.shifted import MeasureNulls
    from interp.monosemanticity.calibration import Calibrated, Calibration
    from interp.monosemanticity.evidence import Evidence, EvidenceConfig
    from interp.monosemanticity.firings import CodeSource, FiringFacts, Listener

VERDICTS = ("monosemantic", "polysemantic", "lexical", "dense", "too_rare", "dead")
BY_PROBABILITY = ("monosemantic", "polysemantic")
DENSE = 0.5
"""A latent that fires on more than this share of tokens splits the text, whatever it means."""
DENSE_WITHOUT_MEANING = 0.1
"""The same, for latents whose contexts and tokens are no more alike than those of shifted text."""
BASE_RATE_Z = 3.0
BOOTSTRAPS = 4
"""In which the senses of a latent are looked for again."""
LEXICAL_SHARE = 0.9
"""Activation mass on one token, spelt with or without a space and in any case, that makes a latent lexical."""

Progress = Callable[[int, int, str], None]


def rank_features(
    features: FeatureStore,
    *,
    nulls: int = 2,
    seed: int = 0,
    calibration: "Calibration | None" = None,
    labels: "Masks | None" = None,
    use_labels: bool = False,
    embeddings: "SequenceVectors | None" = None,
    twin: FeatureStore | None = None,
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """Rank all latents, most monosemantic first (ties: by latent). One row a latent:

    latent                  index in the dictionary
    monosemanticity         probability of one meaning (`scores.calibration`); 0 for latents too rare to test, or dead
    ci_low, ci_high         its 95 % interval over the firings sampled and the worlds calibrated on; 0..1 for too_rare
    verdict                 dead           never fires
                            too_rare       fires in fewer than MIN_GROUPS (20) groups of up to 8 neighbouring sequences,
                                           or blocks of a long one where there are few (`scores.groups`):
                                           not even two equal senses could be told from one
                            dense          fires on > 50 % of tokens, or on > 10 % with coherence at the base rate
                            lexical        ≥ 90 % of its activation mass on one token and its variants in case and space
                            monosemantic   probability ≥ ½;    polysemantic   < ½
    sure                    the interval lies on one side of ½, and the latent could be tested; a monosemantic or
                            polysemantic latent that is not is unsure: its verdict is the likelier of the two, no more
    n_senses                parts into which its firings fall (`scores.senses`); 0 where not tested. 1 for a
                            polysemantic latent: its firings have no meaning in common, yet no parts can be told apart
    explanation             words that predict where it fires, found on the fit half (`interp.explain`); "" if none
    explanation_f1, _precision, _recall, _f1_one, _n_examples, _bits, _f1_by_interval     of that rule on all tokens of
                            the held-out half (`explain.Explanations`)
    n_senses_z, n_senses_null_low, n_senses_null_high       beside that of shifted text, whose firings fall into parts
                            too: not the number tells senses from chance, but what each has in common
    senses                  one dictionary a sense, the largest first: `share` of the activation mass;
                            `monosemanticity`, the probability that it has one meaning itself (None of a few firings),
                            and `by_chance`, the share of the senses of shifted text that reach that; `stability`, how
                            well it is found again in bootstraps (1: exactly); `rule` in words with its `f1` ("" and
                            None where none was found); `n` sampled firings, `rows` of up to 8 of them (seq * n_ctx +
                            pos); `following` tokens; `promoted`: share of its firings that a token follows which the
                            latent raises most (None where no logit effects are known). [] for latents with one sense or
                            not tested
    view                    in which its firings are most similar (`views`)
    effect_size, core_share, consistency, cosine, between_within_ratio, between_similarity, within_similarity,
    part_share, …_even      see `cohesion`
    context_coherence       mean cosine of the contexts of two firings, activation-weighted (`scores.evidence`)
    token_coherence         the same of the firing tokens' own vectors
    x_z, x_null_low, x_null_high        of each of these: standard deviations above shifted text, and the latter's
                            central 95 % for a latent of that size
    token_share             activation mass on the commonest token and its variants
    token_entropy, …, burstiness        the other measures of `scores.table`, ngram_coherence among them
    residual_coherence      where `embeddings` are given;   twin_cosine, twin_correlation   where a `twin` is
    x_z, x_null_low, x_null_high        of each of these, on shifted text or of random directions (`scores.shifted`);
                            NaN where not tested
    density                 share of tokens it fires on;   n_active, n_sequences: as in the features table

    nulls: number of shifted texts; latents of similar size share them, so two suffice; where fewer than 100 fire (or,
    for the measures, may be tested) there are more. calibration: None for the one that ships. labels: the masks that
    were scanned, for the nulls of their measures: the store keeps counts only. use_labels: let the rules of latents and
    senses name labels too; without it words know tokens and strings only. embeddings: `ResidualVectors.from_store` of
    the tokens that were scanned. twin: a scan of them with a dictionary from another seed (of more than some 5800
    latents each, the codes are read more often). None of these changes a probability or a verdict. The same store and
    seed give the same table. Where the store was given no vocabulary (`FeatureStore.is_spelt`), nothing hangs on how
    tokens are spelt.
    Raises ValueError if nulls < 1 or seed < 0, if use_labels is set and there are no labels, or if a mask, the
    embeddings or the twin are not of the tokens that were scanned.
    """
    import pandas as pd

    from interp.explain import FitSample, describe
    from interp.metrics.shifted import MeasureNulls
    from interp.monosemanticity.evidence import EvidenceConfig

    _check_inputs(features, nulls, seed, labels, use_labels, embeddings)
    vectors = _vectors(features, embeddings)
    beside = MeasureNulls(features, nulls=nulls, seed=seed, labels=labels, vectors=vectors, twin=twin)
    sample = FitSample(features.d_sae, features.n_ctx, features.fit_half().numpy(), seed)
    judged = _judge(
        features.tokens,
        features.codes,
        features.vocab,
        _facts_of(features),
        calibration,
        EvidenceConfig(nulls=nulls, seed=seed, bootstraps=BOOTSTRAPS),
        progress,
        spelling=features.is_spelt,
        listeners=[*beside.listeners, sample.add],
    )
    ranking = judged.ranking
    named = labels if use_labels else None
    words, senses = describe(features, judged.evidence, sample, judged.facts.maxima, named, progress)
    ranking["explanation"] = words.phrases
    ranking["explanation_f1"], ranking["explanation_precision"] = words.f1, words.precision
    ranking["explanation_recall"], ranking["explanation_f1_one"] = words.recall, words.f1_one
    ranking["explanation_n_examples"], ranking["explanation_bits"] = words.n_examples, words.bits
    ranking["explanation_f1_by_interval"] = list(words.f1_by_interval)
    ranking["senses"] = pd.Series(senses, dtype=object)
    measured = _measure_columns(features, judged, beside, progress)
    ranking = pd.concat([ranking.drop(columns="token_share"), pd.DataFrame(measured)], axis=1)
    first = [*_FIRST, *(c for c in ranking.columns if c not in _FIRST and c not in _LAST), *_LAST]
    return _sorted(ranking[first])


_FIRST = ["latent", "monosemanticity", "ci_low", "ci_high", "verdict", "n_senses", "explanation", "explanation_f1"]
_FIRST += ["explanation_precision", "explanation_recall", "explanation_f1_one", "explanation_n_examples"]
_FIRST += ["explanation_bits", "explanation_f1_by_interval", "senses", "sure", "view"]
_LAST = ["density", "n_active", "n_sequences"]


def rank_codes(
    tokens: Int[torch.Tensor, "seq pos"],
    codes: "CodeSource",
    *,
    vocab: Sequence[str] | None = None,
    nulls: int = 1,
    seed: int = 0,
    calibration: "Calibration | None" = None,
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """The ranking of any codes (rows seq * n_ctx + pos) without a feature store, and without words: `rank_features`'
    columns but for explanations, rules and those of the features table.

    vocab: one string a token id; without it nothing is known of how tokens are spelt. nulls: as in `rank_features`.
    Raises ValueError if nulls < 1 or seed < 0.
    """
    from interp.monosemanticity.evidence import EvidenceConfig
    from interp.monosemanticity.firings import count_firings

    _check_numbers(nulls, seed)
    n_vocab = int(tokens.max()) + 1
    names = [str(i) for i in range(n_vocab)] if vocab is None else vocab
    config = EvidenceConfig(nulls=nulls, seed=seed)
    given = tokens, codes, names, count_firings(codes), calibration, config, progress
    return _sorted(_judge(*given, spelling=vocab is not None).ranking)


def verdict_shares(ranking: "pd.DataFrame") -> "pd.DataFrame":
    """How many latents have each verdict, and of how many that is sure. A row a verdict:

    verdict, n                              of all latents
    share, ci_low, ci_high                  of all that fire, with its 95 % interval (Wilson); NaN for dead
    sure_share, sure_low, sure_high         of all that fire, those that have the verdict and are `sure` of it
    unsure_share, unsure_low, unsure_high   of all that fire, those of either verdict by probability that are not

    The last six are NaN for the verdicts that do not go by the probability; the last three say the same of
    monosemantic and polysemantic, since ½ may lie on either side of these.
    """
    import pandas as pd

    fires = int((ranking["verdict"] != "dead").sum())
    unsure = ranking["verdict"].isin(BY_PROBABILITY) & ~ranking["sure"].astype(bool)
    rows = []
    for verdict in VERDICTS:
        own, judged = ranking["verdict"] == verdict, verdict in BY_PROBABILITY
        shares = {("share", "ci_low", "ci_high"): int(own.sum()) if verdict != "dead" else None}
        shares["sure_share", "sure_low", "sure_high"] = int((own & ~unsure).sum()) if judged else None
        shares["unsure_share", "unsure_low", "unsure_high"] = int(unsure.sum()) if judged else None
        rows.append({"verdict": verdict, "n": int(own.sum())})
        for names, k in shares.items():
            rows[-1] |= dict(zip(names, _share_of(k, fires), strict=True))
    return pd.DataFrame(rows)


def _share_of(k: int | None, n: int) -> tuple[float, float, float]:
    return (np.nan, np.nan, np.nan) if k is None else (k / max(n, 1), *wilson(k, n))


def verdict_counts(ranking: "pd.DataFrame") -> dict[str, Any]:
    """`verdicts`: how many latents have each; `unsure`: how many of those by probability have an interval that holds ½;
    `inseparable`: how many are polysemantic with one sense."""
    by_probability = ranking[ranking["verdict"].isin(BY_PROBABILITY)]
    return {
        "verdicts": ranking["verdict"].value_counts().to_dict(),
        "unsure": (~by_probability["sure"].astype(bool)).groupby(by_probability["verdict"]).sum().to_dict(),
        "inseparable": int(((ranking["verdict"] == "polysemantic") & (ranking["n_senses"] == 1)).sum()),
    }


@dataclass(frozen=True)
class _Judged:
    ranking: "pd.DataFrame"
    """In the order of the latents."""
    evidence: "Evidence"
    facts: "FiringFacts"
    token_share: Float64[np.ndarray, " d_sae"]


def _judge(
    tokens: Int[torch.Tensor, "seq pos"],
    codes: "CodeSource",
    vocab: Sequence[str],
    facts: "FiringFacts",
    calibration: "Calibration | None",
    config: "EvidenceConfig",
    progress: Progress | None,
    *,
    spelling: bool,
    listeners: Sequence["Listener"] = (),
) -> _Judged:
    import pandas as pd

    from interp.metrics.tokens import WordMass
    from interp.monosemanticity.calibration import Calibration, calibrate
    from interp.monosemanticity.evidence import collect_evidence

    calibration = calibration or Calibration.load()
    words = WordMass(tokens, vocab, codes.d_sae)
    evidence = collect_evidence(
        tokens,
        codes,
        n_vocab=len(vocab),
        maxima=facts.maxima,
        has_one=lambda values: float(calibration.probability(values)),
        vocab=vocab if spelling else None,
        config=config,
        listeners=[words.add, *listeners],
        progress=progress,
    )
    ranking = pd.DataFrame({"latent": np.arange(codes.d_sae)})
    token_share = words.largest_share
    _add_verdict(ranking, facts, evidence, calibrate(evidence, calibration), token_share)
    columns = _evidence_columns(evidence)
    columns["token_share"] = token_share
    columns["density"] = facts.n_active / max(facts.n_rows, 1)
    columns["n_active"] = facts.n_active
    return _Judged(pd.concat([ranking, pd.DataFrame(columns)], axis=1), evidence, facts, token_share)


def _add_verdict(
    ranking: "pd.DataFrame",
    facts: "FiringFacts",
    evidence: "Evidence",
    calibrated: "Calibrated",
    token_share: Float64[np.ndarray, " d_sae"],
) -> None:
    tested, dead = evidence.testable, facts.n_active == 0
    ranking["monosemanticity"] = np.where(tested, calibrated.probability, 0.0)
    ranking["ci_low"] = np.where(tested, calibrated.ci_low, 0.0)
    ranking["ci_high"] = np.where(tested, calibrated.ci_high, np.where(dead, 0.0, 1.0))
    lexical = token_share >= LEXICAL_SHARE
    ranking["verdict"] = np.select(
        [dead, ~tested, _is_dense(facts, evidence), lexical, calibrated.probability >= 0.5],
        ["dead", "too_rare", "dense", "lexical", "monosemantic"],
        "polysemantic",
    )
    ranking["sure"] = tested & ((calibrated.ci_low > 0.5) | (calibrated.ci_high < 0.5))
    ranking["n_senses"] = evidence.n_senses


def _evidence_columns(evidence: "Evidence") -> dict[str, Any]:
    from interp.monosemanticity import views
    from interp.monosemanticity.evidence import NAMES

    named = np.array([*views.NAMES, ""], dtype=object)
    columns: dict[str, Any] = {"view": named[evidence.best_view]}
    senses = evidence.senses_null
    columns |= {"n_senses_z": senses.z, "n_senses_null_low": senses.low, "n_senses_null_high": senses.high}
    for name in (*NAMES[2:], *NAMES[:2]):
        null = evidence.null(name)
        columns |= {name: evidence.of(name), f"{name}_z": null.z}
        columns |= {f"{name}_null_low": null.low, f"{name}_null_high": null.high}
    return columns


def _check_numbers(nulls: int, seed: int) -> None:
    if nulls < 1:
        raise ValueError(f"nulls={nulls} must be at least 1: without a null no score has a scale")
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative: take 0 or more")


def _check_inputs(
    features: FeatureStore,
    nulls: int,
    seed: int,
    labels: "Masks | None",
    use_labels: bool,
    embeddings: "SequenceVectors | None",
) -> None:
    _check_numbers(nulls, seed)
    if use_labels and not labels:
        raise ValueError(
            "use_labels=True, but no labels were given: a store keeps counts of labels and not their masks"
        )
    if embeddings is not None and embeddings.n_ctx != features.n_ctx:
        raise ValueError(f"the embeddings are of n_ctx={embeddings.n_ctx}, {features.path} of n_ctx={features.n_ctx}")


def _vectors(features: FeatureStore, embeddings: "SequenceVectors | None") -> dict[str, "SequenceVectors"]:
    """Those that each coherence is taken in."""
    from interp.metrics.embeddings import NgramVectors

    vectors: dict[str, SequenceVectors] = {}
    if features.is_spelt:
        vectors["ngram_coherence"] = NgramVectors.from_tokens(features.tokens, features.vocab)
    return vectors if embeddings is None else vectors | {"residual_coherence": embeddings}


def _measure_columns(
    features: FeatureStore, judged: _Judged, beside: "MeasureNulls", progress: Progress | None
) -> dict[str, Any]:
    """The single measures, each beside its null where it has one."""
    from interp.metrics.table import scan_measures

    measures = {"token_share": judged.token_share, **scan_measures(features), **beside.measures(progress)}
    del measures["density"]  # known of dead latents too
    found = beside.scales(judged.evidence, measures)
    table = features.table("features").sort_values("latent")
    columns: dict[str, Any] = {"n_sequences": table["n_sequences"].to_numpy()}
    for name, values in measures.items():
        columns[name] = values
        if name in found:
            null = found[name]
            columns |= {f"{name}_z": null.z, f"{name}_null_low": null.low, f"{name}_null_high": null.high}
    return columns


def _is_dense(facts: "FiringFacts", evidence: "Evidence") -> Bool[np.ndarray, " d_sae"]:
    density = facts.n_active / max(facts.n_rows, 1)
    z = np.fmax(evidence.null("context_coherence").z, evidence.null("token_coherence").z)
    return (density > DENSE) | ((density > DENSE_WITHOUT_MEANING) & ~(z >= BASE_RATE_Z))


def _facts_of(features: FeatureStore) -> "FiringFacts":
    """As the scan counted them."""
    from interp.monosemanticity.firings import FiringFacts

    table = features.table("features").sort_values("latent")
    maxima = table["max"].fillna(0).to_numpy(np.float32)
    return FiringFacts(maxima, table["n_active"].to_numpy(np.int64), len(features.codes))


def _sorted(ranking: "pd.DataFrame") -> "pd.DataFrame":
    order = np.lexsort([ranking["latent"], -ranking["monosemanticity"]])
    return ranking.iloc[order].reset_index(drop=True)
