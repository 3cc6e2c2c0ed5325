"""Planted worlds: their factors are where they say, their latents are what they say, and truth is found again."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from analyses.scorecard.factors import Factor
from analyses.scorecard.judged import (
    calibration_worlds,
    claimed,
    family_calibrations,
    fit_to,
    judge_held_out,
)
from analyses.scorecard.planted_latents import WorldConfig, planted_world
from analyses.scorecard.planted_texts import FAMILIES
from analyses.scorecard.scores import (
    auroc,
    calibration_curve,
    ece_by_chance,
    ece_of_own_curve,
    expected_calibration_error,
    matched_weights,
    not_scored,
    scorecard,
    verdict_quality,
)
from analyses.scorecard.truth import Truth, meanings_of_firings, sense_purity, senses_in_sample
from interp.codes.sparse_codes import SparseCodes
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import collect_evidence

SMALL = {"n_seq": 512, "n_ctx": 64, "n_latents": 60}


@pytest.fixture(scope="module")
def worlds():
    return {family: planted_world(WorldConfig(family=family, seed=3, **SMALL)) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_factors_hold_where_their_names_say(family, worlds):
    world = worlds[family]
    flat = world.tokens.numpy().reshape(-1)
    vocab = np.array(world.vocab, dtype=object)
    for factor in world.factors:
        assert (np.diff(factor.rows) > 0).all() and factor.tags
        if factor.name.startswith("token "):
            assert {repr(s) for s in vocab[flat[factor.rows]]} == {factor.name.removeprefix("token ")}
        if factor.name.startswith("after ") and factor.name.endswith("'") and len(factor.tags) == 1:
            assert (factor.rows % world.tokens.shape[1] > 0).all()
            assert {repr(s) for s in vocab[flat[factor.rows - 1]]} == {factor.name.removeprefix("after ")}


def test_inside_quotes_is_between_quotes(worlds):
    world = worlds["records"]
    quote = world.vocab.index('"')
    inside = np.zeros(world.tokens.numel(), bool)
    for factor in world.factors:
        if factor.name == "inside quotes":
            inside[factor.rows] = True
    assert inside.any()
    for row, tokens in zip(inside.reshape(world.tokens.shape), world.tokens.numpy(), strict=True):
        is_open = False
        for position, token in enumerate(tokens):
            assert row[position] == (is_open and token != quote)
            is_open ^= token == quote


def test_slots_places_and_agreement_hold_where_they_should(worlds):
    rows = {family: {factor.name: factor.rows for factor in worlds[family].factors} for family in worlds}
    n_ctx, tokens, vocab = 64, worlds["positions"].tokens.numpy().reshape(-1), worlds["positions"].vocab
    first = rows["positions"]["first words of a line"]
    beside = tokens[first[first % n_ctx > 0] - 1]
    assert {vocab[token] for token in beside} <= {"\n", "\n\n", "    "}
    marks = worlds["slots"].tokens.numpy().reshape(-1)
    for k in range(12):
        own = {*marks[rows["slots"].get(f"marks of class {k}", np.zeros(0, int))]}
        behind = rows["slots"].get(f"what follows marks of class {k}", np.zeros(0, int))
        assert len(own) <= 4 and {*marks[behind - 1]} <= own
    for c in range(5):
        inside = rows["agreement"][f"between subject and verb, class {c}"]
        subjects = {*rows["agreement"][f"subjects, class {c}"].tolist()}
        for row in inside[inside % n_ctx > 6][:50]:
            assert any(row - back in subjects for back in range(1, 7))


def test_one_seed_gives_one_world():
    config = WorldConfig(family="scripts", seed=5, **SMALL)
    a, b = planted_world(config), planted_world(config)
    assert a.tokens.equal(b.tokens) and a.codes.values.equal(b.codes.values)
    np.testing.assert_array_equal(a.truth.factors, b.truth.factors)
    assert not planted_world(WorldConfig(family="scripts", seed=6, **SMALL)).tokens.equal(a.tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_latents_are_what_they_were_made_to_be(family, worlds):
    world = worlds[family]
    kinds, truth = np.array(world.kinds), world.truth
    # A small text of few factors holds them in few dimensions, where interference takes more of each latent.
    least, of_token = (0.9, 0.6) if len(world.factors) > 100 else (0.55, 0.4)
    assert truth.is_one[np.isin(kinds, ["one", "part", "token"])].mean() > least
    assert (kinds == "noise").sum() < 5 or truth.top_share[kinds == "noise"].mean() < 0.7
    assert not truth.is_one[kinds == "tail"].any() and 0.15 < truth.top_share[kinds == "tail"].mean() < 0.67
    assert truth.is_several[np.isin(kinds, ["several", "tokens"])].mean() > 0.4
    assert truth.top_share[np.isin(kinds, ["several", "tokens"])].mean() < 0.65
    z = world.codes.scipy()
    token = [(j, np.flatnonzero(truth.factors[j] > 0.5)) for j in np.flatnonzero(kinds == "token")]
    for latent, factor in ((latent, found) for latent, found in token if len(found)):
        # A token detector's mass lies on its token, but for the interference that it was given.
        rows = world.factors[factor[0]].rows
        assert z[rows, latent].sum() > of_token * z[:, latent].sum()


def test_polysemanticity_is_the_exponential_of_the_entropy():
    tags = [frozenset({"a"}), frozenset({"b"}), frozenset({"a", "c"})]
    truth = Truth.of(np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0, 0]]), tags)
    np.testing.assert_allclose(truth.polysemanticity, [1, 2, 1, 1])
    np.testing.assert_allclose(truth.top_share, [1, 0.5, 1, 0])
    assert truth.is_one.tolist() == [True, False, True, False]
    assert truth.is_several.tolist() == [False, True, False, False]
    assert truth.n_senses.tolist() == [1, 2, 1, 0]


def test_attribution_finds_what_latents_were_made_of():
    rng = np.random.default_rng(0)
    n = 4000
    masks = [rng.random(n) < share for share in (0.02, 0.03, 0.4)]
    factors = [Factor(f"f{i}", frozenset({f"t{i}"}), np.flatnonzero(mask)) for i, mask in enumerate(masks)]
    z = np.zeros((n, 4), np.float32)
    z[masks[0], 0] = 1
    z[masks[0] & (rng.random(n) < 0.6), 1] = z[masks[1], 1] = 1
    z[rng.random(n) < 0.05, 2] = 1  # unrelated to all factors
    truth = Truth.attribute(SparseCodes.from_dense(torch.from_numpy(z)), factors)
    assert truth.factors[0].round(2).tolist() == [1, 0, 0]
    mass = z[:, 1].sum()
    expected = [z[masks[0] & ~masks[1], 1].sum() / mass, z[masks[1], 1].sum() / mass]
    assert truth.factors[1, :2].sum() == pytest.approx(1) and abs(truth.factors[1, 1] - expected[1]) < 0.1
    assert not truth.factors[2].any() and not truth.is_one[2] and not truth.is_several[2]
    assert not truth.factors[3].any()


def test_a_learnt_latent_has_a_claimed_meaning_where_both_readings_agree():
    n = 4000
    place = np.arange(n) % 100
    spans = {"brackets": (0, 20), "slot": (0, 2), "other slot": (2, 4), "ए": (50, 52), "س": (60, 62)}
    tags = {"ए": {"ए", "starts"}, "س": {"س", "starts"}}
    factors = [
        Factor(name, frozenset(tags.get(name, {name})), np.flatnonzero((place >= low) & (place < high)))
        for name, (low, high) in spans.items()
    ]
    made_of = [
        {"slot": 0.65, "other slot": 0.35},  # most tellingly two slots, but all inside brackets
        {"ए": 0.5, "س": 0.5},  # both start words, as others do
        {"brackets": 1.0},
        {"slot": 0.5, "ए": 0.5},
        {"slot": 0.4, "ए": 0.3, "س": 0.3},  # two by tag, three by factor
    ]
    z = np.zeros((n, len(made_of)), np.float32)
    for latent, shares in enumerate(made_of):
        for name, share in shares.items():
            low, high = spans[name]
            z[(place >= low) & (place < high), latent] = share / (high - low)
    truth = Truth.attribute(SparseCodes.from_dense(torch.from_numpy(z)), factors)
    assert truth.top_share[0] == pytest.approx(0.65) and truth.otherwise[0, 0] == pytest.approx(1)
    assert truth.top_share[1] == pytest.approx(1) and truth.otherwise[1, 0] == pytest.approx(0.5)
    assert truth.is_one.tolist() == [False, False, True, False, False]
    assert truth.is_several.tolist() == [False, False, False, True, True]
    assert truth.n_senses.tolist() == [0, 0, 1, 2, 0]


def test_where_no_two_factors_hold_at_once_a_meaning_has_its_share_of_the_mass():
    """Twenty of them: more than a search goes through."""
    place = np.arange(2000) % 25
    factors = [Factor(f"f{i}", frozenset({f"t{i}"}), np.flatnonzero(place == i)) for i in range(20)]
    z = np.stack([place < 20, np.where(place == 3, 9, place == 4), place >= 18, 0 * place], 1).astype(np.float32)
    truth = Truth.attribute(SparseCodes.from_dense(torch.from_numpy(z)), factors)
    np.testing.assert_allclose(truth.top_share, [0.05, 0.9, 0, 0])
    assert truth.is_several.tolist() == [True, False, False, False] and truth.is_one.tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert truth.factors[1, [3, 4]] == pytest.approx([0.9, 0.1]) and truth.n_senses.tolist() == [0, 2, 0, 0]


def test_matching_takes_away_what_frequency_alone_tells():
    """Polysemantic latents fire more often here, and that is all the score knows."""
    rng = np.random.default_rng(1)
    n_active = np.exp(rng.normal(5, 1, 4000))
    one = rng.random(4000) < 1 / (1 + np.exp(1.5 * (np.log(n_active) - 5)))
    weights = matched_weights(n_active, one)
    stratum = np.searchsorted(np.quantile(n_active, [0.2, 0.4, 0.6, 0.8]), n_active, side="right")
    for s in range(5):
        own = stratum == s
        assert weights[own & one].sum() == pytest.approx(weights[own & ~one].sum())


def some_worlds():
    """Make four families; each is judged by a calibration on the other three."""
    every = calibration_worlds(1, n_seq=256, n_latents=80)
    return [(name, config) for name, config in every if config.family in ("topics", "records", "slots", "positions")]


@pytest.fixture(scope="module")
def judged():
    return judge_held_out(some_worlds())


def test_matching_for_two_values_is_within_the_fifths_of_both():
    rng = np.random.default_rng(2)
    values, one = rng.normal(size=(3000, 2)), rng.random(3000) < 0.3
    weights = matched_weights(values, one)
    fifths = [np.searchsorted(np.quantile(v, [0.2, 0.4, 0.6, 0.8]), v, side="right") for v in values.T]
    for a in range(5):
        for b in range(5):
            own = (fifths[0] == a) & (fifths[1] == b)
            assert weights[own & one].sum() == pytest.approx(weights[own & ~one].sum())


def test_of_few_latents_right_probabilities_have_an_error_by_chance():
    rng = np.random.default_rng(4)
    p = rng.random(100)
    found = np.mean([expected_calibration_error(p, rng.random(100) < p) for _ in range(400)])
    assert ece_by_chance(p) == pytest.approx(found, abs=0.005) and ece_by_chance(p) > 3 * ece_by_chance(
        rng.random(5000)
    )
    assert np.isnan(ece_by_chance(np.zeros(0)))


def test_a_wrong_level_and_a_wrong_scale_are_told_from_errors_of_the_order():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, 20_000)
    one = rng.random(20_000) < expit(logits)
    for too_low, too_flat in ((1.5, 1), (1.5, 2.5)):
        p = expit(logits / too_flat - too_low)
        level, curve = (ece_of_own_curve(p, one, steeper) for steeper in (False, True))
        assert expected_calibration_error(p, one) > 0.1 and curve < 0.012
        assert (level < 0.012) == (too_flat == 1)


def test_the_probability_is_right_on_families_it_was_not_calibrated_on(judged):
    held_out = judged
    table = scorecard(held_out, {"monosemanticity": 1, "token_entropy": -1, "burstiness": 1}).set_index("score")
    assert table.auroc["monosemanticity"] > 0.95 and table.index[0] == "monosemanticity"
    assert table.auroc_low["monosemanticity"] <= table.auroc["monosemanticity"] <= table.auroc_high["monosemanticity"]
    quality = verdict_quality(held_out)
    assert quality["accuracy"] > 0.9 and quality["ece"] < 0.1
    assert quality["senses_exact"] < quality["senses_of_sample"] < quality["senses_of_sample_countable"] <= 1
    assert quality["n_parts"] > 100 and 0.85 < quality["parts_one"] < 1, "nearly all senses have one meaning"
    assert quality["parts_auroc"] > 0.8
    curve = calibration_curve(held_out)
    assert curve.n.sum() == len(claimed(held_out)) and curve.p.is_monotonic_increasing
    assert ((curve.low <= curve.share) & (curve.share <= curve.high)).all()


def test_everything_calibrated_uses_a_calibration_that_never_saw_the_family(judged):
    """Probability, interval and senses: those of collecting the evidence by a calibration on the others alone."""
    tested = judged[judged.tested]
    assert (tested.ci_low <= tested.monosemanticity).all() and (tested.monosemanticity <= tested.ci_high).all()
    (name, config), *_ = some_worlds()
    own = judged[judged.world == name].reset_index(drop=True)
    calibration = family_calibrations(judged)[config.family]
    world = planted_world(config)
    again = collect_evidence(CodedText.from_codes(world.tokens, world.codes, world.vocab), calibration, n_shifts=0)
    for name, values in again.probability._asdict().items():
        np.testing.assert_allclose(own[{"one": "monosemanticity"}.get(name, f"ci_{name}")], values)
    assert {1, 2, 3} <= {*own.n_senses} and own.n_senses.tolist() == again.observed.n_senses.tolist()
    several = own.n_senses > 1
    np.testing.assert_allclose(np.stack(own.sense_one[several]), again.sense_one[several])
    others = fit_to(judged[judged.family != config.family])
    np.testing.assert_array_equal(calibration.weights, others.weights)


def test_spearman_is_of_latents_that_fire_equally_often(monkeypatch):
    """A score that knows the number of firings alone follows polysemanticity, but not within a fifth."""
    monkeypatch.setattr("analyses.scorecard.scores.REPLICATES", 5)
    rng = np.random.default_rng(4)
    n = 5000
    table = pd.DataFrame({"n_active": np.exp(rng.normal(5, 1, n)).astype(int) + 1, "world": "w", "tested": True})
    table["polysemanticity"] = 1 + np.log(table.n_active) + 0.1 * rng.normal(size=n)
    table["top_share"] = 1 / table.polysemanticity
    table["is_one"] = table.polysemanticity < np.median(table.polysemanticity)
    table["is_several"] = ~table.is_one
    stratum = np.searchsorted(np.quantile(table.n_active, [0.2, 0.4, 0.6, 0.8]), table.n_active, side="right")
    table["fifth"], table["constant"], table["absent"] = stratum, 1.0, np.nan
    found = scorecard(table, {"fifth": -1, "n_active": -1, "constant": 1, "absent": 1}).set_index("score")
    assert np.isnan(found.spearman["fifth"]) and found.spearman["n_active"] > 0.8
    assert set(found.index) == {"fifth", "n_active"}
    assert not_scored(table, {"fifth": -1, "constant": 1, "absent": 1, "nowhere": 1}) == [
        "constant",
        "absent",
        "nowhere",
    ]


def test_senses_are_counted_by_the_meanings_of_the_sampled_firings():
    factors = [Factor(n, frozenset({n}), np.array(rows)) for n, rows in (("a", [0, 1, 2]), ("b", [3, 4]), ("c", [5]))]
    p = np.array([[0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [1.0, 0.0, 0.0]])
    truth = Truth.of(p, [factor.tags for factor in factors])
    rows = np.array([[0, 1, 3, 5], [0, 1, 2, -1], [0, 1, 2, 3]])
    shares = np.array([[0.4, 0.3, 0.25, 0.05], [0.4, 0.3, 0.3, 0.0], [0.3, 0.3, 0.3, 0.1]])
    meanings = meanings_of_firings(truth, factors, 8, rows)
    assert senses_in_sample(meanings, shares).tolist() == [2, 1, 1]
    senses = np.array([[0, 0, 1, 1], [0, 0, -1, -1], [0, 0, 1, 1]])
    purity = sense_purity(meanings, shares, senses)
    np.testing.assert_allclose(purity, [[1, 0.25 / 0.3], [1, np.nan], [1, 0.3 / 0.4]])


def test_a_score_of_chance_gets_a_half(judged):
    rng = np.random.default_rng(2)
    table = scorecard(judged.assign(coin=rng.random(len(judged))), {"coin": 1})
    assert table.auroc_low[0] < 0.5 < table.auroc_high[0]
    with pytest.raises(ValueError, match="no latent was tested"):
        scorecard(judged[judged.kind == "nothing"], {"monosemanticity": 1})


def test_auroc_is_that_of_scikit_learn_with_ties_and_weights():
    rng = np.random.default_rng(0)
    one, weights = rng.random(200) < 0.4, rng.random(200) * (rng.random(200) < 0.9)
    score = np.round(rng.normal(size=200) + one, 1)
    assert auroc(one, score, weights) == pytest.approx(roc_auc_score(one, score, sample_weight=weights), abs=1e-12)
    assert np.isnan(auroc(one, score, weights * one))
