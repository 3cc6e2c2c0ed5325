"""What holds at a position, against a reading by hand; how rare it is, against counts of all positions."""

import numpy as np
import pytest
import torch

from interp.display.segments import Token
from interp.text.analysed_text import AnalysedText
from interp.text.positions import Positions
from interp.text.predicate_kinds import (
    PREDICATE_KINDS,
    TOKENS_AROUND,
    kinds_in,
    register_kind,
    spelling_kind,
    token_kind,
)
from interp.text.predicates import Predicates
from interp.text.vocabulary import quoted_text

WORDS = ["\n", " the", " cat", " sat", "ting", "(", ")", ".", " dog", " Dog", "7"]
TEXT = "\n| the| cat| sat|ting|(| the| dog|)|.|\n| Dog| sat|ting|7|."


@pytest.fixture(scope="module")
def predicates():
    """Return the sentence above, and random text of the same words."""
    own = np.array([WORDS.index(word) for word in TEXT.split("|")])
    other = np.random.default_rng(0).integers(len(WORDS), size=(80, len(own)))
    return Predicates.count(np.vstack([own, other]).astype(np.int32), len(WORDS), WORDS)


def value(predicates, kind, row):
    return PREDICATE_KINDS[kind].values(Positions(predicates.text, np.array([row])))[0]


def same(predicates, kind, a, b):
    return value(predicates, kind, a) == value(predicates, kind, b)


@pytest.mark.parametrize(
    ("kind", "alike", "unlike"),
    [
        ("token", (1, 6), (1, 2)),
        ("letters", (7, 11), (7, 2)),  # " dog" and " Dog"
        ("last_2", (4, 13), (4, 3)),
        ("previous", (4, 13), (4, 5)),
        ("next", (3, 12), (3, 2)),
        ("stem", (3, 4), (3, 2)),  # " sat" + "ting" is one word
        ("sentence_place", (1, 11), (1, 3)),
        ("parentheses", (6, 7), (6, 2)),
        ("line_start", (1, 11), (1, 2)),
        ("shape", (1, 2), (1, 11)),
    ],
)
def test_kinds_give_the_predicates_at_a_position(predicates, kind, alike, unlike):
    assert same(predicates, kind, *alike) and not same(predicates, kind, *unlike)


def test_marks_on_letters_are_parts_of_words():
    """कि|त|ाब is one word, and so is the stem of each piece."""
    words = ["कि", "त", "ाब", " है", "।"]
    predicates = Predicates.count(np.arange(5, dtype=np.int32)[None], 5, words)
    assert same(predicates, "stem", 0, 1) and same(predicates, "stem", 1, 2) and not same(predicates, "stem", 2, 3)
    rows = np.arange(5)
    first, *_, last = predicates.at(rows, ["stem"])[:, 0] - predicates.offsets["stem"]
    assert PREDICATE_KINDS["stem"].name(predicates.text, first, rows) == (Token("किताब"),)
    assert PREDICATE_KINDS["stem"].name(predicates.text, last, rows) == (Token("।"),)


def test_a_class_is_named_by_the_tokens_that_stand_at_the_rows():
    """Of the token before, by those before the rows; where none of the class does, by its commonest ones."""
    vocab = ["a", "b", "c", "d", "e", "f"]
    predicates = Predicates.count(np.array([[0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 0]], np.int32), 6, vocab)
    text = predicates.text
    for offset in (0, -1):
        kind = token_kind(lambda text: np.array([0, 0, 0, 0, 0, 1, -1]), offset=offset)
        rows = np.array([6, 6, 7]) - offset
        named = [quoted_text(kind.name(text, value, rows)) for value in (0, 1)]
        assert named == ['tokens like "d", "e"', '"f"'] and kind.is_named_by_rows
        assert quoted_text(kind.name(text, 0, np.array([9]) - offset)) == 'tokens like "a", "b", "e"'


def test_a_sequence_that_begins_inside_a_sentence_does_not_know_its_beginning():
    words = ["the", " end", ".", " So", "\n", "of", " it"]
    predicates = Predicates.count(np.arange(7, dtype=np.int32)[None], 7, words)
    assert [value(predicates, "sentence_place", row) for row in range(7)] == [-1, -1, -1, 0, 1, 0, 1]
    after_control = Predicates.count(np.arange(3, dtype=np.int32)[None], 3, ["<|endoftext|>", "the", " end"])
    assert [value(after_control, "sentence_place", row) for row in range(3)] == [-1, 0, 1]


def test_white_space_is_in_no_word(predicates):
    """A newline was “in words like an empty token”."""
    assert WORDS[predicates.text.tokens[0, 0]] == "\n" and value(predicates, "stem", 0) == -1 < value(
        predicates, "stem", 1
    )


