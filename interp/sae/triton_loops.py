"""The loops of `triton_kernels` on a GPU: each program writes to its own rows only, and none needs an atomic.

A program reads the rows of a table that a bag of entries names, several rows at a time, over tiles of columns:
masks cover what a tile holds beyond the width. Sums are float32, in an order that the shapes alone fix.
`triton_picking` has the loops that pick.
"""

import triton
import triton.language as tl


@triton.jit
def _rows_of(table, rows, stored, columns, inside, d):
    """table[rows, columns], zero where an entry or a column is not there."""
    return tl.load(table + rows[:, None] * d + columns[None, :], mask=stored[:, None] & inside[None, :], other=0.0)


@triton.jit
def _weighted_rows(
    total, first, last, ids, weights, table, columns, inside, d, ENTRIES: tl.constexpr, low=None, high=None
):
    """total + Σ weights · table[ids] over the entries first … last, or those of them with low ≤ id < high."""
    for p in range(first, last, ENTRIES):
        entries = p + tl.arange(0, ENTRIES)
        stored = entries < last
        rows = tl.load(ids + entries, mask=stored, other=0).to(tl.int64)
        if high is not None:
            stored = stored & (rows >= low) & (rows < high)
        weight = tl.load(weights + entries, mask=stored, other=0.0)
        total += tl.sum(weight[:, None] * _rows_of(table, rows, stored, columns, inside, d), axis=0)
    return total


