"""Rules in words, and their length.

bits(rule) = Σ_parts [log₂ MAX_ATOMS + Σ_atoms (log₂ kinds + bits(argument))] + log₂ MAX_PARTS
bits(set of m tokens) = log₂ MAX_TOKENS + log₂ C(d_vocab, m);    bits(one of n classes, places, …) = log₂ n
"""

from collections.abc import Sequence
from math import lgamma, log, log2

from interp.explain.predicates import (
    AFFIX,
    AFTER,
    AFTER2,
    AFTER_CLASS,
    CLASS,
    FAR,
    FAR_REACH,
    INSIDE,
    LABEL,
    MAX_ATOMS,
    MAX_PARTS,
    MAX_TOKENS,
    NEAR,
    PLACE,
    REACH,
    TOKEN,
    Atom,
    Conjunction,
    Rule,
    Text,
)
from interp.explain.state import PLACES

_ORDER = (TOKEN, AFFIX, CLASS, AFTER, AFTER_CLASS, AFTER2, NEAR, FAR, PLACE, INSIDE, LABEL)
_NAMED = {
    "\n": "a newline",
    "\n\n": "a blank line",
    " ": "a space",
    "\t": "a tab",
    "": "an empty token",
    ",": "a comma",
    ".": "a full stop",
    ":": "a colon",
    ";": "a semicolon",
    "'": "an apostrophe",
    '"': "a double quote",
}


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


def bits(rule: Rule, text: Text) -> float:
    """Description length of the rule, in bits (formula above)."""
    total = log2(MAX_PARTS)
    for part in rule:
        total += log2(MAX_ATOMS)
        for atom in part:
            total += log2(len(_ORDER))
            total += _set_bits(len(atom.tokens), len(text.vocabulary)) if atom.tokens else log2(text.n_which[atom.kind])
    return total


def _set_bits(n: int, of: int) -> float:
    return log2(MAX_TOKENS) + (lgamma(of + 1) - lgamma(n + 1) - lgamma(of - n + 1)) / log(2)


def _conjunction(atoms: Conjunction, text: Text) -> tuple[str, str]:
    """What the tokens are, and where they stand."""
    ordered = sorted(atoms, key=lambda atom: _ORDER.index(atom.kind))
    after = {atom.kind: atom for atom in ordered if atom.kind in (AFTER, AFTER2)}
    words = {atom: _words(atom, text) for atom in ordered}
    if text.vocabulary.spelt and len(after) == 2 and len(after[AFTER].tokens) == len(after[AFTER2].tokens) == 1:
        strings = text.vocabulary.strings
        both = strings[after[AFTER2].tokens[0]] + strings[after[AFTER].tokens[0]]
        words[after[AFTER]] = f"after {quoted(both)}"
        del words[after[AFTER2]]
    subject = words.pop(ordered[0]) if ordered[0].kind in (TOKEN, AFFIX, CLASS) else "tokens"
    return subject, " ".join(words.values())


def _words(atom: Atom, text: Text) -> str:
    names = listed([quoted(text.vocabulary.strings[token]) for token in atom.tokens])
    called, inside = text.vocabulary.class_names[atom.which] if atom.kind in (CLASS, AFTER_CLASS, INSIDE) else ("", "")
    affix, is_ending = text.vocabulary.affixes[atom.which] if atom.kind == AFFIX else ("", False)
    return {
        TOKEN: names,
        AFTER: f"after {names}",
        AFTER2: f"two after {names}",
        NEAR: f"within {REACH} tokens after {names}",
        FAR: f"within {FAR_REACH} tokens after {names}",
        AFFIX: f"tokens that {'end' if is_ending else 'begin'} {'in' if is_ending else 'with'} {quoted(affix)}",
        CLASS: called,
        AFTER_CLASS: f"after {called}",
        INSIDE: f"inside {inside}",
        PLACE: PLACES[atom.which].words if atom.kind == PLACE else "",
        LABEL: f"labelled {list(text.labels)[atom.which]}" if atom.kind == LABEL else "",
    }[atom.kind]


def quoted(string: str) -> str:
    """A token's string to read: common marks by name, others in quotes with what cannot be seen escaped."""
    if string in _NAMED:
        return _NAMED[string]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in string)
    return f'"{shown}"'


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1] if names else ""
