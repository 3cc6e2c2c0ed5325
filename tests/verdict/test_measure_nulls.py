"""The measures' nulls: a scan of shifted codes, random directions and ranks; chance within them, meaning without."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from interp.checks.errors import InterpError
from interp.codes.code_chunks import read_chunks
from interp.codes.sparse_codes import SparseCodes
from interp.features.decoder import Decoder
from interp.features.feature_store import FeatureStore
from interp.features.scan_config import ScanConfig
from interp.features.scan_folder import ScanFolder
from interp.verdict import measure_nulls
from interp.verdict.measure_nulls import (
    SampledCodes,
    against_pooled_nulls,
    circular_shifts,
    compare_measures,
    random_dictionary,
    random_directions,
    rows_per_group,
    second_moments,
    shift_rows,
)
from interp.verdict.measures import MEASURES, Measure, largest_cosines, measure_values

N_SEQ, N_CTX, VOCAB, D = 192, 16, 30, 120
STRINGS = [f" {'T' if i % 2 else 't'}{i // 2}" for i in range(VOCAB)]
ROWS = N_SEQ * N_CTX
TESTED = np.arange(D) < D - 2
SHIFTS, FOUR = (11 * N_CTX, 1001), (500, 1700, 2200, 2700)


@dataclass(frozen=True)
class Judged:
    testable: np.ndarray
    effective_groups: np.ndarray


def sampled(features, shifts=SHIFTS, seed=0):
    """Return the firings of one pass over the codes, a few groups at a time."""
    sample = SampledCodes(features, shifts, seed)
    for chunk in read_chunks(features.codes, features.n_ctx):
        sample.add(chunk)
    return sample


def scales(features, values, judged, **given):
    return compare_measures(
        values, features, sampled(features, FOUR), judged.testable, judged.effective_groups, **given
    )


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
    W_dec, W_U = torch.randn(z.shape[1], 6, generator=generator), torch.randn(6, VOCAB, generator=generator)
    codes, settings = SparseCodes.from_dense(torch.from_numpy(z)), ScanConfig(n_logits=3)
    return FeatureStore.from_codes(
        tokens, codes, out, W_dec=W_dec, W_U=W_U, vocab=STRINGS, labels=labels, config=settings
    )


@pytest.fixture(scope="module")
def features(tokens, z, labels, tmp_path_factory):
    return scan(tokens, z, labels, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def judged(features):
    return Judged(TESTED, features.table().n_sequences.to_numpy(float))


@pytest.fixture(scope="module")
def twin(tokens, z, tmp_path_factory):
    """Return the same firings, now and then missed, of an unrelated decoder."""
    missed = np.random.default_rng(5).random(z.shape) < 0.2
    codes = SparseCodes.from_dense(torch.from_numpy(z * ~missed))
    return FeatureStore.from_codes(tokens, codes, tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module")
def values(features, twin):
    return measure_values(features, twin=twin) | {"enc_dec_cosine": np.full(D, 0.5)}


@pytest.fixture(scope="module")
def found(features, values, judged, labels, twin):
    return scales(features, values, judged, labels=labels, twin=twin)


def test_a_shifted_store_is_a_scan_of_shifted_codes(features, tokens, z, labels, twin, tmp_path):
    """Every measure of it, latent by latent, shift by shift."""
    sample = sampled(features)
    shifted = sample.write_shifted(labels, tmp_path / "shifted")
    assert shifted.d_sae == 2 * len(sample.units) and D - 1 not in sample.units
    for place, shift in enumerate(SHIFTS):
        there = scan(tokens, np.roll(z, shift, 0), labels, tmp_path / str(shift))
        for name, own in measure_values(there, twin=twin).items():
            if MEASURES[name].null == "shift":
                mine = MEASURES[name](shifted, twin).reshape(2, -1)[place]
                np.testing.assert_allclose(mine, own[sample.units], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("name", ["features", "histograms", "intervals", "offsets", "labels", "tokens"])
def test_a_shifted_store_has_the_tables_of_a_scan_of_shifted_codes(name, features, tokens, z, labels, tmp_path):
    sample = sampled(features, SHIFTS[:1])
    shifted = sample.write_shifted(labels, tmp_path / "shifted").table(name)
    there = scan(tokens, np.roll(z, SHIFTS[0], 0), labels, tmp_path / "there").table(name)
    there = there[there.latent.isin(sample.units)]
    known = [column for column in there if column != "latent" and not shifted[column].isna().all()]
    assert len(known) > 2 and sample.units[shifted.latent].tolist() == there.latent.tolist()
    for column in known:
        np.testing.assert_array_equal(shifted[column].fillna(-1), there[column].fillna(-1), err_msg=column)


def null_of(function, features, judged, labels=None):
    """Return the comparison of a user's measure with its null by shifts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MEASURES, "mine", Measure(function, "Mine", "my own", 1, "shift"))
        return scales(features, {"mine": function(features)}, judged, labels=labels).get("mine")


