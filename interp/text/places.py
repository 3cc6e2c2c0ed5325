"""Where in the text a token stands: in its line and sentence, in brackets, quotes, a comment, a string literal, …

In: tokens, and how each is spelt. Out: the reader's state at each token.

One reader goes over the characters of each sequence from left to right. Its state at a token is what was opened before
the token and not closed before it: an opening bracket is outside, the closing one inside. A sequence's start, a control
token and, for all but triple quotes, a blank line reset the state. From the characters alone, so with their
ambiguities: a line that begins with "#" is a comment even where it is a heading.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8
from numba import njit

from interp.text.vocabulary import characters, is_control

RECENT = 8
"""Tokens among which a repetition is looked for."""

OTHER, LETTER, DIGIT, SPACE, NEWLINE, STOP, OPENS, CLOSES, CONTROL, ASSIGNS = range(10)
PAREN, UNPAREN, SQUARE, UNSQUARE, BRACE, UNBRACE, DOUBLE, SINGLE, HASH, SLASH, COLON, LESS = range(10, 22)
MORE, DOLLAR, STAR, BACKSLASH, COMMA, LOW, HIGH, LOW_SINGLE, HIGH_SINGLE, CLOSES_SINGLE = range(22, 32)
_CHARACTERS = (
    (NEWLINE, "\n"),
    (STOP, ".!?。！？؟…"),
    (OPENS, "«「『"),
    (CLOSES, "”»」』"),
    (ASSIGNS, "=+%"),
    (PAREN, "("),
    (UNPAREN, ")"),
    (SQUARE, "["),
    (UNSQUARE, "]"),
    (BRACE, "{"),
    (UNBRACE, "}"),
    (DOUBLE, '"'),
    (SINGLE, "'"),
    (HASH, "#"),
    (SLASH, "/"),
    (COLON, ":"),
    (LESS, "<"),
    (MORE, ">"),
    (DOLLAR, "$"),
    (STAR, "*"),
    (BACKSLASH, "\\"),
    (COMMA, ","),
    (LOW, "„"),
    (HIGH, "“"),
    (LOW_SINGLE, "‚"),
    (HIGH_SINGLE, "‘"),
    (CLOSES_SINGLE, "’"),
)
"""Each kind of character that has characters of its own, and these."""
_KINDS = {character: kind for kind, characters_of_kind in _CHARACTERS for character in characters_of_kind}

STATE = {
    "prev": "the kind of the last character",
    "prev2": "the kind of the one before it",
    "line_known": "1 where the start of the line was read, and not cut off by the sequence's",
    "line_empty": "1 while the line holds nothing but spaces",
    "line_tokens": "tokens of the line so far",
    "line_head": "the line's first token that is not blank; −1 before it",
    "indent": "spaces before the line's first character",
    "paragraph": "1 in the line behind a blank one",
    "sentence": "1 until the first character of a sentence",
    "sentence_tokens": "tokens of the sentence so far",
    "parens": "how many ( are open",
    "squares": "how many [ are open",
    "braces": "how many { are open",
    "double": "1 within double quotes",
    "single": "0, OUTER, or INNER: opened within double quotes, which end it",
    "other": "how many typographic quotes are open",
    "low": "how many of them „ or ‚ opened",
    "triple": "the mark, SINGLE or DOUBLE, of which three opened a literal; 0 outside",
    "run": "how many of the same quote stand side by side",
    "literal": "the mark that opened a string literal in code; 0 outside",
    "reopen": "what `single` was before a quote that closed it, or was an apostrophe",
    "comment": "1 in a comment",
    "tag": "1 in a <tag>",
    "math": "1 between $ signs",
    "url": "1 in a URL",
    "bold": "1 between ** marks",
    "escaped": "1 behind a backslash",
}
"""What the reader knows between two characters, all integers."""
AT_TOKEN = {
    "line_start": "1 at the first token of a line",
    "sentence_start": "1 at the first token of a sentence",
    "in_word": "1 where the token goes on with a word",
    "word_start": "1 where it begins one",
    "brackets": "how many brackets of any kind are open",
    "in_single": "1 within single quotes",
    "quotes": "how many quotes of any kind are open",
    "repeats": "how many tokens ago the same one stood, up to RECENT; 0 if further",
}
"""What it says of a token beside that."""
_RECORD = np.dtype([(name, np.int32) for name in (*STATE, *AT_TOKEN)])
_FRESH, _CUT = 1, 2
"""Where the reader's memory keeps the state after a control token, and that at a sequence's start."""
OUTER, INNER = 1, 2


class Spelling(NamedTuple):
    kinds: UInt8[np.ndarray, " character"]
    first: Int32[np.ndarray, " d_vocab_plus_1"]


def _kind_of(character: str) -> int:
    blank_or_digit = SPACE if character.isspace() else DIGIT if character.isdigit() else OTHER
    is_letter = character.isalpha() or len(character) > 1  # a stray byte, shown as ⟨d7⟩, is one
    return _KINDS.get(character, LETTER if is_letter else blank_or_digit)


def spelt_tokens(strings: Sequence[str]) -> Spelling:
    """The kinds of the characters of each token, one token after the other."""
    kinds = [[CONTROL] if is_control(string) else [_kind_of(c) for c in characters(string)] for string in strings]
    first = np.concatenate([[0], np.cumsum([len(spelt) for spelt in kinds])]).astype(np.int32)
    return Spelling(np.array([kind for spelt in kinds for kind in spelt], np.uint8), first)


def read_states(tokens: Int[np.ndarray, "seq pos"], spelt: Spelling) -> Any:
    """The reader's state at each token, a record array [seq, pos] of `STATE` and `AT_TOKEN`."""
    state, memory = np.recarray(tokens.shape, _RECORD), np.zeros(3, _RECORD)
    for name in ("line_known", "line_empty", "paragraph", "sentence"):
        memory[name][_FRESH] = 1
    memory["prev"], memory["prev2"] = CONTROL, CONTROL
    memory["line_empty"][_CUT] = 1
    memory["line_head"] = -1
    _read_all(np.ascontiguousarray(tokens), spelt.kinds, spelt.first, memory, state)
    return state


