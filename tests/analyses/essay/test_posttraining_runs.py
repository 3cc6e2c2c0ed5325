"""Instruction tuning, preference and model diffs: their measures by hand, and their quick runs whole."""

import json

import numpy as np
import pytest
import torch

from analyses.essay import instruction_tuning, model_diffs, preference
from analyses.essay.chat_models import (
    QUICK_MODELS,
    base_model,
    copy_of,
    make_world,
    models_folder,
    read_stage,
    stage,
    watched_steps,
)
from analyses.essay.model_diffs_measures import best_f1
from analyses.essay.posttraining import Responses
from analyses.essay.preference_models import gold, make_pairs, win_rate
from tests.analyses.essay.prose import hold_to_prose


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folder of the quick models, which each analysis fills as far as it needs."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def world():
    return make_world(QUICK_MODELS, 0)


def test_points_of_a_curve_begin_at_0_and_lie_closer_at_the_start():
    assert sorted(watched_steps(100, 4)) == [0, 6, 25, 56, 100]


def test_a_stage_is_trained_once_and_again_when_it_depends_on_something_else(tmp_path, world):
    model = base_model(tmp_path, QUICK_MODELS, 0, world)
    before, trained = model.W_E.clone(), []

    def train():
        trained.append(1)
        with torch.no_grad():
            model.W_E.add_(1)
        return {"curve": [1]}

    stage(tmp_path / "next", model, {"beta": 1}, train)
    other = copy_of(model)
    stage(tmp_path / "next", other, {"beta": 1}, train)
    assert len(trained) == 1 and torch.equal(other.W_E, before + 1) and read_stage(tmp_path / "next")["curve"] == [1]
    stage(tmp_path / "next", other, {"beta": 2}, train)
    assert len(trained) == 2


def test_gold_scores_miss_one_for_a_missing_end_and_wins_count_ties_half(world):
    ids = world.chat.text.encode(" red. Thank you!", add_special_tokens=False)
    scores = gold(world, Responses([[*ids, world.chat.end_id], ids], [True, False]))
    assert scores == pytest.approx([1 - 0.15, -0.15])
    assert win_rate(np.array([1.0, 0, 2, 2]), np.array([0.0, 1, 2, 2])) == 0.5


def test_pairs_are_ordered_by_the_gold_rule_and_some_are_turned(models, world):
    model = base_model(models, QUICK_MODELS, 0, world)
    asked = world.turns[:100]

    def better(pairs):
        scores = [
            gold(
                world,
                Responses([row[mask].tolist() for row, mask in zip(side.tokens, side.response, strict=True)], ends),
            )
            for side in (pairs.chosen, pairs.rejected)
            for ends in [[world.chat.end_id in row[mask] for row, mask in zip(side.tokens, side.response, strict=True)]]
        ]
        return scores[0] > scores[1]

    clean, noisy = (make_pairs(model, world, asked, QUICK_MODELS, noise, 0) for noise in (0.0, 0.3))
    assert better(clean).all() and clean.turned == 0 and len(clean.chosen) == len(noisy.chosen) > 20
    assert 1 - better(noisy).mean() == pytest.approx(noisy.turned) and noisy.turned > 0.1
    prompt = ~clean.chosen.response & (torch.arange(clean.chosen.tokens.shape[1]) < 5)
    assert torch.equal(clean.chosen.tokens[:, :5][prompt[:, :5]], clean.rejected.tokens[:, :5][prompt[:, :5]])


def test_the_best_f1_is_that_of_the_best_threshold():
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(200, 3, generator=generator) * 2).round().relu()
    wanted = (scores[:, 0] + torch.randn(200, generator=generator)) > 2
    fit = torch.arange(200) < 120
    fitted, judged = best_f1(scores, wanted, fit)

    def f1(fires, truth):
        return 2 * float((fires & truth).sum()) / float(fires.sum() + truth.sum())

    for unit in range(3):
        cuts = [cut for cut in scores[fit, unit].unique().tolist() if cut > 0]
        by_cut = {cut: f1(scores[fit, unit] >= cut, wanted[fit]) for cut in cuts}
        best = max(by_cut, key=by_cut.get)
        assert float(fitted[unit]) == pytest.approx(by_cut[best])
        assert float(judged[unit]) == pytest.approx(f1(scores[~fit, unit] >= best, wanted[~fit]))


def test_the_models_lie_beside_the_analysis_or_where_one_says(tmp_path):
    out = str(tmp_path / "preference")
    o, folder = models_folder("", "preference", ["--quick", "--out", out])
    assert o.quick and folder == tmp_path / "instruction_tuning" / "models"
    assert models_folder("", "preference", ["--models", "there", "--out", out])[1].name == "there"


@pytest.mark.parametrize(
    ("analysis", "rows", "named"),
    [
        (instruction_tuning, ["23a", "23b", "23c"], "conversations"),
        (preference, ["24a", "24b", "24c", "24d", "24e"], "satisfied"),
        (model_diffs, ["25a", "25b", "25c", "25d", "25e", "25f"], "crosscoders"),
    ],
    ids=lambda value: getattr(value, "__name__", "").split(".")[-1] or None,
)
def test_quick_runs_write_claims_and_figures(analysis, rows, named, models, tmp_path):
    arguments = ["--quick", "--out", str(tmp_path), "--threads", "1", "--models", str(models)]
    analysis.main(arguments)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [claim["row"] for claim in results["claims"]] == rows and named in results["values"]
    assert all(len(claim["text"].split()) <= 25 for claim in results["claims"])
    hold_to_prose(analysis.__name__.rpartition(".")[2], tmp_path)
