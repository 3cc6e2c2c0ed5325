"""What every latent of a dictionary fires on: one scan of the codes of a token set → tables on disk, and their store.

Each accumulator counts one thing, and all are fed by the same chunks. Everything is counted exactly unless its module
says otherwise, and no result depends on how the rows were cut into chunks: counts are integers, sums run in token
order, and samples keep the smallest hashes.
"""
