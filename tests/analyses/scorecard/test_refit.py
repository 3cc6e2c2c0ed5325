"""What a new fit changes is measured on each source, by a fit to all others."""

import numpy as np
import pandas as pd
import pytest

from analyses.scorecard.refit import changes
from interp.verdict.calibration_fit import READ
from interp.verdict.similarity import STATISTIC_NAMES

FAMILIES = ("plays", "records", f"{READ}mine")


def latents(is_told: bool) -> pd.DataFrame:
    """Return latents of three sources, whose statistics tell which have one meaning, or say nothing."""
    rng = np.random.default_rng(5)
    one = np.arange(600) % 2 == 0
    values = rng.random((600, len(STATISTIC_NAMES))) / 2 + 0.5 * (one if is_told else rng.permutation(one))[:, None]
    return pd.DataFrame(values, columns=list(STATISTIC_NAMES)).assign(is_one=one, family=np.repeat(FAMILIES, 200))


def test_a_statistic_that_says_nothing_any_more_shows_in_each_source():
    table = changes(latents(is_told=True), latents(is_told=False))
    assert [*table.index] == ["all planted", "all read", *FAMILIES]
    assert table["n", "before"].tolist() == table["n", "after"].tolist() == [400, 200, 200, 200, 200]
    assert (table["auroc", "before"] == 1).all()
    assert table["auroc", "after"].to_numpy() == pytest.approx(0.5, abs=0.15)
    assert table["called_one", "before"].to_numpy() == pytest.approx(0.5, abs=0.05)


def test_a_source_is_judged_by_the_others_alone():
    """In one source, the truth is the reverse: its own latents would teach the fit that statistics say nothing."""
    table = latents(is_told=True)
    table["is_one"] ^= table.family == "records"
    scores = changes(table, table)
    assert scores["auroc", "after"]["records"] == 0 and scores["auroc", "after"]["plays"] == 1


def test_other_statistics_than_before_are_not_compared_with_them():
    before = latents(is_told=True).rename(columns={STATISTIC_NAMES[0]: "another"})
    table = changes(before, latents(is_told=True))
    assert [*table.columns] == [(score, "after") for score in ("n", "auroc", "ece", "called_one")]
