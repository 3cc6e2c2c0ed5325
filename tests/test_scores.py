"""The measures against their definitions written out, and against points whose modes are known."""

import numpy as np
import pytest
import torch
from scipy import stats

from interp.codes import SparseCodes
from interp.scores.coherence import CONSISTENCY_FLOOR, SLICE_MINIMUM, null_z, sample_coherence
from interp.scores.contexts import ContextConfig, fit_contexts
from interp.scores.evidence import EvidenceConfig, collect_evidence
from interp.scores.firings import FiringSampler, PairSummer, chunks
from interp.scores.senses import _binomial_tail, count_senses


def random_codes(rng, n_rows, d_sae, share=0.3):
    z = rng.gamma(2, 1, (n_rows, d_sae)) * (rng.random((n_rows, d_sae)) < share)
    return z.astype(np.float32), SparseCodes.from_dense(torch.from_numpy(z.astype(np.float32)))


def test_pair_sums_are_all_pairs_of_firings_in_different_groups():
    rng = np.random.default_rng(0)
    n_rows, per_group, dim = 60, 5, 4
    z, codes = random_codes(rng, n_rows, 3)
    e = rng.normal(size=(n_rows, 2 * dim)).astype(np.float32)
    summer = PairSummer(3, 2 * dim)
    for chunk in chunks(codes, z.max(0), per_group):
        summer.add(chunk, e[chunk.start : chunk.start + len(chunk.offsets) - 1], per_group)
    sums = summer.result()
    a, group = z / z.max(0), np.arange(n_rows) // per_group
    apart = group[:, None] != group[None, :]
    for latent in range(3):
        weights = np.outer(a[:, latent], a[:, latent]) * apart
        for block, part in enumerate((e[:, :dim], e[:, dim:])):
            expected = (weights * (part @ part.T)).sum() / weights.sum()
            assert sums.coherence(block)[latent] == pytest.approx(expected, abs=1e-4)
        assert sums.n_groups[latent] == len(np.unique(group[z[:, latent] > 0]))
        np.testing.assert_allclose(sums.centre[latent], a[:, latent] @ e / a[:, latent].sum(), atol=1e-5)


