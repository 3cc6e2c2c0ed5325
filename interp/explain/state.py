"""Where in the text a token stands: in its line and sentence, in brackets, quotes, a comment, a string literal, …

One reader goes over the characters of each sequence from left to right. Its state at a token is what was opened before
the token and not closed before it: an opening bracket is outside, the closing one inside. A sequence's start, a control
token and, for all but triple quotes, a blank line reset the state. From the characters alone, so with their
ambiguities: a line that begins with "#" is a comment even where it is a heading.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8, UInt64
from numba import njit

from interp.explain.vocabulary import characters, is_control

FIRST_OF_LINE, FIRST_OF_SEQUENCE, FIRST_OF_TEXT, RECENT = 4, 4, 8, 8
REPEAT = "repeat"


class Place(NamedTuple):
    words: str
    group: str
    """A rule says one thing of a group at most."""
    needs_strings: bool = True


PLACES = (
    Place("at the start of a sequence", "sequence", needs_strings=False),
    Place(f"in the first {FIRST_OF_SEQUENCE} tokens of a sequence", "sequence", needs_strings=False),
    Place(f"in the first {FIRST_OF_TEXT} tokens after a control token", "sequence"),
    Place("at the start of a line", "line"),
    Place(f"in the first {FIRST_OF_LINE} tokens of a line", "line"),
    Place("at the start of a paragraph", "line"),
    Place("on an indented line", "indent"),
    Place("at the start of a sentence", "sentence"),
    Place("inside a word", "word"),
    Place("at the start of a word", "word"),
    Place("in parentheses", "brackets"),
    Place("in square brackets", "brackets"),
    Place("in braces", "brackets"),
    Place("exactly one bracket deep", "bracket depth"),
    Place("exactly two brackets deep", "bracket depth"),
    Place("two or more brackets deep", "bracket depth"),
    Place("three or more brackets deep", "bracket depth"),
    Place("in double quotes", "quotes"),
    Place("in single quotes", "quotes"),
    Place("in a triple-quoted string", "quotes"),
    Place("in a string literal", "quotes"),
    Place("exactly one quote deep", "quote depth"),
    Place("two or more quotes deep", "quote depth"),
    Place("three or more quotes deep", "quote depth"),
    Place("in a comment", "comment"),
    Place("in a <tag>", "markup"),
    Place("between $ signs", "markup"),
    Place("in a URL", "markup"),
    Place("between ** marks", "markup"),
    Place("between _ marks", "markup"),
    Place("that repeat the token before", REPEAT, needs_strings=False),
    Place(f"that occur among the {RECENT} tokens before", REPEAT, needs_strings=False),
)
_N_READ = sum(place.group != REPEAT for place in PLACES)
"""Places that the reader knows; behind them those that compare tokens."""

UNSPELT = np.uint64(sum(1 << bit for bit, place in enumerate(PLACES) if not place.needs_strings))
"""The bits of the places that are known without the tokens' strings."""

(OTHER, LETTER, DIGIT, SPACE, NEWLINE, STOP, OPENS, CLOSES, CONTROL, ASSIGNS) = range(10)
_KINDS = {
    **dict.fromkeys(".!?。！？؟…", STOP),
    **dict.fromkeys("«「『", OPENS),
    **dict.fromkeys("”»」』", CLOSES),
    **dict.fromkeys("=+%", ASSIGNS),
    "\n": NEWLINE,
}
_MARKS = "()[]{}\"'#/:<>$*_\\,„“‚‘’"
_KINDS.update({mark: 10 + place for place, mark in enumerate(_MARKS)})
(PAREN, UNPAREN, SQUARE, UNSQUARE, BRACE, UNBRACE, DOUBLE, SINGLE) = range(10, 18)
(HASH, SLASH, COLON, LESS, MORE, DOLLAR, STAR, UNDER, BACKSLASH, COMMA) = range(18, 28)
(LOW, HIGH, LOW_SINGLE, HIGH_SINGLE, CLOSES_SINGLE) = range(28, 33)


class Spelling(NamedTuple):
    """The kinds of the characters of each token, one token after the other."""

    kinds: UInt8[np.ndarray, " character"]
    first: Int32[np.ndarray, " d_vocab_plus_1"]