@njit(cache=True, nogil=True)
def _read_all(tokens, kinds, first, memory, out):
    s = memory[0]
    for sequence in range(len(tokens)):
        memory[0] = memory[_CUT]
        for position, token in enumerate(tokens[sequence]):
            spelt = kinds[first[token] : first[token + 1]]
            last = SPACE
            for kind in spelt:
                last = last if kind == SPACE else kind
            if s.line_head < 0 and last != SPACE and last != NEWLINE:
                s.line_head = token
            s.repeats = 0
            for back in range(min(RECENT, position), 0, -1):
                if tokens[sequence, position - back] == token:
                    s.repeats = back
            # What the token's own first characters add to the state.
            starts, after_space = len(spelt) > 0 and spelt[0] == LETTER, len(spelt) > 0 and spelt[0] == SPACE
            joined = s.prev == LETTER or s.prev == DIGIT
            s.line_start = s.line_known * s.line_empty
            s.sentence_start = s.sentence == 1 or (s.prev == STOP and after_space)
            s.in_word = starts and joined
            s.word_start = (starts and not joined) or (after_space and len(spelt) > 1 and spelt[1] == LETTER)
            s.in_single = s.single > 0 or (s.reopen > 0 and starts)
            s.brackets = s.parens + s.squares + s.braces
            s.quotes = s.double + s.in_single + s.other + int(s.triple > 0)
            out[sequence, position] = s
            s.line_tokens += 1
            for kind in spelt:
                if kind == CONTROL:
                    memory[0] = memory[_FRESH]
                else:
                    _read(s, kind)
            s.sentence_tokens = 0 if last in (STOP, NEWLINE, CONTROL) else s.sentence_tokens + 1


