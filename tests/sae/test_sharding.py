"""A dictionary whose latents are divided among real processes equals the one that a single process trains."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from interp.activations import ActivationStore
from interp.runtime.processes import SINGLE_PROCESS_GRID, Processes, ProcessGrid, processes
from interp.sae import (
    BatchTopKConfig,
    GatedConfig,
    JumpReLUConfig,
    MatchingPursuitConfig,
    MatryoshkaConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
    load_sae,
    train_sae,
    train_sharded,
)
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from interp.sae.sharding import check_shards
from interp.sae.training_run import training_bytes
from interp.storage.folders import unfinished_folder
from tests.launched import launch
from tests.trainings import A, B, checkpoints, opened, planted, steps

STEPS = 12
shared = {"d_sae": 48, "device": "cpu", "lr": 2e-4, "batch_size": 5, "tokens": STEPS * 5}
"""Of so few rows many latents are dead."""
dying = {"dead_after": 1, "resample_at": (0.5,)}
CONFIGS: dict[str, SAEConfig] = {
    "topk": TopKConfig(**shared, **dying, k=2, k_start=4),
    "batchtopk": BatchTopKConfig(**shared, **dying, k=2),
    "matryoshka": MatryoshkaConfig(**shared, **dying, k=2, groups=(0.25, 0.4, 0.35)),
    "relu": ReLUConfig(**shared, dead_after=1, l1=5.0),
    "gated": GatedConfig(**shared, **dying, l1=5.0, aux_coefficient=1.0),
    "jumprelu": JumpReLUConfig(**shared, dead_after=1, target_l0=4, threshold=0.5, bandwidth=0.3),
    "frozen": TopKConfig(**shared, **dying, k=2, freeze="directions", clip=0.5),
    "transcoder": TopKConfig(**shared, k=2, skip=True),
    "crosscoder": JumpReLUConfig(**shared, target_l0=2, penalty="l0", unit_norm=False, threshold=1.0),
}
IN_A_TABLE = ("matryoshka", "transcoder")
"""What four processes train: two lines of rows, two shards of latents."""
CUT, CUT_AFTER = "topk", 5
"""After step 5 some rows are collected at which latents begin anew after step 6."""


def train(folder: Path, out: Path, name: str, shards: int | None = None) -> None:
    hooks = [A, B] if name == "crosscoder" else [A]
    output_hook = B if name == "transcoder" else None
    config = CONFIGS[name]
    if processes().count == 1:
        train_sae(opened(folder), hooks, config, out / name, output_hook=output_hook)
    else:
        train_sharded(opened(folder), hooks, config, out / name, shards=shards, output_hook=output_hook)


def kill_amid_a_checkpoint(patch: pytest.MonkeyPatch) -> None:
    """When the first process has written its own part of one; there is one after each step."""
    patch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)
    step, broadcast, seen = Learner.step, Processes.broadcast, list[int]()

    def counted(self, rows):
        seen.append(1)
        return step(self, rows)

    def killing(self, tensor, rank):
        if rank == 1 and len(seen) > CUT_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        return broadcast(self, tensor, rank)

    patch.setattr(Learner, "step", counted)
    patch.setattr(Processes, "broadcast", killing)


def refusals(folder: Path) -> list[str]:
    """Return the message for each impossible case."""

    class Mine(TopKConfig):
        pass

    said = []
    for config, shards in (
        (CONFIGS["topk"], 3),
        (CONFIGS["topk"], 0),
        (TopKConfig(**shared | {"d_sae": 49}, k=4), None),
        (MatchingPursuitConfig(**shared, k=4), None),
        (Mine(**shared, k=4), 2),
    ):
        with pytest.raises(ValueError) as refused:
            train_sharded(opened(folder), A, config, folder / "refused", shards=shards)
        said.append(str(refused.value))
    return said


MORE = """
import json, pytest, torch
from interp.runtime.processes import processes
from tests.sae.test_sharding import CONFIGS, CUT, IN_A_TABLE, Path, kill_amid_a_checkpoint, refusals, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, what = Path(sys.argv[1]), sys.argv[2]
    if what == "two":
        for name in CONFIGS:
            train(folder, folder / "two", name)
        train(folder, folder / "killed, then two", CUT)
        train(folder, folder / "one, then two", CUT)
        (folder / f"refusals of {processes().rank}.json").write_text(json.dumps(refusals(folder)))
    if what == "four":
        for name in IN_A_TABLE:
            train(folder, folder / "four", name, shards=2)
    if what == "killed":
        kill_amid_a_checkpoint(pytest.MonkeyPatch())
        train(folder, folder / what, CUT)
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharding")
    for name, rows in {"a": planted(), "b": planted(d=12, seed=3) * 3}.items():
        ActivationStore.from_batches(rows, folder / name, dtype="float32", rows_per_shard=700)
    (folder / "drawn again.json").write_text(json.dumps({name: train_alone(folder, name) for name in CONFIGS}))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, CUT_AFTER)
        patch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)
        train(folder, folder / "one, then two", CUT)
    assert launch(MORE, folder, "killed", folder=folder, check=False) == 128 + signal.SIGKILL
    assert checkpoints(folder / "killed") == [CUT_AFTER]
    work = unfinished_folder(folder / "killed" / CUT) / "new"
    assert (work / "checkpoint.safetensors.tmp").stat().st_size < (work / "checkpoint.safetensors").stat().st_size
    for then in ("killed, then one", "killed, then two"):
        shutil.copytree(folder / "killed", folder / then)
    train(folder, folder / "killed, then one", CUT)
    launch(MORE, folder, "two", folder=folder)
    launch(MORE, folder, "four", folder=folder, count=4)
    return folder


