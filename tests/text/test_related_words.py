"""Related words: the shipped list is sound, and positions share what the lists of their words have in common."""

import numpy as np
import pytest

from interp.text.positions import Positions
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.text.predicates import Predicates
from interp.text.related_words import N_NEAR, related_words

STRINGS = [" per", "Each", " war", "zzz", " battle", "\n", "ing"]


def test_each_word_is_listed_once_and_is_its_own_nearest():
    words, near = related_words()
    assert len(set(words)) == len(words) == len(near) and near.shape[1] == N_NEAR
    assert (near[:, 0] == np.arange(len(words))).all()
    assert all(len(set(row)) == N_NEAR for row in near.tolist()) and 0 <= near.min() and near.max() < len(words)


def test_a_string_has_the_related_words_of_its_letters_in_any_case():
    words, near = related_words()
    each = related_words().near_each(STRINGS)
    for string, row in zip(STRINGS, each, strict=False):
        word = string.strip().lower()
        expected = near[words.index(word)] if word in words else [-1] * N_NEAR
        assert row.tolist() == list(expected), string
    assert (each[-1] == -1).all() and (each[STRINGS.index("zzz")] == -1).all()


def joins(left, right):
    """Whether two tokens are pieces of one word: no space or other character that is not a letter lies between them."""
    return STRINGS[left][-1].isalpha() and STRINGS[right][0].isalpha()


@pytest.mark.parametrize(("kind", "offset"), [("related", 0), ("previous_related", -1)])
def test_positions_share_what_the_lists_of_their_words_have_in_common(kind, offset):
    tokens = np.random.default_rng(0).integers(len(STRINGS), size=(6, 8)).astype(np.int32)
    text = Predicates.count(tokens, len(STRINGS), STRINGS).text
    values = PREDICATE_KINDS[kind].values(Positions(text, np.arange(tokens.size)))
    each = related_words().near_each(STRINGS)
    for row, found in enumerate(values):
        sequence, position = tokens[row // 8], row % 8 + offset
        is_whole = position >= 0 and not any(
            0 <= left and left + 1 < len(sequence) and joins(sequence[left], sequence[left + 1])
            for left in (position - 1, position)
        )
        assert set(found.tolist()) == (set(each[sequence[position]].tolist()) if is_whole else {-1})
    per, battle = set(each[0]), set(each[STRINGS.index(" battle")])
    assert per & set(each[1]) and battle & set(each[2]) and not per & battle
