"""Join tokens into whole words: find the pieces of a word, and hash its first letters.

A word begins at a token that does not begin with a letter (but with a space, say), or after a token that does not end
with a letter. Nothing looks across the edge of a sequence.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64
from numba import njit

from interp.codes.offsets import offsets_from_lengths
from interp.statistics.randomness import GOLDEN_64
from interp.text.spellings import lower_letters
from interp.text.vocabulary import is_letter

STEM_LENGTH = 5
"""Letters of a word that are hashed."""
HASH_BITS = 20
"""Bits of the hash: two different stems have the same one by chance once in a million."""
MAX_PIECES = 8
"""Number of tokens of a word that are considered before and after a piece."""
_LETTER_MULTIPLIER = np.uint64(0x100000001B3)
"""Any large odd number would do: multiplying by it spreads each letter over the 64 bits."""


class Words(NamedTuple):
    """The way in which the tokens of a vocabulary join into words."""

    opens: Bool[np.ndarray, " d_vocab"]
    """Marks the tokens that do not begin with a letter."""
    ends: Bool[np.ndarray, " d_vocab"]
    """Marks the tokens that do not end with a letter."""
    letters: Int64[np.ndarray, " letter"]
    """The letters of token i, as code points in lower case, are letters[offsets[i]:offsets[i + 1]]."""
    offsets: Int64[np.ndarray, " d_vocab_plus_1"]

    @classmethod
    def of(cls, strings: Sequence[str]) -> "Words":
        stripped = [lower_letters(string) for string in strings]
        return cls(
            np.array([not is_letter(string[:1]) for string in strings], bool),
            np.array([not is_letter(string[-1:]) for string in strings], bool),
            np.array([ord(letter) for word in stripped for letter in word], np.int64),
            offsets_from_lengths([len(word) for word in stripped]),
        )

    def bounds(
        self, tokens: Int[np.ndarray, "seq pos"], rows: Int64[np.ndarray, " row"]
    ) -> tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " row"]]:
        """Return the first row and the last of the word that each row is in."""
        return _bounds(tokens, rows, self.opens, self.ends)

    def stems(self, tokens: Int[np.ndarray, "seq pos"], rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        """Return a hash of the first STEM_LENGTH letters of the word that each row is in, below 2 ** HASH_BITS; −1 for
        white space, which is in none."""
        return _stems(tokens, *self.bounds(tokens, rows), self.letters, self.offsets)


@njit(cache=True, nogil=True)
def _bounds(tokens, rows, opens, ends):
    n_ctx = tokens.shape[1]
    flat = tokens.reshape(-1)
    firsts = np.empty(len(rows), np.int64)
    lasts = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        begin = rows[i] - rows[i] % n_ctx
        first = rows[i]
        while first > max(begin, rows[i] - MAX_PIECES) and not opens[flat[first]] and not ends[flat[first - 1]]:
            first -= 1
        last = rows[i]
        while (
            last + 1 < min(begin + n_ctx, rows[i] + MAX_PIECES) and not opens[flat[last + 1]] and not ends[flat[last]]
        ):
            last += 1
        firsts[i] = first
        lasts[i] = last
    return firsts, lasts


@njit(cache=True, nogil=True)
def _stems(tokens, firsts, lasts, letters, offsets):
    flat = tokens.reshape(-1)
    out = np.empty(len(firsts), np.int64)
    for i in range(len(firsts)):
        mixed = np.uint64(0)
        n = 0
        for row in range(firsts[i], lasts[i] + 1):
            for letter in range(offsets[flat[row]], offsets[flat[row] + 1]):
                if n < STEM_LENGTH:
                    mixed = mixed * _LETTER_MULTIPLIER + np.uint64(letters[letter])
                    mixed ^= mixed >> np.uint64(31)
                    n += 1
        out[i] = np.int64((mixed * GOLDEN_64) >> np.uint64(64 - HASH_BITS)) if n else -1
    return out
