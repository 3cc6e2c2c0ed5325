import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from interp.activations import ActivationStore, join_stores
from interp.codes.sparse_codes import SparseCodes
from interp.sae import (
    SAE,
    BatchTopKConfig,
    TopKConfig,
    train_sae,
    train_saes,
    train_sweep,
    training,
    training_run,
)
from interp.sae.architectures.thresholds import ramp
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from interp.storage.folders import unfinished_folder
from tests.trainings import planted

D_SAE = 48
HOOK = "activations"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    return ActivationStore.from_batches(planted(), tmp_path_factory.mktemp("store"), dtype="float32")


def topk(**changes) -> TopKConfig:
    return TopKConfig(**{"d_sae": D_SAE, "k": 4, "tokens": 3840, "batch_size": 256, "device": "cpu", **changes})


def batch_topk(**changes) -> BatchTopKConfig:
    return BatchTopKConfig(**{"d_sae": D_SAE, "k": 4, "tokens": 3840, "batch_size": 256, "device": "cpu", **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "sae_weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def learner_for(config, store: ActivationStore) -> Learner:
    return Learner(config, HookScales(inputs=(store.statistics(HOOK),)), torch.device("cpu"))


def test_picks_from_a_bfloat16_matmul_have_full_precision_values(store):
    learner = learner_for(topk(), store)
    x = planted(200) * learner.input_scales
    learner.low_precision = True
    f = learner.loss_and_gradients(x).forward
    codes = f.support.codes_of(f.z)
    w = learner.weights
    pre = ((x - w["b_dec"]) @ w["encoder_rows"].T + w["b_enc"]).relu()
    torch.testing.assert_close(codes.values, pre[codes.rows, codes.latents.long()], rtol=1e-5, atol=1e-5)
    exact = pre.topk(4).values.sum()
    assert codes.values.sum() > 0.999 * exact


def test_auxk_revives_dead_latents(store):
    """Latents whose encoder points away never fire by themselves; AuxK's gradient reaches the encoder."""

    def dead_share(coefficient: float) -> float:
        config = topk(tokens=100_000, dead_after=512, aux_coefficient=coefficient, lr=1e-2)
        learner = learner_for(config, store)
        learner.weights["b_enc"][:24] = -3.0
        batches = store.batches(HOOK, 256, epochs=None)
        for _ in range(60):
            result = learner.step(next(batches))
        return result.dead

    assert dead_share(1.0) < 0.5 * dead_share(0)


def test_the_rate_rises_stays_and_falls():
    config = topk(tokens=256 * 100, lr=0.5, warmup=0.1, decay=0.2)
    rates = [config.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.05) and rates[9:80] == [0.5] * 71
    assert rates[90] == pytest.approx(0.25) and rates[99] == pytest.approx(0.025)
    assert (
        topk(d_sae=2**14, tokens=256 * 10**5).peak_lr == 2e-4 and topk(d_sae=2**12, tokens=256 * 10**6).peak_lr == 4e-4
    )
    assert topk(d_sae=2**14, tokens=256 * 25_000).peak_lr == 4e-4 and topk(d_sae=2**14).peak_lr == 16e-4


def test_rise_ramps_a_penalty_to_1():
    assert [ramp(step, 0.1, 100) for step in (0, 5, 10, 90)] == [0.0, 0.5, 1.0, 1.0] and ramp(0, 0.0, 100) == 1.0


def test_anything_but_a_config_is_refused(store):
    for config in ([], {"k": 4}, [topk(), "topk"]):
        with pytest.raises(ValueError, match="must be a config, as TopKConfig"):
            train_sae(store, HOOK, config)
    with pytest.raises(ValueError, match="device='gpu' does not exist on this machine"):
        train_sae(store, HOOK, topk(device="gpu"))


def test_a_sweep_gives_what_each_config_gives_alone(store, tmp_path):
    configs = [topk(), topk(k=6, tokens=3000), batch_topk(seed=1), topk(batch_size=128)]
    saes = train_sae(store, HOOK, configs, tmp_path / "sweep")  # as `train_sweep` does
    for i, config in enumerate(configs):
        train_sae(store, HOOK, config, tmp_path / f"alone-{i}")
        assert same(weights(tmp_path / "sweep" / str(i)), weights(tmp_path / f"alone-{i}"))
        assert isinstance(saes[i], SAE) and saes[i].config == config


def test_the_number_of_threads_does_not_change_what_is_trained(store, tmp_path, monkeypatch):
    """This holds for loops too small to benefit, too."""
    monkeypatch.setattr("interp.runtime.threads._MIN_WORK", 1)
    threads = torch.get_num_threads()
    for n in (1, 2):
        torch.set_num_threads(n)
        train_sweep(store, HOOK, [topk(), batch_topk()], tmp_path / str(n))
    torch.set_num_threads(threads)
    for i in ("0", "1"):
        assert same(weights(tmp_path / "1" / i), weights(tmp_path / "2" / i))


class Cut(Exception):
    pass


def test_one_of_several_interrupted_trainings_resumes_alone(store, tmp_path, monkeypatch):
    monkeypatch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)
    both = join_stores({"a": store, "b": store})

    def stop(done: int, total: int, note: str) -> None:
        if done == 10:
            raise Cut

    with pytest.raises(Cut):
        hooks = {tmp_path / name: [f"{name}/{HOOK}"] for name in "ab"}
        train_saes(both, hooks, topk(), progress=stop)
    seen: list[int] = []
    train_sae(both, f"a/{HOOK}", topk(), tmp_path / "a", progress=lambda done, total, note: seen.append(done))
    assert seen[0] == 10
    train_sae(both, f"a/{HOOK}", topk(), tmp_path / "whole")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "whole"))


