"""What rules read of the text, against naive readers and marked examples; and rules in words."""

import re

import numpy as np
import pytest
import torch

from interp.text.kinds import KINDS
from interp.text.lexer import TokenCharacters, read_states
from interp.text.predicates import Predicates
from interp.text.read_text import ReadText
from interp.text.vocabulary import plain_strings
from interp.verdict.rules import Atom, phrase

CHARACTERS = sorted(set("abcxyzEnter the.\n\n\t \"'()[]{}#/:<>$*_\\,=123!?“”«»|é") | {"<|bos|>"})
PLACES = {
    "at the start of a line": lambda s: s.line_start,
    "in the first 4 tokens of a line": lambda s: s.line_known & (s.line_tokens < 4),
    "at the start of a paragraph": lambda s: s.line_start & s.paragraph,
    "on an indented line": lambda s: s.line_known & (s.indent >= 2),
    "at the start of a sentence": lambda s: s.sentence_start,
    "inside a word": lambda s: s.in_word,
    "at the start of a word": lambda s: s.word_start,
    "in parentheses": lambda s: s.parens,
    "in square brackets": lambda s: s.squares,
    "in braces": lambda s: s.braces,
    "one bracket deep": lambda s: s.brackets == 1,
    "two brackets deep": lambda s: s.brackets == 2,
    "two or more brackets deep": lambda s: s.brackets > 1,
    "three or more brackets deep": lambda s: s.brackets > 2,
    "in double quotes": lambda s: s.double | s.other,
    "in single quotes": lambda s: s.in_single,
    "in a triple-quoted string": lambda s: s.triple,
    "in a string literal": lambda s: s.literal | s.triple,
    "one quote deep": lambda s: s.quotes == 1,
    "two or more quotes deep": lambda s: s.quotes > 1,
    "three or more quotes deep": lambda s: s.quotes > 2,
    "in a comment": lambda s: s.comment,
    "in a <tag>": lambda s: s.tag,
    "between $ signs": lambda s: s.math,
    "in a URL": lambda s: s.url,
    "between ** marks": lambda s: s.bold,
    "that repeat the token before": lambda s: s.repeats == 1,
    "that occur among the 8 tokens before": lambda s: s.repeats,
}


def states(tokens, spelt):
    """[place, seq, pos]"""
    state = read_states(tokens, spelt)
    return np.stack([np.asarray(place(state)) != 0 for place in PLACES.values()])


def holds(text, words):
    """At which characters of the text, each a token of its own, a place holds."""
    tokens = re.findall(r"<\|bos\|>|.", text, re.DOTALL)
    vocab = list(dict.fromkeys(tokens))
    found = states(np.array([[vocab.index(token) for token in tokens]]), TokenCharacters.of(vocab))
    return found[list(PLACES).index(words), 0].tolist(), tokens


