"""Each single measure against its formula written out, planted cases where it must be high or low, and its failing."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from interp.activations import ActivationStore
from interp.codes import SparseCodes
from interp.features.feature_store import FeatureStore, ScanConfig
from interp.harvest import harvest
from interp.metrics.concepts import label_measures, label_table
from interp.metrics.directions import direction_measures, null_cosine
from interp.metrics.embeddings import (
    NgramConfig,
    NgramVectors,
    ResidualVectors,
    embedding_coherence,
    ngram_coherence,
    residual_coherence,
)
from interp.metrics.next_token import logit_coherence
from interp.metrics.table import MEASURES, measures_table
from interp.metrics.tokens import token_measures
from interp.metrics.twins import nearest_rows, pairwise_mcc, twin_agreement
from models.transformer import Transformer, TransformerConfig

N_SEQ, N_CTX, VOCAB, D = 64, 16, 30, 12
ROWS = N_SEQ * N_CTX
HOOK = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0)).int()


@pytest.fixture(scope="module")
def z(tokens):
    """Dense codes of 12 latents: 0 fires on token 3; 1 anywhere; 2 behind token 5; 3 never; 4.. at random, sparsely."""
    generator = np.random.default_rng(0)
    fires = generator.random((ROWS, D)) < 0.1
    flat = tokens.flatten().numpy()
    fires[:, 0] = flat == 3
    fires[:, 2] = np.append(False, flat[:-1] == 5) & (np.arange(ROWS) % N_CTX > 0)
    fires[:, 3] = False
    return (fires * generator.lognormal(0, 0.5, fires.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def labels(tokens):
    return {"three": tokens == 3, "low": tokens < 15, "all": tokens >= 0, "none": tokens < 0}


@pytest.fixture(scope="module")
def features(tokens, z, labels, tmp_path_factory):
    generator = torch.Generator().manual_seed(1)
    W_dec, W_U = torch.randn(D, 6, generator=generator), torch.randn(6, VOCAB, generator=generator)
    return scan(z, tokens, tmp_path_factory.mktemp("features"), W_dec=W_dec, W_U=W_U, labels=labels)


def scan(z, tokens, out, **options):
    codes = SparseCodes.from_dense(torch.from_numpy(np.asarray(z, np.float32)))
    return FeatureStore.from_codes(tokens, codes, out, **{"settings": ScanConfig(n_logits=3)} | options)


def test_token_measures_follow_their_formulas(features, tokens, z):
    measures = token_measures(features)
    assert measures.offsets == (-3, -2, -1, 0, 1)
    text = np.bincount(tokens.flatten(), minlength=VOCAB) / ROWS
    for j, (i, offset) in itertools.product(range(D), enumerate(measures.offsets)):
        rows = np.flatnonzero(z[:, j])
        rows = rows[(rows % N_CTX + offset >= 0) & (rows % N_CTX + offset < N_CTX)] + offset
        if not len(rows):
            assert j == 3 and np.isnan(measures.entropy[j, i]) and np.isnan(measures.concentration[j, i])
            continue
        share = np.bincount(tokens.flatten()[rows], minlength=VOCAB) / len(rows)
        seen = share > 0
        entropy = -(share[seen] * np.log(share[seen])).sum()
        kl = (share[seen] * np.log(share[seen] / text[seen])).sum()
        assert measures.entropy[j, i] == pytest.approx(entropy, abs=1e-9)
        assert measures.concentration[j, i] == pytest.approx(kl / (kl + entropy), abs=1e-9)
        assert measures.n_80[j, i] == 1 + (np.sort(share)[::-1].cumsum() < 0.8 - 1e-12).sum()
        assert measures.top_share[j, i] == pytest.approx(share.max())


def test_a_token_detector_is_found_where_it_looks(features):
    measures = token_measures(features)
    assert measures.best_concentration[0] == measures.best_concentration[2] == 1
    assert (measures.best_offset[0], measures.best_offset[2], measures.best_offset[3]) == (0, -1, 0)
    assert measures.least_entropy[2] == 0 and measures.least_entropy[1] > 2
    assert (np.delete(measures.best_concentration, [0, 2, 3]) < 0.3).all() and np.isnan(measures.least_entropy[3])


def test_token_entropy_fails_on_a_broad_meaning(tokens, tmp_path):
    """One class of fifteen tokens looks worse than a union of two unrelated tokens."""
    flat = tokens.flatten().numpy()
    entropy = token_measures(scan(np.stack([flat < 15, (flat == 3) | (flat == 20)], 1), tokens, tmp_path)).entropy
    assert entropy[0, 3] > 2.5 > 0.7 > entropy[1, 3]


def test_few_firings_by_the_edge_are_no_best_offset(tokens, tmp_path):
    """A latent of last positions: what follows it is seen once, so it is not what it is about."""
    fires = np.zeros((N_SEQ, N_CTX, 1))
    fires[:, -1] = 1
    fires[3, 4] = 1
    measures = token_measures(scan(fires.reshape(ROWS, 1), tokens, tmp_path))
    assert measures.entropy[0, 4] == 0 and measures.least_entropy[0] > 2 and measures.best_offset[0] <= 0


def test_logit_coherence_follows_its_formulas(features, tokens, z):
    measures, table = logit_coherence(features), features.table()
    text = np.bincount(tokens.flatten(), minlength=VOCAB)
    for j in range(D):
        rows = np.flatnonzero(z[:, j])
        rows = rows[rows % N_CTX + 1 < N_CTX]
        if not len(rows):
            assert np.isnan([measures.hits[j], measures.log_lift[j], measures.auroc[j]]).all()
            continue
        promoted = table.top_logit_tokens[j]
        hits = (z[rows, j] * np.isin(tokens.flatten()[rows + 1], promoted)).sum() / z[rows, j].sum()
        base = (text[promoted].sum() + 0.5) / (ROWS + 1)
        assert measures.hits[j] == pytest.approx(hits, rel=1e-5) and measures.base[j] == pytest.approx(base)
        lift = (len(rows) * hits + base) / ((len(rows) + 1) * base)
        assert measures.log_lift[j] == pytest.approx(np.log(lift), rel=1e-5)


@pytest.fixture(scope="module")
def bigrams(tmp_path_factory):
    """Text where token t is followed by t + 1, mostly. Latents fire on 3; 3 and 20; 3; 3, and promote what follows;
    what follows each; 25; anything but what follows."""
    generator = np.random.default_rng(0)
    text = np.zeros((N_SEQ, N_CTX), np.int32)
    text[:, 0] = generator.integers(0, VOCAB, N_SEQ)
    for i in range(1, N_CTX):
        jump = generator.random(N_SEQ) < 0.3
        text[:, i] = np.where(jump, generator.integers(0, VOCAB, N_SEQ), (text[:, i - 1] + 1) % VOCAB)
    flat = text.reshape(-1)
    fires = np.stack([flat == 3, (flat == 3) | (flat == 20), flat == 3, flat == 3], 1)
    W_dec = torch.zeros(4, VOCAB)
    W_dec[0, 4] = W_dec[1, 4] = W_dec[1, 21] = W_dec[2, 25] = 1
    W_dec[3] = torch.randn(VOCAB, generator=torch.Generator().manual_seed(0)) * 0.1
    W_dec[3, 4] = 0
    settings = ScanConfig(n_logits=2)
    out = tmp_path_factory.mktemp("bigrams")
    return scan(fires, torch.from_numpy(text), out, W_dec=W_dec, W_U=torch.eye(VOCAB), settings=settings)


def test_promoted_tokens_that_follow_are_coherent(bigrams):
    measures = logit_coherence(bigrams)
    assert measures.hits[0] > 0.6 and measures.log_lift[0] > 2 and measures.auroc[0] > 0.8
    assert measures.log_lift[2] < 0.5 and measures.auroc[2] < 0.55


def test_logit_coherence_fails_on_unions_and_on_early_layers(bigrams):
    """Two tokens, each with its promoted successor, look like one; a clear latent without direct effects like none."""
    measures = logit_coherence(bigrams)
    assert measures.log_lift[1] > 2 and measures.auroc[1] > 0.8
    assert measures.auroc[3] < 0.65 and token_measures(bigrams).best_concentration[3] == 1


def test_directions_follow_their_formulas():
    W = torch.randn(600, 7, generator=torch.Generator().manual_seed(0))
    W[5] = 0
    measures = direction_measures(W)
    unit = torch.nn.functional.normalize(W, dim=1)
    expected = W.norm(dim=1) ** 2 / (unit @ W.T).square().sum(1)
    np.testing.assert_allclose(measures.dimensionality, expected, rtol=1e-4)
    cosine = (unit @ unit.T).fill_diagonal_(-2)
    np.testing.assert_allclose(measures.max_cosine, cosine.max(1).values, atol=1e-6)
    assert (measures.nearest == cosine.argmax(1).numpy())[np.arange(600) != 5].all()
    assert np.isnan(measures.dimensionality[5])


def test_dimensionality_of_known_arrangements():
    angles = torch.arange(5) * 2 * np.pi / 5
    pentagon = torch.stack([angles.cos(), angles.sin()], 1)
    assert direction_measures(torch.eye(9)).dimensionality == pytest.approx(1)
    pairs = torch.cat([torch.eye(4), -3 * torch.eye(4)])
    assert direction_measures(pairs).dimensionality == pytest.approx([1 / 10] * 4 + [9 / 10] * 4)
    assert direction_measures(torch.cat([torch.eye(4), -torch.eye(4)])).dimensionality == pytest.approx(1 / 2)
    assert direction_measures(pentagon).dimensionality == pytest.approx(2 / 5)
    alone = direction_measures(torch.ones(1, 3))
    assert alone.dimensionality[0] == pytest.approx(1) and np.isnan(alone.max_cosine[0]) and alone.nearest[0] == -1


@pytest.mark.parametrize(("n", "d"), [(20, 3), (300, 16), (100, 64)])
def test_random_directions_are_the_null_of_the_largest_cosine(n, d):
    generator = torch.Generator().manual_seed(n)
    measured = [direction_measures(torch.randn(n, d, generator=generator)) for _ in range(20)]
    largest = np.concatenate([m.max_cosine for m in measured])
    assert np.mean(largest < null_cosine(n, d)) == pytest.approx(0.5, abs=0.06)
    p = np.concatenate([m.max_cosine_p for m in measured])
    assert np.mean(p) == pytest.approx(0.5, abs=0.04) and np.mean(p < 0.1) == pytest.approx(0.1, abs=0.04)
    assert measured[0].null_cosine == null_cosine(n, d)


def test_dimensionality_says_nothing_of_meaning():
    """A random dictionary has as much of it as its width allows, whatever it fires on."""
    W = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    assert direction_measures(W).dimensionality.mean() == pytest.approx(32 / 64, rel=0.35)


@pytest.fixture(scope="module")
def twin(features, tokens, z, tmp_path_factory):
    """The same latents in another order, louder, with noise; two are lost, three unrelated ones are new."""
    generator = np.random.default_rng(1)
    order = generator.permutation(D)[: D - 2]
    noise = (generator.random((ROWS, 3)) < 0.1) * generator.random((ROWS, 3))
    theirs = np.concatenate([2 * z[:, order] * (generator.random((ROWS, D - 2)) < 0.9), noise], 1)
    W_dec = torch.cat([features.W_dec[order] * 3, torch.randn(3, 6, generator=torch.Generator().manual_seed(7))])
    return scan(theirs, tokens, tmp_path_factory.mktemp("twin"), W_dec=W_dec), order, theirs


@pytest.mark.parametrize("buffer_mb", [256, 0])
def test_twins_against_all_pairs(buffer_mb, features, twin, z, monkeypatch):
    monkeypatch.setattr("interp.monosemanticity.firings.ROWS_PER_CHUNK", 100)
    other, order, theirs = twin
    seen = []
    agreement = twin_agreement(features, other, buffer_mb=buffer_mb, progress=lambda *args: seen.append(args))
    ours, unit = (torch.nn.functional.normalize(store.W_dec, dim=1) for store in (features, other))
    best = (ours @ unit.T).max(1)
    np.testing.assert_allclose(agreement.decoder_cosine, best.values, atol=1e-6)
    assert list(agreement.decoder_match) == best.indices.tolist()
    assert seen[-1][0] == seen[-1][1]
    for j in range(D):
        if j == 3:
            assert agreement.code_match[j] == -1 and np.isnan(agreement.correlation[j])
            continue
        expected = [np.corrcoef(z[:, j], theirs[:, i])[0, 1] if theirs[:, i].any() else -1 for i in range(len(unit))]
        assert agreement.correlation[j] == pytest.approx(max(expected), abs=1e-5)
        assert agreement.code_match[j] == np.argmax(expected)
        if j in order:
            assert order[agreement.code_match[j]] == j and agreement.correlation[j] > 0.8
            assert order[agreement.decoder_match[j]] == j and agreement.decoder_cosine[j] == pytest.approx(1)
        else:
            assert agreement.correlation[j] < 0.3


def test_rows_that_one_twin_left_out_are_left_out(tokens, z, tmp_path):
    """Excluded at harvest for one, silent for the other: only rows that both encoded are in a correlation."""
    from interp.codes import CodeStore

    generator = np.random.default_rng(3)
    kept = torch.from_numpy(generator.random(ROWS) < 0.7)
    theirs = (z * generator.random(z.shape)).astype(np.float32)
    ours, other = scan(z, tokens, tmp_path / "a"), scan(theirs, tokens, tmp_path / "b")
    some = CodeStore.create(tmp_path / "some", n_rows=ROWS, d_sae=D)
    some.write_run("0", kept.nonzero().flatten(), SparseCodes.from_dense(torch.from_numpy(theirs)[kept]))
    other.__dict__["codes"] = some
    agreement = twin_agreement(ours, other)
    matrix = np.corrcoef(z[kept].T[[0, 1]], theirs[kept].T[[0, 1]])[:2, 2:]
    np.testing.assert_allclose(agreement.correlation[:2], np.diag(matrix), atol=1e-6)


def test_pairwise_mcc_is_the_best_matching():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 4, generator=generator), torch.randn(5, 4, generator=generator)
    unit = torch.nn.functional.normalize
    cosine = (unit(a, dim=1) @ unit(b, dim=1).T).abs().numpy()
    best = max(np.mean([cosine[i, k] for k, i in enumerate(p)]) for p in itertools.permutations(range(6), 5))
    assert pairwise_mcc(a, b) == pairwise_mcc(b, a) == pytest.approx(best, abs=1e-6)
    large = torch.randn(200, 16, generator=generator)
    shuffled = -large[torch.randperm(200, generator=generator)] * 2
    assert pairwise_mcc(large, shuffled) == pytest.approx(1, abs=1e-5)
    assert pairwise_mcc(large, shuffled, exact_up_to=0) == pytest.approx(1, abs=1e-5)
    unrelated = torch.randn(200, 16, generator=generator)
    exact, greedy = pairwise_mcc(large, unrelated), pairwise_mcc(large, unrelated, exact_up_to=0)
    assert 0.5 < greedy <= exact < 0.75
    cosines = nearest_rows(large, unrelated)[1]
    assert exact < np.abs(cosines).mean() + 0.1


def test_twins_agree_on_what_means_nothing(tokens, tmp_path):
    """Two scans of one union of unrelated tokens: as stable as can be."""
    flat = tokens.flatten().numpy()
    union = ((flat == 3) | (flat == 20))[:, None]
    a, b = scan(union, tokens, tmp_path / "a"), scan(union, tokens, tmp_path / "b")
    agreement = twin_agreement(a, b)
    assert agreement.correlation[0] == pytest.approx(1)
    assert agreement.decoder_match[0] == -1 and np.isnan(agreement.decoder_cosine[0]) and np.isnan(agreement.pw_mcc)


def test_twins_must_be_of_the_same_text(features, tokens, z, tmp_path):
    with pytest.raises(ValueError, match="is a scan of other tokens than"):
        twin_agreement(features, scan(z, (tokens + 1) % VOCAB, tmp_path / "a"))
    with pytest.raises(ValueError, match="decoders are 6 and 5 wide"):
        twin_agreement(features, scan(z, tokens, tmp_path / "b", W_dec=torch.randn(D, 5)))


def coherence_by_pairs(z, vectors, groups):
    """From all pairs of firings."""
    expected = np.full(z.shape[1], np.nan)
    for j in range(z.shape[1]):
        rows = np.flatnonzero(z[:, j] > 0)
        apart = groups[rows][:, None] != groups[rows]
        weights = np.outer(z[rows, j], z[rows, j]) * apart
        if weights.sum() > 0:
            expected[j] = (weights * (vectors[rows] @ vectors[rows].T)).sum() / weights.sum()
    return expected


@pytest.fixture(scope="module")
def store(tokens, tmp_path_factory):
    """Residual stream of a small random transformer; token 0 is excluded, rows lie scattered over shards."""
    model = Transformer(TransformerConfig(n_layers=1, d_model=24, n_heads=2, d_mlp=24, d_vocab=VOCAB, n_ctx=N_CTX))
    out = tmp_path_factory.mktemp("activations")
    return harvest(model, tokens, [HOOK], out, dtype="float32", exclude=[0], rows_per_shard=150)


def dense_rows(store):
    acts = np.zeros((ROWS, store.d(HOOK)), np.float32)
    for i in range(store.n_shards):
        shard = store.shard(i, HOOK)
        acts[shard.row_ids] = shard.acts
    return acts


@pytest.mark.parametrize("per_group", [1, 4])
def test_residual_coherence_against_all_pairs(per_group, features, store, z, tokens, monkeypatch):
    monkeypatch.setattr("interp.monosemanticity.firings.ROWS_PER_CHUNK", 100)
    acts, encoded = dense_rows(store), (tokens != 0).flatten().numpy()
    centred = acts - acts[encoded].mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True) * encoded[:, None]
    vectors = ResidualVectors.from_store(store, HOOK, dim=None)
    np.testing.assert_allclose(vectors.vectors, unit, atol=1e-3)
    unit = vectors.vectors.astype(float)
    groups = np.arange(ROWS) // N_CTX // per_group
    found = embedding_coherence(features.codes, vectors, sequences_per_group=per_group)
    np.testing.assert_allclose(found, coherence_by_pairs(z, unit, groups), atol=1e-5)
    assert np.isnan(found[3]) and found[0] > 0.2 > 0.05 > abs(found[1]), "a token's contexts resemble each other"


def test_every_second_sequence_when_memory_is_short(features, store, z):
    """Firings of the others are left out, of all sums."""
    whole = ResidualVectors.from_store(store, HOOK, dim=None)
    part = ResidualVectors(whole.vectors.reshape(N_SEQ, N_CTX, -1)[::3].reshape(-1, 24), N_CTX, 3)
    kept = np.arange(ROWS) // N_CTX % 3 == 0
    expected = coherence_by_pairs(z * kept[:, None], whole.vectors.astype(float), np.arange(ROWS) // N_CTX)
    np.testing.assert_allclose(embedding_coherence(features.codes, part), expected, atol=1e-5)


def test_vectors_fit_the_buffer(tmp_path):
    tokens = torch.randint(0, 50, (300, 128), generator=torch.Generator().manual_seed(0)).int()
    model = Transformer(TransformerConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=16, d_vocab=50, n_ctx=128))
    store = harvest(model, tokens, [HOOK], tmp_path, rows_per_shard=5000)
    small = ResidualVectors.from_store(store, HOOK, dim=None, buffer_mb=1)
    whole = ResidualVectors.from_store(store, HOOK, dim=None)
    assert (whole.every, small.every) == (1, 2) and small.vectors.nbytes <= 1 << 20
    np.testing.assert_array_equal(small(3, 9), whole(0, 300).reshape(300, 128, 16)[4:9:2].reshape(-1, 16))


def test_projections_keep_products_on_average(store):
    whole = ResidualVectors.from_store(store, HOOK, dim=None).vectors[:40].astype(float)
    seeds = [ResidualVectors.from_store(store, HOOK, dim=8, seed=seed).vectors[:40].astype(float) for seed in range(60)]
    assert seeds[0].shape[1] == 8
    mean = np.mean([v @ v.T for v in seeds], 0)
    assert np.abs(mean - whole @ whole.T).mean() < 0.05
    assert ResidualVectors.from_store(store, HOOK, dim=64).dim == 24


def test_any_direction_of_much_variance_looks_coherent(tokens, tmp_path):
    """The failing: a latent that reads a random direction of the stream fires where the stream points that way."""
    acts = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0] + [1.0] * 7)
    vectors = torch.nn.functional.normalize(acts - acts.mean(0), dim=1).numpy()
    reads = (acts[:, :1] - 4).relu()
    shuffled = reads[torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))]
    codes = SparseCodes.from_dense(torch.cat([reads, shuffled], 1))
    found = embedding_coherence(codes, ResidualVectors(vectors, N_CTX, 1))
    assert found[0] > 0.5 and abs(found[1]) < 0.05


def test_rows_of_no_text_are_refused(features, store, tmp_path):
    bare = ActivationStore.from_batches(torch.randn(50, 4), tmp_path)
    with pytest.raises(ValueError, match="holds no tokens"):
        ResidualVectors.from_store(bare, "activations")
    with pytest.raises(ValueError, match="holds other tokens than"):
        residual_coherence(features, bare, "activations")
    with pytest.raises(ValueError, match="dim=0 must be at least 1"):
        ResidualVectors.from_store(store, HOOK, dim=0)
    assert residual_coherence(features, store, HOOK).shape == (D,)


WORDS = ["nation", "national", "nationality", "nationwide", "cat", "dog", "x", "qqq", "12", "zz"]


@pytest.fixture(scope="module")
def ngrams():
    tokens = torch.randint(0, len(WORDS), (40, 10), generator=torch.Generator().manual_seed(0)).int()
    return tokens, NgramVectors.from_tokens(tokens, WORDS, NgramConfig(dim=512, past=2, future=1))


def test_ngrams_of_like_words_are_alike(ngrams):
    unit = ngrams[1].token_vectors / np.linalg.norm(ngrams[1].token_vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    assert (cosine[:4, :4] > 0.3).all() and np.abs(cosine[:4, 4:]).max() < 0.25
    assert len({tuple(row) for row in np.round(unit, 6)}) == len(WORDS), "short tokens have a vector too"


def test_windows_are_sums_of_their_tokens(ngrams):
    tokens, vectors = ngrams
    windows = np.zeros((40, 10, 512))
    for seq, pos in itertools.product(range(40), range(10)):
        windows[seq, pos] = vectors.token_vectors[tokens[seq, max(0, pos - 2) : pos + 2]].sum(0)
    np.testing.assert_allclose(vectors.mean, windows.mean((0, 1)), rtol=1e-4, atol=1e-6)
    centred = windows - windows.mean((0, 1))
    expected = centred / np.linalg.norm(centred, axis=2, keepdims=True)
    np.testing.assert_allclose(vectors(5, 9), expected[5:9].reshape(40, -1), atol=1e-5)


def test_ngram_coherence_tells_one_word_family_from_two(tmp_path):
    """Firings on a family of words are coherent without any one token; a union with another family halves that."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, len(WORDS), (300, 8), generator=generator).int()
    family, pets = (tokens < 4).flatten().numpy(), ((tokens == 4) | (tokens == 5)).flatten().numpy()
    some = np.random.default_rng(0).random(len(family)) < 0.4
    store = scan(np.stack([family, family & some | pets, some], 1), tokens, tmp_path, vocab=WORDS)
    found = ngram_coherence(store, NgramConfig(dim=256, past=0, future=0))
    assert found[0] > 0.35 and 0.1 < found[1] < 0.75 * found[0] and abs(found[2]) < 0.05
    assert (found == ngram_coherence(store, NgramConfig(dim=256, past=0, future=0)))[:3].all()


