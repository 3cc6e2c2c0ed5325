"""Gather what is known of each latent for its caption.

In: features and ranking, with one row per latent (also dead latents), in the same order, the senses, and the stored
firings. Out: `naming.LatentFacts`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.display.byte_parts import has_parts
from interp.display.segments import to_text
from interp.display.verdict_names import ONE_MEANING_VERDICTS
from interp.features.feature_store import FeatureStore
from interp.report.columns import Commonest, values_of
from interp.report.json_text import number
from interp.report.naming import (
    GOOD_F1,
    MOST,
    LabelFacts,
    LatentFacts,
    RuleFacts,
    SenseFacts,
    Surroundings,
    TokenFacts,
)
from interp.report.rule_reader import RuleReader, in_brief, with_amount, with_main_token
from interp.report.verdict_evidence import described_by, is_described_by_rule, most_shared, without_itself
from interp.report.whole_words import whole_words
from interp.statistics.cutoffs import MIN_F1
from interp.text.rules import read_rule
from interp.text.short_rules import Clause, segments_of
from interp.text.vocabulary import join_with_or

MIN_FOLLOWING = 0.01
"""Least share of a latent's firings that a token follows for the latent's caption to name it as raised."""
MIN_SECOND_LABEL = 0.1
"""Least share of a latent's firings that lie in a second kind of text that its caption names."""
MIN_OF_SEVERAL, MOST_OF_SEVERAL = 0.15, 0.7
"""Least share of the firings in each of several kinds of text that are named together, and in all of them."""
MAX_SEVERAL = 3
MIN_LABEL = 0.05
"""Least share of the firings with a label for it to be looked at."""
N_RAISED = 2
"""Number of tokens raised by a latent that tell it from others of the same name."""
N_STRONGEST = 8
"""Number of strongest firings whose tokens a caption may name."""