@pytest.mark.parametrize(
    ("words", "marked"),
    [
        ("at the start of a line", "ab\n⟦c⟧d\n⟦  e⟧f\n⟦\n⟧⟦g⟧"),
        ("at the start of a line", "ab<|bos|>⟦c⟧d"),
        ("in the first 4 tokens of a line", "abcdef\n⟦ghij⟧k\n⟦l⟧"),
        ("at the start of a paragraph", "a\nb\n\n⟦c⟧d\ne<|bos|>⟦f⟧g"),
        ("on an indented line", "a\n  ⟦bc d\n⟧e f"),
        ("at the start of a sentence", "ab c.⟦ D⟧e f!⟦ H⟧i 3.5 x\n\n⟦j⟧k"),
        ("inside a word", "a⟦bc⟧ d⟦e⟧, f1⟦g⟧"),
        ("at the start of a word", "⟦a⟧bc ⟦d⟧e, ⟦f⟧g"),
        ("in parentheses", "f(⟦a, [b])⟧ c"),
        ("in parentheses", "a) b (⟦c\n\n⟧d)"),
        ("in parentheses", "x(⟦a, ')', b)⟧ c"),
        ("in square brackets", "f(a, [⟦b]⟧) c"),
        ("in braces", "f{⟦a, {b}}⟧ c"),
        ("one bracket deep", "f(⟦a, [⟧b]⟦)⟧ c"),
        ("two brackets deep", "f(a, [⟦b{⟧c}⟦]⟧) c"),
        ("two or more brackets deep", "f(a, [⟦b]⟧) c"),
        ("two or more brackets deep", "((⟦(a))⟧)"),
        ("three or more brackets deep", "f(a, [{⟦b}⟧]) c(((⟦a)⟧"),
        ("in double quotes", 'he said "⟦I don\'t"⟧ and “⟦no”⟧ a'),
        ("in double quotes", 'a "⟦b\n\n⟧c'),
        ("in double quotes", 'x = "⟦a \\" b"⟧ c'),
        ("in double quotes", 'x = "⟦a\n⟧c'),
        ("in double quotes", '\'a "⟦b \n c"⟧ d'),
        ("one quote deep", "\"⟦a '⟧b'⟦ c\"⟧ “⟦d “⟧e”⟦”⟧"),
        ("one quote deep", "x = \"⟦it's 'a'\"⟧ + '⟦say \"b\"'⟧"),
        ("two or more quotes deep", "he \"said '⟦don't go'⟧\" and 'a \"⟦b\"⟧ c"),
        ("two or more quotes deep", "\"a '⟦tis b\"⟧ 'c'"),
        ("two or more quotes deep", "“a ‘⟦don’t b’⟧ c” ‘d’"),
        ("one quote deep", "„⟦a“⟧ b „⟦c ‚⟧d‘⟦ e“⟧ f «⟦g»⟧ „⟦h”⟧ “⟦i”⟧"),
        ("one quote deep", "see '⟦f(\"⟧x\"⟦)'⟧ and “⟦y”⟧"),
        ("three or more quotes deep", "“a ‘b “⟦c”⟧ d’”"),
        ("in single quotes", "he said '⟦I do⟧"),
        ("in single quotes", "don't '⟦it'⟧ '⟦a\n⟧b"),
        ("in single quotes", "x '⟦don't ⟧"),
        ("in single quotes", "he ‘⟦it’s’⟧ \"the boys' a '⟦b'⟧\""),
        ("in a triple-quoted string", 'a """⟦b "c" \n\n d"""⟧ e'),
        ("in a triple-quoted string", "a '''⟦b \"\"\" c'''⟧ e"),
        ("in a string literal", 'x = \'⟦a b\'⟧ + "⟦c"⟧, "d"'),
        ("in a string literal", "f(a, '⟦b'⟧, '⟦c'⟧) said, 'd'"),
        ("in a string literal", 'x = "⟦"⟧"⟦a\nb"""⟧ c'),
        ("in a comment", "a = 1  #⟦ b (c\n⟧d"),
        ("in a comment", "a //⟦ b\n⟧c http://x.y c"),
        ("in a comment", "a = 'x # y' b#c"),
        ("in a <tag>", "a <b⟦ x>⟧c</⟦b>⟧ 1 < 2 > 3"),
        ("between $ signs", "a $⟦x$⟧ b $⟦$y$⟧$ c"),
        ("in a URL", "a http://⟦x.y/z⟧⟦ ⟧b"),
        ("between ** marks", "a **⟦B**⟧ c **⟦d\n⟧e"),
        ("that repeat the token before", "ab⟦b⟧ab"),
        ("that occur among the 8 tokens before", "abc⟦a⟧defghijk⟦d⟧"),
    ],
)
def test_places_hold_where_marked(words, marked):
    """A token is inside what was opened before it and not closed before it; here every character is a token."""
    plain = marked.replace("⟦", "").replace("⟧", "")
    got, tokens = holds(plain, words)
    inside, wanted = False, []
    for piece in re.findall(r"<\|bos\|>|.", marked, re.DOTALL):
        if piece in "⟦⟧":
            inside = piece == "⟦"
        else:
            wanted.append(inside)
    assert "".join(t if g else "·" for t, g in zip(tokens, got, strict=True)) == "".join(
        t if w else "·" for t, w in zip(tokens, wanted, strict=True)
    )


def test_places_do_not_look_over_the_sequences_edge_and_read_tokens_as_their_characters():
    rng = np.random.default_rng(0)
    vocab = CHARACTERS + ["def f(", '("', "):\n    ", " # ", "'''", ". The", "ing", "<|eos|>"]
    tokens = rng.integers(0, len(vocab), (20, 40))
    spelt = TokenCharacters.of(vocab)
    together = states(tokens, spelt)
    for sequence in range(20):
        assert (states(tokens[sequence : sequence + 1], spelt)[:, 0] == together[:, sequence]).all()
        assert (states(tokens[sequence : sequence + 1, :17], spelt)[:, 0] == together[:, sequence, :17]).all()
    split, pieces = [], []
    for token in tokens[0]:
        own = ["<|eos|>"] if vocab[token] == "<|eos|>" else re.findall(r"<\|bos\|>|.", vocab[token], re.DOTALL)
        pieces.append(len(split))
        split += own
    singles = CHARACTERS + ["<|eos|>"] + sorted(set(split) - set(CHARACTERS) - {"<|eos|>"})
    alone = states(np.array([[singles.index(c) for c in split]]), TokenCharacters.of(singles))[:, 0, pieces]
    opened = [n for n, words in enumerate(PLACES) if words.startswith(("in ", "between")) and "tokens" not in words]
    assert (together[opened, 0] == alone[opened]).all()


