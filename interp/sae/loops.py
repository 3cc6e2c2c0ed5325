"""The loops of `numba_kernels`: each works on a span of rows (or latents), so that threads can share the rows.

A loop releases the interpreter's lock and writes only to its own span: results do not depend on the number of threads.
`_SUM` lets the compiler keep several partial sums of a dot product, in an order that is fixed once it is compiled. A
loop that writes to an array has no such freedom: where two arrays lie near one another the compiler's own check sends
it to a plain loop, which would then add up in another order. No loop assumes that numbers are finite.
"""

import numpy as np
from numba import njit

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
def rescore(offsets, latents, x, encoder, b_enc, values, start, stop):
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        dots(x[i], encoder, latents[first:last], values[first:last])
        for p in range(first, last):
            values[p] += b_enc[latents[p]]


@njit(nogil=True, cache=True)
def squared_norms(rows):
    """‖row‖² of each row."""
    norms = np.empty(len(rows), rows.dtype)
    for h in range(len(rows)):
        norms[h] = dot(rows[h], rows[h])
    return norms


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
        dots(error[i], W_dec, latents[first:last], gradient[first:last])


@njit(nogil=True, cache=True)
def longest_bag(offsets, start, stop):
    longest = 0
    for i in range(start, stop):
        longest = max(longest, offsets[i + 1] - offsets[i])
    return longest


@njit(nogil=True, cache=True)
def nested_backward(offsets, latents, values, W_dec, b_dec, x, ends, error, residuals, gradient, squares, start, stop):
    """Entries are put into the order of the groups first: a prefix adds its group's rows to the shorter one's sum."""
    n_groups, longest = len(ends), longest_bag(offsets, start, stop)
    cuts, at = np.empty(n_groups + 1, np.int64), np.empty(n_groups, np.int64)
    order, ids = np.empty(longest, np.int64), np.empty(longest, latents.dtype)
    weights, slopes = np.empty(longest, values.dtype), np.empty(longest, values.dtype)
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        cuts[:] = 0
        for p in range(first, last):
            cuts[np.searchsorted(ends, latents[p], "right") + 1] += 1
        for h in range(n_groups):
            cuts[h + 1] += cuts[h]
            at[h] = cuts[h]
        for p in range(first, last):
            h = np.searchsorted(ends, latents[p], "right")
            order[at[h]], ids[at[h]], weights[at[h]] = p, latents[p], values[p]
            at[h] += 1
        for h in range(n_groups):
            residuals[h, i] = b_dec - x[i] if h == 0 else residuals[h - 1, i]
            add_rows(W_dec, ids[cuts[h] : cuts[h + 1]], weights[cuts[h] : cuts[h + 1]], residuals[h, i])
        error[i] = residuals[n_groups - 1, i]
        squares[i] = squared_norms(residuals[:, i])
        for h in range(n_groups - 1, -1, -1):
            if h + 1 < n_groups:
                residuals[h, i] += residuals[h + 1, i]
            dots(residuals[h, i], W_dec, ids[cuts[h] : cuts[h + 1]], slopes[cuts[h] : cuts[h + 1]])
        for q in range(last - first):
            gradient[order[q]] = slopes[q]


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
def sum_by_latent(offsets, rows, entries, weights, dense, out, start, stop):
    for j in range(start, stop):
        first, last = offsets[j], offsets[j + 1]
        out[j] = 0
        add_rows(dense, rows[first:last], weights[entries[first:last]], out[j])


@njit(nogil=True, cache=True)
def latent_sums(offsets, entries, weights, out, start, stop):
    for j in range(start, stop):
        out[j] = 0
        for p in range(offsets[j], offsets[j + 1]):
            out[j] += weights[entries[p]]


@njit(nogil=True, cache=True, fastmath=_SUM)
def squared_distances(x, point, squares, start, stop):
    for i in range(start, stop):
        total = x.dtype.type(0)
        for c in range(x.shape[1]):
            total += (x[i, c] - point[c]) * (x[i, c] - point[c])
        squares[i] = total


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
def adam_row(w, g, m, v, numbers, unit_norm):
    """numbers = (lr / bias correction of the mean, 1 / √(that of the square), beta1, beta2, eps, rests)."""
    rate, root, beta1, beta2, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    rest1, rest2 = numbers[5], numbers[6]
    parallel = dot(g, w) if unit_norm else w.dtype.type(0)
    for c in range(len(w)):
        slope = g[c] - parallel * w[c]
        m[c] = beta1 * m[c] + rest1 * slope
        v[c] = beta2 * v[c] + rest2 * slope * slope
        w[c] -= rate * m[c] / (np.sqrt(v[c]) * root + eps)
    if unit_norm:
        scale = w.dtype.type(1) / np.sqrt(dot(w, w))
        for c in range(len(w)):
            w[c] *= scale


@njit(nogil=True, cache=True)
def adam(weight, gradient, mean, square, numbers, unit_norm, start, stop):
    for j in range(start, stop):
        adam_row(weight[j], gradient[j], mean[j], square[j], numbers, unit_norm)


@njit(nogil=True, cache=True)
def sum_by_latent_adam(offsets, rows, entries, weights, dense, weight, mean, square, numbers, unit_norm, start, stop):
    """The gradient of a latent is used while it is in cache, and never stored."""
    gradient = np.empty(dense.shape[1], dense.dtype)
    for j in range(start, stop):
        first, last = offsets[j], offsets[j + 1]
        gradient[:] = 0
        add_rows(dense, rows[first:last], weights[entries[first:last]], gradient)
        adam_row(weight[j], gradient, mean[j], square[j], numbers, unit_norm)
