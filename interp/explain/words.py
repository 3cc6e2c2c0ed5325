"""Rules in words, as JSON, and their length.

bits(rule) = Σ_parts [log₂ MAX_ATOMS + Σ_atoms (log₂ kinds + bits(argument))] + log₂ MAX_PARTS
bits(set of m tokens) = log₂ MAX_TOKENS + log₂ C(d_vocab, m);    bits(one of n classes, places, …) = log₂ n
"""

import json
from collections.abc import Sequence
from math import lgamma, log, log2

from interp.explain.predicates import KINDS, MAX_ATOMS, MAX_PARTS, MAX_TOKENS, Atom, Conjunction, Rule, Text
from interp.explain.vocabulary import quoted


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


def _atom(text: Text, kind: str, said: list[int] | str, which: int = -1) -> Atom:
    names = text.names[kind]
    if which >= 0 and names[which] == said:
        return Atom(kind, which=which)
    if names or not said or not all(0 <= token < len(text.vocabulary) for token in said):  # type: ignore[operator]
        raise ValueError(f"{kind} has no {said!r} among {len(names) or len(text.vocabulary)}")
    return Atom(kind, tuple(said))  # type: ignore[arg-type]


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
    return KINDS[atom.kind].words.format(listed(strings) if strings else text.names[atom.kind][atom.which])


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
