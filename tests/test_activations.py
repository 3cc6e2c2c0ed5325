"""The activation store: what goes in comes out, in any order asked for, and damage has a name."""

import errno
import json
import os

import pytest
import torch
from safetensors.torch import load_file

from interp.activations import ActivationStore, geometric_median, scatter, shards
from interp.activations.moments import second_moment

D = 6


def numbered(n_rows: int) -> torch.Tensor:
    """Rows that carry their own number, so that an order can be read off them."""
    return torch.arange(n_rows, dtype=torch.float32)[:, None] * torch.ones(D)


def store_of(rows: torch.Tensor, path, **options) -> ActivationStore:
    options = {"dtype": "float32", "rows_per_shard": 50, **options}
    return ActivationStore.from_batches(rows.split(37), path, **options)


def order_of(batches) -> list[int]:
    return [int(row[0]) for batch in batches for row in batch]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rows_come_back_as_they_went_in(tmp_path, dtype):
    rows = torch.randn(333, D, generator=torch.Generator().manual_seed(0))
    store = store_of(rows, tmp_path, dtype=dtype)
    parts = [store.shard(i, "activations") for i in range(store.n_shards)]
    ids = torch.cat([part.row_ids for part in parts])
    assert store.n_shards == 7 and len(store) == 333 and store.tokens is None
    assert ids.sort().values.tolist() == list(range(333))
    assert torch.equal(torch.cat([part.acts for part in parts]), rows.to(getattr(torch, dtype))[ids])
    store.verify()


def test_any_safetensors_reader_opens_a_shard(tmp_path):
    rows = numbered(100)
    store = store_of(rows, tmp_path, hook_name="blocks.0.hook_mlp_out", dtype="bfloat16")
    tensors = load_file(tmp_path / "shard-00001.safetensors")
    assert set(tensors) == {"row_ids", "blocks.0.hook_mlp_out"}
    assert tensors["row_ids"].dtype == torch.int32
    assert torch.equal(tensors["blocks.0.hook_mlp_out"], rows[tensors["row_ids"].long()].bfloat16())
    assert len(tensors["row_ids"]) == store.shard_rows[1]


def test_an_epoch_gives_every_row_once_in_a_global_shuffle(tmp_path):
    store = store_of(numbered(1000), tmp_path)
    order = order_of(store.batches("activations", 64, seed=3))
    assert sorted(order) == list(range(1000)) and order != sorted(order)
    assert order == order_of(store.batches("activations", 10, seed=3))
    assert order != order_of(store.batches("activations", 64, seed=4))
    steps = [abs(a - b) for a, b in zip(order, order[1:], strict=False)]
    assert 1000 / 3 * 0.9 < sum(steps) / len(steps) < 1000 / 3 * 1.1  # as of independent uniform numbers
    first = order[:100]
    assert 400 < sum(first) / 100 < 600  # two of twenty shards already span the whole


def test_without_shuffle_rows_come_as_they_are_stored(tmp_path):
    store = store_of(numbered(200), tmp_path)
    stored = torch.cat([store.shard(i, "activations").row_ids for i in range(store.n_shards)]).tolist()
    assert order_of(store.batches("activations", 30, shuffle=False)) == stored


def test_batches_run_on_over_the_end_of_an_epoch(tmp_path):
    store = store_of(numbered(100), tmp_path)
    sizes = [len(batch) for batch in store.batches("activations", 30, epochs=2)]
    assert sizes == [30] * 6 + [20] and len(store.batches("activations", 30, epochs=2)) == 7
    assert [len(b) for b in store.batches("activations", 30, epochs=2, drop_last=True)] == [30] * 6
    endless = store.batches("activations", 70, epochs=None)
    order = order_of(next(endless) for _ in range(10))
    epochs = [order[i : i + 100] for i in range(0, 700, 100)]
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs) and epochs[0] != epochs[1]
    batch = next(endless)
    assert batch.dtype == torch.float32 and batch.shape == (70, D)


