"""The whole words in whose pieces a latent fires, in a text of a few words."""

import numpy as np
import pytest
import scipy.sparse
import torch

from interp.display.segments import to_text
from interp.features.feature_store import FeatureStore
from interp.report.naming import Description
from interp.report.whole_words import LongerWords, Piece, beyond_token, longer_words, whole_words

VOCAB = [" B", "er", "lin", " own", " and", " er", "T", "H", "Vl", "⟨d7⟩", ".", " 1", "5"]
BERLIN, OWNER = [0, 1, 2], [3, 1]


@pytest.fixture
def store(tmp_path):
    """A function that makes a store of a text and of one latent, which fires at some places."""

    def make(tokens: list[int], places: list[int]) -> FeatureStore:
        fires = np.isin(np.arange(len(tokens)), places).reshape(-1, 1).astype(np.float32)
        rows = torch.tensor([tokens]).int()
        return FeatureStore.from_codes(rows, scipy.sparse.csr_matrix(fires), tmp_path / "store", vocab=VOCAB)

    return make


def words_of(features: FeatureStore, strongest: list[str]) -> list[Description]:
    longer = longer_words(features, features.table()["n_active"].tolist())
    return whole_words(longer[0], strongest) if longer else []


def told(features: FeatureStore) -> list[tuple[str, float]]:
    return [(to_text(one.segments), one.f1) for one in words_of(features, [])]


def test_words_are_those_of_the_firings_with_how_many_are_in_them(store):
    text = [*BERLIN, 4] * 3 + [*OWNER, 4] * 4
    features = store(text, [1, 5, 9])
    assert told(features) == [('"er" in "Berlin"', 1.0)]
    [one] = words_of(features, ["er", "lin", "er", "er"])
    assert one.at_strongest == 0.75 and one.kind == "words"


def test_each_word_that_raises_the_f1_is_named_after_the_others(store):
    text = [*BERLIN, 4] * 3 + [*OWNER, 4] * 4
    assert told(store(text, [1, 5, 9, 13, 16])) == [
        ('"er" in "Berlin"', pytest.approx(2 * 3 / (5 + 3), abs=1e-3)),
        ('"er" in "Berlin" or "owner"', pytest.approx(2 * 5 / (5 + 7), abs=1e-3)),
    ]


def test_a_word_in_which_few_pieces_fire_lowers_the_f1_and_is_not_named(store):
    text = [*BERLIN, 4] * 3 + [*OWNER, 4] * 12
    assert told(store(text, [1, 5, 9, 13, 16])) == [('"er" in "Berlin"', pytest.approx(2 * 3 / (5 + 3)))]


def test_the_commonest_word_comes_first(store):
    """Though it is not the one that raises the F1 most: half of the places in it are no firings."""
    text = [*BERLIN, 4] * 8 + [*OWNER, 4] * 3
    _, (words, _) = told(store(text, [1, 5, 9, 13, 33, 36, 39]))
    assert words == '"er" in "Berlin" or "owner"'


def test_words_are_joined_from_their_spaces_on(store):
    *_, (words, f1) = told(store([*BERLIN, 4] * 3 + [*OWNER, 4] * 2, [0, 4, 8, 12, 15]))
    assert (words, f1) == ('" B" or " own" in "Berlin" or "owner"', 1.0)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ([5, 4] * 4, [0, 2, 4, 6]),  # tokens that are whole words
        ([*BERLIN, 4, *OWNER, 10] * 3, [3, 10, 17]),  # never in a piece
        ([6, 7, 6, 8, 10] * 4, [0, 5, 10, 15]),  # letters of a code
        ([1, 9, 4] * 4, [0, 3, 6, 9]),  # a part of a letter may go on with the word
        ([0, 1], [0, 1]),  # the text ends in the word, perhaps
    ],
)
def test_no_word_is_named_where_the_firings_are_not_in_pieces_of_words(store, text, places):
    assert told(store(text, places)) == []


def beyond(token: str, share: float, **words: float) -> str:
    """Return what is said of the firings on a token, a share of which is in longer words, by the share in each."""
    pieces = {Piece(token, word): (own, own) for word, own in words.items()}
    return to_text(beyond_token(LongerWords(pieces, share), token))


def test_few_words_that_make_up_most_firings_on_a_token_are_told_the_commonest_first():
    assert beyond(" pl", 1, play=0.2, plain=0.35) == 'mostly in "plain" or "play"'
    assert beyond(" pl", 1, plain=0.55, play=0.2) == 'mostly in "plain"', "no more than make up most"
    assert beyond(" pl", 1, a=0.12, b=0.12, c=0.12, d=0.12) == 'as in "a"', "an example of many"
    assert beyond(" pl", 1, a=0.05, b=0.05) == "", "no example stands for many"


def test_a_word_that_often_goes_on_in_a_longer_one_is_said_to():
    assert beyond(" thou", 0.2, thousand=0.15) == 'also in "thousand"'
    assert beyond(" thou", 0.2, thousand=0.05) == "also in longer words"
    assert beyond(" thou", 0.09, thousand=0.09) == ""
    assert beyond("ン", 0.2, ガン=0.15) == "", "words of this script are not known"


def test_a_digit_before_others_is_said_to_be():
    assert beyond(" 1", 0.2) == "also before further digits"
    assert beyond(" 1", 0.6) == "mostly before further digits"


def test_what_goes_on_is_counted_on_the_commonest_token_within_its_sequence(store):
    counted = longer_words(store([11, 4, 11, 12, 11, 4, *BERLIN, 11], [0, 2, 4, 7, 9]), [5])
    assert counted[0].share == pytest.approx(1 / 4), "one of four 1, of which the last ends the text; no er"
