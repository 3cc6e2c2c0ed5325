"""A rule says where a latent or one of its senses fires, by what is true at a position of the text. It is data:

An atom is one kind of predicate (`predicate_kinds`) with one or several of its values, and the name of each in words
and tokens. It holds where any of these values holds. A rule joins up to three atoms on different subjects by "and":

    "thou" or "thee" after a comma in quotes

In: atoms. Out: their wording, which a table shows, and their JSON, by which other programs, the page too, read them:
a list of atoms [kind, values, names]; a name is a list of words and of tokens, ["thou"].
"""

import json
from collections.abc import Sequence
from os.path import commonprefix
from typing import Any, NamedTuple

from interp.checks.errors import InterpError
from interp.display.segments import LIKE, SEPARATORS, Token
from interp.text.predicate_kinds import PREDICATE_KINDS, SUBJECT
from interp.text.vocabulary import Wording, join_with_or, quoted_text

PLAIN = ""
"""The kind of an atom that has only words, such as those of a person or a language model."""
MAX_VALUES = 8
"""Largest number of values of an atom about the token itself. A longer list does not explain."""
MAX_VALUES_AROUND = 4
"""Largest number of values of any other atom."""
MAX_ATOMS = 3
_MIN_SHARED_WORDS = 3


class Atom(NamedTuple):
    """One kind of predicates with some of its values, any of which may hold."""

    kind: str
    values: tuple[int, ...]
    names: tuple[Wording, ...]
    """The name of each value; () for a rule that is only proposed."""

    @property
    def subject(self) -> str:
        return PREDICATE_KINDS[self.kind].subject if self.kind else ""

    @property
    def words(self) -> str:
        return quoted_text(self.around(join_with_or(names_once(self.names))))

    @property
    def tokens(self) -> list[str]:
        """All tokens that it names."""
        return [one.text for name in self.names for one in name if isinstance(one, Token)]

    @property
    def listed_tokens(self) -> list[str]:
        """The tokens, if it only lists tokens; else none."""
        words = (one for name in self.names for one in name if isinstance(one, str))
        return self.tokens if all(one in SEPARATORS for one in words) else []

    def around(self, names: Wording, is_short: bool = False) -> Wording:
        """Return its wording with these names, or what is shown in place of that."""
        kind = PREDICATE_KINDS.get(self.kind)
        words = "{}" if kind is None else (is_short and kind.short_words) or kind.words
        before, hole, after = words.partition("{}")
        return tuple(one for one in (before, *(names if hole else ()), after) if one)


Rule = tuple[Atom, ...]


def most_values(kind: str) -> int:
    return MAX_VALUES if PREDICATE_KINDS[kind].subject == SUBJECT else MAX_VALUES_AROUND


def phrase(rule: Rule) -> str:
    """Return the wording of a rule: its tokens, and their context."""
    atoms = in_order(rule)
    return " ".join([*(["tokens"] if lacks_subject(atoms) else []), *(atom.words for atom in atoms)])


def words_of(rule_or_atom: Rule | Atom) -> str:
    """Return the wording of a rule, or of a predicate by itself."""
    return rule_or_atom.words if isinstance(rule_or_atom, Atom) else phrase(rule_or_atom)


def in_order(rule: Rule) -> Rule:
    """Return the atoms in the order of their words: first what is said of the token itself."""
    kinds = list(PREDICATE_KINDS)
    return tuple(sorted(rule, key=lambda atom: (atom.subject != SUBJECT, kinds.index(atom.kind) if atom.kind else 0)))


def lacks_subject(rule: Rule) -> bool:
    """Return whether a rule says nothing of the token itself, only of what is around it."""
    return bool(rule) and all(atom.subject not in ("", SUBJECT) for atom in rule)


def plain_atom(words: str) -> Atom:
    return Atom(PLAIN, (), ((words,),))


def first_tokens(rule_or_atom: Rule | Atom) -> list[str]:
    """Return the tokens that a rule lists for the token itself; none if it says something else of that, too."""
    atoms = (rule_or_atom,) if isinstance(rule_or_atom, Atom) else rule_or_atom
    return next((atom.listed_tokens for atom in atoms if atom.subject == SUBJECT), [])


