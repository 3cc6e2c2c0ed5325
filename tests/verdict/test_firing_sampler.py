"""Samples of firings against their definition written out."""

import numpy as np
import torch
from scipy import stats

from interp.codes.code_chunks import read_chunks
from interp.codes.sparse_codes import SparseCodes
from interp.verdict.firing_sampler import FiringSampler
from tests.random_codes import hash_of, random_codes


def test_a_sample_is_uniform_within_slices_and_takes_one_firing_a_group():
    rng = np.random.default_rng(2)
    n_rows, per_group = 3000, 10
    z, codes = random_codes(rng, n_rows, 2)
    sampler = FiringSampler(2, 4, 16, seed=3, rows_per_group=per_group)
    for chunk in read_chunks(codes, per_group, maxima=z.max(0)):
        sampler.add(chunk)
    for latent in range(2):
        slices = np.ceil(z[:, latent] / z[:, latent].max() * 4) - 1
        for part in range(4):
            best: dict[int, tuple[int, int]] = {}  # of each group the firing of the least key
            for row in np.flatnonzero(slices == part).tolist():
                group = row // per_group
                best[group] = min(best.get(group, (1 << 64, 0)), (hash_of(3, row, latent), row))
            rows = sampler.rows[latent, part]
            assert sorted(rows[rows >= 0]) == sorted(row for _, row in sorted(best.values())[:16])
    many = FiringSampler(1, 1, 500, seed=0, rows_per_group=1)
    for chunk in read_chunks(SparseCodes.from_dense(torch.ones(n_rows, 1))):
        many.add(chunk)
    assert stats.kstest(many.rows[0, 0] / n_rows, "uniform").pvalue > 1e-3


def test_shares_add_up_to_the_mass_and_the_firings_of_each_slice():
    rng = np.random.default_rng(11)
    z, codes = random_codes(rng, 3000, 2)
    sampler = FiringSampler(2, 4, 16, seed=0, rows_per_group=10)
    for chunk in read_chunks(codes, 10, maxima=z.max(0)):
        sampler.add(chunk)
    for latent in range(2):
        part = np.clip(np.ceil(z[:, latent] / z[:, latent].max() * 4).astype(int) - 1, 0, 3)
        mass = np.bincount(part, z[:, latent], minlength=4) / z[:, latent].sum()
        np.testing.assert_allclose(sampler.shares[latent].sum(1), mass, rtol=1e-4)
        firings = np.bincount(part[z[:, latent] > 0], minlength=4) / (z[:, latent] > 0).sum()
        np.testing.assert_allclose(sampler.count_shares[latent].sum(1), firings)
