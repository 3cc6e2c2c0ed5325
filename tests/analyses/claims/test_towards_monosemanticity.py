"""`analyses.claims.towards_monosemanticity` and what it counts, against formulas written out."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.claims import towards_monosemanticity
from analyses.claims.dictionary_claims import difference, eleven, twelve
from analyses.claims.dictionary_measures import LABELS, beside, columns_of
from analyses.claims.proxies import activation, by_interval, correlations, log_likelihood_ratio, pearson
from interp.codes.sparse_codes import SparseCodes


@pytest.fixture
def z() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.random((60, 5)) * (generator.random((60, 5)) < 0.3)).astype(np.float32)


@pytest.fixture
def codes(z) -> SparseCodes:
    return SparseCodes.from_dense(torch.from_numpy(z))


def test_the_proxy_is_the_ratio_of_counts():
    tokens, label = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0], bool)
    share = np.array([3, 4, 2, 1]) / 10  # one more of each of four tokens
    inside = (np.array([0, 2, 0, 0]) + share) / 3
    assert log_likelihood_ratio(tokens, label, 4) == pytest.approx(np.log(inside / share))
    with pytest.raises(ValueError, match="carries the label"):
        log_likelihood_ratio(tokens, np.zeros(6, bool), 4)


def test_correlations_are_pearsons(z, codes):
    generator = np.random.default_rng(1)
    values, rows = generator.normal(size=60), generator.random(60) < 0.6
    z[:, 4] = 0
    found = correlations(SparseCodes.from_dense(torch.from_numpy(z)), values, rows)
    assert found[:4] == pytest.approx([np.corrcoef(z[rows, j], values[rows])[0, 1] for j in range(4)])
    assert found[4] == pearson(z[:, 4], values) == 0
    assert pearson(z[:, 1], values) == pytest.approx(np.corrcoef(z[:, 1], values)[0, 1])


def test_intervals_count_every_firing_once(z, codes):
    generator = np.random.default_rng(2)
    label, proxy = generator.random(60) < 0.5, generator.normal(size=60)
    one = activation(codes, 2)
    assert (one == z[:, 2]).all()
    table = by_interval(one, label, proxy, 5)
    assert table.n.sum() == (one > 0).sum() and table.high.iloc[-1] == pytest.approx(one.max())
    filled = table[table.n > 0]
    assert (filled.inside + filled.likely + filled.other).to_numpy() == pytest.approx(1)
    assert (filled.inside * filled.n).sum() == pytest.approx((label & (one > 0)).sum())
    assert table.sensitivity.iloc[0] == pytest.approx((label & (one > 0)).sum() / label.sum())
    assert (table.sensitivity.diff().dropna() <= 0).all() and (table.evidence.diff().dropna() <= 1e-12).all()


def test_columns_side_by_side_are_those_of_dense_codes(z, codes):
    picked = columns_of(codes, np.array([1, 4]))
    assert (picked.dense().numpy() == z[:, [1, 4]]).all()
    assert (beside([picked, codes]).dense().numpy() == np.concatenate([z[:, [1, 4]], z], 1)).all()


def test_claims_hold_where_they_are_planted_and_not_where_they_are_not():
    rows = [("neurons", 0, 0.50), ("8×", 0, 0.60), ("8×", 1, 0.62), ("8×, shuffled model", 0, 0.61)]
    generator = np.random.default_rng(0)
    judged = pd.DataFrame(
        [
            {"dictionary": name, "seed": seed, "auroc": mean + 0.02 * generator.normal(), "monosemantic": float(i % 2)}
            for name, seed, mean in rows
            for i in range(200)
        ]
    )
    sizes = pd.DataFrame(
        [
            {"dictionary": "8×", "seed": 0, "resampled": resampled, "dead_share": dead, "l0": 19.0}
            | {"ce_recovered_zero": 0.9, "ce_recovered_mean": recovered}
            for resampled, dead, recovered in ((True, 0.1, 0.78), (False, 0.2, 0.9))
        ]
    )
    assert [claim["held"] for claim in eleven(sizes, judged, "8×")] == [False, True, True, False, False, False]
    low, mean, high = difference(judged, "auroc", "8×", "neurons")
    assert low < mean < high and mean == pytest.approx(0.11, abs=0.01) and high - low < 0.02
    r = {"arabic": 0.9, "hebrew": 0.8, "dna": 0.71, "base64": 0.5}
    labels = pd.DataFrame(
        [
            {"label": label, "dictionary": name, "resampled": True, "seed": 0, "r": value}
            for label, feature in r.items()
            for name, value in (("8×", feature), ("neurons", 0.5))
        ]
    )
    assert twelve(labels, "8×")["held"]
    assert not twelve(labels.replace({"r": {0.71: 0.69}}), "8×")["held"]


def test_the_analysis_writes_a_verdict_a_claim_and_its_figures(tiny_run, tmp_path, capsys):
    words = ["--quick", "--threads", "1", "--run", str(tiny_run.path), "--out", str(tmp_path)]
    towards_monosemanticity.main(words)
    results = json.loads((tmp_path / "results.json").read_text())
    numbers = [claim["claim"].split(":")[0] for claim in results["claims"]]
    assert numbers == ["11a", "11b", "11c", "11c", "11d", "11d", "12"]
    assert all(isinstance(claim["held"], bool) and claim["numbers"] for claim in results["claims"])
    assert {"neurons", "1×", "2×"} < {row["dictionary"] for row in results["sizes"]}
    assert {row["label"] for row in results["labels"]} == set(LABELS) == set(results["intervals"])
    made = {file.stem for file in tmp_path.glob("*.html")}
    assert made == {"sizes", "feature_against_neuron", "sensitivity", *(f"specificity-{label}" for label in LABELS)}
    assert not (tmp_path / "work").exists() and "held" in capsys.readouterr().out
