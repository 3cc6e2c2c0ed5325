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


@njit(cache=True, nogil=True)
def by_id(local, n_ids):
    """Of each slot: the rows by their id in `local`, and where each id begins among them; rows of −1 are left out."""
    order, first = np.empty(local.shape, np.int32), np.zeros((len(local), n_ids + 1), np.int32)
    for slot in range(len(local)):
        for row in range(local.shape[1]):
            if local[slot, row] >= 0:
                first[slot, local[slot, row] + 1] += 1
        for own in range(n_ids):
            first[slot, own + 1] += first[slot, own]
        place = first[slot].copy()
        for row in range(local.shape[1]):
            own = local[slot, row]
            if own >= 0:
                order[slot, place[own]] = row
                place[own] += 1
    return order, first


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
def places_near(tokens, n_ctx, n_vocab, rows, low, high):
    """Of each token, where its places begin, and the places among the rows that have it `low` to `high` before."""
    first = np.zeros(n_vocab + 1, np.int32)
    for row in rows:
        for back in range(low, min(high, row % n_ctx) + 1):
            first[tokens[row - back] + 1] += 1
    for token in range(n_vocab):
        first[token + 1] += first[token]
    places, free = np.empty(first[-1], np.int32), first[:-1].copy()
    for i in range(len(rows)):
        for back in range(low, min(high, rows[i] % n_ctx) + 1):
            token = tokens[rows[i] - back]
            places[free[token]] = i
            free[token] += 1
    return first, places


@njit(cache=True, nogil=True)
def mark(tokens, first, places, out):
    """Set the bits of the places of the tokens."""
    for token in tokens:
        for place in places[first[token] : first[token + 1]]:
            out[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
