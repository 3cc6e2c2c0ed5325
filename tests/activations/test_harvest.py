"""Harvesting: each stored row is the model's own activation, the model is unchanged, and a kill costs nothing."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from interp.activations import ActivationStore, harvesting, model_passes, shard_writer, store_writer
from interp.activations.harvest_options import RowOptions
from interp.activations.harvesting import check_harvested, harvest, harvest_stores
from interp.activations.hooks import resolve_hooks
from interp.activations.shards import PROGRESS_FILE
from interp.checks.errors import DamagedError
from tests.forked import run_python
from tests.launched import launch
from tests.stored_rows import rows_of

N_SEQ, N_CTX, D_VOCAB = 23, 8, 50


class Heads(nn.Module):
    def forward(self, x):
        return x.unflatten(-1, (2, 4)) * 2


class Toy(nn.Module):
    """Embedding → two linear layers → heads → a part that counts its runs. `boost` scales what follows one position."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cfg = SimpleNamespace(n_ctx=N_CTX, d_vocab=D_VOCAB)
        self.embed, self.first, self.drop, self.heads = (
            nn.Embedding(D_VOCAB, 8),
            nn.Linear(8, 8),
            nn.Dropout(0.5),
            Heads(),
        )
        self.rest = nn.Identity()
        self.unused = nn.Identity()
        self.n_runs = 0
        self.boost: dict[int, float] = {}

    def forward(self, tokens):
        x = self.embed(tokens)
        for position, factor in self.boost.items():
            x = torch.cat([x[:, :position], x[:, position : position + 1] * factor, x[:, position + 1 :]], 1)
        x = self.drop(self.first(x))
        self.heads(x)
        x += 1  # in place, after the hooks above have fired
        self.n_runs += 1
        return self.rest(x)


def toy_tokens() -> torch.Tensor:
    return torch.randint(0, D_VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens():
    return toy_tokens()


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_a_row_is_the_models_own_activation_at_its_place(tmp_path, tokens):
    from models.transformer import Transformer, TransformerConfig

    model = Transformer(TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=24, d_vocab=D_VOCAB, n_ctx=N_CTX))
    hooks = ["blocks.1.mlp.hook_post", "blocks.0.hook_resid_mid", "blocks.1.attn.hook_z"]
    store = harvest(model, tokens, hooks, tmp_path, batch_size=5, rows_per_shard=40)
    _, cache = model.run_with_cache(tokens)
    assert store.hook_names == tuple(hooks) and torch.equal(store.tokens, tokens.int()) and store.n_ctx == N_CTX
    with safe_open(tmp_path / "tokens.safetensors", "pt") as file:  # so the mapped file serves as it is
        assert file.get_slice("tokens").get_dtype() == "I32" and store.tokens.dtype == torch.int32
    for hook in hooks:
        rows = rows_of(store, hook)
        assert sorted(rows) == list(range(N_SEQ * N_CTX)) and store.d(hook) == cache[hook][0, 0].numel()
        for row_id, x in rows.items():
            truth = cache[hook][row_id // N_CTX, row_id % N_CTX].flatten()
            torch.testing.assert_close(x.float(), truth, rtol=2**-8, atol=1e-6)
    store.verify()


def test_hooks_of_transformer_lens_models(tmp_path, tokens):
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=2, d_model=8, n_heads=2, d_head=4, d_vocab=D_VOCAB, n_ctx=N_CTX, act_fn="relu", device="cpu", seed=0
    )
    with pytest.warns(DeprecationWarning):
        model = HookedTransformer(config)
    hook = "blocks.1.hook_resid_pre"
    rows = rows_of(harvest(model, tokens, [hook], tmp_path, dtype="float32"), hook)
    truth = model.run_with_cache(tokens)[1][hook].flatten(0, 1)
    torch.testing.assert_close(torch.stack([rows[i] for i in range(len(rows))]), truth, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="'blocks.1.resid_pre'; did you mean .*blocks.1.hook_resid_pre"):
        resolve_hooks(model, ["blocks.1.resid_pre"])


