"""Outliers: rows that hold the variance are found, left out, and ignored by everything made from a store."""

import copy
import json

import pytest
import torch

from interp import ActivationStore, TopKConfig, evaluate_dictionary, load_sae, quality_table, scan_features, train_sae
from interp.activations.harvesting import harvest
from interp.activations.outliers import find_outliers
from interp.compare.null_dictionaries import harvest_options
from interp.compare.null_trials import encode_first_rows
from interp.evaluation.baselines import RandomDictionary, shuffled_model
from interp.storage.manifests import manifest_of
from models.transformer import Transformer, TransformerConfig
from tests.stored_rows import rows_of

N_SEQ, N_CTX, D_VOCAB, BOS, SINK = 60, 24, 40, 0, 7
HOOK, MLP = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"


@pytest.fixture(scope="module")
def model():
    """Token 7 writes 300 times as much as any other into the residual stream."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=24, d_vocab=D_VOCAB, n_ctx=N_CTX))
    with torch.no_grad():
        model.W_E[SINK] *= 300
    return model


@pytest.fixture(scope="module")
def tokens():
    """Return sequences that begin with BOS; the sink is at position 1 of two in three, and once at position 9."""
    tokens = torch.randint(8, D_VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = BOS
    tokens[torch.arange(N_SEQ) % 3 > 0, 1] = SINK
    tokens[6, 9] = SINK
    return tokens


def all_rows(model, tokens, hook=HOOK):
    return model.run_with_cache(tokens)[1][hook].detach().flatten(0, 1).double()


def brute_force(x):
    """Return share of the rows above 10 × the median norm, and of the variance about the mean of the others that they
    hold."""
    norms = x.norm(dim=1)
    above = norms > 10 * norms.median()
    squares = (x - x[~above].mean(0)).square().sum(1)
    return above, squares[above].sum() / squares.sum()


def test_outliers_are_few_rows_that_hold_most_of_the_variance():
    x = torch.randn(2000, 12, generator=torch.Generator().manual_seed(0))
    norms = x.norm(dim=1)
    ordinary = find_outliers(norms, norms.square(), 128)
    assert not ordinary.are_dominant and ordinary.row_share == ordinary.variance_share == 0
    for n_outliers, times, n_ctx, found in (
        (10, 100, 128, True),
        (18, 12, None, True),  # 2,590 of 4,670
        (10, 5, 128, False),  # nearer than 10 × the median
        (2, 20, None, False),  # 800 of 2,890
        (40, 100, 1000, False),  # not few
        (40, 100, 64, True),  # a sink or two in each sequence of 64
    ):
        far = x.clone()
        far[:n_outliers] = x[:n_outliers] / norms[:n_outliers, None] * times * norms.median()
        outliers = find_outliers(far.norm(dim=1), far.norm(dim=1).square(), n_ctx)
        above, held = brute_force(far.double())
        assert outliers.are_dominant == found, (n_outliers, times, n_ctx)
        assert outliers.row_share == pytest.approx(above.double().mean().item())
        assert outliers.variance_share == pytest.approx(held.item(), abs=0.02)
    unseen = find_outliers(norms, norms.square(), 128, mean_square=3 * float(norms.square().mean()))
    assert unseen.are_dominant and unseen.row_share == 0 and unseen.variance_share == pytest.approx(2 / 3)


def test_rows_that_are_all_equal_have_no_outliers(tmp_path, caplog):
    store = ActivationStore.from_batches(torch.full((500, 7), 0.3), tmp_path)
    assert store.row_limit("activations").limit is None and not caplog.text


def test_auto_finds_a_planted_sink_says_where_and_leaves_it_out(model, tokens, tmp_path, caplog):
    store = harvest(model, tokens, [HOOK, MLP], tmp_path / "auto", exclude=[BOS], dtype="float32", rows_per_shard=300)
    x, kept = all_rows(model, tokens), tokens.flatten() != BOS
    above, held = brute_force(x[kept])
    sinks = (tokens == SINK).flatten()
    assert torch.equal(above, sinks[kept]) and held > 0.9
    assert store.norm_limits == {HOOK: pytest.approx(10 * x[kept].norm(dim=1).median().item(), rel=1e-4)}
    assert store.excluded == {"token": N_SEQ, "position": 0, "norm": int(sinks.sum())}
    rows = rows_of(store, MLP)
    assert sorted(rows) == (kept & ~sinks).nonzero().flatten().tolist()
    said = store.manifest["outliers"][HOOK]
    assert said["rows"] == pytest.approx(above.double().mean().item())
    assert said["variance"] == pytest.approx(held.item(), abs=0.01)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"{HOOK}: 2.97% of the rows, with norms above 10 × the median")
    assert f"hold {held:.1%} of the variance, most at positions 1, 9, of tokens {SINK}." in warning


def test_without_outliers_auto_changes_nothing(model, tokens, tmp_path, caplog):
    plain = tokens.where(tokens != SINK, 8)
    auto = harvest(model, plain, [HOOK], tmp_path / "auto", exclude=[BOS], rows_per_shard=300)
    none = harvest(model, plain, [HOOK], tmp_path / "none", exclude=[BOS], rows_per_shard=300, max_norm=None)
    files = sorted(file.name for file in none.path.iterdir() if file.suffix == ".safetensors")
    assert len(files) == 7 and all((auto.path / f).read_bytes() == (none.path / f).read_bytes() for f in files)
    assert auto.norm_limits == none.norm_limits == {} and not auto.keeps_outliers and none.keeps_outliers
    unlike = {key for key in auto.manifest if auto.manifest[key] != none.manifest.get(key)}
    assert unlike == {"made_of", "norm_limits", "outliers", "sha256"} and not caplog.records


def test_a_store_that_keeps_outliers_says_so(model, tokens, tmp_path, caplog):
    kept = harvest(model, tokens, [HOOK], tmp_path / "kept", exclude=[BOS], max_norm=None)
    assert len(kept) == N_SEQ * (N_CTX - 1) and kept.keeps_outliers
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "the store keeps outliers at blocks.0.hook_resid_post" in warning and "max_norm='auto'" in warning
    caplog.clear()
    rare = torch.randn(60_000, 8, generator=torch.Generator().manual_seed(0))
    rare[41_234] *= 1000  # in none of the rows that the statistics are estimated from
    ActivationStore.from_batches(rare, tmp_path / "rows")
    assert "0.00% of the rows" in caplog.text and "of the variance" in caplog.text
    # an imported store has no max_norm to set, and training leaves them out
    assert "nothing is trained on them" in caplog.text and "max_norm" not in caplog.text


def test_a_number_is_times_the_median_of_the_sample(model, tokens, tmp_path, monkeypatch):
    for name, sample_rows in (("all", 1 << 13), ("some", 10 * N_CTX)):
        monkeypatch.setattr("interp.activations.model_passes.NORM_SAMPLE_ROWS", sample_rows)
        store = harvest(model, tokens, [HOOK, MLP], tmp_path / name, max_norm=1.2, batch_size=4)
        step = 1 if name == "all" else N_SEQ // 10
        for hook in (HOOK, MLP):
            norms = all_rows(model, tokens[::step], hook).norm(dim=1)
            assert store.norm_limits[hook] == pytest.approx(1.2 * norms.median().item(), rel=1e-2)
        x, y = all_rows(model, tokens, HOOK).norm(dim=1), all_rows(model, tokens, MLP).norm(dim=1)
        expected = ((x <= store.norm_limits[HOOK]) & (y <= store.norm_limits[MLP])).nonzero().flatten().tolist()
        assert sorted(rows_of(store, HOOK)) == expected and 100 < len(store) < N_SEQ * N_CTX - 100
    for wrong in ("automatic", 0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"max_norm=.* must be (a( finite)? number or 'auto' or none|above 0)"):
            harvest(model, tokens, [HOOK], tmp_path / "wrong", max_norm=wrong)


def test_a_nulls_harvest_leaves_out_as_the_store_did(model, tokens, tmp_path):
    """The policy is the same, but the limits are those of the null's own activations."""
    store = harvest(model, tokens, [HOOK], tmp_path / "a", exclude=[BOS], exclude_positions=(0, 3), max_norm=8.0)
    other = harvest(shuffled_model(model), tokens, [HOOK], tmp_path / "b", **harvest_options(store))
    assert {name: other.excluded[name] for name in ("token", "position")} == {"token": N_SEQ, "position": N_SEQ}
    assert other.norm_limits.keys() == store.norm_limits.keys() and other.norm_limits != store.norm_limits


