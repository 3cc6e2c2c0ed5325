"""The rule that predicts best where a latent fires, or one of its senses, and rules in words, as JSON, and their
length.

In: the rules proposed and their exact counts (`counting`). Out: `Explanations`: of each unit the rule with the best F1
on the fit half of the sequences, less a price for its length; its scores are those of the held-out half, over all
positions, whatever the strength of the firing:

    precision = both / holds,   recall = hits / n,   F1 = 2 P R / (P + R)

holds: positions where the rule holds; both: those where the latent fires too; n: the latent's firings, or those of the
sense that were sampled; hits: those of them where the rule holds.

bits(rule) = Σ_parts [log₂ MAX_ATOMS + Σ_atoms (log₂ kinds + bits(argument))] + log₂ MAX_PARTS
bits(set of m tokens) = log₂ MAX_TOKENS + log₂ C(d_vocab, m);    bits(one of n classes, places, …) = log₂ n
"""

import json
from collections.abc import Sequence
from math import lgamma, log, log2
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from interp.storage.files import ratio
from interp.text.vocabulary import quoted
from interp.verdict import beam
from interp.verdict.counting import Counts
from interp.verdict.predicates import KINDS, MAX_ATOMS, MAX_PARTS, MAX_TOKENS, Atom, Conjunction, Rule, Text

LONG, LONG_PRICE = 8, 2
"""Items beyond so many cost so many times their price more: a long list is hard to read."""


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
    """Of the best rule without "or", chosen in the same way."""
    f1_by_interval: Float64[np.ndarray, "unit slice"]
    """2 P R_s / (P + R_s): P the precision above, R_s the share of the latent's firings of strength in
    (s / 5, (s + 1) / 5] of the maximum that the rule hits. NaN where no held-out firing is that strong."""
    n: Int64[np.ndarray, " unit"]
    """Held-out firings that recall is measured on."""
    n_examples: Int64[np.ndarray, " unit"]
    """Held-out firings of the latent where the rule holds."""
    bits: Float64[np.ndarray, " unit"]
    """Description length."""
    json: list[str]
    """The rules again, for `from_json`."""


def choose(
    text: Text,
    proposed: list[list[Rule]],
    counts: Counts,
    n_firings: Int64[np.ndarray, "2 unit"],
    n_fire: Int64[np.ndarray, " unit"],
) -> Explanations:
    """Of each unit's rules the best, from their counts. n_firings: those that hits are counted on."""
    both, holds = counts.both.sum(-1), counts.holds
    recall, precision = ratio(counts.hits, n_firings[:, :, None]), both / np.maximum(holds, 1)
    # Firings of the unit in the fit half: a sense has no more than those of its latent at the rule, over its recall.
    n_unit = np.fmin(n_fire[:, None], ratio(both[0], recall[0]))
    f1_fit = 2 * recall[0] * n_unit / np.maximum(n_unit + holds[0], 1)
    worth = np.full((2, *f1_fit.shape), -np.inf)
    for unit, own in enumerate(proposed):
        for place, rule in enumerate(own):
            worth[: 2 if len(rule) == 1 else 1, unit, place] = f1_fit[unit, place] - _price(rule, n_fire[unit])
    known, units = np.array([bool(own) for own in proposed], bool), np.arange(len(proposed))
    best, best_one = worth.argmax(2)
    rules = [own[place] if own else () for own, place in zip(proposed, best, strict=True)]

    def at(values: np.ndarray, place: Int64[np.ndarray, " unit"] = best) -> Float64[np.ndarray, " unit ..."]:
        chosen = values[units, place]
        return np.where(known.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, np.nan)

    f1 = _harmonic(precision[1], recall[1])
    return Explanations(
        phrases=[phrase(rule, text) if rule else "" for rule in rules],
        rules=rules,
        f1=at(f1),
        precision=at(precision[1]),
        recall=at(recall[1]),
        f1_fit=at(f1_fit),
        f1_one=at(f1, best_one),
        f1_by_interval=at(_harmonic(precision[1][:, :, None], ratio(counts.both[1], counts.fires[1][:, None]))),
        n=n_firings[1],
        n_examples=np.where(known, both[1][units, best], 0),
        bits=np.array([bits(rule, text) if rule else np.nan for rule in rules]),
        json=[as_json(rule, text) if rule else "" for rule in rules],
    )


