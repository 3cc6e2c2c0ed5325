"""The scan against a dense numpy twin that knows nothing of chunks, kernels or bins."""

import copy
import json
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from interp.activations.harvesting import harvest
from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.display.byte_parts import join_pieces
from interp.evaluation.baselines import NeuronDictionary, RandomDictionary
from interp.evaluation.quality import evaluate_dictionary
from interp.features import examples, scan_tables
from interp.features.examples import N_INTERVALS
from interp.features.feature_store import FeatureStore
from interp.features.label_masks import labels_digest
from interp.features.scan_config import ScanConfig
from interp.features.scan_digests import dictionary_digest
from interp.features.scan_features import scan_features
from interp.features.scan_input import fit_half
from interp.features.scan_tables import SCHEMAS
from interp.sae import SAE, Crosscoder, TopK
from interp.storage.files import write_parquet
from interp.storage.folders import unfinished_folder
from interp.verdict.learnt import learnt_inputs
from models import load_model
from models.transformer import Transformer, TransformerConfig
from tests.foreign_models import FAMILIES, write_foreign
from tests.forked import run_python

HOOK, MLP = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
N_SEQ, N_CTX, VOCAB, D_SAE, BOS = 50, 12, 23, 40, 0
SETTINGS = ScanConfig(n_top=4, n_per_interval=2, n_before=2, n_tokens=5, n_logits=3)


@pytest.fixture(scope="module", autouse=True)
def narrow_windows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "SHOWN_BEFORE", 3)
        patch.setattr(examples, "SHOWN_AFTER", 2)
        yield


@pytest.fixture(scope="module")
def tokens():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, VOCAB, (N_SEQ, N_CTX), generator=generator).square() % VOCAB
    tokens[:, 0] = BOS
    return tokens.int()


@pytest.fixture(scope="module")
def labels(tokens):
    random = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(2)) < 0.2
    return {"nine": tokens == 9, "low": tokens < 5, "after nine": (tokens == 9).roll(1, 1), "random": random}


@pytest.fixture(scope="module")
def model():
    return Transformer(TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=24, d_vocab=VOCAB, n_ctx=N_CTX))


@pytest.fixture(scope="module")
def store(model, tokens, tmp_path_factory):
    out = tmp_path_factory.mktemp("activations")
    return harvest(model, tokens, [HOOK, MLP], out, dtype="float32", exclude=[BOS], rows_per_shard=100)


@pytest.fixture(scope="module")
def sae():
    return RandomDictionary(16, D_SAE, 4, seed=1)


@pytest.fixture(scope="module")
def features(sae, store, model, labels, tmp_path_factory):
    out = tmp_path_factory.mktemp("scan") / "features"
    return scan_features(sae, store, HOOK, out, model=model, labels=labels, config=SETTINGS)


@pytest.fixture(scope="module")
def z(sae, store):
    """Dense activations in token order, rows that were excluded all zero."""
    dense = torch.zeros(N_SEQ * N_CTX, D_SAE)
    for i in range(store.n_shards):
        shard = store.shard(i, HOOK)
        dense[shard.row_ids] = sae.encode(shard.acts)
    return dense.numpy()


@pytest.fixture(scope="module")
def present(tokens):
    return (tokens != BOS).flatten().numpy()


def tables_as_bytes(folder: Path) -> dict[str, bytes]:
    names = [f"{name}.parquet" for name in SCHEMAS] + ["meta.json", "tokens.safetensors"]
    return {name: (folder / name).read_bytes() for name in names}


def firings(z, j):
    rows = np.flatnonzero(z[:, j])
    return rows, z[rows, j]


def context_counts(tokens, z, j, offset):
    """{token: [n, n_fit, mass]} by walking over the firings."""
    fit = fit_half(N_SEQ).numpy()
    found: dict[int, list] = {}
    for row in np.flatnonzero(z[:, j]):
        seq, pos = divmod(row, N_CTX)
        if 0 <= pos + offset < N_CTX:
            entry = found.setdefault(int(tokens[seq, pos + offset]), [0, 0, 0.0])
            entry[0] += 1
            entry[1] += int(fit[seq])
            entry[2] += float(z[row, j])
    return found


