"""Ranges that a rule lists are joined, and nothing else of it is changed."""

import pytest

from interp.display.ranges import join_ranges


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        ("in lines indented by 5 to 8 spaces or 1 to 4 spaces", "in lines indented by 1 to 8 spaces"),
        ("in lines indented by 1 to 4 spaces or 9 to 12 spaces", "in lines indented by 1 to 4 or 9 to 12 spaces"),
        (
            "in lines indented by 5 to 8 spaces, more than 16 spaces or 9 to 12 spaces",
            "in lines indented by 5 to 12 or more than 16 spaces",
        ),
        (
            "in lines indented by 13 to 16 spaces or more than 16 spaces within 8 tokens after ",
            "in lines indented by more than 12 spaces within 8 tokens after ",
        ),
        (
            "in lines indented by 13 to 16 spaces, 1 to 4 spaces, 9 to 12 spaces, 5 to 8 spaces or more than 16 spaces",
            "in indented lines",
        ),
        ("at token 9 or later, 7 or 8 of a sentence", "at token 7 or later of a sentence"),
        ("at token 3 or later or 5 of a sentence", "at token 3 or later of a sentence"),
        ("at token 9 or later, 3 or 6 of a line", "at token 3, 6, or 9 or later of a line"),
        ("at token 2, 1, 4 or 5 of a sentence", "at token 1, 2, 4 or 5 of a sentence"),
        ("at token 2, 1, 3 or 5 of a sentence", "at token 1 to 3 or 5 of a sentence"),
        (
            "2 or 3 tokens into a sequence, one token into a sequence or at the start of a sequence",
            "in the first 4 tokens of a sequence",
        ),
        ("2 or 3 tokens into a sequence or 4 to 7 tokens into a sequence", "2 to 7 tokens into a sequence"),
    ],
)
def test_ranges_that_adjoin_are_joined_in_order(words, joined):
    assert join_ranges(words) == joined


@pytest.mark.parametrize(
    "words",
    [
        "in lines that are not indented",
        "in lines indented by 1 to 4 spaces",
        "at token 2 or 3 of a line within 8 tokens after ",
        "at the start of a sequence or 2 or 3 tokens into a sequence",
        "one token into a sequence",
        "tokens within 12 tokens of ",
    ],
)
def test_nothing_else_is_changed(words):
    assert join_ranges(words) == words