def test_positions_are_left_out_and_counted(model, tokens, tmp_path):
    store = harvest(model, tokens, [HOOK], tmp_path / "a", exclude=[BOS], exclude_positions=(0, 1, 9), max_norm=None)
    assert sorted({i % N_CTX for i in rows_of(store, HOOK)}) == [i for i in range(N_CTX) if i not in (0, 1, 9)]
    assert store.excluded == {"token": N_SEQ, "position": 2 * N_SEQ, "norm": 0}
    assert store.manifest["made_of"]["exclude_positions"] == [0, 1, 9] and not store.norm_limits
    with pytest.raises(ValueError, match=r"exclude_positions=\[24\] holds 24, which is not a position in 0..23"):
        harvest(model, tokens, [HOOK], tmp_path / "b", exclude_positions=[24])
    with pytest.raises(ValueError, match="no token is left to harvest: .* a position in"):
        harvest(model, tokens, [HOOK], tmp_path / "b", exclude=[BOS], exclude_positions=range(1, N_CTX))


def change(manifest, **values) -> None:
    """Write a manifest with other values, as if the store had been made with them."""
    content = json.loads(manifest.read_text()) | values
    manifest.write_text(json.dumps(manifest_of(without(content, "sha256", "files"), content["files"])))


def without(content: dict, *names: str) -> dict:
    return {name: value for name, value in content.items() if name not in names}