def test_a_finished_run_is_loaded_not_repeated(store, tmp_path, monkeypatch):
    first = train_sae(store, HOOK, topk(), tmp_path)
    monkeypatch.setattr(Learner, "step", None)
    monkeypatch.setattr(training_run, "device_named", lambda name: torch.device("meta"))
    again = train_sae(store, HOOK, topk(), tmp_path)
    assert torch.equal(first.W_enc, again.W_enc) and again.config == topk()


def test_training_of_another_config_is_refused_with_what_differs(store, tmp_path):
    train_sae(store, HOOK, topk(), tmp_path)
    with pytest.raises(ValueError, match="k is 4, not 5; seed is 0, not 1; choose.*overwrite=True"):
        train_sae(store, HOOK, topk(k=5, seed=1), tmp_path)
    assert train_sae(store, HOOK, topk(k=5), tmp_path, overwrite=True).config.k == 5


def test_rows_that_are_not_finite_are_named(store, monkeypatch):
    bad = planted(256)
    bad[3, 2], bad[200, 0] = float("nan"), float("inf")
    monkeypatch.setattr(ActivationStore, "batches", lambda *args, **kwargs: iter([planted(256), bad]))
    with pytest.raises(ValueError, match=r"step 2 is not finite in 2 of 256 rows: 3, 200"):
        train_sae(store, HOOK, topk())


def test_training_on_another_store_is_refused(store, tmp_path):
    """This holds for a finished training, and for a store of equal width."""
    train_sae(store, HOOK, topk(), tmp_path / "run")
    for name, rows in {"as wide": planted() + 1, "wider": torch.cat([planted()] * 2, 1)}.items():
        another = ActivationStore.from_batches(rows, tmp_path / name, dtype="float32")
        with pytest.raises(ValueError, match="run holds other work: not the same store"):
            train_sae(another, HOOK, topk(), tmp_path / "run")


def test_a_loss_that_is_not_finite_ends_training(store, tmp_path):
    with pytest.raises(ValueError, match=r"the loss of step \d+ is (nan|inf): lower lr=1e\+20"):
        train_sae(store, HOOK, topk(lr=1e20), tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_a_loss_below_zero_is_refused_as_training_follows_its_logarithm(store):
    class Lowered(TopKConfig):
        def loss(self, step):
            return super().loss(step) - 100 * step.batch.rows * step.variance

    config = Lowered(**vars(topk()))
    with pytest.raises(ValueError, match=r"loss of step 1 is -\d.*, below 0,.*leave out of Lowered.loss"):
        train_sae(store, HOOK, config)


def test_weights_that_are_not_finite_after_the_last_step_are_not_saved(store, tmp_path):
    """Its loss was that of the weights before."""
    with pytest.raises(ValueError, match=r"last step left weights that are not finite: lower lr=1e\+38"):
        train_sae(store, HOOK, topk(lr=1e38, tokens=256, decay=0.0, unit_norm=False), tmp_path)
    assert not (tmp_path / "sae_weights.safetensors").exists()


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "results.json"])
def test_a_damaged_file_is_named(store, tmp_path, name):
    out = tmp_path / "out"

    def cut(done, total, note):
        raise Cut

    with pytest.raises(Cut):
        train_sae(store, HOOK, topk(), out, progress=cut)
    (unfinished_folder(out) / "new" / name).write_bytes(b"{")
    with pytest.raises(ValueError, match=f"{name} is damaged.*delete"):
        train_sae(store, HOOK, topk(), out)
    shutil.rmtree(unfinished_folder(out))
    assert train_sae(store, HOOK, topk(), out).config == topk()


