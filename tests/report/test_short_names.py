"""Short names of latents."""

import pytest

from interp.display.segments import CharacterPart, Part, Token, TokenGroup, TokenList, to_text
from interp.report.short_names import short_name, words_of

A, B, LONG = Token("au"), Token(" have"), Token("considerable")
RULE = [A, " or ", B]
NUMBERS = TokenList((TokenGroup("numbers", (Token("1"), Token("2"), Token("3")), 2), TokenGroup("", (A,), 1)))
HEBREW = TokenList((TokenGroup("pieces of Hebrew words", (Token("ס"), Token("מ")), 2),), are_examples=True)
FIRST_BYTE = Token("⟨d7⟩", (CharacterPart("א–ת…", "the first byte of a Hebrew letter"),))
SHARE = Part("small", [" 60 %"])


def senses(*rules, no_sense=0.2):
    return [Part("senses", [(rule, 0.3, None) for rule in rules]), Part("no_sense", no_sense)]


@pytest.mark.parametrize(
    ("caption", "short"),
    [
        ([Part("rule", 0)], '"au" or " have"'),
        ([Part("label", ("speech", True)), Part("f1", (0.8, "label "))], "speech"),
        ([Part("rule", [A]), SHARE, ", ", Part("rule", [B]), SHARE, " in code"], '"au", " have" in code'),
        (
            [Part("rule", [A]), ", ", "in ", Part("rule", [LONG, ", ", LONG, " or ", B]), SHARE],
            '"au", in "considerable" +2',
        ),
        ([LONG, " or ", LONG, " soon after ", A, ", mostly in code"], '"considerable" +1'),
        ([A, ", ", "beginning ", LONG, ", mostly in spoken English"], '"au"'),
        ([A, Part("apart", [", before ", Part("rule", [B])])], '"au"'),
        (["speech", Part("apart", [", ", Part("muted", ["most strongly "]), Part("rule", [LONG])])], "speech"),
        ([NUMBERS], 'numbers "1", "2" +1 or "au"'),
        ([NUMBERS, " after ", LONG], 'numbers "1" +3'),
        (["after ", NUMBERS, " in spoken English"], 'after numbers "1" +3'),
        (["after ", HEBREW, ", in hebrew"], "after pieces of Hebrew words"),
        ([Part("muted", ["most strongly "]), LONG, " or ", LONG], '"considerable" +1'),
        (["most tokens in Hebrew script without a leading space soon after ", A], 'most tokens in Hebrew … after "au"'),
        (["parts of Han characters, parts of Greek letters"], "parts of Han characters, parts of …"),
        (["tokens in Hebrew script without a leading space", ", ", "in hebrew"], "tokens in Hebrew script without a …"),
        ([FIRST_BYTE, ", in hebrew text"], "the first byte of a Hebrew letter"),
    ],
)
def test_a_short_name_has_the_first_of_each_list_and_the_parts_that_fit(caption, short):
    assert to_text(short_name(caption, RULE)) == short


def test_of_several_senses_a_short_name_has_the_first_that_has_a_rule():
    assert short_name(senses([A], [B]), RULE) == [Part("sense", [0, [A]]), "; +1 sense"]
    assert short_name(senses([], [B, " in code"], [A]), RULE) == [Part("sense", [1, [B, " in code"]]), "; +2 senses"]
    assert short_name(senses([]), RULE) == [Part("sense", [0, ["no rule"]])]
    assert short_name(senses([A], [B], no_sense=0.5), RULE) == ["no clear senses"]


def test_a_caption_is_written_with_all_that_it_says():
    caption = [*senses([A, " in code"], []), Part("more_senses", [([], 0.1, None)])]
    assert to_text(words_of(caption, RULE)) == '"au" in code; no rule, of no sense 20 % and 1 more'
    caption = [Part("muted", ["most strongly "]), Part("rule", 0), SHARE]
    assert to_text(words_of(caption, RULE)) == 'most strongly "au" or " have" 60 %'
