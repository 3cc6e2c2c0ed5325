"""Which features differ between two corpora: false discoveries and power by simulation."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats
import torch

from interp import figures
from interp.cli import main
from interp.compare import corpora, open_pair
from interp.features.feature_store import FeatureStore
from interp.features.scan_config import ScanConfig
from interp.text.rules import phrase, rule_json
from tests.planted_rules import a_rule

N, CTX, D, PLANTED = 120, 6, 120, 20
FEW = ScanConfig(n_top=0, n_per_interval=0, n_coactivations=0, n_neighbours=0, n_tokens=1)


def store(folder, z, tokens=None, **rest) -> FeatureStore:
    tokens = torch.arange(N * CTX).reshape(N, CTX) % 50 if tokens is None else tokens
    return FeatureStore.from_codes(tokens, scipy.sparse.csr_matrix(z), folder, config=FEW, **rest)


def planted(seed: int) -> np.ndarray:
    """Return codes [row, D] of N documents: the first PLANTED latents fire more in the first half; latents share moods
    of the documents, fire on one token or on all, and one document's tokens are alike."""
    generator = np.random.default_rng(seed)
    mood = generator.normal(size=(N, 5)) @ generator.normal(size=(5, D)) / 5**0.5
    rate = generator.uniform(0.02, 0.95, D)
    lift = np.zeros((N, D))
    lift[: N // 2, :PLANTED] = 1.5
    inside = generator.normal(size=(N, D)) + mood + lift > scipy.stats.norm.isf(rate) * 2**0.5
    strength = np.exp(generator.normal(size=(N, D)) + 0.5 * lift)
    on = generator.random((N, CTX, D)) < 0.6
    return (inside[:, None] * strength[:, None] * on).reshape(N * CTX, D)


HALF = torch.zeros(N, CTX, dtype=torch.bool)
HALF[: N // 2] = True


def test_statistics_are_those_of_a_loop(tmp_path):
    z = planted(0)
    features = store(tmp_path / "f", z)
    table = corpora(features, in_a=HALF, seed=1).table.set_index("latent").sort_index()
    maxima = z.reshape(N, CTX, D).max(1).astype(np.float32)
    adjusted = scipy.stats.false_discovery_control(table["p"].dropna())
    np.testing.assert_allclose(table["q"].dropna(), adjusted)
    for latent in range(D):
        row, m = table.loc[latent], maxima[:, latent]
        threshold = np.sort(m)[(N - 1) // 2]
        above = m > threshold
        assert row.threshold == pytest.approx(threshold)
        a, b = above[: N // 2].mean(), above[N // 2 :].mean()
        assert (row.share_a, row.share_b) == pytest.approx((a, b)) and row.difference == pytest.approx(a - b)
        assert row.low <= row.difference <= row.high
        assert row.mean_a == pytest.approx(m[: N // 2].mean(), rel=1e-5)
        assert np.isnan(row.p) == (above.sum() < 10)


def test_false_discoveries_are_controlled_and_most_planted_differences_are_found(tmp_path, monkeypatch):
    """Over 24 simulations, the mean share of false discoveries is within two standard errors of 5 %."""
    monkeypatch.setattr("interp.compare.across_corpora.SHUFFLES", 4)
    false, power, by_chance = [], [], []
    for seed in range(24):
        result = corpora(store(tmp_path / str(seed), planted(seed)), in_a=HALF, seed=seed)
        found = result.differing["latent"].to_numpy()
        false.append((found >= PLANTED).sum() / max(len(found), 1))
        power.append((found < PLANTED).sum() / PLANTED)
        by_chance.append(result.by_chance)
    error = np.std(false, ddof=1) / len(false) ** 0.5
    assert np.mean(false) <= 0.05 + 2 * error and np.mean(false) < 0.07, (np.mean(false), error)
    assert np.mean(power) > 0.5, np.mean(power)
    assert np.mean(by_chance) < 1 < np.mean(power) * PLANTED


def test_where_nothing_differs_few_simulations_find_anything(tmp_path, monkeypatch):
    monkeypatch.setattr("interp.compare.across_corpora.SHUFFLES", 1)
    z = planted(5)[:, PLANTED:]
    features, generator, n_found = store(tmp_path / "f", z), torch.Generator().manual_seed(0), 0
    for _ in range(40):
        drawn = torch.randperm(N, generator=generator)[: N // 3]
        in_a = torch.zeros(N, CTX, dtype=torch.bool)
        in_a[drawn] = True
        n_found += len(corpora(features, in_a=in_a).differing) > 0
    assert n_found <= 6, "5 % of 40, and two standard errors"


def test_blocks_of_latents_and_two_scans_say_the_same_as_one(tmp_path, monkeypatch):
    z, tokens = planted(1), torch.arange(N * CTX).reshape(N, CTX) % 50
    whole = corpora(store(tmp_path / "f", z), in_a=HALF)
    half = N // 2
    sides = [
        store(tmp_path / name, z[rows], tokens[at])
        for name, rows, at in (("a", slice(half * CTX), slice(half)), ("b", slice(half * CTX, None), slice(half, None)))
    ]
    monkeypatch.setattr("interp.compare.document_counts.COUNTS_AT_ONCE", 500)
    pd.testing.assert_frame_equal(corpora(*sides).table, whole.table)


def test_corpora_describes_differences_by_rules_and_snippets(tiny_run, tmp_path, caplog):
    features, harvested = tiny_run.features, tiny_run.harvested
    label = max(harvested.labels, key=lambda name: -abs(float(harvested.labels[name].float().mean()) - 0.4))
    in_a = harvested.labels[label]
    ids = torch.arange(len(in_a))[:, None].expand_as(in_a)  # each sequence is a document: the works are few
    result = corpora(features, in_a=in_a, documents=ids, ranking=tiny_run.ranking, names=(label, "<b>the rest</b>"))
    assert len(result.differing) and result.n_documents[0] > 1 and label in repr(result)
    assert f"with the documents shuffled {result.by_chance:.1f} do\n" in repr(replace(result, names=(50 * "A", "B")))
    first = result.differing.iloc[0]
    rules = tiny_run.ranking.set_index("latent")["explanation"]
    assert first["rule"] == rules[first["latent"]] and f"of {label}" in first["words"]
    assert all(text.count("⟦") == text.count("⟧") >= 1 for text in first["in_a"]) and len(first["in_a"]) <= 3
    of_latent = features.codes[: features.tokens.numel()].dense()[:, first["latent"]].view_as(ids)
    inside = {int(i) for i in ids.unique() if i >= 0 and in_a[ids == i].float().mean() > 0.5}
    row = int(torch.where(torch.isin(ids, torch.tensor(sorted(inside))), of_latent, 0).argmax())
    token = features.vocab[int(features.tokens.flatten()[row])]
    assert f"⟦{token}⟧".replace("\n", "↵") in first["in_a"][0]
    page = result._repr_html_()
    assert "<b>the" not in page and "&lt;b&gt;" in page and page.count("<div") == page.count("</div>")
    rule = a_rule(token=[" the", "a"])
    words = {"words": f"fires in 9% of it: {phrase(rule)}", "rule": phrase(rule), "rule_json": rule_json(rule)}
    spaced = replace(result, table=result.table.assign(**words))
    assert '"<bdi>␣the</bdi>" or "<bdi>a</bdi>"' in spaced._repr_html_(), "the spaces of a rule are marked"
    none = replace(result, table=result.table.assign(differs=False))
    assert "<th" in page and "<th" not in none._repr_html_(), "no head of an empty table"
    figure = figures.corpus_differences(result.table, names=result.names)
    assert sum(len(trace.x) for trace in figure.data) == min(len(result.differing), 24)
    cut = corpora(features, in_a=in_a, documents=ids, n_first=8)
    assert cut.lengths == (8, 8)


def test_documents_of_different_lengths_cause_a_warning(tiny_run, caplog):
    ids = tiny_run.harvested.document_ids.clone()
    ids[::2, 5:] = -1
    in_a = torch.zeros_like(ids, dtype=torch.bool)
    in_a[::2] = True
    sequences = torch.where(ids >= 0, torch.arange(len(ids))[:, None], -1)
    corpora(tiny_run.features, in_a=in_a, documents=sequences)
    assert "more latents fire in longer ones" in caplog.text


def test_mistakes_are_named(tiny_run, tmp_path):
    features, in_a = tiny_run.features, torch.zeros_like(tiny_run.features.tokens, dtype=torch.bool)
    other = store(tmp_path / "f", planted(0))
    for given, said in [
        (dict(), "not both"),
        (dict(features_b=features, in_a=in_a), "not both"),
        (dict(features_b=tiny_run.neurons), "by two dictionaries"),
        (dict(features_b=other), "by two dictionaries"),
        (dict(in_a=in_a), "0 of A and"),
        (dict(in_a=in_a[:1]), "in_a is"),
        (dict(in_a=in_a + 2), "in_a has values other than 0 and 1"),
        (dict(in_a=in_a, documents=(in_a, in_a)), "there is one scan"),
        (dict(features_b=features, documents=tiny_run.harvested.document_ids), "there are two scans: give a pair"),
        (dict(in_a=in_a, n_first=0), "must be at least 1"),
        (dict(in_a=in_a, names=("A",)), r"names=\('A',\) must be two: of A and of B"),
    ]:
        with pytest.raises(ValueError, match=said):
            corpora(features, **given)
    in_a[: len(in_a) // 2] = True
    of_neurons = tiny_run.ranking.copy()
    of_neurons.attrs = {"features": {"dictionary": "another"}}
    with pytest.raises(ValueError, match="ranking belongs to another dictionary"):
        corpora(features, in_a=in_a, ranking=of_neurons)
    without_rules = tiny_run.ranking.drop(columns=["explanation", "explanation_f1"])  # as of `rank_codes`
    table = corpora(features, in_a=in_a, ranking=without_rules).table
    assert (table["rule"] == "").all() and table["f1"].isna().all()


def test_the_command_compares_two_texts_read_by_one_dictionary(tiny_run, tmp_path, capsys):
    from interp import harvest, scan_features

    held_out = tiny_run.held_out
    acts = harvest(tiny_run.model, held_out.tokens, [tiny_run.hook_name], tmp_path / "acts", exclude=[0])
    vocab = tiny_run.tokenizer.display()
    scan_features(tiny_run.sae, acts, tiny_run.hook_name, tmp_path / "features", vocab=vocab, config=FEW)
    assert open_pair(tiny_run.path, tmp_path / "features").by == "corpora"
    assert main(["compare", str(tiny_run.path), str(tmp_path / "features"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "compared by corpora: two texts read by one dictionary" in said and "latents differ between A (" in said
    table = pd.read_parquet(tmp_path / "out/corpora.parquet")
    assert len(table) == tiny_run.sae.d_sae and (tmp_path / "out/corpora.html").is_file()
    shutil.rmtree(tmp_path / "acts")