def test_a_limit_in_a_damaged_manifest_is_refused(model, tokens, tmp_path):
    file = harvest(model, tokens, [HOOK], tmp_path / "a").path / "manifest.json"
    change(file, norm_limits={HOOK: -1.0})
    with pytest.raises(ValueError, match=r"norm_limits"):
        ActivationStore.open(tmp_path / "a")


@pytest.fixture(scope="module")
def stores(model, tokens, tmp_path_factory):
    """Harvest the same text without its sinks, with them on purpose, and without a limit, as earlier versions did."""
    folder = tmp_path_factory.mktemp("stores")
    options = {"exclude": [BOS], "dtype": "float32", "rows_per_shard": 300}
    harvest(model, tokens, [HOOK], folder / "without", **options)
    harvest(model, tokens, [HOOK], folder / "with", **options, max_norm=None)
    harvest(model, tokens, [HOOK], folder / "earlier", **options, max_norm=None)
    change(folder / "earlier" / "manifest.json", norm_limits={})
    return {name: ActivationStore.open(folder / name) for name in ("without", "with", "earlier")}


CONFIG = TopKConfig(d_sae=48, k=4, tokens=10_000, batch_size=128, lr=0.006, seed=1, device="cpu")


@pytest.fixture(scope="module")
def saes(stores):
    return {name: train_sae(store, HOOK, CONFIG) for name, store in stores.items()}


def fvu(sae, x):
    return float((sae(x) - x).square().sum() / (x - x.mean(0)).square().sum())


def test_a_dictionary_knows_the_limit_of_its_store_and_trains_without_outliers(model, tokens, stores, saes):
    x, kept = all_rows(model, tokens).float(), tokens.flatten() != BOS
    sink, ordinary = x[(tokens == SINK).flatten()], x[kept & (tokens != SINK).flatten()]
    missed = {name: float((sae(sink) - sink).square().sum() / sink.square().sum()) for name, sae in saes.items()}
    assert missed["without"] > 0.2 and missed["earlier"] > 0.2 and missed["with"] < 0.05
    assert fvu(saes["earlier"], ordinary) == pytest.approx(fvu(saes["without"], ordinary), rel=0.1)
    limit = stores["without"].norm_limits[HOOK]
    assert saes["without"].metadata["norm_limit"] == limit
    assert saes["earlier"].metadata["norm_limit"] == pytest.approx(limit, rel=0.05)
    assert "norm_limit" not in saes["with"].metadata
    assert saes["without"].metadata["exclude_special_tokens"] == [BOS] and saes["without"].metadata["prepend_bos"]


def test_stores_without_a_limit_train_as_before(stores, saes, tmp_path):
    """A store without outliers trains to the same bits with a limit and as an earlier version wrote it."""
    rows = torch.cat([stores["without"].shard(i, HOOK).acts for i in range(stores["without"].n_shards)])
    plain = ActivationStore.from_batches(rows, tmp_path / "rows", dtype="float32", rows_per_shard=300)
    sae = train_sae(plain, "activations", CONFIG)
    assert "norm_limit" not in sae.metadata
    change(tmp_path / "rows" / "manifest.json", norm_limits={"activations": 1e6})
    again = train_sae(ActivationStore.open(tmp_path / "rows"), "activations", CONFIG)
    assert again.metadata["norm_limit"] == 1e6 and torch.equal(again.W_dec, sae.W_dec)


def test_a_scan_leaves_out_the_rows_above_the_limit_of_the_dictionary(stores, saes, tmp_path):
    one = scan_features(saes["without"], stores["without"], HOOK, tmp_path / "one")
    two = scan_features(saes["without"], stores["with"], HOOK, tmp_path / "two")
    assert one.meta["n_tokens"] == two.meta["n_tokens"] == len(stores["without"])
    assert one.table().equals(two.table())
    whole = copy.deepcopy(saes["without"])
    whole.metadata = {}
    assert scan_features(whole, stores["with"], HOOK, tmp_path / "all").meta["n_tokens"] == len(stores["with"])
    with pytest.raises(ValueError, match="holds other work: norm_limit is"):
        scan_features(whole, stores["with"], HOOK, tmp_path / "two")
    parts = list(encode_first_rows(saes["without"], stores["with"], HOOK, 300))
    assert {int(i) for ids, _ in parts for i in ids} == {i for i in rows_of(stores["without"], HOOK) if i < 300}


