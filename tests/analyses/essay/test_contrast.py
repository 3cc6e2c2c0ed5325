"""Contrast of units against analysis of variance and moments written out, and against planted units."""

import numpy as np
import pytest
import scipy.stats
import torch

from analyses.essay.shakespeare_measures import kurtosis, token_variance_share


def test_the_share_is_between_over_total_by_hand():
    """Token 0 has 1 and 3, token 1 has 8: mean 4, between 2·(2−4)² + (8−4)² = 24, total 9 + 1 + 16 = 26."""
    acts = torch.tensor([[1.0], [3.0], [8.0]])
    assert token_variance_share(acts, torch.tensor([0, 0, 1])).item() == pytest.approx(24 / 26)


def test_a_unit_that_is_the_token_a_unit_that_ignores_it_and_a_dead_one():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 20, (4000,), generator=generator)
    level = torch.randn(20, generator=generator)
    acts = torch.stack([level[tokens], torch.randn(4000, generator=generator), torch.zeros(4000)], 1)
    share = token_variance_share(acts, tokens)
    assert share[0] == pytest.approx(1) and share[1] == pytest.approx(19 / 3999, rel=0.6) and share[2].isnan()


def test_the_kurtosis_is_scipys():
    acts = np.random.default_rng(0).standard_normal((500, 3)) ** 3
    expected = scipy.stats.kurtosis(acts, fisher=False)
    np.testing.assert_allclose(kurtosis(torch.from_numpy(acts)).numpy(), expected)
    assert kurtosis(torch.zeros(5, 1)).isnan()
