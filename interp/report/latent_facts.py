"""Gather what is known of each latent for its caption.

In: features and ranking, with one row per latent (also dead latents), in the same order, the senses, and the stored
firings. Out: `naming.LatentFacts`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.display.segments import Segment, to_text
from interp.display.verdict_names import ONE_MEANING_VERDICTS
from interp.features.feature_store import FeatureStore
from interp.report.columns import Commonest, values_of
from interp.report.contexts import Labels
from interp.report.json_text import number
from interp.report.naming import (
    GOOD_F1,
    MOST,
    WEAK_F1,
    LabelFacts,
    LatentFacts,
    RuleFacts,
    SenseFacts,
    Surroundings,
    TokenFacts,
)
from interp.report.rule_reader import RuleReader, in_brief, with_main_tokens
from interp.report.strongest_firings import shared_by_strongest
from interp.report.verdict_evidence import described_by, is_described_by_rule, most_shared, without_itself
from interp.report.whole_words import whole_words
from interp.statistics.cutoffs import MIN_F1
from interp.text.rules import read_rule
from interp.text.short_rules import Clause, segments_of

MIN_LIFT = 2
"""How much larger the share of a kind of text is in the firings than in all text, where it is told."""
N_STRONGEST = 8
"""Number of strongest firings whose tokens a caption may name."""


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
    masks: Labels,
    label_names: Mapping[str, str],
) -> list[LatentFacts]:
    """Return what is known of each latent.
    masks: of labels over the scanned tokens. label_names: what each label is called (`label_names.label_names`).
    kinds: `surroundings`; one that is as common in other text is not told.
    senses: `verdict_evidence.senses_of`.
    strongest: `verdict_evidence.firings_by_strength`."""
    vocab = features.vocab
    tokens = features.tokens.reshape(-1).numpy()

    def texts_at(rows: Sequence[int]) -> list[str]:
        return [vocab[tokens[row]] for row in rows[:N_STRONGEST]]

    n_active = table["n_active"].tolist()
    n_anywhere = Counter[str]()
    for token, n in enumerate(np.bincount(tokens, minlength=len(vocab)).tolist() if features.has_text else ()):
        n_anywhere[vocab[token]] += n
    whole = whole_words(features, n_active) if features.has_text else {}
    labels = _labels(table, label_names)
    rows_of = {latent: list(firings) for latent, firings in strongest.items()}
    in_common = shared_by_strongest(features, rows_of, whole, read.counts, masks, label_names)
    kinds = {latent: kind for latent, kind in kinds.items() if kind.lift >= MIN_LIFT}
    rows: Iterable[Any] = ranking.itertuples(index=False)
    written = zip(ranking["explanation"], ranking["explanation_json"], strict=True)
    rules = [read_rule(words, rule) for words, rule in written]
    has_one_meaning = ranking["verdict"].isin(ONE_MEANING_VERDICTS)
    shared = {
        j: without_itself(atom, texts_at(rows_of.get(j, [])))
        for j, atom in most_shared(ranking[has_one_meaning & (ranking["shared_share"] >= MOST)]).items()
    }

    def on_main_token(latent: int) -> list[Clause] | None:
        is_most = max(commonest.shares[latent], default=0) >= MOST
        rule = with_main_tokens(rules[latent], commonest.tokens[latent][:1]) if is_most else None
        return None if rule is None else read(latent, rule)

    return [
        LatentFacts(
            has_text=features.has_text,
            fires=n_active[j] > 0,
            rule=rule_facts(
                read(j, rules[j]),
                kinds.get(j),
                with_token=on_main_token(j),
                in_common=in_common.get(j, []),
                f1=number(row.explanation_f1),
                precision=number(row.explanation_precision),
                at_strongest=number(_recall_at_strongest(row.explanation_precision, row.explanation_f1_by_interval), 2),
            ),
            label=labels.get(j),
            senses=[
                SenseFacts(
                    clauses=read.of_sense(j, one, described_by(one)),
                    f1=one["f1"] if is_described_by_rule(one) else None,
                    share=one["share"],
                    tokens=TokenFacts(strongest=texts_at(one["strongest"])),
                )
                for one in ([] if has_one_meaning[j] else senses.get(j, []))
            ],
            whole=whole.get(j),
            tokens=TokenFacts(
                texts=commonest.tokens[j],
                shares=commonest.shares[j],
                anywhere=[n_anywhere[text] / n_active[j] for text in commonest.tokens[j]],
                strongest=texts_at(rows_of.get(j, [])),
            ),
            kind=kinds.get(j),
            shared=read(j, shared[j]) if j in shared else (),
            shared_share=number(row.shared_share) or 0,
            shared_by_strongest=in_common.get(j, []),
            reader=read.bytes_of(j),
        )
        for j, row in enumerate(rows)
    ]


def rule_facts(
    clauses: list[Clause],
    kind: Surroundings | None,
    *,
    f1: float | None,
    precision: float | None,
    at_strongest: float | None,
    with_token: list[Clause] | None = None,
    in_common: Sequence[Segment] = (),
) -> RuleFacts:
    """Return what is known of a rule in short, as it is shown of a latent that fires in this kind of text.
    with_token: the rule with the token on which MOST firings are, where it names none.
    in_common: what its strongest firings have in common, which a rule with a low F1 is shown with."""
    is_told = kind is not None or (bool(in_common) and (f1 or 0) < WEAK_F1)
    short = in_brief(with_token or clauses, is_told=is_told)
    left_out = [one for one in clauses if one not in short]
    tells_kind = any(one.is_of_text for one in short)
    tells_kind |= kind is not None and kind.name.lower() in to_text(segments_of(short)).lower()
    names_tokens = bool(short) and short[0].names_tokens
    tells_less = not names_tokens or (f1 or 0) < GOOD_F1 or any(one.is_of_text for one in left_out)
    return RuleFacts(
        clauses=short,
        measured=None if short == clauses else clauses,
        has_main_token=with_token is not None,
        f1=f1,
        precision=precision,
        needs_kind=tells_less and not tells_kind,
        at_strongest=at_strongest,
    )


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


def _labels(table: pd.DataFrame, names: Mapping[str, str]) -> dict[int, LabelFacts]:
    """Return the label that each latent detects best, with its F1."""
    best = values_of(detected_labels(table).to_frame("label"), "label")
    f1 = values_of(table, "best_label_f1")
    return {j: LabelFacts(name=names[label], f1=number(f1[j])) for j, label in enumerate(best) if label}


def _recall_at_strongest(precision: float, f1_by_interval: Sequence[float] | float) -> float:
    """Return the recall R in the highest interval of the activation, from its F1 = 2 P R / (P + R). NaN if no held-out
    firing lies in it, or if the ranking has no intervals."""
    if not isinstance(f1_by_interval, Sequence | np.ndarray) or not len(f1_by_interval):
        return np.nan
    f1 = float(f1_by_interval[-1])
    return min(f1 * precision / (2 * precision - f1), 1) if f1 else f1
