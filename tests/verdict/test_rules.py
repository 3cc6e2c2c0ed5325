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
    for words, rule in said.items():
        assert phrase(rule) == words
