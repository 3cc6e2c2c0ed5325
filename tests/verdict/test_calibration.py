"""A calibration tells the probability that it was fitted to, warns of other kinds, and survives its file."""

import numpy as np
import pytest

from interp.checks.errors import DamagedError
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.verdict.calibration import Calibration, compared_kinds
from interp.verdict.similarity import STATISTIC_NAMES


def test_a_calibration_is_read_as_it_was_saved(tmp_path):
    fitted = Calibration(np.array([[8.0, 0.5]] * 3), np.array([-4.0] * 3))
    fitted.save(tmp_path / "mine.json")
    read = Calibration.load(tmp_path / "mine.json")
    assert read.kinds == fitted.kinds and (read.weights == fitted.weights).all() and (read.bias == fitted.bias).all()


@pytest.mark.parametrize("content", ['{"weights": []}', "[1]", "{"])
def test_a_file_that_is_no_calibration_is_damaged(content, tmp_path):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(DamagedError, match="mine.json .*: fit it again"):
        Calibration.load(tmp_path / "mine.json")


def test_the_calibration_that_ships_was_fitted_with_the_kinds_that_compare_firings():
    assert set(Calibration.load().kinds) == set(compared_kinds()), "fit it again: analyses/README.md says how"


def test_calibration_warns_of_a_kind_that_it_was_not_fitted_with(monkeypatch, caplog):
    shipped = Calibration.load()
    shipped.warn_of_other_kinds()
    assert not caplog.messages
    monkeypatch.setitem(PREDICATE_KINDS, "mine", PREDICATE_KINDS["token"])
    shipped.warn_of_other_kinds()
    [message] = caplog.messages
    assert "compare firings now (mine)" in message


def test_a_sample_that_cannot_say_is_near_a_half_and_its_interval_wide():
    fitted = Calibration(np.array([[8.0, 0.0]] * 3), np.array([-4.0] * 3))
    values = np.full((2, len(STATISTIC_NAMES)), 0.9)
    errors = np.zeros((2, len(STATISTIC_NAMES), len(STATISTIC_NAMES)))
    errors[1, 0, 0] = 0.25
    sure, unsure = (fitted.probability(values[i], errors[i]) for i in range(2))
    assert sure.one > 0.95 > 0.9 > unsure.one > 0.5
    assert sure.low == pytest.approx(sure.high) and unsure.low < 0.1 < 0.9 < unsure.high


def test_the_calibration_that_ships_is_monotone_and_tells_clear_cases():
    fitted, sure = Calibration.load(), np.zeros((len(STATISTIC_NAMES), len(STATISTIC_NAMES)))
    assert (fitted.weights >= 0).all()
    low, high = (fitted.probability(np.full(len(STATISTIC_NAMES), x), sure).one for x in (0.05, 0.95))
    assert low < 0.15 and high > 0.85
