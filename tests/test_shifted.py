"""The measures' nulls: a recount against a scan of shifted text, closed forms against draws, chance against meaning."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from interp.codes import SparseCodes
from interp.features.feature_store import FeatureStore, ScanConfig
from interp.metrics import recount
from interp.metrics.chance import _dimensionality, burstiness_scale, random_directions, second_moments
from interp.metrics.directions import direction_measures
from interp.metrics.embeddings import CoherenceSummer, NgramVectors, ResidualVectors, embedding_coherence
from interp.metrics.recount import Recount
from interp.metrics.shifted import MeasureNulls
from interp.metrics.table import MEASURES, scan_measures
from interp.metrics.tokens import WordMass
from interp.metrics.twins import twin_agreement
from interp.monosemanticity.firings import chunks

N_SEQ, N_CTX, VOCAB, D = 192, 16, 30, 120
STRINGS = [f" {'T' if i % 2 else 't'}{i // 2}" for i in range(VOCAB)]
ROWS = N_SEQ * N_CTX
TESTED = np.arange(D) < D - 2


@dataclass(frozen=True)
class Everyone:
    testable: np.ndarray
    effective_groups: np.ndarray


OF_LABELS = {"class_selectivity", "purity", "purity_excess", "label_nmi", "label_f1"}


def read(features, *listeners):
    """One pass over the codes, a few groups at a time."""
    for chunk in chunks(features.codes, np.ones(D, np.float32), N_CTX):
        for listener in listeners:
            listener(chunk)


def scales(features, judged, measures, **given):
    beside = MeasureNulls(features, **given)
    read(features, *beside.listeners)
    return beside.scales(judged, measures | beside.measures())


def word_share(features):
    words = WordMass(features.tokens, features.vocab, D)
    read(features, words.add)
    return words.largest_share


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
    return {"token_share": word_share(features)} | scan_measures(features)


def test_a_recount_is_a_scan_of_the_moved_text(features, tokens, z, labels, tmp_path, monkeypatch):
    """In one go and in small buffers alike."""
    units, shift = np.array([0, 2, 5, 40, 117]), 11
    moved = {name: mask.roll(-shift, 0) for name, mask in labels.items()}
    there = scan(tokens.roll(-shift, 0), z, moved, tmp_path)
    expected = {"token_share": word_share(there)} | scan_measures(there)

    def recounted():
        counts = Recount(features, units, [shift * N_CTX, 3 * N_CTX], labels)
        read(features, counts.add)
        return counts.measures()

    found = recounted()
    without = ("next_auroc", "enc_dec_cosine", "dimensionality", "max_cosine", "burstiness", "density")
    assert set(expected) - set(found) == set(without)
    for name in set(expected) - set(without):
        np.testing.assert_allclose(found[name][0], expected[name][units], rtol=1e-5, atol=1e-7, err_msg=name)
    assert not np.allclose(found["token_entropy"][0], found["token_entropy"][1])
    monkeypatch.setattr(recount, "BUFFERED", 10)
    monkeypatch.setattr("interp.monosemanticity.firings.ROWS_PER_CHUNK", 64)
    for name, again in recounted().items():
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
    assert not OF_LABELS & set(found) and "token_entropy" in found


def test_masks_of_other_tokens_are_refused(features, everyone, measures, labels):
    with pytest.raises(ValueError, match="no mask of label 'topic' was given, but .* was scanned with it"):
        scales(features, everyone, measures, nulls=1, seed=0, labels={"low": labels["low"]})
    with pytest.raises(ValueError, match=r"label 'low' is \(2, 2\), the tokens scanned are \(192, 16\)"):
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
@pytest.mark.parametrize("moved", [0, 7 * N_CTX, 1001])
def test_moved_vectors_are_those_of_rows_further_on(features, z, every, moved, monkeypatch):
    """Chunks of two and a half sequences, in some of which there is no vector; groups of half a sequence."""
    monkeypatch.setattr("interp.monosemanticity.firings.ROWS_PER_CHUNK", 40)
    vectors = np.random.default_rng(0).normal(size=(-(-N_SEQ // every) * N_CTX, 3)).astype(np.float16)
    summer = CoherenceSummer(D, ResidualVectors(vectors, N_CTX, every), N_CTX // 2, ROWS, moved)
    for chunk in chunks(features.codes, np.ones(D, np.float32), N_CTX // 2):
        summer.add(chunk)
    there = (np.arange(ROWS) + moved) % ROWS
    kept = there // N_CTX % every == 0
    full = np.zeros((ROWS, 3))
    full[kept] = vectors[there[kept] // N_CTX // every * N_CTX + there[kept] % N_CTX]
    weighted = np.einsum("rj,rd->jrd", z * kept[:, None], full).reshape(D, -1, N_CTX // 2, 3).sum(2)
    mass = (z * kept[:, None]).T.reshape(D, -1, N_CTX // 2).sum(2)
    dot = np.square(weighted.sum(1)).sum(1) - np.square(weighted).sum((1, 2))
    pairs = mass.sum(1) ** 2 - np.square(mass).sum(1)
    expected = np.divide(dot, pairs, out=np.full(D, np.nan), where=pairs > 0)
    np.testing.assert_allclose(summer.coherence, expected, rtol=1e-4, atol=1e-6)


def test_vectors_of_another_text_are_refused(features):
    short = ResidualVectors(np.zeros((ROWS - N_CTX, 3), np.float16), N_CTX, 1)
    with pytest.raises(ValueError, match=f"the vectors end before row {ROWS - 1}"):
        embedding_coherence(features.codes, short)


def test_ngrams_on_shifted_text_are_no_more_alike_than_any(features, everyone, measures):
    vectors = NgramVectors.from_tokens(features.tokens, features.vocab)
    beside = MeasureNulls(features, nulls=2, seed=0, vectors={"ngram_coherence": vectors})
    read(features, *beside.listeners)
    coherence = beside.measures()["ngram_coherence"]
    np.testing.assert_allclose(coherence, embedding_coherence(features.codes, vectors), rtol=1e-5, atol=1e-7)
    null = beside.scales(everyone, measures | beside.measures())
    z = null["ngram_coherence"].z
    assert np.nanmean(np.abs(z[3:]) > 3) < 0.06 and (z[:2] > 5).all()


def test_the_same_seed_gives_the_same_nulls(features, everyone, measures):
    first, again, other = (scales(features, everyone, measures, nulls=2, seed=seed) for seed in (0, 0, 1))
    for name, null in first.items():
        np.testing.assert_array_equal(np.array(null), np.array(again[name]))
    assert not np.array_equal(first["token_entropy"].low, other["token_entropy"].low, equal_nan=True)


@pytest.fixture(scope="module")
def twin(tokens, z, tmp_path_factory):
    """The same firings, now and then missed, of an unrelated decoder but for the first ten rows."""
    missed = np.random.default_rng(5).random(z.shape) < 0.2
    W_dec = torch.randn(D, 6, generator=torch.Generator().manual_seed(9))
    W_dec[:10] = torch.randn(D, 6, generator=torch.Generator().manual_seed(1))[:10]
    codes = SparseCodes.from_dense(torch.from_numpy(z * ~missed))
    return FeatureStore.from_codes(tokens, codes, tmp_path_factory.mktemp("twin"), W_dec=W_dec)


def test_a_twins_agreement_stands_beside_its_codes_on_other_text(features, twin, everyone, measures):
    beside = MeasureNulls(features, nulls=2, seed=0, twin=twin)
    read(features, *beside.listeners)
    agreement, taken = twin_agreement(features, twin), beside.measures()
    np.testing.assert_array_equal(taken["twin_cosine"], agreement.decoder_cosine)
    np.testing.assert_allclose(taken["twin_correlation"], agreement.correlation)
    null = beside.scales(everyone, measures | taken)["twin_correlation"]
    assert (null.z[TESTED] > 5).all(), "every latent has its twin"
    shift = int(np.random.default_rng(0).integers(8, N_SEQ - 8, 2)[0])
    codes = [store.codes[0:ROWS].scipy().toarray() for store in (features, twin)]
    both = np.corrcoef(codes[0][:, :-1].T, np.roll(codes[1], -shift * N_CTX, 0)[:, :-1].T)[: D - 1, D - 1 :]
    found = beside._moved_correlation[0].best().value
    np.testing.assert_allclose(found, both.max(1)[beside._units], atol=1e-6)


def test_an_unrelated_twin_agrees_by_chance_only(features, everyone, measures, tokens, z, tmp_path):
    elsewhere = SparseCodes.from_dense(torch.from_numpy(np.roll(z, ROWS // 2 + 5, 0)))
    W_dec = torch.randn(D, 6, generator=torch.Generator().manual_seed(11))
    unrelated = FeatureStore.from_codes(tokens, elsewhere, tmp_path, W_dec=W_dec)
    found = scales(features, everyone, measures, nulls=2, seed=0, twin=unrelated)
    for name in ("twin_cosine", "twin_correlation"):
        z_scores = found[name].z[TESTED]
        assert abs(np.mean(z_scores)) < 0.5 and np.mean(np.abs(z_scores) > 3) < 0.06, name


def test_random_directions_are_within_the_null_of_directions_whatever_their_length(features, everyone, measures):
    """The decoder here is random."""
    for lengths in (torch.linspace(0, 0.1, D).exp(), torch.linspace(-1, 1, D).exp()):
        store = copy.copy(features)
        store.__dict__["W_dec"] = features.W_dec * lengths[:, None]
        own = direction_measures(store.W_dec)
        given = measures | {"dimensionality": own.dimensionality, "max_cosine": own.max_cosine}
        found = scales(store, everyone, given, nulls=1, seed=0)
        for name in ("dimensionality", "max_cosine"):
            z_scores = found[name].z
            assert abs(np.mean(z_scores[TESTED])) < 0.5 and np.isnan(z_scores[~TESTED]).all(), name
            within = (given[name] >= found[name].low) & (given[name] <= found[name].high)
            assert np.mean(within[TESTED]) > 0.85, name
            assert abs(spearmanr(z_scores[TESTED], lengths[TESTED]).statistic) < 0.3


def test_a_dimensionality_is_that_of_the_row_in_another_direction(features):
    W, directions = features.W_dec, random_directions(second_moments(features.W_dec), 50, 3)
    mean, std = _dimensionality(W, directions)
    for row in (0, 7):
        found = []
        for direction in directions:
            changed = W.clone()
            changed[row] = direction * W[row].norm()
            found.append(direction_measures(changed).dimensionality[row])
        assert mean[row] == pytest.approx(np.mean(found), rel=1e-5)
        assert std[row] == pytest.approx(np.std(found, ddof=1), rel=1e-3)


def test_random_directions_have_the_second_moments_of_the_rows():
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(300, 8, generator=generator) * torch.tensor([4.0, 2, 1, 1, 1, 1, 1, 1])
    unit, directions = torch.nn.functional.normalize(W, dim=1), random_directions(second_moments(W), 20000, 1)
    np.testing.assert_allclose(directions.norm(dim=1), 1, rtol=1e-5)
    weights = torch.randn(20000, 300, generator=generator) @ unit / 300**0.5
    np.testing.assert_allclose(weights.T @ weights / 20000, unit.T @ unit / 300, atol=0.02)
    largest = torch.linalg.eigh(directions.T @ directions).eigenvectors[:, -1]
    assert abs(largest[0]) > 0.99


def test_the_spread_of_encoder_and_decoder_is_that_of_two_random_directions(features, everyone, measures):
    null = scales(features, everyone, measures | {"enc_dec_cosine": np.full(D, 0.5)}, nulls=1, seed=0)["enc_dec_cosine"]
    a, b = (random_directions(second_moments(features.W_dec), 20000, seed) for seed in (1, 2))
    assert (null.high - null.low)[0] / (2 * 1.96) == pytest.approx((a * b).sum(1).std().item(), rel=0.05)
    assert null.high[0] == -null.low[0]


def test_every_measure_but_density_has_a_null(features, twin, everyone, measures, labels):
    vectors = {
        "ngram_coherence": NgramVectors.from_tokens(features.tokens, features.vocab),
        "residual_coherence": ResidualVectors(np.random.default_rng(0).normal(size=(ROWS, 4)), N_CTX, 1),
    }
    given = measures | {"enc_dec_cosine": np.full(D, 0.5)}
    found = scales(features, everyone, given, nulls=1, seed=0, labels=labels, vectors=vectors, twin=twin)
    assert set(MEASURES) - set(found) == {"density"}
    assert all(np.isfinite(null.z[TESTED]).any() for null in found.values())


def test_few_latents_are_recounted_on_more_texts(tokens, z, tmp_path):
    few = FeatureStore.from_codes(tokens, SparseCodes.from_dense(torch.from_numpy(z[:, :2])), tmp_path, vocab=STRINGS)
    assert len(MeasureNulls(few, nulls=2, seed=0)._recount._counts) == 50


def test_a_few_testable_latents_share_the_null_of_those_that_were_not(features, measures):
    """It is not known before the pass which are: the nulls of all that fire as often are at hand."""
    three = Everyone(np.isin(np.arange(D), [20, 50, 80]), features.table().n_sequences.to_numpy(float))
    found = scales(features, three, measures, nulls=1, seed=0)
    for name in ("token_entropy", "token_share", "max_cosine", "dimensionality"):
        assert (np.abs(found[name].z[three.testable]) < 4).all(), name


@pytest.mark.parametrize("n_seq", [1, 3])
def test_a_text_of_few_sequences_is_shifted_by_rows(n_seq, tokens, z, tmp_path):
    text = tokens.reshape(n_seq, -1)
    codes = SparseCodes.from_dense(torch.from_numpy(z))
    long = FeatureStore.from_codes(text, codes, tmp_path, vocab=STRINGS)
    beside = MeasureNulls(long, nulls=3, seed=0)
    read(long, *beside.listeners)
    shifted = beside._recount.measures()["token_entropy"]
    measured = scan_measures(long)["token_entropy"][beside._units]
    assert (shifted[:, :2] > measured[:2] + 1).all(), "the tokens that the first two detect are elsewhere"
    assert not np.allclose(shifted[0], shifted[1])


def test_no_null_is_refused(features):
    with pytest.raises(ValueError, match="nulls=0"):
        MeasureNulls(features, nulls=0, seed=0)
