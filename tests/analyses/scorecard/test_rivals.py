"""The scorecard's rivals: each against its formula written out, and its failing."""

import itertools

import numpy as np
import pytest
import torch

from analyses.scorecard import rivals
from analyses.scorecard.rivals import (
    RIVALS,
    dimensionality,
    embedding_coherence,
    next_log_lift,
    ngram_vectors,
    residual_vectors,
    rival_measures,
    tokens_around,
)
from interp.activations import ActivationStore
from interp.activations.harvesting import harvest
from interp.codes.sparse_codes import SparseCodes
from interp.features.scan_config import ScanConfig
from interp.verdict.measures import MEASURES, best_token_concentration, token_entropy
from models.transformer import Transformer, TransformerConfig
from tests.planted_scan import (
    N_CTX,
    N_SEQ,
    ROWS,
    VOCAB,
    D,
    bigrams,
    features,
    labels,
    scan,
    tokens,
    twin,
    z,
)

__all__ = ["bigrams", "features", "labels", "tokens", "twin", "z"]
HOOK = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def store(tokens, tmp_path_factory):
    """Residual stream of a small random transformer; token 0 is excluded, rows lie scattered over shards."""
    model = Transformer(TransformerConfig(n_layers=1, d_model=24, n_heads=2, d_mlp=24, d_vocab=VOCAB, n_ctx=N_CTX))
    out = tmp_path_factory.mktemp("activations")
    return harvest(model, tokens, [HOOK], out, dtype="float32", exclude=[0], rows_per_shard=150)


def test_the_lift_of_what_follows_is_its_formula(features, tokens, z):
    lift, table = next_log_lift(features), features.table()
    text = np.bincount(tokens.flatten(), minlength=VOCAB)
    for j in range(D):
        rows = np.flatnonzero(z[:, j])
        rows = rows[rows % N_CTX + 1 < N_CTX]
        if not len(rows):
            assert np.isnan(lift[j])
            continue
        promoted = table.top_logit_tokens[j]
        hits = (z[rows, j] * np.isin(tokens.flatten()[rows + 1], promoted)).sum() / z[rows, j].sum()
        base = (text[promoted].sum() + 0.5) / (ROWS + 1)
        assert lift[j] == pytest.approx(np.log((len(rows) * hits + base) / ((len(rows) + 1) * base)), rel=1e-5)


def test_the_lift_is_high_where_promoted_tokens_follow_and_fails_on_unions(bigrams):
    lift = next_log_lift(bigrams)
    assert lift[0] > 2 and lift[2] < 0.5 and lift[1] > 2


def test_dimensionality_of_known_arrangements():
    W = torch.randn(600, 7, generator=torch.Generator().manual_seed(0))
    W[5] = 0
    unit = torch.nn.functional.normalize(W, dim=1)
    expected = W.norm(dim=1) ** 2 / (unit @ W.T).square().sum(1)
    np.testing.assert_allclose(dimensionality(W), expected, rtol=1e-4)
    assert np.isnan(dimensionality(W)[5])
    angles = torch.arange(5) * 2 * np.pi / 5
    assert dimensionality(torch.eye(9)) == pytest.approx(1)
    pairs = torch.cat([torch.eye(4), -3 * torch.eye(4)])
    assert dimensionality(pairs) == pytest.approx([1 / 10] * 4 + [9 / 10] * 4)
    assert dimensionality(torch.stack([angles.cos(), angles.sin()], 1)) == pytest.approx(2 / 5)
    random = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    assert dimensionality(random).mean() == pytest.approx(32 / 64, rel=0.35), "whatever it fires on"


def coherence_by_pairs(z, vectors):
    """Compute coherence from all pairs of firings in different sequences."""
    groups, expected = np.arange(ROWS) // N_CTX, np.full(z.shape[1], np.nan)
    for j in range(z.shape[1]):
        rows = np.flatnonzero(z[:, j] > 0)
        weights = np.outer(z[rows, j], z[rows, j]) * (groups[rows][:, None] != groups[rows])
        if weights.sum() > 0:
            expected[j] = (weights * (vectors[rows] @ vectors[rows].T)).sum() / weights.sum()
    return expected


def test_residual_coherence_against_all_pairs(features, store, z, tokens, monkeypatch):
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 100)
    acts = np.zeros((ROWS, store.d(HOOK)), np.float32)
    for i in range(store.n_shards):
        shard = store.shard(i, HOOK)
        acts[shard.row_ids] = shard.acts
    encoded = (tokens != 0).flatten().numpy()
    centred = acts - acts[encoded].mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True) * encoded[:, None]
    vectors = residual_vectors(store, HOOK)
    every = vectors(np.arange(ROWS))
    np.testing.assert_allclose(every, unit, atol=1e-3)
    found = embedding_coherence(features.codes, N_CTX, vectors)
    np.testing.assert_allclose(found, coherence_by_pairs(z, every.astype(float)), atol=1e-5)
    assert np.isnan(found[3]) and found[0] > 0.2 > 0.05 > abs(found[1]), "a token's contexts resemble each other"


