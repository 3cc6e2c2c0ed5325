"""The loops of `numba_kernels`: each works on a span of rows (or latents), so that threads can share the rows.

A loop releases the interpreter's lock and writes only to its own span: results do not depend on the number of threads.
`_SUM` lets the compiler keep eight partial sums of a dot product, in an order that is fixed once it is compiled;
no loop assumes that numbers are finite.
"""

import numpy as np
from numba import njit

_SUM = {"reassoc", "contract", "nsz"}


@njit(nogil=True, cache=True)
def group_maxima(row, maxima):
    """maxima[g] = the largest of row[g], row[g + n], row[g + 2n] …, with n groups: plain vector maxima."""
    n = len(maxima)
    for g in range(n):
        maxima[g] = row[g]
    for start in range(n, len(row), n):
        block = row[start : start + n]
        for g in range(len(block)):
            maxima[g] = block[g] if block[g] > maxima[g] else maxima[g]


@njit(nogil=True, cache=True)
def lower_bound(maxima, k):
    """A bound that at least k group maxima reach, found by bisection; 0 if fewer than k are positive."""
    low, high = maxima[0] * 0, maxima.max()
    for _ in range(30):
        middle = (low + high) / 2
        if not (low < middle < high):
            break
        count = 0
        for g in range(len(maxima)):
            count += maxima[g] >= middle
        if count < k:
            high = middle
        else:
            low = middle
            if count <= k + k // 8:
                break
    return low


@njit(nogil=True, cache=True)
def survivors(row, maxima, bound, latents, values):
    """The positive entries of the row that reach the bound: only the groups whose maximum does can hold one."""
    n, found = len(maxima), 0
    for g in range(n):
        if maxima[g] >= bound and maxima[g] > 0:
            for j in range(g, len(row), n):
                if row[j] >= bound and row[j] > 0:
                    latents[found], values[found] = j, row[j]
                    found += 1
    return found


@njit(nogil=True, cache=True)
def kth_largest(values, k):
    """Quickselect; reorders `values`."""
    low, high, target = 0, len(values) - 1, k - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] > pivot:
                left += 1
            while values[right] < pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left, right = left + 1, right - 1
        if target <= right:
            high = right
        elif target >= left:
            low = left
        else:
            break
    return values[target]


@njit(nogil=True, cache=True)
def top_k(pre, k, n_groups, latents, values, counts, start, stop):
    """The k largest positive entries of each row into latents[row, :count] and values[row, :count]."""
    width = pre.shape[1]
    maxima = np.empty(n_groups, pre.dtype)
    near, near_values, scratch = np.empty(width, np.int32), np.empty(width, pre.dtype), np.empty(width, pre.dtype)
    for i in range(start, stop):
        group_maxima(pre[i], maxima)
        found = survivors(pre[i], maxima, lower_bound(maxima, k), near, near_values)
        scratch[:found] = near_values[:found]
        least = kth_largest(scratch[:found], k) if found > k else pre.dtype.type(0)
        equal, count = k, 0
        for s in range(found):
            equal -= near_values[s] > least
        for s in range(found):
            if near_values[s] == least:
                equal -= 1
            if near_values[s] > least or (near_values[s] == least and equal >= 0):
                latents[i, count], values[i, count] = near[s], near_values[s]
                count += 1
        counts[i] = count


@njit(nogil=True, cache=True)
def all_group_maxima(pre, maxima, start, stop):
    for i in range(start, stop):
        group_maxima(pre[i], maxima[i])


@njit(nogil=True, cache=True)
def count_survivors(pre, maxima, bound, counts, start, stop):
    n = maxima.shape[1]
    for i in range(start, stop):
        counts[i] = 0
        for g in range(n):
            if maxima[i, g] >= bound and maxima[i, g] > 0:
                for j in range(g, pre.shape[1], n):
                    counts[i] += pre[i, j] >= bound and pre[i, j] > 0


@njit(nogil=True, cache=True)
def fill_survivors(pre, maxima, bound, offsets, latents, values, start, stop):
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        survivors(pre[i], maxima[i], bound, latents[first:last], values[first:last])