def test_feature_columns(features, z, present, tokens, sae):
    table = features.table()
    assert list(table.latent) == list(range(D_SAE))
    assert 0 < (table.n_active == 0).sum() < D_SAE, "the test wants dead latents among living ones"
    cosine = torch.cosine_similarity(sae.W_enc.T, sae.W_dec)
    for j, row in table.iterrows():
        rows, values = firings(z, j)
        assert row.n_active == len(rows)
        assert row.density == pytest.approx(len(rows) / present.sum())
        assert row.dec_norm == pytest.approx(1) and row.enc_dec_cosine == pytest.approx(float(cosine[j]))
        if not len(rows):
            assert (row.top_token, row.n_tokens, row.n_sequences) == (-1, 0, 0)
            undefined = ["mean", "std", "max", "q50", "burstiness", "top_token_share", "token_entropy"]
            assert row[[*undefined, "best_label", "best_label_f1"]].isna().all()
            continue
        assert row["mean"] == pytest.approx(values.mean(), rel=1e-5)
        assert row["std"] == pytest.approx(values.std(), rel=1e-3, abs=1e-4)
        assert row["max"] == values.max()
        for q in (10, 25, 50, 75, 90, 99):
            exact = np.quantile(values, q / 100, method="inverted_cdf")
            assert row[f"q{q}"] == pytest.approx(exact, rel=1 / 16)
        n_sequences = len(set(rows // N_CTX))
        assert row.n_sequences == n_sequences and row.burstiness == pytest.approx(len(rows) / n_sequences)
        counts = {token: entry[0] for token, entry in context_counts(tokens, z, j, 0).items()}
        share = np.array(list(counts.values())) / len(rows)
        assert row.top_token == min(counts, key=lambda token: (-counts[token], token))
        assert row.top_token_share == pytest.approx(share.max())
        assert row.token_entropy == pytest.approx(-(share * np.log(share)).sum(), abs=1e-6)
        assert row.n_tokens == len(counts)


def test_histograms_hold_every_firing(features, z):
    table = features.table("histograms")
    for j, bins in table.groupby("latent"):
        values = firings(z, j)[1]
        assert bins.n.sum() == len(values)
        assert (np.diff(bins.bin) == 1).all() and np.allclose(bins.high[:-1], bins.low[1:])
        for b in bins.itertuples():
            assert b.n == ((values >= b.low) & (values < b.high)).sum()
            assert b.high <= b.low * (1 + 1 / 16)


def test_intervals_and_examples(features, z, tokens):
    intervals = features.table("intervals").set_index(["latent", "interval"])
    shown = features.table("examples")
    assert set(shown.kind) == {"top", "interval"}
    assert len(intervals) == N_INTERVALS * (z.max(0) > 0).sum()
    for j in np.flatnonzero(z.max(0)):
        rows, values = firings(z, j)
        which = np.ceil(values.astype(float) * N_INTERVALS / values.max()).astype(int) - 1
        mine = shown[shown.latent == j]
        top = mine[mine.kind == "top"]
        order = np.lexsort((rows, -values))[:4]
        assert list(top.row) == list(rows[order]) and list(top["rank"]) == list(range(len(order)))
        assert list(top.value) == list(values[order]) and list(top.interval) == list(which[order])
        for i in range(N_INTERVALS):
            entry = intervals.loc[(j, i)]
            width = values.max() / N_INTERVALS
            assert entry.low == pytest.approx(i * width) and entry.high == pytest.approx((i + 1) * width)
            assert entry.n == (which == i).sum()
            sample = mine[(mine.kind == "interval") & (mine.interval == i)]
            assert len(set(sample.row)) == len(sample) == min(2, (which == i).sum())
            assert set(sample.row) <= set(rows[which == i])
    flat = tokens.flatten().numpy()
    for example in shown.itertuples():
        first = example.row // N_CTX * N_CTX
        window = np.arange(max(first, example.row - 3), min(first + N_CTX, example.row + 3))
        assert example.start == window[0]
        assert list(example.tokens) == list(flat[window])
        assert list(example.values) == list(z[window, example.latent])


def test_interval_samples_are_fair(tokens, tmp_path):
    """Over many latents that fire alike, each firing is drawn about equally often; another seed draws others."""
    codes = SparseCodes.from_dense(torch.ones(N_SEQ * N_CTX, 300))
    settings = ScanConfig(n_top=0, n_per_interval=20, n_before=0, n_coactivations=0)
    store = FeatureStore.from_codes(tokens, codes, tmp_path / "a", config=settings)
    drawn = np.bincount(store.table("examples").row, minlength=N_SEQ * N_CTX)
    expected = 300 * 20 / (N_SEQ * N_CTX)
    chi_square = ((drawn - expected) ** 2 / expected).sum()
    assert 400 < chi_square < 800  # 599 degrees of freedom, standard deviation 35
    other = FeatureStore.from_codes(
        tokens, codes, tmp_path / "b", config=ScanConfig(**{**vars(settings), "seed": 1})
    ).table("examples")
    assert (other.row.to_numpy() != store.table("examples").row.to_numpy()).mean() > 0.9


def test_tokens_in_context(features, z, tokens):
    table = features.table("tokens")
    assert set(table.offset) == {1, 0, -1, -2}
    for (j, offset), mine in table.groupby(["latent", "offset"]):
        counts = context_counts(tokens, z, j, offset)
        expected = sorted(counts, key=lambda token: (-counts[token][0], token))[:5]
        assert list(mine.token) == expected
        for row in mine.itertuples():
            assert [row.n, row.n_fit] == counts[row.token][:2]
            assert row.mass == pytest.approx(counts[row.token][2], rel=1e-6)
    assert table.groupby(["latent", "offset"]).ngroups == sum(
        bool(context_counts(tokens, z, j, offset)) for j in range(D_SAE) for offset in range(-2, 2)
    )


def test_offsets_sum_up_all_tokens_and_not_the_most_frequent_only(features, z, tokens):
    unigrams = np.bincount(tokens.flatten(), minlength=VOCAB) / tokens.numel()
    table = features.table("offsets")
    assert list(table.offset) == [-2, -1, 0, 1] * D_SAE and list(table.latent) == sorted(table.latent)
    for row in table.itertuples():
        counts = context_counts(tokens, z, row.latent, row.offset)
        n = np.sort([entry[0] for entry in counts.values()])[::-1]
        assert (row.n, row.n_tokens) == (n.sum(), len(n))
        assert row.mass == pytest.approx(sum(entry[2] for entry in counts.values()), rel=1e-6)
        if not counts:
            assert row.n_80 == 0 and np.isnan([row.entropy, row.kl, row.top_share]).all()
            continue
        share = {token: entry[0] / n.sum() for token, entry in counts.items()}
        assert row.entropy == pytest.approx(-sum(p * np.log(p) for p in share.values()), abs=1e-9)
        assert row.kl == pytest.approx(sum(p * np.log(p / unigrams[t]) for t, p in share.items()), abs=1e-9)
        assert row.top_share == max(share.values())
        assert row.n_80 == 1 + (n.cumsum() < 0.8 * n.sum() - 1e-9).sum()


def test_padding_is_not_what_tokens_are_compared_with(model, sae, tokens, tmp_path):
    """Only the padding next to the text can stand beside a firing."""
    ends = 3 + np.arange(N_SEQ) % 5
    padded = tokens.masked_fill(torch.arange(N_CTX) >= torch.from_numpy(ends)[:, None], BOS)
    padded_store = harvest(model, padded, [HOOK], tmp_path / "store", dtype="float32", exclude=[BOS])
    table = scan_features(sae, padded_store, HOOK, tmp_path / "scan", config=SETTINGS).table("tokens")
    offsets = FeatureStore.open(tmp_path / "scan").table("offsets").set_index(["latent", "offset"])
    read = np.concatenate([padded[seq, : ends[seq] + 1].numpy() for seq in range(N_SEQ)])
    share = np.bincount(read, minlength=VOCAB) / len(read)
    complete = [group for group in table.groupby(["latent", "offset"]) if len(group[1]) == offsets.n_tokens[group[0]]]
    assert len(complete) > 10
    for index, counted in complete:
        p = counted.n / counted.n.sum()
        assert offsets.kl[index] == pytest.approx((p * np.log(p / share[counted.token])).sum(), abs=1e-9)


def test_padding_does_not_scale_logit_effects(model, sae, tokens, tmp_path):
    padded = tokens.masked_fill(torch.arange(N_CTX) >= 5, BOS)
    for name, text in (("short", tokens[:, :5]), ("padded", padded)):
        store = harvest(model, text, [HOOK], tmp_path / f"{name}-acts", dtype="float32", exclude=[BOS])
        scan_features(sae, store, HOOK, tmp_path / name, model=model, config=SETTINGS)
    short, long = (FeatureStore.open(tmp_path / name).table() for name in ("short", "padded"))
    np.testing.assert_allclose(np.stack(short.top_logits), np.stack(long.top_logits), rtol=1e-4)


def test_very_frequent_tokens_are_sorted_as_rare_ones(tokens, tmp_path):
    """Thousands of firings on a token, next to tokens that are seen a few times."""
    counts = np.array([0, 5000, 3001, 1500, 700, 20, 3])
    text = torch.from_numpy(np.repeat(np.arange(7), counts)).int().view(-1, 8)
    codes = SparseCodes.from_dense(torch.ones(text.numel(), 1))
    row = FeatureStore.from_codes(text, codes, tmp_path).table("offsets").query("offset == 0").iloc[0]
    assert row.n_80 == 3 and row.kl == pytest.approx(0, abs=1e-12)


def test_promoted_tokens_are_followed_up(features, z, tokens, sae, model):
    """Counts of the promoted tokens that follow; AUROC of the effect on what follows against any token of the text."""
    from interp.features.logit_path import logit_path

    sample = tokens[:: N_SEQ // 16][:16]
    path = logit_path(sae.W_dec, model, HOOK, sample, sample != BOS)
    effects = path.directions @ path.W_U
    every = tokens.flatten().numpy()
    for j, row in features.table().iterrows():
        following = context_counts(tokens, z, j, 1)
        mass = sum(entry[2] for entry in following.values())
        expected = [following.get(token, [0, 0, 0.0]) for token in row.top_logit_tokens]
        assert list(row.top_logit_next) == [entry[0] for entry in expected]
        np.testing.assert_allclose(row.top_logit_next_share, [e[2] / max(mass, 1e-9) for e in expected], rtol=1e-5)
        if not following:
            assert np.isnan(row.next_auroc)
            continue
        level = np.ptp(effects[j].numpy()) / 4095
        above = {t: (effects[j, t] - effects[j, every]).numpy() for t in following}
        tie = {t: (np.abs(above[t]) < 1e-6).mean() / 2 for t in following}
        sure = sum(entry[2] / mass * ((above[t] > level).mean() + tie[t]) for t, entry in following.items())
        most = sum(entry[2] / mass * ((above[t] > -level).mean() - tie[t]) for t, entry in following.items())
        assert sure - 1e-6 <= row.next_auroc <= most + 1e-6 and most - sure < 0.1


def f1_at(fires, label):
    total = fires.sum() + label.sum()
    return 2 * (fires & label).sum() / total if total else np.nan


def test_labels_against_an_exhaustive_threshold_search(features, z, present, labels):
    table = features.table("labels")
    fit = np.repeat(fit_half(N_SEQ).numpy(), N_CTX)
    assert len(table) == (z.max(0) > 0).sum() * len(labels)
    for row in table.itertuples():
        label, acts = labels[row.label].flatten().numpy() & present, z[:, row.latent]
        both = ((acts > 0) & label).sum()
        assert (row.n_label, row.n_both) == (label.sum(), both)
        assert row.mass == pytest.approx(acts[label].sum(), rel=1e-5)
        assert row.firing_share == pytest.approx(both / (acts > 0).sum())
        expected = np.corrcoef(acts[present], label[present])[0, 1]
        assert row.correlation == pytest.approx(expected, abs=1e-5)
        # Exact F1 at the threshold that was chosen, and a choice within the resolution of the bins.
        assert row.f1_fit == pytest.approx(f1_at((acts >= row.threshold)[fit], label[fit]), abs=1e-6)
        fires, held_out = (acts >= row.threshold)[~fit], label[~fit]
        hits = (fires & held_out).sum()
        assert row.f1 == pytest.approx(f1_at(fires, held_out), abs=1e-6)
        assert row.precision == pytest.approx(hits / fires.sum() if fires.any() else np.nan, nan_ok=True)
        assert row.recall == pytest.approx(hits / held_out.sum() if held_out.any() else np.nan, nan_ok=True)
        best = max(f1_at((acts >= t)[fit], label[fit]) for t in np.unique(acts[acts > 0]))
        assert best - 0.12 <= row.f1_fit <= best + 1e-6
    best = table.loc[table.groupby("latent").f1_fit.idxmax()].set_index("latent")
    best = best[best.f1_fit > 0]
    found = features.table().set_index("latent").loc[best.index]
    np.testing.assert_allclose(found.best_label_f1, best.f1, rtol=1e-6)


def test_a_planted_threshold_is_found(tokens, tmp_path):
    """The latent fires weakly everywhere, and strongly where the label is."""
    label = tokens == 9
    noise = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0))
    acts = torch.where(label, 3 + noise, 0.1 + noise)
    codes = SparseCodes.from_dense(acts.reshape(-1, 1))
    row = FeatureStore.from_codes(tokens, codes, tmp_path, labels={"nine": label}).table("labels").iloc[0]
    assert row.f1 == 1 and 1.1 < row.threshold <= 3.1
    assert row.precision == row.recall == 1 and row.firing_share == pytest.approx(label.float().mean())


@pytest.mark.parametrize("strongest", [None, 2])
def test_coactivations(strongest, z, present, tokens, tmp_path, monkeypatch):
    settings = ScanConfig(n_coactivations=4)
    if strongest:
        monkeypatch.setattr(scan_tables, "_EXACT_L0", 0)
        monkeypatch.setattr(scan_tables, "_N_STRONGEST", strongest)
    store = FeatureStore.from_codes(tokens, scipy.sparse.csr_matrix(z), tmp_path, config=settings)
    kept = z.copy()
    if strongest:
        np.put_along_axis(kept, np.argsort(-kept, axis=1, kind="stable")[:, strongest:], 0, 1)
    fires = (kept > 0).astype(int)
    both, n = fires.T @ fires, fires.sum(0)
    for j, mine in store.table("coactivations").groupby("latent"):
        jaccard = {i: both[j, i] / (n[i] + n[j] - both[j, i]) for i in range(D_SAE) if i != j and both[j, i]}
        expected = sorted(jaccard, key=lambda i: (-jaccard[i], i))[:4]
        assert list(mine.other) == expected and list(mine["rank"]) == list(range(len(expected)))
        assert list(mine.n_both) == list(both[j, expected])
        np.testing.assert_allclose(mine.jaccard, [jaccard[i] for i in expected], rtol=1e-6)
        np.testing.assert_allclose(mine.lift, both[j, expected] * len(z) / (n[j] * n[expected]), rtol=1e-6)


def test_neighbours(features, sae):
    unit = torch.nn.functional.normalize(sae.W_dec, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-2)
    best = cosine.topk(10, dim=1)
    table = features.table("neighbours")
    assert list(table.other) == best.indices.flatten().tolist()
    np.testing.assert_allclose(table.cosine, best.values.flatten(), atol=1e-6)
    assert list(table["rank"][:10]) == list(range(10))


@pytest.mark.parametrize("hook", [HOOK, MLP])
def test_logit_effects_go_through_the_final_norm(hook, model, store, tokens, tmp_path):
    """Against float64 autograd-free linear algebra: unembed of the direction with the norm's mean scale held fixed."""
    with torch.no_grad():
        model.ln_final.w.copy_(torch.rand(16, generator=torch.Generator().manual_seed(4)) + 0.5)
    dictionary = RandomDictionary(store.d(hook), 10, 3)
    features = scan_features(dictionary, store, hook, tmp_path, model=model, config=SETTINGS)
    sample = tokens[:: N_SEQ // 16][:16].long()
    _, cache = model.run_with_cache(sample)
    scale = 1 / (1 / cache["ln_final.hook_scale"][sample != BOS]).mean()
    directions = dictionary.W_dec if hook == HOOK else dictionary.W_dec @ model.blocks[0].mlp.W_out
    with torch.no_grad():
        centred = directions - directions.mean(1, keepdim=True)
        effects = (centred / scale * model.ln_final.w) @ model.W_U
        effects = effects - effects.mean(1, keepdim=True)
    shown = tokens.unique().long()
    for j, row in features.table().iterrows():
        top, bottom = effects[j, shown].topk(3), effects[j, shown].topk(3, largest=False)
        assert list(row.top_logit_tokens) == shown[top.indices].tolist()
        assert list(row.bottom_logit_tokens) == shown[bottom.indices].tolist()
        np.testing.assert_allclose(row.top_logits, top.values, rtol=1e-4)
        np.testing.assert_allclose(row.bottom_logits, bottom.values, rtol=1e-4)
    assert "mean scale" in features.meta["logit_effects"] and "past 1 later block" in features.meta["logit_effects"]
    assert features.meta["blocks_past"] == 1
    # What the latent writes past a later block is not evidence that it is learnt.
    assert features.table().next_auroc.notna().any() and np.isnan(learnt_inputs(features, None)["next_auroc"]).all()


def test_logit_effects_are_listed_of_tokens_that_occur(tmp_path):
    """Tokens that never occur have the largest effects, but are not listed; the mean is over all tokens."""
    rng = np.random.default_rng(17)
    text = np.where(np.arange(64) < 2, 11, rng.integers(8, size=64)).astype(np.int32)  # 8, 9 and 10 never, 11 twice
    W_dec, W_U = (torch.from_numpy(rng.normal(size=size)).float() for size in ((5, 6), (6, 14)))
    W_U[:, 8:] *= 100
    codes = SparseCodes.from_dense(torch.from_numpy(rng.random((64, 5))))
    given: dict = {"W_dec": W_dec, "W_U": W_U, "vocab": [f"t{i}" for i in range(12)]}  # W_U is padded
    settings = ScanConfig(n_logits=3)
    store = FeatureStore.from_codes(torch.from_numpy(text).view(8, 8), codes, tmp_path, config=settings, **given)
    effects = W_dec @ W_U
    effects -= effects.mean(1, keepdim=True)
    shown = [token for token in range(12) if token in text]
    listed = set()
    for own, row in zip(effects.tolist(), store.table().itertuples(), strict=True):
        listed |= {*row.top_logit_tokens, *row.bottom_logit_tokens}
        ranked = sorted(shown, key=lambda token: own[token])
        assert list(row.bottom_logit_tokens) == ranked[:3] and list(row.top_logit_tokens) == ranked[:-4:-1]
        np.testing.assert_allclose(row.top_logits, [own[token] for token in ranked[:-4:-1]], rtol=1e-4)
        spread, _ = np.histogram([own[token] for token in shown], len(row.logit_counts))
        assert np.abs(np.cumsum(row.logit_counts) - np.cumsum(spread)).max() <= 1 and row.logit_counts[-1] >= 1
        assert row.logit_counts.sum() == len(shown)
    assert not {8, 9, 10} & listed and 11 in listed


def test_a_crosscoder_is_not_scanned(store, tmp_path):
    shared = {
        "W_enc": torch.zeros(32, 4),
        "W_dec": torch.zeros(4, 32),
        "b_enc": torch.zeros(4),
        "b_dec": torch.zeros(32),
    }
    crosscoder = Crosscoder(widths=(16, 16), encoder=TopK(2), metadata={"hook_names": [HOOK, "other"]}, **shared)
    with pytest.raises(ValueError, match=f"the crosscoder reads {HOOK} and other side by side, and cannot be scanned"):
        scan_features(crosscoder, store, HOOK, tmp_path / "scan")
    assert not (tmp_path / "scan").exists()


def test_without_a_path_to_the_logits_they_are_null(sae, store, model, tmp_path):
    assert scan_features(sae, store, HOOK, tmp_path / "a").table().top_logits.isna().all()
    wide = NeuronDictionary(16, 4)
    wrapped = torch.nn.Sequential(model)
    wrapped.W_U = model.W_U.detach()
    no_path = scan_features(wide, store, HOOK, tmp_path / "b", model=wrapped)
    assert no_path.table().top_logits.notna().all() and "without a final norm" in no_path.meta["logit_effects"]
    with pytest.raises(ValueError, match=f"the model has no hook {HOOK}, and its weights .*: give the model that was"):
        scan_features(wide, store, HOOK, tmp_path / "c", model=torch.nn.Linear(2, 2))
    assert not (tmp_path / "c").exists()


def test_the_digest_of_a_dictionary_depends_only_on_its_weights(sae, monkeypatch):
    """Another device, for instance, gives other last bits."""

    def digest(k: int = 4, b_enc: float = 0.0) -> str:
        weights = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
        return dictionary_digest(SAE(**weights, b_enc=torch.full((D_SAE,), b_enc), encoder=TopK(k)))

    before, codes = digest(), SAE.codes
    assert len({before, digest(k=3), digest(b_enc=0.5)}) == 3
    monkeypatch.setattr(SAE, "codes", lambda sae, x: (z := codes(sae, x)).with_values(z.values * (1 + 2**-20)))
    assert digest() == before


def test_chunks_and_buffers_change_nothing(sae, store, labels, tmp_path, monkeypatch):
    """Chunks of two sequences, a pass for the pairs of a few latents each, blocks of one or two latents; labels
    gathered, and row ids held, a few at a time."""
    plain = scan_features(sae, store, HOOK, tmp_path / "plain", labels=labels, config=SETTINGS)
    told = []
    monkeypatch.setattr("interp.features.label_scores._ROWS_AT_ONCE", 70)
    monkeypatch.setattr("interp.codes.code_store._STEP", 3)
    monkeypatch.setattr(scan_tables, "_pair_blocks", lambda config, d_sae: [(0, 7), (7, 30), (30, d_sae)])
    monkeypatch.setattr("interp.features.scan_input.CHUNK_ENTRIES", 100)
    monkeypatch.setattr(scan_tables, "CHUNK_ENTRIES", 100)
    tight = scan_features(
        sae, store, HOOK, tmp_path / "tight", labels=labels, config=SETTINGS, progress=lambda *t: told.append(t)
    )
    assert [note for _, _, note in told].count("describing latents") > D_SAE / 2
    assert told[-1][0] == told[-1][1] and [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    for name in SCHEMAS:
        pd.testing.assert_frame_equal(tight.table(name), plain.table(name), check_exact=True)
    assert not (tmp_path / "tight" / "scratch").exists()


def test_from_codes_equals_scan(features, z, tokens, sae, model, labels, tmp_path):
    """Codes without activations give the same tables, except that excluded rows count as silent rows."""
    codes = features.codes[:]
    kept = torch.from_numpy((tokens != BOS).numpy())
    assert torch.equal(codes.dense(), torch.from_numpy(z))
    store = FeatureStore.from_codes(tokens, codes, tmp_path, W_dec=sae.W_dec, labels=labels, config=SETTINGS)
    for name in ("histograms", "intervals", "examples", "tokens", "offsets", "neighbours"):
        pd.testing.assert_frame_equal(store.table(name), features.table(name), check_exact=True)
    ours, theirs = store.table(), features.table()
    of_the_rest = {"density", "enc_dec_cosine", "fvu_rise", "best_label", "best_label_f1", "next_auroc"}
    same = [c for c in ours if c not in of_the_rest and "logit" not in c]
    pd.testing.assert_frame_equal(ours[same], theirs[same], check_exact=True)
    np.testing.assert_allclose(ours.density * kept.numel(), theirs.density * kept.sum().item())


def test_codes_need_not_be_clean(tokens, tmp_path, caplog):
    """Explicit zeros and negative values are not firings; duplicates add up; the order within a row is free."""
    z = np.zeros((N_SEQ * N_CTX, 6), np.float32)
    z[::3, 1], z[::2, 4] = 2, 1
    rows, columns = np.nonzero(z)
    row_ids = np.concatenate([rows, rows, [1, 1]])
    latents = np.concatenate([columns, columns, [0, 2]])
    values = np.concatenate([z[rows, columns] / 2, z[rows, columns] / 2, [0, -1]])
    messy = scipy.sparse.coo_matrix((values, (row_ids, latents)), shape=z.shape)
    store = FeatureStore.from_codes(tokens, messy, tmp_path)
    assert torch.equal(store.codes[:].dense(), torch.from_numpy(z))
    assert "negative" in caplog.text


def test_negative_codes_are_told_once_a_scan(store, tmp_path, caplog):
    class Signed(RandomDictionary):
        def codes(self, x):
            codes = super().codes(x)
            return replace(codes, values=torch.cat([-codes.values[:1], codes.values[1:]]))

    for out in ("first", "second"):
        caplog.clear()
        scan_features(Signed(16, 7, 3), store, HOOK, tmp_path / out)
        assert store.n_shards > 1 and caplog.text.count("negative activations") == 1


def test_codes_come_in_any_form(tokens, z, tmp_path):
    dense = torch.from_numpy(z).half().float()  # which half precision can hold
    clean = FeatureStore.from_codes(tokens, scipy.sparse.csr_matrix(dense.numpy()), tmp_path / "csr")
    forms = {
        "tensor": dense.clone().requires_grad_(),
        "half": dense.half(),
        "half array": dense.half().numpy(),
        "sparse": dense.to_sparse_csr(),
        "coordinates": dense.to_sparse_coo(),
        "double": dense.double().numpy(),
    }
    for name, codes in forms.items():
        store = FeatureStore.from_codes(tokens, codes, tmp_path / name)
        pd.testing.assert_frame_equal(store.table(), clean.table(), check_exact=True)
    with pytest.raises(ValueError, match=r"codes of shape \(600,\) must be \[row, d_sae\]"):
        FeatureStore.from_codes(tokens, dense[:, 0], tmp_path / "flat")


def test_codes_without_a_firing_are_described(tokens, tmp_path):
    nothing = np.zeros((tokens.numel(), 3), np.float32)
    for name, codes in {"dense": nothing, "csr": scipy.sparse.csr_matrix(nothing)}.items():
        store = FeatureStore.from_codes(tokens, codes, tmp_path / name)
        assert (store.table()["n_active"] == 0).all() and store.meta["n_alive"] == 0


def test_quantiles_of_activations_beyond_the_histogram_lie_below_the_maximum(tokens, tmp_path):
    values = np.linspace(1, 10, tokens.numel())[:, None] * [1e6, 1e-9]
    table = FeatureStore.from_codes(tokens, values, tmp_path).table()
    for column in range(2):
        for q in (50, 90, 99):
            exact = np.quantile(values[:, column], q / 100)
            assert table[f"q{q}"][column] == pytest.approx(exact, rel=0.15)


def test_a_dictionary_in_half_precision_is_scanned_and_measured(model, store, tokens, tmp_path):
    W_dec = RandomDictionary(16, D_SAE, 4, seed=2).W_dec
    sae = SAE(W_enc=W_dec.T, W_dec=W_dec, b_enc=torch.zeros(D_SAE), b_dec=torch.zeros(16), encoder=TopK(4))
    half = copy.deepcopy(sae).to(torch.bfloat16)
    ours, theirs = (scan_features(each, store, HOOK, tmp_path / str(i)) for i, each in enumerate((half, sae)))
    n_active, fvu_rise = (np.stack([each.column(name) for each in (ours, theirs)]) for name in ("n_active", "fvu_rise"))
    assert np.abs(np.diff(n_active, axis=0)).sum() < 0.05 * n_active[1].sum()
    np.testing.assert_allclose(fvu_rise[0], fvu_rise[1], atol=0.05 * np.abs(fvu_rise[1]).max())
    fvu = [evaluate_dictionary(model, HOOK, each, tokens, exclude=[BOS]).fvu for each in (half, sae)]
    assert fvu[0] == pytest.approx(fvu[1], rel=0.05)


KILLED = """
    import os, signal, sys, torch
    from interp.activations import ActivationStore
    from interp.evaluation.baselines import RandomDictionary
    from interp.features import scan_input, scan_tables
    from interp.features.scan_features import scan_features

    scan_input.CHUNK_ENTRIES = scan_tables.CHUNK_ENTRIES = 200
    store, out = sys.argv[1:]
    torch.set_num_threads(1)
    kills = ("a", "encoding", 0.1), ("b", "counting firings", 0.5), ("c", "describing latents", 0.8)
    for name, kill_at, share in kills:
        def progress(done, total, note):
            if kill_at == note and done > share * total:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            scan_features(
                RandomDictionary(16, 40, 4, seed=1), ActivationStore.open(store), "blocks.0.hook_resid_post",
                os.path.join(out, name), progress=progress,
            )
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, kill_at
"""


def test_the_rise_of_fvu_is_that_of_the_dictionary_without_the_latent(features, sae, store, z):
    x = torch.cat([store.shard(i, HOOK).acts for i in range(store.n_shards)])
    ids = torch.cat([store.shard(i, HOOK).row_ids for i in range(store.n_shards)])
    x, z = x.double(), torch.from_numpy(z[ids]).double()
    error = x - z @ sae.W_dec.double() - sae.b_dec
    spread, rises = (x - x.mean(0)).square().sum(), []
    for latent in range(D_SAE):
        without = error + torch.outer(z[:, latent], sae.W_dec[latent].double())
        rises.append(float((without.square().sum() - error.square().sum()) / spread))
    found = features.table().sort_values("latent")["fvu_rise"]
    np.testing.assert_allclose(found, rises, rtol=1e-4, atol=1e-7)
    assert not (features.path / "variance_explained").exists()


def test_scan_features_resumes_to_the_same_bytes(sae, store, tmp_path):
    whole = scan_features(sae, store, HOOK, tmp_path / "whole")
    run_python(textwrap.dedent(KILLED), store.path, tmp_path, check=True)
    for name in "abc":
        runs = sorted((unfinished_folder(tmp_path / name) / "new" / "codes").glob("run-*.safetensors"))
        assert 0 < len(runs) < store.n_shards if name == "a" else len(runs) == store.n_shards
        with pytest.raises(ValueError, match="no finished scan"):
            FeatureStore.open(tmp_path / name)
        before = {file.name: file.stat().st_mtime_ns for file in runs}
        resumed = scan_features(sae, store, HOOK, tmp_path / name)
        assert tables_as_bytes(resumed.path) == tables_as_bytes(whole.path)
        runs = (resumed.path / "codes").glob("run-*.safetensors")
        after = {file.name: file.stat().st_mtime_ns for file in runs}
        assert before.items() <= after.items(), "what was encoded is not encoded again"


def test_a_finished_scan_is_opened_and_another_is_refused(features, sae, store, model, labels, tmp_path):
    stamp = (features.path / "meta.json").stat().st_mtime_ns
    again = scan_features(sae, store, HOOK, features.path, model=model, labels=labels, config=SETTINGS)
    assert (again.path / "meta.json").stat().st_mtime_ns == stamp
    out = tmp_path / "features"
    first = scan_features(sae, store, HOOK, out, config=SETTINGS)
    with pytest.raises(
        ValueError, match="other work: not the same dictionary; not the same settings; choose another folder"
    ):
        scan_features(RandomDictionary(16, D_SAE, 4, seed=2), store, HOOK, out)
    n_alive = first.meta["n_alive"]
    redone = scan_features(RandomDictionary(16, 7, 3), store, HOOK, out, overwrite=True)
    assert redone.d_sae == 7 and n_alive != 7 and len(redone.table()) == 7


def test_sql_reads_every_table_and_nothing_else(features):
    for name in SCHEMAS:
        assert features.sql(f"select count(*) as n from {name}").n[0] == len(features.table(name))
    joined = features.sql("select latent, density, label, f1 from features join labels using (latent) where f1 > 0")
    assert {"latent", "density", "label", "f1"} == set(joined)
    for query in (f"select * from '{__file__}'", "select nothing from features"):
        with pytest.raises(ValueError, match="query failed"):
            features.sql(query)
    assert len(features.sql("create table mine as select 1 as x; select * from mine")) == 1
    for query in ("select * from mine", "set default_order = 'desc'"):
        with pytest.raises(ValueError, match="query failed"):
            features.sql(query)
    for query in (
        "commit; create table kept as select 1",
        "-- nothing",
        "copy features to 'x.csv'",
        "create table kept as select 1",
    ):
        with pytest.raises(ValueError, match="begin or end a transaction|is empty|a query changes nothing"):
            features.sql(query)
    with pytest.raises(ValueError, match="kept does not exist"):
        features.sql("select * from kept")
    with pytest.raises(ValueError, match="no table 'feature'; there are features"):
        features.table("feature")


def test_sql_reads_the_files_that_views_name_and_no_neighbour(features, tmp_path):
    table = pd.DataFrame({"latent": [1, 2], "ce_rise": [0.5, 0.25]})
    (tmp_path / "effects").mkdir()
    write_parquet(tmp_path / "effects" / "effects.parquet", table)
    store = FeatureStore(shutil.copytree(features.path, tmp_path / "features"))
    query = "select latent, ce_rise from effects join features using (latent) order by latent"
    with pytest.raises(ValueError, match="query failed"):
        store.sql(query)
    store.views["effects"] = tmp_path / "effects" / "effects.parquet"
    assert store.sql(query).to_dict("list") == table.to_dict("list")


def test_stray_bytes_are_joined_to_the_characters_that_they_make():
    tokens = ["a⟨d7⟩", "⟨a9⟩⟨d7⟩", "⟨9c⟩ x", "", "⟨ce⟩", "z\n", "⟨f0⟩⟨9f⟩", "⟨98⟩⟨80⟩"]
    found = list(join_pieces(tokens))
    assert [text for text, _ in found] == ["a", "ש", "ל", " x", "⟨ce⟩", "z\n", "😀"]
    assert [sorted({*places}) for _, places in found] == [[0], [0, 1], [1, 2], [2], [4], [5], [6, 7]]


def test_a_card_shows_parts_of_characters_as_the_page_does(tokens, tmp_path):
    z = torch.zeros(tokens.numel(), 1)
    z[5, 0] = 4
    vocab = ["⟨d7⟩"] * VOCAB
    vocab[tokens.flatten()[5]] = "⟨90⟩x\n"
    vocab[tokens.flatten()[6]] = "⟨d7⟩"
    weights = {"W_dec": torch.eye(1, 3), "W_U": torch.arange(3.0 * VOCAB).view(3, VOCAB)}
    page = FeatureStore.from_codes(tokens, SparseCodes.from_dense(z), tmp_path, vocab=vocab, **weights)[0]._repr_html_()
    assert ">d7… א–ת</bdi>" in page and 'title="⟨d7⟩"' in page and ">⟨" not in page


def test_a_feature_shows_itself_and_escapes_the_text(tokens, tmp_path):
    z = torch.zeros(tokens.numel(), 2)
    z[tokens.flatten() == 9, 0] = 2
    z[5, 0] = 4  # the strongest
    vocab = [f"<b>{i}&" for i in range(VOCAB)]
    logits = torch.sin(torch.arange(3.0 * VOCAB)).view(3, VOCAB)
    raised = int(tokens.max())
    logits[0, raised] = 40  # the other effects are no larger than chance makes one of them
    weights = {"W_dec": torch.eye(2, 3), "W_U": logits}
    store = FeatureStore.from_codes(tokens, SparseCodes.from_dense(z), tmp_path, vocab=vocab, **weights)
    feature = store[0]
    assert feature.latent == 0 and feature.facts.n_active == (z[:, 0] > 0).sum() and feature.examples.value[0] == 4
    page = feature._repr_html_()
    assert "&lt;b&gt;9&amp;" in page and "<b>9&" not in page
    assert f"positive logits: <code><bdi>&lt;b&gt;{raised}&amp;</bdi></code><" in page
    assert "negative logits: none beyond chance" in page
    assert "rgba(255,140,0,0.80)" in page and "rgba(255,140,0,0.40)" in page
    first, fires, positive, negative, strongest, *_ = str(feature).splitlines()
    commonest = f"most often on '<b>9&' ({feature.facts.top_token_share:.0%} of its firings)"
    assert first == repr(feature) == "latent 0" and fires.endswith(f"of the tokens, at most 4, {commonest}")
    assert positive == f"positive logits: '<b>{raised}&'"
    assert negative == "negative logits: none beyond chance"
    assert strongest.split()[0] == "4" and f"⟦<b>{tokens.flatten()[5]}&⟧" in strongest
    judged = {"verdict": "too-rare", "monosemanticity": float("nan"), "explanation": "\x1b[2J", "explanation_f1": 0.5}
    long = {"row": 35, "start": 20, "value": 1.0, "tokens": [0] * 40, "values": [0.0] * 40}
    around = str(replace(feature, examples=pd.DataFrame([long]))).splitlines()[-1].partition("⟦<b>0&⟧")
    assert [side.count("<b>") for side in around] == [10, 1, 10]
    assert str(replace(feature, verdict=pd.Series(judged))).startswith("latent 0: �[2J (F1 0.50)\ntoo rare\n")
    assert str(store[1]).startswith("latent 1\nnever fires") and "never fires" in store[1]._repr_html_()
    facts = feature.facts.copy()
    facts["density"] = 1 / 262_144
    assert "fires on 0.00038% of the tokens" in str(replace(feature, facts=facts)), "which does not round to 0.000%"
    both = store.several([1, 0])
    assert list(both) == [1, 0] and both[0].examples.equals(feature.examples) and both[0].facts.equals(feature.facts)
    assert both[1].examples.empty and store.several([]) == {}
    assert list(store.several(np.array([1, 0]))) == [1, 0] and store.several(np.array([], int)) == {}
    for latent in (-1, 2):
        with pytest.raises(IndexError, match=f"latent {latent} is not in 0..1"):
            store[latent]
    for latent in (0.7, "1", True, slice(0, 1)):
        with pytest.raises(ValueError, match="must be a whole number"):
            store[latent]
    assert store[torch.tensor(1)].latent == store[np.int32(1)].latent == store[1.0].latent == 1
    assert [feature.latent for feature in store] == [0, 1] and len(store) == 2


def test_store_gives_back_what_went_in(features, tokens, sae, z):
    opened = FeatureStore.open(features.path)
    assert torch.equal(opened.tokens, tokens) and torch.equal(opened.W_dec, sae.W_dec)
    assert opened.vocab == [str(i) for i in range(int(tokens.max()) + 1)]
    assert (opened.d_sae, opened.n_ctx) == (D_SAE, N_CTX)
    with pytest.raises(ValueError, match="no column 'densty' in the features table; did you mean density"):
        opened.column("densty")
    for name in ("best_label", "top_logits"):
        with pytest.raises(ValueError, match=f"the column '{name}' is not of numbers"):
            opened.column(name)
    assert torch.equal(opened.codes[100:200].dense(), torch.from_numpy(z[100:200]))
    assert opened.meta["n_tokens"] == N_SEQ * (N_CTX - 1)
    assert json.loads((features.path / "meta.json").read_text())["settings"]["n_top"] == 4
    half = opened.fit_half()
    assert len(half) == N_SEQ and abs(int(half.sum()) - N_SEQ / 2) <= 6
    assert half[:6].all() and not half[6:12].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_scan_spells_tokens_as_the_model_does(family, tokens, tmp_path):
    model = load_model(write_foreign(family, tmp_path / "model"))
    store = harvest(model, tokens, ["blocks.1.hook_resid_post"], tmp_path / "store")
    given = RandomDictionary(store.d(store.hook_names[0]), 8, 2), store, store.hook_names[0]
    assert scan_features(*given, tmp_path / "named", model=model).vocab == model.tokenizer.display()
    assert scan_features(*given, tmp_path / "ids").vocab[:3] == ["0", "1", "2"]


def test_a_store_knows_whether_it_was_given_a_vocabulary(tokens, tmp_path):
    codes = SparseCodes.from_dense(torch.ones(tokens.numel(), 2))
    ids = [str(i) for i in range(VOCAB)]
    without = FeatureStore.from_codes(tokens, codes, tmp_path / "without")
    given = FeatureStore.from_codes(tokens, codes, tmp_path / "given", vocab=ids)
    assert not without.has_vocab and given.has_vocab
    assert not FeatureStore.from_codes(tokens, codes, tmp_path / "without").has_vocab
    # Ids that were given as strings are spelt so: these are not the same scan.
    with pytest.raises(ValueError, match="other work: not the same vocab; choose another folder"):
        FeatureStore.from_codes(tokens, codes, tmp_path / "without", vocab=without.vocab)


def test_feature_store_requires_each_fact_of_a_scan(tokens, z, tmp_path):
    path = FeatureStore.from_codes(tokens, z, tmp_path).path
    meta = json.loads((path / "meta.json").read_text())
    (path / "manifest.json").unlink()
    assert len(meta) == 15
    for name in meta.keys() - {"weights", "format"}:  # which older scans lack
        (path / "meta.json").write_text(json.dumps({other: meta[other] for other in meta if other != name}))
        with pytest.raises(ValueError, match=f"meta.json is damaged, {name} is missing; scan again"):
            FeatureStore.open(path)


def test_arrays_of_numpy_and_dense_codes_make_the_same_store(tokens, tmp_path):
    dense = torch.rand(tokens.numel(), 3, generator=torch.Generator().manual_seed(0))
    dense[dense < 0.6] = 0
    expected = FeatureStore.from_codes(tokens, SparseCodes.from_dense(dense), tmp_path / "sparse")
    for name, given, codes in (("numpy", tokens.numpy(), dense.numpy()), ("lists", tokens.tolist(), dense)):
        found = FeatureStore.from_codes(given, codes, tmp_path / name)
        assert torch.equal(found.tokens, expected.tokens)
        pd.testing.assert_frame_equal(found.table("features"), expected.table("features"))
    refused = {"numbers": list(range(VOCAB)), "mapping": {str(i): i for i in range(VOCAB)}, "tokenizer": object()}
    for name, vocab in refused.items():
        with pytest.raises(ValueError, match="vocab must be a list of strings"):
            FeatureStore.from_codes(tokens, dense.numpy(), tmp_path / name, vocab=vocab)
    with pytest.raises(ValueError, match="an unpaired surrogate in the string of token 1"):
        FeatureStore.from_codes(tokens, dense.numpy(), tmp_path / "half", vocab=["a", "\ud800"] * VOCAB)


def test_codes_of_another_scan_and_firings_below_zero_are_refused(sae, store, tmp_path):
    out = scan_features(sae, store, HOOK, tmp_path / "out").path
    files = CodeStore(out / "codes")._files
    runs = {file.path.stem.removeprefix("run-"): [file.n_rows, file.nnz] for file in files}
    assert json.loads((out / "codes" / "codes.json").read_text())["runs"] == runs and runs
    made_of = json.loads((out / "manifest.json").read_text())["made_of"]
    (out / "manifest.json").unlink()  # it has sums of all files
    (out / "codes" / "codes.json").write_text(json.dumps({"n_rows": 700, "d_sae": sae.d_sae, "runs": runs}))
    with pytest.raises(ValueError, match="codes.json has 700 rows and .* latents, the scan has 600"):
        len(FeatureStore(out).codes)
    new = unfinished_folder(out) / "new"  # as if it had been cut off
    new.parent.mkdir()
    (new.parent / "begun.json").write_text(json.dumps({"made_of": made_of, "resumes": True}))
    out.rename(new)
    damage_value(next((new / "codes").glob("run-*")))
    with pytest.raises(ValueError, match=f"{new / 'codes'}.* is damaged: it has a firing that is not above 0"):
        scan_features(sae, store, HOOK, out)


def damage_value(file: Path) -> None:
    """The first activation of a run becomes negative."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    last = 8 + length + json.loads(content[8 : 8 + length])["values"]["data_offsets"][0] + 3
    file.write_bytes(content[:last] + bytes([content[last] | 0x80]) + content[last + 1 :])


def test_bad_input_is_named(sae, store, tokens, tmp_path):
    with pytest.raises(ValueError, match="reads width 16, but the store's blocks.0.mlp.hook_post has width 24"):
        scan_features(sae, store, MLP, tmp_path)
    with pytest.raises(ValueError, match="the vocabulary has 5 tokens, but token id 18 occurs"):
        scan_features(sae, store, HOOK, tmp_path, vocab=["a"] * 5)
    with pytest.raises(ValueError, match="labels must be masks by name, .*, not one list"):
        scan_features(sae, store, HOOK, tmp_path, labels=["x"] * 50)
    with pytest.raises(ValueError, match=r"label 'x' is \(3, 12\), what was scanned is \(50, 12\)"):
        scan_features(sae, store, HOOK, tmp_path, labels={"x": torch.zeros(3, 12, dtype=torch.bool)})
    codes = SparseCodes.from_dense(torch.ones(7, 3))
    with pytest.raises(ValueError, match="codes have 7 rows, but there are 600 tokens"):
        FeatureStore.from_codes(tokens, codes, tmp_path)
    codes = SparseCodes.from_dense(torch.ones(600, 3))
    with pytest.raises(ValueError, match="W_dec has 4 rows, but the codes have 3 latents"):
        FeatureStore.from_codes(tokens, codes, tmp_path, W_dec=torch.ones(4, 2))
    codes.values[31] = torch.nan
    with pytest.raises(ValueError, match="latent 1 is nan at row 10"):
        FeatureStore.from_codes(tokens, codes, tmp_path)
    assert not list(tmp_path.glob("*.parquet")) and not (tmp_path / "meta.json").exists()


def test_no_tokens_or_no_latents_are_refused(tokens, tmp_path):
    nothing = SparseCodes.from_dense(torch.ones(0, 3))
    with pytest.raises(ValueError, match=r"tokens of shape \(0, 8\) and torch.int\d+ must be integers"):
        FeatureStore.from_codes(torch.zeros(0, 8, dtype=torch.int32), nothing, tmp_path / "out")
    with pytest.raises(ValueError, match=r"tokens of shape \(600,\) and torch.int\d+ must be integers"):
        FeatureStore.from_codes(tokens.flatten(), SparseCodes.from_dense(torch.ones(600, 3)), tmp_path / "out")
    with pytest.raises(ValueError, match="codes have d_sae=0 latents: at least one is needed"):
        FeatureStore.from_codes(tokens, SparseCodes.from_dense(torch.ones(600, 0)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_codes_may_hold_no_firing_at_all(tmp_path):
    tokens = torch.zeros(4, 8, dtype=torch.int32)
    silent = SparseCodes(torch.zeros(33, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), torch.zeros(0), 5)
    store = FeatureStore.from_codes(tokens, silent, tmp_path)
    assert (store.table().n_active == 0).all() and len(store.table()) == 5 and len(store.table("examples")) == 0


def test_a_label_is_a_mask_of_any_dtype_and_not_a_class_or_unknown(tmp_path, monkeypatch):
    """NaN and the numbers of classes would all count as true."""
    tokens = torch.arange(64).reshape(8, 8) % 5
    codes = SparseCodes.from_dense(torch.ones(64, 1))
    unknown = torch.where(tokens == 0, torch.nan, 1.0)
    for label in (tokens, unknown):
        with pytest.raises(ValueError, match="label 'x' has values other than 0 and 1: give a mask"):
            FeatureStore.from_codes(tokens, codes, tmp_path / "features", labels={"x": label})
    monkeypatch.setattr("interp.features.label_scores.MAX_LABELS", 1000)
    too_many = dict.fromkeys(map(str, range(1001)), tokens == 1)
    with pytest.raises(ValueError, match="1,001 labels were given, and a scan takes at most 1,000"):
        FeatureStore.from_codes(tokens, codes, tmp_path / "features", labels=too_many)
    mask = tokens == 1
    assert labels_digest({"x": mask.float()}, ["x"]) == labels_digest({"x": mask.numpy()}, ["x"])
