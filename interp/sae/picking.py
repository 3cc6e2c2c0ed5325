"""The loops of `numba_kernels` that pick the largest pre-activations, on the bits of the floats.

Positive floats of any width are ordered as their bits are when read as integers (keys), and floats below zero have
keys below zero. So one loop serves every dtype, bounds are exact, and bfloat16 keys go 16 or 32 to a vector.

The pick has two stages: maxima of groups of latents give a lower bound of the k-th largest key that at least k latents
reach; the few that do are then ranked exactly. Each loop works on a span of rows, as in `loops`.
"""

import numpy as np
from numba import njit

from interp.sae.loops import longest_bag


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
def lower_bound(maxima, k):
    """A positive key that at least k group maxima reach, found by bisection; 1 if fewer than k are positive."""
    low, high = np.int64(1), np.int64(maxima.max())
    while low < high:
        middle = high - (high - low) // 2
        count = 0
        for g in range(len(maxima)):
            count += maxima[g] >= middle
        if count < k:
            high = middle - 1
        else:
            low = middle
            if count <= k + k // 8:
                break
    return low


@njit(nogil=True, cache=True)
def survivors(row, maxima, bound, latents, keys):
    """The entries of the row that reach the bound: only the groups whose maximum does can hold one."""
    n, found = len(maxima), 0
    for g in range(n):
        if maxima[g] >= bound:
            for j in range(g, len(row), n):
                if row[j] >= bound:
                    latents[found], keys[found] = j, row[j]
                    found += 1
    return found


@njit(nogil=True, cache=True)
def kth_largest(keys, k):
    """Quickselect; reorders `keys`."""
    low, high, target = 0, len(keys) - 1, k - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while keys[left] > pivot:
                left += 1
            while keys[right] < pivot:
                right -= 1
            if left <= right:
                keys[left], keys[right] = keys[right], keys[left]
                left, right = left + 1, right - 1
        if target <= right:
            high = right
        elif target >= left:
            low = left
        else:
            break
    return keys[target]


@njit(nogil=True, cache=True)
def largest(latents, keys, k, scratch, kept_latents, kept_keys):
    """The k largest positive entries in the order they come in, the first of equal ones; returns how many there are."""
    least = keys.dtype.type(0)
    if len(keys) > k:
        scratch[: len(keys)] = keys
        least = kth_largest(scratch[: len(keys)], k)
    equal, count = k, 0
    for p in range(len(keys)):
        equal -= keys[p] > least
    for p in range(len(keys)):
        if keys[p] == least:
            equal -= 1
        if keys[p] > 0 and (keys[p] > least or (keys[p] == least and equal >= 0)):
            kept_latents[count], kept_keys[count] = latents[p], keys[p]
            count += 1
    return count


@njit(nogil=True, cache=True)
def top_k(pre, k, n_groups, latents, keys, counts, start, stop):
    """The k largest positive entries of each row into latents[row, :count] and keys[row, :count]."""
    width = pre.shape[1]
    maxima = np.empty(n_groups, pre.dtype)
    near, near_keys, scratch = np.empty(width, np.int32), np.empty(width, pre.dtype), np.empty(width, pre.dtype)
    for i in range(start, stop):
        group_maxima(pre[i], maxima)
        found = survivors(pre[i], maxima, lower_bound(maxima, k), near, near_keys)
        counts[i] = largest(near[:found], near_keys[:found], k, scratch, latents[i], keys[i])


@njit(nogil=True, cache=True)
def keep_top_k(offsets, entry_latents, entry_keys, k, latents, keys, counts, start, stop):
    scratch = np.empty(longest_bag(offsets, start, stop), entry_keys.dtype)
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        counts[i] = largest(entry_latents[first:last], entry_keys[first:last], k, scratch, latents[i], keys[i])


@njit(nogil=True, cache=True)
def all_group_maxima(pre, maxima, shift, start, stop):
    """Also returns how many maxima are positive, by their 15 leading bits below the sign."""
    counts = np.zeros(1 << 15, np.int64)
    for i in range(start, stop):
        group_maxima(pre[i], maxima[i])
        for g in range(maxima.shape[1]):
            if maxima[i, g] > 0:
                counts[maxima[i, g] >> shift] += 1
    return counts


@njit(nogil=True, cache=True)
def count_survivors(pre, maxima, bound, counts, start, stop):
    n = maxima.shape[1]
    for i in range(start, stop):
        counts[i] = 0
        for g in range(n):
            if maxima[i, g] >= bound:
                for j in range(g, pre.shape[1], n):
                    counts[i] += pre[i, j] >= bound


@njit(nogil=True, cache=True)
def fill_survivors(pre, maxima, bound, offsets, latents, keys, start, stop):
    for i in range(start, stop):
        first, last = offsets[i], offsets[i + 1]
        survivors(pre[i], maxima[i], bound, latents[first:last], keys[first:last])


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


@njit(nogil=True, cache=True)
def count_above(pre, threshold, sign, counts, start, stop):
    for i in range(start, stop):
        count = 0
        for j in range(pre.shape[1]):
            count += ordered(pre[i, j], sign) > threshold[j]
        counts[i] = count


@njit(nogil=True, cache=True)
def fill_above(pre, threshold, sign, offsets, latents, keys, start, stop):
    width = pre.shape[1]
    hits = np.zeros(-(-width // 8), np.uint64)
    hit = hits.view(np.uint8)
    for i in range(start, stop):
        for j in range(width):
            hit[j] = ordered(pre[i, j], sign) > threshold[j]
        p = offsets[i]
        for eight in range(len(hits)):
            if hits[eight] != 0:
                for j in range(8 * eight, min(8 * eight + 8, width)):
                    if hit[j]:
                        latents[p], keys[p] = j, pre[i, j]
                        p += 1


@njit(nogil=True, cache=True)
def ordered(key, sign):
    """Keys in the order of all floats, those below zero too; sign = the place of the sign bit."""
    return key ^ ((key >> sign) & ((np.int64(1) << sign) - 1))