@njit(nogil=True, cache=True)
def keep_largest(offsets, latents, values, least, equal, kept):
    """Compact the entries to those above `least` and the first `equal` that are at it; kept = the new offsets."""
    count = 0
    for i in range(len(offsets) - 1):
        kept[i] = count
        for p in range(offsets[i], offsets[i + 1]):
            if values[p] == least:
                equal -= 1
            if values[p] > least or (values[p] == least and equal >= 0):
                latents[count], values[count] = latents[p], values[p]
                count += 1
    kept[len(offsets) - 1] = count


@njit(nogil=True, cache=True)
def count_above(pre, threshold, counts, start, stop):
    for i in range(start, stop):
        count = 0
        for j in range(pre.shape[1]):
            count += pre[i, j] > threshold[j]
        counts[i] = count


@njit(nogil=True, cache=True)
def fill_above(pre, threshold, offsets, latents, values, start, stop):
    width, block = pre.shape[1], 64
    for i in range(start, stop):
        p = offsets[i]
        for first in range(0, width, block):
            last, count = min(first + block, width), 0
            for j in range(first, last):
                count += pre[i, j] > threshold[j]
            if count > 0:
                for j in range(first, last):
                    if pre[i, j] > threshold[j]:
                        latents[p], values[p] = j, pre[i, j]
                        p += 1


@njit(nogil=True, cache=True, fastmath=_SUM)
def row_dots(offsets, latents, x, table, dots, start, stop):
    for i in range(start, stop):
        for p in range(offsets[i], offsets[i + 1]):
            row, total = table[latents[p]], x.dtype.type(0)
            for c in range(x.shape[1]):
                total += x[i, c] * row[c]
            dots[p] = total


@njit(nogil=True, cache=True, fastmath=_SUM)
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
def decode(offsets, latents, values, W_dec, b_dec, out, start, stop):
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        out[i] = b_dec
        add_rows(W_dec, latents[first:last], values[first:last], out[i])


@njit(nogil=True, cache=True)
def decode_backward(offsets, latents, values, W_dec, b_dec, x, error, gradient, start, stop):
    """The decoder rows of a row's latents are read for the error and, still in cache, for ⟨error, row⟩."""
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        for c in range(x.shape[1]):
            error[i, c] = b_dec[c] - x[i, c]
        add_rows(W_dec, latents[first:last], values[first:last], error[i])
        row_dots(offsets, latents, error, W_dec, gradient, i, i + 1)


@njit(nogil=True, cache=True)
def count_latents(latents, offsets):
    for p in range(len(latents)):
        offsets[latents[p] + 1] += 1
    for j in range(len(offsets) - 1):
        offsets[j + 1] += offsets[j]


@njit(nogil=True, cache=True)
def transpose(offsets, latents, latent_offsets, rows, entries):
    """A counting sort: stable, so the entries of a latent keep the order of the rows."""
    following = latent_offsets[:-1].copy()
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            at = following[latents[p]]
            following[latents[p]] = at + 1
            rows[at], entries[at] = i, p


@njit(nogil=True, cache=True)
def sum_by_latent(offsets, rows, weights, dense, out, start, stop):
    for j in range(start, stop):
        first, last = offsets[j], offsets[j + 1]
        out[j] = 0
        add_rows(dense, rows[first:last], weights[first:last], out[j])


@njit(nogil=True, cache=True, fastmath=_SUM, error_model="numpy")
def adam(weight, gradient, mean, square, numbers, unit_norm, start, stop):
    """numbers = (lr / bias correction of the mean, 1 / √(that of the square), beta1, beta2, eps), of weight's dtype."""
    rate, root, beta1, beta2, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    one = weight.dtype.type(1)
    for j in range(start, stop):
        w, g, m, v = weight[j], gradient[j], mean[j], square[j]
        parallel = weight.dtype.type(0)
        if unit_norm:
            for c in range(len(w)):
                parallel += g[c] * w[c]
        norm = weight.dtype.type(0)
        for c in range(len(w)):
            slope = g[c] - parallel * w[c]
            m[c] = beta1 * m[c] + (one - beta1) * slope
            v[c] = beta2 * v[c] + (one - beta2) * slope * slope
            w[c] -= rate * m[c] / (np.sqrt(v[c]) * root + eps)
            norm += w[c] * w[c]
        if unit_norm:
            scale = one / np.sqrt(norm)
            for c in range(len(w)):
                w[c] *= scale
