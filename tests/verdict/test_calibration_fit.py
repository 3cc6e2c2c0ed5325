"""The fit of a calibration to judged latents, and of the one that ships to those that ship with it."""

import numpy as np
import pandas as pd
import pytest

from interp.verdict.calibration import Calibration
from interp.verdict.calibration_fit import JUDGED_LATENTS, READ, fit_calibration
from interp.verdict.similarity import STATISTIC_NAMES


def latents_of(values, one, families=("a", "b", "c", "d", "e")) -> pd.DataFrame:
    family = np.resize(families, len(one))
    return pd.DataFrame(values, columns=list(STATISTIC_NAMES)).assign(is_one=one, family=family)


def test_a_calibration_learns_the_share_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(14)
    values, none = rng.random((4000, len(STATISTIC_NAMES))), np.zeros((len(STATISTIC_NAMES), len(STATISTIC_NAMES)))
    one = rng.random(4000) < 1 / (1 + np.exp(-8 * (values[:, 0] - 0.5)))
    fitted = fit_calibration(latents_of(values[:2000], one[:2000]))
    p = fitted.probability(values[2000:], none).one
    for low in (0.1, 0.4, 0.7):
        own = (p > low) & (p < low + 0.2)
        assert one[2000:][own].mean() == pytest.approx(p[own].mean(), abs=0.1)
    fitted.save(tmp_path / "calibration.json")
    again = Calibration.load(tmp_path / "calibration.json").probability(values, none)
    np.testing.assert_allclose(again.one, fitted.probability(values, none).one, atol=1e-3)
    with pytest.raises(ValueError, match="with several"):
        fit_calibration(latents_of(values, np.ones(4000, bool)))


def test_no_statistic_counts_against_one_meaning():
    rng = np.random.default_rng(3)
    values = rng.random((500, len(STATISTIC_NAMES)))
    assert (fit_calibration(latents_of(values, rng.random(500) < 1 - values[:, 1])).weights >= 0).all()


def test_what_readers_judged_weighs_as_much_as_what_was_planted():
    """Of ten read latents with such statistics half have one meaning, of five hundred planted ones all."""
    n = len(STATISTIC_NAMES)
    planted = latents_of(np.repeat([[0.1] * n, [0.9] * n], 500, 0), np.arange(1000) >= 500)
    read = latents_of(np.full((10, n), 0.9), np.arange(10) < 5, (f"{READ}mine",))
    high = np.full(n, 0.9), np.zeros((n, n))
    alone, both = (fit_calibration(table).probability(*high).one for table in (planted, pd.concat([planted, read])))
    assert alone > 0.9 and 0.5 < both < 0.8


def test_the_judged_latents_give_the_calibration_that_ships():
    fitted, shipped = fit_calibration(pd.read_parquet(JUDGED_LATENTS)), Calibration.load()
    np.testing.assert_allclose(fitted.weights, shipped.weights, atol=2e-4)  # they are rounded to four decimals
    np.testing.assert_allclose(fitted.bias, shipped.bias, atol=2e-4)
    assert fitted.kinds == shipped.kinds


def test_the_judged_latents_are_numbers_with_what_readers_said():
    latents = pd.read_parquet(JUDGED_LATENTS)
    names = ["family", "world", "basis", "draw"]
    assert latents[names].nunique().max() < 50
    assert latents.drop(columns=names).dtypes.map(pd.api.types.is_numeric_dtype).all()
    read = latents[latents.family.str.startswith(READ)]
    assert len(read) == latents.p_one_1.notna().sum() == 385
    assert (read.is_one == (read[["p_one_1", "p_one_2"]].mean(axis=1) >= 50)).all()
