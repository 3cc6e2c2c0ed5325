"""The loops of `numba_kernels` that pick the largest pre-activations, on the bits of the floats.

Positive floats of any width are ordered as their bits are when read as integers (keys), and floats below zero have
keys below zero. So one loop serves every dtype, bounds are exact, and bfloat16 keys go 32 to a vector.

Pre-activations come in tiles of rows and latents. Only entries above a lower bound of the picks are kept, as
candidates, and these raise the bound: each tile is read once, while it is in cache.
Latents come in order, and of equal entries the first is picked.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from interp.sae.loops import longest_bag

LANES = 64
"""Entries that are compared at once. Tiles and buffers are filled up to a multiple of it, with keys of zero."""


@intrinsic
def exceeding(typing, row, start, limits, at):
    """Bit b of the result: whether row[start + b] exceeds limits[at + b], in the order of all floats."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(row.dtype)
        vector = ir.VectorType(kind, LANES)

        def load(array_type, array, index):
            first = builder.gep(context.make_array(array_type)(context, builder, array).data, [index])
            return builder.load(builder.bitcast(first, vector.as_pointer()), align=kind.width // 8)

        keys, least = load(row, *arguments[:2]), load(limits, *arguments[2:])
        sign, others = (ir.Constant(vector, [n] * LANES) for n in (kind.width - 1, 2 ** (kind.width - 1) - 1))
        ordered_keys = builder.xor(keys, builder.and_(builder.ashr(keys, sign), others))
        return builder.bitcast(builder.icmp_signed(">", ordered_keys, least), ir.IntType(LANES))

    return types.uint64(row, types.intp, limits, types.intp), generate


@intrinsic
def bit_count(typing, bits):
    return types.uint64(types.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@intrinsic
def lowest_bit(typing, bits):
    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True)
def group_maxima(row, maxima):
    """maxima[g] = the largest of row[g], row[g + n], row[g + 2n] …, with n groups: plain vector maxima."""
    n = len(maxima)
    maxima[:] = row[:n]
    for start in range(n, len(row), n):
        block = row[start : start + n]
        for g in range(len(block)):
            maxima[g] = max(maxima[g], block[g])


@njit(nogil=True, cache=True)
def count_reaching(keys, n, least, limits):
    limits[:] = least - 1
    count = 0
    for start in range(0, n, LANES):
        count += bit_count(exceeding(keys, start, limits, 0))
    return count


@njit(nogil=True, cache=True)
def kth_largest(keys, n, k, more, limits):
    """A positive key that k of the first n reach and, but for ties, at most `more` more; 1 if fewer are positive."""
    highest = keys[0]
    for p in range(n):
        highest = max(highest, keys[p])
    low, high = np.int64(1), np.int64(highest)
    while low < high:
        middle = high - (high - low) // 2
        count = count_reaching(keys, n, middle, limits)
        if count < k:
            high = middle - 1
        else:
            low = middle
            if count <= k + more:
                break
    return low


@njit(nogil=True, cache=True)
def largest(latents, keys, n, k, more, limits, kept_latents, kept_keys):
    """The k largest positive of the first n entries, in their order, also in place; how many, and the least key.

    Up to `more` that come next may be kept too: that takes less time.
    """
    keys[n : -(-n // LANES) * LANES] = 0
    least, count = kth_largest(keys, n, k, more, limits), 0
    equal = k + more - count_reaching(keys, n, least + 1, limits)
    limits[:] = least - 1
    for start in range(0, n, LANES):
        bits = exceeding(keys, start, limits, 0)
        while bits != 0:
            p = start + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            key = keys[p]
            equal -= key == least
            if key > least or equal >= 0:
                kept_latents[count], kept_keys[count] = latents[p], key
                count += 1
    return count, least


@njit(nogil=True, cache=True)
def top_k(tile, first, k, n_groups, bounds, latents, keys, counts):
    """Add to each row's candidates those of a tile of latents first, first + 1 …; bounds start at 0.

    The maxima of groups of latents give the first bound, one that at least k entries reach.
    """
    maxima, limits = np.zeros(-(-n_groups // LANES) * LANES, tile.dtype), np.empty(LANES, tile.dtype)
    for i in range(len(tile)):
        row, count = tile[i], counts[i]
        if first == 0:
            group_maxima(row, maxima[:n_groups])
            bounds[i] = kth_largest(maxima, n_groups, k, k // 8, limits) - 1
        limits[:] = bounds[i]
        for start in range(0, len(row), LANES):
            bits = exceeding(row, start, limits, 0)
            while bits != 0:
                j = start + lowest_bit(bits)
                bits &= bits - np.uint64(1)
                latents[i, count], keys[i, count] = first + j, row[j]
                count += 1
            if count + LANES > latents.shape[1]:
                count, least = largest(latents[i], keys[i], count, k, k // 4, limits, latents[i], keys[i])
                bounds[i] = least - 1
                limits[:] = least - 1
        counts[i] = count


@njit(nogil=True, cache=True)
def finish_top_k(latents, keys, counts, k, kept_latents, kept_keys, kept_counts):
    limits = np.empty(LANES, keys.dtype)
    for i in range(len(counts)):
        kept_counts[i], _ = largest(latents[i], keys[i], counts[i], k, 0, limits, kept_latents[i], kept_keys[i])


@njit(nogil=True, cache=True)
def keep_top_k(offsets, entry_latents, entry_keys, k, latents, keys, counts, start, stop):
    limits = np.empty(LANES, entry_keys.dtype)
    scratch = np.empty(-(-longest_bag(offsets, start, stop) // LANES) * LANES + LANES, entry_keys.dtype)
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        scratch[: last - first] = entry_keys[first:last]
        counts[i], _ = largest(entry_latents[first:last], scratch, last - first, k, 0, limits, latents[i], keys[i])


@njit(nogil=True, cache=True)
def collect(tile, limits, first, rows, latents, keys):
    """The entries of a tile that exceed the limit of their latent; returns how many there are."""
    count = 0
    for i in range(len(tile)):
        row = tile[i]
        for start in range(0, len(row), LANES):
            bits = exceeding(row, start, limits, start)
            while bits != 0:
                j = start + lowest_bit(bits)
                bits &= bits - np.uint64(1)
                rows[count], latents[count], keys[count] = i, first + j, row[j]
                count += 1
    return count


@njit(nogil=True, cache=True)
def raise_bound(keys, shift, counts, n, bound, reaching):
    """Count more keys by their leading bits; the largest such bits that n keys reach, and how many keys do."""
    for p in range(len(keys)):
        leading = keys[p] >> shift
        if leading >= bound:
            counts[leading] += 1
            reaching += 1
    while reaching - counts[bound] >= n:
        reaching -= counts[bound]
        bound += 1
    return bound, reaching


@njit(nogil=True, cache=True)
def count_rows(rows, latents, keys, least, counts):
    """Add how many entries each row has with at least that key."""
    for p in range(len(rows)):
        counts[rows[p]] += keys[p] >= least


@njit(nogil=True, cache=True)
def sort_by_row(rows, latents, keys, least, following, sorted_latents, sorted_keys):
    """A counting sort of these entries: stable. `following` tells where the next entry of each row goes."""
    for p in range(len(rows)):
        if keys[p] >= least:
            at = following[rows[p]]
            following[rows[p]] = at + 1
            sorted_latents[at], sorted_keys[at] = latents[p], keys[p]


@njit(nogil=True, cache=True)
def keep_largest(offsets, latents, keys, least, equal, kept_offsets, kept_latents, kept_keys):
    """The entries above `least`, and the first `equal` that are at it."""
    count = 0
    for i in range(len(offsets) - 1):
        kept_offsets[i] = count
        for p in range(offsets[i], offsets[i + 1]):
            if keys[p] == least:
                equal -= 1
            if keys[p] > least or (keys[p] == least and equal >= 0):
                kept_latents[count], kept_keys[count] = latents[p], keys[p]
                count += 1
    kept_offsets[len(offsets) - 1] = count
