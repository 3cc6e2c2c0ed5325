"""Rules in words."""

from interp.verdict.rules import Atom, phrase


def an_atom(kind, *names):
    return Atom(kind, tuple(range(len(names))), names)


def test_phrase_gives_rules_in_words():
    literal, thou = an_atom("literal", "in a string literal"), an_atom("token", '"thou"', '"thy"')
    said = {
        "tokens after a newline": (an_atom("previous", "a newline"),),
        '"thou" or "thy" after a comma': (thou, an_atom("previous", "a comma")),
        'tokens that end in "ing" in a string literal': (literal, an_atom("last_3", 'tokens that end in "ing"')),
    }
    bytes_twice = an_atom("shape", "bytes of characters", "numbers", "bytes of characters")
    said["bytes of characters or numbers"] = (bytes_twice,)
    indents = (
        "in lines that are not indented",
        "in lines indented by 1 to 4 spaces",
        "in lines indented by 13 to 16 spaces",
    )
    said["tokens in lines that are not indented, in lines indented by 1 to 4 spaces or 13 to 16 spaces"] = (
        an_atom("indent", *indents),
    )
    ends = an_atom("last_2", 'tokens that end in "ed"', 'tokens that end in "er"', '"a"')
    said['tokens that end in "ed", "er" or "a"'] = (ends,)
    said['tokens like "a", "b" or tokens like "c"'] = (an_atom("shape", 'tokens like "a", "b"', 'tokens like "c"'),)
    for words, rule in said.items():
        assert phrase(rule) == words
