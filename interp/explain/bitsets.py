"""Sets of rows as bits, 64 to a word, for compiled loops: row i is bit i % 64 of word i // 64."""

import numpy as np
from jaxtyping import Bool, UInt64
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def popcount(typingctx, word):
    """How many bits of a uint64 are set."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic
def lowest(typingctx, word):
    """The place of the lowest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), generate


def n_words(n_rows: int) -> int:
    return -(-n_rows // 64)


def pack(mask: Bool[np.ndarray, " row"]) -> UInt64[np.ndarray, " word"]:
    padded = np.zeros(n_words(len(mask)) * 64, bool)
    padded[: len(mask)] = mask
    return np.packbits(padded, bitorder="little").view(np.uint64)


@njit(cache=True, nogil=True)
def transpose(planes, plane, wanted, out):
    """out[i]: the rows whose bit wanted[i] of the plane is set; out is [len(wanted), word], zero before."""
    for row in range(len(planes)):
        own, word, place = planes[row, plane], row >> 6, np.uint64(row & 63)
        for i in range(len(wanted)):
            out[i, word] |= ((own >> np.uint64(wanted[i])) & np.uint64(1)) << place
