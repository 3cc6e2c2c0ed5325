"""Rules for tests, by the names of the kinds of their atoms."""

from collections.abc import Sequence

import pandas as pd

from interp.display.segments import LIKE, Token
from interp.text.rules import Atom, Rule, phrase, rule_json
from interp.text.short_rules import Clause, clauses_of
from interp.text.vocabulary import Wording, join_with_commas

OF_TOKENS = ("token", "previous", "next", "before", "around")
"""Kinds whose values are called by a token."""


def a_rule(**said: Sequence[str | Wording]) -> Rule:
    """Return a rule that says of each kind some names of values, which are numbered from 0."""
    return tuple(an_atom(kind, *names) for kind, names in said.items())


def an_atom(kind: str, *names: str | Wording) -> Atom:
    wordings = [name if isinstance(name, tuple) else (Token(name) if kind in OF_TOKENS else name,) for name in names]
    return Atom(kind, tuple(range(len(names))), tuple(wordings))


def tokens(*texts: str) -> Wording:
    """Return the name of a topic."""
    return join_with_commas([(Token(text),) for text in texts])


def like(*texts: str) -> Wording:
    """Return the name of a class of tokens."""
    return (LIKE, *tokens(*texts))


def short(**said: Sequence[str | Wording]) -> list[Clause]:
    return clauses_of(a_rule(**said))


def set_rule(table: pd.DataFrame, latent: int, rule: Rule) -> None:
    """Write the rule of a latent into a ranking."""
    table.loc[latent, ["explanation", "explanation_json"]] = phrase(rule), rule_json(rule)
