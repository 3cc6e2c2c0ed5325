"""Faint latents are counted, resampled and left out of shares."""

import json

import numpy as np
import pytest
import scipy.optimize
import torch

from interp import (
    ActivationStore,
    FeatureStore,
    MatchingPursuitConfig,
    SparseCodes,
    TopKConfig,
    rank_features,
    train_sae,
)
from interp.codes.latent_strengths import is_faint
from interp.sae import resampling
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from interp.sae.resampling import latents_along_residuals
from interp.sae.weights import keep_near_start
from interp.verdict.ranking import rank_codes
from interp.verdict.ranking_tables import ranking_evidence

HOOK, D, D_SAE = "activations", 16, 48
SHARED = {"d_sae": D_SAE, "tokens": 256 * 60, "batch_size": 256, "device": "cpu"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(6000, 24, generator=generator) * (torch.rand(6000, 24, generator=generator) < 0.1)
    x = z @ torch.nn.functional.normalize(torch.randn(24, D, generator=generator), dim=1) + 0.01
    return ActivationStore.from_batches(x.split(1000), tmp_path_factory.mktemp("faint") / "store")


def learner_of(store, **given):
    return Learner(
        TopKConfig(**SHARED | {"k": 4} | given), HookScales(inputs=(store.statistics(HOOK),)), torch.device("cpu")
    )


def test_faint_is_below_a_quarter_of_the_median_of_those_that_fire():
    maxima = np.array([4.0, 0.9, 1.1, 0.0, np.nan, 5.0, 4.0], np.float32)
    assert is_faint(maxima).tolist() == [False, True, False, False, False, False, False]
    norms = np.array([1.0, 1, 0.5, 1, 1, 1, 1])
    assert is_faint(maxima, norms).tolist() == [False, True, True, False, False, False, False]
    assert is_faint(np.array([1, 1, 1, 0]), np.array([1.0, 1, 0, 1])).tolist() == [False, False, True, False]
    assert not is_faint(np.zeros(5)).any() and not is_faint(np.full(3, 0.1)).any()


def test_training_knows_the_strongest_firing_of_each_latent_in_its_windows(store):
    """Against the largest of all that was encoded, step by step, in windows of 3 steps."""
    learner, batches = learner_of(store, dead_after=3 * 256), store.batches(HOOK, 256, epochs=None)
    seen = []
    for step in range(11):
        rows = next(batches)
        f = learner.loss_and_gradients(learner.scale_rows(rows)[0]).forward
        dense = torch.zeros(len(rows), D_SAE)
        dense[f.support.rows, f.support.latents] = f.pre.detach()
        seen.append(dense.amax(0))
        result = learner.step(rows)
        begun = step // 3 * 3
        torch.testing.assert_close(learner.strongest[0], torch.stack(seen[begun:]).amax(0))
        if begun:
            torch.testing.assert_close(learner.strongest[1], torch.stack(seen[begun - 3 : begun]).amax(0))
        assert result.faint == len(learner.faint) / D_SAE


def test_resampling_gives_idle_latents_another_start(store):
    """Only faint and silent latents restart, along what is missing in badly reconstructed rows."""
    learner, batches = learner_of(store, resample_at=(0.5,), lr=1e-9), store.batches(HOOK, 256, epochs=None)
    idle = [3, 4, 10, 20]  # two faint, two that do not fire
    learner.weights["encoder_rows"][idle] *= 0.001
    for _ in range(29):
        learner.step(next(batches))
    learner.strongest[:] = 1.0
    learner.strongest[:, idle[:2]], learner.strongest[:, idle[2:]] = 0.1, 0.0
    before, batch = {name: weight.clone() for name, weight in learner.weights.items()}, next(batches)
    learner.step(batch)
    for name in ("encoder_rows", "W_dec"):
        same = torch.isclose(learner.weights[name], before[name], atol=1e-6).all(1)
        assert (~same).nonzero()[:, 0].tolist() == idle and not learner.means[name][idle].any()
    missed = []
    for weights in (before, learner.weights):
        learner.weights = weights
        f = learner.loss_and_gradients(learner.scale_rows(batch)[0]).forward
        missed.append(float(f.error.square().sum()))
    assert missed[1] < missed[0] and (learner.weights["b_enc"][idle] < 0).all()


def test_a_resampled_latent_adds_what_is_missing_only_on_similar_rows():
    generator = torch.Generator().manual_seed(2)
    mixed = torch.randn(4000, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    precision = torch.linalg.inv(mixed.T @ mixed / len(mixed))
    rows, missing = mixed[:3], 0.5 * torch.randn(3, 8, generator=generator)
    drawn, lacking = torch.cat([rows[:1], rows]), torch.cat([missing[:1], missing])
    new = latents_along_residuals(drawn, lacking, precision, rows[:0], missing[:0])
    assert len(new.b_enc) == 3, "the row that stands twice is taken once"
    z = (mixed @ new.encoder_rows.T + new.b_enc).relu()
    for i in range(3):
        torch.testing.assert_close(z[i, i] * new.W_dec[i], missing[i])
        response = mixed @ precision @ rows[i]
        assert torch.equal(z[:, i] > 0, response > response[i] / 2) and (z[:, i] > 0).float().mean() < 0.2


def test_the_first_of_similar_rows_is_kept():
    """Against the loop over rows, one after the other."""
    generator = torch.Generator().manual_seed(4)
    for share in (0.0, 0.002, 0.02, 0.2, 1.0):
        alike = torch.rand(300, 300, generator=generator) < share
        kept: list[int] = []
        for row in range(300):
            if not any(alike[row, other] or alike[other, row] for other in kept):
                kept.append(row)
        assert resampling._independent_set(alike).tolist() == kept


def test_adam_forgets_latents_that_begin_again(store):
    learner = learner_of(store)
    for name in learner.means:
        learner.means[name].fill_(1.0)
        learner.squares[name].fill_(3.0)
    learner.squares["b_enc"][0] = 3.0 + 2 * D_SAE
    latents = torch.tensor([0, 2])
    learner.since_fired[:], learner.strongest[:] = 9, 9.0
    learner._begin_again(latents, resampling.NewLatents(torch.ones(2, D), 2 * torch.ones(2, D), -torch.ones(2)))
    assert (learner.weights["encoder_rows"][latents] == 2).all() and (learner.weights["b_enc"][latents] == -1).all()
    assert learner.means["b_enc"][:4].tolist() == [0, 1, 0, 1] and learner.squares["b_enc"][:3].tolist() == [5, 3, 5]
    assert (learner.squares["W_dec"] == 3).all() and learner.since_fired[:3].tolist() == [0, 9, 0]
    assert learner.strongest[:, :3].tolist() == [[0, 9, 0]] * 2


def test_a_resampled_latent_has_the_strength_that_lowers_the_error_most_or_is_not_drawn():
    generator = torch.Generator().manual_seed(3)
    mixed, wanted = torch.randn(500, 6, generator=generator), torch.randn(6, generator=generator)
    rows, missing = mixed[:2], torch.stack([wanted, 4 * wanted])
    response = mixed @ rows.T / rows.square().sum(1)
    lacking = 0.8 * (2 * response[:, :1] - 1).relu() * wanted  # only like the first
    new = latents_along_residuals(rows, missing, torch.eye(6), mixed, lacking)
    assert len(new.b_enc) == 1
    direction = (wanted / wanted.norm()).double()

    def error(strength):
        a = (2 * torch.cat([response[:1, 0], response[:, 0]]).double() - 1).relu()
        left = torch.cat([wanted[None], lacking]).double() - strength * a[:, None] * direction
        return float(left.square().sum())

    best = scipy.optimize.minimize_scalar(error, bounds=(0, 10), method="bounded", options={"xatol": 1e-9}).x
    assert float(-new.b_enc[0]) == pytest.approx(best, rel=1e-4) and best < 0.9 * float(wanted.norm())


def test_the_encoder_of_matching_pursuit_is_frozen_with_its_decoder(store):
    config = MatchingPursuitConfig(**SHARED, k=2, freeze="encoder", lr=0.01)
    learner = Learner(config, HookScales(inputs=(store.statistics(HOOK),)), torch.device("cpu"))
    before = learner.weights["W_dec"].clone()
    learner.step(next(store.batches(HOOK, 256, epochs=None)))
    assert torch.equal(learner.weights["W_dec"], before)


def test_parts_that_are_frozen_stay(store):
    for part, name in (("decoder", "W_dec"), ("encoder", "encoder_rows")):
        learner, batches = learner_of(store, freeze=part, lr=0.01), store.batches(HOOK, 256, epochs=None)
        before = {key: weight.clone() for key, weight in learner.weights.items()}
        for _ in range(5):
            learner.step(next(batches))
        assert [key for key, weight in learner.weights.items() if torch.equal(weight, before[key])] == [name]
        for _ in range(learner.config.steps - 5):
            learner.step(next(batches))
        assert len(learner.idle) and torch.equal(learner.weights[name], before[name])  # idle latents too
    with pytest.raises(ValueError, match="freeze='bias' must be 'nothing', 'decoder', 'encoder' or 'directions'"):
        TopKConfig(**SHARED, freeze="bias")


def test_a_soft_frozen_decoder_turns_no_further_than_a_cosine_of_four_fifths(store):
    def cosines(freeze):
        learner, batches = learner_of(store, freeze=freeze, lr=0.05), store.batches(HOOK, 256, epochs=None)
        start = learner.weights["W_dec"].clone()
        for _ in range(40):
            learner.step(next(batches))
        return torch.nn.functional.cosine_similarity(learner.weights["W_dec"], start)

    held, free = cosines("directions"), cosines("nothing")
    assert held.min() >= 0.8 - 1e-5 and free.min() < 0.6 and (held < 0.81).sum() > 3


def test_idle_latents_of_a_soft_frozen_decoder_are_not_resampled(store):
    learner, batches = learner_of(store, freeze="directions", resample_at=(0.5,)), store.batches(HOOK, 256, epochs=None)
    start = learner.weights["W_dec"].clone()
    while learner.steps_done < learner.config.steps // 2:
        learner.step(next(batches))
    assert len(learner.idle)
    assert torch.nn.functional.cosine_similarity(learner.weights["W_dec"], start).min() >= 0.8 - 1e-5


def test_rows_are_turned_back_at_the_same_length():
    generator = torch.Generator().manual_seed(1)
    start, rows = torch.randn(30, 8, generator=generator), 3 * torch.randn(30, 8, generator=generator)
    before = rows.clone()
    keep_near_start(rows, start)
    torch.testing.assert_close(rows.norm(dim=1), before.norm(dim=1))
    was, now = (torch.nn.functional.cosine_similarity(each, start) for each in (before, rows))
    assert torch.equal(rows[was > 0.81], before[was > 0.81]) and (now >= 0.8 - 1e-6).all()
    plane = torch.stack([start, before, rows], 1)  # the turned row lies between the two
    assert (torch.linalg.matrix_rank(plane, tol=1e-4) == 2).all()


def test_a_dictionary_says_how_many_are_faint(store, tmp_path):
    sae = train_sae(store, HOOK, TopKConfig(**SHARED, k=4), out=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((tmp_path / "results.json").read_text())
    assert all(0 <= row["faint"] <= 1 for row in rows) and 0 <= results["faint"] <= 1 and sae.d_sae == D_SAE


def faint_world():
    """Latent 0 to 19: each fires on its own token; the last five of them a tenth as strongly; 20 never fires."""
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(0, 20, (200, 32)))
    flat = tokens.flatten()
    values = torch.where(flat >= 15, 0.1, 1.0) * (1 + 0.1 * torch.from_numpy(rng.random(len(flat))))
    counts = torch.ones(len(flat), dtype=torch.int64)
    return tokens, SparseCodes.from_counts(counts, flat, values.float(), 21)


def test_rank_features_tests_faint_latents_only_with_judge_faint(tmp_path):
    tokens, codes = faint_world()
    features = FeatureStore.from_codes(tokens, codes, tmp_path / "features")
    table = rank_features(features).set_index("latent").sort_index()
    assert set(table.verdict[:15]) == {"single-token"} and table.verdict[20] == "dead"
    assert set(table.verdict[15:20]) == {"faint"} and table.monosemanticity[15:20].isna().all()
    assert "n_senses" not in set(ranking_evidence(table.reset_index(), 15)["measure"]), "its senses were not looked for"
    asked = rank_features(features, judge_faint=True).set_index("latent").sort_index()
    assert set(asked.verdict[:20]) == {"single-token"} and asked.monosemanticity[15:20].notna().all()
    assert asked.monosemanticity[:15].equals(table.monosemanticity[:15]), "they change no other's number"
    bare = rank_codes(tokens, codes, faint=is_faint(features.column("max")).numpy()).set_index("latent").sort_index()
    assert bare.verdict.tolist() == table.verdict.tolist()


def test_long_decoder_rows_make_weak_firings_strong(tmp_path):
    tokens, codes = faint_world()
    W_dec = torch.nn.functional.normalize(torch.randn(21, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    W_dec[15:20] *= 10
    features = FeatureStore.from_codes(tokens, codes, tmp_path / "features", W_dec=W_dec)
    assert "faint" not in set(rank_features(features).verdict)