def test_hooks_from_a_map_and_from_module_names(tmp_path, tokens):
    model = Toy().eval()
    one = harvest(
        (model, {"mid": model.first, "out": model.heads}), tokens, ["out", "mid"], tmp_path / "a", dtype="float32"
    )
    two = harvest(model, tokens, "first", tmp_path / "b", dtype="float32")
    mid, out, first = rows_of(one, "mid"), rows_of(one, "out"), rows_of(two, "first")
    assert all(torch.equal(mid[i], first[i]) and torch.equal(out[i], 2 * mid[i]) for i in range(N_SEQ * N_CTX))
    with pytest.raises(ValueError, match="no hook 'middle'; did you mean mid"):
        harvest((model, {"mid": model.first}), tokens, ["middle"], tmp_path / "c")
    with pytest.raises(ValueError, match="names no hook: name at least one"):
        harvest(model, tokens, [], tmp_path / "c")


def test_the_forward_pass_ends_with_the_last_hook_and_leaves_no_trace(tmp_path, tokens):
    model = Toy().train()
    model.drop.eval()
    model.first.weight.requires_grad_(False)
    harvest(model, tokens, ["heads", "embed"], tmp_path)
    assert model.n_runs == 0
    with pytest.raises(ValueError, match="never reaches 'unused'"):
        harvest(model, tokens, ["first", "unused"], tmp_path / "b")
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training and model.first.training and not model.drop.training
    assert torch.is_grad_enabled() and model.embed.weight.requires_grad and not model.first.weight.requires_grad


def test_dropout_is_off_while_harvesting(tmp_path, tokens):
    model = Toy().train()
    rows = rows_of(harvest(model, tokens, ["first", "drop"], tmp_path), "drop")
    assert (torch.stack(list(rows.values())) != 0).all()


def test_excluded_tokens_leave_no_row(tmp_path, tokens):
    store = harvest(Toy(), tokens, ["first"], tmp_path, exclude=(3, 7), rows_per_shard=30)
    kept = ~torch.isin(tokens.flatten(), torch.tensor([3, 7]))
    assert sorted(rows_of(store, "first")) == kept.nonzero().flatten().tolist()
    assert store.excluded == {"token": int((~kept).sum()), "position": 0, "norm": 0}
    assert store.excluded["token"] > 0
    assert torch.equal(store.tokens, tokens.int())
    with pytest.raises(ValueError, match="no token is left"):
        harvest(Toy(), tokens, ["first"], tmp_path / "b", exclude=range(D_VOCAB))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32])
def test_ids_of_any_width_make_the_same_store(tmp_path, tokens, dtype):
    exclude = [3, 3 + 2**8, 4 + 2**16]  # which no narrow type can hold
    store = harvest(Toy(), tokens, ["first"], tmp_path / "int64", exclude=exclude)
    narrow = harvest(Toy(), tokens.numpy().astype(dtype), ["first"], tmp_path / "narrow", exclude=exclude)
    assert contents(tmp_path / "narrow") == contents(tmp_path / "int64") and len(store) == (tokens != 3).sum()
    assert narrow.digest == store.digest


def test_norms_are_sampled_where_rows_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(model_passes, "NORM_SAMPLE_ROWS", N_CTX)
    tokens = torch.full((N_SEQ, N_CTX), 3)
    tokens[-1] = 4
    assert len(harvest(Toy(), tokens, ["first"], tmp_path, exclude=[3])) == N_CTX


def test_tokens_read_a_few_at_a_time_make_the_same_store(tmp_path, tokens, monkeypatch):
    whole = harvest(Toy(), tokens.long(), ["first"], tmp_path / "whole", exclude=(3, 7), rows_per_shard=30)
    monkeypatch.setattr("interp.activations.model_passes._SEQUENCES_AT_ONCE", 2)
    monkeypatch.setattr("interp.activations.shard_writer._IDS_A_CHUNK", 5)
    parts = harvest(Toy(), tokens.int(), ["first"], tmp_path / "parts", exclude=(3, 7), rows_per_shard=30)
    names = {file.name for file in whole.path.iterdir()} - {"manifest.json"}
    assert (
        all((parts.path / name).read_bytes() == (whole.path / name).read_bytes() for name in names) and len(names) > 3
    )
    assert parts.manifest == whole.manifest


