"""The activation store: what goes in comes out, in any requested order, and damage is reported by file."""

import errno
import gc
import itertools
import json
import os
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from interp.activations import (
    ActivationStore,
    JoinedStore,
    batches,
    join_stores,
    row_statistics,
    shard_writer,
    shards,
    store_writer,
)
from interp.checks.errors import DamagedError
from interp.storage.folders import unfinished_folder
from tests.forked import run_python

D = 6


def numbered(n_rows: int) -> torch.Tensor:
    """Return rows that carry their own number, so that an order can be read off them."""
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
    with pytest.raises(ValueError, match="seed='a' must be a whole number"):
        store.batches("activations", 64, seed="a")
    with pytest.raises(ValueError, match="shard 99 must be in 0"):
        store.shard(99, "activations")
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
    endless = store.batches("activations", 70, epochs=None)
    order = order_of(next(endless) for _ in range(10))
    epochs = [order[i : i + 100] for i in range(0, 700, 100)]
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs) and epochs[0] != epochs[1]
    batch = next(endless)
    assert batch.dtype == torch.float32 and batch.shape == (70, D)


@pytest.mark.parametrize("taken", [0, 1, 5, 13])
def test_batches_resume_from_their_state(tmp_path, taken):
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


def endless_row(store: ActivationStore, seed: int, n_epochs: int) -> list[int]:
    """Return the order of rows in the plainest way."""
    order = []
    for epoch in range(n_epochs):
        for shard in np.random.default_rng([seed % 2**64, epoch]).permutation(store.n_shards):
            row_ids = store.shard(shard, "activations").row_ids
            order += row_ids[np.random.default_rng([seed % 2**64, epoch, shard]).permutation(len(row_ids))].tolist()
    return order


@pytest.mark.parametrize(("n_rows", "rows_per_shard"), [(333, 50), (40, 50), (9, 1)])
@pytest.mark.parametrize("seed", [0, -3])
def test_the_order_of_rows_is_the_plain_one(tmp_path, n_rows, rows_per_shard, seed):
    store = store_of(numbered(n_rows), tmp_path, rows_per_shard=rows_per_shard)
    for batch_size in (1, 64, 400):
        assert order_of(store.batches("activations", batch_size, seed, epochs=4)) == endless_row(store, seed, 4)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}])
def test_the_slices_of_all_parts_are_the_batch(tmp_path, count, options):
    store = store_of(numbered(173), tmp_path)
    parts = [store.batches("activations", 20, 1, epochs=3, **options, part=(r, count)) for r in range(count)]
    one = store.batches("activations", 20, 1, epochs=3, **options)
    for batch in one:
        slices = [next(part) for part in parts]
        assert torch.equal(torch.cat(slices), batch)
        assert max(map(len, slices)) - min(map(len, slices)) <= 1
        assert all(part.state_dict() == one.state_dict() for part in parts)
    assert not any(list(part) for part in parts)
    with pytest.raises(ValueError, match=r"part=\(2, 2\)"):
        store.batches("activations", 20, part=(2, 2))


