"""A rule in short, as displays show it: ranges of places joined, similar tokens as one list in groups, a property that
several names share said once.

In: atoms (`rules`). Out: clauses, what is said of each subject in segments (`display.segments`), and these joined.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from interp.display.byte_parts import BYTES
from interp.display.segments import (
    LIKE,
    N_AROUND,
    N_FURTHER_SAMPLES,
    N_LISTED,
    N_SAMPLES,
    NameFamily,
    Segments,
    Token,
    TokenList,
    family_of,
    group_lists,
    to_text,
)
from interp.text.predicate_kinds import LABEL, PREDICATE_KINDS, STEM, SUBJECT, TOPIC
from interp.text.rules import Atom, Rule, first_tokens, lacks_subject, names_once, read_rule
from interp.text.vocabulary import Wording, join_with_commas, join_with_or

_IN_LATIN = re.compile("(lower-case tokens|capitalised tokens|tokens in capitals) in Latin script")
ANY_BYTES = "parts of characters of any script"
"""What is shown for tokens that are called BYTES."""
ENGLISH = frozenset(
    "a about all an and are as at be been but by for from had has have he her him his i if in into is it its me my no "
    "not of on or our she so that the their them they this to was we were what which who will with you your".split()
)
"""Words that tell no more of an English text than that it is one."""
ENGLISH_PROSE = "in English prose"
NEWLINE = ((Token("\n"),),)
NEWLINE_FIRST = {
    "line_place": "the newline of an empty line",
    "sentence_place": "a newline after the end of a sentence or line",
}
"""What is shown for a newline that is the first token of a line or sentence."""


class Clause(NamedTuple):
    """What a rule says of one subject, in short."""

    atom: Atom | None
    """None for the word "tokens", which stands where a rule says nothing of the token itself, and for what a display
    says in the place of an atom."""
    segments: Segments

    @property
    def names_tokens(self) -> bool:
        """Whether it names tokens on which a rule holds, and not only their kind or what is around. The words of a
        person may name some."""
        atom = self.atom
        return atom is not None and (atom.subject == "" or (self.is_of_token and bool(atom.tokens)))

    @property
    def is_of_token(self) -> bool:
        """Whether it tells of the token itself, and not of what is around."""
        return self.atom is not None and self.atom.subject == SUBJECT

    @property
    def is_of_text(self) -> bool:
        """Whether it tells the kind of text."""
        return self.atom is not None and (self.atom.kind == LABEL or self.atom.subject == TOPIC)

    @property
    def is_told_by_tokens(self) -> bool:
        """Whether it tells kinds of text only by their commonest tokens."""
        return self.atom is not None and self.atom.subject == TOPIC and self.segments != [ENGLISH_PROSE]

    @property
    def is_of_label(self) -> bool:
        """Whether it tells at most the kind of text."""
        return self.atom is None or self.atom.kind == LABEL

    @property
    def head(self) -> str:
        """What it says first, up to its first token or the end of its first name."""
        first = self.segments[0]
        if isinstance(first, TokenList):
            group = first.groups[0]
            before = f"{group.name} " if group.name and group.n_shown else group.name
            return to_text([before, group.tokens[0]] if group.n_shown else [before])
        name = self.segments if self.atom is None else _shown(self.atom.names[0])
        n = next((k for k, one in enumerate(name) if not isinstance(one, str)), len(name) - 1) + 1
        return to_text(name[:n])


def clauses_of(rule_or_atom: Rule | Atom, name_family: NameFamily = family_of) -> list[Clause]:
    """Return the clauses of a rule in short, or a predicate by itself."""
    rule = (rule_or_atom,) if isinstance(rule_or_atom, Atom) else _without_own_words(rule_or_atom)
    clauses = [Clause(None, ["tokens"])] if not isinstance(rule_or_atom, Atom) and lacks_subject(rule) else []
    if len(rule) > 1 and rule[1].values == (0,) and rule[1].kind in NEWLINE_FIRST and rule[0].names == NEWLINE:
        clauses.append(Clause(rule[0], [NEWLINE_FIRST[rule[1].kind]]))
        rule = rule[2:]
    for atom in rule:
        has_families = any(isinstance(one, TokenList) and one.groups[0].name for clause in clauses for one in clause[1])
        n_samples = 0 if atom.subject == TOPIC else N_FURTHER_SAMPLES if has_families else N_SAMPLES
        n_listed = N_LISTED if atom.subject == SUBJECT else N_AROUND
        is_of_many = atom.subject == TOPIC
        segments = group_lists(_elements(atom), name_family, n_samples, n_listed, is_of_many=is_of_many)
        clauses.append(Clause(atom, merge_words(segments)))
    return clauses


def segments_of(clauses: Sequence[Clause]) -> Segments:
    """Return all that a rule says as segments."""
    return merge_words([part for k, clause in enumerate(clauses) for part in [*([" "] if k else []), *clause.segments]])


def merge_words(segments: Sequence[Any], alone: str = "") -> Segments:
    """Return segments with words that follow on each other as one, but those that stand alone."""
    out: Segments = []
    for one in segments:
        last = out[-1] if out else None
        if isinstance(one, str) and isinstance(last, str) and alone not in (one, last):
            out[-1] = last + one
        else:
            out.append(one)
    return out


def short_rule(row: Any) -> Segments:
    """Return the rule of a row of a ranking in short; [] for none. The ranking may lack these columns."""
    return segments_of(clauses_of(read_rule(row.get("explanation"), row.get("explanation_json"))))


def _without_own_words(rule: Rule) -> Rule:
    """Return a rule without words that are tokens of its list: "a" in words like "a"."""
    own = {token.strip().lower() for token in first_tokens(rule)}

    def others(atom: Atom) -> Atom:
        words = zip(atom.names, atom.tokens, strict=True)
        return atom._replace(names=tuple(name for name, word in words if word.lower() not in own))

    return tuple(left for atom in rule for left in [others(atom) if atom.kind == STEM else atom] if left.names)


def _elements(atom: Atom) -> Segments:
    """Return the wording of an atom in short, as segments in which LIKE stands alone."""
    kind = PREDICATE_KINDS.get(atom.kind)
    if kind is not None and kind.short_name is not None and (short := kind.short_name(atom.values)) is not None:
        return merge_words(atom.around((short,)))
    if atom.subject == TOPIC:
        atom = atom._replace(names=tuple(("English words",) if _is_english(name) else name for name in atom.names))
        if set(atom.names) == {("English words",)}:
            return [ENGLISH_PROSE]
    names = names_once([_without_like(name) for name in atom.names])
    plain = [name for name in names if name[0] != LIKE]
    like = [one for name in names if name[0] == LIKE for one in _samples(name)]
    if like and atom.subject != SUBJECT and all(isinstance(one, Token) for name in plain for one in name):
        plain, like = [], [*plain, *like]
    names = _once_at_end(plain)
    if like:
        names.append((LIKE, *join_with_commas(like)))
    return merge_words(_shown(atom.around(join_with_or(names), is_short=True)), alone=LIKE)


def _samples(name: Wording) -> list[Wording]:
    """Return the tokens by which a class is named. Without a vocabulary they are words, and stay together."""
    return [(one,) for one in name if isinstance(one, Token)] or [name[1:]]


def _is_english(name: Wording) -> bool:
    """Return whether the whole words that name a topic only tell its language."""
    words = [one.text.strip().lower() for one in name if isinstance(one, Token) and one.text[:1] == " "]
    return len(words) > 1 and ENGLISH.issuperset(words)


def _shown(wording: Wording) -> Segments:
    """Return a wording without what nearly all text is, as a display says it."""
    return [
        ANY_BYTES if one == BYTES else _IN_LATIN.sub(r"\1", one) if isinstance(one, str) else one for one in wording
    ]


def _without_like(name: Wording) -> Wording:
    """Return the name of a class that one token names, since most of it is this token where the rule holds, as that."""
    return name[1:] if len(name) == 2 and name[0] == LIKE else name


def _once_at_end(names: Sequence[Wording]) -> list[Wording]:
    """Return names in words with the last words of a name only where the next one does not end in them: "numbers or
    dashes with a leading space"."""
    following: Any = [*names[1:], ()][: len(names)]
    return [
        name[:-1] if name[-1:] == then[-1:] and [type(one) for one in name[-2:]] == [str, str] else name
        for name, then in zip(names, following, strict=True)
    ]
