"""The compiled loops of `numba_kernels`: sums over entries, Adam, and picks of the largest pre-activations.

Each works on a span of rows (or latents), releases the interpreter's lock and writes only to its own span, so threads
can share the rows and results do not depend on their number. `_SUM` lets the compiler keep several partial sums of a
dot product, in an order that is fixed once it is compiled. A loop that writes to an array has no such freedom: if two
arrays are close in memory, the compiler's own check chooses a plain loop, which would add up in another order. No loop
assumes that numbers are finite.

Picks work on the bits of the floats: positive floats of any width are ordered as their bits are when read as integers
(keys), and floats below zero have keys below zero. So one loop serves every dtype, bounds are exact, and bfloat16 keys
go 32 to a vector. Pre-activations come in tiles of rows and latents; only entries above a lower bound of the picks are
kept, as candidates, and these raise the bound, so each tile is read once, while it is in cache. Latents come in order,
and of equal entries the first is picked.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from interp.statistics.bits import bit_count, lowest_bit

LANES = 64
"""Entries that are compared at once. Tiles and buffers are filled up to a multiple of it, with keys of zero."""
ZERO = np.int64(0)
"""For a literal 0, numba would compile a loop that is given it once more."""
_SUM = {"reassoc", "contract", "nsz"}


@njit(nogil=True, cache=True, fastmath=_SUM)
def dot(x, y):
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@njit(nogil=True, cache=True, fastmath=_SUM)
def dots(x, table, ids, out):
    """out[p] = ⟨x, table[ids[p]]⟩, four rows at a time to wait for memory once, not four times."""
    p = 0
    while p + 4 <= len(ids):
        a, b, c, d = table[ids[p]], table[ids[p + 1]], table[ids[p + 2]], table[ids[p + 3]]
        t = u = v = w = x.dtype.type(0)
        for i in range(len(x)):
            t += x[i] * a[i]
            u += x[i] * b[i]
            v += x[i] * c[i]
            w += x[i] * d[i]
        out[p], out[p + 1], out[p + 2], out[p + 3] = t, u, v, w
        p += 4
    while p < len(ids):
        out[p] = dot(x, table[ids[p]])
        p += 1


@njit(nogil=True, cache=True)
def add_rows(table, ids, weights, out):
    """out += Σ weights[p] · table[ids[p]], four rows at a time to spare loads of out."""
    p = 0
    while p + 4 <= len(ids):
        a, b, c, d = table[ids[p]], table[ids[p + 1]], table[ids[p + 2]], table[ids[p + 3]]
        t, u, v, w = weights[p], weights[p + 1], weights[p + 2], weights[p + 3]
        for i in range(len(out)):
            out[i] += (t * a[i] + u * b[i]) + (v * c[i] + w * d[i])
        p += 4
    while p < len(ids):
        a, t = table[ids[p]], weights[p]
        for i in range(len(out)):
            out[i] += t * a[i]
        p += 1


@njit(nogil=True, cache=True)
def bags(offsets, ids, weights, table, out, start, stop):
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        out[i] = 0
        add_rows(table, ids[first:last], weights[first:last], out[i])


@njit(nogil=True, cache=True)
def row_dots(offsets, ids, x, table, out, start, stop):
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        dots(x[i], table, ids[first:last], out[first:last])


@njit(nogil=True, cache=True)
def decode_backward(offsets, latents, values, W_dec, b_dec, x, error, gradient, start, stop):
    """The decoder rows of a row's latents are read for the error and, still in cache, for ⟨error, row⟩."""
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        for c in range(x.shape[1]):
            error[i, c] = b_dec[c] - x[i, c]
        add_rows(W_dec, latents[first:last], values[first:last], error[i])
        dots(error[i], W_dec, latents[first:last], gradient[first:last])


@njit(nogil=True, cache=True)
def transpose(offsets, latents, latent_offsets, rows, entries):
    """A counting sort: stable, so the entries of a latent keep the order of the rows."""
    for p in range(len(latents)):
        latent_offsets[latents[p] + 1] += 1
    for j in range(len(latent_offsets) - 1):
        latent_offsets[j + 1] += latent_offsets[j]
    following = latent_offsets[:-1].copy()
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            at = following[latents[p]]
            following[latents[p]] = at + 1
            rows[at], entries[at] = i, p


@njit(nogil=True, cache=True)
def scatter(offsets, ids, weights, dense):
    """Add the entries of each bag to its row of a dense matrix."""
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            dense[i, ids[p]] += weights[p]


@njit(nogil=True, cache=True)
def gather(offsets, ids, dense, out):
    """The number of a dense matrix that stands at each entry."""
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            out[p] = dense[i, ids[p]]


