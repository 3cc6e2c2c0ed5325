"""Which neighbouring rows count as one observation, a group, and by how much the codes are shifted for a null.

Firings of one passage share what the passage is about, so evidence is counted between groups of rows only:

    sequences ≥ 1024        up to 8 sequences a group, so that 512 groups are left: neighbours often share a document
    160 to 1023             one sequence a group
    fewer                   a sequence is min(⌊n_ctx / 128⌋, ⌈160 / n_seq⌉) groups, so that about 160 are reached

160 is as many as firings are sampled of a latent; sequences of fewer than 256 rows are never cut. Rows are counted
through the text in groups of one size, so a block may lie across the edge between two sequences.

A circular shift by s rows gives row i the tokens of row (i + s) mod n_rows and leaves the codes as they are: a latent
keeps its rate, its bursts and its company, and loses its meaning (Harris 2020, arXiv 2012.06862). s is at least a group
and a sequence, either way round, or a quarter of a text that is too short for that.

Failing: blocks of one document are less independent than documents. A topic of one long document counts once a block,
and the two halves of the groups share their documents, so what sets a document apart can pass for a meaning of a latent
that fires in it alone. Many short sequences are better evidence than a few long ones.
"""

import numpy as np

from interp.metrics.null_scale import POOL

TARGET_GROUPS, MIN_BLOCK = 160, 128
MAX_SEQUENCES, MIN_LEFT = 8, 512


def rows_per_group(n_seq: int, n_ctx: int) -> int:
    """Rows of a group in a text of `n_seq` sequences of `n_ctx` rows."""
    blocks = min(n_ctx // MIN_BLOCK, -(-TARGET_GROUPS // max(n_seq, 1)))
    if blocks > 1:
        return -(-n_ctx // blocks)
    return max(1, min(MAX_SEQUENCES, n_seq // MIN_LEFT)) * n_ctx


def circular_shifts(
    n_seq: int, n_ctx: int, nulls: int, n_latents: int, seed: int, rng: np.random.Generator | None = None
) -> list[int]:
    """The rows by which each null shifts: `nulls` of them, more where so few latents fire that their nulls would be
    fewer than POOL together: the spread of a few is no scale. 0 stays 0. rng: draws the first `nulls`; None: a new one
    from the seed."""
    n_rows = n_seq * n_ctx
    first = min(max(rows_per_group(n_seq, n_ctx), n_ctx), n_rows // 4)
    end = max(n_rows - first, first + 1)
    shifts = (rng or np.random.default_rng(seed)).integers(first, end, nulls).tolist()
    more = max(0, -(-POOL // n_latents) - nulls) if nulls and n_latents else 0
    return shifts + np.random.default_rng([seed, POOL]).integers(first, end, more).tolist()
