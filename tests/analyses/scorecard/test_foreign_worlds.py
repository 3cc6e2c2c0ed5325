"""Worlds by another author: their latents fire where their names say, and are ranked only through the public API."""

import numpy as np
import pytest

from analyses.scorecard.foreign_worlds import MADE, REACH, TEXTS, foreign_scores, judge_foreign, plant

N_CTX = 128


@pytest.fixture(scope="module", params=TEXTS)
def text(request):
    return TEXTS[request.param](np.random.default_rng(0), 300, N_CTX)


def test_latents_fire_where_their_names_say(text):
    flat = text.tokens.reshape(-1)
    planted = plant(text, 150, np.random.default_rng(1))
    assert {latent.made for latent in planted} == set(MADE)
    inside = {
        label: np.unique(np.concatenate([np.arange(*span) for span in spans])) for label, spans in text.spans.items()
    }
    for latent in planted:
        assert (np.diff(latent.rows) > 0).all() and (latent.values >= 0).all() and latent.rows[-1] < flat.size
        named = {repr(piece): number for number, piece in enumerate(text.vocab)}
        if latent.made in ("one", "graded", "part"):
            assert np.isin(latent.rows, inside[latent.name]).all()
        if latent.made == "token":
            assert {flat[row] for row in latent.rows} == {named[latent.name.removeprefix("token ")]}
        if latent.made == "after":
            trigger = named[latent.name.removeprefix("after ")]
            for row in latent.rows[:50]:
                assert trigger in flat[max(row - row % N_CTX, row - REACH) : row]


def test_unions_have_unrelated_parts_of_equal_mass(text):
    unions = [latent for latent in plant(text, 150, np.random.default_rng(2)) if latent.made in ("union", "tokens")]
    assert {latent.n_meanings for latent in unions} == {2, 3}
    flat, named = text.tokens.reshape(-1), {repr(piece): number for number, piece in enumerate(text.vocab)}
    for latent in unions:
        parts = latent.name.split(" + ")
        assert latent.n_meanings == len(parts) == len({part.split("/")[0] for part in parts})
        if latent.made == "tokens":
            counts = [(flat[latent.rows] == named[part.removeprefix("token ")]).sum() for part in parts]
            assert max(counts) < 2.5 * min(counts)


def test_a_world_is_ranked_and_scored():
    judged = judge_foreign("talk", n_seq=300, n_latents=40)
    assert judged.is_one.any() and not judged.is_one.all() and judged.monosemanticity.between(0, 1).all()
    (scores,) = foreign_scores(judged).to_dict(orient="records")
    assert scores["auroc"] > 0.8 and scores["n"] == len(judged) and 0 <= scores["senses_exact"] <= scores["senses_near"]
