"""Read and set single bits, in compiled loops.

A set of rows is stored as bits, 64 per word: row i is bit i % 64 of word i // 64.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def bit_count(typing_context, word):
    """Count the bits of a uint64 that are set."""
    return types.uint64(types.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@intrinsic
def lowest_bit(typing_context, word):
    """Return the index of the lowest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def set_bit(bits, which, row):
    """Set the bit of a row in one row of bits."""
    bits[which, row >> 6] |= np.uint64(1) << np.uint64(row & 63)


@njit(cache=True, nogil=True)
def get_bit(bits, row):
    """Return the bit of a row, 0 or 1."""
    return np.int64((bits[row >> 6] >> np.uint64(row & 63)) & np.uint64(1))
