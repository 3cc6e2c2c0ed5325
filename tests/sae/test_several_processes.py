"""Two real processes train what one does: every kind of dictionary, on uneven parts, and after an interruption."""

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.activations import ActivationStore, JoinedStore
from interp.activations.store import RowLimit
from interp.runtime.processes import Processes, ProcessGrid, processes
from interp.sae import (
    BatchTopKConfig,
    GatedConfig,
    JumpReLUConfig,
    MatryoshkaConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
    train_sweep,
)
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from tests.launched import launch
from tests.trainings import CONFIGS, A, B, checkpoints, opened, planted, shared, steps

STEPS, CUT_AFTER = 8, 5
"""Then τ moves, and rows are collected to resample at."""


class Sweep(NamedTuple):
    """Dictionaries that read `hooks`, and write them or `output_hook`."""

    hooks: list[str]
    output_hook: str | None
    configs: dict[str, SAEConfig]


def gently(batch_size: int, configs: dict[str, SAEConfig], **changes: float) -> dict[str, SAEConfig]:
    """At a high rate, rounding in single precision grows from step to step: Adam divides by small gradients."""
    changes |= {"lr": 2e-4, "batch_size": batch_size, "tokens": STEPS * batch_size}
    return {name: dataclasses.replace(config, **changes) for name, config in configs.items()}


TRANSCODERS: dict[str, SAEConfig] = {
    "topk, skip": TopKConfig(**shared, k=4, skip=True),
    "batchtopk": BatchTopKConfig(**shared, k=4),
    "matryoshka": MatryoshkaConfig(**shared, k=4, groups=(0.25, 0.75)),
    "jumprelu": JumpReLUConfig(**shared, target_l0=4, threshold=0.5, bandwidth=0.3),
}
CROSSCODERS: dict[str, SAEConfig] = {"batchtopk": BatchTopKConfig(**shared, k=4), "relu": ReLUConfig(**shared, l1=0.5)}
ALIKE = ("topk", "relu, April 2024", "frozen decoder")
"""What they do with few rows, others in the sweep do."""
FEW = {name: config for name, config in CONFIGS.items() if name not in ALIKE}
FEW = {name: dataclasses.replace(config, resample_at=()) for name, config in FEW.items()}
FEW["gated"] = GatedConfig(**shared, l1=0.5, resample_at=(0.75,))
SWEEPS = {
    "autoencoders": Sweep([A], None, gently(255, CONFIGS)),  # parts of 127 and 128 rows
    "few rows": Sweep([A], None, gently(8, FEW, dead_after=1)),  # after resampling Adam's first steps magnify last bits
    "transcoders": Sweep([A], B, gently(33, TRANSCODERS, dead_after=1)),
    "crosscoders": Sweep([A, B], None, gently(33, CROSSCODERS, dead_after=1)),
}
CUT = "few rows"
"""The sweep that is stopped and goes on."""
TRAINED = ("autoencoders", CUT)
"""What is trained into files. Of the others the steps in double precision say all: `test_sharding` has their files."""


def train_all(folder: Path, out: Path) -> None:
    """The sweeps of TRAINED, and the weights of all but the first in double precision in `out/double.safetensors`."""
    store, double = opened(folder), {}
    for name in TRAINED:
        with limits(name):
            train_sweep(store, A, list(SWEEPS[name].configs.values()), out / name)
    for name, sweep in SWEEPS.items():
        for kind, config in sweep.configs.items() if name != "autoencoders" else ():  # nearly those of few rows
            weights = in_double(store, name, config, processes())
            double |= {f"{name}: {kind}: {key}": weight.clone() for key, weight in weights.items()}
    if processes().is_first:
        save_file(double, out / "double.safetensors")


@contextmanager
def limits(name: str) -> Iterator[None]:
    """Make rows longer than the mean outliers in the sweep of few rows."""

    def mean_norm(store: JoinedStore, hook: str) -> RowLimit:
        most = store.statistics(hook).mean_norm
        return RowLimit(most, True, store.statistics(hook))

    with pytest.MonkeyPatch.context() as patch:
        if name == CUT:
            patch.setattr(JoinedStore, "row_limit", mean_norm)
        yield


def in_double(store: JoinedStore, name: str, config: SAEConfig, of: Processes) -> dict[str, torch.Tensor]:
    sweep = SWEEPS[name]
    outputs = () if sweep.output_hook is None else (store.statistics(sweep.output_hook),)
    few = (store.statistics(A).mean_norm,) if name == CUT else ()
    site = HookScales(inputs=tuple(store.statistics(hook) for hook in sweep.hooks), outputs=outputs, limits=few)
    learner = Learner(config, site, torch.device("cpu"), torch.float64, ProcessGrid.of(of))
    hooks = sweep.hooks if sweep.output_hook is None else [*sweep.hooks, sweep.output_hook]
    batches = store.batches(hooks, config.batch_size, seed=config.seed, epochs=None, part=(of.rank, of.count))
    for _ in range(STEPS):
        learner.step(next(batches))
    return learner.weights


def stop_midway(patch: pytest.MonkeyPatch, how: Callable[[], object]) -> None:
    """In the step after, between two members of the sweep: some are a step ahead of the others."""
    step, seen = Learner.step, list[int]()

    def stopping(self, rows):
        seen.append(1)
        if len(seen) == CUT_AFTER * len(SWEEPS[CUT].configs) + 5:
            how()
        return step(self, rows)

    patch.setattr(Learner, "step", stopping)


