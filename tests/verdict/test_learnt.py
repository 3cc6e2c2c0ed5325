"""Did the model learn a latent? The probability against its predictors, and its column in a run."""

from copy import copy

import numpy as np
import pandas as pd
import pytest

from interp.display.verdict_names import UNTESTED
from interp.verdict.learnt import LEARNT_INPUTS, NEXT_RANGE, LearntFit, learnt_inputs

OWN = {"next_auroc": 0.9, "random_correlation": 0.2}
RANDOM = {"next_auroc": 0.5, "random_correlation": 0.5}


def evidence(*latents):
    return {name: np.array([latent[name] for latent in latents]) for name in LEARNT_INPUTS}


def test_a_direct_effect_says_no_more_from_some_size_on():
    np.testing.assert_array_equal(LearntFit.predictors(evidence(OWN, RANDOM)), [[NEXT_RANGE[1], 0.2], [0.5, 0.5]])
    assert LearntFit.predictors(evidence(OWN | {"next_auroc": 0.1}))[0, 0] == NEXT_RANGE[0]


def test_the_shipped_curve_separates_trained_from_random_weights():
    own, random, unknown = LearntFit.load().probability(evidence(OWN, RANDOM, OWN | {"random_correlation": np.nan}))
    assert own > 0.9 and random < 0.1 and np.isnan(unknown)


def test_a_run_says_of_each_tested_latent_whether_it_is_learnt(tiny_run):
    table, matches = tiny_run.ranking.set_index("latent").sort_index(), tiny_run.nulls.twins.set_index("latent")
    untested = table["verdict"].isin(UNTESTED)
    assert not untested.all() and table["learnt"].isna().equals(untested)
    expected = LearntFit.load().probability(learnt_inputs(tiny_run.features, tiny_run.nulls.twins))
    np.testing.assert_array_equal(table["learnt"][~untested], expected[~untested])
    assert np.isnan(learnt_inputs(tiny_run.features, None)["random_correlation"]).all()
    assert (matches["random_correlation"].dropna() <= 1 + 1e-9).all()


def test_a_twins_correlation_is_the_largest_of_all(tiny_run):
    from interp import load_sae
    from interp.compare.null_trials import encode_first_rows, order_rows

    run, n_ctx = tiny_run, tiny_run.features.n_ctx
    n_rows = run.config.nulls.tokens // n_ctx * n_ctx
    twin = load_sae(run.path / "nulls" / "dictionaries" / "0")
    rows, codes = order_rows(encode_first_rows(twin, run.store, run.config.harvest.hook_name, n_rows))
    theirs = codes.dense().numpy()
    ours = run.features.codes[:n_rows].dense()[rows].numpy()
    found = run.nulls.twins.set_index("latent")["twin_correlation"]
    for latent in found.dropna().index[:5]:
        each = [np.corrcoef(ours[:, latent], column)[0, 1] for column in theirs.T if column.any()]
        assert found[latent] == pytest.approx(max(each), abs=2e-3)


def test_learnt_is_nan_before_later_blocks(tiny_run, caplog):
    features = copy(tiny_run.features)
    features.__dict__["meta"] = features.meta | {"blocks_past": 3}
    assert np.isfinite(learnt_inputs(tiny_run.features, None)["next_auroc"]).any() and not caplog.messages
    assert np.isnan(learnt_inputs(features, None)["next_auroc"]).all() and "3 later blocks are" in caplog.messages[0]
    features.meta["blocks_past"] = 1
    learnt_inputs(features, None)
    assert "1 later block is" in caplog.messages[1]


def test_evidence_that_a_table_lacks_is_missing(tiny_run):
    table = pd.DataFrame({"latent": [3], "random_correlation": [0.5]})
    found = learnt_inputs(tiny_run.features, table)["random_correlation"]
    assert found[3] == 0.5 and np.isnan(found).sum() == len(found) - 1
