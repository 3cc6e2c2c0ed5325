"""Outliers: rows that hold the variance are found, left out, and left alone by all that is made of a store."""

import json
import sys

import pytest
import torch

from interp import ActivationStore
from interp.activations.outliers import find_outliers
from interp.harvest import harvest
from models.transformer import Transformer, TransformerConfig

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
    """Each sequence begins with BOS; the sink is at position 1 of two in three, and once at position 9."""
    tokens = torch.randint(8, D_VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = BOS
    tokens[torch.arange(N_SEQ) % 3 > 0, 1] = SINK
    tokens[6, 9] = SINK
    return tokens


def all_rows(model, tokens, hook=HOOK):
    return model.run_with_cache(tokens)[1][hook].detach().flatten(0, 1).double()


def rows_of(store, hook):
    parts = [store.shard(i, hook) for i in range(store.n_shards)]
    return {int(i): x for part in parts for i, x in zip(part.row_ids, part.acts, strict=True)}


def brute_force(x):
    """Share of the rows above 10 × the median norm, and of the variance about the mean of the others that they hold."""
    norms = x.norm(dim=1)
    above = norms > 10 * norms.median()
    squares = (x - x[~above].mean(0)).square().sum(1)
    return above, squares[above].sum() / squares.sum()


def test_outliers_are_few_rows_that_hold_most_of_the_variance():
    x = torch.randn(2000, 12, generator=torch.Generator().manual_seed(0))
    norms = x.norm(dim=1)
    ordinary = find_outliers(norms, norms.square(), 128)
    assert not ordinary.found and ordinary.rows == ordinary.variance == 0
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
        assert outliers.found == found, (n_outliers, times, n_ctx)
        assert outliers.rows == pytest.approx(above.double().mean().item())
        assert outliers.variance == pytest.approx(held.item(), abs=0.02)
    unseen = find_outliers(norms, norms.square(), 128, mean_square=3 * float(norms.square().mean()))
    assert unseen.found and unseen.rows == 0 and unseen.variance == pytest.approx(2 / 3)


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
    assert f"hold {held:.0%} of the variance, most at positions 1, 9, of tokens {SINK}." in warning


def test_without_outliers_auto_changes_nothing(model, tokens, tmp_path, caplog):
    plain = tokens.where(tokens != SINK, 8)
    auto = harvest(model, plain, [HOOK], tmp_path / "auto", exclude=[BOS], rows_per_shard=300)
    none = harvest(model, plain, [HOOK], tmp_path / "none", exclude=[BOS], rows_per_shard=300, max_norm=None)
    files = sorted(file.name for file in none.path.iterdir() if file.suffix == ".safetensors")
    assert len(files) == 7 and all((auto.path / f).read_bytes() == (none.path / f).read_bytes() for f in files)
    assert auto.norm_limits == none.norm_limits == {} and not auto.keeps_outliers and none.keeps_outliers
    unlike = {key for key in auto.manifest if auto.manifest[key] != none.manifest.get(key)}
    assert unlike == {"config", "norm_limits", "outliers"} and not caplog.records


def test_a_store_that_keeps_outliers_says_so(model, tokens, tmp_path, caplog):
    kept = harvest(model, tokens, [HOOK], tmp_path / "kept", exclude=[BOS], max_norm=None)
    assert len(kept) == N_SEQ * (N_CTX - 1) and kept.keeps_outliers
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "kept keeps outliers at blocks.0.hook_resid_post" in warning and "select" in warning
    caplog.clear()
    rare = torch.randn(60_000, 8, generator=torch.Generator().manual_seed(0))
    rare[41_234] *= 1000  # in none of the rows that the statistics are estimated from
    ActivationStore.from_batches(rare, tmp_path / "rows")
    assert "0.00% of the rows" in caplog.text and "hold 97% of the variance" in caplog.text


def test_a_number_is_times_the_median_of_the_sample(model, tokens, tmp_path, monkeypatch):
    for name, sample_rows in (("all", 1 << 13), ("some", 10 * N_CTX)):
        monkeypatch.setattr(sys.modules["interp.harvest"], "SAMPLE_ROWS", sample_rows)
        store = harvest(model, tokens, [HOOK, MLP], tmp_path / name, max_norm=1.2, batch_size=4)
        step = 1 if name == "all" else N_SEQ // 10
        for hook in (HOOK, MLP):
            norms = all_rows(model, tokens[::step], hook).norm(dim=1)
            assert store.norm_limits[hook] == pytest.approx(1.2 * norms.median().item(), rel=1e-2)
        x, y = all_rows(model, tokens, HOOK).norm(dim=1), all_rows(model, tokens, MLP).norm(dim=1)
        expected = ((x <= store.norm_limits[HOOK]) & (y <= store.norm_limits[MLP])).nonzero().flatten().tolist()
        assert sorted(rows_of(store, HOOK)) == expected and 100 < len(store) < N_SEQ * N_CTX - 100
    for wrong in ("automatic", 0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"max_norm=.* must be 'auto', None, or above 0"):
            harvest(model, tokens, [HOOK], tmp_path / "wrong", max_norm=wrong)


def test_positions_are_left_out_and_counted(model, tokens, tmp_path):
    store = harvest(model, tokens, [HOOK], tmp_path / "a", exclude=[BOS], exclude_positions=(0, 1, 9), max_norm=None)
    assert sorted({i % N_CTX for i in rows_of(store, HOOK)}) == [i for i in range(N_CTX) if i not in (0, 1, 9)]
    assert store.excluded == {"token": N_SEQ, "position": 2 * N_SEQ, "norm": 0}
    assert store.manifest["config"]["exclude_positions"] == [0, 1, 9] and not store.norm_limits
    with pytest.raises(ValueError, match=r"exclude_positions=\[24\] holds 24, which is no position in 0..23"):
        harvest(model, tokens, [HOOK], tmp_path / "b", exclude_positions=[24])
    with pytest.raises(ValueError, match="no token is left to harvest: .* or positions"):
        harvest(model, tokens, [HOOK], tmp_path / "b", exclude=[BOS], exclude_positions=range(1, N_CTX))


def test_a_limit_in_a_damaged_manifest_is_refused(model, tokens, tmp_path):
    file = harvest(model, tokens, [HOOK], tmp_path / "a").path / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"norm_limits": {HOOK: -1.0}}))
    with pytest.raises(ValueError, match=r"norm_limits"):
        ActivationStore.open(tmp_path / "a")
