"""Compiled loops over the rows of a text, and sets of rows as bits: row i is bit i % 64 of word i // 64.

A row is seq * n_ctx + pos, and nothing stands before a sequence's first token.
"""

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt64
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
def transpose(planes, plane, wanted):
    """[i, word]: the rows whose bit wanted[i] of the plane is set."""
    out = np.zeros((len(wanted), (len(planes) + 63) // 64), np.uint64)
    for start in range(0, len(planes), 64):
        own = planes[start : start + 64, plane].copy()
        for i in range(len(wanted)):
            held = np.uint64(0)
            for row in range(len(own)):
                held |= ((own[row] >> np.uint64(wanted[i])) & np.uint64(1)) << np.uint64(row)
            out[i, start >> 6] = held
    return out


@njit(cache=True, nogil=True)
def cover(bits, members, within):
    """The rows `within` that are in each of the members' bits; −1 is none."""
    rows = within.copy()
    for member in members:
        if member >= 0:
            rows &= bits[member]
    return rows


def transpose_all(planes: UInt64[np.ndarray, "row plane"]) -> UInt64[np.ndarray, "plane 64 word"]:
    return np.stack([transpose(planes, plane, np.arange(64)) for plane in range(planes.shape[1])])


def by_id(
    ids: Int[np.ndarray, " row"], n_ids: int
) -> tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " id_plus_1"]]:
    """The rows by their id, and where each id begins among them; before the first one are the rows of −1."""
    return np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids + 1, minlength=n_ids + 1))


@njit(cache=True)  # so short that to release the interpreter's lock costs more than it gives
def tokens_before(tokens, n_ctx, rows, back):
    """The token `back` places before each row; −1 beyond the sequence's edge, and for rows of −1."""
    out = np.full(len(rows), -1, np.int64)
    for i in range(len(rows)):
        if rows[i] >= 0 and rows[i] % n_ctx >= back:
            out[i] = tokens[rows[i] - back]
    return out


@njit(cache=True, nogil=True)
def count_window(tokens, n_vocab, n_ctx, rows, low, high):
    """How many of the rows have each token among those `low` to `high` before."""
    near, newest = np.zeros(n_vocab, np.int64), np.full(n_vocab, -1, np.int64)
    for i in range(len(rows)):
        for back in range(low, min(high, rows[i] % n_ctx) + 1):
            token = tokens[rows[i] - back]
            if newest[token] != i:
                newest[token] = i
                near[token] += 1
    return near


@njit(cache=True, nogil=True)
def window_bits(tokens, n_ctx, rows, low, high, sets, out):
    """out[s]: the rows that have a token with bit s of its `sets` set among those `low` to `high` before."""
    for i in range(len(rows)):
        found = np.uint64(0)
        for back in range(low, min(high, rows[i] % n_ctx) + 1 if rows[i] >= 0 else 0):
            found |= sets[tokens[rows[i] - back]]
        for number in range(len(out) if found else 0):
            out[number, i >> 6] |= ((found >> np.uint64(number)) & np.uint64(1)) << np.uint64(i & 63)


@njit(cache=True, nogil=True)
def mark(rows, out):
    """Set the bits of some rows."""
    for row in rows:
        out[row >> 6] |= np.uint64(1) << np.uint64(row & 63)
