"""Births in a planted curriculum are found, but not after the checkpoints are shuffled."""

import numpy as np
import pytest

from analyses.claims.feature_lives import MIN_RUN, feature_lives, lives_of_latents
from tests.random_codes import codes_of

ROWS, T, N = 900, 10, 60


@pytest.fixture(scope="module")
def curriculum() -> tuple[list[np.ndarray], np.ndarray, np.ndarray, list[np.ndarray]]:
    """Concepts that enter at a checkpoint, some that leave again, in dictionaries of another order and noise each, with
    latents that mean nothing. Checkpoints, births, deaths (T: none), and which concept each latent is (-1: none)."""
    generator = np.random.default_rng(0)
    truth = generator.random((ROWS, N)) * (generator.random((ROWS, N)) < 0.06)
    born = np.concatenate([np.zeros(12, int), generator.integers(2, T - MIN_RUN + 1, N - 12)])
    died = np.full(N, T)
    died[50:55], born[50:55] = 8, 3
    found, which = [], []
    for t in range(T):
        there = np.flatnonzero((born <= t) & (t < died))
        junk = generator.random((ROWS, 8)) * (generator.random((ROWS, 8)) < 0.05)
        missed = generator.random((ROWS, len(there))) < 0.1
        noisy = truth[:, there] * generator.uniform(0.8, 1.2, (ROWS, len(there))) * ~missed
        order = generator.permutation(len(there) + 8)
        found.append(np.hstack([noisy, junk])[:, order])
        which.append(np.concatenate([there, np.full(8, -1)])[order])
    return found, born, died, which


def test_nine_in_ten_births_are_within_a_checkpoint_of_the_truth(curriculum):
    found, born, died, which = curriculum
    lives = feature_lives([codes_of(z) for z in found])
    table = lives.table
    concept = np.array([which[c][latent] for c, latent in zip(table.checkpoint, table.latent, strict=True)])
    said = {k: row for k, row in zip(concept, table.itertuples(), strict=True) if k >= 0 and row.kind == "born"}
    planted = np.flatnonzero(born > 0)
    right = [k for k in planted if k in said and abs(said[k].born - born[k]) <= 1]
    assert len(right) >= 0.9 * len(planted)
    assert (table.kind[concept == -1] == "born").mean() <= 0.05
    assert lives.null <= 0.05 < lives.share_born
    gone = [k for k in np.flatnonzero(died < T) if k in said]
    assert len(gone) >= 4 and all(said[k].died == died[k] for k in gone)
    start = table.kind[(concept >= 0) & (born[concept] == 0)]
    assert (start == "there").mean() >= 0.9 and lives.presence.shape == (len(table), T)


def test_a_part_of_an_older_latent_has_split_off_and_another_is_new():
    generator = np.random.default_rng(1)
    whole = generator.random(ROWS) * (generator.random(ROWS) < 0.2)
    part, other = whole * (generator.random(ROWS) < 0.3), generator.random(ROWS) * (generator.random(ROWS) < 0.1)
    early, late = np.stack([whole], 1), np.stack([whole, part, other], 1)
    table = feature_lives([codes_of(z) for z in (early, early, late, late, late)]).table.set_index("latent")
    assert table.kind.to_dict() == {0: "there", 1: "born", 2: "born"} and table.born[1] == table.born[2] == 2
    assert table.split.to_dict() == {0: None, 1: True, 2: False}


def test_kinds_are_read_off_the_correlations():
    r = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [0, 1, 0, 1, 1], [0, 1, 1, 1, 1.0]])
    never = np.zeros((0, 5))
    table, presence = lives_of_latents([never, never, never, never, r], 0.7)
    kinds = table.set_index("latent").kind.to_dict()
    assert kinds == {0: "there", 1: "born", 2: "passing", 3: "flickers", 4: "born"}
    assert table.latent.tolist()[:2] == [4, 1] and (presence[0] == r[4]).all()


def test_mistakes_in_checkpoints_are_named(curriculum):
    some = [codes_of(z) for z in curriculum[0][:3]]
    with pytest.raises(ValueError, match="3 checkpoints are too few"):
        feature_lives(some)
    with pytest.raises(ValueError, match="threshold=2"):
        feature_lives(some * 2, threshold=2)
    with pytest.raises(ValueError, match="min_fired=9999"):
        feature_lives(some * 2, min_fired=9999)
