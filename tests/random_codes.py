"""Sparse codes drawn at random, and the hash by which their firings are sampled."""

import numpy as np
import torch

from interp.codes.sparse_codes import SparseCodes
from interp.verdict.firing_sampler import hash_pair


def codes_of(z: np.ndarray) -> SparseCodes:
    return SparseCodes.from_dense(torch.from_numpy(z.astype(np.float32)))


def random_codes(rng, n_rows, d_sae, share=0.3):
    z = rng.gamma(2, 1, (n_rows, d_sae)) * (rng.random((n_rows, d_sae)) < share)
    return z.astype(np.float32), codes_of(z)


def hash_of(seed: int, row: int, latent: int) -> int:
    of_row = np.uint64(hash_pair(np.uint64(seed), np.uint64(row)))
    return int(hash_pair(of_row, np.uint64(latent))) >> 11