def test_harvest_resumes_with_another_number_of_parts(tmp_path):
    store = store_of(numbered(173), tmp_path)
    two = [store.batches("activations", 20, epochs=2, part=(rank, 2)) for rank in range(2)]
    taken = [torch.cat([next(part) for part in two]) for _ in range(5)]
    five = [store.batches("activations", 20, epochs=2, part=(rank, 5)) for rank in range(5)]
    for part in five:
        part.load_state_dict(two[0].state_dict())
    rest = [torch.cat(slices) for slices in zip(*five, strict=True)]
    assert torch.equal(torch.cat(taken + rest), torch.cat(list(store.batches("activations", 20, epochs=2))))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_hooks_come_side_by_side(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(batches, "_GATHERED_ROWS", 16)
    store = several_hooks(tmp_path, dtype=dtype)
    one, two = (torch.cat(list(store.batches(hook, 37, seed=2, epochs=2))) for hook in ("one", "two"))
    assert one.shape == (400, 3) and two.shape == (400, 4) and store.d("two") == 4
    assert torch.equal(torch.cat(list(store.batches(["two", "one"], 37, 2, epochs=2))), torch.cat([two, one], 1))
    assert torch.equal(torch.cat(list(store.batches(["one"], 37, seed=2, epochs=2))), one)
    assert store.batches(["one"], 9).state_dict() == store.batches("one", 9).state_dict()
    with pytest.raises(ValueError, match="no activations of 'three'"):
        store.batches(["one", "three"], 37)
    with pytest.raises(ValueError, match=r"hook=\[\] names no hook"):
        store.batches([], 37)
    with pytest.raises(ValueError, match="source="):
        store.batches(["one", "two"], 9).load_state_dict(store.batches(["two", "one"], 9).state_dict())


def several_hooks(path, n_rows=200, factor=1.0, seed=0, limit=None, **options) -> ActivationStore:
    """Return rows of two hooks, written as a harvest of 20 tokens a sequence writes them."""
    options = {"dtype": "float32", **options}
    rows = torch.randn(n_rows, 7, generator=torch.Generator().manual_seed(0)) * factor
    config = shard_writer.StoreConfig(
        widths={"one": 3, "two": 4},
        rows_per_shard=-(-n_rows // 4),
        n_ids=n_rows,
        n_ctx=20,
        seed=seed,
        made_of={},
        **options,
    )
    ids = torch.arange(n_rows)
    files = shard_writer.ShardWriter(path, config, config.shard_rows([ids], 4))
    with store_writer.StoreWriter(files, batch_rows=n_rows) as writer:
        writer.limits = None if limit is None else {"one": limit, "two": limit}
        writer.add(ids, {"one": rows[:, :3], "two": rows[:, 3:]}, n_rows)
        writer.finish(torch.arange(n_rows).view(-1, 20))
    return ActivationStore.open(path)


def test_stores_of_the_same_rows_are_read_as_one(tmp_path):
    base, tuned = several_hooks(tmp_path / "a"), several_hooks(tmp_path / "b", factor=2.0, dtype="bfloat16")
    both = join_stores({"base": base, "tuned": tuned})
    assert isinstance(both, JoinedStore) and both.hook_names == ("base/one", "base/two", "tuned/one", "tuned/two")
    assert (both.d("base/one"), both.d("tuned/two"), len(both), both.n_ctx) == (3, 4, 200, 20)
    assert (both.shard_rows, both.n_shards) == (base.shard_rows, 4)
    assert torch.equal(both.tokens, base.tokens)
    assert (
        both.statistics("tuned/one").mean_norm == tuned.statistics("one").mean_norm != base.statistics("one").mean_norm
    )
    assert torch.equal(both.shard(2, "tuned/two").acts, tuned.shard(2, "two").acts)
    assert torch.equal(both.shard(2, "tuned/two").row_ids, base.shard(2, "two").row_ids)
    options = {"batch_size": 30, "seed": 5, "epochs": 2, "part": (1, 2)}
    found = torch.cat(list(both.batches(["tuned/two", "base/one"], **options)))
    parts = [torch.cat(list(store.batches(hook, **options))) for store, hook in ((tuned, "two"), (base, "one"))]
    assert torch.equal(found, torch.cat(parts, 1))
    assert both.batches("base/one", 30).state_dict() == base.batches("one", 30).state_dict()
    assert both.digest == f"base/{base.digest} tuned/{tuned.digest}"
    assert (both.provenance, both.weights) == (base.provenance._replace(model_name=None), None)
    assert both.location == f"{tmp_path / 'a'}, {tmp_path / 'b'}" and not hasattr(both, "path")
    assert repr(both) == "JoinedStore(200 rows of base/one (3), base/two (4), tuned/one (3), tuned/two (4))"
    both.verify()


def test_a_joined_store_names_what_it_has(tmp_path):
    both = join_stores({"base": several_hooks(tmp_path / "a"), "tuned": several_hooks(tmp_path / "b")})
    for hook in ("one", "base/three", "other/one", "base"):
        with pytest.raises(ValueError, match=f"no activations of '{hook}'; they have base/one, base/two, tuned/one"):
            both.batches(hook, 3)
    with pytest.raises(ValueError, match="names no hook"):
        both.batches((), 3)
    flip(tmp_path / "b" / "shard-00002.safetensors", -1)
    with pytest.raises(ValueError, match="b/shard-00002.safetensors is altered"):
        both.verify()


def test_stores_of_other_rows_are_not_joined(tmp_path):
    base = several_hooks(tmp_path / "a")
    others = {
        "their shards have other numbers of rows": several_hooks(tmp_path / "seed", seed=1),
        "their tokens differ": several_hooks(tmp_path / "more", n_rows=220),
        "their sequences have other lengths": store_of(numbered(200), tmp_path / "rows"),
        "their shards have other numbers of rows. ": several_hooks(tmp_path / "norm", limit=2.0),
    }
    for what, other in others.items():
        with pytest.raises(ValueError, match=rf"'b' \(.*\) does not hold the rows of 'a' \(.*\): {what}.*max_norm"):
            join_stores({"a": base, "b": other})
    alike = several_hooks(tmp_path / "b")
    alike.manifest["shards"][1]["sha256"]["row_ids"] = "0"
    with pytest.raises(ValueError, match="their shards hold other rows"):
        join_stores({"a": base, "b": alike})
    for name in ("", "a/b"):
        with pytest.raises(ValueError, match=f"cannot be called {name!r}"):
            join_stores({name: base})
    with pytest.raises(ValueError, match="stores is empty"):
        join_stores({})


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("shards")]


def test_the_thread_ends_with_its_iterator(tmp_path):
    store = store_of(numbered(1000), tmp_path)
    gc.collect()
    before = readers()
    iterators = [store.batches("activations", 30) for _ in range(3)]
    assert readers() == before
    for iterator in iterators:
        next(iterator)
    threads = [thread for thread in readers() if thread not in before]
    assert len(threads) == 3
    for _ in iterators[0]:  # to its end
        pass
    del iterators[1:], iterator
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_two_shards_at_most_are_in_memory(tmp_path, monkeypatch):
    store, sizes, read = store_of(numbered(1000), tmp_path), [], batches._read

    def noted(columns, longest, shard, memory):
        acts = read(columns, longest, shard, memory)
        sizes.append({memory[0].data_ptr()})
        return acts

    monkeypatch.setattr(batches, "_read", noted)
    assert len(list(store.batches("activations", 30, epochs=3))) == 100
    assert len(sizes) > 50 and len(set.union(*sizes)) == 2


def test_one_or_two_shards_are_read_once(tmp_path, monkeypatch):
    calls, read = [], shards.ShardLayout.read
    monkeypatch.setattr(shards.ShardLayout, "read", lambda *args, **options: calls.append(1) or read(*args, **options))
    for n_shards in (1, 2):
        store = store_of(numbered(100), tmp_path / str(n_shards), rows_per_shard=100 // n_shards)
        calls.clear()
        assert len(list(store.batches("activations", 30, epochs=9))) == 30 and len(calls) == n_shards


def test_batches_name_a_damaged_shard_each_time_it_is_read(tmp_path):
    store = store_of(numbered(200), tmp_path)
    whole = torch.cat(list(store.batches("activations", 10, shuffle=False)))
    flip(tmp_path / "shard-00002.safetensors", -1)
    good = sum(store.shard_rows[:2]) // 10
    store = ActivationStore.open(tmp_path)
    reading = store.batches("activations", 10, shuffle=False)
    assert torch.equal(torch.cat(list(itertools.islice(reading, good))), whole[: good * 10])
    for _ in range(2):
        with pytest.raises(ValueError, match="shard-00002.safetensors is altered"):
            next(reading)
        assert reading.state_dict()["row"] == good * 10
    flip(tmp_path / "shard-00002.safetensors", -1)
    reading.load_state_dict({**reading.state_dict(), "row": good * 10 - 10})
    assert torch.equal(torch.cat(list(reading)), whole[good * 10 - 10 :])


def test_an_iterator_can_go_back(tmp_path):
    store = store_of(numbered(300), tmp_path)
    reading = store.batches("activations", 30, epochs=2)
    state, order = reading.state_dict(), order_of(reading)
    for taken in (0, 4, 19):
        reading.load_state_dict(state)
        assert order_of(itertools.islice(reading, taken)) == order[: taken * 30]
    reading.load_state_dict(state)
    assert order_of(reading) == order


FORKED = """
import os, sys, torch
from interp.activations import ActivationStore

torch.set_num_threads(1)
reading = ActivationStore.open(sys.argv[1]).batches("activations", 30, epochs=2)
first = [next(reading) for _ in range(3)]
child = os.fork()
rest = torch.cat(list(reading))
if child == 0:
    open(sys.argv[2], "wb").write(rest.numpy().tobytes())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert open(sys.argv[2], "rb").read() == rest.numpy().tobytes() and len(rest) == 2 * 1000 - 90
"""


def test_a_fork_reads_on_where_its_parent_stood(tmp_path):
    store_of(numbered(1000), tmp_path / "store")
    run_python(FORKED, tmp_path / "store", tmp_path / "rest", check=True)


def test_statistics_equal_those_of_all_rows(tmp_path):
    rows = torch.randn(500, D, generator=torch.Generator().manual_seed(0)) * torch.arange(1, D + 1) + 3
    found, x = store_of(rows, tmp_path).statistics("activations"), rows.double()
    assert found.n_rows == found.second_moment_rows == 500
    torch.testing.assert_close(found.mean.double(), x.mean(0), rtol=1e-6, atol=1e-6)
    assert found.mean_norm == pytest.approx(x.norm(dim=1).mean().item(), rel=1e-6)
    assert found.variance == pytest.approx((x - x.mean(0)).square().sum(1).mean().item(), rel=1e-5)
    torch.testing.assert_close(found.second_moment.double(), x.T @ x / 500, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.covariance.double(), torch.cov(x.T, correction=0), rtol=1e-4, atol=1e-4)


def test_second_moment_of_a_sample_has_no_negative_variance(tmp_path, monkeypatch):
    monkeypatch.setattr(row_statistics, "STATISTICS_ROWS", 100)
    rows = torch.randn(2000, D, generator=torch.Generator().manual_seed(0)) + 50
    found = store_of(rows, tmp_path).statistics("activations")
    assert found.second_moment_rows == 100
    assert torch.linalg.eigvalsh(found.covariance.double()).min() > 0.3  # every true variance is 1
    small = rows[:5].double()  # fewer rows than dimensions
    around = row_statistics.second_moment(small, rows.double().mean(0)).double()
    centred = around - torch.outer(rows.double().mean(0), rows.double().mean(0))
    assert torch.linalg.eigvalsh(centred).min() > -1e-3


def test_geometric_median_is_where_the_unit_vectors_cancel(monkeypatch):
    monkeypatch.setattr(row_statistics, "_MEDIAN_TOLERANCE", 1e-7)
    monkeypatch.setattr(row_statistics, "_MAX_MEDIAN_STEPS", 1000)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, D, generator=generator) + 2
    rows[:40] += 1000  # a tenth of outliers: the mean moves by 100
    median = row_statistics.geometric_median(rows)
    pulls = (rows - median) / (rows - median).norm(dim=1, keepdim=True)
    assert pulls.mean(0).norm() < 1e-4
    assert (median - 2).norm() < 1
    assert torch.equal(row_statistics.geometric_median(torch.full((3, D), 4.0)), torch.full((D,), 4.0))


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


@pytest.mark.parametrize("key", ["excluded", "norm_limits", "made_of", "n_ctx"])
def test_a_value_that_was_changed_in_a_manifest_is_refused(tmp_path, key):
    store_of(numbered(100), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    value = {"excluded": {"token": 7}, "norm_limits": {"activations": 2.0}, "made_of": {}, "n_ctx": 10}[key]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {key: value}))
    with pytest.raises(DamagedError, match="manifest.json is altered: harvest the store again"):
        ActivationStore.open(tmp_path)


