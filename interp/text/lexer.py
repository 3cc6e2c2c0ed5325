"""Find the place of each token in the text: in its line and sentence, in brackets, quotes, a comment, a URL, …

In: tokens, and the characters of each. Out: the state of the lexer at each token.

The lexer reads the characters of each sequence from left to right. Its state at a token has everything that was opened
and not closed before the token. So an opening bracket is outside its pair, and the closing bracket is inside. The start
of a sequence and a control token reset the state, and a blank line resets all but triple quotes. The lexer does not
know the language, so ambiguities remain: a line that begins with "#" is a comment even if it is a heading.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8
from numba import njit

from interp.codes.offsets import offsets_from_lengths
from interp.text.vocabulary import is_control, is_letter, split_characters

N_RECENT_TOKENS = 8
"""Number of preceding tokens that are searched for a repetition."""


class Character(IntEnum):
    """The class of a character, which is all that the lexer uses of it, with the characters that are listed for it."""

    characters: str

    def __new__(cls, value: int, characters: str = "") -> "Character":
        member = int.__new__(cls, value)
        member._value_ = value
        member.characters = characters
        return member

    OTHER = 0
    LETTER = 1
    DIGIT = 2
    SPACE = 3
    NEWLINE = 4, "\n"
    SENTENCE_END = 5, ".!?。！？؟…۔।॥։።။។"
    OPEN_QUOTE = 6, "«「『"
    CLOSE_QUOTE = 7, "”»」』"
    CONTROL = 8
    """A whole control token."""
    ASSIGN = 9, "=+%"
    OPEN_PAREN = 10, "("
    CLOSE_PAREN = 11, ")"
    OPEN_SQUARE = 12, "["
    CLOSE_SQUARE = 13, "]"
    OPEN_BRACE = 14, "{"
    CLOSE_BRACE = 15, "}"
    DOUBLE_QUOTE = 16, '"'
    SINGLE_QUOTE = 17, "'"
    HASH = 18, "#"
    SLASH = 19, "/"
    COLON = 20, ":"
    LESS = 21, "<"
    GREATER = 22, ">"
    DOLLAR = 23, "$"
    STAR = 24, "*"
    BACKSLASH = 25, "\\"
    COMMA = 26, ","
    LOW_QUOTE = 27, "„"
    HIGH_QUOTE = 28, "“"
    LOW_SINGLE_QUOTE = 29, "‚"
    HIGH_SINGLE_QUOTE = 30, "‘"
    CLOSE_SINGLE_QUOTE = 31, "’"


_CLASS_OF = {character: character_class for character_class in Character for character in character_class.characters}

STATE = {
    "prev": "the class of the last character",
    "prev2": "the class of the one before it",
    "line_known": "1 if the line's start was read; 0 if the sequence begins inside the line",
    "line_empty": "1 while the line holds nothing but spaces",
    "line_tokens": "tokens of the line so far",
    "indent": "spaces before the line's first character",
    "paragraph": "1 in the line after a blank one",
    "sentence": "1 until the first character of a sentence",
    "sentence_known": "1 if the sentence's start was read; 0 if the sequence begins inside the sentence",
    "sentence_tokens": "tokens of the sentence so far",
    "parens": "how many ( are open",
    "squares": "how many [ are open",
    "braces": "how many { are open",
    "double": "1 within double quotes",
    "single": "0, OUTER, or INNER: opened within double quotes, which end it",
    "other": "how many typographic quotes are open",
    "low": "how many of these were opened by „ or ‚",
    "triple": "the mark, SINGLE_QUOTE or DOUBLE_QUOTE, of which three opened a literal; 0 outside",
    "run": "how many of the same quote stand side by side",
    "literal": "the mark that opened a string literal in code; 0 outside",
    "reopen": "what `single` was before a quote that closed it, or was an apostrophe",
    "comment": "1 in a comment",
    "tag": "1 in a <tag>",
    "math": "1 between $ signs",
    "url": "1 in a URL",
    "bold": "1 between ** marks",
    "escaped": "1 after a backslash",
}
"""The state of the lexer between two characters, all integers."""
AT_TOKEN = {
    "line_start": "1 at the first token of a line",
    "sentence_start": "1 at the first token of a sentence",
    "in_word": "1 where the token continues a word",
    "word_start": "1 where it begins one",
    "brackets": "how many brackets of any kind are open",
    "in_single": "1 within single quotes",
    "quotes": "how many quotes of any kind are open",
    "repeats": "how many tokens ago the same one stood, up to N_RECENT_TOKENS; 0 if further",
}
"""Further properties of a token."""
_RECORD = np.dtype([(name, np.int32) for name in (*STATE, *AT_TOKEN)])
_NOW, _AFTER_CONTROL, _START = range(3)
"""The entries of the lexer's memory: the present state, the state after a control token, and the state at the start of
a sequence."""
OUTER, INNER = 1, 2


class TokenCharacters(NamedTuple):
    """The characters of token i have the classes classes[offsets[i]:offsets[i + 1]]."""

    classes: UInt8[np.ndarray, " character"]
    offsets: Int32[np.ndarray, " d_vocab_plus_1"]

    @classmethod
    def of(cls, strings: Sequence[str]) -> "TokenCharacters":
        """Classify the characters of each token's string. A control token is one character."""
        classes = [
            [Character.CONTROL] if is_control(string) else [_class_of(c) for c in split_characters(string)]
            for string in strings
        ]
        offsets = offsets_from_lengths([len(token_classes) for token_classes in classes]).astype(np.int32)
        return cls(np.array([each for token_classes in classes for each in token_classes], np.uint8), offsets)


