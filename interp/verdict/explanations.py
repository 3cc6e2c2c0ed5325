"""The rule that predicts best where a latent fires, or one of its senses.

In: the rules proposed and their exact counts (`counting`). Out: `Explanations`: of each unit the rule with the best F1
on the fit half of the sequences, less a price for its length; its scores are those of the held-out half, over all
positions, whatever the strength of the firing:

    precision = both / holds,   recall = hits / n,   F1 = 2 P R / (P + R)

holds: positions where the rule holds; both: those where the latent fires too; n: the latent's firings, or those of the
sense that were sampled; hits: those of them where the rule holds.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from interp.storage.files import ratio
from interp.text.kinds import KINDS
from interp.verdict import beam
from interp.verdict.counting import RuleCounts
from interp.verdict.rules import Rule, as_json, phrase

LONG, LONG_PRICE = 8, 2
"""Items (`Kind.items`) beyond so many cost so many times their price more: a long list is hard to read."""


class Explanations(NamedTuple):
    """One a latent, or one a sense; '' and NaN where the fit half has too few firings. Scores are the held-out half's,
    and NaN where it has none."""

    phrases: list[str]
    rules: list[Rule]
    f1: Float64[np.ndarray, " unit"]
    precision: Float64[np.ndarray, " unit"]
    recall: Float64[np.ndarray, " unit"]
    f1_fit: Float64[np.ndarray, " unit"]
    f1_one: Float64[np.ndarray, " unit"]
    """F1 of the best rule without "or", chosen in the same way."""
    f1_by_interval: Float64[np.ndarray, "unit slice"]
    """2 P R_s / (P + R_s): P the precision above, R_s the share of the latent's firings of strength in (s / 5, (s + 1)
    / 5] of the maximum that the rule hits. NaN where no held-out firing is that strong."""
    n: Int64[np.ndarray, " unit"]
    """Held-out firings that recall is measured on."""
    n_examples: Int64[np.ndarray, " unit"]
    """Held-out firings of the latent where the rule holds."""
    json: list[str]
    """The rules again, for `from_json`."""


def choose(
    proposed: list[list[Rule]],
    counts: RuleCounts,
    n_firings: Int64[np.ndarray, "2 unit"],
    n_fire: Int64[np.ndarray, " unit"],
) -> Explanations:
    """Choose the best of each unit's rules, from their counts. n_firings: those that hits are counted on."""
    both, holds = counts.both.sum(-1), counts.holds
    recall, precision = ratio(counts.hits, n_firings[:, :, None]), both / np.maximum(holds, 1)
    # Firings of the unit in the fit half: a sense has no more than those of its latent at the rule, over its recall.
    n_unit = np.fmin(n_fire[:, None], ratio(both[0], recall[0]))
    f1_fit = 2 * recall[0] * n_unit / np.maximum(n_unit + holds[0], 1)
    worth = np.full((2, *f1_fit.shape), -np.inf)
    for unit, rules_of_unit in enumerate(proposed):
        for place, rule in enumerate(rules_of_unit):
            worth[: 2 if len(rule) == 1 else 1, unit, place] = f1_fit[unit, place] - _price(rule, n_firings[0, unit])
    known, units = np.array([bool(each) for each in proposed], bool), np.arange(len(proposed))
    best, best_one = worth.argmax(2)
    rules = [each[place] if each else () for each, place in zip(proposed, best, strict=True)]

    def at(values: np.ndarray, place: Int64[np.ndarray, " unit"] = best) -> Float64[np.ndarray, " unit ..."]:
        chosen = values[units, place]
        return np.where(known.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, np.nan)

    f1 = _harmonic(precision[1], recall[1])
    return Explanations(
        phrases=[phrase(rule) if rule else "" for rule in rules],
        rules=rules,
        f1=at(f1),
        precision=at(precision[1]),
        recall=at(recall[1]),
        f1_fit=at(f1_fit),
        f1_one=at(f1, best_one),
        f1_by_interval=at(_harmonic(precision[1][:, :, None], ratio(counts.both[1], counts.fires[1][:, None]))),
        n=n_firings[1],
        n_examples=np.where(known, both[1][units, best], 0),
        json=[as_json(rule) if rule else "" for rule in rules],
    )


def _price(rule: Rule, n_counted: float) -> float:
    """F1 that the rule must be worth more than an empty one."""
    items = sum(KINDS[atom.kind].items * len(atom.values) for part in rule for atom in part)
    atoms = sum(len(part) - 1 for part in rule)
    items += LONG_PRICE * max(0.0, items - LONG)
    return beam.item_price(n_counted) * items + beam.ATOM_PRICE * atoms + beam.PART_PRICE * (len(rule) - 1)


def _harmonic(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return 2 * precision * recall / np.where(total == 0, 1, total)