def test_bad_ngrams_are_named():
    with pytest.raises(ValueError, match="shortest=4 must be in 1..longest=3"):
        NgramConfig(shortest=4, longest=3)
    with pytest.raises(ValueError, match="past=-1 must be at least 0"):
        NgramConfig(past=-1)


def test_label_measures_follow_their_formulas(features, labels, z):
    table = label_table(features)
    for row in table.itertuples():
        label, acts = labels[row.label].flatten().numpy(), z[:, row.latent]
        if row.label in ("all", "none"):
            assert np.isnan([row.selectivity, row.purity, row.excess, row.nmi]).all()
            continue
        inside, outside = acts[label].mean(), acts[~label].mean()
        assert row.selectivity == pytest.approx((inside - outside) / (inside + outside), abs=1e-5)
        purity = acts[label].sum() / acts.sum()
        assert row.purity == pytest.approx(purity, abs=1e-5)
        assert row.excess == pytest.approx((purity - label.mean()) / (1 - label.mean()), abs=1e-5)
        assert row.nmi == pytest.approx(nmi(acts > 0, label), abs=1e-9)
    best = label_measures(features)
    for name in ("selectivity", "purity", "excess", "nmi"):
        np.testing.assert_array_equal(getattr(best, name), table.groupby("latent")[name].max().reindex(range(D)))
    assert best.selectivity[0] == best.purity[0] == best.excess[0] == best.nmi[0] == 1
    assert best.nmi[1] < 0.05 and np.isnan(best.purity[3])


