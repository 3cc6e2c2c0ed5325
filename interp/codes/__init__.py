"""Sparse latents of any producer: in memory (`sparse_codes`), on disk (`code_store`), read in chunks (`reading`), and
sampled from several dictionaries (`joint_sample`).

A latent fires on a row where its code z > 0. That is the one definition of firing in this library: L0, densities, dead
and faint latents, scans and pages count by it (`SparseCodes.fires`). Encoders of `interp.sae` give no z below 0. Codes
of other producers that are below 0 are decoded like any other, and fire nowhere. A top-k encoder may pick a latent at
z = 0, which is stored and does not fire either.
"""
