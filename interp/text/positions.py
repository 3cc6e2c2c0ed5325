"""Some positions of a text, with their tokens, the classes of these, the lexer's state and the topic."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numba import njit

from interp.text.analysed_text import AnalysedText
from interp.text.lexer import read_states

WINDOWS_AT_ONCE = 1 << 15
"""Windows that are compared with the topics at a time."""


class Positions:
    """The rows seq * n_ctx + pos of a text. Whole sequences are read, so that rows in few sequences are read
    fastest."""

    def __init__(self, text: AnalysedText, rows: Int64[np.ndarray, " row"]):
        self.n_ctx = text.tokens.shape[1]
        self.sequences, sequence = np.unique(rows // self.n_ctx, return_inverse=True)
        self.text = text
        self.position = rows % self.n_ctx
        self.tokens = np.ascontiguousarray(text.tokens[self.sequences])
        """The tokens of these sequences alone, [seq, pos]."""
        self.rows = sequence * self.n_ctx + self.position
        """The rows, as indices into the flattened `tokens`."""

    def token(self, offset: int = 0) -> Int64[np.ndarray, " row"]:
        """Return the token at an offset from each row; a positive offset is after it. −1 means beyond the sequence's
        edge."""
        inside = (self.position + offset >= 0) & (self.position + offset < self.n_ctx)
        return np.where(inside, self.tokens.reshape(-1)[np.where(inside, self.rows + offset, 0)], -1)

    def tokens_at(self, offsets: Sequence[int]) -> Int64[np.ndarray, "row offset"]:
        """Return the distinct tokens at some offsets. −1 stands for a token that repeats another, or lies beyond the
        edge."""
        return _drop_repeats(np.stack([self.token(offset) for offset in offsets], 1))

    def related(self, offset: int = 0) -> Int64[np.ndarray, "row near"]:
        """Return the numbers of the words related to the token at an offset. −1 means that it is not a listed word, or
        only a piece of one."""
        token = self.token(offset)
        first, last = self.text.words.bounds(self.tokens, np.where(token >= 0, self.rows + offset, self.rows))
        return self.text.related[np.where(first == last, token, -1)]

    def stems(self) -> Int64[np.ndarray, " row"]:
        """Return the stem of the word that each row is in (`words`)."""
        return self.text.words.stems(self.tokens, self.rows)

    @cached_property
    def state(self) -> Any:
        """The state of the lexer at each row."""
        return read_states(self.tokens, self.text.characters).reshape(-1)[self.rows]

    @cached_property
    def windows(self) -> Float32[np.ndarray, "row dim"]:
        return self.text.neighbours.windows(self.tokens, self.rows)

    def topic(self, grain: int) -> Int64[np.ndarray, " row"]:
        centres = self.text.topics[grain].T
        return np.concatenate(
            [
                (part @ centres).argmax(1)
                for part in np.array_split(self.windows, 1 + len(self.windows) // WINDOWS_AT_ONCE)
            ]
        )

    def labels(self) -> Int64[np.ndarray, "row label"]:
        """Return the number of each label that a row carries, and −1 for each other label."""
        if not self.text.labels:  # a text other than the labelled one
            return np.full((len(self.rows), 1), -1)
        sequence = self.rows // self.n_ctx
        bits = self.text.label_bits[:, self.sequences[sequence], self.position]
        carried = np.unpackbits(bits.T, axis=1, count=len(self.text.labels), bitorder="little")
        return np.where(carried, np.arange(len(self.text.labels)), -1)


@njit(cache=True, nogil=True)
def _drop_repeats(values):
    """Replace by −1 every value that occurs further left in its row."""
    for row in range(len(values)):
        for column in range(1, values.shape[1]):
            for other in range(column):
                if values[row, other] == values[row, column]:
                    values[row, column] = -1
                    break
    return values