def test_a_store_whose_manifest_has_no_sum_of_its_own_is_refused_and_can_be_replaced(tmp_path):
    store_of(numbered(100), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["sha256"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedError, match="manifest.json is altered: harvest the store again"):
        ActivationStore.open(tmp_path)
    assert len(store_of(numbered(90), tmp_path, overwrite=True)) == 90


def test_a_folder_without_a_whole_store_says_so(tmp_path):
    with pytest.raises(ValueError, match="no activation store"):
        ActivationStore.open(tmp_path)
    store_of(numbered(100), tmp_path)
    manifest = tmp_path / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:-20])
    with pytest.raises(ValueError, match="manifest.json is damaged: it is not valid JSON"):
        ActivationStore.open(tmp_path)
    manifest.write_text(json.dumps({"format": "another"}))
    with pytest.raises(ValueError, match="not the manifest of an activation store"):
        ActivationStore.open(tmp_path)
    with pytest.raises(ValueError, match="no activations of 'mlp'; it has activations"):
        manifest.write_text(text)
        ActivationStore.open(tmp_path).batches("mlp", 3)


def test_arrays_make_the_same_store_as_tensors(tmp_path):
    rows = numbered(90)
    forms = {"tensor": rows, "array": rows.numpy(), "arrays": (part.numpy() for part in rows.split(37))}
    stores = [ActivationStore.from_batches(form, tmp_path / name, dtype="float32") for name, form in forms.items()]
    assert len({store.digest for store in stores}) == 1 and len(stores[0]) == 90


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ([], {}, "no rows"),
        ([torch.zeros(3)], {}, r"batch \(3,\) must have two dimensions"),
        ([torch.zeros(3, 4), torch.zeros(3, 5)], {}, "5 wide, those before it 4"),
        ([torch.zeros(3, 4)], {"dtype": "int8"}, "dtype='int8' must be"),
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
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="no room on the disk for the store .* GB") as error:
        store_of(numbered(200), tmp_path)
    assert error.value.errno == errno.ENOSPC and str(tmp_path) in error.value.filename
    assert not list(tmp_path.iterdir()) and not unfinished_folder(tmp_path).exists()