def test_a_burst_of_firings_earns_no_coherence():
    """Each sequence has a context of its own, and the latent fires in bursts: firings of one sequence are alike."""
    rng = np.random.default_rng(1)
    per_group, dim = 16, 32
    directions = rng.normal(size=(100, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    e = np.repeat(directions, per_group, 0).astype(np.float32)
    z = (np.arange(len(e)) % per_group < 8).astype(np.float32)[:, None]
    summer = PairSummer(1, 2 * dim)
    (chunk,) = chunks(SparseCodes.from_dense(torch.from_numpy(z)), z.max(0), per_group)
    summer.add(chunk, np.hstack([e, e]), per_group)
    assert abs(summer.result().coherence(0)[0]) < 0.01


def test_a_sample_is_uniform_within_slices_and_takes_one_firing_a_group():
    rng = np.random.default_rng(2)
    n_rows, per_group = 3000, 10
    z, codes = random_codes(rng, n_rows, 2)
    sampler = FiringSampler(2, 4, 16, seed=3)
    for chunk in chunks(codes, z.max(0), per_group):
        sampler.add(chunk, per_group)
    for latent in range(2):
        for part in range(4):
            rows = sampler.rows[latent, part]
            rows = rows[rows >= 0]
            strength = z[rows, latent] / z[:, latent].max()
            assert ((strength > part / 4 - 1e-6) & (strength <= (part + 1) / 4 + 1e-6)).all()
            assert len(np.unique(rows // per_group)) == len(rows)
    many = FiringSampler(1, 1, 500, seed=0)
    for chunk in chunks(SparseCodes.from_dense(torch.ones(n_rows, 1)), np.ones(1, np.float32), 1):
        many.add(chunk, 1)
    assert stats.kstest(many.rows[0, 0] / n_rows, "uniform").pvalue > 1e-3


def test_an_embedding_sums_the_window_without_its_middle_and_stays_in_its_sequence():
    rng = np.random.default_rng(4)
    tokens = rng.integers(20, size=(50, 12)).astype(np.int32)
    contexts = fit_contexts(torch.from_numpy(tokens), 20, ContextConfig(dim=8, past=3, future=2))
    rows = np.arange(tokens.size)
    embedded = contexts.embed(tokens, rows).reshape(*tokens.shape, -1)
    for sequence, position in [(0, 0), (7, 5), (49, 11)]:
        window = [p for p in range(position - 3, position + 3) if 0 <= p < 12 and p != position]
        expected = contexts.summands[tokens[sequence, window]].sum(0) - contexts.mean
        np.testing.assert_allclose(embedded[sequence, position], expected / np.linalg.norm(expected), atol=1e-5)


def test_tokens_of_one_topic_get_like_vectors():
    rng = np.random.default_rng(5)
    topic = rng.integers(4, size=(200, 1))
    tokens = torch.from_numpy((topic * 10 + rng.integers(10, size=(200, 32))).astype(np.int32))
    vectors = fit_contexts(tokens, 41).token_vectors
    cosine = (vectors @ vectors.T)[:40, :40]
    same = np.arange(40)[:, None] // 10 == np.arange(40)[None, :] // 10
    assert cosine[same].mean() > 0.8 and cosine[~same].mean() < 0.1
    assert not vectors[40].any()


def test_token_ids_beyond_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="from 0 to 9, but the vocabulary has 5"):
        fit_contexts(torch.arange(10, dtype=torch.int32)[None], 5)


def test_sample_coherence_and_consistency_are_their_definitions():
    rng = np.random.default_rng(6)
    n, dim = 40, 6
    contexts, tokens = rng.normal(0.3, 1, (2, 1, n, dim)).astype(np.float32)
    slices = np.repeat(np.arange(4), 10)
    groups = rng.integers(12, size=(1, n))
    present = rng.random((1, n)) < 0.9
    present[0, 33:40] = False  # the last slice has too few firings
    weights = np.stack([np.ones(n), rng.poisson(1.0, n)], 1).astype(np.float32)
    arrays = (contexts, tokens, slices, groups, present, weights)
    got = sample_coherence(*(torch.from_numpy(array) for array in arrays))
    assert present[0, slices == 3].sum() < SLICE_MINIMUM
    for column in range(2):
        w = weights[:, column] * present[0]
        pairs = np.outer(w, w) * (groups[0][:, None] != groups[0][None, :])
        dots = contexts[0] @ contexts[0].T
        assert got.context[column, 0] == pytest.approx((pairs * dots).sum() / pairs.sum(), abs=1e-4)
        mean = np.empty((3, 3))
        for u in range(3):
            for v in range(3):
                block = np.ix_(slices == u, slices == v)
                mean[u, v] = (pairs * dots)[block].sum() / pairs[block].sum()
        across = mean[~np.eye(3, dtype=bool)].mean()
        expected = np.clip(across / max(np.diag(mean).mean(), CONSISTENCY_FLOOR), -1, 1)
        assert got.consistency[column, 0] == pytest.approx(expected, abs=1e-4)


def test_null_z_is_standard_normal_under_the_null_at_every_size():
    rng = np.random.default_rng(7)
    size = rng.uniform(10, 1000, 4000)
    nulls, observed = (0.05 + rng.normal(size=(k, 4000)) / size for k in (2, 1))
    z = null_z(observed[0], nulls, size, size_exponent=1.0)
    for part in (size < 200, size > 700):
        assert abs(z[part].mean()) < 0.15 and 0.85 < z[part].std() < 1.15
    shifted = null_z(observed[0] + 10 / size, nulls, size, size_exponent=1.0)
    assert shifted.mean() == pytest.approx(10, abs=0.5)
    assert np.isnan(null_z(np.array([np.nan, 1.0]), np.full((1, 2), np.nan), np.ones(2))).all()


@pytest.mark.parametrize("n_modes", [1, 2, 3])
def test_modes_are_counted(n_modes):
    rng = np.random.default_rng(8)
    units, n, dim = 60, 160, 32
    centres = rng.normal(size=(units, n_modes, dim)) * 2 / np.sqrt(dim)
    points = centres[np.arange(units)[:, None], rng.integers(n_modes, size=(units, n))]
    points = (points + rng.normal(size=points.shape) * 0.25).astype(np.float32)
    assert (senses_of(points, rng) == n_modes).mean() > 0.8


@pytest.mark.parametrize("shape", ["student", "exponential", "uniform"])
def test_one_mode_of_any_shape_is_seldom_split(shape):
    rng = np.random.default_rng(9)
    size = (150, 160, 16)
    draw = {"student": lambda: rng.standard_t(3, size), "exponential": lambda: rng.exponential(size=size)}
    points = draw.get(shape, lambda: rng.uniform(-1, 1, size))().astype(np.float32)
    assert (senses_of(points, rng) > 1).mean() <= 0.04


def test_kin_are_one_sense_and_so_is_a_speck_of_the_mass():
    """Two modes with a clear valley: two senses unless their centres resemble each other, or one holds little mass."""
    rng = np.random.default_rng(10)
    units, n, dim = 40, 160, 32
    side = np.arange(n) % 2
    axes = np.eye(dim)[:3]
    noise = rng.normal(size=(units, n, dim)) * 0.05
    apart = axes[side] + noise
    kin = 2 * axes[2] + 0.8 * axes[side] + noise
    speck = np.where(side, 0.05, 0.95) * 2 / n
    assert (senses_of(apart, rng) == 2).mean() > 0.9
    assert (senses_of(kin, rng) == 1).all()
    assert (senses_of(apart, rng, np.broadcast_to(speck, (units, n))) == 1).all()


def test_shares_add_up_to_the_mass_of_each_slice():
    rng = np.random.default_rng(11)
    z, codes = random_codes(rng, 3000, 2)
    sampler = FiringSampler(2, 4, 16, seed=0)
    for chunk in chunks(codes, z.max(0), 10):
        sampler.add(chunk, 10)
    for latent in range(2):
        part = np.clip(np.ceil(z[:, latent] / z[:, latent].max() * 4).astype(int) - 1, 0, 3)
        mass = np.bincount(part, z[:, latent], minlength=4) / z[:, latent].sum()
        np.testing.assert_allclose(sampler.shares[latent].sum(1), mass, rtol=1e-4)


def senses_of(points, rng, mass=None):
    """Counts with a random half to test on, tokens that say nothing, and equal mass unless given."""
    units, n, _ = points.shape
    mass = np.full((units, n), 1 / n) if mass is None else np.ascontiguousarray(mass)
    points = points.astype(np.float32)
    half = rng.random((units, n)) < 0.5
    return count_senses(points, np.zeros_like(points), half, np.ones((units, n), bool), mass).count


def test_the_binomial_tail_is_scipys():
    for k, n in [(0, 0), (0, 7), (3, 10), (10, 10), (12, 40)]:
        assert _binomial_tail(k, n) == pytest.approx(stats.binom.cdf(k, n, 0.5) if n else 1)


def test_evidence_without_any_firing_is_not_testable():
    codes = SparseCodes.from_dense(torch.zeros(64, 3))
    tokens = torch.arange(64, dtype=torch.int32).reshape(8, 8) % 5
    evidence = collect_evidence(tokens, codes, n_vocab=5, maxima=np.zeros(3, np.float32))
    assert not evidence.testable.any() and np.isnan(evidence.z("coherence")).all()


def test_a_null_is_required():
    with pytest.raises(ValueError, match="nulls=0"):
        EvidenceConfig(nulls=0)