def phrase(rule: Rule, text: Text) -> str:
    """The rule in words: «"thou" or "thee" after a comma, or tokens in Arabic script». Parts with one subject share it:
    «"thou", after a comma or in parentheses»."""
    said: dict[str, list[str]] = {}
    for part in rule:
        subject, where = _conjunction(part, text)
        said.setdefault(subject, []).append(where)
    parts = []
    for subject, places in said.items():
        shared = len(places) > 1 and subject != "tokens"
        parts.append(f"{subject}{', ' if shared else ' '}{' or '.join(places)}".strip())
    return ", or ".join(parts)


def as_json(rule: Rule, text: Text) -> str:
    """The rule for `from_json`: a list of conjunctions, each a list of atoms, [kind, token ids] or [kind, name, place
    of the name]."""
    names = text.names
    parts = [[[a.kind, a.tokens] if a.tokens else [a.kind, names[a.kind][a.which], a.which] for a in p] for p in rule]
    return json.dumps(parts, ensure_ascii=False)


def from_json(written: str, text: Text) -> Rule:
    """Raises ValueError for what `as_json` did not write, and for a rule that this text has no words for."""
    try:
        rule = tuple(tuple(_atom(text, *atom) for atom in part) for part in json.loads(written))
        if not 0 < len(rule) <= MAX_PARTS or not all(0 < len(part) <= MAX_ATOMS for part in rule):
            raise ValueError(f"it must have 1..{MAX_PARTS} parts of 1..{MAX_ATOMS} atoms")
    except (TypeError, LookupError, ValueError, RecursionError) as error:
        remedy = "rank the features anew, with this vocabulary and these labels"
        raise ValueError(f"the rule {written[:80]!r} cannot be read here ({error}): {remedy}") from None
    return rule


def bits(rule: Rule, text: Text) -> float:
    """Description length of the rule, in bits (formula above)."""
    total, d_vocab = log2(MAX_PARTS), len(text.vocabulary)
    for part in rule:
        total += log2(MAX_ATOMS)
        for atom in part:
            total += log2(len(KINDS))
            m = len(atom.tokens)
            sets = lgamma(d_vocab + 1) - lgamma(m + 1) - lgamma(d_vocab - m + 1)
            total += log2(MAX_TOKENS) + sets / log(2) if m else log2(len(text.names[atom.kind]))
    return total


def _price(rule: Rule, n_fire: float) -> float:
    """F1 that the rule must be worth more than an empty one."""
    items = sum(atom.cost for part in rule for atom in part)
    atoms = sum(len(part) - 1 for part in rule)
    items += LONG_PRICE * max(0.0, items - LONG)
    return beam.item_price(n_fire) * items + beam.ATOM_PRICE * atoms + beam.PART_PRICE * (len(rule) - 1)


def _harmonic(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return 2 * precision * recall / np.where(total == 0, 1, total)


def _atom(text: Text, kind: str, said: list[int] | str, which: int = -1) -> Atom:
    names = text.names[kind]
    if which >= 0 and names[which] == said:
        return Atom(kind, which=which)
    if names or not said or not all(0 <= token < len(text.vocabulary) for token in said):  # type: ignore[operator]
        raise ValueError(f"{kind} has no {said!r} among {len(names) or len(text.vocabulary)}")
    return Atom(kind, tuple(said))  # type: ignore[arg-type]


def _conjunction(atoms: Conjunction, text: Text) -> tuple[str, str]:
    """What the tokens are, and where they stand."""
    said = {atom: _words(atom, text) for atom in sorted(atoms, key=lambda atom: atom.slot)}
    last, before = (next((a for a in said if a.kind == kind), None) for kind in ("after", "after2"))
    if last and before and text.is_spelt and len(last.tokens) == len(before.tokens) == 1:
        said[last] = f"after {quoted(''.join(text.vocabulary.strings[a.tokens[0]] for a in (before, last)))}"
        del said[before]
    first = next(iter(said))
    return said.pop(first) if first.slot == 0 else "tokens", " ".join(said.values())


def _words(atom: Atom, text: Text) -> str:
    strings = [quoted(text.vocabulary.strings[token]) for token in atom.tokens]
    return KINDS[atom.kind].words.format(_listed(strings) if strings else text.names[atom.kind][atom.which])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
