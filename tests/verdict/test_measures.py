"""Each measure against its formula written out, planted cases where it must be high or low, and its failing."""

import itertools

import numpy as np
import pytest
import torch

from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.compare.concepts import concept_table
from interp.features.latent_matches import best_correlations, best_matches, match_rows, nearest_rows
from interp.features.scan_config import ScanConfig
from interp.verdict.measures import (
    MEASURES,
    best_token_concentration,
    burstiness,
    density,
    label_f1,
    largest_cosines,
    measure,
    measure_values,
    next_auroc,
    token_entropy,
    token_share,
    twin_correlation,
)
from tests.planted_scan import N_CTX, N_SEQ, ROWS, VOCAB, D, bigrams, features, labels, scan, tokens, twin, z

__all__ = ["bigrams", "features", "labels", "tokens", "twin", "z"]


def test_a_token_detector_is_found_where_it_looks(features):
    best = best_token_concentration(features)
    assert best[0] == best[2] == 1 and np.isnan(best[3])
    assert (np.delete(best, [0, 2, 3]) < 0.3).all()
    assert token_entropy(features)[0] == 0 and token_entropy(features)[2] > 2


def test_token_entropy_fails_on_a_broad_meaning(tokens, tmp_path):
    """One class of fifteen tokens looks worse than a union of two unrelated tokens."""
    flat = tokens.flatten().numpy()
    entropy = token_entropy(scan(np.stack([flat < 15, (flat == 3) | (flat == 20)], 1), tokens, tmp_path))
    assert entropy[0] > 2.5 > 0.7 > entropy[1]


def test_the_share_of_a_token_counts_its_variants_in_case_and_space_as_one(tokens, z, tmp_path):
    names = [f"{' ' * (i % 2)}{'aA'[i // 2 % 2]}{i // 4}" for i in range(VOCAB)]
    store = scan(z, tokens, tmp_path, vocab=names)
    share = token_share(store)
    for j in range(D):
        mass = np.bincount(tokens.flatten() // 4, z[:, j])
        assert share[j] == pytest.approx(mass.max() / mass.sum(), rel=1e-5) if j != 3 else np.isnan(share[j])


def test_tokens_that_only_look_alike_are_different_words(tokens, tmp_path):
    """A decoder shows every byte that is no character as U+FFFD, and a fixed-width string drops its last NULs."""
    names = ["\ufffd", "\ufffd", "\0", "\0\0", *(f"w{i}" for i in range(VOCAB - 4))]
    half_each = np.stack([(tokens.flatten() == first) | (tokens.flatten() == first + 1) for first in (0, 2)], 1)
    store = scan(half_each.astype(np.float32), tokens, tmp_path, vocab=names)
    for first, share in zip((0, 2), token_share(store), strict=True):
        n = np.bincount(tokens.flatten(), minlength=VOCAB)[first : first + 2]
        assert share == pytest.approx(n.max() / n.sum())


def test_promoted_tokens_that_follow_rank_high(bigrams):
    auroc = next_auroc(bigrams)
    assert auroc[0] > 0.8 and auroc[2] < 0.55


def test_what_follows_fails_on_unions_and_on_early_layers(bigrams):
    """Two tokens, each with its promoted successor, look like one; a clear latent without direct effects like none."""
    auroc = next_auroc(bigrams)
    assert auroc[1] > 0.8
    assert auroc[3] < 0.65 and best_token_concentration(bigrams)[3] == 1


def test_the_largest_cosine_is_with_another_row():
    W = torch.randn(600, 7, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(W, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-2)
    np.testing.assert_allclose(largest_cosines(W), cosine.max(1).values, atol=1e-6)
    assert np.isnan(largest_cosines(torch.ones(1, 3))).all()


@pytest.mark.parametrize("buffer_mb", [256, 0])
def test_twins_against_all_pairs(buffer_mb, features, twin, z, monkeypatch):
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 100)
    other, order, theirs = twin
    monkeypatch.setattr("interp.features.latent_matches.BUFFER_MB", buffer_mb)
    found = best_correlations(features, other)
    for j in range(D):
        if j == 3:
            assert np.isnan(found[j])
            continue
        every = [np.corrcoef(z[:, j], own)[0, 1] if own.any() else -1 for own in theirs.T]
        assert found[j] == pytest.approx(max(every), abs=1e-5)
        assert found[j] > 0.8 if j in order else found[j] < 0.3
    match, cosine = nearest_rows(features.W_dec, other.W_dec)
    assert all(order[match[j]] == j and cosine[j] == pytest.approx(1) for j in order)


def test_rows_that_one_twin_left_out_are_left_out(tokens, z, tmp_path):
    """Excluded at harvest for one, silent for the other: only rows that both encoded are in a correlation."""
    generator = np.random.default_rng(3)
    kept = torch.from_numpy(generator.random(ROWS) < 0.7)
    theirs = (z * generator.random(z.shape)).astype(np.float32)
    ours, other = scan(z, tokens, tmp_path / "a"), scan(theirs, tokens, tmp_path / "b")
    some = CodeStore.create(tmp_path / "some", n_rows=ROWS, d_sae=D)
    some.write_file("0", kept.nonzero().flatten(), SparseCodes.from_dense(torch.from_numpy(theirs)[kept]))
    other.__dict__["codes"] = some
    matrix = np.corrcoef(z[kept].T[[0, 1]], theirs[kept].T[[0, 1]])[:2, 2:]
    np.testing.assert_allclose(twin_correlation(ours, other)[:2], np.diag(matrix), atol=1e-6)


def test_constant_latents_correlate_with_nothing():
    """What rounding leaves of their variances gave correlations of up to ten."""
    constants = np.tile(np.linspace(0.1, 3, 30), (100_003, 1))
    ours, theirs = (SparseCodes.from_dense(torch.from_numpy(half).float()) for half in np.hsplit(constants, 2))
    assert np.isnan(best_matches(ours, theirs).correlation).all()


def test_matched_rows_are_the_best_matching():
    def mcc(ours, theirs):
        return np.abs(match_rows(ours, theirs)[2]).mean()

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 4, generator=generator), torch.randn(5, 4, generator=generator)
    unit = torch.nn.functional.normalize
    cosine = (unit(a, dim=1) @ unit(b, dim=1).T).abs().numpy()
    best = max(np.mean([cosine[i, k] for k, i in enumerate(p)]) for p in itertools.permutations(range(6), 5))
    assert mcc(a, b) == mcc(b, a) == pytest.approx(best, abs=1e-6)
    large = torch.randn(200, 16, generator=generator)
    shuffled = -large[torch.randperm(200, generator=generator)] * 2
    assert mcc(large, shuffled) == pytest.approx(1, abs=1e-5)
    unrelated = torch.randn(200, 16, generator=generator)
    assert 0.5 < mcc(large, unrelated) < np.abs(nearest_rows(large, unrelated)[1]).mean() + 0.1


