"""What rules read of the text, against naive readers and marked examples; and rules in words."""

import re

import numpy as np
import pytest
import torch

from interp.text.places import PLACES, spelling, states
from interp.text.vocabulary import plain_strings, token_affixes, token_classes
from interp.verdict.explanations import bits, phrase
from interp.verdict.predicates import PLANES, Atom, Text

CHARACTERS = sorted(set("abcxyzEnter the.\n\n\t \"'()[]{}#/:<>$*_\\,=123!?“”«»|é") | {"<|bos|>"})
WORDS = {place.words: number for number, place in enumerate(PLACES)}


def holds(text, words):
    """At which characters of the text, each a token of its own, a place holds."""
    tokens = re.findall(r"<\|bos\|>|.", text, re.DOTALL)
    vocab = list(dict.fromkeys(tokens))
    (found,) = states(np.array([[vocab.index(token) for token in tokens]]), spelling(vocab))
    return [bool(int(own) >> WORDS[words] & 1) for own in found], tokens


@pytest.mark.parametrize(
    ("words", "marked"),
    [
        ("at the start of a sequence", "⟦a⟧b\nc"),
        ("in the first 4 tokens of a sequence", "⟦ab\nc⟧d"),
        ("in the first 8 tokens after a control token", "ab<|bos|>⟦cdefghij⟧kl"),
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
        ("exactly one bracket deep", "f(⟦a, [⟧b]⟦)⟧ c"),
        ("exactly two brackets deep", "f(a, [⟦b{⟧c}⟦]⟧) c"),
        ("two or more brackets deep", "f(a, [⟦b]⟧) c"),
        ("two or more brackets deep", "((⟦(a))⟧)"),
        ("three or more brackets deep", "f(a, [{⟦b}⟧]) c(((⟦a)⟧"),
        ("in double quotes", 'he said "⟦I don\'t"⟧ and “⟦no”⟧ a'),
        ("in double quotes", 'a "⟦b\n\n⟧c'),
        ("in double quotes", 'x = "⟦a \\" b"⟧ c'),
        ("in double quotes", 'x = "⟦a\n⟧c'),
        ("in double quotes", '\'a "⟦b \n c"⟧ d'),
        ("exactly one quote deep", "\"⟦a '⟧b'⟦ c\"⟧ “⟦d “⟧e”⟦”⟧"),
        ("exactly one quote deep", "x = \"⟦it's 'a'\"⟧ + '⟦say \"b\"'⟧"),
        ("two or more quotes deep", "he \"said '⟦don't go'⟧\" and 'a \"⟦b\"⟧ c"),
        ("two or more quotes deep", "\"a '⟦tis b\"⟧ 'c'"),
        ("two or more quotes deep", "“a ‘⟦don’t b’⟧ c” ‘d’"),
        ("exactly one quote deep", "„⟦a“⟧ b „⟦c ‚⟧d‘⟦ e“⟧ f «⟦g»⟧ „⟦h”⟧ “⟦i”⟧"),
        ("exactly one quote deep", "see '⟦f(\"⟧x\"⟦)'⟧ and “⟦y”⟧"),
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
        ("between _ marks", "a _⟦b_⟧ c_d_e _⟦f\n⟧g"),
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
    spelt = spelling(vocab)
    together = states(tokens, spelt)
    for sequence in range(20):
        assert (states(tokens[sequence : sequence + 1], spelt) == together[sequence]).all()
        assert (states(tokens[sequence : sequence + 1, :17], spelt) == together[sequence, :17]).all()
    split, pieces = [], []
    for token in tokens[0]:
        own = ["<|eos|>"] if vocab[token] == "<|eos|>" else re.findall(r"<\|bos\|>|.", vocab[token], re.DOTALL)
        pieces.append(len(split))
        split += own
    singles = CHARACTERS + ["<|eos|>"] + sorted(set(split) - set(CHARACTERS) - {"<|eos|>"})
    alone = states(np.array([[singles.index(c) for c in split]]), spelling(singles))[0, pieces]
    opened = sum(1 << WORDS[w] for w in WORDS if w.startswith(("in ", "between")) and "tokens" not in w)
    assert ((together[0] & np.uint64(opened)) == (alone & np.uint64(opened))).all()


def test_brackets_are_those_of_a_naive_count():
    rng = np.random.default_rng(1)
    text = "".join(rng.choice(list("ab (((]])["), 300))
    deep = {
        "exactly one bracket deep": lambda depth: depth == 1,
        "exactly two brackets deep": lambda depth: depth == 2,
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


WORDS_OF_TEXT = ["walking", "talking", "singing", "ringing", "walks", "talks", "7", "42", "שלום", "אור", "\n", "("]


def naive(atom, text, row):
    position, tokens = row % text.n_ctx, text.tokens.reshape(-1)
    before = tokens[row - min(8, position) : row]
    far = tokens[row - min(32, position) : row]

    def member(token):
        return bool(int(text.vocabulary.classes[token]) >> atom.which & 1)

    def affixed(token):
        affix, is_ending = text.vocabulary.affixes[atom.which]
        string = text.vocabulary.strings[token].strip()
        return string != affix and (string.endswith(affix) if is_ending else string.startswith(affix))

    return {
        "token": lambda: tokens[row] in atom.tokens,
        "class": lambda: member(tokens[row]),
        "after": lambda: position > 0 and tokens[row - 1] in atom.tokens,
        "after2": lambda: position > 1 and tokens[row - 2] in atom.tokens,
        "after_class": lambda: position > 0 and member(tokens[row - 1]),
        "near": lambda: bool(set(atom.tokens) & set(before)),
        "far": lambda: bool(set(atom.tokens) & set(far)),
        "affix": lambda: affixed(tokens[row]),
        "inside": lambda: sum(member(token) for token in before) >= 5,
        "place": lambda: bool(int(text.planes_at(np.array([row]))[0, PLANES.index("place")]) >> atom.which & 1),
        "label": lambda: bool(list(text.labels.values())[atom.which].reshape(-1)[row]),
    }[atom.kind]()


def test_bits_of_rows_are_those_of_a_naive_reading():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, len(WORDS_OF_TEXT), (12, 20))
    tokens[:, 8:16] = np.where(rng.random((12, 8)) < 0.8, rng.integers(8, 10, (12, 8)), tokens[:, 8:16])
    text = Text.read(tokens, WORDS_OF_TEXT, {"odd": torch.from_numpy(tokens % 2 == 1)})
    rows = rng.permutation(tokens.size)[:100]
    planes = text.planes_at(rows)
    assert (planes == text.planes(slice(0, 12))[rows]).all()
    for kind in ("class", "after_class", "inside", "label"):
        for which in range(len(text.names[kind])):
            wanted = [naive(Atom(kind, which=which), text, row) for row in rows]
            assert ((planes[:, PLANES.index(kind)] >> np.uint64(which)) & np.uint64(1)).astype(bool).tolist() == wanted


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"label 'odd' is \(2, 3\)"):
        Text.read(np.zeros((2, 4), np.int32), ["a"], {"odd": torch.zeros(2, 3, dtype=torch.bool)})


@pytest.mark.parametrize(
    ("string", "called"),
    [
        ("⟨d7⟩", "tokens in Hebrew script"),
        ("αβ", "tokens in Greek script"),
        ("日本", "tokens in Chinese script"),
        ("a3", "hex digits"),
        ("GATTACA", "strings of A, C, G, T"),
        ("xQ9z", "letters mixed with digits or capitals"),
        ("\n", "newlines"),
        ("    ", "indentation"),
        ("<div", "markup"),
        ("([", "brackets"),
        ("(", "opening brackets"),
        ("),", "closing brackets"),
        ("?", "ends of sentences"),
        ("⟨a0⟩x", "tokens that begin amid a character"),
        ("x⟨d7⟩", "tokens that end amid a character"),
        ("<|bos|>", "control tokens"),
    ],
)
def test_token_classes(string, called):
    names, members = token_classes([string, "plain"])
    place = [name for name, _ in names].index(called)
    assert int(members[0]) >> place & 1 and not int(members[1]) >> place & 1


def test_affixes_are_beginnings_and_endings_that_several_tokens_share():
    affixes, tokens = token_affixes([" walking", "talking", "ring", "king", "ing", "⟨d7⟩⟨90⟩", "walk"])
    assert ("ing", True) in affixes and ("wal", False) not in affixes
    assert tokens[affixes.index(("ing", True))].indices.tolist() == [0, 1, 2, 3]


def test_marks_for_spaces_are_read_as_spaces_only_where_they_are_marks():
    assert plain_strings(["Ġthe", "Ċ", "a"]) == [" the", "\n", "a"]
    assert plain_strings(["a"] * 100 + ["Ġ"])[-1] == "Ġ"


def test_rules_are_said_in_words():
    text = Text.read(
        np.zeros((1, 4), np.int32), ["\x1b", "thou", "thy", ",", "\n", " the", "ring", "king", "ping", "ming"]
    )
    ing = text.vocabulary.affixes.index(("ing", True))
    line, literal = WORDS["at the start of a line"], WORDS["in a string literal"]
    said = {
        '"\\x1b"': ((Atom("token", (0,)),),),
        "tokens after a newline": ((Atom("after", (4,)),),),
        '"thou" or "thy" after a comma': ((Atom("token", (1, 2)), Atom("after", (3,))),),
        'tokens that end in "ing" in a string literal': ((Atom("place", which=literal), Atom("affix", which=ing)),),
        'tokens after " the" or at the start of a line': ((Atom("after", (5,)),), (Atom("place", which=line),)),
        '"thou" or "thy", after a comma or at the start of a line': (
            (Atom("token", (1, 2)), Atom("after", (3,))),
            (Atom("token", (1, 2)), Atom("place", which=line)),
        ),
        '"thy" after "king the"': ((Atom("token", (2,)), Atom("after", (5,)), Atom("after2", (7,))),),
    }
    for words, rule in said.items():
        assert phrase(rule, text) == words


def test_names_of_tokens_are_not_run_together():
    text = Text.read(np.zeros((1, 4), np.int32), ["0", "1", "2", "3"], spelt=False)
    rule = ((Atom("token", (0,)), Atom("after", (1,)), Atom("after2", (2,))),)
    assert phrase(rule, text) == '"0" after "1" two after "2"'


def test_a_longer_rule_has_more_bits():
    text = Text.read(np.zeros((1, 4), np.int32), ["a", "b", "c", "d"])
    one = ((Atom("token", (0,)),),)
    rules = [one, ((Atom("token", (0, 1)),),), (*one, (Atom("after", (1, 2)),))]
    lengths = [bits(rule, text) for rule in rules]
    assert lengths == sorted(lengths) and len(set(lengths)) == 3
    # Three choices of the number of parts, and of atoms; eleven kinds; eight sizes of the set; four tokens.
    assert lengths[0] == pytest.approx(np.log2(3 * 3 * 11 * 8 * 4))


def test_tokens_are_said_as_the_vocabulary_spells_them_without_bare_control_characters():
    strings = ["\x00", "\x07b", "é", "⟨f0⟩⟨9f⟩", " \u200b", "\r", "ok", " \u202eno", "<|endoftext|>", "\ud800"]
    text = Text.read(np.arange(10, dtype=np.int32)[None], strings, {})
    said = [phrase(((Atom("token", (token,)), Atom("after", (9 - token,))),), text) for token in range(10)]
    assert all(words.isprintable() and "\ufffd" not in words for words in said)
    assert '"⟨f0⟩⟨9f⟩"' in said[3] and '"é"' in said[2] and '"\\x07b"' in said[1] and '"\\r"' in said[5]