def nmi(a, b):
    joint = np.array([[np.mean((a == x) & (b == y)) for y in (False, True)] for x in (False, True)])
    product = np.outer(joint.sum(1), joint.sum(0))
    seen = joint > 0
    entropy = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in (joint.sum(1), joint.sum(0))]
    return (joint[seen] * np.log(joint[seen] / product[seen])).sum() / np.sqrt(entropy[0] * entropy[1])


def test_purity_fails_on_two_meanings_under_one_label(tokens, labels, tmp_path):
    flat = tokens.flatten().numpy()
    union = ((flat == 1) | (flat == 9))[:, None]
    measures = label_measures(scan(union, tokens, tmp_path, labels=labels))
    assert measures.purity[0] == measures.excess[0] == measures.selectivity[0] == 1 > measures.nmi[0]


def test_the_table_holds_every_measure(features, twin, store, z):
    table = measures_table(features, twin=twin[0], embeddings=ResidualVectors.from_store(store, HOOK))
    assert list(table) == ["latent", *MEASURES] and list(table.latent) == list(range(D))
    assert set(MEASURES.values()) == {1, -1} and (table.dtypes[1:] == np.float64).all()
    assert table.loc[3].drop(["latent", "dimensionality", "max_cosine", "twin_cosine"]).isna().all(), "it is dead"
    missing = table.drop(index=3).isna().all()
    unknown = ["enc_dec_cosine", "ngram_coherence"]
    assert list(missing[missing].index) == unknown, "neither encoder nor vocabulary came with the codes"
    assert table.token_entropy[0] == 0 == table.token_entropy_before_1[2] and table.label_nmi[0] == 1
    assert table.burstiness[1] == pytest.approx((z[:, 1] > 0).sum() / (z[:, 1].reshape(N_SEQ, -1) > 0).any(1).sum())
    pd.testing.assert_frame_equal(
        table, measures_table(features, twin=twin[0], embeddings=ResidualVectors.from_store(store, HOOK))
    )


