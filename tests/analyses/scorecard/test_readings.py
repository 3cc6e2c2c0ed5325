"""Sheets for readers, and a ranking compared with their answers."""

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.scorecard.readings import (
    SPREAD,
    STRONGEST,
    calibration_error,
    collect_firings,
    draw,
    read_answers,
    report,
    score_ranking,
    write_sheet,
)
from interp import FeatureStore, SparseCodes


@pytest.fixture
def features(tmp_path):
    """Latent 0 fires on token 1 with strengths 1 to 60; latent 1 once."""
    tokens = torch.arange(240).reshape(8, 30) % 5
    codes = torch.zeros(240, 2)
    places = (tokens.flatten() == 1).nonzero().flatten()
    codes[places, 0] = torch.arange(1, len(places) + 1).float()
    codes[7, 1] = 2.0
    vocab = [" a", "b\n", " c", "d", "e"]
    return FeatureStore.from_codes(tokens, SparseCodes.from_dense(codes), tmp_path / "features", vocab=vocab)


def test_a_sheet_shows_the_strongest_firings_and_others_of_each_tenth(features, tmp_path):
    write_sheet(features, [0], tmp_path / "sheet")
    lines = (tmp_path / "sheet" / "sheet.txt").read_text().split("## latent 0\n")[1].strip("\n").split("\n")
    assert len(lines) == STRONGEST + SPREAD
    assert all("«b⏎»" in line for line in lines), "the firing token is marked, its line end shown"
    levels = [float(line.split()[0]) for line in lines]
    assert levels == sorted(levels, reverse=True) and levels[0] == 10
    for tenth in range(10):
        assert any(tenth - 0.05 <= level <= tenth + 1.05 for level in levels), f"nothing of tenth {tenth}"
    assert pd.read_csv(tmp_path / "sheet" / "answers.csv").latent.tolist() == [0]


def test_firings_are_those_of_the_codes(features):
    firings = collect_firings(features, [1, 0])
    assert firings[1].rows.tolist() == [7] and firings[1].values.tolist() == [2.0]
    assert firings[0].values.tolist() == sorted(firings[0].values, reverse=True)
    assert set(firings[0].rows % 5) == {1}


def ranking(probabilities, verdicts=None, senses=1):
    n = len(probabilities)
    table = pd.DataFrame({"latent": np.arange(n), "monosemanticity": probabilities, "n_senses": senses})
    return table.assign(verdict=verdicts or "monosemantic", explanation="")


def answers(p_one, n_meanings=1):
    return pd.DataFrame({"p_one": p_one, "n_meanings": n_meanings, "meaning": "x"}).rename_axis("latent")


def test_a_ranking_that_orders_as_readers_do_has_an_auroc_of_one():
    p = np.linspace(0, 1, 11)
    score = score_ranking(ranking(p), [answers(p), answers(p**2)])
    assert score.auroc == 1 and score.correlation == pytest.approx(1) and score.ceiling == 1
    assert score_ranking(ranking(1 - p), [answers(p)]).auroc == 0
    assert "AUROC 1.000" in report(score, 3)


def test_calibration_error_by_hand():
    probability = np.array([0.95, 0.95, 0.15, 0.15])
    one = np.array([True, False, False, False])
    assert calibration_error(probability, one) == pytest.approx(0.5 * 0.45 + 0.5 * 0.15)


def test_untested_single_token_latents_count_as_one_meaning_and_other_untested_ones_do_not_count():
    table = ranking([np.nan, np.nan, 0.2], ["single-token", "dense", "polysemantic"])
    score = score_ranking(table, [answers([0.9, 0.9, 0.1])])
    assert score.table.probability.tolist() == [1.0, 0.2] and score.share_readers == score.share_ranking == 0.5
    assert set(draw(table, 9, 0)) == {0, 2}


def test_senses_are_exact_where_all_readers_name_the_same_number():
    several = [answers([0.1] * 3 + [0.9], [2, 2, 9, 1]), answers([0.1] * 3 + [0.9], [2, 3, 9, 1])]
    assert score_ranking(ranking([0.1] * 4, senses=[2, 9, 9, 9]), several).senses_exact == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latent,p_one,n_meanings\n3,101,1\n", "latent 3 has p_one 101"),
        ("latent,p_one,n_meanings\n3,10,1\n3,10,1\n", "latent 3 twice"),
        ("latent,p\n3,101\n", "no column p_one, n_meanings"),
    ],
)
def test_answers_that_cannot_be_read_are_named(tmp_path, text, said):
    (tmp_path / "answers.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_answers(tmp_path / "answers.csv")
