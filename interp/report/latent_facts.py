"""Gather what is known of each latent for its name.

In: features and ranking, with one row per latent (also dead latents), in the same order, the senses, and the stored
firings. Out: `naming.LatentFacts`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.display.segments import Segments, Token
from interp.display.verdict_names import ONE_MEANING_VERDICTS
from interp.features.feature_store import FeatureStore
from interp.report.columns import Commonest, values_of
from interp.report.contexts import Labels
from interp.report.json_text import number
from interp.report.naming import (
    MOST,
    N_LISTED,
    N_STRONGEST,
    N_UNLIKE,
    Described,
    Description,
    LatentFacts,
    growing_lists,
    share_among,
)
from interp.report.rule_reader import RuleReader
from interp.report.strongest_firings import shared_by_strongest
from interp.report.verdict_evidence import described_by, is_described_by_rule, most_shared, tokens_at, without_itself
from interp.report.whole_words import beyond_token, longer_words, whole_words
from interp.statistics.cutoffs import MIN_F1
from interp.text.predicate_kinds import TOPIC
from interp.text.short_rules import Clause, merge_words, segments_of


class Surroundings(NamedTuple):
    """The kind of text in which most firings of a latent lie."""

    label: str
    share: float
    """The share of its firings in it."""
    name: str
    """What the label is called (`label_names`)."""
    lift: float
    """How much larger that share is than that of all text."""


def latent_facts(
    features: FeatureStore,
    table: pd.DataFrame,
    ranking: pd.DataFrame,
    *,
    kinds: Mapping[int, Surroundings],
    commonest: Commonest,
    senses: Mapping[int, Sequence[Mapping[str, Any]]],
    strongest: Mapping[int, Mapping[int, float]],
    read: RuleReader,
    measured: Sequence[Sequence[Clause]],
    shown: Sequence[Sequence[Clause]],
    masks: Labels,
    label_names: Mapping[str, str],
) -> list[LatentFacts]:
    """Return what is known of each latent.
    masks: of labels over the scanned tokens. label_names: what each label is called (`label_names.label_names`).
    kinds: `told_kinds`.
    measured, shown: the rule of each latent, as its F1 was measured and as it is shown.
    senses: `verdict_evidence.senses_of`.
    strongest: `verdict_evidence.firings_by_strength`."""
    rows = {latent: list(firings)[:N_STRONGEST] for latent, firings in strongest.items()}
    texts = {latent: tokens_at(features, own) for latent, own in rows.items()} if features.has_text else {}
    n_active = table["n_active"].tolist()
    longer = longer_words(features, n_active) if features.has_text else {}
    ways: list[Mapping[int, Sequence[Description]]] = [
        _by_label(table, rows, masks, label_names),
        {latent: whole_words(own, texts.get(latent, [])) for latent, own in longer.items()},
        _by_tokens(features, n_active, commonest, texts, read) if features.has_text else {},
        _by_rule(ranking, shown),
    ]
    in_common = shared_by_strongest(features, rows, read.counts, masks, label_names) if features.has_text else {}
    has_one_meaning = ranking["verdict"].isin(ONE_MEANING_VERDICTS)
    shared = most_shared(ranking[has_one_meaning & (ranking["shared_share"] >= MOST)])
    shared = {latent: atom for latent, atom in shared.items() if atom.subject != TOPIC}

    def on_strongest(latent: int, own: Sequence[str], most: int = N_LISTED) -> Segments:
        commonest = [text for text, _ in Counter(own).most_common(most)]
        where = in_common.get(latent) or ([f"in {kinds[latent].name}"] if latent in kinds else [])
        return [*read.tokens(latent, commonest), *([" ", *where] if where else [])] if own else []

    def beyond(latent: int, named: Segments) -> Segments:
        """Return in which longer words or numbers the firings are where one token names a latent."""
        match named:
            case [Token() as token] if latent in longer and token.text.strip() == commonest.tokens[latent][0].strip():
                return beyond_token(longer[latent], token.text)
        return []

    def otherwise(latent: int) -> Segments:
        if latent in shared:
            told = segments_of(read(latent, without_itself(shared[latent], texts.get(latent, []))))
            return merge_words(["mostly ", *told])
        if texts.get(latent):
            return ["most strongly ", *on_strongest(latent, texts[latent], N_UNLIKE)]
        return ["No label describes where it fires." if n_active[latent] else "It never fired."]

    def of_sense(latent: int, sense: Mapping[str, Any]) -> Described:
        words = segments_of(read.of_sense(latent, sense, described_by(sense)))
        has_rule = is_described_by_rule(sense) and sense["f1"] is not None
        own = tokens_at(features, sense["strongest"][:N_STRONGEST]) if features.has_text else []
        told: Segments = ["most strongly ", *on_strongest(latent, own, N_UNLIKE)] if own else ["no rule"]
        return Described(
            descriptions=[Description("rule", words, sense["f1"])] if has_rule else [],
            otherwise=words or told,
            share=sense["share"],
        )

    def of_several(latent: int) -> list[Described]:
        told = [] if has_one_meaning[latent] else [of_sense(latent, one) for one in senses.get(latent, [])]
        return told if sum(MOST if one.share is None else one.share for one in told) >= MOST else []

    return [
        LatentFacts(
            descriptions=[
                one._replace(beyond=beyond(latent, one.segments)) for way in ways for one in way.get(latent, ())
            ],
            otherwise=otherwise(latent),
            is_unclear=latent not in shared and latent not in in_common and len({*texts.get(latent, ())}) > 1,
            strongest=on_strongest(latent, texts.get(latent, [])),
            in_common=in_common.get(latent, []),
            senses=of_several(latent),
            rule=shown[latent],
            measured=None if shown[latent] == measured[latent] else measured[latent],
        )
        for latent in range(len(table))
    ]


def _by_label(
    table: pd.DataFrame, strongest: Mapping[int, Sequence[int]], masks: Labels, names: Mapping[str, str]
) -> dict[int, list[Description]]:
    """Return each latent with the label that it detects best. strongest: the rows of its strongest firings."""
    described = {}
    holds = {label: np.asarray(mask).reshape(-1) for label, mask in masks.items()}
    best, f1 = values_of(detected_labels(table).to_frame("label"), "label"), values_of(table, "best_label_f1")
    for latent, label in enumerate(best):
        if label is None:
            continue
        rows = strongest.get(latent, []) if label in holds else []
        at_strongest = float(holds[label][rows].mean()) if rows else 1
        described[latent] = [Description("label", [names[label]], number(f1[latent]), at_strongest)]
    return described


def _by_tokens(
    features: FeatureStore,
    n_active: Sequence[int],
    commonest: Commonest,
    strongest: Mapping[int, Sequence[str]],
    read: RuleReader,
) -> dict[int, list[Description]]:
    """Return the tokens that each latent fires on. strongest: the tokens of its strongest firings."""
    n_anywhere = Counter[str]()
    ids = features.tokens.reshape(-1).numpy()
    for text, n in zip(features.vocab, np.bincount(ids, minlength=len(features.vocab)).tolist(), strict=True):
        n_anywhere[text] += n
    described = {}
    for latent, (texts, shares) in enumerate(zip(commonest.tokens, commonest.shares, strict=True)):
        known = zip(texts, shares, strict=True)
        counts = {text: (share, n_anywhere[text] / n_active[latent]) for text, share in known}
        described[latent] = [
            Description("tokens", read.tokens(latent, listed), f1, share_among(strongest.get(latent, []), listed))
            for listed, f1 in growing_lists(counts)
        ]
    return described


def _by_rule(ranking: pd.DataFrame, shown: Sequence[Sequence[Clause]]) -> dict[int, list[Description]]:
    """Return the rule of each latent. shown: each as it is shown."""
    columns = ("explanation_f1", "explanation_precision", "explanation_f1_by_interval")
    scores = zip(*(ranking[name] for name in columns), strict=True)
    return {
        latent: [Description("rule", segments_of(clauses), number(f1), _recall_at_strongest(precision, by_interval))]
        for latent, (clauses, (f1, precision, by_interval)) in enumerate(zip(shown, scores, strict=True))
        if clauses
    }


def in_brief(rule: Sequence[Clause], kind: Surroundings | None) -> list[Clause]:
    """Return a rule without the kinds of text that it tells by their commonest tokens, which nobody takes in: in their
    place stands the one in which most firings are, if that is known."""
    of_text = f"in {kind.name}" if kind else "in some kinds of text"
    return [Clause(None, [of_text]) if one.is_told_by_tokens else one for one in rule]


def detected_labels(table: pd.DataFrame) -> pd.Series:
    """Return the label that each latent detects best, None if its F1 is below MIN_F1 or there are no labels."""
    if "best_label" not in table:
        return pd.Series(None, table.index, dtype=object)
    return table["best_label"].where(table["best_label_f1"] >= MIN_F1)


def surroundings(features: FeatureStore, names: Mapping[str, str]) -> dict[int, Surroundings]:
    """Return each latent with the label that holds at half of its firings or more, of several such labels the rarest.
    names: `label_names`."""
    rows = features.sql(f"""
        select latent, label, firing_share, firing_share * {features.tokens.numel()} / n_label as lift from labels
        where firing_share >= {MOST} qualify row_number() over (partition by latent order by lift desc, label) = 1""")
    return {
        latent: Surroundings(label, number(share, 2), names[label], lift)
        for latent, label, share, lift in rows.itertuples(index=False, name=None)
    }


def told_kinds(kinds: Mapping[int, Surroundings]) -> dict[int, Surroundings]:
    """Return those of the kinds of text that are not as common in other text, which alone are told."""
    return {latent: kind for latent, kind in kinds.items() if kind.lift * MOST >= 1}


def _recall_at_strongest(precision: float, f1_by_interval: Sequence[float] | float) -> float:
    """Return the recall R in the highest interval of the activation, from its F1 = 2 P R / (P + R). 1 if no held-out
    firing lies in it, or if the ranking has no intervals."""
    known = f1_by_interval if isinstance(f1_by_interval, Sequence | np.ndarray) else []
    f1 = float(known[-1]) if len(known) else np.nan
    return 1 if np.isnan(f1) else min(f1 * precision / (2 * precision - f1), 1) if f1 else f1
