"""The fit of the calibration to judged latents."""

import numpy as np
import pytest

from analyses.scorecard.judged import fit_calibration
from interp.verdict.calibration import Calibration
from interp.verdict.similarity import STATISTIC_NAMES


def test_a_calibration_learns_the_share_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(14)
    values, none = rng.random((4000, len(STATISTIC_NAMES))), np.zeros((len(STATISTIC_NAMES), len(STATISTIC_NAMES)))
    one = rng.random(4000) < 1 / (1 + np.exp(-8 * (values[:, 0] - 0.5)))
    fitted = fit_calibration(values[:2000], one[:2000], np.array([*"abcde"])[np.arange(2000) % 5], np.ones(2000))
    p = fitted.probability(values[2000:], none).one
    for low in (0.1, 0.4, 0.7):
        own = (p > low) & (p < low + 0.2)
        assert one[2000:][own].mean() == pytest.approx(p[own].mean(), abs=0.1)
    fitted.save(tmp_path / "calibration.json")
    again = Calibration.load(tmp_path / "calibration.json").probability(values, none)
    np.testing.assert_allclose(again.one, fitted.probability(values, none).one, atol=1e-3)
    with pytest.raises(ValueError, match="with several"):
        fit_calibration(values, np.ones(4000, bool), np.zeros(4000), np.ones(4000))


def test_no_statistic_counts_against_one_meaning():
    rng = np.random.default_rng(3)
    values = rng.random((500, len(STATISTIC_NAMES)))
    fitted = fit_calibration(values, rng.random(500) < 1 - values[:, 1], np.array(["a", "b"] * 250), np.ones(500))
    assert (fitted.weights >= 0).all()
