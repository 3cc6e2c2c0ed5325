"""The frequency of half presence, where it is planted and against scikit-learn's fit."""

import numpy as np
import pytest
import torch

from analyses.claims.feature_completeness import completeness, presence
from interp.codes.sparse_codes import SparseCodes


def test_the_planted_frequency_of_half_presence_is_in_the_interval():
    generator, inside = np.random.default_rng(0), 0
    for seed in range(10):
        frequency = np.exp(generator.uniform(-10, -2, 400))
        present = generator.random(400) < 1 / (1 + np.exp(-1.5 * (np.log(frequency) + 6)))
        found = completeness(frequency, present, seed=seed)
        inside += found.half.low <= np.exp(-6) <= found.half.high
        assert found.half.value == pytest.approx(np.exp(-6), rel=0.6)
        assert found.curve(np.array([found.half.value])) == pytest.approx(0.5)
    assert inside >= 8


def test_the_fit_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(1)
    frequency = np.exp(generator.uniform(-10, -2, 300))
    present = generator.random(300) < 1 / (1 + np.exp(-(np.log(frequency) + 5)))
    peer = LogisticRegression(C=np.inf).fit(np.log(frequency)[:, None], present)
    found = completeness(frequency, present)
    assert found.slope == pytest.approx(peer.coef_[0, 0], rel=0.05)
    assert found.half.value == pytest.approx(np.exp(-peer.intercept_[0] / peer.coef_[0, 0]), rel=0.05)


def test_separated_concepts_have_a_half_between_them():
    frequency, present = np.array([0.001, 0.002, 0.02, 0.04]), np.array([False, False, True, True])
    assert 0.002 < completeness(frequency, present).half.value < 0.02


def test_a_concept_is_present_where_a_latent_follows_it():
    generator = np.random.default_rng(0)
    z = (generator.random((500, 3)) * (generator.random((500, 3)) < 0.2)).astype(np.float32)
    z[:, 2] = 0
    own = np.column_stack([np.roll(z[:, 1], 7), 2 * z[:, 0]]).astype(np.float32)
    concepts, dictionary = (SparseCodes.from_dense(torch.from_numpy(each)) for each in (z, own))
    assert presence(concepts, dictionary).tolist() == [True, False, False]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="2 of 2 concepts are present"):
        completeness(np.array([0.1, 0.2]), np.array([True, True]))
    with pytest.raises(ValueError, match="frequency 0"):
        completeness(np.array([0.0, 0.2]), np.array([False, True]))