def slow_splice(model, tokens, sae, limit):
    """Cross-entropy with each ordinary activation replaced, sequence by sequence, and all activations."""
    losses, rows = [], []
    for row in tokens:

        def put(acts, hook, row=row):
            keep = (row == BOS) | (acts[0].norm(dim=1) > limit)
            rows.extend(zip(acts[0][row != BOS], keep[row != BOS], strict=True))
            return torch.where(keep[:, None], acts[0], sae(acts[0]))[None]

        logits = model.run_with_hooks(row[None], fwd_hooks=[(HOOK, put)])[0]
        losses += [-logits[i].log_softmax(-1)[row[i + 1]] for i in range(len(row) - 1)]
    return float(torch.stack(losses).mean()), torch.stack([x for x, _ in rows]), torch.stack([out for _, out in rows])


@torch.no_grad()
def test_quality_leaves_the_rows_above_the_limit_alone(model, tokens, saes):
    sae = saes["without"]
    ce, x, above = slow_splice(model, tokens, sae, sae.metadata["norm_limit"])
    error = (sae(x) - x).square().sum(1)
    mean = x[~above].mean(0)
    found = evaluate_dictionary(model, HOOK, sae, tokens, batch_size=7, exclude=[BOS])
    assert found.ce_spliced == pytest.approx(ce, rel=1e-4)
    assert found.ce_mean_ablated == pytest.approx(
        slow_splice(model, tokens, lambda x: mean.expand_as(x), sae.metadata["norm_limit"])[0], rel=1e-4
    )
    assert found.n_tokens == int((~above).sum()) and found.outlier_share == pytest.approx(above.float().mean().item())
    assert found.fvu == pytest.approx(float(error[~above].sum() / (x[~above] - mean).square().sum()), rel=1e-4)
    assert found.fvu_all == pytest.approx(float(error.sum() / (x - x.mean(0)).square().sum()), rel=1e-4)
    z = sae.encode(x[~above])
    assert found.l0 == pytest.approx(float((z > 0).sum(1).float().mean()), rel=1e-4)
    assert found.fvu < 0.2 < found.fvu_all


def test_a_quality_table_uses_the_lowest_limit_and_warns_if_there_is_none(model, tokens, saes, caplog):
    random = RandomDictionary(16, 48, 4, seed=0)
    table = quality_table(model, HOOK, {"SAE": saes["without"], "random": random}, tokens, exclude=[BOS])
    remarks = [record.getMessage() for record in caplog.records]
    assert table["n_tokens"].nunique() == 1 and (table["outlier_share"] > 0.02).all()
    assert len(remarks) == 1 and "no better than unigrams" in remarks[0], "and no limit is missing"
    alone = quality_table(model, HOOK, {"random": random}, tokens, exclude=[BOS])
    assert alone["outlier_share"][0] == 0 and table["fvu"][1] != pytest.approx(alone["fvu"][0], rel=0.01)
    assert "decide on FVU" in caplog.text and "norm_limit" in caplog.text
    saes["without"].metadata["norm_limit"], before = "large", saes["without"].metadata["norm_limit"]
    with pytest.raises(ValueError, match="norm_limit='large'"):
        evaluate_dictionary(model, HOOK, saes["without"], tokens)
    saes["without"].metadata["norm_limit"] = before


def test_the_limit_travels_through_saelens(saes, tmp_path):
    import sae_lens

    sae = saes["without"]
    sae.metadata["model_name"] = "tiny"
    sae.save(tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path).cfg.metadata
    again = load_sae(tmp_path)
    for name in ("norm_limit", "exclude_special_tokens", "prepend_bos", "model_name", "context_size"):
        assert theirs[name] == sae.metadata[name] == again.metadata[name] is not None
    assert sae.metadata["context_size"] == N_CTX


def test_a_dictionary_of_an_earlier_version_loads(saes, tmp_path):
    saes["without"].save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    cfg["metadata"]["interp"]["max_norm"] = 3.0
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    (tmp_path / "manifest.json").unlink(missing_ok=True)
    again = load_sae(tmp_path)
    assert again.config is None and again.metadata["interp"]["max_norm"] == 3.0
    assert torch.equal(again.W_dec, saes["without"].W_dec)
