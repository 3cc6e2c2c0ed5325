"""Where in its line, sentence, paragraph, brackets and word a token stands, read off the text alone.

In: tokens and how they are spelt. Out: for each position a vector of zeros with a one for each trait (`Positions`):

    line, sentence     tokens since it began          paragraph   tokens since an empty line
    sequence           tokens since the sequence began
    word               tokens since a space           indent      characters of white space that the line began with
    depth, bracket     brackets that are open, and the innermost;    quotes   whether a double quote is open

Counts are binned (0, 1, 2, 3, 4, 5–8, 9–16, more). Without the strings only the place in the sequence is known.
Failing: what was open before the sequence began is not known, and a full stop in a number or name ends a sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8
from numba import njit

SIZES = {"line": 8, "sentence": 8, "paragraph": 4, "sequence": 8, "word": 4, "indent": 5, "depth": 5, "bracket": 4,
         "quotes": 2}  # fmt: skip
"""Of each trait, how many values it has."""
WIDTH = sum(SIZES.values())
BRACKETS = "([{"
_FIRST = np.cumsum([0, *SIZES.values()])[:-1]
_NEWLINE, _EMPTY, _STOP, _SPACE, _INDENT, _OPENED, _KIND, _QUOTES = range(8)


@dataclass(frozen=True)
class Positions:
    states: UInt8[np.ndarray, "row trait"]
    """The value of each trait at every position of the text."""

    def vectors(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row value"]:
        """1 for each value that holds at a row, 0 for the others."""
        out = np.zeros((len(rows), WIDTH), np.float32)
        np.put_along_axis(out, self.states[rows] + _FIRST, 1, axis=1)
        return out


def read_positions(tokens: Int[np.ndarray, "seq pos"], vocab: Sequence[str] | None, seen: Sequence[int]) -> Positions:
    """vocab: None where nothing is known of how tokens are spelt; seen: the ids that occur."""
    told = np.zeros((int(tokens.max(initial=0)) + 1, 8), np.int16)
    if vocab is not None:
        for token in seen:
            told[token] = _told(vocab[token])
    return Positions(_states(np.ascontiguousarray(tokens), told, vocab is not None))


def _told(string: str) -> tuple[int, ...]:
    """What a token says of those after it: see the constants."""
    bare, inner = string.rstrip(), string.strip()
    after_line = string.rpartition("\n")[2]
    opened = sum((c in BRACKETS) - (c in ")]}") for c in string)
    kinds = [BRACKETS.index(c) + 1 for c in string if c in BRACKETS]
    return (
        "\n" in string,
        string.count("\n") > 1,
        bool(bare) and bare[-1] in ".!?。！？؟",
        string[:1].isspace() or not inner[:1].isalnum(),
        len(after_line) - len(after_line.lstrip()) if not after_line.strip() or "\n" in string else 0,
        opened,
        kinds[-1] if kinds else 0,
        string.count('"') % 2,
    )


@njit(cache=True, nogil=True)
def _binned(n, most):
    value = n if n < 5 else 5 if n <= 8 else 6 if n <= 16 else 7
    return min(value, most - 1)


@njit(cache=True, nogil=True)
def _states(tokens, told, spelt):
    n_seq, n_ctx = tokens.shape
    out = np.zeros((n_seq * n_ctx, 9), np.uint8)
    kinds = np.zeros(n_ctx + 1, np.int64)
    for seq in range(n_seq):
        line = sentence = paragraph = word = indent = depth = quotes = 0
        for position in range(n_ctx):
            row, token = out[seq * n_ctx + position], told[tokens[seq, position]]
            row[3] = position if position < 2 else min(7, 1 + int(np.log2(position)))
            if not spelt:
                continue
            word = 0 if token[3] else word + 1
            row[0], row[1], row[4] = _binned(line, 8), _binned(sentence, 8), min(word, 3)
            row[2] = 0 if paragraph < 5 else 1 if paragraph < 17 else 2 if paragraph < 65 else 3
            row[5], row[6], row[7], row[8] = min(4, (indent + 3) // 4), min(depth, 4), kinds[depth], quotes
            if token[0]:
                paragraph = 0 if token[1] or line == 0 else paragraph + 1
                line, sentence, indent = 0, 0, token[4]
            elif line == 0 and token[4]:
                indent += token[4]
            else:
                line, paragraph = line + 1, paragraph + 1
                sentence = 0 if token[2] else sentence + 1
            quotes = (quotes + token[7]) % 2
            if token[5] > 0 and depth < n_ctx:
                depth += 1
                kinds[depth] = token[6]
            elif token[5] < 0 and depth > 0:
                depth -= 1
    return out
