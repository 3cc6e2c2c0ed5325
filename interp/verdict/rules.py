"""A rule in words: where a latent fires, or one of its senses, said with what is true at a position of the text.

An atom is one kind of predicates (`text.kinds`) with one of its values or several, and holds where one of these does. A
conjunction joins up to three atoms by "and", each of something else; a rule is one conjunction, or two joined by "or":

    "thou" or "thee" after a comma, or tokens in a comment

In: rules. Out: the same in words, and as JSON.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple

from interp.text.kinds import KINDS, Corpus
from interp.text.vocabulary import listed

MAX_VALUES, MAX_VALUES_AROUND = 8, 4
"""Values of one atom, where it is about the token itself and elsewhere; a longer list is no explanation."""
MAX_ATOMS, MAX_PARTS = 3, 2
SUBJECT = "token"


class Atom(NamedTuple):
    kind: str
    values: tuple[int, ...]
    names: tuple[str, ...]
    """The name of each value."""

    @property
    def words(self) -> str:
        return KINDS[self.kind].words.format(listed(self.names))


Conjunction = tuple[Atom, ...]
Rule = tuple[Conjunction, ...]


def most_values(kind: str) -> int:
    return MAX_VALUES if KINDS[kind].speaks_of == SUBJECT else MAX_VALUES_AROUND


def phrase(rule: Rule) -> str:
    """The rule in words. Parts with one subject share it: «"thou", after a comma or in parentheses»."""
    places_of: dict[str, list[str]] = {}
    for part in rule:
        subject, place = _subject_and_place(part)
        places_of.setdefault(subject, []).append(place)
    parts = []
    for subject, places in places_of.items():
        is_shared = len(places) > 1 and subject != "tokens"
        parts.append(f"{subject}{', ' if is_shared else ' '}{' or '.join(places)}".strip())
    return ", or ".join(parts)


def _subject_and_place(part: Conjunction) -> tuple[str, str]:
    """The tokens that a conjunction is about, and where they stand."""
    atoms = sorted(part, key=lambda atom: list(KINDS).index(atom.kind))
    subject = next((atom.words for atom in atoms if KINDS[atom.kind].speaks_of == SUBJECT), "tokens")
    places = {atom.kind: atom.words for atom in atoms if KINDS[atom.kind].speaks_of != SUBJECT}
    alone = {atom.kind: atom.names[0] for atom in atoms if len(atom.names) == 1 and atom.names[0][0] == '"'}
    if {"previous", "before_previous"} <= alone.keys():
        places["previous"] = f"after {alone['before_previous'][:-1]}{alone['previous'][1:]}"
        del places["before_previous"]
    return subject, " ".join(places.values())


def as_json(rule: Rule) -> str:
    """The rule for `from_json`: a list of conjunctions, each a list of atoms [kind, values, names]."""
    return json.dumps(rule, ensure_ascii=False)


def from_json(written: str, corpus: Corpus) -> Rule:
    """The rule that `as_json` wrote; corpus: of the text that it is about.

    Raises ValueError for anything else, and for a rule of kinds or values that this text does not have.
    """
    try:
        rule = tuple(tuple(_atom(corpus, *atom) for atom in part) for part in json.loads(written))
        if not 0 < len(rule) <= MAX_PARTS or not all(0 < len(part) <= MAX_ATOMS for part in rule):
            raise ValueError(f"it must have 1..{MAX_PARTS} parts of 1..{MAX_ATOMS} atoms")
    except (TypeError, LookupError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the rule {written[:80]!r} cannot be read here ({error}): rank the features anew, with this vocabulary "
            "and these labels"
        ) from None
    return rule


def _atom(corpus: Corpus, kind: str, values: list[int], names: list[str]) -> Atom:
    size = corpus.kinds[kind].size(corpus)
    if not values or len(values) != len(names) or not all(0 <= value < size for value in values):
        raise ValueError(f"{kind} has no {values!r} among {size}")
    return Atom(kind, tuple(values), tuple(map(str, names)))


def merged(rule: Iterable[Conjunction]) -> Rule:
    """The rule with its parts joined if they differ in the values of one atom only; each part once."""
    parts = tuple(dict.fromkeys(rule))
    if len({len(part) for part in parts}) == 1 < len(parts):
        differ = [(a, b) for a, b in zip(*parts, strict=True) if a != b]
        a, b = differ[0]
        name_of = dict(zip(a.values + b.values, a.names + b.names, strict=True))
        if len(differ) == 1 and a.kind == b.kind and len(name_of) <= most_values(a.kind):
            both = Atom(a.kind, tuple(name_of), tuple(name_of.values()))
            return (tuple(both if atom == a else atom for atom in parts[0]),)
    return parts
