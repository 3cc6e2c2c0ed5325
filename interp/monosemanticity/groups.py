"""Which neighbouring rows count as one observation, a group: firings of one passage share what the passage is about.

    sequences ≥ 1024        up to 8 sequences a group, so that 512 groups are left: neighbours often share a document
    160 to 1023             one sequence a group
    fewer                   a sequence is min(⌊n_ctx / 128⌋, ⌈160 / n_seq⌉) groups, so that about 160 are reached

160 is as many as firings are sampled of a latent; sequences of fewer than 256 rows are never cut. Rows are counted
through the text in groups of one size, so a block may lie across the edge between two sequences.
Failing: blocks of one document are less independent than documents. A topic of one long document counts once a block,
and the two halves of the groups share their documents, so what sets a document apart can pass for a meaning of a latent
that fires in it alone. Many short sequences are better evidence than a few long ones.
"""

TARGET_GROUPS, MIN_BLOCK = 160, 128
MAX_SEQUENCES, MIN_LEFT = 8, 512


def rows_per_group(n_seq: int, n_ctx: int) -> int:
    """Rows of a group in a text of `n_seq` sequences of `n_ctx` rows."""
    blocks = min(n_ctx // MIN_BLOCK, -(-TARGET_GROUPS // max(n_seq, 1)))
    if blocks > 1:
        return -(-n_ctx // blocks)
    return max(1, min(MAX_SEQUENCES, n_seq // MIN_LEFT)) * n_ctx