@pytest.mark.parametrize("taken", [0, 1, 5, 13])
def test_an_iterator_goes_on_where_its_state_says(tmp_path, taken):
    store = store_of(numbered(150), tmp_path)
    one = store.batches("activations", 20, seed=1, epochs=3)
    for _ in range(taken):
        next(one)
    state = json.loads(json.dumps(one.state_dict()))
    other = ActivationStore.open(tmp_path).batches("activations", 20, seed=1, epochs=3)
    other.load_state_dict(state)
    assert order_of(one) == order_of(other)


def test_a_state_of_other_data_or_another_seed_is_refused(tmp_path):
    state = store_of(numbered(150), tmp_path / "a").batches("activations", 20, seed=1).state_dict()
    other = store_of(numbered(151), tmp_path / "b")
    with pytest.raises(ValueError, match="seed=1.*2"):
        ActivationStore.open(tmp_path / "a").batches("activations", 20, seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="source="):
        other.batches("activations", 20, seed=1).load_state_dict(state)


def test_statistics_equal_those_of_all_rows(tmp_path):
    rows = torch.randn(500, D, generator=torch.Generator().manual_seed(0)) * torch.arange(1, D + 1) + 3
    found, x = store_of(rows, tmp_path).statistics("activations"), rows.double()
    assert found.n_rows == found.second_moment_rows == 500
    torch.testing.assert_close(found.mean.double(), x.mean(0), rtol=1e-6, atol=1e-6)
    assert found.mean_norm == pytest.approx(x.norm(dim=1).mean().item(), rel=1e-6)
    assert found.variance == pytest.approx((x - x.mean(0)).square().sum(1).mean().item(), rel=1e-5)
    assert found.mean_square == pytest.approx(x.square().sum(1).mean().item(), rel=1e-5)
    torch.testing.assert_close(found.second_moment.double(), x.T @ x / 500, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.covariance.double(), torch.cov(x.T, correction=0), rtol=1e-4, atol=1e-4)


def test_second_moment_of_a_sample_has_no_negative_variance(tmp_path, monkeypatch):
    monkeypatch.setattr(scatter, "_SAMPLE_ROWS", 100)
    rows = torch.randn(2000, D, generator=torch.Generator().manual_seed(0)) + 50
    found = store_of(rows, tmp_path).statistics("activations")
    assert found.second_moment_rows == 100
    assert torch.linalg.eigvalsh(found.covariance.double()).min() > 0.3  # every true variance is 1
    small = rows[:5].double()  # fewer rows than dimensions
    around = second_moment(small, rows.double().mean(0)).double()
    centred = around - torch.outer(rows.double().mean(0), rows.double().mean(0))
    assert torch.linalg.eigvalsh(centred).min() > -1e-3


def test_geometric_median_is_where_the_unit_vectors_cancel():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, D, generator=generator) + 2
    rows[:40] += 1000  # a tenth of outliers: the mean moves by 100
    median = geometric_median(rows, tolerance=1e-7, max_steps=1000)
    pulls = (rows - median) / (rows - median).norm(dim=1, keepdim=True)
    assert pulls.mean(0).norm() < 1e-4
    assert (median - 2).norm() < 1
    assert torch.equal(geometric_median(torch.full((3, D), 4.0)), torch.full((D,), 4.0))


def test_a_truncated_shard_is_named_when_the_store_is_opened(tmp_path):
    store_of(numbered(200), tmp_path)
    file = tmp_path / "shard-00002.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(ValueError, match="shard-00002.safetensors is truncated"):
        ActivationStore.open(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="shard-00002.safetensors is missing"):
        ActivationStore.open(tmp_path)