def test_nothing_looks_across_the_edge_of_a_sequence(predicates):
    n_ctx = predicates.text.tokens.shape[1]
    first, last = n_ctx, 2 * n_ctx - 1
    assert value(predicates, "previous", first) == value(predicates, "next", last) == -1
    around = value(predicates, "around", first)
    assert (around[:TOKENS_AROUND] == -1).all() and around[TOKENS_AROUND] == predicates.text.tokens[1, 0]


def test_a_repeated_token_is_called_by_how_far_back_it_is():
    tokens = np.array([[0, 1, 0, 2, 3, 0, 4, 4]], np.int32)
    predicates = Predicates.count(tokens, 5, WORDS[:5])
    kind = PREDICATE_KINDS["repeats"]
    names = [
        kind.name(predicates.text, int(value(predicates, "repeats", row[0])), row)
        for row in np.array([[1], [2], [5], [7]])
    ]
    assert names == [
        "not among the eight tokens before",
        "that repeat the token two before",
        "that repeat the token three before",
        "that repeat the token before",
    ]
    assert len({kind.name(predicates.text, n, np.array([0])) for n in range(9)}) == 9 == kind.size(predicates.text)


def test_surprises_are_of_the_share_of_all_positions(predicates):
    tokens = predicates.text.tokens
    n_ctx = tokens.shape[1]
    for kind, holds in {
        "token": tokens == 2,
        "previous": np.pad(tokens[:, :-1] == 2, ((0, 0), (1, 0))),
        "around": np.stack(
            [(tokens[:, max(0, p - TOKENS_AROUND) : p + TOKENS_AROUND + 1] == 2).any(1) for p in range(n_ctx)], 1
        ),
    }.items():
        number = predicates.offsets[kind] + 2
        assert predicates.surprise[number] == pytest.approx(-np.log(holds.mean()), abs=1e-4), kind
        row = int(np.flatnonzero(holds.reshape(-1))[7])
        assert number in predicates.at(np.array([row])), kind


def test_many_rows_may_be_left_out_one_after_the_other(predicates, monkeypatch):
    """As many as are read at once, or all."""
    tokens = predicates.text.tokens
    monkeypatch.setattr("interp.text.predicates.POSITIONS_AT_ONCE", 2 * tokens.shape[1])
    among = np.arange(tokens.size) < 5 * tokens.shape[1]
    counted = Predicates.count(tokens, len(WORDS), WORDS, among=among)
    of_the_first = (tokens[:5] == 2).mean()
    assert counted.surprise[counted.offsets["token"] + 2] == pytest.approx(-np.log(of_the_first), abs=1e-4)
    assert np.isfinite(Predicates.count(tokens, len(WORDS), WORDS, among=among & False).surprise).all()


def test_predicates_of_a_row_do_not_depend_on_the_other_rows(predicates):
    rows = np.random.default_rng(1).integers(predicates.text.tokens.size, size=200)
    every = predicates.at(rows)
    for place in (0, 57, 199):
        np.testing.assert_array_equal(predicates.at(rows[[place]])[0], every[place])


def test_a_value_is_called_the_same_at_all_rows_unless_its_kind_says_otherwise(predicates):
    numbers = predicates.at(np.arange(predicates.text.tokens.size))
    for number in np.unique(numbers[numbers >= 0]).tolist():
        rows = np.flatnonzero((numbers == number).any(1))
        kind = PREDICATE_KINDS[predicates.kind_of(number)]
        value = number - predicates.offsets[predicates.kind_of(number)]
        names = {kind.name(predicates.text, value, rows[[place]]) for place in (0, -1)}
        assert len(names) == 1 or kind.is_named_by_rows


def test_every_value_of_every_kind_has_its_number_and_its_words(predicates):
    rows = np.arange(predicates.text.tokens.size)
    numbers = predicates.at(rows)
    assert numbers.max() < len(predicates.surprise)
    once = [np.unique(holds[holds >= 0]) for holds in numbers]
    assert [len(own) for own in once] == (numbers >= 0).sum(1).tolist()
    for row in (3, 40, 200):
        for number in numbers[row][numbers[row] >= 0]:
            assert predicates.named(predicates.atom([int(number)]), np.array([row])).words
    atoms = [predicates.atom([int(number)]) for number in numbers[7] if number >= 0]
    said = {atom.kind: predicates.named(atom, np.array([7])).words for atom in atoms}
    assert said["token"] == '" dog"' and said["previous"] == 'after " the"' and said["parentheses"] == "in parentheses"
    assert said["stem"] == 'in words like "dog"'


