"""Describe the firings of every latent of a dictionary. One scan of the codes of a token set writes tables, and a store
reads them.

A scan sorts the firings by latent once; each table is then a function of a latent's rows and values. Everything is
counted exactly unless a module says otherwise. No result depends on how the rows were cut into chunks: counts are
integers, sums run in token order, and samples keep the smallest hashes.
"""