def _class_of(character: str) -> Character:
    if character in _CLASS_OF:
        return _CLASS_OF[character]
    if len(character) > 1 or is_letter(character):  # a stray byte, shown as ⟨d7⟩, counts as a letter
        return Character.LETTER
    if character.isspace():
        return Character.SPACE
    return Character.DIGIT if character.isdigit() else Character.OTHER


def read_states(tokens: Int[np.ndarray, "seq pos"], spelt: TokenCharacters) -> Any:
    """Read the state at each token. Returns a record array [seq, pos] with the fields of `STATE` and `AT_TOKEN`."""
    states = np.recarray(tokens.shape, _RECORD)
    memory = np.zeros(3, _RECORD)
    for name in ("line_known", "line_empty", "paragraph", "sentence", "sentence_known"):
        memory[name][_AFTER_CONTROL] = 1
    memory["prev"] = Character.CONTROL
    memory["prev2"] = Character.CONTROL
    memory["line_empty"][_START] = 1
    _read_all(np.ascontiguousarray(tokens), spelt.classes, spelt.offsets, memory, states)
    return states


@njit(cache=True, nogil=True)
def _read_all(tokens, classes, offsets, memory, out):
    s = memory[_NOW]  # a view: to write to memory[_NOW] sets all fields of s
    for sequence in range(len(tokens)):
        memory[_NOW] = memory[_START]
        for position, token in enumerate(tokens[sequence]):
            spelt = classes[offsets[token] : offsets[token + 1]]
            last = np.uint8(Character.SPACE)  # the class of the token's last character that is not a space
            for character in spelt:
                if character != Character.SPACE:
                    last = character
            s.repeats = 0
            for back in range(min(N_RECENT_TOKENS, position), 0, -1):
                if tokens[sequence, position - back] == token:
                    s.repeats = back
            # What the token's own first characters add to the state.
            starts_with_letter = len(spelt) > 0 and spelt[0] == Character.LETTER
            starts_with_space = len(spelt) > 0 and spelt[0] == Character.SPACE
            joined = s.prev == Character.LETTER or s.prev == Character.DIGIT
            s.line_start = s.line_known * s.line_empty
            s.sentence_start = s.sentence == 1 or (s.prev == Character.SENTENCE_END and starts_with_space)
            s.in_word = starts_with_letter and joined
            s.word_start = (starts_with_letter and not joined) or (
                starts_with_space and len(spelt) > 1 and spelt[1] == Character.LETTER
            )
            s.in_single = s.single > 0 or (s.reopen > 0 and starts_with_letter)
            s.brackets = s.parens + s.squares + s.braces
            s.quotes = s.double + s.in_single + s.other + int(s.triple > 0)
            out[sequence, position] = s
            s.line_tokens += 1
            for character in spelt:
                if character == Character.CONTROL:
                    memory[_NOW] = memory[_AFTER_CONTROL]
                else:
                    _read(s, character)
            ends_sentence = last in (Character.SENTENCE_END, Character.NEWLINE, Character.CONTROL)
            s.sentence_known = s.sentence_known == 1 or ends_sentence
            s.sentence_tokens = 0 if ends_sentence else s.sentence_tokens + 1


@njit(cache=True, nogil=True)
def _read(s, character):
    """Read one character, given its class; a control token is read by `_read_all`."""
    if character == Character.NEWLINE:
        _end_line(s)
    elif character == Character.SPACE:
        s.indent += s.line_empty
    else:
        s.line_empty = 0
        s.sentence = 0
    if character in (Character.SPACE, Character.NEWLINE) and s.prev == Character.SENTENCE_END:
        s.sentence = 1
    if s.comment == 0:
        _quotes(s, character)
        if s.literal == 0 and s.triple == 0:
            s.parens = _depth(s.parens, character == Character.OPEN_PAREN, character == Character.CLOSE_PAREN)
            s.squares = _depth(s.squares, character == Character.OPEN_SQUARE, character == Character.CLOSE_SQUARE)
            s.braces = _depth(s.braces, character == Character.OPEN_BRACE, character == Character.CLOSE_BRACE)
            _markup(s, character)
    s.escaped = character == Character.BACKSLASH and s.escaped == 0
    s.prev2 = s.prev
    s.prev = character


