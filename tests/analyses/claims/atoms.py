"""A small vocabulary, atoms of rules over it, and a reader that says position by position whether one holds."""

import numpy as np

from interp.text.positions import Positions
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.text.rules import Atom

WORDS = [
    "a",
    "b",
    " the",
    " then",
    "(",
    ")",
    "\n",
    "7",
    "42",
    "walking",
    "talking",
    "ringing",
    "singing",
    ",",
    " ",
    ".",
]


def an_atom(kind, *values):
    return Atom(kind, values, tuple((str(value),) for value in values))


OFFSETS = {"token": [0], "previous": [-1], "next": [1], "before": range(-8, 0)}


def atom_holds(atom, predicates, seq, pos):
    """Read at one position, for kinds of tokens from the tokens around it."""
    corpus = predicates.text
    n_ctx = corpus.tokens.shape[1]
    if atom.kind not in OFFSETS:
        values = PREDICATE_KINDS[atom.kind].values(Positions(corpus, np.array([seq * n_ctx + pos])))
        return bool(np.isin(values, atom.values).any())
    around = [corpus.tokens[seq, pos + offset] for offset in OFFSETS[atom.kind] if 0 <= pos + offset < n_ctx]
    return any(token in atom.values for token in around)