def spelling(strings: Sequence[str]) -> Spelling:
    kinds = [[CONTROL] if is_control(string) else [_kind(c) for c in characters(string)] for string in strings]
    first = np.concatenate([[0], np.cumsum([len(own) for own in kinds])]).astype(np.int32)
    return Spelling(np.array([kind for own in kinds for kind in own], np.uint8), first)


def states(tokens: Int[np.ndarray, "seq pos"], spelt: Spelling) -> UInt64[np.ndarray, " row"]:
    """Bit b of a row: PLACES[b] holds there."""
    return _states(np.ascontiguousarray(tokens), spelt.kinds, spelt.first)


def _kind(character: str) -> int:
    if character in _KINDS:
        return _KINDS[character]
    if character.isspace():
        return SPACE
    if character.isdigit():
        return DIGIT
    return LETTER if character.isalpha() or len(character) > 1 else OTHER


# Places of the reader's variables in its state vector.
(PREV, PREV2, LINE_KNOWN, LINE_EMPTY, LINE_TOKENS, INDENT, PARAGRAPH, SENTENCE, TEXT_TOKENS) = range(9)
(PARENS, SQUARES, BRACES, IN_DOUBLE, IN_SINGLE, IN_OTHER, TRIPLE, RUN, LITERAL, REOPEN) = range(9, 19)
(COMMENT, TAG, MATH, URL, BOLD, ITALIC, ESCAPED, IN_LOW) = range(19, 27)
_N_STATE = 27
OUTER, INNER = 1, 2


@njit(cache=True, nogil=True)
def _states(tokens, kinds, first):
    n_seq, n_ctx = tokens.shape
    out = np.zeros(n_seq * n_ctx, np.uint64)
    s = np.zeros(_N_STATE, np.int64)
    for sequence in range(n_seq):
        _clear(s)
        s[LINE_KNOWN], s[PARAGRAPH], s[SENTENCE], s[TEXT_TOKENS] = 0, 0, 0, -1
        for position in range(n_ctx):
            token = tokens[sequence, position]
            own = kinds[first[token] : first[token + 1]]
            bits = _bits(s, own, position)
            if position > 0 and tokens[sequence, position - 1] == token:
                bits |= np.uint64(1) << np.uint64(_N_READ)
            for back in range(1, min(RECENT, position) + 1):
                if tokens[sequence, position - back] == token:
                    bits |= np.uint64(1) << np.uint64(_N_READ + 1)
                    break
            out[sequence * n_ctx + position] = bits
            s[LINE_TOKENS] += 1
            if s[TEXT_TOKENS] >= 0:
                s[TEXT_TOKENS] += 1
            for kind in own:
                _read(s, kind)
    return out


@njit(cache=True, nogil=True)
def _clear(s):
    """A control token, or a sequence's start: what follows begins a text."""
    s[:] = 0
    s[PREV], s[PREV2] = CONTROL, CONTROL
    s[LINE_KNOWN], s[LINE_EMPTY], s[PARAGRAPH], s[SENTENCE] = 1, 1, 1, 1