def test_rows_of_outlying_norm_are_left_out_of_all_hooks_and_counted(tmp_path, tokens):
    model = Toy()
    plain = rows_of(harvest(model, tokens, ["first", "heads"], tmp_path / "plain", rows_per_shard=30), "heads")
    model.boost = {2: 1000.0}
    store = harvest(model, tokens, ["first", "heads"], tmp_path / "out", max_norm=20, rows_per_shard=30, batch_size=4)
    rows = rows_of(store, "heads")
    assert sorted(rows) == [i for i in range(N_SEQ * N_CTX) if i % N_CTX != 2]
    assert store.excluded == {"token": 0, "position": 0, "norm": N_SEQ}
    assert len(store) == N_SEQ * (N_CTX - 1) == sum(store.shard_rows)
    assert all(torch.equal(rows[i], plain[i]) for i in rows)
    stored = torch.stack(list(rows.values())).double()
    assert store.statistics("heads").mean_norm == pytest.approx(stored.norm(dim=1).mean().item(), rel=1e-3)
    store.verify()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_activation_that_is_not_finite_is_placed(tmp_path, tokens, value):
    model = Toy()
    tokens[tokens == 9] = 8
    tokens[17, 5] = 9
    model.embed.weight.data[9, 0] = value
    with pytest.raises(ValueError, match="hook 'first': activation .* at sequence 17, position 5"):
        harvest(model, tokens, ["first"], tmp_path, batch_size=4)
    assert not list(tmp_path.iterdir())