def test_units_share_what_is_read_once(predicates):
    units = [np.array([7, 3, 9]), np.array([3]), np.array([9, 100])]
    read = predicates.at_each(units)
    assert len(read.holds) == 4
    for unit, rows in enumerate(units):
        own = read.entries[read.offsets[unit] : read.offsets[unit + 1]]
        np.testing.assert_array_equal(read.holds[own], predicates.at(rows))


def test_a_topic_is_called_by_tokens_that_occur():
    """Each half of the text is rich in two of four bases; a vocabulary has tokens that no text has."""
    rng = np.random.default_rng(0)
    vocab = ["<unk>", "A", "C", "G", "T", "N"]
    of_first = rng.random((200, 64)) < np.where(rng.random((200, 1)) < 0.5, 0.8, 0.2)
    tokens = np.where(of_first, rng.integers(1, 3, (200, 64)), rng.integers(3, 5, (200, 64))).astype(np.int32)
    text = Predicates.count(tokens, len(vocab), vocab).text
    names = {quoted_text(PREDICATE_KINDS["topic_10"].name(text, topic, np.array([0]))) for topic in range(10)}
    assert names <= {'"A", "C"', '"C", "A"', '"G", "T"', '"T", "G"'}


def test_numbered_tokens_are_not_spelt():
    tokens = np.random.default_rng(2).integers(20, size=(50, 16)).astype(np.int32)
    predicates = Predicates.count(tokens, 20)
    assert set(predicates.offsets) == {name for name, kind in PREDICATE_KINDS.items() if not kind.needs_strings} - {
        "label"
    }
    number = predicates.offsets["token"] + int(tokens[0, 3])
    assert predicates.named(predicates.atom([number]), np.array([3])).words == f"token {tokens[0, 3]}"


def test_the_last_texts_are_remembered():
    """A text is another one with other tokens or another vocabulary."""
    tokens = [np.random.default_rng(seed).integers(10, size=(30, 16)).astype(np.int32) for seed in (3, 4, 5)]
    first = AnalysedText.read(tokens[0], 10)
    assert AnalysedText.read(tokens[0].copy(), 10) is first is not AnalysedText.read(tokens[0].reshape(16, 30), 10)
    spelt = AnalysedText.read(tokens[0], 11, WORDS)
    assert AnalysedText.read(tokens[0], 11, WORDS) is spelt is not AnalysedText.read(tokens[0], 11, WORDS[::-1])
    for other in tokens[1:]:
        AnalysedText.read(other, 10)
    again = AnalysedText.read(tokens[0], 10)
    assert again is not first and {name: table.tolist() for name, table in again.tables.items()} == {
        name: table.tolist() for name, table in first.tables.items()
    }


def test_token_ids_beyond_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="from 0 to 9, but the vocabulary has 5"):
        AnalysedText.read(np.arange(10, dtype=np.int32)[None], 5)


def test_a_position_has_the_predicates_of_its_labels():
    masks = {f"label {k}": torch.arange(24).reshape(3, 8) % (k + 2) == 0 for k in range(11)}
    labelled = Predicates.count(np.zeros((3, 8), np.int32), 1).with_labels(masks)
    rows = np.array([23, 0, 6, 12, 13])
    held = [[n - labelled.offsets["label"] for n in own if n >= 0] for own in labelled.at(rows, ["label"])]
    assert held == [[k for k in range(11) if row % (k + 2) == 0] for row in rows]


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"label 'odd' is \(2, 3\)"):
        Predicates.count(np.zeros((2, 4), np.int32), 1).with_labels({"odd": torch.zeros(2, 3, dtype=torch.bool)})


def test_a_spelling_of_ones_own_is_a_kind(predicates, monkeypatch):
    kind = spelling_kind(len, lambda n: f"tokens of {n} characters", items=2, compares=False)
    assert kind.items == 2 and kind.needs_strings and not kind.compares
    for name in ("brackets", "token"):
        with pytest.raises(ValueError, match=f"kind of predicate '{name}' is already registered: choose another name"):
            register_kind(name, kind)
    monkeypatch.setitem(PREDICATE_KINDS, "long", None)  # so that it is taken away afterwards
    del PREDICATE_KINDS["long"]
    register_kind("long", kind)
    assert value(predicates, "long", 1) == value(predicates, "long", 2) != value(predicates, "long", 5)
    with pytest.raises(ValueError, match="kind of predicate 'long' is already registered: choose another name"):
        exec("register_kind('long', kind)", {"__file__": "other.py", "register_kind": register_kind, "kind": kind})
    text = predicates.text
    assert kinds_in(text)["long"].size(text) == len({len(word) for word in WORDS})
    assert (
        PREDICATE_KINDS["long"].name(text, int(value(predicates, "long", 1)), np.array([1])) == "tokens of 4 characters"
    )
