"""The loops of `triton_kernels` that pick the largest pre-activations, on the bits of the floats.

Positive floats are ordered as their bits are, so bits are compared as integers, the *keys*; what is not positive, or
not a number, has the key 0 and is never picked. bfloat16 becomes float32 on the way in, which keeps the order.
"""

import triton
import triton.language as tl


@triton.jit
def _keys(values):
    return tl.where(values > 0, values.to(tl.int32, bitcast=True), 0)


@triton.jit
def _kth_largest(keys, n, k, BLOCK: tl.constexpr):
    """A key that exactly k of the n keys reach or, where ties forbid that, the k-th largest; 0 if fewer are above 0."""
    low, high = 0, 0x7F800001  # above the bits of infinity
    while high - low > 1:
        middle = low + (high - low) // 2
        reached = tl.zeros([BLOCK], tl.int32)
        for start in range(0, n, BLOCK):
            at = start + tl.arange(0, BLOCK)
            reached += (tl.load(keys + at, mask=at < n, other=0) >= middle).to(tl.int32)
        count = tl.sum(reached, axis=0)
        if count >= k:
            low = middle
        if count <= k:
            high = tl.maximum(low + 1, middle)
    return low


@triton.jit
def group_maxima(pre, maxima, width, groups, BLOCK: tl.constexpr):
    """The largest key of row[g], row[g + groups], row[g + 2·groups] … for a tile of groups g."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    largest = tl.zeros([BLOCK], tl.int32)
    for start in range(0, width, groups):
        columns = start + group
        values = tl.load(pre + row * width + columns, mask=(group < groups) & (columns < width), other=0.0)
        largest = tl.maximum(largest, _keys(values.to(tl.float32)))
    tl.store(maxima + row * groups + group, largest, mask=group < groups)


@triton.jit
def row_bounds(maxima, bounds, groups, k, BLOCK: tl.constexpr):
    """A key above 0 that the k largest of the row reach, because k of its group maxima do."""
    row = tl.program_id(0).to(tl.int64)
    tl.store(bounds + row, tl.maximum(_kth_largest(maxima + row * groups, groups, k, BLOCK), 1))


@triton.jit
def _picked(values, bounds, row, columns, inside, BY_LATENT: tl.constexpr):
    """Above the threshold of the latent, or with a key that reaches the row's bound."""
    if BY_LATENT:
        return inside & (values > tl.load(bounds + columns, mask=inside, other=0.0))
    else:
        return inside & (_keys(values) >= tl.load(bounds + row))


@triton.jit
def count_picks(pre, bounds, counts, width, BY_LATENT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(pre + row * width + columns, mask=columns < width, other=0.0).to(tl.float32)
    picked = _picked(values, bounds, row, columns, columns < width, BY_LATENT)
    tl.store(counts + row * tl.num_programs(1) + tl.program_id(1), tl.sum(picked.to(tl.int32), axis=0))


@triton.jit
def fill_picks(pre, bounds, places, latents, picks, width, BY_LATENT: tl.constexpr, BLOCK: tl.constexpr):
    """The picks of one row and one tile, in the order of the latents, from the tile's place on."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tile = row * tl.num_programs(1) + tl.program_id(1)
    first, last = tl.load(places + tile), tl.load(places + tile + 1)
    if first < last:
        values = tl.load(pre + row * width + columns, mask=columns < width, other=0.0).to(tl.float32)
        picked = _picked(values, bounds, row, columns, columns < width, BY_LATENT)
        at = first + tl.cumsum(picked.to(tl.int32), axis=0) - 1
        tl.store(latents + at, columns, mask=picked)
        tl.store(picks + at, values, mask=picked)


@triton.jit
def keep_largest(offsets, latents, keys, k, kept_offsets, kept_latents, kept_keys, BLOCK: tl.constexpr):
    """The k largest keys above 0 of one row, of equal ones the first."""
    row = tl.program_id(0).to(tl.int64)
    first = tl.load(offsets + row)
    n = (tl.load(offsets + row + 1) - first).to(tl.int32)
    place = tl.load(kept_offsets + row)
    least = tl.maximum(_kth_largest(keys + first, n, k, BLOCK), 1)
    above = tl.zeros([BLOCK], tl.int32)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        above += (tl.load(keys + first + at, mask=at < n, other=0) > least).to(tl.int32)
    equal_left = k - tl.sum(above, axis=0)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        key = tl.load(keys + first + at, mask=at < n, other=0)
        equal = (key == least).to(tl.int32)
        kept = (key > least) | ((equal > 0) & (tl.cumsum(equal, axis=0) <= equal_left))
        to = place + tl.cumsum(kept.to(tl.int32), axis=0) - 1
        tl.store(kept_latents + to, tl.load(latents + first + at, mask=kept, other=0), mask=kept)
        tl.store(kept_keys + to, key, mask=kept)
        equal_left -= tl.sum(equal, axis=0)
        place += tl.sum(kept.to(tl.int32), axis=0)