def share_of_common_tokens(features):
    """Return the share of firings on the five commonest tokens of a latent."""
    table = features.table("tokens").query("offset == 0").sort_values(["latent", "n"], ascending=[True, False])
    common = table.groupby("latent").head(5).groupby("latent").n.sum().reindex(range(features.d_sae))
    return common.to_numpy(float) / features.column("n_active")


def test_chance_firings_are_within_the_null_of_a_measure_of_ones_own(features, judged):
    null = null_of(share_of_common_tokens, features, judged)
    assert abs(np.nanmean(null.z[3 : D - 2])) < 0.8 and (null.z[:2] > 5).all()


@pytest.mark.parametrize(
    ("read", "refusal"),
    [
        (lambda features: features.sql("select count(*) from examples"), "'examples': read its codes"),
        (lambda features: features[0], "'examples': read its codes"),
        (lambda features: features.table("coactivations"), "'coactivations': .* declare null='none'"),
        (lambda features: features.W_dec.norm(dim=1), "W_dec: .* declare null='directions'"),
        (lambda features: features.column("dec_norm"), "dec_norm: .* declare null='directions'"),
    ],
)
def test_a_measure_of_what_no_shift_changes_is_named_with_the_remedy(read, refusal, features, judged):
    def measured(store):
        assert read(store) is not None
        return store.column("density")

    with pytest.raises(InterpError, match=f"^the measure 'mine' has no null by shifts: it reads .*{refusal}"):
        null_of(measured, features, judged)


def test_a_measure_of_the_table_of_labels_has_a_null_only_with_their_masks(features, judged, labels):
    def overlap(store):
        return store.table("labels").groupby("latent").n_both.max().reindex(range(store.d_sae)).to_numpy(float)

    assert null_of(overlap, features, judged) is None
    assert np.isfinite(null_of(overlap, features, judged, labels).z[TESTED]).all()


def test_chance_firings_are_within_their_null_and_meaningful_ones_are_not(found, values):
    chance = np.arange(3, D - 2)
    for name, null in found.items():
        assert np.isnan([null.z[~TESTED], null.low[~TESTED], null.high[~TESTED]]).all(), "they were not tested"
        if name in ("twin_correlation", "enc_dec_cosine"):
            continue  # every latent has its twin here, and every cosine was made up
        z = null.z[chance]
        assert abs(np.nanmean(z)) < 0.8 and np.nanmean(np.abs(z) > 3) < 0.06, name
        within = (values[name] >= null.low) & (values[name] <= null.high)
        assert np.mean(within[chance]) > 0.8, name
    assert (found["token_entropy"].z[:3] < -5).all() and (found["best_token_concentration"].z[:3] > 5).all()
    assert (found["token_share"].z[:2] > 5).all() and values["token_share"][0] > found["token_share"].high[0]
    assert found["label_f1"].z[2] > 5


def test_chance_firings_are_within_their_null_in_padded_text(tmp_path):
    """Two thirds of the text are padding, which a label holds at as well."""
    rng = np.random.default_rng(1)
    tokens = rng.zipf(1.3, (N_SEQ, 60)).clip(1, VOCAB - 1).astype(np.int32)
    kept = np.arange(60) < rng.integers(8, 32, N_SEQ)[:, None]
    tokens[~kept] = 0
    z = torch.from_numpy((rng.random((tokens.size, 40)) < np.geomspace(0.03, 0.3, 40)) * kept.reshape(-1, 1)).float()
    masks = {"ends": torch.from_numpy((tokens == 0) | (tokens == 2))}
    scan = ScanFolder(torch.from_numpy(tokens), vocab=STRINGS, labels=masks, config=None)
    with scan.begin(tmp_path / "features", {}, d_sae=40) as codes:
        rows = torch.from_numpy(np.flatnonzero(kept))
        codes.write_file("0", rows, SparseCodes.from_dense(z[rows]))
        scan.finish(codes, Decoder(None, None))
    padded = FeatureStore.open(tmp_path / "features")
    every = np.ones(40, bool)
    nulls_of = compare_measures(
        measure_values(padded), padded, sampled(padded, FOUR), every, np.full(40, 100.0), labels=masks
    )
    assert set(nulls_of) == {"token_entropy", "best_token_concentration", "token_share", "label_f1"}
    for name, null in nulls_of.items():
        assert abs(null.z.mean()) < 0.8 and np.abs(null.z).max() < 5, name


