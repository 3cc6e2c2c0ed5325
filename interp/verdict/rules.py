"""Rules in words: they express where a latent or one of its senses fires by what is true at a position of the text.

An atom is one kind of predicate (`text.predicate_kinds`) with one or several of its values. It holds where any of these
values holds. A rule joins up to three atoms on different subjects by "and":

    "thou" or "thee" after a comma in quotes

In: rules. Out: their wording, and their JSON.
"""

import json
from itertools import pairwise
from os.path import commonprefix
from typing import NamedTuple

from interp.checks.errors import InterpError
from interp.text.predicate_kinds import PREDICATE_KINDS, kinds_in
from interp.text.read_text import ReadText
from interp.text.vocabulary import join_with_or

MAX_VALUES = 8
"""Largest number of values of an atom about the token itself. A longer list does not explain."""
MAX_VALUES_AROUND = 4
"""Largest number of values of any other atom."""
MAX_ATOMS = 3
SUBJECT = "token"
_MIN_SHARED_WORDS = 3


class Atom(NamedTuple):
    """One kind of predicates with some of its values, any of which may hold."""

    kind: str
    values: tuple[int, ...]
    names: tuple[str, ...]
    """The name of each value."""

    @property
    def words(self) -> str:
        names = list(dict.fromkeys(self.names))  # two classes of bytes, say, have the same name
        further = [name.removeprefix(_shared_words(before, name)) for before, name in pairwise(names)]
        return PREDICATE_KINDS[self.kind].words.format(join_with_or([*names[:1], *further]))


Rule = tuple[Atom, ...]


def most_values(kind: str) -> int:
    return MAX_VALUES if PREDICATE_KINDS[kind].subject == SUBJECT else MAX_VALUES_AROUND


def phrase(rule: Rule) -> str:
    """Return the wording of a rule: its tokens, and their context."""
    atoms = sorted(rule, key=lambda atom: list(PREDICATE_KINDS).index(atom.kind))
    subject = next((atom.words for atom in atoms if PREDICATE_KINDS[atom.kind].subject == SUBJECT), "tokens")
    places = [atom.words for atom in atoms if PREDICATE_KINDS[atom.kind].subject != SUBJECT]
    return " ".join([subject, *places])


def rule_json(rule: Rule) -> str:
    """Write a rule as JSON, for `from_json`: a list of atoms [kind, values, names]."""
    return json.dumps(rule, ensure_ascii=False)


def from_json(written: str, text: ReadText) -> Rule:
    """Parse a rule written by `rule_json`.
    text: the text that it describes.

    Raises ValueError for anything else, and for a rule of kinds or values that this text does not have.
    """
    try:
        rule = tuple(_atom(text, *atom) for atom in json.loads(written))
        if not 0 < len(rule) <= MAX_ATOMS:
            raise InterpError(f"it must have 1..{MAX_ATOMS} atoms")
    except (TypeError, LookupError, ValueError, RecursionError) as error:
        raise InterpError(
            f"the rule {written[:80]!r} cannot be read here ({error}): rank the features again, with this vocabulary "
            "and these labels"
        ) from None
    return rule


def _shared_words(before: str, name: str) -> str:
    """Return the words with which two names begin, if they are at least three outside quotes: "in lines indented by ",
    which are said once of a list."""
    words = commonprefix([before, name]).partition('"')[0]
    words = words[: words.rfind(" ") + 1]
    return words if words.count(" ") >= _MIN_SHARED_WORDS else ""


def _atom(text: ReadText, kind: str, values: list[int], names: list[str]) -> Atom:
    size = kinds_in(text)[kind].size(text)
    if not values or len(values) != len(names) or not all(0 <= value < size for value in values):
        raise InterpError(f"{kind} has no {values!r} among {size}")
    return Atom(kind, tuple(values), tuple(map(str, names)))