def test_projections_keep_products_on_average(store):
    some = np.arange(40)
    whole = residual_vectors(store, HOOK)(some).astype(float)
    seeds = [residual_vectors(store, HOOK, dim=8, seed=seed)(some).astype(float) for seed in range(60)]
    assert whole.shape[1] == 24 and seeds[0].shape[1] == 8
    assert np.abs(np.mean([v @ v.T for v in seeds], 0) - whole @ whole.T).mean() < 0.05


def test_any_direction_of_much_variance_looks_coherent(tmp_path):
    """The failing: a latent that reads a random direction of the stream fires where the stream points that way."""
    acts = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0] + [1.0] * 7)
    vectors = torch.nn.functional.normalize(acts - acts.mean(0), dim=1).numpy()
    reads = (acts[:, :1] - 4).relu()
    shuffled = reads[torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))]
    codes = SparseCodes.from_dense(torch.cat([reads, shuffled], 1))
    found = embedding_coherence(codes, N_CTX, vectors.__getitem__)
    assert found[0] > 0.5 and abs(found[1]) < 0.05


def test_vectors_of_no_text_or_too_few_are_refused(features, tmp_path):
    bare = ActivationStore.from_batches(torch.randn(50, 4), tmp_path)
    with pytest.raises(ValueError, match="holds no tokens"):
        residual_vectors(bare, "activations")
    with pytest.raises(ValueError, match=f"the vectors end before row {ROWS - 1}"):
        embedding_coherence(features.codes, N_CTX, np.zeros((ROWS - N_CTX, 3), np.float32).__getitem__)


WORDS = ["nation", "national", "nationality", "nationwide", "cat", "dog", "x", "qqq", "12", "zz"]


def test_ngram_vectors_are_sums_of_like_words_around(monkeypatch):
    monkeypatch.setattr(rivals, "NGRAM_DIM", 512)
    monkeypatch.setattr(rivals, "PAST", 2)
    monkeypatch.setattr(rivals, "FUTURE", 1)
    hashed = rivals._hashed(WORDS)
    cosine = hashed @ hashed.T
    assert (cosine[:4, :4] > 0.3).all() and np.abs(cosine[:4, 4:]).max() < 0.25
    assert len({tuple(row) for row in np.round(hashed, 6)}) == len(WORDS), "short tokens have a vector too"
    text = torch.randint(0, len(WORDS), (40, 10), generator=torch.Generator().manual_seed(0)).int()
    share = np.bincount(text.flatten(), minlength=len(WORDS)) / text.numel()
    of_token, windows = hashed / (1 + share / 1e-3)[:, None], np.zeros((40, 10, 512))
    for seq, pos in itertools.product(range(40), range(10)):
        windows[seq, pos] = of_token[text[seq, max(0, pos - 2) : pos + 2]].sum(0)
    centred = windows - windows.mean((0, 1))
    expected = centred / np.linalg.norm(centred, axis=2, keepdims=True)
    np.testing.assert_allclose(ngram_vectors(text, WORDS)(np.arange(50, 90)), expected[5:9].reshape(40, -1), atol=1e-4)


def test_ngram_coherence_tells_one_word_family_from_two(tmp_path, monkeypatch):
    """Firings on a family of words are coherent without any one token; a union with another family halves that."""
    monkeypatch.setattr(rivals, "PAST", 0)
    monkeypatch.setattr(rivals, "FUTURE", 0)
    text = torch.randint(0, len(WORDS), (300, 8), generator=torch.Generator().manual_seed(0)).int()
    family, pets = (text < 4).flatten().numpy(), ((text == 4) | (text == 5)).flatten().numpy()
    some = np.random.default_rng(0).random(len(family)) < 0.4
    store = scan(np.stack([family, family & some | pets, some], 1), text, tmp_path, vocab=WORDS)
    found = rival_measures(store)["ngram_coherence"]
    assert found[0] > 0.35 and 0.1 < found[1] < 0.75 * found[0] and abs(found[2]) < 0.05


