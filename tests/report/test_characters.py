"""Parts of characters are named by the characters that the tokens scanned make of them."""

import numpy as np

from interp.report.characters import characters_of_parts


def test_a_part_is_named_by_the_characters_it_makes_with_its_neighbours():
    vocab = ["⟨e4⟩⟨b8⟩", "⟨a9⟩", "⟨ba⟩", "⟨d7⟩", " ⟨d7⟩", "⟨90⟩", "⟨91⟩", "⟨92⟩", "⟨93⟩", "⟨94⟩", "a"]
    begun, a9, ba, d7, spaced = range(5)
    letters = range(5, 10)
    tokens = [
        [begun, a9, begun, a9, 10, d7, a9],  # 丩丩aש
        [begun, ba, 10, begun, 10, 10, begun],  # 为, then two that are not ended: one by a, one by the end of a row
        [a9, d7, 5, 10, 10, 10, 10],  # what a row begins with belongs to none
    ]
    tokens += [[spaced, letter, 10, 10, 10, 10, 10] for letter in letters]
    parts = characters_of_parts(vocab, np.array(tokens))
    assert parts["⟨e4⟩⟨b8⟩"] == ([], ["丩 为"])
    assert parts["⟨a9⟩"] == (["丩", "ש"], []), "the commonest script first"
    assert parts["⟨d7⟩"] == ([], ["א ש"])
    assert parts["⟨90⟩"] == (["א"], [])
    assert " ⟨d7⟩" not in parts, "five letters alike begin so: the page names them by their range"
    assert "a" not in parts
    some = np.repeat(np.array([[spaced, 5]]), 9, 0)
    alike = np.concatenate([some, [[spaced, letter] for letter in letters]])
    assert characters_of_parts(vocab, alike)[" ⟨d7⟩"] == ([], ["א ב …"]), "unless most of them are a few"


def test_a_character_in_three_tokens_is_named_by_each():
    vocab = ["⟨f0⟩⟨9f⟩", "⟨98⟩", "⟨80⟩!", "⟨80⟩⟨e4⟩", "⟨b8⟩⟨ad⟩"]
    parts = characters_of_parts(vocab, np.array([[0, 1, 2], [0, 1, 3], [3, 4, 4]]))
    assert parts["⟨f0⟩⟨9f⟩"] == ([], ["😀"]) and parts["⟨98⟩"] == (["😀"], []) and parts["⟨80⟩!"] == (["😀"], [])
    assert parts["⟨80⟩⟨e4⟩"] == (["😀"], ["中"]), "it ends one and begins another"
