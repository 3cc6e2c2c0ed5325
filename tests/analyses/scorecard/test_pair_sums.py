"""Sums over pairs of firings against their definition written out."""

import numpy as np
import pytest
import torch

from analyses.scorecard.pair_sums import PairSummer
from interp.codes.code_chunks import read_chunks
from interp.codes.sparse_codes import SparseCodes
from tests.random_codes import random_codes


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
