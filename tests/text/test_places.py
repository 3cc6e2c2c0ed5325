"""Places that a rule lists are told as ranges, and nothing else of it is changed."""

import pytest

from interp.display.segments import to_text
from interp.text.places import INDENTS, ORDINALS, sequence_place
from interp.text.rules import Atom
from interp.text.short_rules import clauses_of, segments_of

NAMES = {"indent": INDENTS.__getitem__, "line_place": ORDINALS.__getitem__, "sentence_place": ORDINALS.__getitem__}


def said(kind, *values):
    """Return the wording of an atom about a place, and that in short."""
    atom = Atom(kind, values, tuple((NAMES.get(kind, sequence_place)(value),) for value in values))
    return atom.words, to_text(segments_of(clauses_of(atom)))


@pytest.mark.parametrize(
    ("kind", "values", "words", "short"),
    [
        ("indent", (2, 1), "in lines indented by 5 to 8 spaces or 1 to 4 spaces", "in lines indented by 1 to 8 spaces"),
        (
            "indent",
            (1, 3),
            "in lines indented by 1 to 4 spaces or 9 to 12 spaces",
            "in lines indented by 1 to 4 or 9 to 12 spaces",
        ),
        (
            "indent",
            (2, 5, 3),
            "in lines indented by 5 to 8 spaces, more than 16 spaces or 9 to 12 spaces",
            "in lines indented by 5 to 12 or more than 16 spaces",
        ),
        (
            "indent",
            (4, 5),
            "in lines indented by 13 to 16 spaces or more than 16 spaces",
            "in lines indented by more than 12 spaces",
        ),
        (
            "indent",
            (4, 1, 3, 2, 5),
            "in lines indented by 13 to 16 spaces, 1 to 4 spaces, 9 to 12 spaces, 5 to 8 spaces or more than 16 spaces",
            "in indented lines",
        ),
        (
            "indent",
            (1, 0, 2),
            "in lines indented by 1 to 4 spaces, in lines that are not indented or in lines indented by 5 to 8 spaces",
            "in lines that are not indented or in lines indented by 1 to 8 spaces",
        ),
        (
            "sentence_place",
            (8, 6, 7),
            "at token 9 or later, 7 or 8 of a sentence",
            "at token 7 or later of a sentence",
        ),
        ("line_place", (8, 2, 5), "at token 9 or later, 3 or 6 of a line", "at token 3, 6, or 9 or later of a line"),
        ("sentence_place", (1, 0, 3, 4), "at token 2, 1, 4 or 5 of a sentence", "at token 1, 2, 4 or 5 of a sentence"),
        ("sentence_place", (1, 0, 2, 4), "at token 2, 1, 3 or 5 of a sentence", "at token 1 to 3 or 5 of a sentence"),
        (
            "sequence_place",
            (2, 1, 0),
            "2 or 3 tokens into a sequence, one token into a sequence or at the start of a sequence",
            "in the first 4 tokens of a sequence",
        ),
        (
            "sequence_place",
            (2, 3),
            "2 or 3 tokens into a sequence or 4 to 7 tokens into a sequence",
            "2 to 7 tokens into a sequence",
        ),
    ],
)
def test_ranges_that_adjoin_are_joined_in_order(kind, values, words, short):
    assert said(kind, *values) == (words, short)


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("indent", (0,), "in lines that are not indented"),
        ("indent", (1,), "in lines indented by 1 to 4 spaces"),
        ("line_place", (1, 2), "at token 2 or 3 of a line"),
        ("sequence_place", (0, 2), "at the start of a sequence or 2 or 3 tokens into a sequence"),
        ("sequence_place", (1,), "one token into a sequence"),
        ("sequence_place", (6,), "32 to 63 tokens into a sequence"),
    ],
)
def test_other_places_are_told_as_they_are(kind, values, words):
    assert said(kind, *values) == (words, words)
