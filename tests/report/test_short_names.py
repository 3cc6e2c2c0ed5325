"""Short names of latents."""

import pytest

from interp.display.segments import CharacterPart, Part, Token, TokenGroup, TokenList, to_text
from interp.report.short_names import short_name

A, B, LONG = Token("au"), Token(" have"), Token("considerable")
NUMBERS = TokenList((TokenGroup("numbers", (Token("1"), Token("2"), Token("3")), 2), TokenGroup("", (A,), 1)))
HEBREW = TokenList((TokenGroup("pieces of Hebrew words", (Token("ס"), Token("מ")), 2),), are_examples=True)
FIRST_BYTE = Token("⟨d7⟩", (CharacterPart("א–ת…", "the first byte of a Hebrew letter"),))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ([A, " or ", B], '"au" or " have"'),
        (["speech"], "speech"),
        ([A, " in ", LONG, ", ", LONG, " or ", B], '"au" in "considerable" +2'),
        ([LONG, " or ", LONG, " soon after ", A, ", mostly in code"], '"considerable" +1'),
        ([A, ", ", "beginning ", LONG, ", mostly in spoken English"], '"au"'),
        ([NUMBERS], 'numbers "1", "2" +1 or "au"'),
        ([NUMBERS, " after ", LONG], 'numbers "1" +3'),
        (["after ", NUMBERS, " in spoken English"], 'after numbers "1" +3'),
        (["after ", HEBREW, ", in hebrew"], "after pieces of Hebrew words"),
        (["most strongly ", LONG, " or ", LONG], 'most strongly "considerable" +1'),
        (["most tokens in Hebrew script without a leading space soon after ", A], 'most tokens in Hebrew … after "au"'),
        (["parts of Han characters, parts of Greek letters"], "parts of Han characters, parts of …"),
        (["tokens in Hebrew script without a leading space", ", ", "in hebrew"], "tokens in Hebrew script without a …"),
        ([FIRST_BYTE, ", in hebrew text"], "the first byte of a Hebrew letter"),
    ],
)
def test_a_short_name_has_the_first_of_each_list_and_the_parts_that_fit(name, short):
    assert to_text(short_name([name])) == short


def test_of_several_senses_a_short_name_has_the_first():
    assert short_name([[A], [B]]) == [Part("sense", [0, [A]]), "; +1 sense"]
    assert short_name([[A, " in code"], [B], [A]]) == [Part("sense", [0, [A, " in code"]]), "; +2 senses"]