def test_a_disk_that_fills_up_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", no_room)
    with pytest.raises(OSError, match="no room on the disk"):
        store_of(numbered(200), tmp_path)
    assert not list(tmp_path.iterdir()) and not unfinished_folder(tmp_path).exists()


def test_shards_may_stay_empty(tmp_path):
    store = store_of(numbered(9), tmp_path, rows_per_shard=1)
    assert 0 in store.shard_rows
    assert sorted(order_of(ActivationStore.open(tmp_path).batches("activations", 2))) == list(range(9))
    store.verify()
    files = sorted(tmp_path.glob("shard-*"))
    assert tuple(len(load_file(file)["row_ids"]) for file in files) == store.shard_rows


def test_store_replaces_another_only_with_overwrite_and_when_complete(tmp_path):
    folder = tmp_path / "store"
    before = store_of(numbered(200), folder).digest
    with pytest.raises(ValueError, match="store holds a finished store, perhaps of other rows: .*overwrite=True"):
        store_of(numbered(60), folder)
    with pytest.raises(ValueError, match="store holds other work: seed is 0, not 1.*overwrite=True"):
        store_of(numbered(60), folder, seed=1)
    bad = {
        "nothing": [],
        "one dimension": [torch.zeros(4)],
        "unlike widths": [torch.zeros(2, 3), torch.zeros(2, 4)],
        "not finite": [torch.tensor([[1.0, float("nan")]])],
        "no tensor": [None],
    }
    for each in bad.values():
        with pytest.raises((ValueError, AttributeError)):
            ActivationStore.from_batches(each, folder, overwrite=True)
    assert ActivationStore.open(folder).digest == before and list(tmp_path.iterdir()) == [folder]
    assert len(store_of(numbered(60), folder, overwrite=True)) == 60
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes.txt was not written by interp"):
        store_of(numbered(60), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine" and len(ActivationStore.open(folder)) == 60


def test_a_row_costs_little_more_than_its_values():
    columns = shard_writer.StoreConfig(widths={"mlp": 512}, n_ids=400_000, made_of={}).columns
    token = 2
    assert (shards.ShardLayout(65_536, columns).size / 65_536 + token) / 512 <= 2.05


def test_shards_of_rows_are_even_and_depend_on_the_seed():
    ids = torch.arange(100_000)
    one, other = shard_writer.shard_of(ids.numpy(), 10, 0), shard_writer.shard_of(ids.numpy(), 10, 1)
    config = shard_writer.StoreConfig(widths={"mlp": 512}, n_ids=len(ids), rows_per_shard=10_000, made_of={})
    assert config.n_shards(len(ids)) == 10 and config.shard_rows(ids.split(700), 10) == tuple(
        (one == i).sum() for i in range(10)
    )
    assert max(config.shard_rows([ids], 10)) < 10_400  # four standard deviations
    assert 0.08 < (one == other).mean() < 0.12
    assert 0.08 < (one[1:] == one[:-1]).mean() < 0.12
