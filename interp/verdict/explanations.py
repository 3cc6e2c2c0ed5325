"""Explain latents and their senses in words, by the rule that predicts best where each fires.

    1  Propose some rules for each latent and sense, from firings sampled in the fit half of the sequences
       (`rule_search`).
    2  Count each of them exactly on the fit half (`rule_counts`), and choose the one with the best score, minus a price
       for its length.
    3  Count it there without each of its parts. Leave out the part that pays least, if it does not pay: its gain is
       below its price, or within one standard error, as in the rule of Breiman et al. 1984 for the size of a tree.
    4  Count it on the other half. Its reported scores are those, over all positions, whatever the strength of the
       firing:

           recall = hits / n,   precision = recall · N / holds,   F1 = 2 P R / (P + R)

holds: positions where the rule holds. For a latent, n = N are its firings, and hits those where the rule holds.

A sense is n of the sampled firings of a latent (`verdict.senses`). N, the number of all of its firings, is estimated:
the share of the latent's firings that these represent, but at most both / recall, where both is the number of positions
at which the rule holds and the latent fires. Wherever else the rule holds, including at the latent's other senses, is
an error, so it says what distinguishes the sense.

Memory: the text, at most MAX_FIT_ROWS rows of its predicates, a sample of its firings, a chunk of the codes.
Cost: four passes over the codes, the first of which may be shared, of which three read half of the text; and some two
milliseconds per latent or sense, distributed over torch's threads.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from interp.verdict.rule_search import FitFirings, item_price, propose_rules, read_background

PROPOSING = "proposing explanations"
CHOOSING = "choosing explanations"
SHORTENING = "shortening explanations"
SCORING = "scoring explanations"
"""The names of the steps in progress reports."""
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
    sample: FitFirings,
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
    predicates = text.predicates.with_labels(labels) if labels else text.predicates
    chosen = np.ones(text.d_sae, bool) if chosen is None else chosen
    units = _Units.of(text, senses)
    of_senses = units.sampled_in(sample.half)[text.d_sae :]
    firings = [np.sort(rows[rows >= 0]) for rows in np.where(chosen[:, None], sample.rows[:, 0], -1)] + of_senses

    def score(rules: Sequence[Sequence[Rule]], note: str, background: Background | None) -> _Scores:
        sequences = ~sample.half if background is None else sample.half
        counts = count_rules(
            text,
            predicates,
            sequences,
            rules,
            latents=units.latents,
            sampled=units.sampled,
            progress=progress,
            note=note,
            background=background,
        )
        return _Scores.of(counts, units, sequences)

    with threadpool_limits(1, user_api="blas"):  # as where firings are compared (`evidence`)
        background = read_background(predicates, sample.half, text.counted & text.encoded, text.world)
        n_fire = units.n_fire(sample.count.sum(1)[units.latents], sample.half)
        proposed = _propose(predicates, background, firings, n_fire, progress)
        rules = _best_rules(proposed, score(proposed, CHOOSING, background))
        shorter = [[rule, *_without_each_part(rule)] if rule else [] for rule in rules]
        fit = score(shorter, SHORTENING, background)
        kept = _shortest_that_pay(shorter, fit)
        rules = [of_unit[number] if of_unit else () for of_unit, number in zip(shorter, kept, strict=True)]
        held_out = score([[rule] if rule else [] for rule in rules], SCORING, None)
    named = [tuple(predicates.named(atom, rows) for atom in rule) for rule, rows in zip(rules, firings, strict=True)]
    f1_fit = fit.f1[np.arange(len(kept)), kept]
    explanations = _explanations(named, f1_fit, held_out)
    return ExplanationsOfText(
        latents=Explanations._make(values[: text.d_sae] for values in explanations),
        senses=Explanations._make(values[text.d_sae :] for values in explanations),
    )


class _Units(NamedTuple):
    """All latents of a text, and after them the senses."""

    latents: Int64[np.ndarray, " unit"]
    is_sense: Bool[np.ndarray, " unit"]
    sampled: list[Int64[np.ndarray, " firing"]]
    """The rows of each sense, on which its hits are counted; none for a latent, whose firings are all counted."""
    share: Float64[np.ndarray, " unit"]
    """The share of its latent's firings."""
    n_ctx: int

    @classmethod
    def of(cls, text: CodedText, senses: Sequence[Sense]) -> "_Units":
        n = text.d_sae
        latents = np.array([*range(n), *(sense.latent for sense in senses)], np.int64)
        sampled = [np.zeros(0, np.int64)] * n + [np.unique(sense.rows) for sense in senses]
        share = np.array([1.0] * n + [sense.share for sense in senses])
        return cls(latents, np.arange(len(latents)) >= n, sampled, share, text.n_ctx)

    def sampled_in(self, sequences: Bool[np.ndarray, " seq"]) -> list[Int64[np.ndarray, " firing"]]:
        return [rows[sequences[rows // self.n_ctx]] for rows in self.sampled]

    def n_sampled(self, sequences: Bool[np.ndarray, " seq"]) -> Int64[np.ndarray, " unit"]:
        return np.array([len(rows) for rows in self.sampled_in(sequences)], np.int64)

    def n_fire(
        self, n_of_latents: Int64[np.ndarray, " unit"], sequences: Bool[np.ndarray, " seq"]
    ) -> Int64[np.ndarray, " unit"]:
        """Return the number of firings of each unit in some sequences; of a sense, estimated from its share.
        n_of_latents: the number of firings of the latent of each unit."""
        return np.maximum(np.round(self.share * n_of_latents).astype(np.int64), self.n_sampled(sequences))


class _Scores(NamedTuple):
    """The scores of the rules of each unit in some sequences."""

    counts: RuleCounts
    n: Int64[np.ndarray, " unit"]
    """The firings on which hits are counted."""
    n_fire: Int64[np.ndarray, " unit"]
    hits: Int64[np.ndarray, "unit candidate"]
    recall: Float64[np.ndarray, "unit candidate"]
    precision: Float64[np.ndarray, "unit candidate"]
    f1: Float64[np.ndarray, "unit candidate"]

    @classmethod
    def of(cls, counts: RuleCounts, units: _Units, sequences: Bool[np.ndarray, " seq"]) -> "_Scores":
        both = counts.both.sum(-1)
        fires = counts.fires.sum(-1)
        n = np.where(units.is_sense, units.n_sampled(sequences), fires)
        hits = np.where(units.is_sense[:, None], counts.hits, both)
        n_fire = units.n_fire(fires, sequences)
        recall = ratio(hits, n[:, None])
        precision = recall * np.fmin(n_fire[:, None], ratio(both, recall)) / np.maximum(counts.holds, 1)
        return cls(counts, n, n_fire, hits, recall, precision, _harmonic(precision, recall))


def _best_rules(proposed: list[list[Rule]], scores: _Scores) -> list[Rule]:
    """Return the rule of each unit with the best F1, less the price of its length; () for none."""
    best = np.nan_to_num(scores.f1 - _prices(proposed, scores), nan=-np.inf).argmax(1)
    return [rules[number] if rules else () for rules, number in zip(proposed, best, strict=True)]


def _without_each_part(rule: Rule) -> Iterator[Rule]:
    """Yield a rule without each of its atoms, and without each value of an atom that has several."""
    for place, atom in enumerate(rule):
        if len(rule) > 1:
            yield rule[:place] + rule[place + 1 :]
        if len(atom.values) > 1:
            for value in atom.values:
                others = tuple(other for other in atom.values if other != value)
                yield (*rule[:place], atom._replace(values=others), *rule[place + 1 :])


def _shortest_that_pay(shorter: list[list[Rule]], scores: _Scores) -> Int64[np.ndarray, " unit"]:
    """Return for each unit the number of the rule to keep: 0, the whole rule, unless one of its parts does not pay. A
    part pays if F1 is larger with it by more than its price, and by more than its standard error. The error is that of
    the counts, as Poisson numbers, at the rows at which only one of the two rules holds."""
    holds = scores.counts.holds
    per_hit = ratio(scores.n_fire, scores.n)[:, None]
    hits = per_hit * np.abs(scores.hits - scores.hits[:, :1])
    misses = np.maximum(np.abs(holds - holds[:, :1]) - hits, 0)
    f1_wider = np.where(holds > holds[:, :1], scores.f1, scores.f1[:, :1])
    error = np.sqrt(per_hit * hits * (2 - f1_wider) ** 2 + misses * f1_wider**2)
    error /= scores.n_fire[:, None] + np.maximum(holds, holds[:, :1])
    prices = _prices(shorter, scores)
    excess = np.maximum(error, prices[:, :1] - prices) - (scores.f1[:, :1] - scores.f1)
    excess[:, 0] = 0
    return np.nan_to_num(excess, nan=-np.inf).argmax(1)


def _explanations(rules: list[Rule], f1_fit: Float64[np.ndarray, " unit"], scores: _Scores) -> Explanations:
    """Return the explanations of all units. scores: of the rule of each in the held-out half."""
    has_rule = np.array([bool(rule) for rule in rules], bool)
    recall, precision, f1 = (np.where(has_rule, values[:, 0], np.nan) for values in scores[-3:])
    by_interval = _harmonic(precision[:, None], ratio(scores.counts.both[:, 0], scores.counts.fires))
    return Explanations(
        phrases=[phrase(rule) if rule else "" for rule in rules],
        rules=rules,
        f1=f1,
        precision=precision,
        recall=recall,
        f1_fit=np.where(has_rule, f1_fit, np.nan),
        f1_by_interval=by_interval,
        n=scores.n,
        n_examples=scores.counts.both[:, 0].sum(-1),
        json=[rule_json(rule) if rule else "" for rule in rules],
    )


def _prices(rules: list[list[Rule]], scores: _Scores) -> Float64[np.ndarray, "unit candidate"]:
    """Return the F1 by which each rule must exceed an empty one; NaN where a unit has fewer rules."""
    out = np.full(scores.f1.shape, np.nan)
    for unit, rules_of_unit in enumerate(rules):
        for number, rule in enumerate(rules_of_unit):
            out[unit, number] = _price(rule, scores.n[unit])
    return out


def _price(rule: Rule, n_counted: int) -> float:
    """Return the F1 by which the rule must exceed an empty one."""
    items = sum(PREDICATE_KINDS[atom.kind].items * len(atom.values) for atom in rule)
    items += LONG_RULE_PRICE * max(0.0, items - LONG_RULE_ITEMS)
    return item_price(n_counted) * items + ATOM_PRICE * (len(rule) - 1)


def _harmonic(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return 2 * precision * recall / np.where(total == 0, 1, total)


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