@njit(nogil=True, cache=True, error_model="numpy")
def adam_row(w, g, m, v, coefficients, unit_norm):
    """coefficients: of an `AdamStep`."""
    rate, correction, eps = coefficients[0], coefficients[1], coefficients[4]
    beta1, beta2 = coefficients[2], coefficients[3]
    new_mean, new_square = coefficients[5], coefficients[6]
    parallel = dot(g, w) if unit_norm else w.dtype.type(0)
    for c in range(len(w)):
        slope = g[c] - parallel * w[c]
        m[c] = beta1 * m[c] + new_mean * slope
        v[c] = beta2 * v[c] + new_square * slope * slope
        w[c] -= rate * m[c] / (np.sqrt(v[c]) * correction + eps)
    if unit_norm:
        scale = w.dtype.type(1) / np.sqrt(dot(w, w))
        for c in range(len(w)):
            w[c] *= scale


@njit(nogil=True, cache=True)
def adam(gradient, weight, mean, square, coefficients, unit_norm, start, stop):
    for j in range(start, stop):
        adam_row(weight[j], gradient[j], mean[j], square[j], coefficients, unit_norm)


@njit(nogil=True, cache=True)
def sum_by_latent_adam(offsets, rows, weights, dense, weight, mean, square, coefficients, unit_norm, start, stop):
    """The gradient of a latent is used while it is in cache, and never stored."""
    gradient = np.empty(dense.shape[1], dense.dtype)
    for j in range(start, stop):
        first, last = offsets[j], offsets[j + 1]
        gradient[:] = 0
        add_rows(dense, rows[first:last], weights[first:last], gradient)
        adam_row(weight[j], gradient, mean[j], square[j], coefficients, unit_norm)


@intrinsic
def exceeding(typing, row, start, limits, at):
    """Bit b of the result: whether row[start + b] exceeds limits[at + b], in the order of all floats."""

    def generate(context, builder, signature, arguments):
        element = context.get_value_type(row.dtype)
        vector = ir.VectorType(element, LANES)

        def load(array_type, array, index):
            first = builder.gep(context.make_array(array_type)(context, builder, array).data, [index])
            return builder.load(builder.bitcast(first, vector.as_pointer()), align=element.width // 8)

        keys, least = load(row, *arguments[:2]), load(limits, *arguments[2:])
        sign, others = (ir.Constant(vector, [n] * LANES) for n in (element.width - 1, 2 ** (element.width - 1) - 1))
        ordered_keys = builder.xor(keys, builder.and_(builder.ashr(keys, sign), others))
        return builder.bitcast(builder.icmp_signed(">", ordered_keys, least), ir.IntType(LANES))

    return types.uint64(row, types.intp, limits, types.intp), generate


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
    least = kth_largest(keys, n, k, more, limits)
    count = 0
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
    """Add to each row's candidates the candidates of a tile of latents first, first + 1 …; bounds start at 0.

    The maxima of groups of latents give the first bound, one that at least k entries reach.
    """
    maxima = np.zeros(-(-n_groups // LANES) * LANES, tile.dtype)
    limits = np.empty(LANES, tile.dtype)
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
        kept_counts[i], _ = largest(latents[i], keys[i], counts[i], k, ZERO, limits, kept_latents[i], kept_keys[i])


@njit(nogil=True, cache=True)
def keep_top_k(offsets, entry_latents, entry_keys, k, latents, keys, counts, start, stop):
    limits = np.empty(LANES, entry_keys.dtype)
    longest = 0
    for i in range(start, stop):
        longest = max(longest, offsets[i + 1] - offsets[i])
    scratch = np.empty(-(-longest // LANES) * LANES + LANES, entry_keys.dtype)
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        scratch[: last - first] = entry_keys[first:last]
        counts[i], _ = largest(entry_latents[first:last], scratch, last - first, k, ZERO, limits, latents[i], keys[i])


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
def count_rows(rows, keys, lowest, offsets):
    """Add the number of a row's entries with at least that key to offsets[row + 1]."""
    for p in range(len(rows)):
        offsets[rows[p] + 1] += keys[p] >= lowest


@njit(nogil=True, cache=True)
def sort_by_row(rows, latents, keys, lowest, following, sorted_latents, sorted_keys):
    """A counting sort of these entries: stable. `following` has the position of each row's next entry."""
    for p in range(len(rows)):
        if keys[p] >= lowest:
            at = following[rows[p]]
            following[rows[p]] = at + 1
            sorted_latents[at], sorted_keys[at] = latents[p], keys[p]