def test_twins_agree_on_what_means_nothing(tokens, tmp_path):
    """Two scans of one union of unrelated tokens: as stable as can be."""
    flat = tokens.flatten().numpy()
    union = ((flat == 3) | (flat == 20))[:, None]
    a, b = scan(union, tokens, tmp_path / "a"), scan(union, tokens, tmp_path / "b")
    assert twin_correlation(a, b)[0] == pytest.approx(1)


def test_twins_must_be_of_the_same_text(features, tokens, z, tmp_path):
    with pytest.raises(ValueError, match="is a scan of other tokens than"):
        twin_correlation(features, scan(z, (tokens + 1) % VOCAB, tmp_path / "a"))
    with pytest.raises(ValueError, match="decoders are 6 and 5 wide"):
        twin_correlation(features, scan(z, tokens, tmp_path / "b", W_dec=torch.randn(D, 5)))


def test_labels_bursts_and_density_are_what_was_counted(features, labels, z):
    fires = z > 0
    f1 = label_f1(features)
    assert f1[0] == 1 and f1[1] < 0.7 and np.isnan(f1[3])
    hit = fires.reshape(N_SEQ, N_CTX, D).any(1).sum(0)
    np.testing.assert_allclose(burstiness(features)[hit > 0], (fires.sum(0) / hit.clip(1))[hit > 0], rtol=1e-6)
    np.testing.assert_allclose(density(features), np.where(hit > 0, fires.mean(0), np.nan))


def test_each_concept_has_its_best_latent_beside_its_best_neuron(features, twin, labels, tokens, tmp_path):
    neurons = scan(twin[2][:, -3:], tokens, tmp_path, labels=labels)
    table = concept_table(features, neurons).set_index("label")
    assert table.feature["three"] == 0 and table.f1_feature["three"] == 1 > table.f1_neuron["three"]
    assert table.n_label["low"] == int(labels["low"].sum()) and table.f1_feature.dropna().is_monotonic_decreasing


def test_all_measures_run_at_once_and_earlier_results_are_reused(features, twin):
    values = measure_values(features, twin=twin[0])
    assert list(values) == list(MEASURES) and all(each.sign in (1, -1) for each in MEASURES.values())
    assert all(values[name].dtype == np.float64 and len(values[name]) == D for name in values)
    missing = {name for name, own in values.items() if np.isnan(own).all()}
    assert missing == {"enc_dec_cosine"}, "no encoder came with the codes"
    assert all(np.isnan(own[3]) for name, own in values.items() if name != "max_cosine"), "it is dead"
    known = np.arange(D, dtype=float)
    np.testing.assert_array_equal(measure_values(features, computed={"token_share": known})["token_share"], known)


def test_measures_without_their_inputs_are_nan(tokens, z, tmp_path):
    store = scan(z, tokens, tmp_path, config=ScanConfig(n_before=1))
    missing = {name for name, own in measure_values(store).items() if np.isnan(own).all()}
    assert missing == {"next_auroc", "enc_dec_cosine", "max_cosine", "twin_correlation", "label_f1"}


def test_a_new_measure_is_one_function(features, monkeypatch):
    monkeypatch.setattr("interp.verdict.measures.MEASURES", dict(MEASURES))

    @measure("Mine", "what I say of it", sign=1, null="shift")
    def strongest(features):
        return features.table().sort_values("latent")["max"].to_numpy(float)

    found = measure_values(features)
    assert list(found)[-1] == "strongest"
    np.testing.assert_array_equal(found["strongest"], strongest(features))
    assert np.isfinite(MEASURES["max_cosine"](features)).all()
