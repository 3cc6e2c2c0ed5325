"""The shares of each dictionary, from verdicts written by hand."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from interp.checks.errors import DamagedError
from interp.checks.limits import SEEDS
from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.compare import null_dictionaries, null_trials
from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES, register_null
from interp.compare.null_dictionaries import Nulls, shares_of_verdicts
from interp.compare.null_trials import TrainingConfigs
from interp.compare.nulls_config import NullsConfig, NullsWork
from interp.display.verdict_looks import VERDICT_LOOKS
from interp.display.verdict_names import ONE_MEANING_ROW, UNTESTED, VERDICTS, WITHOUT_SCORES
from interp.pipeline.stages.nulls import by_dictionary, nulls_summary
from interp.pipeline.stages.ranking import verdicts_summary
from interp.report.null_shares import share_rows
from interp.runtime.progress import no_progress
from interp.sae import TopKConfig
from interp.sae.architectures.sae_config import config_to_dict
from interp.statistics.estimates import wilson
from interp.storage.files import write_parquet
from interp.verdict.ranking_tables import read_ranking
from interp.verdict.verdict_shares import verdict_counts, verdict_shares

ROWS = [("monosemantic", True, 1)] * 3 + [("monosemantic", False, 1)] + [("polysemantic", True, 2)] * 2
ROWS += [("polysemantic", False, 1), ("polysemantic", False, 2), ("single-token", False, 1), ("too-rare", False, 0)]
ROWS += [("dead", False, 0), ("faint", False, 0)]
NEW = ["sure_share", "sure_low", "sure_high", "unsure_share", "unsure_low", "unsure_high"]


def ranking():
    return pd.DataFrame(ROWS, columns=["verdict", "sure", "n_senses"])


def verdicts():
    """Return verdicts of two dictionaries: the named one, and one without polysemantic latents."""
    other = ranking().query("verdict != 'polysemantic'")
    return pd.concat([ranking().assign(dictionary="SAE"), other.assign(dictionary="neurons")]).assign(trained_tokens=9)


def test_every_verdict_has_a_look_and_what_was_not_ranked_too():
    assert set(VERDICT_LOOKS) == {*VERDICTS, "unranked"}
    assert set(UNTESTED) < set(VERDICTS) and set(WITHOUT_SCORES) - set(UNTESTED) == {"unranked"}


def test_shares_tell_the_sure_from_the_unsure_of_all_that_are_not_idle():
    table = verdict_shares(ranking()).set_index("verdict")
    both = table.loc[ONE_MEANING_ROW]
    assert both["n"] == 5 and (both["share"], both["sure_share"]) == (0.5, 0.4)
    assert (both["ci_low"], both["ci_high"]) == wilson(5, 10)
    table = table.drop(ONE_MEANING_ROW)
    assert tuple(table.index) == VERDICTS and table.n.sum() == len(ROWS)
    one, several = table.loc["monosemantic"], table.loc["polysemantic"]
    assert [one["share"], one["sure_share"], one["unsure_share"]] == [0.4, 0.3, 0.3]
    assert [several["share"], several["sure_share"], several["unsure_share"]] == [0.4, 0.2, 0.3]
    assert (one["sure_low"], one["sure_high"]) == wilson(3, 10)
    assert (several["ci_low"], several["ci_high"]) == wilson(4, 10)
    assert (one["unsure_low"], one["unsure_high"]) == wilson(3, 10)
    settled = table.loc[["single-token", "dense", "too-rare"]]
    assert settled[NEW].isna().all(axis=None) and settled["share"].tolist() == [0.1, 0, 0.1]
    assert table.loc[["dead", "faint"]].drop(columns="n").isna().all(axis=None)
    # Every latent that is not idle is sure, unsure or settled without the probability.
    assert table["sure_share"].sum() + one["unsure_share"] + settled["share"].sum() == pytest.approx(1)


def test_no_latent_and_all_latents_have_an_interval_of_some_width():
    table = verdict_shares(ranking().query("verdict == 'single-token'")).set_index("verdict")
    assert table.loc["single-token", "share"] == 1 > table.loc["single-token", "ci_low"] > 0
    assert table.loc["dense", "share"] == 0 < table.loc["dense", "ci_high"] < 1
    nothing = verdict_shares(ranking().query("verdict == 'dead'")).set_index("verdict")
    assert nothing.loc["monosemantic", ["share", "ci_low", "ci_high"]].tolist() == [0, 0, 1]


def test_each_dictionary_has_shares_of_its_own():
    table = shares_of_verdicts(verdicts()).set_index(["dictionary", "verdict"])
    one = table.loc["SAE", "monosemantic"]
    assert (one["latents"], one["share"]) == (12, 0.4)
    assert table.loc["neurons", "monosemantic"]["unsure_share"] == pytest.approx(1 / 6)
    shown = repr(Nulls(shares_of_verdicts(verdicts()).assign(trained_tokens=9), pd.DataFrame(), pd.DataFrame()))
    assert len(shown.splitlines()) == 4 and max(map(len, shown.splitlines())) <= 120


def test_a_null_that_is_registered_is_planned_and_named_on_the_page(request):
    before = NullsWork.of(NullsConfig(), TopKConfig(d_sae=8, k=2, tokens=100), object())
    request.addfinalizer(lambda: COMPARED_DICTIONARIES.pop("mine"))
    register_null("mine", "of mine", config=lambda twin: replace(twin, k=1))
    after = NullsWork.of(NullsConfig(), TopKConfig(d_sae=8, k=2, tokens=100), object())
    assert after.from_store == before.from_store + 1 and after.other_models == before.other_models == 1
    shares = shares_of_verdicts(ranking().assign(dictionary="mine", trained_tokens=9))
    inputs: Any = SimpleNamespace(nulls=Nulls(shares, pd.DataFrame(), pd.DataFrame()), ranking=None)
    [row] = share_rows(inputs)
    assert (row["kind"], row["title"], row["means"]) == ("null", "mine", "of mine")


def test_a_null_that_nothing_would_judge_is_refused():
    with pytest.raises(ValueError, match="the null 'of mine' has neither config nor model"):
        register_null("mine", "of mine")
    with pytest.raises(ValueError, match="the null 'SAE' is already registered"):
        register_null("SAE", "of mine", config=lambda twin: twin)


def test_what_may_not_be_trained_on_is_refused():
    for tokens in (0, -5):
        with pytest.raises(ValueError, match=f"sae_tokens={tokens} must be at least 1"):
            NullsConfig(sae_tokens=tokens)
    assert NullsConfig().sae_tokens is None


def test_another_seed_gives_other_null_dictionaries():
    config = TopKConfig(d_sae=32, tokens=1000, k=2, seed=7)
    seeds = [TrainingConfigs.of(None, config, NullsConfig(seed=seed)).twin.seed for seed in (0, 1, 2)]
    assert len({config.seed, *seeds}) == 4
    last = replace(config, seed=SEEDS - 1)
    assert TrainingConfigs.of(None, last, NullsConfig()).twin.seed != last.seed


def test_nulls_of_a_training_on_another_device_are_the_same_work(tmp_path, monkeypatch):
    asked = []
    for check in ("check_store_of_scan", "check_harvested"):
        monkeypatch.setattr(null_dictionaries, check, lambda *given: None)
    monkeypatch.setattr(null_dictionaries, "scan_identity", lambda features: "scan")
    monkeypatch.setattr(null_dictionaries, "recover_finished", lambda out, made_of: asked.append(made_of) or True)
    monkeypatch.setattr(null_dictionaries.Nulls, "read", lambda out: None)
    features, store = SimpleNamespace(has_text=True), SimpleNamespace(name_of=lambda hook: hook, digest="rows")
    configs = [TopKConfig(d_sae=8, k=2, tokens=100, device=device) for device in ("auto", "cpu")]
    for config in configs:
        null_dictionaries.compare_with_nulls(features, store, "hook", None, tmp_path, config=config)
    assert asked[0] == asked[1] and asked[0]["dictionary"] == config_to_dict(configs[0])


def trials_of(scanned, other, monkeypatch):
    """Return the trials of a dictionary on two other models. other: its row ids and codes."""
    monkeypatch.setattr(null_trials, "encode_first_rows", lambda *_: [other])
    trials: Any = SimpleNamespace(features=SimpleNamespace(codes=scanned), n_rows=len(scanned), correlations={})
    trials.joined = SimpleNamespace(add=lambda *_: None)
    trials.trained_tokens = {}
    config = TopKConfig(d_sae=8, k=2, tokens=1000)
    sae: Any = SimpleNamespace(W_dec=torch.eye(other[1].d_sae), d_sae=other[1].d_sae, config=config)
    for name in ("shuffled model", "untrained model"):
        null_trials.NullTrials.add_learnt(trials, name, sae, None, "")
    return trials


def correlations_of(scanned, other, monkeypatch):
    """Return the correlations of a scan with a dictionary on another model."""
    return trials_of(scanned, other, monkeypatch).correlations["random_correlation"]


def test_a_null_is_told_with_the_tokens_that_it_learnt_from(monkeypatch):
    """A registered null may learn from fewer than the others."""
    codes = SparseCodes.from_dense(torch.rand(12, 3))
    trials = trials_of(codes, (torch.arange(12), codes), monkeypatch)
    assert trials.trained_tokens == {"shuffled model": 1000, "untrained model": 1000}


def test_the_match_of_a_latent_that_is_silent_where_the_nulls_are_judged_is_not_known(monkeypatch):
    z = torch.rand(12, 3)
    z[:, 1] = 0
    codes = SparseCodes.from_dense(z)
    correlations = correlations_of(codes, (torch.arange(12), codes), monkeypatch)
    np.testing.assert_allclose(correlations, [1, np.nan, 1], atol=1e-6)


def test_a_match_is_over_the_rows_that_both_encoded(tmp_path, monkeypatch):
    """Latents that fire at every token are alike only because none fires in the padding."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (1 + torch.rand(40, 3, generator=generator) for _ in range(2))
    scanned = CodeStore.create(tmp_path, n_rows=90, d_sae=3)
    scanned.write_file("0", torch.arange(40) * 2, SparseCodes.from_dense(ours))
    reverse = torch.arange(40).flip(0)
    correlations = correlations_of(
        scanned, (reverse[:30] * 2, SparseCodes.from_dense(theirs[reverse[:30]])), monkeypatch
    )
    both = np.corrcoef(ours[10:].T, theirs[10:].T)[:3, 3:]
    np.testing.assert_allclose(correlations, both.max(1), atol=1e-5)


