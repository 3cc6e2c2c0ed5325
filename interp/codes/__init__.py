"""Sparse codes of any producer: which latents fire on which row, and how strongly.

    sparse_codes       codes in memory;   code_store   codes on disk
    code_chunks        both, read chunk by chunk
    dictionary         what a dictionary is
    training_exclusions   what its training left out;   latent_strengths   which of its latents are faint
    dictionary_hooks   the hooks of a model that a dictionary reads and writes
    offsets            where the entries of each row begin

A latent fires on a row where its code z > 0. That is the one definition of firing in this library: L0, densities, dead
and faint latents, scans and pages count by it (`SparseCodes.fires`). Encoders of `interp.sae` give no z below 0. Codes
of other producers that are below 0 are decoded like any other, and fire nowhere. A top-k encoder may pick a latent at
z = 0, which is stored and does not fire either.
"""