def tokens_like(rule_or_atom: Rule | Atom) -> list[str]:
    """Return the tokens like which the token itself is; none if a rule says something else of that, too."""
    atoms = (rule_or_atom,) if isinstance(rule_or_atom, Atom) else rule_or_atom
    own = next((atom for atom in atoms if atom.subject == SUBJECT), None)
    return own.tokens if own is not None and all(name[0] == LIKE for name in own.names) else []


def names_once(names: Sequence[Wording]) -> list[Wording]:
    """Return names for a list: each once, as two classes of bytes have the same name, and each token of a class that
    lists its tokens. Three words or more with which two in a row begin are told once: "in lines indented by "."""
    listed = [parts for name in names for parts in _tokens_of_list(name) or [name]]
    distinct = list(dict.fromkeys(listed))
    shared = [0, *(len(_shared_words(*pair)) for pair in zip(distinct, distinct[1:], strict=False))]
    return [_without_first(name, n) for name, n in zip(distinct, shared, strict=True)]


def rule_json(rule: Rule) -> str:
    """Write a rule, in its order, as JSON; "" for none."""
    return atoms_json(in_order(rule)) if rule else ""


def atoms_json(atoms: Sequence[Atom]) -> str:
    written = [
        [atom.kind, atom.values, [[one if isinstance(one, str) else [one.text] for one in name] for name in atom.names]]
        for atom in atoms
    ]
    return json.dumps(written, ensure_ascii=False)


def read_atoms(written: Any) -> list[Atom]:
    """Read atoms of `atoms_json` or `rule_json`; none where a table has no text. Raises ValueError for other text."""
    if not isinstance(written, str) or not written:
        return []
    try:
        return [_read_atom(*atom) for atom in json.loads(written)]
    except (TypeError, ValueError, RecursionError) as error:
        raise InterpError(f"the rule {written[:80]!r} cannot be read ({error}): rank the features again") from None


def read_rule(words: Any, written: Any) -> Rule:
    """Read the rule of a table that has its words and its JSON; () where it has no words. Other words than those of the
    JSON, or of kinds that are not registered here, are those of a person or a language model: they stay words."""
    atoms = tuple(read_atoms(written))
    words = words if isinstance(words, str) else ""
    if all(atom.kind in PREDICATE_KINDS for atom in atoms) and phrase(atoms) == words:
        return atoms
    return (plain_atom(words),) if words else ()


def read_predicates(words: Sequence[str], written: Any) -> list[Atom]:
    """Read predicates in the same way, each of which has words of its own."""
    atoms = read_atoms(written)
    if all(atom.kind in PREDICATE_KINDS for atom in atoms) and [atom.words for atom in atoms] == list(words):
        return atoms
    return [plain_atom(each) for each in words]


def _read_atom(kind: str, values: list[int], names: list[list[Any]]) -> Atom:
    if not isinstance(kind, str) or not isinstance(values, list) or not all(isinstance(name, list) for name in names):
        raise TypeError(f"{kind!r} has no lists of values and names")
    wordings = (tuple(one if isinstance(one, str) else Token(*one) for one in name) for name in names)
    return Atom(kind, tuple(values), tuple(wordings))


def _tokens_of_list(name: Wording) -> list[Wording]:
    """Return each token of a name that is tokens joined by "or"; none for any other name."""
    is_list = " or " in name and all(isinstance(one, Token) or one in SEPARATORS for one in name)
    return [(one,) for one in name if isinstance(one, Token)] if is_list else []


def _shared_words(before: Wording, name: Wording) -> str:
    """Return the words with which two names begin, before any token."""
    words = commonprefix([_first_words(before), _first_words(name)])
    words = words[: words.rfind(" ") + 1]
    return words if words.count(" ") >= _MIN_SHARED_WORDS else ""


def _first_words(name: Wording) -> str:
    n = next((k for k, one in enumerate(name) if not isinstance(one, str)), len(name))
    return "".join(map(str, name[:n]))


def _without_first(name: Wording, n: int) -> Wording:
    """Return a name without its first n letters, which are words."""
    while n and len(name[0]) <= n:
        n -= len(name[0])
        name = name[1:]
    return (str(name[0])[n:], *name[1:]) if n else name