@njit(cache=True, nogil=True)
def _read(s, kind):
    """One character that is no control token."""
    if kind == NEWLINE:
        blank = s.line_empty == 1 and s.line_known == 1
        s.line_known, s.line_empty, s.line_tokens, s.line_head, s.indent, s.paragraph = 1, 1, 0, -1, 0, blank
        s.single, s.comment, s.bold, s.url = 0, 0, 0, 0
        if s.triple == 0 and s.literal > 0:
            s.double, s.literal = 0, 0
        if s.triple == 0 and blank:
            s.parens, s.squares, s.braces, s.double, s.other, s.low, s.tag, s.math = 0, 0, 0, 0, 0, 0, 0, 0
            s.sentence = 1
    elif kind == SPACE:
        s.indent += s.line_empty
    else:
        s.line_empty, s.sentence = 0, 0
    if kind in (SPACE, NEWLINE) and s.prev == STOP:
        s.sentence = 1
    if s.comment == 0:
        _quotes(s, kind)
        if s.literal == 0 and s.triple == 0:
            s.parens = max(0, s.parens + int(kind == PAREN) - int(kind == UNPAREN))
            s.squares = max(0, s.squares + int(kind == SQUARE) - int(kind == UNSQUARE))
            s.braces = max(0, s.braces + int(kind == BRACE) - int(kind == UNBRACE))
            _markup(s, kind)
    s.escaped = kind == BACKSLASH and s.escaped == 0
    s.prev2, s.prev = s.prev, kind


@njit(cache=True, nogil=True)
def _quotes(s, kind):
    if s.reopen > 0 and kind == LETTER:
        s.single = s.reopen  # it was an apostrophe
    s.reopen = 0
    in_code = s.literal > 0 or s.triple > 0
    before = s.prev2 if s.prev == SPACE else s.prev
    within = s.parens + s.squares + s.braces > 0
    # A quote in code: behind "=", an opening bracket and the like, or behind a comma or colon within brackets.
    opens = before in (PAREN, SQUARE, BRACE, ASSIGNS) or (within and before in (COMMA, COLON))
    level = INNER if s.double == 1 or s.other > 0 else OUTER
    if kind not in (DOUBLE, SINGLE) or s.escaped == 1:
        s.run = 0
        if not in_code:
            _typographic(s, kind, level)
        return
    s.run = s.run + 1 if s.prev == kind else 1
    if s.run == 3 and (s.triple == 0 or s.triple == kind):
        s.triple = kind if s.triple == 0 else 0
        s.run, s.double, s.single, s.literal = 0, 0, 0, 0
    elif s.triple > 0:
        return
    elif kind == DOUBLE and s.literal != SINGLE:
        s.literal = DOUBLE if s.double == 0 and opens else 0
        s.double = 1 - s.double
        if s.double == 0 and s.single == INNER:
            s.single = 0
    elif kind == SINGLE and s.single > 0 and s.literal != DOUBLE:
        s.reopen = s.single if s.literal == 0 else 0
        s.single, s.literal = 0, 0
    elif kind == SINGLE and not in_code and s.prev not in (LETTER, DIGIT):
        s.literal = SINGLE if s.double == 0 and opens else 0
        s.single = level


@njit(cache=True, nogil=True)
def _typographic(s, kind, level):
    """“ and ‘ open, but behind „ and ‚ they close; ’ closes, unless a letter shows that it is an apostrophe."""
    if kind == OPENS or kind == LOW or (kind == HIGH and s.low == 0):
        s.other += 1
        s.low += int(kind == LOW)
    elif kind == CLOSES or kind == HIGH:
        s.other = max(0, s.other - 1)
        s.low = s.low - 1 if kind == HIGH else min(s.low, s.other)
        if s.other == 0 and s.single == INNER:
            s.single = 0
    elif kind in (CLOSES_SINGLE, HIGH_SINGLE) and s.single > 0:
        s.reopen = s.single if kind == CLOSES_SINGLE else 0
        s.single = 0
    elif kind in (HIGH_SINGLE, LOW_SINGLE) and s.single == 0:
        s.single = level


@njit(cache=True, nogil=True)
def _markup(s, kind):
    if s.url == 1 and kind in (SPACE, NEWLINE, DOUBLE, SINGLE, MORE, UNPAREN):
        s.url = 0
    fresh = s.prev in (SPACE, NEWLINE, CONTROL)
    second_slash = kind == SLASH and s.prev == SLASH
    if second_slash and s.prev2 == COLON:
        s.url = 1
    elif (second_slash and s.url == 0) or (kind == HASH and fresh):
        s.comment = 1
    if kind == MORE or (s.prev == LESS and kind in (LETTER, SLASH)):
        s.tag = kind != MORE
    if kind == DOLLAR and s.prev != DOLLAR and s.escaped == 0:
        s.math = 1 - s.math
    if kind == STAR and s.prev == STAR and s.prev2 != STAR:
        s.bold = 1 - s.bold
