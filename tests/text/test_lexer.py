"""Where tokens stand, against naive readers and marked examples."""

import re

import numpy as np
import pytest

from interp.text.lexer import TokenCharacters, read_states

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
    state = read_states(np.asarray(tokens, np.int32), spelt)  # as a ranking has them: its loop is compiled once
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
        ("at the start of a sentence", "कख।⟦ ग⟧घ"),
        ("inside a word", "a⟦bc⟧ d⟦e⟧, f1⟦g⟧"),
        ("inside a word", "क⟦िताब⟧ ก⟦ัน⟧ ❤\ufe0fa⟦b⟧"),
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


def test_places_do_not_look_past_the_sequences_edge_and_read_tokens_by_character():
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