def test_every_measure_but_those_that_do_not_know_the_text_has_a_null(found):
    assert set(MEASURES) - set(found) == {"burstiness", "density"}
    assert all(np.isfinite(null.z[TESTED]).any() for null in found.values())


def test_without_masks_labels_have_no_null(features, values, judged):
    assert set(scales(features, values, judged)) == {
        "token_entropy",
        "best_token_concentration",
        "token_share",
        "next_auroc",
        "enc_dec_cosine",
        "max_cosine",
    }, "nor has a twin that is not given"


def test_chance_followers_rank_in_the_middle(found, judged):
    """G groups that weigh the same, one firing in each: the standard deviation is 1 / √(12 G)."""
    null = found["next_auroc"]
    np.testing.assert_allclose((null.low + null.high)[TESTED] / 2, 0.5)
    groups = judged.effective_groups[TESTED]
    np.testing.assert_allclose((null.high - 0.5)[TESTED], 1.96 / np.sqrt(12 * groups))
    draws = np.random.default_rng(0).random((2000, int(groups[50]))).mean(1)
    assert np.mean((draws < null.low[50]) | (draws > null.high[50])) == pytest.approx(0.05, abs=0.02)


def test_measure_scales_separate_a_twin_from_an_unrelated_latent(found, features, values, judged, tokens, z, tmp_path):
    assert (found["twin_correlation"].z[TESTED] > 5).all()
    elsewhere = SparseCodes.from_dense(torch.from_numpy(np.roll(z, ROWS // 2 + 5, 0)))
    unrelated = FeatureStore.from_codes(tokens, elsewhere, tmp_path)
    own = {"twin_correlation": MEASURES["twin_correlation"](features, unrelated)}
    z_scores = scales(features, own, judged, twin=unrelated)["twin_correlation"].z[TESTED]
    assert abs(np.mean(z_scores)) < 0.5 and np.mean(np.abs(z_scores) > 3) < 0.06


def test_random_directions_of_any_length_are_within_the_null_of_directions(features, values, judged):
    """The decoder here is random."""
    for lengths in (torch.linspace(0, 0.1, D).exp(), torch.linspace(-1, 1, D).exp()):
        store = copy.copy(features)
        store.__dict__["W_dec"] = features.W_dec * lengths[:, None]
        own = {"max_cosine": largest_cosines(store.W_dec)}
        null = scales(store, own, judged)["max_cosine"]
        assert abs(np.mean(null.z[TESTED])) < 0.5 and np.isnan(null.z[~TESTED]).all()
        within = (own["max_cosine"] >= null.low) & (own["max_cosine"] <= null.high)
        assert np.mean(within[TESTED]) > 0.85
        assert abs(spearmanr(null.z[TESTED], lengths[TESTED]).statistic) < 0.3


def test_random_directions_have_the_second_moments_of_the_rows():
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(300, 8, generator=generator) * torch.tensor([4.0, 2, 1, 1, 1, 1, 1, 1])
    unit, directions = torch.nn.functional.normalize(W, dim=1), random_directions(second_moments(W), 20000, 1)
    np.testing.assert_allclose(directions.norm(dim=1), 1, rtol=1e-5)
    weights = torch.randn(20000, 300, generator=generator) @ unit / 300**0.5
    np.testing.assert_allclose(weights.T @ weights / 20000, unit.T @ unit / 300, atol=0.02)
    largest = torch.linalg.eigh(directions.T @ directions).eigenvectors[:, -1]
    assert abs(largest[0]) > 0.99


def test_the_null_of_encoder_and_decoder_is_two_random_directions(features, found):
    null = found["enc_dec_cosine"]
    a, b = (random_directions(second_moments(features.W_dec), 20000, seed) for seed in (1, 2))
    assert (null.high - null.low)[0] / (2 * 1.96) == pytest.approx((a * b).sum(1).std().item(), rel=0.2)
    random = random_dictionary(features.W_dec, 0)
    assert random.W_dec.shape == features.W_dec.shape and not torch.equal(random.W_dec, features.W_dec)
    np.testing.assert_allclose(random.W_dec.norm(dim=1), 1, rtol=1e-5)
    assert random.enc_dec_cosine.shape == (D,) and np.isfinite(random.enc_dec_cosine).all()


def test_the_same_seed_gives_the_same_nulls(features, values, judged):
    texts = {name: values[name] for name in ("token_entropy", "max_cosine")}
    first, again, other = (scales(features, texts, judged, seed=seed) for seed in (0, 0, 1))
    for name, null in first.items():
        np.testing.assert_array_equal(np.array(null), np.array(again[name]))
    assert not np.array_equal(first["max_cosine"].low, other["max_cosine"].low, equal_nan=True)


def test_few_latents_get_more_shifts_and_rare_latents_only_fill_the_sample(features, tokens, z, tmp_path):
    assert [len(circular_shifts(N_SEQ, N_CTX, 2, n_latents, 0)) for n_latents in (0, 2, 117)] == [2, 50, 2]
    assert circular_shifts(N_SEQ, N_CTX, 0, 2, 0) == []
    rare = z[:, :110] * (np.arange(ROWS)[:, None] < np.where(np.arange(110) < 30, ROWS, 400))
    store = scan(tokens, rare, {}, tmp_path)
    n_active = store.table().n_active.to_numpy()
    units = SampledCodes(store, SHIFTS, 0).units
    assert len(units) == 50 + max(0, (n_active >= 20).sum() - 50) and set(np.flatnonzero(n_active >= 20)) <= set(units)


def test_many_firings_are_kept_of_fewer_latents(features, monkeypatch):
    monkeypatch.setattr(measure_nulls, "MAX_SHIFTED_FIRINGS", 5000)
    n_active = features.table().n_active.to_numpy()
    units = SampledCodes(features, SHIFTS, 0).units
    assert 0 < len(units) < D and 2 * n_active[units].sum() <= 5000


def test_null_z_is_standard_normal_under_the_null_at_every_size():
    rng = np.random.default_rng(7)
    size = rng.uniform(10, 1000, 4000)
    nulls, observed = (0.05 + rng.normal(size=(k, 4000)) / size for k in (2, 1))
    scale = against_pooled_nulls(observed[0], nulls, size)
    z = scale.z
    inside = (scale.low <= observed[0]) & (observed[0] <= scale.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.02)
    for part in (size < 200, size > 700):
        assert abs(z[part].mean()) < 0.15 and 0.85 < z[part].std() < 1.15
    shifted = against_pooled_nulls(observed[0] + 10 / size, nulls, size)
    assert shifted.z.mean() == pytest.approx(10, abs=0.5)
    nothing = against_pooled_nulls(np.array([np.nan, 1.0]), np.full((1, 2), np.nan), np.ones(2))
    assert all(np.isnan(part).all() for part in nothing)


@pytest.mark.parametrize(
    ("n_seq", "n_ctx", "rows"),
    [
        *((n_seq, 128, 128) for n_seq in (1, 15, 192, 1023)),
        *((n_seq, 128, 256) for n_seq in (1024, 1100)),
        *((n_seq, 128, 8 * 128) for n_seq in (4096, 100_000)),
        *((n_seq, 255, 255) for n_seq in (1, 15, 1023)),
        *((n_seq, 2000, 2000) for n_seq in (160, 1023)),
        (159, 2000, 1000),
        (15, 2000, 182),
        (2, 2000, 134),
        (1, 1 << 20, (1 << 20) // 160 + 1),
    ],
)
def test_only_long_sequences_are_cut_and_only_where_there_are_few(n_seq, n_ctx, rows):
    assert rows_per_group(n_seq, n_ctx) == rows
    assert rows >= min(n_ctx, 128)


def test_firings_move_along_the_encoded_rows_alone():
    rows = np.array([0, 3, 9])
    assert shift_rows(rows, 4, np.arange(10), 10).tolist() == [4, 7, 3]
    assert shift_rows(rows, 4, np.array([0, 3, 5, 7, 9]), 10).tolist() == [5, 7, 3], "two of five rows on"
