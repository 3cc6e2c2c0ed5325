"""Compiled looks at the tokens before a row; row = seq * n_ctx + pos, and nothing before a sequence's first token."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def tokens_before(tokens, n_ctx, rows, back):
    """The token `back` places before each row; −1 beyond the sequence's edge, and for rows of −1."""
    out = np.full(len(rows), -1, np.int64)
    for i in range(len(rows)):
        if rows[i] >= 0 and rows[i] % n_ctx >= back:
            out[i] = tokens[rows[i] - back]
    return out


@njit(cache=True, nogil=True)
def count_near(tokens, n_vocab, reach):
    """How many positions of tokens [seq, pos] have each token among the `reach` before."""
    n_seq, n_ctx = tokens.shape
    near, covered = np.zeros(n_vocab, np.int64), np.zeros(n_vocab, np.int64)
    for sequence in range(n_seq):
        start = sequence * n_ctx
        for row in range(start, start + n_ctx - 1):
            this = tokens[sequence, row - start]
            first, last = max(row + 1, covered[this]), min(row + reach, start + n_ctx - 1)
            near[this] += last + 1 - first
            covered[this] = last + 1
    return near


@njit(cache=True, nogil=True)
def count_near_rows(tokens, n_vocab, n_ctx, rows, reach):
    """How many of the rows have each token among the `reach` before."""
    near, newest = np.zeros(n_vocab, np.int64), np.full(n_vocab, -1, np.int64)
    for i in range(len(rows)):
        for back in range(1, min(reach, rows[i] % n_ctx) + 1):
            token = tokens[rows[i] - back]
            if newest[token] != i:
                newest[token] = i
                near[token] += 1
    return near


@njit(cache=True, nogil=True)
def near_bits(tokens, n_ctx, rows, reach, place, out):
    """Bitsets of the rows that have each token among the `reach` before: out[place[token]], where place is not −1."""
    for i in range(len(rows)):
        if rows[i] < 0:
            continue
        for back in range(1, min(reach, rows[i] % n_ctx) + 1):
            at = place[tokens[rows[i] - back]]
            if at >= 0:
                out[at, i >> 6] |= np.uint64(1) << np.uint64(i & 63)


@njit(cache=True, nogil=True)
def inside_bits(before, n_classes, reach, least):
    """Bit c of a row: at least `least` of the `reach` tokens before it are in class c.

    before [seq, pos]: the classes, as bits, of the token before each.
    """
    n_seq, n_ctx = before.shape
    out = np.zeros(n_seq * n_ctx, np.uint64)
    counts = np.zeros(64, np.int64)
    one = np.uint64(1)
    for sequence in range(n_seq):
        counts[:] = 0
        for position in range(n_ctx):
            entering = before[sequence, position]
            leaving = before[sequence, position - reach] if position >= reach else np.uint64(0)
            bits = np.uint64(0)
            for c in range(n_classes):
                place = np.uint64(c)
                counts[c] += np.int64((entering >> place) & one) - np.int64((leaving >> place) & one)
                if counts[c] >= least:
                    bits |= one << place
            out[sequence * n_ctx + position] = bits
    return out
