"""Rules are shown in short: lists of similar tokens in groups, what several names share said once."""

import pytest

from interp.display.segments import (
    LIKE,
    Family,
    Part,
    Token,
    TokenGroup,
    TokenList,
    family_of_parts,
    listed_tokens,
    to_json,
    to_json_text,
    to_text,
)
from interp.text.rules import first_tokens, plain_atom, tokens_like
from interp.text.short_rules import clauses_of, segments_of
from tests.planted_rules import a_rule, an_atom, like, short, tokens

CAPITALS = a_rule(token="ABCDEF")
BLANK = ["\n   ", " ", "\n", "\n       ", "\n\n "]


def starts(*names: str) -> list[tuple[str, str]]:
    return [(name, " with a leading space") for name in names]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (CAPITALS, 'single capital letters "A", "B", "C" +3'),
        (a_rule(token="ABC"), '"A", "B" or "C"'),
        (
            a_rule(token=["x"], topic_10=[tokens("W", "B", "Y")]),
            '"x" in text with single capital letters',
        ),
        (a_rule(token=["x"], topic_10=[tokens(" the", " in", "ond")]), '"x" in English prose'),
        (
            a_rule(token=["x"], topic_10=[tokens(" the", " in"), tokens("1", "2", "3")]),
            '"x" in text with English words or numbers',
        ),
        (a_rule(token=["\n       "]), "a newline and 7 spaces"),
        (a_rule(token=['"""', "x"]), 'three double quotes or "x"'),
        (a_rule(token="гхЗКР"), 'Cyrillic letters "г", "х", "З" +2'),
        (a_rule(token=["x1", *"ABC", "y1"]), '"x1", "y1" or single capital letters "A", "B", "C"'),
        (a_rule(token="αβγδε"), 'Greek letters "α", "β", "γ" +2'),
        (a_rule(token=["a1", "b1", "c1", "d1", "e1"]), '"a1", "b1", "c1", "d1" or "e1"'),
        (
            a_rule(about_40=[like("ة", "،", "ها", "ت", "ية")]),
            'pieces of Arabic words "ة", "ها", "ت", "ية" or tokens like "،"',
        ),
        (a_rule(token=["a1", "b1", "c1", "d1", "e1", "!"]), '"a1", "b1", "c1", "d1" +2'),
        (a_rule(about_40=[like("1", "2", "3"), like("d1", "e1")]), 'numbers "1", "2", "3" or tokens like "d1", "e1"'),
        (a_rule(about_40=[like("a1", "b1", "c1"), like("d1", "e1", "f1")]), 'tokens like "a1", "b1", "c1", "d1" +2'),
        (
            a_rule(about_40=[like("a1", "\n"), like("d1", "e1")]),
            'tokens like "a1", a newline, "d1", "e1"',
        ),
        (a_rule(about_40=[like("\n")], url=["in a URL"]), "a newline in a URL"),
        (a_rule(about_40=[(LIKE, "token 3", ", ", "token 7")]), "tokens like token 3, token 7"),
        (
            a_rule(token=["x"], previous_role_40=[like("a1", "b1"), like(" "), (Token("\n"), " or ", Token("-"))]),
            '"x" after a space, a newline, "-" +2',
        ),
        (
            a_rule(token=["x"], next_role_40=[like("!"), like("קו", "ב", "לי")]),
            '"x" before "!" or pieces of Hebrew words',
        ),
        (
            a_rule(shape=["tokens in capitals in Latin script", "tokens in Hebrew script"]),
            "tokens in capitals or tokens in Hebrew script",
        ),
        (
            a_rule(start=[("numbers", " without a leading space"), *starts("dashes", "quotes")], url=["in a URL"]),
            "numbers without a leading space, dashes or quotes with a leading space in a URL",
        ),
        (
            a_rule(script=["bytes of characters", "tokens in Hebrew script"]),
            "parts of characters of any script or tokens in Hebrew script",
        ),
        (a_rule(token=BLANK), "a space, or a newline, or a newline and 3 or 7 spaces, or a blank line and a space"),
        (a_rule(token=["\n   ", "\n       ", "\n  "]), "a newline and 2, 3 or 7 spaces"),
        (a_rule(previous=["\n   ", "\n       "]), "tokens after a newline and 3 or 7 spaces"),
        (a_rule(token=["\n"], sentence_place=["1"]), "a newline after the end of a sentence or line"),
        (a_rule(token=["\n"], line_place=["1"], url=["in a URL"]), "the newline of an empty line in a URL"),
        (a_rule(token=["\n"], line_place=["1", "2"]), "a newline at token 1 or 2 of a line"),
        (a_rule(token=["x"], line_place="123456789"), '"x" at token 1 or later of a line'),
        (an_atom("previous", "x"), 'after "x"'),
        (a_rule(previous=["x"]), 'tokens after "x"'),
        (a_rule(token=['"', '""', " a b", "\0"]), 'a double quote, """", " a b" or "\\x00"'),
        ((plain_atom('what "a" means'),), 'what "a" means'),
    ],
)
def test_lists_are_shown_in_short(rule, words):
    assert to_text(segments_of(clauses_of(rule))) == words