@triton.jit
def _dots(dense, rows, stored, table, d, ENTRIES: tl.constexpr, BLOCK: tl.constexpr):
    """⟨dense, table[rows]⟩ for one dense row."""
    products = tl.zeros([ENTRIES, BLOCK], tl.float32)
    for start in range(0, d, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < d
        x = tl.load(dense + columns, mask=inside, other=0.0)
        products += x[None, :] * _rows_of(table, rows, stored, columns, inside, d)
    return tl.sum(products, axis=1)


@triton.jit
def sum_bags(
    starts,
    stops,
    ids,
    weights,
    table,
    bias,
    out,
    d,
    SKIP_EMPTY: tl.constexpr,
    ENTRIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[bag] = bias + Σ weights · table[ids] over the entries of the bag, for one bag and one tile of columns."""
    bag = tl.program_id(0).to(tl.int64)
    first, last = tl.load(starts + bag), tl.load(stops + bag)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < (tl.where(first < last, d, 0) if SKIP_EMPTY else d)
    total = tl.zeros([BLOCK], tl.float32)
    if bias is not None:
        total += tl.load(bias + columns, mask=inside, other=0.0)
    total = _weighted_rows(total, first, last, ids, weights, table, columns, inside, d, ENTRIES)
    tl.store(out + bag * d + columns, total, mask=inside)


@triton.jit
def decode_backward(
    offsets, latents, values, W_dec, b_dec, x, error, gradient, d, ENTRIES: tl.constexpr, BLOCK: tl.constexpr
):
    """error = x_hat − x of one row, then ⟨error, W_dec[latent]⟩ of its entries, while their rows are in cache."""
    row = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + row), tl.load(offsets + row + 1)
    for start in range(0, d, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < d
        total = tl.load(b_dec + columns, mask=inside, other=0.0)
        total -= tl.load(x + row * d + columns, mask=inside, other=0.0)
        total = _weighted_rows(total, first, last, latents, values, W_dec, columns, inside, d, ENTRIES)
        tl.store(error + row * d + columns, total, mask=inside)
    # Threads read below what other threads of the program stored above.
    tl.debug_barrier()
    for p in range(first, last, ENTRIES):
        entries = p + tl.arange(0, ENTRIES)
        stored = entries < last
        rows = tl.load(latents + entries, mask=stored, other=0).to(tl.int64)
        tl.store(gradient + entries, _dots(error + row * d, rows, stored, W_dec, d, ENTRIES, BLOCK), mask=stored)


@triton.jit
def nested_errors(
    offsets,
    latents,
    values,
    W_dec,
    b_dec,
    x,
    ends,
    error,
    residuals,
    squares,
    groups,
    d,
    ENTRIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """For one row and one tile of columns: the errors of all prefixes, their squares, and their sums from the last."""
    row = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + row), tl.load(offsets + row + 1)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < d
    total = tl.load(b_dec + columns, mask=inside, other=0.0)
    total -= tl.load(x + row * d + columns, mask=inside, other=0.0)
    tile = row * tl.num_programs(1) + tl.program_id(1)
    for h in range(groups):
        low, high = tl.load(ends + h - 1, mask=h > 0, other=0), tl.load(ends + h)
        total = _weighted_rows(total, first, last, latents, values, W_dec, columns, inside, d, ENTRIES, low, high)
        tl.store(residuals + (h * tl.num_programs(0) + row) * d + columns, total, mask=inside)
        tl.store(squares + tile * groups + h, tl.sum(total * total, axis=0))
    tl.store(error + row * d + columns, total, mask=inside)
    tl.debug_barrier()
    later = tl.zeros([BLOCK], tl.float32)
    for g in range(groups):
        at = ((groups - 1 - g) * tl.num_programs(0) + row) * d + columns
        later += tl.load(residuals + at, mask=inside, other=0.0)
        tl.store(residuals + at, later, mask=inside)


@triton.jit
def nested_dots(
    offsets, latents, W_dec, ends, residuals, gradient, groups, d, ENTRIES: tl.constexpr, BLOCK: tl.constexpr
):
    """⟨residual of the latent's group, W_dec[latent]⟩ of the entries of one row."""
    row = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + row), tl.load(offsets + row + 1)
    for p in range(first, last, ENTRIES):
        entries = p + tl.arange(0, ENTRIES)
        stored = entries < last
        rows = tl.load(latents + entries, mask=stored, other=0).to(tl.int64)
        group = tl.zeros([ENTRIES], tl.int64)
        for h in range(groups):
            group += (rows >= tl.load(ends + h)).to(tl.int64)
        products = tl.zeros([ENTRIES, BLOCK], tl.float32)
        for start in range(0, d, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            inside = columns < d
            residual = _rows_of(residuals, group * tl.num_programs(0) + row, stored, columns, inside, d)
            products += residual * _rows_of(W_dec, rows, stored, columns, inside, d)
        tl.store(gradient + entries, tl.sum(products, axis=1), mask=stored)


@triton.jit
def rescore(offsets, latents, x, encoder, b_enc, values, d, ENTRIES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    first, last = tl.load(offsets + row), tl.load(offsets + row + 1)
    for p in range(first, last, ENTRIES):
        entries = p + tl.arange(0, ENTRIES)
        stored = entries < last
        rows = tl.load(latents + entries, mask=stored, other=0).to(tl.int64)
        pre = _dots(x + row * d, rows, stored, encoder, d, ENTRIES, BLOCK)
        pre += tl.load(b_enc + rows, mask=stored, other=0.0)
        tl.store(values + entries, pre, mask=stored)


@triton.jit
def _moved(weight, slope, mean, square, at, inside, rate, root, beta1, rest1, beta2, rest2, eps):
    """The weights after an Adam step, with both moments updated in memory."""
    m = beta1 * tl.load(mean + at, mask=inside, other=0.0) + rest1 * slope
    v = beta2 * tl.load(square + at, mask=inside, other=0.0) + rest2 * slope * slope
    tl.store(mean + at, m, mask=inside)
    tl.store(square + at, v, mask=inside)
    return weight - rate * m / (tl.sqrt_rn(v) * root + eps)


@triton.jit
def adam(weight, gradient, mean, square, n, rate, root, beta1, rest1, beta2, rest2, eps, BLOCK: tl.constexpr):
    """rate = lr / bias correction of the mean, root = 1 / √(that of the square), rest = 1 − beta."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    w = tl.load(weight + at, mask=inside, other=0.0)
    slope = tl.load(gradient + at, mask=inside, other=0.0)
    w = _moved(w, slope, mean, square, at, inside, rate, root, beta1, rest1, beta2, rest2, eps)
    tl.store(weight + at, w, mask=inside)


@triton.jit
def adam_unit_rows(weight, gradient, mean, square, d, rate, root, beta1, rest1, beta2, rest2, eps, BLOCK: tl.constexpr):
    """`adam` on one row of norm one, without the gradient parallel to it, and back to norm one."""
    row = tl.program_id(0).to(tl.int64)
    products = tl.zeros([BLOCK], tl.float32)
    for start in range(0, d, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        at, inside = row * d + columns, columns < d
        w = tl.load(weight + at, mask=inside, other=0.0)
        products += w * tl.load(gradient + at, mask=inside, other=0.0)
    parallel = tl.sum(products, axis=0)
    squares = tl.zeros([BLOCK], tl.float32)
    for start in range(0, d, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        at, inside = row * d + columns, columns < d
        w = tl.load(weight + at, mask=inside, other=0.0)
        slope = tl.load(gradient + at, mask=inside, other=0.0) - parallel * w
        w = _moved(w, slope, mean, square, at, inside, rate, root, beta1, rest1, beta2, rest2, eps)
        squares += w * w
        tl.store(weight + at, w, mask=inside)
    norm = tl.sqrt_rn(tl.sum(squares, axis=0))
    tl.debug_barrier()
    for start in range(0, d, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        at, inside = row * d + columns, columns < d
        tl.store(weight + at, tl.load(weight + at, mask=inside, other=0.0) / norm, mask=inside)
