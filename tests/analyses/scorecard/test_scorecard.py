"""The scorecard at a tiny size: every world is judged, and what was judged is not judged again."""

import numpy as np

from analyses.scorecard import __main__ as scorecard
from analyses.scorecard import synthetic as scorecard_synthetic
from analyses.scorecard.planted_texts import FAMILIES
from interp.verdict.similarity import NAMES


def test_the_scorecard_judges_planted_and_trained_latents_and_resumes(tmp_path, monkeypatch):
    some = {family: FAMILIES[family] for family in ("topics", "records", "slots")}
    monkeypatch.setattr("analyses.scorecard.judged.FAMILIES", some)
    monkeypatch.setattr("analyses.scorecard.scores.REPLICATES", 10)
    results = scorecard.main(["--quick", "--out", str(tmp_path)])
    auroc = {row["score"]: row["auroc"] for row in results["A"]["scores"]}
    assert results["A"]["verdict"]["n"] > 100 and auroc["monosemanticity"] > 0.95 and {*NAMES} <= auroc.keys()
    assert {f"B {family} dictionary" for family in scorecard.MODEL_FAMILIES} <= results.keys()
    assert results["A families"]["worst_auroc"] <= results["A families"]["mean"]["auroc"] <= 1
    assert {row["world"] for row in results["D"]} == {"machines", "talk"}
    assert {row["score"] for row in results["C"]} == set(scorecard_synthetic.MEASURES)
    assert all(np.isfinite(row["auroc"]) and 0 < row["n_one"] < row["n"] for row in results["C"])
    assert not any(np.isnan(row["auroc"]) for name, rows in results.items() if name.startswith("C") for row in rows)
    tables = {file: file.stat().st_mtime_ns for file in (tmp_path / "worlds").iterdir()}
    again = scorecard.main(["--quick", "--out", str(tmp_path)])
    assert repr(again["A"]) == repr(results["A"]), "NaN where no latent's number of senses is beyond doubt"
    assert tables == {file: file.stat().st_mtime_ns for file in (tmp_path / "worlds").iterdir()}
    assert {"results.json", "calibration.html", "scores.html"} <= {file.name for file in tmp_path.iterdir()}
