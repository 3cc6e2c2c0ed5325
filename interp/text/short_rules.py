"""A rule in short, as displays show it: ranges of places joined, similar tokens as one list in groups, a property that
several names share said once.

In: atoms (`rules`). Out: clauses, what is said of each subject in segments (`display.segments`), and these joined.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from interp.display.byte_parts import BYTES
from interp.display.segments import (
    LIKE,
    N_FURTHER_SAMPLES,
    N_SAMPLES,
    NameFamily,
    Segments,
    Token,
    TokenGroup,
    TokenList,
    count_white_space,
    family_of,
    group_lists,
    to_text,
)
from interp.text.predicate_kinds import LABEL, PREDICATE_KINDS, STEM, SUBJECT, TOPIC
from interp.text.rules import Atom, Rule, first_tokens, lacks_subject, names_once, read_rule
from interp.text.vocabulary import Wording, join_with_or, name_of_token

ANY_BYTES = "parts of characters of any script"
"""What is shown for tokens that are called BYTES."""
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
    def is_of_label(self) -> bool:
        """Whether it tells at most the kind of text."""
        return self.atom is None or self.atom.kind == LABEL

    @property
    def head(self) -> str:
        """What it says first, up to its first token or the end of its first name."""
        first = self.segments[0]
        if isinstance(first, TokenList):
            group = first.groups[0]
            return to_text([f"{group.name} " if group.name else "", group.tokens[0]])
        name = self.segments if self.atom is None else [_shown(one) for one in self.atom.names[0]]
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
        n_samples = N_FURTHER_SAMPLES if has_families else N_SAMPLES
        elements = _elements(atom)
        is_of_many = atom.subject == TOPIC
        clauses.append(Clause(atom, merge_words(group_lists(elements, name_family, n_samples, is_of_many=is_of_many))))
    is_alone = len(rule) == len(clauses) == 1 and rule[0].subject == SUBJECT
    if is_alone and (counted := count_white_space(rule[0].listed_tokens)):
        tokens = tuple(map(Token, rule[0].tokens))
        return [Clause(rule[0], [TokenList((TokenGroup(counted, tokens, 0),))])]
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
    names = _once_at_end(names_once(atom.names))
    first = next((k for k, name in enumerate(names) if name[0] == LIKE), len(names))
    names = [
        name[1:] if k > first and name[0] == LIKE and _is_quoted(name[1]) and _is_quoted(names[k - 1][-1]) else name
        for k, name in enumerate(names)
    ]
    return merge_words([_shown(one) for one in atom.around(join_with_or(names))], alone=LIKE)


def _is_quoted(one: str | Token) -> bool:
    return isinstance(_shown(one), Token)


def _shown(one: str | Token) -> str | Token:
    """Return a token that has a name, such as a comma, by that, and other tokens and words as they are shown."""
    if isinstance(one, Token):
        return name_of_token(one.text) or one
    return ANY_BYTES if one == BYTES else one


def _once_at_end(names: Sequence[Wording]) -> list[Wording]:
    """Return names in words with the last words of a name only where the next one does not end in them: "numbers or
    dashes with a leading space"."""
    following: Any = [*names[1:], ()]
    return [
        name[:-1] if name[-1:] == then[-1:] and [type(one) for one in name[-2:]] == [str, str] else name
        for name, then in zip(names, following, strict=True)
    ]