def test_another_model_is_harvested_for_as_many_rows_as_its_dictionary_learns_from(tmp_path, monkeypatch):
    """Padding gives no rows, so padded text takes more sequences."""
    scanned = CodeStore.create(tmp_path, n_rows=400, d_sae=3)
    scanned.write_file("0", torch.arange(100) * 4, SparseCodes.from_dense(torch.ones(100, 3)))
    harvested = []
    monkeypatch.setattr(null_trials, "harvest", lambda model, tokens, *_, **__: harvested.append(tokens))
    monkeypatch.setattr(null_trials, "train_sae", lambda *_, **__: None)
    trials: Any = SimpleNamespace(add_learnt=lambda *_: None, out=tmp_path, tokens=range(2), progress=no_progress)
    trials.features = SimpleNamespace(codes=scanned, n_ctx=8, tokens=torch.zeros(50, 8))
    for tokens, n_sequences in ((3, 2), (20, 10), (21, 11), (500, 50)):
        trials.configs = SimpleNamespace(twin=SimpleNamespace(tokens=tokens))
        null_trials.NullTrials.add_model(trials, "shuffled model", None, "", {})
        assert len(harvested[-1]) == n_sequences


def test_a_ranking_with_the_verdicts_of_another_version_is_refused(tmp_path):
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", verdict) for verdict in VERDICTS)
    write_parquet(tmp_path / "ranking.parquet", ranking())
    assert read_ranking(tmp_path / "ranking.parquet").equals(ranking())
    write_parquet(tmp_path / "ranking.parquet", ranking().replace("too-rare", "too_rare"))
    with pytest.raises(DamagedError, match="ranking.parquet has the verdict 'too_rare' of another version: make it"):
        read_ranking(tmp_path / "ranking.parquet")


