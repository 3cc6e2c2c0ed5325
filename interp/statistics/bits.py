"""Count the bits of a word, in compiled loops."""

from numba import types
from numba.extending import intrinsic


@intrinsic
def bit_count(typing_context, word):
    """Count the bits of a uint64 that are set."""
    return types.uint64(types.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])