def test_parts_of_characters_of_several_scripts_are_one_family():
    def family(token: str) -> Family:
        return family_of_parts(f"{'Hebrew' if 'd7' in token else 'Cyrillic'} letters")

    rule = segments_of(clauses_of(a_rule(about_40=[like("⟨d7⟩", "⟨d0⟩", "⟨d1⟩")]), family))
    parts = (Token("⟨d7⟩"), Token("⟨d0⟩"), Token("⟨d1⟩"))
    group = TokenGroup("parts of Hebrew letters and Cyrillic letters", parts, 3, ("Hebrew letters", "Cyrillic letters"))
    assert rule == [TokenList((group,), are_examples=True)]
    many = segments_of(clauses_of(a_rule(about_40=[like("⟨d7⟩", "⟨d0⟩", "⟨d1⟩", "⟨ce⟩")]), family_of_parts))
    assert isinstance(many[0], TokenList) and many[0].groups[0].name == "parts of characters"


@pytest.mark.parametrize(
    ("rule", "head"),
    [
        (a_rule(token=[" after", "b"], previous=["x"]), '" after"'),
        (a_rule(about_40=[like("ab", "bc", "cd")]), 'tokens like "ab"'),
        (a_rule(token=[*"ABCDEF"]), 'single capital letters "A"'),
        (a_rule(shape=["numbers", "dashes"], brackets=["outside brackets"]), "numbers"),
        (a_rule(last_2=[("tokens that end in ", Token("er"))]), 'tokens that end in "er"'),
        (a_rule(previous=["x"]), "tokens"),
        (a_rule(token=["\n"], line_place=["1"]), "a newline"),
    ],
)
def test_the_head_of_a_rule_is_what_it_says_first(rule, head):
    assert clauses_of(rule)[0].head == head


def test_only_a_list_lists_tokens():
    assert [one.text for one in listed_tokens(segments_of(clauses_of(CAPITALS)))] == list("ABCDEF")
    assert listed_tokens(segments_of(short(token=["a"], previous=["b"]))) == []


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        (a_rule(token=[" my", " his"], label=["verse"]), [" my", " his"]),
        (a_rule(token="abc"), ["a", "b", "c"]),
        (a_rule(about_40=[(Token("a"), " or ", Token("\n")), (Token("c"),)]), ["a", "\n", "c"]),
        (a_rule(shape=[(Token("a"),), "numbers"]), []),
        (a_rule(shape=[(Token("a"),), "numbers"], previous=["c"]), []),
        (a_rule(previous=["a"]), []),
        (an_atom("token", "a"), ["a"]),
        (an_atom("previous", "a"), []),
    ],
)
def test_the_first_tokens_of_a_rule_are_those_on_which_it_holds(rule, first):
    assert first_tokens(rule) == first and tokens_like(rule) == []


def test_a_rule_may_be_like_tokens():
    rule = a_rule(about_40=[like("a", "b"), like("c")], previous=["x"])
    assert tokens_like(rule) == ["a", "b", "c"] and first_tokens(rule) == []


def test_segments_are_written_as_json():
    part = Token("א⟨d7⟩", ("א", ("א–ת…", "the first byte of a Hebrew letter")))  # type: ignore[arg-type]
    assert to_json(["a ", Token("b"), Part("muted", ["c"]), Part("sense", [1, [Token("d")]]), part]) == [
        "a ",
        ["b"],
        {"muted": ["c"]},
        {"sense": [1, [["d"]]]},
        ["א⟨d7⟩", ["א", ["א–ת…", "the first byte of a Hebrew letter"]]],
    ]
    assert to_json_text(segments_of(clauses_of(CAPITALS))) == (
        '[{"groups":[["single capital letters",[["A"],["B"],["C"],["D"],["E"],["F"]],3]]}]'
    )