def flip(file, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_an_altered_shard_is_named_when_it_is_read(tmp_path):
    store_of(numbered(200), tmp_path)
    flip(tmp_path / "shard-00001.safetensors", -1)
    store = ActivationStore.open(tmp_path)
    store.shard(0, "activations")
    with pytest.raises(ValueError, match="shard-00001.safetensors is altered"):
        store.shard(1, "activations")
    with pytest.raises(ValueError, match="shard-00001.safetensors is altered"):
        order_of(store.batches("activations", 64))


@pytest.mark.parametrize(
    ("name", "at"), [("shard-00003.safetensors", 20), ("shard-00003.safetensors", 400), ("statistics.safetensors", -1)]
)
def test_verify_reads_every_byte(tmp_path, name, at):
    store = store_of(numbered(200), tmp_path)
    store.verify()
    flip(tmp_path / name, at)
    with pytest.raises(ValueError, match=f"{name} is altered"):
        store.verify()


def test_a_folder_without_a_whole_store_says_so(tmp_path):
    with pytest.raises(ValueError, match="no activation store"):
        ActivationStore.open(tmp_path)
    store_of(numbered(100), tmp_path)
    manifest = tmp_path / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:-20])
    with pytest.raises(ValueError, match="manifest.json is not valid JSON"):
        ActivationStore.open(tmp_path)
    manifest.write_text(json.dumps({"format": "another"}))
    with pytest.raises(ValueError, match="not the manifest of an activation store"):
        ActivationStore.open(tmp_path)
    with pytest.raises(ValueError, match="no activations of 'mlp'; it has activations"):
        manifest.write_text(text)
        ActivationStore.open(tmp_path).batches("mlp", 3)


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ([], {}, "no rows"),
        ([torch.zeros(3)], {}, r"batch \(3,\) must have two dimensions"),
        ([torch.zeros(3, 4), torch.zeros(3, 5)], {}, "5 wide, those before it 4"),
        ([torch.zeros(3, 4)], {"dtype": "int8"}, "dtype='int8' must be one of"),
        ([torch.zeros(3, 4)], {"rows_per_shard": 0}, "rows_per_shard=0"),
        ([torch.zeros(3, 4)], {"hook_name": "row_ids"}, "'row_ids'"),
        ([torch.zeros(3, 4), torch.tensor([[0, 0, float("nan"), 0]])], {}, "activation nan at row 3, unit 2"),
        ([torch.tensor([[0.0, 1e6]])], {"dtype": "float16"}, "inf at row 0, unit 1; float16 ends"),
    ],
)
def test_bad_batches_are_refused_and_leave_nothing(tmp_path, batches, options, message):
    with pytest.raises(ValueError, match=message):
        ActivationStore.from_batches(batches, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_too_small_is_known_before_a_row_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shards.os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="no room on the disk for the store .* GB") as error:
        store_of(numbered(200), tmp_path)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(shards.os, "pwrite", no_room)
    with pytest.raises(OSError, match="no room on the disk"):
        store_of(numbered(200), tmp_path)
    with pytest.raises(ValueError, match="cut off"):
        ActivationStore.open(tmp_path)


def test_shards_may_stay_empty(tmp_path):
    store = store_of(numbered(9), tmp_path, rows_per_shard=1)
    assert 0 in store.shard_rows
    assert sorted(order_of(ActivationStore.open(tmp_path).batches("activations", 2))) == list(range(9))
    store.verify()
    files = sorted(tmp_path.glob("shard-*"))
    assert tuple(len(load_file(file)["row_ids"]) for file in files) == store.shard_rows


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    store_of(numbered(200), tmp_path)
    store_of(numbered(60), tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [
        "manifest.json",
        "notes.txt",
        *(f"shard-0000{i}.safetensors" for i in (0, 1)),
        "statistics.safetensors",
    ]


def test_a_row_costs_little_more_than_its_values():
    columns = scatter.ScatterConfig(widths={"mlp": 512}, shard_rows=(1,), n_ids=400_000, origin={}).columns
    token = 2
    assert (shards.ShardLayout(65_536, columns).size / 65_536 + token) / 512 <= 2.05


def test_shards_of_rows_are_even_and_depend_on_the_seed():
    ids = torch.arange(100_000).numpy()
    one, other = shards.shard_of(ids, 10, 0), shards.shard_of(ids, 10, 1)
    assert shards.shard_sizes(ids, 10, 0) == tuple((one == i).sum() for i in range(10))
    assert max(shards.shard_sizes(ids, 10, 0)) < 10_400  # four standard deviations
    assert 0.08 < (one == other).mean() < 0.12
    assert 0.08 < (one[1:] == one[:-1]).mean() < 0.12
