"""Explain latents and their senses in words, by the rule that predicts best where each fires.

    1  Propose some rules for each latent and sense, from firings sampled in the fit half of the sequences
       (`rule_search`).
    2  Count each of them exactly, in one pass over all codes and the text (`rule_counts`).
    3  Choose the rule with the best score on the fit half, minus a price for its length. Its reported scores are those
       on the other half, over all positions, whatever the strength of the firing:

           recall = hits / n,   precision = recall · N / holds,   F1 = 2 P R / (P + R)

holds: positions where the rule holds. For a latent, n = N are its firings, and hits those where the rule holds.

A sense is n of the sampled firings of a latent (`verdict.senses`). N, the number of all of its firings, is estimated:
the share of the latent's firings that these represent, but at most both / recall, where both is the number of positions
at which the rule holds and the latent fires. Wherever else the rule holds, including at the latent's other senses, is
an error, so it says what distinguishes the sense.

Memory: the text, at most MAX_FIT_ROWS rows of its predicates, a sample of its firings, a chunk of the codes.
Cost: two passes over the codes, the first of which may be shared, and some two milliseconds per latent or sense,
distributed over torch's threads.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.runtime.progress import Progress, no_progress
from interp.statistics.estimates import ratio
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.text.predicates import Predicates
from interp.text.rules import Rule, phrase, rule_json
from interp.verdict.beam_search import ATOM_PRICE
from interp.verdict.candidates import Background
from interp.verdict.coded_text import CodedText
from interp.verdict.rule_counts import RuleCounts, count_rules
from interp.verdict.rule_search import FitSample, item_price, propose_rules, read_background

PROPOSING = "proposing explanations"
"""The name of the first step in progress reports; the second is `rule_counts.SCORING`."""
MIN_FIRINGS_FOR_RULE = 5
"""With fewer firings, no rule is proposed."""
UNITS_AT_ONCE = 512
"""Latents and senses whose firings' predicates are in memory at a time."""
LONG_RULE_ITEMS = 8
"""Items (`Kind.items`) above which a rule counts as long and hard to read."""
LONG_RULE_PRICE = 2
"""The extra price of each item beyond LONG_RULE_ITEMS, as a multiple of the price of an item."""


class Sense(NamedTuple):
    """A part of the sampled firings of a latent."""

    latent: int
    rows: Int64[np.ndarray, " firing"]
    """seq * n_ctx + pos, in either half."""
    share: float
    """The share of the latent's firings that they represent."""


class Explanations(NamedTuple):
    """The explanation of each latent, or of each sense. If the fit half has too few firings, it is '' and its scores
    are NaN. Scores are measured on the held-out half, and are NaN if it has no firing."""

    phrases: list[str]
    rules: list[Rule]
    f1: Float64[np.ndarray, " unit"]
    precision: Float64[np.ndarray, " unit"]
    recall: Float64[np.ndarray, " unit"]
    f1_fit: Float64[np.ndarray, " unit"]
    f1_by_interval: Float64[np.ndarray, "unit interval"]
    """2 P R_s / (P + R_s), where P is the precision above, and R_s the share of the latent's firings with a strength in
    (s / 5, (s + 1) / 5] of the maximum that the rule hits. NaN if no held-out firing has such a strength."""
    n: Int64[np.ndarray, " unit"]
    """Held-out firings that recall is measured on."""
    n_examples: Int64[np.ndarray, " unit"]
    """Held-out firings of the latent where the rule holds."""
    json: list[str]
    """The rules as JSON, "" for none."""


class ExplanationsOfText(NamedTuple):
    """The explanations of all latents, and of the requested senses."""

    latents: Explanations
    senses: Explanations