def test_brackets_are_those_of_a_naive_count():
    rng = np.random.default_rng(1)
    text = "".join(rng.choice(list("ab (((]])["), 300))
    deep = {
        "one bracket deep": lambda depth: depth == 1,
        "two brackets deep": lambda depth: depth == 2,
        "two or more brackets deep": lambda depth: depth >= 2,
        "three or more brackets deep": lambda depth: depth >= 3,
    }
    got = {words: holds(text, words)[0] for words in deep}
    seen = set()
    for end in range(len(text)):
        depth = {")": 0, "]": 0}
        for c in text[:end]:
            closes = {"(": ")", "[": "]"}.get(c)
            if closes:
                depth[closes] += 1
            elif c in depth:
                depth[c] = max(0, depth[c] - 1)
        seen.add(sum(depth.values()))
        for words, is_deep in deep.items():
            assert got[words][end] == is_deep(sum(depth.values())), (words, text[:end])
    assert seen >= {0, 1, 2, 3}


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"label 'odd' is \(2, 3\)"):
        Predicates.count(np.zeros((2, 4), np.int32), 1).with_labels({"odd": torch.zeros(2, 3, dtype=torch.bool)})


def called(kind, string, others=("plain", "words", "of", "Latin", "letters")):
    """What a token's class is called where it has as many more tokens as make it no list."""
    vocab = [string, *(string + " " * n for n in range(1, 4)), *others]
    corpus = ReadText.read(np.arange(len(vocab), dtype=np.int32)[None], len(vocab), vocab)
    return KINDS[kind].name(corpus, int(corpus.tables[kind][0]), 0)


@pytest.mark.parametrize(
    ("kind", "string", "name"),
    [
        ("script", "⟨d7⟩", "bytes of characters"),
        ("script", "αβ", "tokens in Greek script"),
        ("script", "日本", "Chinese characters"),
        ("script", "42", "numbers"),
        ("script", "([", "opening brackets"),
        ("shape", "THE", "tokens in capitals in Latin script"),
        ("shape", "שלום", "tokens in Hebrew script"),
        ("start", " The", "capitalised tokens in Latin script with a space before"),
        ("first_3", "walking", 'tokens that begin with "wal"'),
        ("last_2", "walking", 'tokens that end in "ng"'),
        ("last_3", "ng", '"ng" in any case'),
        ("letters", "Dog", '"dog" in any case'),
        ("length", "a", "tokens in Latin script of 1 character"),
    ],
)
def test_classes_of_tokens_are_called_by_how_they_are_spelt(kind, string, name):
    assert called(kind, string) == name


def test_marks_for_spaces_are_read_as_spaces_only_where_they_are_marks():
    assert plain_strings(["Ġthe", "Ċ", "a"]) == [" the", "\n", "a"]
    assert plain_strings(["a"] * 100 + ["Ġ"])[-1] == "Ġ"


def an_atom(kind, *names):
    return Atom(kind, tuple(range(len(names))), names)


def test_rules_are_said_in_words():
    literal, thou = an_atom("literal", "in a string literal"), an_atom("token", '"thou"', '"thy"')
    said = {
        "tokens after a newline": (an_atom("previous", "a newline"),),
        '"thou" or "thy" after a comma': (thou, an_atom("previous", "a comma")),
        'tokens that end in "ing" in a string literal': (literal, an_atom("last_3", 'tokens that end in "ing"')),
        '"thy" after "king the"': (
            an_atom("token", '"thy"'),
            an_atom("previous", '" the"'),
            an_atom("before_previous", '"king"'),
        ),
        "token 0 after token 1 two after token 2": (
            an_atom("token", "token 0"),
            an_atom("previous", "token 1"),
            an_atom("before_previous", "token 2"),
        ),
    }
    for words, rule in said.items():
        assert phrase(rule) == words


def test_tokens_are_said_as_the_vocabulary_spells_them_without_bare_control_characters():
    strings = ["\x00", "\x07b", "é", "⟨f0⟩⟨9f⟩", " \u200b", "\r", "ok", " \u202eno", "<|endoftext|>", "\ud800"]
    corpus = ReadText.read(np.arange(10, dtype=np.int32)[None], 10, strings)
    said = [KINDS["token"].name(corpus, token, token) for token in range(10)]
    assert all(words.isprintable() and "\ufffd" not in words for words in said)
    assert '"⟨f0⟩⟨9f⟩"' in said[3] and '"é"' in said[2] and '"\\x07b"' in said[1] and '"\\r"' in said[5]