def test_rows_whose_norm_is_too_large_for_float32_are_refused_and_not_sealed(tmp_path):
    rows = torch.randn(50, 4)
    with pytest.raises(ValueError, match="the norm of a row is too large for float32, as activations reach"):
        ActivationStore.from_batches(rows * 1e20, tmp_path / "a", dtype="float32")
    assert not (tmp_path / "a").exists()
    large = ActivationStore.from_batches(rows * 1e15, tmp_path / "b", dtype="float32").statistics("activations")
    assert large.mean_norm == pytest.approx(1e15 * float(rows.norm(dim=1).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[0], "must be integers"),
        (lambda t: t.float(), "must be integers"),
        (lambda t: t[:0], "must be integers"),
        (lambda t: t.repeat(1, 2), "16 tokens are longer than the model's context of 8"),
        (lambda t: t + 30, "the vocabulary has 50 tokens, but token id"),
        (lambda t: t - 1, "token id -1 occurs: ids start at 0"),
    ],
)
def test_tokens_the_model_cannot_take_are_refused(tmp_path, tokens, change, message):
    tokens[0, 0] = 0
    with pytest.raises(ValueError, match=message):
        harvest(Toy(), change(tokens), ["first"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_longest_context_takes_any_length(tmp_path, tokens):
    model = Toy()
    model.cfg.n_ctx = -1  # as XLNet says
    assert harvest(model, tokens.repeat(1, 2), ["first"], tmp_path).n_ctx == 16


def test_a_hook_of_another_shape_is_refused(tmp_path, tokens):
    model = Toy()
    model.unflat = nn.Flatten()
    model.register_forward_hook(lambda module, _, output: module.unflat(output))
    with pytest.raises(ValueError, match=r"hook 'unflat' \(Flatten\) returns \(1, 64\) for tokens \(1, 8\)"):
        harvest(model, tokens, ["unflat"], tmp_path)


def test_a_finished_store_is_opened_and_one_of_another_config_refused(tmp_path, tokens):
    model, calls = Toy(), []
    harvest(model, tokens, ["first"], tmp_path, batch_size=4, progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == [0, *range(32, 184, 32), 184] and calls[0][1] == 184
    before = contents(tmp_path)
    model.embed.register_forward_hook(lambda *_: pytest.fail("the model ran again"))
    assert len(harvest(model, tokens, ["first"], tmp_path, batch_size=4)) == 184
    with pytest.raises(ValueError, match="batch_size is 4, not 5; .*seed is 0, not 1"):
        harvest(model, tokens, ["first"], tmp_path, batch_size=5, seed=1)
    model.first.weight.data.add_(1)
    with pytest.raises(ValueError, match="not the same weights"):
        harvest(model, tokens, ["first"], tmp_path, batch_size=4)
    assert contents(tmp_path) == before


def test_the_seed_places_the_rows(tmp_path, tokens):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        harvest(Toy(), tokens, ["first"], tmp_path / name, rows_per_shard=40, seed=seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b and a["shard-00000.safetensors"] != c["shard-00000.safetensors"]


CONFIG = {"batch_size": 2, "rows_per_shard": 40, "exclude": (3,), "max_norm": 2.0, "seed": 5}
KILLS = [
    ("write_at", 1),
    ("write_at", 41),
    ("_write_progress", 3),
    ("replace", 5),
    ("replace", 11),
    ("_seal_shard", 3),
    ("write_json", 1),
]
KILLED = """
import os, signal, sys
from interp.activations import shard_writer
from tests.activations.test_harvest import CONFIG, KILLS, N_CTX, N_SEQ, D_VOCAB, Toy
from interp.activations.harvesting import harvest
import torch

torch.set_num_threads(1)
tokens = torch.randint(0, D_VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(1))
shard_writer._BUFFER_BYTES = 40 * 50

def dying(owner, name, count):
    original, calls = getattr(owner, name), []
    def call(*args, **options):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)
    setattr(owner, name, call)

for i, (name, count) in enumerate(KILLS):
    child = os.fork()
    if child == 0:
        owners = {"replace": os, "_write_progress": shard_writer.ShardWriter, "_seal_shard": shard_writer.ShardWriter}
        dying(owners.get(name, shard_writer), name, count)
        harvest(Toy(), tokens, ["first", "heads"], os.path.join(sys.argv[1], str(i)), **CONFIG)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, (name, count)
"""


def test_a_harvest_killed_anywhere_and_resumed_is_the_same_to_the_byte(tmp_path, tokens):
    run_python(KILLED, tmp_path / "cut", check=True)
    whole = harvest(Toy(), tokens, ["first", "heads"], tmp_path / "whole", **CONFIG)
    assert whole.excluded["norm"] > 0 and whole.excluded["token"] > 0 and whole.n_shards > 3
    expected, resumed_at = contents(tmp_path / "whole"), []
    for i, _ in enumerate(KILLS):
        folder = tmp_path / "cut" / str(i)
        with pytest.raises(ValueError, match="cut off|no manifest.json"):
            ActivationStore.open(folder)
        calls: list[int] = []
        harvest(
            Toy(), tokens, ["first", "heads"], folder, **CONFIG, progress=lambda n, *_, calls=calls: calls.append(n)
        ).verify()
        assert contents(folder) == expected, KILLS[i]
        resumed_at.append(len(calls) - calls.count(0))
    assert max(resumed_at) == 12 and 0 in resumed_at and 0 < sorted(resumed_at)[3] < 12


def test_a_harvest_killed_while_it_publishes_is_made_again_and_can_be_replaced(tmp_path, tokens, monkeypatch):
    begun = []

    def killed_at_the_second(step, is_one=lambda *_: True):
        def done(*args, **options):
            if is_one(*args) and begun:
                raise KeyboardInterrupt
            begun.extend([step] * is_one(*args))
            return step(*args, **options)

        return done

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("interp.activations.shard_writer.write_json", killed_at_the_second(shard_writer.write_json))
        unlink = killed_at_the_second(Path.unlink, lambda file: file.name == PROGRESS_FILE and file.exists())
        patched.setattr(Path, "unlink", unlink)
        harvest(Toy(), tokens, ["first"], tmp_path / "cut", **CONFIG)
    whole = harvest(Toy(), tokens, ["first"], tmp_path / "whole", **CONFIG)
    for overwrite in (False, True):
        harvest(Toy(), tokens, ["first"], tmp_path / "cut", **CONFIG, overwrite=overwrite).verify()
        assert contents(tmp_path / "cut") == contents(whole.path)


def by_rows(options):
    """The options of a harvest, as `harvest_stores` takes them."""
    of_store = {name: options[name] for name in ("rows_per_shard", "seed")}
    return {"rows": RowOptions(**{name: options[name] for name in options.keys() - of_store.keys()}), **of_store}


GROUPS = {"early": ["embed"], "late": ["heads", "rest"], "both": ["first", "heads"]}


def test_stores_filled_in_one_pass_are_those_that_are_filled_alone(tmp_path, tokens):
    """They agree to the byte, although some stores leave out rows for their norm at hooks that others lack."""
    model = Toy()
    options = {**CONFIG, "max_norm": 1.5}
    split = by_rows(options)
    stores = harvest_stores(model, tokens, {tmp_path / name: hooks for name, hooks in GROUPS.items()}, **split)
    together, model.n_runs = model.n_runs, 0
    for (name, hooks), store in zip(GROUPS.items(), stores, strict=True):
        alone = harvest(model, tokens, hooks, tmp_path / "alone" / name, **options)
        assert contents(store.path) == contents(alone.path) and store.path == tmp_path / name
    assert len({len(store) for store in stores}) > 1
    assert together == model.n_runs > 0, "only the group with the last hook reaches the end of the model"
    again = harvest_stores(model, tokens, {tmp_path / name: hooks for name, hooks in GROUPS.items()}, **split)
    assert model.n_runs == together and [store.digest for store in again] == [s.digest for s in stores]
    with pytest.raises(ValueError, match="names no hook: name at least one"):
        harvest_stores(model, tokens, {tmp_path / "a": ["first"], tmp_path / "b": []}, RowOptions())


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        (shard_writer.ShardWriter, "_write_progress", 11),  # each store has written by then, in its own thread
        (shard_writer.ShardWriter, "_write_progress", 13),
        (store_writer.StoreWriter, "finish", 2),
        (store_writer.StoreWriter, "finish", 3),
    ],
)
def test_stores_filled_in_one_pass_go_on_where_each_stood(tmp_path, tokens, monkeypatch, owner, method, call):
    folders = {tmp_path / name: hooks for name, hooks in GROUPS.items()}
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "_BUFFER_BYTES", 3 * 40 * 50)
        original, calls = getattr(owner, method), []

        def stop(self, *given):
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return original(self, *given)

        patch.setattr(owner, method, stop)
        with pytest.raises(KeyboardInterrupt):
            harvest_stores(Toy(), tokens, folders, **by_rows(CONFIG))
    told: list[int] = []
    stores = harvest_stores(Toy(), tokens, folders, **by_rows(CONFIG), progress=lambda n, *_: told.append(n))
    assert len(told) - told.count(0) < 12, "all was done anew"
    for (name, hooks), store in zip(GROUPS.items(), stores, strict=True):
        assert contents(store.path) == contents(harvest(Toy(), tokens, hooks, tmp_path / "alone" / name, **CONFIG).path)


def test_a_harvest_is_only_resumed_with_its_own_config(tmp_path, tokens, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer.ShardWriter, "seal", stop)
        with pytest.raises(KeyboardInterrupt):
            harvest(Toy(), tokens, ["first"], tmp_path)
    with pytest.raises(ValueError, match="dtype is 'bfloat16', not 'float32'"):
        harvest(Toy(), tokens, ["first"], tmp_path, dtype="float32")
    assert len(harvest(Toy(), tokens, ["first"], tmp_path)) == tokens.numel()
    assert json.loads((tmp_path / "manifest.json").read_text())["n_rows"] == tokens.numel()


SHARED = """
import os, signal, torch
from pathlib import Path
from interp.activations import ActivationStore, shard_writer
from interp.activations.harvesting import harvest
from interp.runtime.processes import processes, slice_of_part
from tests.activations.test_harvest import CONFIG, Toy, toy_tokens

class Told(Exception):
    pass

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    what, out = sys.argv[1], Path(sys.argv[2])
    world, model, tokens = processes(), Toy(), toy_tokens()
    if what == "killed":
        shard_writer._BUFFER_BYTES = 40 * 50
        note, calls = shard_writer.ShardWriter._write_progress, []
        def dying(self, *args):
            calls.append(1)
            return note(self, *args) if len(calls) < 5 else die()
        shard_writer.ShardWriter._write_progress = dying
        harvest(model, tokens, ["first", "heads"], out, **CONFIG)
    told = []
    store = harvest(model, tokens, ["first", "heads"], out / "whole", **CONFIG, progress=lambda n, *_: told.append(n))
    assert store.path == out / "whole" and len(store) > 0
    assert told == ([0, *range(16, 184, 16), 184] if world.is_first else [])
    again = harvest(model, tokens, ["first", "heads"], out / "whole", **CONFIG, progress=lambda *_: 1 / 0)
    assert again.digest == store.digest
    harvest(model, tokens, ["first", "heads"], out / "cut", **CONFIG)  # begun by one process
    reading = dict(hook=["first", "heads"], batch_size=21, seed=1, epochs=2)
    own = store.batches(**reading, part=(world.rank, world.count))
    for mine, batch in zip(own, store.batches(**reading), strict=True):
        assert torch.equal(mine, batch[slice_of_part(len(batch), world.rank, world.count)])
        assert torch.equal(world.all_gather(mine), batch)

    def refused(message, **options):
        try:
            harvest(model, tokens, ["first"], out / "refused", **options)
        except ValueError as error:
            assert message in str(error), error
        else:
            raise AssertionError(message)

    if world.rank == 1:
        model.first.weight.data.add_(1)
    refused("process 1 harvests something other than process 0")
    model = Toy()
    model.embed.weight.data[9, 0] = float("nan")
    tokens[tokens == 9] = 8
    tokens[16, 5] = 9  # in a batch of process 1
    refused("hook 'first': activation nan at sequence 16, position 5", batch_size=3)
    tokens[13, 2] = 9  # in the batch of process 0 before it
    refused("hook 'first': activation nan at sequence 13, position 2", batch_size=3)
    assert not world.is_first or not (out / "refused").exists()
    if world.rank == 1:
        model.first.forward = lambda x: [].pop()
    try:
        harvest(model, tokens, ["first"], out / "refused")
    except Exception as error:
        kind = RuntimeError if world.is_first else IndexError
        assert "pop from empty list" in str(error) and type(error) is kind, repr(error)
    else:
        raise AssertionError
"""


def stopped(done: int, *_) -> None:
    if done > 100:
        raise KeyboardInterrupt


def test_two_processes_harvest_the_bytes_that_one_does(tmp_path, tokens, monkeypatch):
    whole = harvest(Toy(), tokens, ["first", "heads"], tmp_path / "one", **CONFIG)
    assert whole.excluded["norm"] > 0 and whole.excluded["token"] > 0 and whole.n_shards > 3
    monkeypatch.setattr(shard_writer, "_BUFFER_BYTES", 40 * 50)
    with pytest.raises(KeyboardInterrupt):
        harvest(Toy(), tokens, ["first", "heads"], tmp_path / "cut", **CONFIG, progress=stopped)
    launch(SHARED, "whole", tmp_path, folder=tmp_path)
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut") == contents(tmp_path / "one")


def test_work_interrupted_in_two_processes_finishes_in_one_or_two_to_the_same_bytes(tmp_path, tokens):
    launch(SHARED, "killed", tmp_path / "cut", folder=tmp_path, check=False)
    with pytest.raises(ValueError, match="cut off"):
        ActivationStore.open(tmp_path / "cut")
    told: list[int] = []
    harvest(Toy(), tokens, ["first", "heads"], tmp_path / "cut", **CONFIG, progress=lambda n, *_: told.append(n))
    harvest(Toy(), tokens, ["first", "heads"], tmp_path / "one", **CONFIG)
    assert 0 < len(told) < 12 and contents(tmp_path / "cut") == contents(tmp_path / "one")


def test_a_damaged_record_of_an_interrupted_harvest_is_named_with_its_remedy(tmp_path, tokens, monkeypatch):
    monkeypatch.setattr(shard_writer, "_BUFFER_BYTES", 40 * 50)
    with pytest.raises(KeyboardInterrupt):
        harvest(Toy(), tokens, ["first"], tmp_path / "cut", **CONFIG, progress=stopped)
    [record] = tmp_path.rglob("progress.safetensors")
    record.write_bytes(record.read_bytes()[:20])
    with pytest.raises(DamagedError, match=r"progress\.safetensors is damaged .*: remove this file"):
        harvest(Toy(), tokens, ["first"], tmp_path / "cut", **CONFIG)
    record.unlink()
    harvest(Toy(), tokens, ["first"], tmp_path / "cut", **CONFIG).verify()


def test_check_harvested_hashes_the_model_only_for_a_harvested_store(tmp_path, tokens, monkeypatch):
    model, rows = Toy(), torch.randn(32, 8)
    harvested = harvest(model, tokens, ["first"], tmp_path / "harvested", **CONFIG)
    made = ActivationStore.from_batches(rows, tmp_path / "made", hook_name="first")
    hashed = []
    monkeypatch.setattr(harvesting, "weights_digest", lambda module: hashed.append(module) or harvested.weights)
    check_harvested(made, model, "first")
    assert not hashed
    check_harvested(harvested, model, "first")
    assert hashed == [model]


def test_check_harvested_reads_a_shard_that_has_rows(tmp_path, tokens):
    seed = next(seed for seed in range(50) if shard_writer.shard_of(torch.arange(3).numpy(), 3, seed).min() > 0)
    store = harvest(Toy(), tokens[:1, :3], ["first"], tmp_path, rows_per_shard=1, seed=seed, max_norm=None)
    assert store.shard_rows[0] == 0
    other = Toy()
    with torch.no_grad():
        other.first.weight.neg_()
    with pytest.raises(ValueError, match="the model's first differs by"):
        check_harvested(store, other, "first")
