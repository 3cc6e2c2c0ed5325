"""Sparse latents of any producer: in memory (`sparse_codes`), on disk (`code_store`), of several side by side."""
