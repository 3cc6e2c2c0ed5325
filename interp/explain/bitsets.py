"""Compiled loops over the rows of a text, and sets of rows as bits: row i is bit i % 64 of word i // 64.

A row is seq * n_ctx + pos, and nothing stands before a sequence's first token.
"""

import numpy as np
from jaxtyping import Bool, UInt64
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def popcount(typingctx, word):
    """How many bits of a uint64 are set."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


def n_words(n_rows: int) -> int:
    return -(-n_rows // 64)


def pack(mask: Bool[np.ndarray, " row"]) -> UInt64[np.ndarray, " word"]:
    padded = np.zeros(n_words(len(mask)) * 64, bool)
    padded[: len(mask)] = mask
    return np.packbits(padded, bitorder="little").view(np.uint64)


@njit(cache=True, nogil=True)
def transpose(planes, plane, wanted, out):
    """out[i]: the rows whose bit wanted[i] of the plane is set; out is [len(wanted), word], zero before."""
    for row in range(len(planes)):
        own, word, place = planes[row, plane], row >> 6, np.uint64(row & 63)
        for i in range(len(wanted)):
            out[i, word] |= ((own >> np.uint64(wanted[i])) & np.uint64(1)) << place


@njit(cache=True, nogil=True)
def window_bits(tokens, n_ctx, rows, low, high, place, out):
    """out[place[token]]: the rows that have the token among those `low` to `high` before, where place is not −1."""
    for i in range(len(rows)):
        if rows[i] < 0:
            continue
        for back in range(low, min(high, rows[i] % n_ctx) + 1):
            at = place[tokens[rows[i] - back]]
            if at >= 0:
                out[at, i >> 6] |= np.uint64(1) << np.uint64(i & 63)
