"""What the string of a token says, in words."""

import numpy as np
import pytest

from interp.text.analysed_text import AnalysedText
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.text.spellings import shape
from interp.text.vocabulary import quoted_text


def called(kind, string, others=("plain", "words", "of", "Latin", "letters")):
    """Return what a token's class is called where it has as many more tokens as make it no list."""
    vocab = [string, *(string + " " * n for n in range(1, 4)), *others]
    corpus = AnalysedText.read(np.arange(len(vocab), dtype=np.int32)[None], len(vocab), vocab)
    name = PREDICATE_KINDS[kind].name(corpus, int(PREDICATE_KINDS[kind].classes(corpus)[0]), np.array([0]))
    return name if isinstance(name, str) else quoted_text(name)


@pytest.mark.parametrize(
    ("kind", "string", "name"),
    [
        ("script", "⟨d7⟩", "parts of Hebrew letters"),
        ("script", "⟨a8⟩⟨d7⟩", "parts of Hebrew letters"),
        ("script", "⟨e3⟩⟨81⟩", "parts of kana letters or signs"),
        ("script", "⟨a8⟩", "bytes of characters"),
        ("script", "αβ", "tokens in Greek script"),
        ("script", "日本", "Han characters"),
        *(("script", letter, "tokens in Latin script") for letter in "ªℝＡ𝒜ʰ"),
        ("script", "µ", "tokens in Greek script"),
        ("script", "ﹰ", "tokens in Arabic script"),
        ("script", "ʹ", "modifying letters"),
        ("script", "42", "numbers"),
        ("script", "([", "opening brackets"),
        ("script", "\u0e31", "combining marks"),
        ("script", "½", "fractions and numerals"),
        ("shape", "THE", "tokens in capitals in Latin script"),
        ("shape", "שלום", "tokens in Hebrew script"),
        ("shape", "'s", "lower-case tokens that begin with punctuation marks"),
        ("shape", "3D", "tokens in capitals that begin with numbers"),
        ("shape", "⟨d7⟩", "parts of Hebrew letters"),
        ("start", " The", "capitalised tokens in Latin script with a leading space"),
        ("start", "⟨d7⟩", "parts of Hebrew letters without a leading space"),
        ("start", "\n", "white space"),
        ("first_3", "walking", 'tokens that begin with "wal"'),
        ("last_2", "walking", 'tokens that end in "ng"'),
        ("last_3", "ng", '"ng" in any case'),
        ("last_3", "⟨d7⟩", '"⟨d7⟩" in any case'),
        ("last_2", "a⟨d7⟩⟨90⟩", 'tokens that end in "⟨d7⟩⟨90⟩"'),
        ("first_2", "⟨d7⟩⟨90⟩⟨d7⟩", 'tokens that begin with "⟨d7⟩⟨90⟩"'),
        ("first_3", "⟨d7⟩", '"⟨d7⟩" in any case'),
        ("letters", "Dog", '"dog" in any case'),
        ("letters", "\n", "white space"),
        ("length", "a", "tokens in Latin script of 1 character"),
        ("length", "⟨e6⟩⟨9c⟩", "parts of Han characters"),
        ("length", "\n\n", "white space"),
    ],
)
def test_classes_of_tokens_are_called_by_how_they_are_spelt(kind, string, name):
    assert called(kind, string) == name


def test_bytes_have_no_case():
    """Some have letters among their hexadecimal digits."""
    assert shape("⟨d7⟩") == ("byte of Hebrew letter", "other") and shape("⟨90⟩") == ("byte", "other")
