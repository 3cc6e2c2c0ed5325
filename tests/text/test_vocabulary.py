"""The strings of tokens, as they are read and said."""

import numpy as np
import pytest

from interp.text.analysed_text import AnalysedText
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.text.vocabulary import is_control, plain_strings, quoted_text


def test_marks_for_spaces_are_read_as_spaces_only_where_they_are_marks():
    assert plain_strings(["Ġthe", "Ċ", "a"]) == [" the", "\n", "a"]
    assert plain_strings(["a"] * 100 + ["Ġ"])[-1] == "Ġ"


def test_token_kind_names_are_printable_and_spelt_as_the_vocabulary():
    strings = ["\x00", "\x07b", "é", "⟨f0⟩⟨9f⟩", " \u200b", "\r", "ok", " \u202eno", "<|endoftext|>", "\ud800"]
    corpus = AnalysedText.read(np.arange(10, dtype=np.int32)[None], 10, strings)
    said = [quoted_text(PREDICATE_KINDS["token"].name(corpus, token, np.array([token]))) for token in range(10)]
    assert all(words.isprintable() and "\ufffd" not in words for words in said)
    assert '"⟨f0⟩⟨9f⟩"' in said[3] and '"é"' in said[2] and '"\\x07b"' in said[1] and '"\\r"' in said[5]


@pytest.mark.parametrize(
    ("string", "control"),
    [
        *((string, True) for string in ("<|endoftext|>", "<s>", "</s>", "[CLS]", "<cls>", "<mask>", "<end_of_turn>")),
        *((string, True) for string in ("<｜begin▁of▁sentence｜>", "<｜end of sentence｜>")),
        *((string, False) for string in ("<b>", "<|", "|>", "[MASKS]", " <s>", "｜", "<turn>")),
    ],
)
def test_tokens_at_the_edge_of_a_text_are_told_by_their_strings(string, control):
    assert is_control(string) == control