def test_the_end_of_a_run_says_how_many_have_one_meaning():
    first, second = nulls_summary({"shares": by_dictionary(shares_of_verdicts(verdicts()))}).splitlines()
    assert "SAE" in first and "one meaning  50% of 10 (24% to 76%): 40% monosemantic" in first
    assert second.split()[0] == "neurons:" and "10% single-token" in first


def test_counts_say_how_many_are_unsure_and_fall_into_no_parts():
    counts = verdict_counts(ranking())
    assert counts["unsure"] == {"monosemantic": 1, "polysemantic": 2} and counts["inseparable"] == 1
    said = verdicts_summary(counts)
    assert "4 monosemantic (1 unsure), 4 polysemantic (2 unsure, 1 without separable senses)" in said
    ruled = ranking().assign(explanation="in capitals", explanation_f1=[0.9, 0, 0.29, 0.3] + [float("nan")] * 8)
    said = verdicts_summary(verdict_counts(ruled))
    assert "4 monosemantic (1 unsure, 2 for which no rule holds), 4 polysemantic (2 unsure, 1 without" in said


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (1, 40), (13, 21), (300, 384)])
def test_the_interval_is_that_of_the_score_test(k, n):
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_none_all_and_nothing_have_an_interval_too():
    (low, high), (below, above) = wilson(0, 20), wilson(20, 20)
    assert low == 0 < high < 0.2 and 0.8 < below < 1 == above
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match=r"k=3 must be in 0\.\.n=2"):
        wilson(3, 2)
