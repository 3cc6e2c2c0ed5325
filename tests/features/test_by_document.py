"""What fires in each document: matrices against loops over documents, and probes of scikit-learn on them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from interp import ActivationStore, scan_features
from interp.evaluation.baselines import RandomDictionary
from interp.features.by_document import Documents, pool_codes


@pytest.fixture(scope="module")
def documents(tiny_run):
    """Return ids that skip numbers, end within rows and begin again later; the first positions are in none."""
    ids = tiny_run.harvested.document_ids.long() * 3 % 40
    ids[:2] = -1
    return ids


def dense(features):
    """Return the activations of the rows that were encoded, and which these are."""
    n = features.tokens.numel()
    return np.maximum(features.codes[:n].dense().numpy(), 0), features.codes.present(0, n).numpy()


@pytest.mark.parametrize("how", ["max", "mean"])
def test_matrices_are_those_of_a_loop_over_documents(tiny_run, documents, how, monkeypatch):
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 3 * tiny_run.features.n_ctx)
    features, labels = tiny_run.features, tiny_run.harvested.labels
    found = features.matrix(how=how, documents=documents, labels=labels, store=tiny_run.store)
    z, encoded = dense(features)
    tokens, ids = features.tokens.flatten().numpy(), documents.flatten().numpy()
    acts = np.zeros((len(z), tiny_run.store.d(tiny_run.hook_name)), np.float32)
    for i in range(tiny_run.store.n_shards):
        shard = tiny_run.store.shard(i, tiny_run.hook_name)
        acts[shard.row_ids] = shard.acts.float()
    assert not encoded.all(), "rows of BOS were left out"
    assert found.documents.tolist() == sorted(set(ids[ids >= 0].tolist()))
    for place, document in enumerate(found.documents):
        rows = (ids == document) & encoded
        assert found.lengths[place] == rows.sum()
        if not rows.any():
            continue
        for matrix, values in ((found.latents[place].toarray()[0], z), (found.activations[place], acts)):
            expected = values[rows].max(0) if how == "max" else values[rows].mean(0)
            np.testing.assert_allclose(matrix, expected, rtol=1e-4, atol=1e-6)
        counts = np.bincount(tokens[rows], minlength=len(features.vocab))
        assert (found.tokens[place].toarray()[0] == counts).all()
        for label in list(labels)[:3]:
            assert found.labels[label].iloc[place] == pytest.approx(labels[label].flatten().numpy()[rows].mean())
    assert list(found.labels) == list(labels) and list(found.labels.index) == found.documents.tolist()
    assert "documents" in repr(found)


def test_a_mean_does_not_lose_small_activations_beside_a_large_sum(tmp_path):
    rows = torch.ones(2000, 2)
    rows[0] = 2.0**25
    store = ActivationStore.from_batches(rows, tmp_path / "rows", dtype="float32")
    features = scan_features(RandomDictionary(2, 4, 1), store, "activations", tmp_path / "scan")
    one = torch.zeros_like(features.tokens)
    found = features.matrix(how="mean", documents=one, store=store).activations
    np.testing.assert_allclose(found, rows.double().mean(0)[None], rtol=1e-6)


def test_the_row_of_a_maximum_is_the_first_of_its_document(tiny_run, documents, monkeypatch):
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 3 * tiny_run.features.n_ctx)
    features = tiny_run.features
    of = Documents.of(features.codes, features.tokens.shape, documents)
    matrix, rows = pool_codes(features.codes, of, "max", features.n_ctx, first=5, last=20)
    z, _ = dense(features)
    entries = matrix.tocoo()
    for document, latent, value, row in list(zip(entries.row, entries.col, entries.data, rows, strict=True))[::7]:
        inside = np.flatnonzero(of.document_of_row == document)
        assert row == inside[z[inside, 5 + latent].argmax()] and value == z[row, 5 + latent]
    assert (
        matrix.shape == (len(of.ids), 15) and (matrix != features.matrix(documents=documents).latents[:, 5:20]).nnz == 0
    )


def test_without_documents_a_sequence_is_one_and_each_token_may_be(tiny_run):
    features = tiny_run.features
    assert features.matrix().documents.tolist() == list(range(len(features.tokens)))
    rows = features.matrix(documents=torch.arange(features.tokens.numel()).view_as(features.tokens))
    assert (rows.latents != features.codes[: features.tokens.numel()].scipy()).nnz == 0
    assert rows.activations is None and rows.labels.empty


def test_beginnings_are_the_first_rows_of_long_documents(tiny_run, documents):
    of = Documents.of(tiny_run.features.codes, documents.shape, documents)
    n = int(np.median(of.lengths))
    cut = of.beginnings(n)
    long = [place for place in range(len(of.ids)) if of.lengths[place] >= n]
    assert cut.ids.tolist() == of.ids[long].tolist() and (cut.lengths == n).all()
    for number, place in enumerate(long):
        assert (
            np.flatnonzero(cut.document_of_row == number).tolist()
            == np.flatnonzero(of.document_of_row == place)[:n].tolist()
        )
    whole = of.beginnings(None)
    assert (whole.lengths == of.lengths[of.lengths > 0]).all() and (
        np.bincount(whole.document_of_row + 1)[1:] == whole.lengths
    ).all()


def test_a_probe_of_scikit_learn_takes_each_matrix(tiny_run):
    harvested = tiny_run.harvested
    data = tiny_run.features.matrix(how="mean", labels=harvested.labels, store=tiny_run.store)
    shares = data.labels.mean()
    label = shares[(shares > 0.2) & (shares < 0.8)].index[0]
    for matrix in (data.latents, data.tokens, data.activations):
        scores = cross_val_score(LogisticRegression(max_iter=300), matrix, data.labels[label] > 0.5, scoring="roc_auc")
        assert scores.mean() > 0.6


def test_mistakes_are_named(tiny_run):
    features = tiny_run.features
    shape = tuple(features.tokens.shape)
    for given, said in [
        (dict(how="sum"), "how='sum' must be one of max, mean"),
        (dict(documents=torch.zeros(3, 3, dtype=torch.long)), "one id for each token scanned"),
        (dict(documents=torch.zeros(shape)), "must be integers"),
        (dict(documents=torch.full(shape, -1)), "no position is in a document"),
        (dict(labels={"x": torch.zeros(2, 2, dtype=torch.bool)}), "label 'x' is"),
        (dict(labels={"x": torch.full(shape, torch.nan)}), "label 'x' has values other than 0 and 1"),
        (dict(labels=tiny_run.val_tokens.labels), "belong to other tokens"),
    ]:
        with pytest.raises(ValueError, match=said):
            features.matrix(**given)
    with pytest.raises(ValueError, match="other activations than"):
        features.matrix(store=type("Other", (), {"tokens": None, "location": "elsewhere"})())