@njit(cache=True, nogil=True)
def _bits(s, own, position):
    starts = len(own) > 0 and own[0] == LETTER
    joined = s[PREV] == LETTER or s[PREV] == DIGIT
    spaced = len(own) > 1 and own[0] == SPACE and own[1] == LETTER
    at_line = s[LINE_KNOWN] == 1 and s[LINE_EMPTY] == 1
    brackets = s[PARENS] + s[SQUARES] + s[BRACES]
    in_single = s[IN_SINGLE] > 0 or (s[REOPEN] > 0 and starts)
    quotes = s[IN_DOUBLE] + int(in_single) + s[IN_OTHER] + int(s[TRIPLE] > 0)
    holds = (
        position == 0,
        position < FIRST_OF_SEQUENCE,
        s[TEXT_TOKENS] >= 0 and s[TEXT_TOKENS] < FIRST_OF_TEXT,
        at_line,
        s[LINE_KNOWN] == 1 and s[LINE_TOKENS] < FIRST_OF_LINE,
        at_line and s[PARAGRAPH] == 1,
        s[LINE_KNOWN] == 1 and s[INDENT] >= 2,
        s[SENTENCE] == 1 or (s[PREV] == STOP and len(own) > 0 and own[0] == SPACE),
        starts and joined,
        (starts and not joined) or spaced,
        s[PARENS] > 0,
        s[SQUARES] > 0,
        s[BRACES] > 0,
        brackets == 1,
        brackets == 2,
        brackets > 1,
        brackets > 2,
        s[IN_DOUBLE] == 1 or s[IN_OTHER] > 0,
        in_single,
        s[TRIPLE] > 0,
        s[LITERAL] > 0 or s[TRIPLE] > 0,
        quotes == 1,
        quotes > 1,
        quotes > 2,
        s[COMMENT] == 1,
        s[TAG] == 1,
        s[MATH] == 1,
        s[URL] == 1,
        s[BOLD] == 1,
        s[ITALIC] == 1,
    )
    bits = np.uint64(0)
    for place in range(_N_READ):
        if holds[place]:
            bits |= np.uint64(1) << np.uint64(place)
    return bits


@njit(cache=True, nogil=True)
def _read(s, kind):
    """One character."""
    if kind == CONTROL:
        _clear(s)
        return
    if kind == NEWLINE:
        _end_line(s)
    elif kind == SPACE:
        s[INDENT] += s[LINE_EMPTY]
    else:
        s[LINE_EMPTY], s[SENTENCE] = 0, 0
    if kind in (SPACE, NEWLINE) and s[PREV] == STOP:
        s[SENTENCE] = 1
    if s[COMMENT] == 0:
        _quotes(s, kind)
        if s[LITERAL] == 0 and s[TRIPLE] == 0:
            _brackets(s, kind)
            _marks(s, kind)
    s[ESCAPED] = 1 if kind == BACKSLASH and s[ESCAPED] == 0 else 0
    s[PREV2], s[PREV] = s[PREV], kind


@njit(cache=True, nogil=True)
def _end_line(s):
    blank = s[LINE_EMPTY] == 1 and s[LINE_KNOWN] == 1
    s[LINE_KNOWN], s[LINE_EMPTY], s[LINE_TOKENS], s[INDENT] = 1, 1, 0, 0
    s[PARAGRAPH] = 1 if blank else 0
    s[IN_SINGLE], s[COMMENT], s[BOLD], s[ITALIC], s[URL] = 0, 0, 0, 0, 0
    if s[TRIPLE] == 0:
        if s[LITERAL] > 0:
            s[IN_DOUBLE], s[LITERAL] = 0, 0
        if blank:
            s[PARENS], s[SQUARES], s[BRACES] = 0, 0, 0
            s[IN_DOUBLE], s[IN_OTHER], s[IN_LOW], s[TAG], s[MATH] = 0, 0, 0, 0, 0
            s[SENTENCE] = 1


@njit(cache=True, nogil=True)
def _quotes(s, kind):
    """IN_SINGLE is OUTER, or INNER if it was opened within double quotes and ends with them; LITERAL the mark that
    opened it."""
    if s[REOPEN] > 0 and kind == LETTER:
        s[IN_SINGLE] = s[REOPEN]  # it was an apostrophe
    s[REOPEN] = 0
    in_code = s[LITERAL] > 0 or s[TRIPLE] > 0
    if kind not in (DOUBLE, SINGLE) or s[ESCAPED] == 1:
        s[RUN] = 0
        if not in_code:
            _typographic(s, kind)
        return
    s[RUN] = s[RUN] + 1 if s[PREV] == kind else 1
    if s[TRIPLE] > 0:
        if s[RUN] == 3 and s[TRIPLE] == kind:
            s[TRIPLE], s[RUN] = 0, 0
        return
    if s[RUN] == 3:
        s[TRIPLE], s[RUN], s[IN_DOUBLE], s[IN_SINGLE], s[LITERAL] = kind, 0, 0, 0, 0
    elif kind == DOUBLE and s[LITERAL] != SINGLE:
        s[LITERAL] = DOUBLE if s[IN_DOUBLE] == 0 and _opens_literal(s) else 0
        s[IN_DOUBLE] = 1 - s[IN_DOUBLE]
        if s[IN_DOUBLE] == 0 and s[IN_SINGLE] == INNER:
            s[IN_SINGLE] = 0
    elif kind == SINGLE and s[IN_SINGLE] > 0 and s[LITERAL] != DOUBLE:
        s[REOPEN] = s[IN_SINGLE] if s[LITERAL] == 0 else 0
        s[IN_SINGLE], s[LITERAL] = 0, 0
    elif kind == SINGLE and not in_code and s[PREV] not in (LETTER, DIGIT):
        s[LITERAL] = SINGLE if s[IN_DOUBLE] == 0 and _opens_literal(s) else 0
        _open_single(s)


