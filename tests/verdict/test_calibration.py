import numpy as np

from interp.text.kinds import KINDS
from interp.verdict.calibration import Calibration


def test_a_calibration_is_read_as_it_was_saved(tmp_path):
    fitted = Calibration(np.array([[8.0, 0.5]] * 3), np.array([-4.0] * 3))
    fitted.save(tmp_path / "mine.json")
    read = Calibration.load(tmp_path / "mine.json")
    assert read.kinds == fitted.kinds and (read.weights == fitted.weights).all() and (read.bias == fitted.bias).all()


def test_a_kind_that_the_calibration_was_not_fitted_with_is_told(monkeypatch, caplog):
    shipped = Calibration.load()
    shipped.warn_of_other_kinds()
    assert not caplog.messages
    monkeypatch.setitem(KINDS, "mine", KINDS["token"])
    shipped.warn_of_other_kinds()
    [message] = caplog.messages
    assert "compare firings now (mine)" in message
