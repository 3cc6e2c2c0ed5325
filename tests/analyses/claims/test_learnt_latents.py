"""The fit of `learnt` to latents of trained models and of models that learnt nothing."""

import json

import numpy as np
import pytest

from analyses.claims import learnt_latents
from interp.verdict.learnt import LEARNT_INPUTS, LearntFit
from tests.verdict.test_learnt import OWN, RANDOM, evidence


def test_a_fit_is_calibrated_and_survives_a_file(tmp_path):
    rng = np.random.default_rng(0)
    learnt = rng.random(4000) < 0.3
    given = evidence(OWN, RANDOM)
    middle = {name: (values[0] + values[1]) / 2 for name, values in given.items()}
    spread = {name: abs(values[0] - values[1]) for name, values in given.items()}
    drawn = {
        name: middle[name] + spread[name] * (np.where(learnt, 0.25, -0.25) + rng.normal(0, 0.6, 4000))
        for name in LEARNT_INPUTS
    }
    fitted = learnt_latents.fit_learnt(drawn, learnt, np.where(learnt, 1 / 0.3, 1 / 0.7))
    p = fitted.probability(drawn)
    weight = np.where(learnt, 0.5 / learnt.mean(), 0.5 / (~learnt).mean())
    for low in (0.0, 0.25, 0.5, 0.75):
        own = (p >= low) & (p < low + 0.25)
        assert np.average(learnt[own], weights=weight[own]) == pytest.approx(
            np.average(p[own], weights=weight[own]), abs=0.06
        )
    fitted.save(tmp_path / "fit.json")
    np.testing.assert_allclose(LearntFit.load(tmp_path / "fit.json").probability(drawn), p, atol=1e-4)
    content = json.loads((tmp_path / "fit.json").read_text()) | {"evidence": ["another"]}
    (tmp_path / "fit.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="learnt_latents --calibrate"):
        LearntFit.load(tmp_path / "fit.json")


def test_the_calibration_is_made_from_latents_that_are_kept(tmp_path, monkeypatch):
    results = learnt_latents.main(["--quick", "--out", str(tmp_path)])
    kinds = {"frozen decoder", "frozen encoder", "soft-frozen decoder", "shuffled model", "untrained model"}
    assert [row["corpus"] for row in results["held out"]] == [*learnt_latents.CORPORA, "all"]
    assert all(kinds <= row.keys() and 0 <= row["auroc"] <= 1 for row in results["held out"])
    monkeypatch.setattr(learnt_latents, "corpus_latents", lambda *_: pytest.fail("its latents are kept"))
    for name in learnt_latents.CORPORA:
        kept = learnt_latents.read_or_make(tmp_path / f"{name}-0", name, 0, learnt_latents.QUICK)
        assert kinds < set(kept.kind) and len(kept)