@njit(cache=True, nogil=True)
def _typographic(s, kind):
    """“ and ‘ open, but behind „ and ‚ they close; ’ closes, unless a letter shows that it is an apostrophe."""
    if kind == OPENS or kind == LOW or (kind == HIGH and s[IN_LOW] == 0):
        s[IN_OTHER] += 1
        s[IN_LOW] += int(kind == LOW)
    elif kind == CLOSES or kind == HIGH:
        s[IN_OTHER] = max(0, s[IN_OTHER] - 1)
        s[IN_LOW] = s[IN_LOW] - 1 if kind == HIGH else min(s[IN_LOW], s[IN_OTHER])
        if s[IN_OTHER] == 0 and s[IN_SINGLE] == INNER:
            s[IN_SINGLE] = 0
    elif kind == CLOSES_SINGLE and s[IN_SINGLE] > 0:
        s[REOPEN], s[IN_SINGLE] = s[IN_SINGLE], 0
    elif kind == HIGH_SINGLE and s[IN_SINGLE] > 0:
        s[IN_SINGLE] = 0
    elif kind == HIGH_SINGLE or kind == LOW_SINGLE:
        _open_single(s)


@njit(cache=True, nogil=True)
def _open_single(s):
    if s[IN_SINGLE] == 0:
        s[IN_SINGLE] = INNER if s[IN_DOUBLE] == 1 or s[IN_OTHER] > 0 else OUTER


@njit(cache=True, nogil=True)
def _opens_literal(s):
    """A quote in code: behind "=", an opening bracket and the like, or behind a comma or colon within brackets."""
    before = s[PREV2] if s[PREV] == SPACE else s[PREV]
    if before in (PAREN, SQUARE, BRACE, ASSIGNS):
        return True
    return before in (COMMA, COLON) and s[PARENS] + s[SQUARES] + s[BRACES] > 0


@njit(cache=True, nogil=True)
def _brackets(s, kind):
    s[PARENS] = max(0, s[PARENS] + int(kind == PAREN) - int(kind == UNPAREN))
    s[SQUARES] = max(0, s[SQUARES] + int(kind == SQUARE) - int(kind == UNSQUARE))
    s[BRACES] = max(0, s[BRACES] + int(kind == BRACE) - int(kind == UNBRACE))


@njit(cache=True, nogil=True)
def _marks(s, kind):
    if s[URL] == 1 and kind in (SPACE, NEWLINE, DOUBLE, SINGLE, MORE, UNPAREN):
        s[URL] = 0
    fresh = s[PREV] in (SPACE, NEWLINE, CONTROL)
    if kind == HASH and fresh:
        s[COMMENT] = 1
    if kind == SLASH and s[PREV] == SLASH:
        if s[PREV2] == COLON:
            s[URL] = 1
        elif s[URL] == 0:
            s[COMMENT] = 1
    if s[PREV] == LESS and kind in (LETTER, SLASH):
        s[TAG] = 1
    if kind == MORE:
        s[TAG] = 0
    if kind == DOLLAR and s[PREV] != DOLLAR and s[ESCAPED] == 0:
        s[MATH] = 1 - s[MATH]
    if kind == STAR and s[PREV] == STAR and s[PREV2] != STAR:
        s[BOLD] = 1 - s[BOLD]
    if kind == UNDER and (fresh or s[ITALIC] == 1):
        s[ITALIC] = 1 - s[ITALIC]