def latent_facts(
    features: FeatureStore,
    table: pd.DataFrame,
    ranking: pd.DataFrame,
    kinds: Mapping[int, Surroundings],
    commonest: Commonest,
    senses: Mapping[int, Sequence[Mapping[str, Any]]],
    strongest: Mapping[int, Mapping[int, float]],
    read: RuleReader,
    label_names: Mapping[str, str],
) -> list[LatentFacts]:
    """Return what is known of each latent.
    label_names: what each label is called (`label_names.label_names`).
    kinds: `surroundings`.
    senses: `verdict_evidence.senses_of`.
    strongest: `verdict_evidence.firings_by_strength`."""
    vocab = features.vocab
    tokens = features.tokens.reshape(-1).numpy()

    def texts_at(rows: Sequence[int]) -> list[str]:
        return [vocab[tokens[row]] for row in rows[:N_STRONGEST]]

    n_active = table["n_active"].tolist()
    whole = whole_words(features, n_active) if features.has_text else {}
    labels = _labels(features, table, label_names)
    precedes = _raised_that_follow(features, table)
    rows: Iterable[Any] = ranking.itertuples(index=False)
    written = zip(ranking["explanation"], ranking["explanation_json"], strict=True)
    rules = [read_rule(words, rule) for words, rule in written]
    has_one_meaning = ranking["verdict"].isin(ONE_MEANING_VERDICTS)
    shared = {
        j: without_itself(atom, texts_at(list(strongest.get(j, {}))))
        for j, atom in most_shared(ranking[has_one_meaning & (ranking["shared_share"] >= MOST)]).items()
    }

    def on_main_token(latent: int) -> list[Clause] | None:
        is_most = max(commonest.shares[latent], default=0) >= MOST
        rule = with_main_token(rules[latent], commonest.tokens[latent][0]) if is_most else None
        return None if rule is None else read(latent, rule)

    return [
        LatentFacts(
            has_text=features.has_text,
            fires=n_active[j] > 0,
            rule=rule_facts(
                read(j, rules[j]),
                kinds.get(j),
                with_token=on_main_token(j),
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
                strongest=texts_at(list(strongest.get(j, {}))),
            ),
            kind=kinds.get(j),
            shared=read(j, shared[j]) if j in shared else (),
            shared_share=number(row.shared_share) or 0,
            precedes=precedes[j],
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
) -> RuleFacts:
    """Return what is known of a rule in short, as it is shown of a latent that fires in this kind of text.
    with_token: the rule with the token on which MOST firings are, where it names none."""
    short = in_brief(with_token or clauses, kind)
    left_out = [one for one in clauses if one not in short]
    tells_kind = any(one.is_of_text for one in short)
    tells_kind |= kind is not None and kind.name.lower() in to_text(segments_of(short)).lower()
    names_tokens = bool(short) and short[0].names_tokens
    tells_less = not names_tokens or (f1 or 0) < GOOD_F1 or any(one.is_of_text for one in left_out)
    return RuleFacts(
        clauses=with_amount(short, precision),
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
    """Return each latent with the label that holds at half of its firings or more, of several such labels the rarest;
    or with a few labels, none within another, that together hold at MOST_OF_SEVERAL.
    names: `label_names`."""
    rows = features.sql(f"""
        select latent, label, firing_share, firing_share / n_label as rarity from labels
        where firing_share >= {MIN_OF_SEVERAL} order by latent, firing_share desc, label""")
    labels: dict[int, list[tuple[str, float, float]]] = {}
    for latent, label, share, rarity in rows.itertuples(index=False, name=None):
        labels.setdefault(latent, []).append((label, share, rarity))
    kinds = {}
    for latent, own in labels.items():
        if most := [one for one in own if one[1] >= MOST]:
            label, share, _ = max(most, key=lambda one: one[2])
            kinds[latent] = Surroundings(label, number(share, 2), names[label])
            continue
        widest: dict[str, float] = {}
        for label, share, _ in own:
            if not any(names[label].startswith(f"{other} ") for other in widest):
                widest[names[label]] = share
        if 1 < len(widest) <= MAX_SEVERAL and MOST_OF_SEVERAL <= sum(widest.values()) <= 1:
            name = "".join(map(str, join_with_or([(name,) for name in widest])))
            kinds[latent] = Surroundings(None, number(sum(widest.values()), 2), name)
    return kinds


def _labels(features: FeatureStore, table: pd.DataFrame, names: Mapping[str, str]) -> dict[int, LabelFacts]:
    """Return the label that each latent detects best, with its F1 and the second one."""
    best = {j: label for j, label in enumerate(values_of(detected_labels(table).to_frame("label"), "label")) if label}
    second = _second_labels(features, best)
    f1 = values_of(table, "best_label_f1")
    return {
        j: LabelFacts(name=names[label], f1=number(f1[j]), second=names[second[j]] if j in second else None)
        for j, label in best.items()
    }


def _second_labels(features: FeatureStore, best: Mapping[int, str]) -> dict[int, str]:
    """Return for some latents the label, beside their `best` one, in which many of their other firings lie."""
    rows = features.sql(f"""
        select latent, label, firing_share from labels where firing_share >= {MIN_LABEL} order by 3 desc""")
    shares: dict[int, dict[str, float]] = {}
    for latent, label, share in rows.itertuples(index=False, name=None):
        shares.setdefault(latent, {})[label] = share
    second = {}
    for latent, of_latent in shares.items():
        own = best.get(latent, "")
        others = [(label, share) for label, share in of_latent.items() if label != own]
        is_much = own in of_latent and others and others[0][1] >= MIN_SECOND_LABEL
        if is_much and of_latent[own] + sum(share for _, share in others[:2]) <= 1:
            second[latent] = others[0][0]
    return second


def _raised_that_follow(features: FeatureStore, table: pd.DataFrame) -> list[dict[str, float]]:
    """Return for each latent the first tokens among those it raises most that follow MIN_FOLLOWING of its firings or
    more, each with the share of the firings that it follows. Those with parts of characters, and variants in case and
    space, are left out. There are none if these tokens are not known."""
    n_active = table["n_active"].to_numpy()
    following: dict[int, dict[str, float]] = {}
    for latent, token, n in features.sql('select latent, token, n from tokens where "offset" = 1').to_numpy().tolist():
        if n >= MIN_FOLLOWING * n_active[latent]:
            following.setdefault(latent, {})[features.vocab[token]] = n / n_active[latent]
    raised = []
    for latent, tokens in enumerate(values_of(table, "top_logit_tokens")):
        distinct = dict[str, str]()
        for text in (features.vocab[token] for token in (() if tokens is None else tokens)):
            if not has_parts(text) and text in following.get(latent, {}):
                distinct.setdefault(text.strip().lower() or text, text)
        raised.append({text: following[latent][text] for text in list(distinct.values())[:N_RAISED]})
    return raised


def _recall_at_strongest(precision: float, f1_by_interval: Sequence[float] | float) -> float:
    """Return the recall R in the highest interval of the activation, from its F1 = 2 P R / (P + R). NaN if no held-out
    firing lies in it, or if the ranking has no intervals."""
    if not isinstance(f1_by_interval, Sequence | np.ndarray) or not len(f1_by_interval):
        return np.nan
    f1 = float(f1_by_interval[-1])
    return min(f1 * precision / (2 * precision - f1), 1) if f1 else f1