def explain(
    text: CodedText,
    sample: FitSample,
    *,
    senses: Sequence[Sense] = (),
    chosen: Bool[np.ndarray, " d_sae"] | None = None,
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    progress: Progress = no_progress,
) -> ExplanationsOfText:
    """Explain each latent of a text and some senses of latents.

    sample: firings drawn while these codes were read; rules are chosen on the sample's half of the text.
    chosen: marks the latents to explain, by default all. The others are neither searched nor counted.
    labels: names that rules may use, with the positions that carry them; without labels, rules use only tokens and
    strings.
    Raises ValueError for labels of another shape.
    """
    n = text.d_sae
    predicates = text.predicates.with_labels(labels) if labels else text.predicates
    latent_of_sense = np.array([sense.latent for sense in senses], np.int64)
    share = np.array([sense.share for sense in senses], float)
    rows_of_sense = [np.unique(sense.rows) for sense in senses]
    fit_rows = [rows[sample.half[rows // text.n_ctx]] for rows in rows_of_sense]
    n_sampled = np.array([[len(fit), len(rows) - len(fit)] for fit, rows in zip(fit_rows, rows_of_sense, strict=True)])
    n_sampled = n_sampled.reshape(-1, 2).T
    n_fit = sample.count.sum(1)
    n_fit = np.concatenate([n_fit, _firings_of_senses(share, n_fit[latent_of_sense], n_sampled[0])])
    chosen = np.ones(n, bool) if chosen is None else chosen
    firings = [np.sort(rows[rows >= 0]) for rows in np.where(chosen[:, None], sample.rows[:, 0], -1)] + fit_rows
    latents = np.concatenate([np.arange(n), latent_of_sense])
    sampled = [np.zeros(0, np.int64)] * n + rows_of_sense
    with threadpool_limits(1, user_api="blas"):  # as where firings are compared (`evidence`)
        background = read_background(predicates, sample.half, text.counted & text.encoded, text.world)
        proposed = _propose(predicates, background, firings, n_fit, progress)
        counts = count_rules(text, predicates, sample.half, proposed, latents, sampled, progress)
    counts.hits[:, :n] = counts.both[:, :n].sum(-1)
    n_fire = counts.fires.sum(-1)
    n_firings = np.concatenate([n_fire[:, :n], n_sampled], 1)
    n_fire[:, n:] = _firings_of_senses(share, n_fire[:, n:], n_sampled)
    chosen_rules = choose_rules(proposed, counts, n_firings, n_fire)
    latent_rules = Explanations._make(values[:n] for values in chosen_rules)
    sense_rules = Explanations._make(values[n:] for values in chosen_rules)
    return ExplanationsOfText(latent_rules, sense_rules)


def choose_rules(
    proposed: list[list[Rule]],
    counts: RuleCounts,
    n_firings: Int64[np.ndarray, "2 unit"],
    n_fire: Int64[np.ndarray, "2 unit"],
) -> Explanations:
    """Choose the best of each unit's rules, from their counts in the fit half and in the held-out one.
    n_firings: the number of firings on which hits are counted.
    n_fire: the number of the unit's firings; for a sense, its share of the latent's."""
    both = counts.both.sum(-1)
    recall = ratio(counts.hits, n_firings[:, :, None])
    n_unit = np.fmin(n_fire[:, :, None], ratio(both, recall))
    precision = recall * n_unit / np.maximum(counts.holds, 1)
    f1 = _harmonic(precision, recall)
    worth = np.full(f1.shape[1:], -np.inf)
    for unit, rules_of_unit in enumerate(proposed):
        for number, rule in enumerate(rules_of_unit):
            worth[unit, number] = f1[0, unit, number] - _price(rule, n_firings[0, unit])
    has_candidates = np.array([bool(candidates) for candidates in proposed], bool)
    units = np.arange(len(proposed))
    best = worth.argmax(1)
    rules = [candidates[number] if candidates else () for candidates, number in zip(proposed, best, strict=True)]

    def at(values: np.ndarray) -> Float64[np.ndarray, " unit ..."]:
        chosen = values[units, best]
        return np.where(has_candidates.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, np.nan)

    return Explanations(
        phrases=[phrase(rule) if rule else "" for rule in rules],
        rules=rules,
        f1=at(f1[1]),
        precision=at(precision[1]),
        recall=at(recall[1]),
        f1_fit=at(f1[0]),
        f1_by_interval=at(_harmonic(precision[1][:, :, None], ratio(counts.both[1], counts.fires[1][:, None]))),
        n=n_firings[1],
        n_examples=np.where(has_candidates, both[1][units, best], 0),
        json=[rule_json(rule) if rule else "" for rule in rules],
    )


def _price(rule: Rule, n_counted: int) -> float:
    """Return the F1 by which the rule must exceed an empty one."""
    items = sum(PREDICATE_KINDS[atom.kind].items * len(atom.values) for atom in rule)
    items += LONG_RULE_PRICE * max(0.0, items - LONG_RULE_ITEMS)
    return item_price(n_counted) * items + ATOM_PRICE * (len(rule) - 1)


def _harmonic(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return 2 * precision * recall / np.where(total == 0, 1, total)


def _firings_of_senses(
    share: Float64[np.ndarray, " sense"],
    n_fire: Int64[np.ndarray, "*half sense"],
    n_sampled: Int64[np.ndarray, "*half sense"],
) -> Int64[np.ndarray, "*half sense"]:
    """Estimate the number of firings of each sense from its share of the n_fire firings of its latent."""
    return np.maximum(np.round(share * n_fire).astype(np.int64), n_sampled)


def _propose(
    predicates: Predicates,
    background: Background,
    firings: Sequence[Int64[np.ndarray, " firing"]],
    n_fire: Int64[np.ndarray, " unit"],
    progress: Progress,
) -> list[list[Rule]]:
    """Propose rules for each latent and then for each sense. Those with too few firings have none.
    firings: ascending rows of the fit half, a sample of n_fire."""
    proposed: list[list[Rule]] = [[] for _ in firings]
    units = [unit for unit, rows in enumerate(firings) if len(rows) >= MIN_FIRINGS_FOR_RULE]
    for start in range(0, len(units), UNITS_AT_ONCE):
        block = units[start : start + UNITS_AT_ONCE]
        rules = propose_rules(predicates, background, [firings[unit] for unit in block], n_fire[block].astype(float))
        for unit, rules_of_unit in zip(block, rules, strict=True):
            proposed[unit] = rules_of_unit
        progress(start + len(block), len(units), PROPOSING)
    return proposed
