"""Rules in words, and their JSON."""

import json

import pytest

from interp.display.segments import Token
from interp.text.rules import in_order, phrase, plain_atom, read_atoms, read_predicates, read_rule, rule_json
from tests.planted_rules import a_rule, an_atom, like, tokens

ENDS = [("tokens that end in ", Token("ed")), ("tokens that end in ", Token("er")), (Token("a"),)]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("tokens after a newline", a_rule(previous=["\n"])),
        ('"thou" or "thy" after a comma', a_rule(previous=[","], token=["thou", "thy"])),
        (
            'tokens that end in "ing" in a string literal',
            a_rule(literal=["in a string literal"], last_3=[("tokens that end in ", Token("ing"))]),
        ),
        ("bytes of characters or numbers", a_rule(shape=["bytes of characters", "numbers", "bytes of characters"])),
        (
            "tokens in lines that are not indented, in lines indented by 1 to 4 spaces or 13 to 16 spaces",
            a_rule(
                indent=[
                    "in lines that are not indented",
                    "in lines indented by 1 to 4 spaces",
                    "in lines indented by 13 to 16 spaces",
                ]
            ),
        ),
        ('tokens that end in "ed", "er" or "a"', a_rule(last_2=ENDS)),
        ('tokens like "a", "b" or tokens like "c"', a_rule(shape=[like("a", "b"), like("c")])),
        (
            "numbers in Latin script with a leading space or without a leading space",
            a_rule(start=[("numbers in Latin script", f" {word} a leading space") for word in ("with", "without")]),
        ),
        ('"\\x00" in text rich in "\\"", "\\x07b"', a_rule(token=["\0"], topic_10=[tokens('\\"', "\x07b")])),
    ],
)
def test_a_rule_is_said_in_words_and_read_from_its_json(words, rule):
    assert phrase(rule) == words
    assert read_rule(words, rule_json(rule)) == in_order(rule), "whatever quotes its tokens have"


def test_a_predicate_by_itself_has_words_of_its_own():
    atoms = [an_atom("previous", "\n"), an_atom("in_a", "x")._replace(kind="token")]
    written = rule_json((atoms[0],))
    assert atoms[0].words == "after a newline" and read_predicates(["after a newline"], written) == atoms[:1]
    assert read_predicates(["before dawn"], written) == [plain_atom("before dawn")]


def test_words_that_are_not_those_of_the_rule_stay_words():
    written = rule_json(a_rule(token=["a"], previous=["b"]))
    for words, json_ in (('what "a" means', written), ('"a" after "b"', ""), ('"a" after "b"', None)):
        (atom,) = read_rule(words, json_)
        assert (atom.words, atom.subject, atom.tokens) == (words, "", [])
    assert read_rule("", written) == read_rule(None, None) == read_rule(float("nan"), float("nan")) == ()
    unknown = written.replace('"previous"', '"unknown"')
    assert read_rule('"a" after "b"', unknown) == (plain_atom('"a" after "b"'),), "a kind that is not registered here"


@pytest.mark.parametrize("broken", ['[["token", [1], ["an old name"]]]', "[", "{}x", '[["token"]]', "[7]", '["token"]'])
def test_a_rule_of_another_form_is_refused_with_what_to_do(broken):
    with pytest.raises(ValueError, match="rank the features again"):
        read_atoms(broken)
    assert json.loads(rule_json(a_rule(token=["\n"]))) == [["token", [0], [[["\n"]]]]]
