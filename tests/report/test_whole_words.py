"""The whole words in whose pieces a latent fires, in a text of a few words."""

import numpy as np
import pytest
import scipy.sparse
import torch

from interp.features.feature_store import FeatureStore
from interp.report.whole_words import WholeWords, whole_words

VOCAB = [" B", "er", "lin", " own", " and", " er", "T", "H", "Vl", "⟨d7⟩", "."]
BERLIN, OWNER = [0, 1, 2], [3, 1]


@pytest.fixture
def store(tmp_path):
    """A function that makes a store of a text and of one latent, which fires at some places."""

    def make(tokens: list[int], places: list[int]) -> FeatureStore:
        fires = np.isin(np.arange(len(tokens)), places).reshape(-1, 1).astype(np.float32)
        rows = torch.tensor([tokens]).int()
        return FeatureStore.from_codes(rows, scipy.sparse.csr_matrix(fires), tmp_path / "store", vocab=VOCAB)

    return make


def words_of(features: FeatureStore) -> WholeWords | None:
    return whole_words(features, features.table()["n_active"].tolist()).get(0)


def test_words_are_those_of_the_firings_with_how_many_are_in_them(store):
    text = [*BERLIN, 4] * 3 + [*OWNER, 4] * 4
    in_berlin = [1, 5, 9]
    found = words_of(store(text, in_berlin))
    assert found == WholeWords(("er",), ("Berlin",), share=1.0, f1=1.0)


def test_a_word_in_which_few_pieces_fire_lowers_the_f1_and_is_not_named(store):
    text = [*BERLIN, 4] * 3 + [*OWNER, 4] * 12
    found = words_of(store(text, [1, 5, 9, 13, 16]))
    assert found == WholeWords(("er",), ("Berlin",), share=0.6, f1=pytest.approx(2 * 3 / (5 + 3)))


def test_words_are_joined_from_their_spaces_on(store):
    found = words_of(store([*BERLIN, 4] * 2 + [*OWNER, 4] * 2, [0, 4, 8, 11]))
    assert found is not None
    assert (found.tokens, found.words) == ((" B", " own"), ("Berlin", "owner"))


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ([5, 4] * 4, [0, 2, 4, 6]),  # tokens that are whole words
        ([*BERLIN, 4, *OWNER, 10] * 3, [3, 10, 17, 6, 13, 5]),  # hardly ever in a piece
        ([6, 7, 6, 8, 10] * 4, [0, 5, 10, 15]),  # letters of a code
        ([1, 9, 4] * 4, [0, 3, 6, 9]),  # a part of a letter may go on with the word
        ([0, 1], [0, 1]),  # the text ends in the word, perhaps
    ],
)
def test_no_word_is_named_where_the_firings_are_not_in_pieces_of_words(store, text, places):
    assert words_of(store(text, places)) is None