def test_a_checkpoint_without_a_tensor_that_the_architecture_has_now_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)

    def cut_at_3(done, total, note):
        if done == 3:
            raise Cut

    with pytest.raises(Cut):
        train_sae(store, HOOK, topk(), tmp_path / "sae", progress=cut_at_3)
    monkeypatch.setattr(TopKConfig, "initial_parameters", lambda config, pre_std: {"gain": 1.0})
    with pytest.raises(ValueError, match=r"checkpoint.safetensors lacks gain, .*: delete its folder to train again"):
        train_sae(store, HOOK, topk(), tmp_path / "sae")


@pytest.mark.parametrize(("option", "first_step"), [({"overwrite": True}, 5), ({"resume": False}, 1)])
def test_overwriting_resumes_after_an_interruption_unless_it_must_not(store, tmp_path, monkeypatch, option, first_step):
    monkeypatch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)
    train_sae(store, HOOK, topk(k=5), tmp_path)
    steps = []

    def cut_at_5(done, total, note):
        if done == 5:
            raise Cut

    with pytest.raises(Cut):
        train_sae(store, HOOK, topk(), tmp_path, progress=cut_at_5, **option)
    again = train_sae(store, HOOK, topk(), tmp_path, progress=lambda done, *rest: steps.append(done), **option)
    assert steps[0] == first_step
    assert torch.equal(again.W_dec, train_sae(store, HOOK, topk()).W_dec)


def test_the_speed_in_the_log_is_that_since_the_resume(store, tmp_path, monkeypatch):
    """A second passes at each step; of the steps 11 to 15, the first two were done before the cut."""
    step, seconds, cuts = Learner.step, 0, [20]

    def timed(self, x):
        nonlocal seconds
        seconds += 1
        if self.steps_done in cuts:
            raise Cut
        return step(self, x)

    due = iter([False] * 11 + [True] + [False] * 99)
    monkeypatch.setattr(Learner, "step", timed)
    monkeypatch.setattr("interp.sae.training_run.LOGGED_STEPS", 5)
    monkeypatch.setattr("interp.sae.training._CheckpointTimer.due", lambda self: next(due))
    monkeypatch.setattr("interp.sae.training.time.perf_counter", lambda: seconds)
    with pytest.raises(Cut):
        train_sae(store, HOOK, topk(tokens=6400), tmp_path)
    cuts.clear()
    train_sae(store, HOOK, topk(tokens=6400), tmp_path)
    assert [(row["step"], row["tokens_per_second"]) for row in metrics(tmp_path)] == [(n, 256) for n in range(5, 26, 5)]


def test_a_batch_without_a_row_to_train_on_is_refused(store):
    site = HookScales(inputs=(store.statistics(HOOK),), limits=(0.0125,))
    with pytest.raises(ValueError, match=r"no row of a batch is within the norm limits 0.0125: raise batch_size"):
        Learner(topk(), site, torch.device("cpu")).step(planted()[:8])


def test_what_names_nothing_or_a_hook_twice_is_refused(store):
    for hooks, config, output_hook, message in [
        ([], topk(), None, "no hook"),
        ([HOOK, HOOK], topk(), None, "named twice"),
        (HOOK, topk(), HOOK, "named twice"),
    ]:
        with pytest.raises(ValueError, match=message):
            train_sae(store, hooks, config, output_hook=output_hook)


def test_torchs_threads_rest_while_batches_are_read(store, monkeypatch):
    seen, check, before = [], training._check_finite, torch.get_num_threads()
    torch.set_num_threads(2)

    def look(*given):
        seen.append(torch.get_num_threads())
        check(*given)

    monkeypatch.setattr(training, "_check_finite", look)
    train_sae(store, HOOK, topk(tokens=512))
    seen.append(torch.get_num_threads())
    torch.set_num_threads(before)
    assert seen == [1, 1, 2]


def test_an_empty_store_is_refused(store, monkeypatch):
    monkeypatch.setattr(ActivationStore, "__len__", lambda self: 0)
    with pytest.raises(ValueError, match="empty"):
        train_sae(store, HOOK, topk())


def test_rows_of_another_width_are_refused(store):
    sae = train_sae(store, HOOK, topk(tokens=256))
    for read in (sae.encode, sae.codes):
        with pytest.raises(ValueError, match="17 wide.*d_in=16"):
            read(torch.zeros(2, 17))


def test_codes_of_other_latents_are_refused(store):
    sae = train_sae(store, HOOK, topk(tokens=256))
    wider = torch.ones(1, sae.d_sae + 1)
    for z in (wider, SparseCodes.from_dense(wider)):
        with pytest.raises(ValueError, match=f"have {sae.d_sae + 1} latents.*d_sae={sae.d_sae}"):
            sae.decode(z)
    beyond = SparseCodes.from_topk(torch.tensor([[0, 5_000_000]]), torch.ones(1, 2), sae.d_sae)
    with pytest.raises(ValueError, match="latents 0 to 5000000, not 0 to"):
        sae.decode(beyond)
