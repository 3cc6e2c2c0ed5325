"""Sums over pairs, samples and nulls against their definitions written out."""

import numpy as np
import pytest
import torch
from scipy import stats

from analyses.scorecard.pair_sums import PairSummer
from interp.codes.reading import read_chunks
from interp.codes.sampling import FiringSampler, hashed
from interp.codes.sparse_codes import SparseCodes
from interp.verdict.nulls import null_scale, rows_per_group


def random_codes(rng, n_rows, d_sae, share=0.3):
    z = rng.gamma(2, 1, (n_rows, d_sae)) * (rng.random((n_rows, d_sae)) < share)
    return z.astype(np.float32), SparseCodes.from_dense(torch.from_numpy(z.astype(np.float32)))


def test_pair_sums_are_all_pairs_of_firings_in_different_groups():
    rng = np.random.default_rng(0)
    n_rows, per_group, dim = 60, 5, 4
    z, codes = random_codes(rng, n_rows, 3)
    e = rng.normal(size=(n_rows, 2 * dim)).astype(np.float32)
    summer = PairSummer(3, e.__getitem__, per_group, n_blocks=2)
    for chunk in read_chunks(codes, per_group, maxima=z.max(0)):
        summer.add(chunk)
    sums = summer.result()
    a, group = z / z.max(0), np.arange(n_rows) // per_group
    apart = group[:, None] != group[None, :]
    for latent in range(3):
        weights = np.outer(a[:, latent], a[:, latent]) * apart
        for block, part in enumerate((e[:, :dim], e[:, dim:])):
            expected = (weights * (part @ part.T)).sum() / weights.sum()
            assert sums.coherences[latent, block] == pytest.approx(expected, abs=1e-4)
        assert sums.n_groups[latent] == len(np.unique(group[z[:, latent] > 0]))


def test_a_burst_of_firings_earns_no_coherence():
    """Each sequence has a context of its own, and the latent fires in bursts: firings of one sequence are alike."""
    rng = np.random.default_rng(1)
    per_group, dim = 16, 32
    directions = rng.normal(size=(100, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    e = np.repeat(directions, per_group, 0).astype(np.float32)
    z = (np.arange(len(e)) % per_group < 8).astype(np.float32)[:, None]
    summer = PairSummer(1, np.hstack([e, e]).__getitem__, per_group, n_blocks=2)
    (chunk,) = read_chunks(SparseCodes.from_dense(torch.from_numpy(z)), per_group, maxima=z.max(0))
    summer.add(chunk)
    assert abs(summer.result().coherences[0, 0]) < 0.01


def hash_of(seed: int, row: int, latent: int) -> int:
    of_row = np.uint64(hashed(np.uint64(seed), np.uint64(row)))
    return int(hashed(of_row, np.uint64(latent))) >> 11


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


def test_null_z_is_standard_normal_under_the_null_at_every_size():
    rng = np.random.default_rng(7)
    size = rng.uniform(10, 1000, 4000)
    nulls, observed = (0.05 + rng.normal(size=(k, 4000)) / size for k in (2, 1))
    scale = null_scale(observed[0], nulls, size)
    z = scale.z
    inside = (scale.low <= observed[0]) & (observed[0] <= scale.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.02)
    for part in (size < 200, size > 700):
        assert abs(z[part].mean()) < 0.15 and 0.85 < z[part].std() < 1.15
    shifted = null_scale(observed[0] + 10 / size, nulls, size)
    assert shifted.z.mean() == pytest.approx(10, abs=0.5)
    nothing = null_scale(np.array([np.nan, 1.0]), np.full((1, 2), np.nan), np.ones(2))
    assert all(np.isnan(part).all() for part in nothing)


def test_shares_add_up_to_the_mass_of_each_slice():
    rng = np.random.default_rng(11)
    z, codes = random_codes(rng, 3000, 2)
    sampler = FiringSampler(2, 4, 16, seed=0, rows_per_group=10)
    for chunk in read_chunks(codes, 10, maxima=z.max(0)):
        sampler.add(chunk)
    for latent in range(2):
        part = np.clip(np.ceil(z[:, latent] / z[:, latent].max() * 4).astype(int) - 1, 0, 3)
        mass = np.bincount(part, z[:, latent], minlength=4) / z[:, latent].sum()
        np.testing.assert_allclose(sampler.shares[latent].sum(1), mass, rtol=1e-4)


@pytest.mark.parametrize(
    ("n_seq", "n_ctx", "rows"),
    [
        *((n_seq, 128, 128) for n_seq in (1, 15, 192, 1023)),
        *((n_seq, 128, 256) for n_seq in (1024, 1100)),
        *((n_seq, 128, 8 * 128) for n_seq in (4096, 100_000)),
        *((n_seq, 255, 255) for n_seq in (1, 15, 1023)),
        *((n_seq, 2000, 2000) for n_seq in (160, 1023)),
        (159, 2000, 1000),
        (15, 2000, 182),
        (2, 2000, 134),
        (1, 1 << 20, (1 << 20) // 160 + 1),
    ],
)
def test_only_long_sequences_are_cut_and_only_where_there_are_few(n_seq, n_ctx, rows):
    assert rows_per_group(n_seq, n_ctx) == rows
    assert rows >= min(n_ctx, 128)