def test_measures_without_their_inputs_are_nan(tokens, z, tmp_path):
    table = measures_table(scan(z, tokens, tmp_path, settings=ScanConfig(n_before=1, n_after=0)))
    assert list(table) == ["latent", *MEASURES]
    missing = table.isna().all()
    around = [f"token_{name}_{place}" for name in ("entropy", "concentration") for place in ("before_3", "before_2")]
    assert set(missing[missing].index) == {
        *around,
        *("token_entropy_after_1", "token_concentration_after_1", "next_log_lift", "next_auroc", "enc_dec_cosine"),
        *("dimensionality", "max_cosine", "twin_cosine", "twin_correlation", "residual_coherence"),
        "ngram_coherence",
        *("class_selectivity", "purity", "purity_excess", "label_nmi", "label_f1"),
    }


def test_scans_that_lack_a_count_are_named(features, tmp_path):
    import shutil

    old = tmp_path / "old"
    shutil.copytree(features.path, old)
    for name, column in (("features", "next_auroc"), ("labels", "mass")):
        pd.read_parquet(old / f"{name}.parquet").drop(columns=column).to_parquet(old / f"{name}.parquet")
    with pytest.raises(ValueError, match="lacks next_auroc: an earlier version scanned it; scan it again"):
        logit_coherence(FeatureStore.open(old))
    with pytest.raises(ValueError, match="has no mass of labels: an earlier version scanned it; scan it again"):
        label_table(FeatureStore.open(old))