def train_alone(folder: Path, name: str) -> int:
    """By one process; how many latents were drawn again."""
    drawn, begin_again = list[int](), Learner._begin_again

    def counted(self, latents, new):
        drawn.append(len(latents))
        begin_again(self, latents, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "_begin_again", counted)
        train(folder, folder / "one", name)
    return sum(drawn)


def stop_after(patch: pytest.MonkeyPatch, done: int) -> None:
    step = Learner.step

    def stopping(self, rows):
        if self.steps_done == done:
            raise KeyboardInterrupt
        return step(self, rows)

    patch.setattr(Learner, "step", stopping)


def hold_to(one: Path, other: Path) -> None:
    """The same files, the weights to rounding, and the same metrics, each step once."""
    weights, expected = load_file(other / "sae_weights.safetensors"), load_file(one / "sae_weights.safetensors")
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        assert weights[name].shape == weight.shape
        # Rounding, which differs by processor: an entry at the threshold of a batch may fall to either side.
        assert (weights[name] - weight).norm() <= 1e-4 * weight.norm().clamp(min=1e-3), name
    assert (other / "cfg.json").read_text() == (one / "cfg.json").read_text()
    assert sorted(file.name for file in other.iterdir()) == sorted(file.name for file in one.iterdir())
    assert [row["step"] for row in steps(other)] == list(range(1, STEPS + 1))
    for row, theirs in zip(steps(one), steps(other), strict=True):
        assert row == pytest.approx(theirs, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_shards_train_what_one_process_does(folder, name):
    hold_to(folder / "one" / name, folder / "two" / name)
    assert load_sae(folder / "two" / name).config == CONFIGS[name]


def test_latents_died_and_were_drawn_again(folder):
    """Without this the tests above would say nothing of AuxK and resampling."""
    drawn = json.loads((folder / "drawn again.json").read_text())
    for name, config in CONFIGS.items():
        if config.dead_after is not None:
            assert max(row["dead"] for row in steps(folder / "one" / name)) > 0.02, name
        is_free = config.freeze == "nothing" and name != "transcoder"
        assert (drawn[name] > 0) == bool(config.resample_at and is_free), name


@pytest.mark.parametrize("name", IN_A_TABLE)
def test_lines_share_out_the_rows_of_shards(folder, name):
    hold_to(folder / "one" / name, folder / "four" / name)


@pytest.mark.parametrize("path", ["one, then two", "killed, then one"])
def test_sharded_training_resumes_with_another_number_of_processes(folder, path):
    hold_to(folder / "one" / CUT, folder / path / CUT)


def test_a_run_killed_during_a_checkpoint_resumes_to_the_same_bytes(folder):
    for name in ("sae_weights.safetensors", "cfg.json"):
        assert (folder / "killed, then two" / CUT / name).read_bytes() == (folder / "two" / CUT / name).read_bytes()


def test_what_cannot_be_sharded_is_refused_in_every_process(folder):
    told = [json.loads((folder / f"refusals of {rank}.json").read_text()) for rank in range(2)]
    assert told[0] == told[1]
    of_three, of_none, odd, pursuit, mine = told[0]
    assert of_three == ("shards=3 must divide the number of processes, 2: start them with torchrun --nproc-per-node 3")
    assert of_none.startswith("shards=0 must divide")
    assert odd == "d_sae=49 must be a multiple of shards=2"
    assert pursuit.startswith(
        "MatchingPursuitConfig cannot divide its latents among processes; ReLUConfig, GatedConfig, JumpReLUConfig, "
    )
    assert mine.startswith("Mine cannot divide its latents")
    assert not (folder / "refused").exists() and not unfinished_folder(folder / "refused").exists()


def test_an_architecture_says_for_itself_whether_it_can_be_sharded():
    class MineToo(MatchingPursuitConfig):
        shardable = True

    check_shards(MineToo(**shared, k=4), 2)
    assert not SAEConfig.shardable and not type("Further", (MineToo,), {}).shardable
    with pytest.raises(ValueError, match="MatchingPursuitConfig cannot divide"):
        check_shards(MatchingPursuitConfig(**shared, k=4), 2)


def test_each_process_has_its_part_of_the_training_state(folder):
    """Begun from the latents that one process begins with."""
    config, hooks = CONFIGS["gated"], HookScales(inputs=(opened(folder).statistics(A),))
    whole = Learner(config, hooks, torch.device("cpu")).state()[0]
    for rank in range(4):
        grid = ProcessGrid(Processes(rank, 4), Processes(), Processes(rank, 4))
        part = Learner(config, hooks, torch.device("cpu"), grid=grid).state()[0]
        own = slice(12 * rank, 12 * (rank + 1))
        assert part.keys() == whole.keys()
        for name, tensor in whole.items():
            if not name.endswith("b_dec") and not name.startswith("resample"):
                tensor = tensor[:, own] if name == "strongest" else tensor[own]
            assert torch.equal(part[name], tensor), name
        of_rows = training_bytes(config, 32, SINGLE_PROCESS_GRID) - 4 * 32 * 4 * config.d_sae
        assert training_bytes(config, 32, grid) - of_rows == (training_bytes(config, 32) - of_rows) / 4
