"""Rules in words are read into segments: no quote or backslash in a token misleads, and lists are shown in short."""

import pytest

from interp.display.segments import (
    Group,
    Groups,
    Part,
    Token,
    as_text,
    first_tokens,
    listed_tokens,
    read_rule,
    rule_text,
    simplify_rule,
    to_json,
)
from interp.text.vocabulary import quote_token


@pytest.mark.parametrize(
    ("rule", "tokens"),
    [
        ('"(", " {", "="", """" or " a b", then "end" (as in "x")', ["(", " {", '="', '""', " a b", "end", "x"]),
        ('tokens like "":", ""," or "s" after " ""', ['":', '",', "s", ' "']),
        ("a full stop or numbers with a leading space", []),
        ('"\\n       ", "\\nabla" or "   "', ["\n       ", "\\nabla", "   "]),
    ],
)
def test_a_rule_is_read_by_the_strings_of_the_vocabulary(rule, tokens):
    read = read_rule(rule, {quote_token(token): token for token in tokens})
    assert [one.text for one in read if isinstance(one, Token)] == tokens
    words = "".join(quote_token(one.text) if isinstance(one, Token) else one for one in read)
    assert words == rule, "nothing else is changed"


def test_without_a_vocabulary_quotes_end_before_a_space_or_a_mark():
    assert read_rule('"don\'t" or "a b", after "\\n"') == [
        Token("don't"), " or ", Token("a b"), ", after ", Token("\n"),
    ]  # fmt: skip


CAPITALS = ", ".join(f'"{letter}"' for letter in "ABCDE") + ' or "F"'


@pytest.mark.parametrize(
    ("rule", "short"),
    [
        (CAPITALS, 'single capital letters "A", "B", "C" +3'),
        ('"A", "B" or "C"', '"A", "B" or "C"'),
        ('"x" in text rich in "W", "B", "Y"', '"x" in text rich in single capital letters "W", "B", "Y"'),
        ('"α", "β", "γ", "δ" or "ε"', 'Greek letters "α", "β", "γ" +2'),
        ('"a1", "b1", "c1", "d1" or "e1"', '"a1", "b1", "c1", "d1" or "e1"'),
        (
            'tokens like "ة", "،", "ها", "ت" or "ية"',
            'Arabic letters and pieces of words "ة", "ها", "ت", "ية" or tokens like "،"',
        ),
        ('"a1", "b1", "c1", "d1", "e1" or "!"', '"a1", "b1", "c1", "d1" +2'),
        ('tokens like "1", "2", "3", tokens like "d1" or "e1"', 'numbers "1", "2", "3" or tokens like "d1", "e1"'),
        ('tokens like "a1", "b1", "c1", tokens like "d1", "e1" or "f1"', 'tokens like "a1", "b1", "c1", "d1" +2'),
        (
            "numbers without a leading space, dashes with a leading space or quotes with a leading space in a URL",
            "numbers without a leading space, dashes or quotes with a leading space in a URL",
        ),
        (
            "bytes of characters or tokens in Hebrew script",
            "parts of characters of any script or tokens in Hebrew script",
        ),
        ('"\\n   ", " ", "\\n", "\\n       " or "\\n\\n "', "1 space; ↵, or ↵ then 3 or 7 spaces; ↵↵ then 1 space"),
        ('"\\n   ", "\\n       " or "\\n  "', "↵ then 2, 3 or 7 spaces"),
        ("a newline at token 1 of a sentence", "a newline after the end of a sentence or line"),
        ("a newline at token 1 of a line", "the newline of an empty line"),
        ("a newline at token 1 or 2 of a line", "a newline at token 1 or 2 of a line"),
        ('"x" at token 9 or later, 7 or 8 of a line', '"x" at token 7 or later of a line'),
    ],
)  # fmt: skip
def test_lists_are_shown_in_short(rule, short):
    assert rule_text(rule) == short


def test_parts_of_characters_of_several_scripts_are_one_family():
    def family(token: str) -> str:
        return f"parts of {'Hebrew' if 'd7' in token else 'Cyrillic'} letters"

    rule = simplify_rule(read_rule('tokens like "⟨d7⟩", "⟨d0⟩", "⟨d1⟩"'), family)
    tokens = (Token("⟨d7⟩"), Token("⟨d0⟩"), Token("⟨d1⟩"))
    assert rule == [Groups((Group("parts of Hebrew letters and Cyrillic letters", tokens, 3),), are_examples=True)]
    many = simplify_rule(read_rule('tokens like "⟨d7⟩", "⟨d0⟩", "⟨d1⟩", "⟨ce⟩"'), lambda token: f"parts of {token}")
    assert isinstance(many[0], Groups) and many[0].groups[0].name == "parts of characters of several scripts"


def test_only_a_list_lists_tokens():
    assert [one.text for one in listed_tokens(simplify_rule(read_rule(CAPITALS)))] == list("ABCDEF")
    assert listed_tokens(read_rule('"a" after "b"')) == []


@pytest.mark.parametrize(
    ("rule", "tokens"),
    [
        ('" my" or " his" in verse', [" my", " his"]),
        ('"a", "b" or "c"', ["a", "b", "c"]),
        ('"a" or numbers', []),
        ('"a", "b", or numbers after "c"', []),
        ('tokens after "a"', []),
    ],
)
def test_the_first_tokens_of_a_rule_are_those_on_which_it_holds(rule, tokens):
    assert [token.text for token in first_tokens(read_rule(rule))] == tokens


def test_segments_are_written_as_json():
    part = Token("א⟨d7⟩", ("א", ("א–ת…", "the first byte of a Hebrew letter")))  # type: ignore[arg-type]
    spoken = part._replace(is_in_words=True)
    assert to_json(["a ", Token("b"), Part("muted", ["c"]), Part("sense", [1, [Token("d")]]), part, spoken]) == [
        "a ",
        ["b"],
        {"muted": ["c"]},
        {"sense": [1, [["d"]]]},
        ["א⟨d7⟩", ["א", ["א–ת…"]]],
        ["א⟨d7⟩", ["א", ["א–ת…", "the first byte of a Hebrew letter"]], 1],
    ]
    assert as_text(simplify_rule(read_rule(CAPITALS))) == (
        '[{"groups":[["single capital letters",[["A"],["B"],["C"],["D"],["E"],["F"]],3]]}]'
    )
