"""Where in its line, sentence, brackets and word a token stands, against what a reader would say."""

import numpy as np

from interp.monosemanticity.contexts import SIZES, WIDTH, position_vectors, read_positions

PIECES = ["def", " f", "(", "a", ",", "[", '"', "b", '"', "]", ")", ":\n", "    ", "return", " it", ". ", "So", "\n\n"]
PIECES += ["x", "y"]


def told(pieces, spelt=True):
    vocab = list(dict.fromkeys(pieces))
    tokens = np.array([[vocab.index(piece) for piece in pieces]], np.int32)
    found = read_positions(tokens, vocab if spelt else None, range(len(vocab)))
    return found, [dict(zip(SIZES, row.tolist(), strict=True)) for row in found]


def test_each_token_knows_its_place():
    _, at = told(PIECES)
    place = {piece: at[PIECES.index(piece)] for piece in PIECES}
    assert [place[p]["line"] for p in ("def", " f", "(", "a")] == [0, 1, 2, 3]
    assert [place[p]["depth"] for p in ("(", "a", "b", ":\n")] == [0, 1, 2, 0]
    assert (place["a"]["bracket"], place["b"]["bracket"], place["return"]["bracket"]) == (1, 2, 0)
    assert (place["b"]["quotes"], place["a"]["quotes"], place[")"]["quotes"]) == (1, 0, 0)
    assert (place["return"]["line"], place["return"]["indent"], place["x"]["indent"]) == (0, 1, 0)
    assert (place["So"]["sentence"], place["So"]["line"], place["x"]["sentence"]) == (0, 3, 0)
    assert place["y"]["word"] > place["x"]["word"] or place["x"]["word"] == 3
    assert [row["sequence"] for row in at[:5]] == [0, 1, 2, 2, 3]


def test_a_vector_has_a_one_for_each_trait():
    found, at = told(PIECES)
    vectors = position_vectors(found)
    assert vectors.shape == (len(PIECES), WIDTH) and (vectors.sum(1) == len(SIZES)).all()
    begins = np.cumsum([0, *SIZES.values()])[:-1]
    for row, traits in zip(vectors, at, strict=True):
        assert (np.flatnonzero(row) == begins + np.array(list(traits.values()))).all()


def test_without_strings_only_the_place_in_the_sequence_is_known():
    _, at = told(PIECES, spelt=False)
    assert all(value == 0 for row in at for name, value in row.items() if name != "sequence")
    assert at[9]["sequence"] == 4


def test_every_value_stays_within_its_size():
    rng = np.random.default_rng(0)
    _, at = told([PIECES[i] for i in rng.integers(len(PIECES), size=400)])
    assert all(row[name] < size for row in at for name, size in SIZES.items())