def train_cut(folder: Path, out: Path) -> None:
    with limits(CUT), pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)
        train_sweep(opened(folder), A, list(SWEEPS[CUT].configs.values()), out)


TWO = """
import json, torch
from pathlib import Path
from interp.activations import JoinedStore
from interp.runtime.processes import processes, slice_of_part
from interp.sae import train_sae
from tests.sae.test_several_processes import train_all, train_cut
from tests.trainings import A, CONFIGS, opened, planted

def batches(value):
    rows = planted(255)
    yield rows[slice_of_part(255, world.rank, world.count)]
    if value is None and world.rank == 1:
        raise ValueError("shard 3 is damaged")
    rows[200], rows[254, 3] = value or 0, value or 0
    yield rows[slice_of_part(255, world.rank, world.count)]

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, world, errors = Path(sys.argv[1]), processes(), []
    train_all(folder, folder / "two")
    train_cut(folder, folder / "one, then two")
    for value in (None, float("nan"), 1e30):
        JoinedStore.batches = lambda *_, **__: batches(value)
        try:
            train_sae(opened(folder), A, CONFIGS["topk"])
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    (folder / f"errors of {world.rank}.json").write_text(json.dumps(errors))
"""

KILLED = """
import os, pytest, signal, torch
from pathlib import Path
from tests.sae.test_several_processes import stop_midway, train_cut

if __name__ == "__main__":
    torch.set_num_threads(1)
    stop_midway(pytest.MonkeyPatch(), lambda: os.kill(os.getpid(), signal.SIGKILL))
    train_cut(Path(sys.argv[1]), Path(sys.argv[1], "two, then one"))
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    """In several shards: the two processes are not always in the same."""
    folder = tmp_path_factory.mktemp("stores")
    for name, rows in {"a": planted(), "b": planted(d=12, seed=3) * 3}.items():
        ActivationStore.from_batches(rows, folder / name, dtype="float32", rows_per_shard=700)
    return folder


@pytest.fixture(scope="module")
def folder(stores) -> Path:
    """Return what one process trained, what two trained, and what two went on with where one had stopped."""
    train_all(stores, stores / "one")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_midway(patch, interrupt)
        train_cut(stores, stores / "one, then two")
    assert checkpoints(stores / "one, then two") == [CUT_AFTER] * len(SWEEPS[CUT].configs)
    launch(TWO, stores, folder=stores)
    return stores


def interrupt() -> None:
    raise KeyboardInterrupt


def hold_to(one: Path, two: Path, configs: dict[str, SAEConfig]) -> None:
    """The same weights to rounding, and the same metrics, each step once."""
    for i, name in enumerate(configs):
        a, b = one / str(i), two / str(i)
        weights = load_file(b / "sae_weights.safetensors")
        for key, weight in load_file(a / "sae_weights.safetensors").items():
            assert (weights[key] - weight).norm() <= 1e-5 * weight.norm().clamp(min=1e-3), (name, key)
        assert [row["step"] for row in steps(b)] == list(range(1, STEPS + 1)), name
        for row, other in zip(steps(a), steps(b), strict=True):
            assert row == pytest.approx(other, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_train_what_one_does(folder, name):
    hold_to(folder / "one" / name, folder / "two" / name, SWEEPS[name].configs)


def test_in_double_precision_they_train_it_to_the_ninth_digit(folder):
    one, two = (load_file(folder / many / "double.safetensors") for many in ("one", "two"))
    assert one.keys() == two.keys() and any(key.startswith("few rows: ") for key in one)
    for key, weight in one.items():
        assert (two[key] - weight).norm() <= 1e-9 * weight.norm().clamp(min=1e-3), key


def test_with_few_rows_one_process_may_have_none(stores):
    """The limit leaves one process many rows and the other none."""
    store, kept = opened(stores), set()
    batches, most = store.batches(A, 8, epochs=None), store.statistics(A).mean_norm
    for _ in range(STEPS):
        fit = next(batches).norm(dim=1) <= most
        kept.add((int(fit[:4].sum()), int(fit[4:].sum())))
    assert any(first == 0 for first, _ in kept) and any(second == 0 for _, second in kept)
    assert (0, 0) not in kept and len({first - second for first, second in kept}) > 3


def test_two_processes_go_on_with_what_one_began(folder):
    hold_to(folder / "one" / CUT, folder / "one, then two", SWEEPS[CUT].configs)


def test_training_of_two_killed_processes_resumes_in_one(folder):
    out = folder / "two, then one"
    assert launch(KILLED, folder, folder=folder, check=False) == 128 + signal.SIGKILL
    assert checkpoints(out) == [CUT_AFTER] * len(SWEEPS[CUT].configs)
    train_cut(folder, out)
    hold_to(folder / "one" / CUT, out, SWEEPS[CUT].configs)


def test_a_fault_in_one_processs_rows_is_raised_in_both(folder):
    errors = [json.loads((folder / f"errors of {rank}.json").read_text()) for rank in range(2)]
    assert errors[0] == errors[1]
    damaged, unreadable, large = errors[0]
    assert damaged == "ValueError: shard 3 is damaged"
    assert unreadable == "InterpError: the batch of step 2 is not finite in 2 of 255 rows: 200, 254"
    assert large.startswith("InterpError: the loss of step 2 is ")