def test_scores_of_labels_follow_their_formulas(features, labels, z):
    found = rival_measures(features)
    masks = [mask.flatten().numpy() for name, mask in labels.items() if name in ("three", "low")]
    for j in range(D):
        if j == 3:
            assert all(np.isnan(found[name][j]) for name in ("class_selectivity", "purity", "label_nmi"))
            continue
        acts = z[:, j]
        means = [(acts[mask].mean(), acts[~mask].mean()) for mask in masks]
        purity = [acts[mask].sum() / acts.sum() for mask in masks]
        excess = [(p - mask.mean()) / (1 - mask.mean()) for p, mask in zip(purity, masks, strict=True)]
        assert found["class_selectivity"][j] == pytest.approx(max((a - b) / (a + b) for a, b in means), abs=1e-5)
        assert found["purity"][j] == pytest.approx(max(purity), abs=1e-5)
        assert found["purity_excess"][j] == pytest.approx(max(excess), abs=1e-5)
        assert found["label_nmi"][j] == pytest.approx(max(nmi(acts > 0, mask) for mask in masks), abs=1e-9)
    assert found["label_nmi"][0] == 1 and found["label_nmi"][1] < 0.05


def nmi(a, b):
    joint = np.array([[np.mean((a == x) & (b == y)) for y in (False, True)] for x in (False, True)])
    product = np.outer(joint.sum(1), joint.sum(0))
    seen = joint > 0
    entropy = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in (joint.sum(1), joint.sum(0))]
    return (joint[seen] * np.log(joint[seen] / product[seen])).sum() / np.sqrt(entropy[0] * entropy[1])


def test_purity_fails_on_two_meanings_under_one_label(tokens, labels, tmp_path):
    flat = tokens.flatten().numpy()
    union = ((flat == 1) | (flat == 9))[:, None]
    found = rival_measures(scan(union, tokens, tmp_path, labels=labels))
    assert found["purity"][0] == found["purity_excess"][0] == found["class_selectivity"][0] == 1 > found["label_nmi"][0]


def test_every_rival_is_there_and_nan_where_its_input_is_missing(features, twin, store, tokens, z, tmp_path):
    found = rival_measures(features, twin=twin[0], embeddings=residual_vectors(store, HOOK))
    assert list(found) == list(RIVALS) and not set(RIVALS) & set(MEASURES) and set(RIVALS.values()) == {1, -1}
    assert [name for name, own in found.items() if np.isnan(own).all()] == ["ngram_coherence"], "no vocabulary"
    assert found["token_entropy_before_1"][2] == found["least_token_entropy"][2] == 0 and found["token_set"][0] == 1
    bare = rival_measures(scan(z, tokens, tmp_path, config=ScanConfig(n_before=1)))
    there = {name for name, own in bare.items() if not np.isnan(own).all()}
    assert there == {
        *("token_entropy_before_1", "least_token_entropy", "token_concentration", "token_concentration_before_1"),
        *("token_top_share", "token_set", "token_entropy_after_1", "token_concentration_after_1"),
    }
    assert N_SEQ * N_CTX == ROWS


def test_tokens_around_follow_their_formulas(features, tokens, z):
    around = tokens_around(features)
    assert around.offsets == (-3, -2, -1, 0, 1)
    text = np.bincount(tokens.flatten(), minlength=VOCAB) / ROWS
    for j, (i, offset) in itertools.product(range(D), enumerate(around.offsets)):
        rows = np.flatnonzero(z[:, j])
        rows = rows[(rows % N_CTX + offset >= 0) & (rows % N_CTX + offset < N_CTX)] + offset
        if not len(rows):
            assert j == 3 and np.isnan(around.entropy[j, i]) and np.isnan(around.concentration[j, i])
            continue
        share = np.bincount(tokens.flatten()[rows], minlength=VOCAB) / len(rows)
        seen = share > 0
        entropy = -(share[seen] * np.log(share[seen])).sum()
        kl = (share[seen] * np.log(share[seen] / text[seen])).sum()
        assert around.entropy[j, i] == pytest.approx(entropy, abs=1e-9)
        assert around.concentration[j, i] == pytest.approx(kl / (kl + entropy), abs=1e-9)
        assert around.n_80[j, i] == 1 + (np.sort(share)[::-1].cumsum() < 0.8 - 1e-12).sum()
        assert around.top_share[j, i] == pytest.approx(share.max())
    np.testing.assert_allclose(token_entropy(features), around.entropy[:, 3], rtol=1e-6)


def test_few_firings_by_the_edge_are_not_where_a_latent_looks(tokens, tmp_path):
    """A latent of last positions: what follows it is seen once, so it is not what it is about."""
    fires = np.zeros((N_SEQ, N_CTX, 1))
    fires[:, -1] = 1
    fires[3, 4] = 1
    store = scan(fires.reshape(ROWS, 1), tokens, tmp_path)
    around = tokens_around(store)
    assert around.concentration[0, 4] == 1 and not around.is_looked_at[0, 4] and best_token_concentration(store)[0] < 1
