"""The truth of latents on synthetic activations, where it is known beforehand what a latent reads."""

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.scorecard.__main__ import scores_alone
from analyses.scorecard.synthetic import MEASURES, due_to, true_meanings

ROWS, FEATURES, DIMENSIONS, DENSITY = 6000, 64, 48, 0.02
PARENT, CHILD = 0, 1


def draw(seed: int, *, density: float = DENSITY) -> torch.Tensor:
    """Return features that fire on their own, at 4 to 6."""
    random = torch.Generator().manual_seed(seed)
    fires = torch.rand(ROWS, FEATURES, generator=random) < density
    return fires * (4 + 2 * torch.rand(ROWS, FEATURES, generator=random))


def directions(seed: int, n: int = FEATURES) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, DIMENSIONS, generator=random), dim=1)


def family(seed: int) -> torch.Tensor:
    """CHILD fires on a quarter of PARENT's rows and never without it."""
    a = draw(seed)
    random = torch.Generator().manual_seed(seed + 100)
    a[:, PARENT] = (torch.rand(ROWS, generator=random) < 0.1) * 5.0
    a[:, CHILD] = (torch.rand(ROWS, generator=random) < 0.25) * a[:, PARENT]
    return a


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_oracle_encoder_reads_one_feature_each_though_directions_overlap(seed):
    a, D = draw(seed), directions(seed)
    assert (D @ D.T).fill_diagonal_(0).max() > 0.4
    z = torch.relu(a @ D @ D.T - 4)
    p = due_to(z, a)
    precision = (z * (a > 0)).sum(0) / z.sum(0)
    np.testing.assert_allclose(p.diagonal(), precision, atol=1e-5)
    assert p.diagonal().min() >= 0.95 and true_meanings(p).is_one.all()


def test_a_perfect_reader_has_all_its_mass_from_its_feature_despite_a_frequent_one():
    a = draw(0)
    a[:, 5] = draw(1, density=0.4)[:, 5]
    np.testing.assert_allclose(due_to(a, a), np.eye(FEATURES), atol=1e-6)


def test_a_sum_of_two_features_is_half_each():
    a = draw(0)
    found = true_meanings(due_to(a[:, [3]] + a[:, [7]], a))
    np.testing.assert_allclose(found.factors[0, [3, 7]], 0.5, atol=0.06)
    assert found.is_several[0] and found.n_senses[0] == 2 and found.polysemanticity[0] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("fires", [0.5, 0.2, 0.1])
def test_random_directions_mean_several(fires):
    """All fire more often than a feature: with the threshold as high as a feature needs, a few do single one out."""
    a = draw(0)
    v = a @ directions(0) @ directions(9, 40).T
    found = true_meanings(due_to(torch.relu(v - v.quantile(1 - fires, dim=0)), a))
    assert not found.is_one.any() and found.is_several.mean() > 0.9 and np.median(found.polysemanticity) > 3


def test_firings_unrelated_to_the_features_mean_several():
    a = draw(0)
    found = true_meanings(due_to(a.roll(ROWS // 2, dims=0), a))
    assert found.is_several.all() and found.polysemanticity.min() > 5


def test_the_share_is_the_precision_of_the_firing():
    a = draw(0)
    z = a[:, :1].sign()
    z += (a[:, :1] == 0) * (torch.rand(ROWS, 1, generator=torch.Generator().manual_seed(3)) < 0.3 / 0.7 * DENSITY)
    found = true_meanings(due_to(z, a))
    expected = a[:, 0].count_nonzero() / z.sum()
    assert found.top_share[0] == pytest.approx(float(expected), abs=1e-3) and 0.65 < expected < 0.75
    assert not found.is_one[0]


def test_half_a_feature_is_that_feature():
    a = draw(0)
    assert due_to(torch.relu(a[:, :1] - 5), a)[0, 0] == pytest.approx(1)


def test_a_latent_that_fires_for_a_child_alone_means_the_child_otherwise_the_parent():
    a = family(0)
    parent, child = a[:, PARENT], a[:, CHILD]
    z = torch.stack([child, child + parent * (child > 0), parent, parent + child, parent * (child == 0)], dim=1)
    p = due_to(z, a)
    assert p.argmax(1).tolist() == [CHILD, CHILD, PARENT, PARENT, PARENT]
    np.testing.assert_allclose(p.max(1), 1, atol=1e-6)


def test_features_that_are_always_together_are_one_meaning():
    a = draw(0)
    a[:, 1] = 2 * a[:, 0]
    assert true_meanings(due_to(a[:, [0]] + a[:, [1]], a)).is_one[0]


def test_a_silent_latent_means_nothing():
    found = true_meanings(due_to(torch.zeros(ROWS, 1), draw(0)))
    assert not found.factors.any() and not found.is_one[0] and not found.is_several[0]


@pytest.fixture
def few_replicates(monkeypatch):
    monkeypatch.setattr("analyses.scorecard.scores.REPLICATES", 10)


def judged(is_one: list[bool]) -> pd.DataFrame:
    one = np.array(is_one)
    table = pd.DataFrame({"is_one": one, "is_several": ~one, "tested": True, "n_active": 50, "world": "w"})
    noise = np.random.default_rng(0).normal(size=(len(one), len(MEASURES)))
    known = {"polysemanticity": np.where(one, 1, 3.0), "top_share": np.where(one, 1, 0.4)}
    return table.assign(**known, **dict(zip(MEASURES, noise.T, strict=True)))


def test_scores_alone_are_empty_for_a_single_kind(capsys):
    assert scores_alone("world", judged([False] * 30)) == []
    line = "world: 0 latents with one meaning, 30 with several: there is nothing to tell apart\n"
    assert capsys.readouterr().out == line


@pytest.mark.usefixtures("few_replicates")
def test_kinds_that_never_fire_alike_get_no_scores(capsys):
    table = judged([True] * 20 + [False] * 20)
    table.loc[table.is_one, "n_active"] = 500
    assert scores_alone("world", table) == [] and "fire alike" in capsys.readouterr().out


@pytest.mark.usefixtures("few_replicates")
def test_scores_say_of_how_many_latents_they_are():
    scores = scores_alone("world", judged([True] * 20 + [False] * 10))
    assert len(scores) == len(MEASURES) and all(row["n"] == 30 and row["n_one"] == 20 for row in scores)
