"""The measures' nulls: a recount against a scan of shifted text, closed forms against draws, chance against meaning."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from interp.codes import SparseCodes
from interp.features import FeatureStore, ScanConfig
from interp.ranking import count_firings
from interp.scores import shifted
from interp.scores.chance import burstiness_scale
from interp.scores.embeddings import MovedVectors, NgramVectors, ResidualVectors, embedding_coherence
from interp.scores.shifted import OF_LABELS, scales
from interp.scores.table import scan_measures

N_SEQ, N_CTX, VOCAB, D = 96, 16, 30, 120
STRINGS = [f" {'T' if i % 2 else 't'}{i // 2}" for i in range(VOCAB)]
TESTED = np.arange(D) < D - 2


@dataclass(frozen=True)
class Everyone:
    testable: np.ndarray
    effective_groups: np.ndarray


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0)).int()


@pytest.fixture(scope="module")
def labels(tokens):
    topic = torch.rand(N_SEQ // 8, 1, generator=torch.Generator().manual_seed(3)).repeat_interleave(8, 0) < 0.4
    return {"low": tokens < 12, "topic": topic.expand(-1, N_CTX).clone(), "all": tokens >= 0, "none": tokens < 0}


@pytest.fixture(scope="module")
def z(tokens):
    """0 and 1 fire on a token; 2 on the low ones; the rest at random, on 1 % to 30 % of the rows; the last never."""
    generator = np.random.default_rng(0)
    flat = tokens.flatten().numpy()
    fires = generator.random((len(flat), D)) < np.geomspace(0.01, 0.3, D)
    fires[:, 0], fires[:, 1], fires[:, 2] = flat == 3, flat == 20, (flat < 12) & (generator.random(len(flat)) < 0.5)
    fires[:, -1] = False
    return (fires * generator.lognormal(0, 0.5, fires.shape)).astype(np.float32)


def scan(tokens, z, labels, out):
    generator = torch.Generator().manual_seed(1)
    W_dec, W_U = torch.randn(D, 6, generator=generator), torch.randn(6, VOCAB, generator=generator)
    codes, settings = SparseCodes.from_dense(torch.from_numpy(z)), ScanConfig(n_logits=3)
    return FeatureStore.from_codes(
        tokens, codes, out, W_dec=W_dec, W_U=W_U, vocab=STRINGS, labels=labels, settings=settings
    )


@pytest.fixture(scope="module")
def features(tokens, z, labels, tmp_path_factory):
    return scan(tokens, z, labels, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def everyone(features):
    return Everyone(TESTED, features.table().n_sequences.to_numpy(float))


@pytest.fixture(scope="module")
def measures(features):
    share = count_firings(features.tokens, features.codes, features.vocab).token_share
    return {"token_share": share} | scan_measures(features)


def test_a_recount_is_a_scan_of_the_moved_text(features, tokens, z, labels, tmp_path, monkeypatch):
    """In one go and in small buffers alike."""
    units, shift = np.array([0, 2, 5, 40, 117]), 11
    moved = {name: mask.roll(-shift, 0) for name, mask in labels.items()}
    there = scan(tokens.roll(-shift, 0), z, moved, tmp_path)
    expected = {"token_share": count_firings(there.tokens, there.codes, there.vocab).token_share} | scan_measures(there)
    found = shifted._recount(features, units, [shift, 3], labels)
    without = ("next_auroc", "enc_dec_cosine", "dimensionality", "max_cosine", "burstiness", "density", "label_f1")
    assert set(expected) - set(found) == set(without)
    for name in set(expected) - set(without):
        np.testing.assert_allclose(found[name][0], expected[name][units], rtol=1e-5, atol=1e-7, err_msg=name)
    assert not np.allclose(found["token_entropy"][0], found["token_entropy"][1])
    monkeypatch.setattr(shifted, "_FIRINGS", 10)
    monkeypatch.setattr(shifted, "ROWS_PER_CHUNK", 64)
    for name, again in shifted._recount(features, units, [shift, 3], labels).items():
        np.testing.assert_allclose(again, found[name], rtol=1e-9, err_msg=name)


def test_what_fires_by_chance_is_within_its_null_and_what_means_something_is_not(features, everyone, measures, labels):
    found = scales(features, everyone, measures, nulls=4, seed=0, labels=labels)
    chance = np.arange(3, D - 2)
    for name, null in found.items():
        z = null.z[chance]
        assert abs(np.nanmean(z)) < 0.7 and np.nanmean(np.abs(z) > 3) < 0.06, name
        within = (measures[name] >= null.low) & (measures[name] <= null.high)
        assert np.mean(within[chance]) > 0.8, name
        assert np.isnan([null.z[~TESTED], null.low[~TESTED], null.high[~TESTED]]).all(), "they were not tested"
    assert (found["token_entropy"].z[:3] < -5).all() and (found["best_token_concentration"].z[:3] > 5).all()
    assert (found["token_share"].z[:2] > 5).all() and measures["token_share"][0] > found["token_share"].high[0]
    assert found["label_nmi"].z[2] > 5 and found["purity_excess"].z[2] > 5


def test_without_masks_labels_have_no_null(features, everyone, measures):
    found = scales(features, everyone, measures, nulls=1, seed=0)
    assert not set(OF_LABELS) & set(found) and "token_entropy" in found


def test_masks_of_other_tokens_are_refused(features, everyone, measures, labels):
    with pytest.raises(ValueError, match="no mask of label 'topic' was given, but .* was scanned with it"):
        scales(features, everyone, measures, nulls=1, seed=0, labels={"low": labels["low"]})
    with pytest.raises(ValueError, match=r"label 'low' is \(2, 2\), the tokens scanned are \(96, 16\)"):
        scales(features, everyone, measures, nulls=1, seed=0, labels={**labels, "low": torch.ones(2, 2).bool()})


def test_the_band_of_burstiness_is_that_of_firings_thrown_on_the_rows(features):
    n, generator = np.array([5, 40, 400, 1000]), np.random.default_rng(0)
    draws = np.empty((4, 4000))
    for i, size in enumerate(n):
        for j in range(4000):
            hit = np.unique(generator.choice(N_SEQ * N_CTX, size, replace=False) // N_CTX)
            draws[i, j] = size / len(hit)
    typical = np.round(n / draws.mean(1)).astype(int)
    null = burstiness_scale(n.astype(float), typical, features)
    assert (np.abs(null.z) < 1).all()
    outside = (draws < null.low[:, None] - 1e-9) | (draws > null.high[:, None] + 1e-9)
    assert (outside.mean(1) < 0.07).all()
    np.testing.assert_allclose(null.low[1:3], np.quantile(draws[1:3], 0.025, axis=1), rtol=0.03)
    np.testing.assert_allclose(null.high[1:3], np.quantile(draws[1:3], 0.975, axis=1), rtol=0.03)
    in_bursts = burstiness_scale(np.array([40.0, 400.0]), np.array([5, 30]), features)
    assert (in_bursts.z > 10).all() and (np.array([8, 400 / 30]) > in_bursts.high).all()


def test_what_follows_by_chance_ranks_in_the_middle(features, everyone, measures):
    """G groups that weigh the same, one firing in each: the standard deviation is 1 / √(12 G)."""
    null = scales(features, everyone, measures, nulls=1, seed=0)["next_auroc"]
    np.testing.assert_allclose((null.low + null.high)[TESTED] / 2, 0.5)
    groups = everyone.effective_groups[TESTED]
    np.testing.assert_allclose((null.high - 0.5)[TESTED], 1.96 / np.sqrt(12 * groups))
    draws = np.random.default_rng(0).random((2000, int(groups[50]))).mean(1)
    assert np.mean((draws < null.low[50]) | (draws > null.high[50])) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_moved_vectors_are_those_of_moved_text(tokens, every):
    vectors = np.random.default_rng(0).normal(size=(-(-N_SEQ // every) * N_CTX, 3)).astype(np.float16)
    moved = MovedVectors(ResidualVectors(vectors, N_CTX, every), N_SEQ, 7)
    rolled = ResidualVectors(np.roll(vectors, -7 * N_CTX, 0), N_CTX, every)
    assert (moved.n_ctx, moved.every, moved.dim) == (N_CTX, every, 3)
    for first, last in [(0, N_SEQ), (0, 10), (13, 31), (80, N_SEQ), (0, 1)]:
        np.testing.assert_array_equal(moved(first, last), rolled(first, last))


def test_ngrams_on_shifted_text_are_no_more_alike_than_any(features, everyone, measures):
    vectors = NgramVectors.from_tokens(features.tokens, features.vocab)
    coherence = {"ngram_coherence": embedding_coherence(features.codes, vectors)}
    null = scales(features, everyone, measures | coherence, nulls=2, seed=0, vectors={"ngram_coherence": vectors})
    z = null["ngram_coherence"].z
    assert np.nanmean(np.abs(z[3:]) > 3) < 0.06 and (z[:2] > 5).all()


def test_the_same_seed_gives_the_same_nulls(features, everyone, measures):
    first, again, other = (scales(features, everyone, measures, nulls=2, seed=seed) for seed in (0, 0, 1))
    for name, null in first.items():
        np.testing.assert_array_equal(np.array(null), np.array(again[name]))
    assert not np.array_equal(first["token_entropy"].low, other["token_entropy"].low, equal_nan=True)
