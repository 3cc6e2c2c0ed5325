"""What the codes of a token set say about each latent: one accumulator a noun, all fed by the same chunks.

Everything is counted exactly unless its page says otherwise, and no result depends on how the rows were cut
into chunks: counts are integers, sums run in token order, and samples keep the smallest hashes.
"""
