"""The analyses of neurons and superposition: they run through, and measure what they say."""

import importlib

import numpy as np
import pytest

from analyses.essay import geometry, superposition
from analyses.essay.polysemantic_neurons import Setting, monosemantic_loss
from tests.analyses.essay.prose import hold_to_prose

ANALYSES = {
    "cross_entropy_neurons": ["6a", "6b", "6c", "6d", "6e", "6f"],
    "superposition": ["7a", "7b", "7c"],
    "geometry": ["8a", "8b"],
    "phase_change": ["9a", "9b"],
    "polysemantic_neurons": ["10a", "10b", "10c"],
}


@pytest.mark.parametrize("name", ANALYSES)
def test_quick_run_writes_claims_and_figures(name, tmp_path):
    main = importlib.import_module(f"analyses.essay.{name}").main
    results = main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    assert [claim["row"] for claim in results["claims"]] == ANALYSES[name]
    hold_to_prose(name, tmp_path)


def test_the_enumerated_claims_hold_at_any_size(tmp_path):
    from analyses.essay.cross_entropy_neurons import enumerate_all, enumerated_claims

    assert all(claim.holds for claim in enumerated_claims(enumerate_all()))


def test_a_plateau_is_the_flattest_stretch():
    inverse = np.geomspace(1, 32, 26)
    falling = inverse**-0.8
    with_step = np.where((inverse > 3) & (inverse < 7), 0.5, falling)
    level, begin, end = geometry.plateau(with_step, inverse)
    assert level == pytest.approx(0.5) and 3 < begin < end < 7


def test_modes_are_found_where_they_were_planted():
    values = np.random.default_rng(0).normal([[0.4], [0.5], [0.75]], 0.005, (3, 400)).ravel()
    assert np.allclose(geometry.modes(*geometry.kernel_density(values)), [0.4, 0.5, 0.75], atol=0.005)


def test_turned_features_start_to_the_right():
    W = np.array([[0.0, -1, 0.3], [2, 0.5, 0.4]])
    turned = superposition.turned(W)
    assert np.allclose(turned.T @ turned, W.T @ W) and np.allclose(turned[:, 0], [2, 0]) and turned[1, 1] >= 0


def test_the_loss_of_a_monosemantic_network_by_sampling():
    """|x| of dense features: those left out are predicted by their mean."""
    s = Setting().absolute
    x = np.random.default_rng(0).random((100, 20_000))
    left_out = (s.decay ** np.arange(20, 100)) @ ((x - 0.5) ** 2).mean(1)[20:]
    assert monosemantic_loss("absolute", s)[0] == pytest.approx(left_out, rel=0.01)