@njit(cache=True, nogil=True)
def _depth(depth, opens, closes):
    return max(0, depth + int(opens) - int(closes))


@njit(cache=True, nogil=True)
def _end_line(s):
    blank = s.line_empty == 1 and s.line_known == 1
    s.line_known = 1
    s.line_empty = 1
    s.line_tokens = 0
    s.indent = 0
    s.paragraph = blank
    s.single = 0
    s.comment = 0
    s.bold = 0
    s.url = 0
    if s.triple > 0:
        return
    if s.literal > 0:
        s.double = 0
        s.literal = 0
    if blank:
        s.parens = 0
        s.squares = 0
        s.braces = 0
        s.double = 0
        s.other = 0
        s.low = 0
        s.tag = 0
        s.math = 0
        s.sentence = 1


@njit(cache=True, nogil=True)
def _quotes(s, character):
    if s.reopen > 0 and character == Character.LETTER:
        s.single = s.reopen  # it was an apostrophe
    s.reopen = 0
    in_code = s.literal > 0 or s.triple > 0
    before = s.prev2 if s.prev == Character.SPACE else s.prev
    within = s.parens + s.squares + s.braces > 0
    # A quote in code: after "=", an opening bracket and the like, or after a comma or colon within brackets.
    opens = before in (
        Character.OPEN_PAREN,
        Character.OPEN_SQUARE,
        Character.OPEN_BRACE,
        Character.ASSIGN,
    ) or (within and before in (Character.COMMA, Character.COLON))
    level = INNER if s.double == 1 or s.other > 0 else OUTER
    if character not in (Character.DOUBLE_QUOTE, Character.SINGLE_QUOTE) or s.escaped == 1:
        s.run = 0
        if not in_code:
            _typographic(s, character, level)
        return
    s.run = s.run + 1 if s.prev == character else 1
    if s.run == 3 and (s.triple == 0 or s.triple == character):
        s.triple = character if s.triple == 0 else 0
        s.run = 0
        s.double = 0
        s.single = 0
        s.literal = 0
    elif s.triple > 0:
        return
    elif character == Character.DOUBLE_QUOTE and s.literal != Character.SINGLE_QUOTE:
        s.literal = character if s.double == 0 and opens else 0
        s.double = 1 - s.double
        if s.double == 0 and s.single == INNER:
            s.single = 0
    elif character == Character.SINGLE_QUOTE and s.single > 0 and s.literal != Character.DOUBLE_QUOTE:
        s.reopen = s.single if s.literal == 0 else 0
        s.single = 0
        s.literal = 0
    elif character == Character.SINGLE_QUOTE and not in_code and s.prev not in (Character.LETTER, Character.DIGIT):
        s.literal = character if s.double == 0 and opens else 0
        s.single = level


@njit(cache=True, nogil=True)
def _typographic(s, character, level):
    """“ and ‘ open, but after „ and ‚ they close; ’ closes, unless a letter shows that it is an apostrophe."""
    is_high_quote = character == Character.HIGH_QUOTE
    is_high_single = character == Character.HIGH_SINGLE_QUOTE
    if character in (Character.OPEN_QUOTE, Character.LOW_QUOTE) or (is_high_quote and s.low == 0):
        s.other += 1
        s.low += int(character == Character.LOW_QUOTE)
    elif character == Character.CLOSE_QUOTE or is_high_quote:
        s.other = max(0, s.other - 1)
        s.low = s.low - 1 if is_high_quote else min(s.low, s.other)
        if s.other == 0 and s.single == INNER:
            s.single = 0
    elif (character == Character.CLOSE_SINGLE_QUOTE or is_high_single) and s.single > 0:
        s.reopen = s.single if character == Character.CLOSE_SINGLE_QUOTE else 0
        s.single = 0
    elif (character == Character.LOW_SINGLE_QUOTE or is_high_single) and s.single == 0:
        s.single = level


@njit(cache=True, nogil=True)
def _markup(s, character):
    if s.url == 1 and character in (
        Character.SPACE,
        Character.NEWLINE,
        Character.DOUBLE_QUOTE,
        Character.SINGLE_QUOTE,
        Character.GREATER,
        Character.CLOSE_PAREN,
    ):
        s.url = 0
    fresh = s.prev in (Character.SPACE, Character.NEWLINE, Character.CONTROL)
    second_slash = character == Character.SLASH and s.prev == Character.SLASH
    if second_slash and s.prev2 == Character.COLON:
        s.url = 1
    elif (second_slash and s.url == 0) or (character == Character.HASH and fresh):
        s.comment = 1
    if character == Character.GREATER or (
        s.prev == Character.LESS and character in (Character.LETTER, Character.SLASH)
    ):
        s.tag = character != Character.GREATER
    if character == Character.DOLLAR and s.prev != Character.DOLLAR and s.escaped == 0:
        s.math = 1 - s.math
    if character == Character.STAR and s.prev == Character.STAR and s.prev2 != Character.STAR:
        s.bold = 1 - s.bold
