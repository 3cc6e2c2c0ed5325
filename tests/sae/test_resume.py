"""A training killed at any change of its folder and resumed leaves the same files as an undisturbed one.

A kill leaves what is on the disk, so the moments that differ are those before each call that changes the folder, and
those amid each write. One process imports all and forks for every training; the fork counts its moments, and ends
itself with SIGKILL at the fatal one. Where all moments are fatal in turn, one training leaves at each a copy of what is
on the disk then.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from interp.activations import ActivationStore, join_stores
from interp.runtime import threads
from interp.sae import (
    BatchTopKConfig,
    JumpReLUConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
    learner,
    train_sae,
    train_sweep,
    training,
)
from interp.sae.hook_scales import HookScales
from interp.sae.training_run import CHECKPOINT, METRICS, RESULTS
from interp.storage.folders import unfinished_folder
from interp.storage.manifests import MANIFEST
from tests.forked import run_python
from tests.trainings import CONFIGS, OCTOBER_2023, planted

A, B = "a/activations", "b/activations"
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate")
FILES = ("sae_weights.safetensors", "cfg.json", "manifest.json", "results.json")

shared = {"d_sae": 24, "tokens": 5 * 32, "batch_size": 32, "device": "cpu", "lr": 4e-3, "dead_after": 32}
BATCH = BatchTopKConfig(**shared, k=2)
TOPK = TopKConfig(**shared | {"tokens": 3 * 32}, k=2)
RESAMPLED = ReLUConfig(**OCTOBER_2023 | shared | {"tokens": 6 * 32, "resample_at": (0.8,)}, l1=0.5)
"""Rows are collected in steps 4 and 5, of which a checkpoint after step 4 holds some."""


class Job(NamedTuple):
    """What is trained."""

    hook: str | list[str]
    config: SAEConfig | list[SAEConfig]
    output_hook: str | None = None
    every: int = 2
    """Steps between checkpoints."""
    threads: int = 1

    def train(self, stores: Path, out: Path) -> None:
        """Train in a separate process. Threads divide all loops, including those too small to benefit."""
        both = join_stores({name: ActivationStore.open(stores / name) for name in ("a", "b")})
        torch.set_num_threads(self.threads)
        threads._MIN_WORK = 1
        training._CheckpointTimer.due = lambda clock: clock.steps % self.every == 0
        train = train_sae if isinstance(self.config, SAEConfig) else train_sweep
        train(both, self.hook, self.config, out, output_hook=self.output_hook)

    @property
    def members(self) -> tuple[str, ...]:
        """Where each config's files are."""
        return ("",) if isinstance(self.config, SAEConfig) else tuple(f"{i}/" for i in range(len(self.config)))

    @property
    def begun(self) -> tuple[str, ...]:
        """Where they are until they are whole, as `Moments` and `contents` name it."""
        return tuple(f"{member.removesuffix('/')}.unfinished/new/" for member in self.members)


NEVER = 10**9
JOBS = {
    "autoencoder": Job(A, BATCH),
    "sweep": Job(A, [RESAMPLED, TOPK]),
    "transcoder": Job(A, TopKConfig(**shared, k=2, skip=True), output_hook=B),
    "crosscoder": Job([A, B], JumpReLUConfig(**shared, target_l0=2, bandwidth=0.5)),
}
ALL = Job(A, list(CONFIGS.values()), every=4)
each_job = pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)


Fatal = tuple[str, int] | None
"""A moment's name, and its place among those of that name, from 1."""
HALF_A_LINE = b'{"step": 1, "tokens": 32, "lo'


class Moments:
    """The moments of a folder, by name; SIGKILL comes at the fatal one. Amid a write, half a line is written.
    copies: where to copy what is on the disk, at each moment under its number."""

    def __init__(self, folder: Path, fatal: Fatal, copies: Path | None):
        self.folder, self.fatal, self.copies, self.passed = str(folder), fatal, copies, list[str]()
        safetensors.torch.save_file = _announced(safetensors.torch.save_file)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES:
            return
        file = str(arguments[event == "os.rename"])
        if not file.startswith(self.folder) or (event == "os.remove" and not os.path.exists(file)):
            return
        name = f"{event} {file.removeprefix(self.folder).removeprefix('/')}"
        if event != "open":
            self._pass(name)
        elif arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self._pass(name)
            self._pass(name.replace("open", "amid"), file, arguments[2])

    def _pass(self, name: str, written: str = "", flags: int = 0) -> None:
        here, self.folder = self.folder, "\0"  # it hears nothing of what it does itself
        if self.fatal == (name, self.passed.count(name) + 1):
            if written:
                os.write(os.open(written, flags), HALF_A_LINE)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.copies is not None:
            copy = self.copies / str(len(self.passed))
            for folder in filter(Path.exists, (Path(here), unfinished_folder(here))):
                shutil.copytree(folder, f"{copy}{str(folder).removeprefix(here)}")
            if written:
                os.write(os.open(f"{copy}{written.removeprefix(here)}", flags, 0o666), HALF_A_LINE)
        self.folder = here
        self.passed.append(name)


def _announced(save_file: Callable[..., None]) -> Callable[..., None]:
    """Python does not hear of files that safetensors opens."""

    def announcing(tensors: dict[str, torch.Tensor], file: Path, *given: Any) -> None:
        sys.audit("open", str(file), "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        save_file(tensors, file, *given)

    return announcing


def fork(job: Job, stores: Path, out: Path, fatal: Fatal, copies: Path | None) -> tuple[int, str]:
    """Train in a fork: return its exit code, and as JSON the moments that it passed, or else its traceback."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            moments = Moments(out, fatal, copies)
            job.train(stores, out)
            told, code = json.dumps(moments.passed), 0
        except BaseException:
            told = traceback.format_exc()
        os.write(writing, told.encode())
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def warm_up(stores: Path, out: Path) -> None:
    """Forks find the compiled loops loaded."""
    for job in (Job(A, [replace(config, tokens=256) for config in CONFIGS.values()]), *JOBS.values()):
        job.train(stores, out)
        shutil.rmtree(out)


# A process that outlives the one that begins it, and forks for each training that it is asked for.
SERVER = """
import os, sys
from contextlib import suppress
from multiprocessing.connection import Listener
from pathlib import Path
from tests.sae.test_resume import fork, warm_up

listener = Listener(("127.0.0.1", 0))
print(listener.address[1], flush=True)
if os.fork():
    os._exit(0)
warm_up(*map(Path, sys.argv[1:]))
with listener.accept() as tests, suppress(EOFError):
    while True:
        tests.send(fork(*tests.recv()))
"""
Train = Callable[..., list[str] | None]


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stores")
    for name, seed, d in (("a", 0, 8), ("b", 3, 6)):
        ActivationStore.from_batches(planted(300, d, seed), root / name, dtype="float32", rows_per_shard=120)
    return root


@pytest.fixture(scope="module")
def train(stores, tmp_path_factory) -> Iterator[Train]:
    """Yield a function that returns the moments that a training passed, or None if it was killed."""
    port = int(run_python(SERVER, stores, tmp_path_factory.mktemp("warm"), check=True).stdout)
    with Client(("127.0.0.1", port)) as server:

        def ask(job: Job, out: Path, fatal: Fatal = None, copies: Path | None = None) -> list[str] | None:
            server.send((job, stores, out, fatal, copies))
            code, told = server.recv()
            assert code in (0, -signal.SIGKILL), told
            return None if code else json.loads(told)

        yield ask


def contents(folder: Path) -> dict[str, Any]:
    """Return each file, including unfinished ones, without the clock's readings."""
    files = sorted(file for each in (folder, unfinished_folder(folder)) for file in each.rglob("*") if file.is_file())
    return {str(file).removeprefix(str(folder)).removeprefix("/"): _content(file) for file in files}


def _content(file: Path) -> Any:
    if file.name == "metrics.jsonl":
        return [_timeless(json.loads(line)) for line in file.read_text().splitlines()]
    if file.name == "results.json":
        return _timeless(json.loads(file.read_text()))
    if file.name == MANIFEST:
        manifest = json.loads(file.read_text())
        sums = {name: entry for name, entry in manifest["files"].items() if name not in (METRICS, RESULTS)}
        return manifest["made_of"], sums, sorted(manifest["files"])
    if file.name != CHECKPOINT:
        return file.read_bytes()
    with safe_open(str(file), "pt") as opened:
        state = _timeless(json.loads(opened.metadata()["state"]))
        state["rows"] = [_timeless(row) for row in state["rows"]]
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    return state, {name: (tensor.shape, tensor.dtype, tensor.numpy().tobytes()) for name, tensor in tensors.items()}


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in ("tokens_per_second", "wall_seconds", "seconds")}


def test_killed_at_any_moment_and_resumed_nothing_differs(train, tmp_path):
    """The resumed one makes no further checkpoint that would hide what is left of an older one."""
    job = JOBS["autoencoder"]
    [begun] = job.begun
    moments = train(job, tmp_path / "whole", copies=tmp_path)
    names = [f"os.rename {begun}{name}" for name in (CHECKPOINT, *FILES)]
    names += [f"amid {begun}metrics.jsonl", f"os.remove {begun}{CHECKPOINT}", "os.rename "]
    assert set(names) <= set(moments)
    whole = contents(tmp_path / "whole")
    assert sorted(whole) == sorted([*FILES, "metrics.jsonl"])
    for n, moment in enumerate(moments):
        train(job._replace(every=NEVER), tmp_path / str(n))
        assert contents(tmp_path / str(n)) == whole, moment


def test_killed_once_more_while_it_resumes_nothing_differs(train, tmp_path):
    """The first kill left half a line in a log that is ahead of its checkpoint. The moments of a sweep of two come in
    pairs."""
    job, rename = JOBS["sweep"], f"os.rename {{}}.unfinished/new/{CHECKPOINT}"
    train(job, tmp_path / "whole")
    assert train(job, tmp_path / "cut", ("amid 0.unfinished/new/metrics.jsonl", 3)) is None
    resumed = train(job, tmp_path / "cut", copies=tmp_path)
    for n in range(resumed.index(rename.format(0)), -1, -2):
        train(job, tmp_path / str(n))
        assert contents(tmp_path / str(n)) == contents(tmp_path / "whole"), resumed[n]


@each_job
def test_resumed_training_equals_an_uninterrupted_one(job, train, tmp_path):
    """The last checkpoints are compared: all that the optimizer, the architecture and the reader remember."""
    job = job._replace(threads=2)
    train(job, tmp_path / "whole")
    last = (f"open {job.begun[0]}{FILES[0]}.tmp", 1)
    assert train(job, tmp_path / "uncut", last) is None
    assert train(job, tmp_path / "cut", (f"amid {job.begun[-1]}metrics.jsonl", 3)) is None
    assert train(job, tmp_path / "cut", last) is None
    assert f"{job.begun[0]}{CHECKPOINT}" in contents(tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "uncut")
    train(job, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_every_kind_killed_twice_equals_itself_trained_alone(train, tmp_path):
    """First while rows are collected at which dead latents begin anew, then while the target of L0 moves.

    Each time some kinds have a later checkpoint than others.
    """
    assert train(ALL, tmp_path / "cut", (f"os.rename 7.unfinished/new/{CHECKPOINT}", 2)) is None
    assert steps_saved(tmp_path / "cut") == [8] * 7 + [4] * 3
    assert train(ALL, tmp_path / "cut", (f"os.rename 9.unfinished/new/{CHECKPOINT}", 4)) is None
    assert steps_saved(tmp_path / "cut") == [20] * 9 + [16]
    train(ALL, tmp_path / "cut")
    for i, (name, config) in enumerate(CONFIGS.items()):
        train(Job(A, config, every=NEVER), tmp_path / "alone" / str(i))
        assert contents(tmp_path / "cut" / str(i)) == contents(tmp_path / "alone" / str(i)), name


def steps_saved(folder: Path) -> list[int]:
    found = contents(folder)
    return [found[f"{begun}{CHECKPOINT}"][0]["learner"]["steps_done"] for begun in ALL.begun]


def test_sweep_resumes_a_single_unfinished_member(train, tmp_path):
    """It was a checkpoint ahead of them; those that the others made meanwhile are none for it."""
    sweep, alone = Job(A, [BATCH, RESAMPLED], every=4), Job(A, BATCH, every=NEVER)
    train(alone, tmp_path / "whole")
    first = (f"os.rename 1.unfinished/new/{CHECKPOINT}", 1)
    assert train(sweep, tmp_path / "cut", first) is None
    assert train(sweep._replace(every=1), tmp_path / "cut", first) is None
    train(alone, tmp_path / "cut" / "0")
    assert contents(tmp_path / "cut" / "0") == contents(tmp_path / "whole")


def test_a_learner_takes_its_state_to_its_device(stores, monkeypatch):
    """A checkpoint is read on the CPU. The device `meta` has shapes alone."""
    site = HookScales(inputs=(ActivationStore.open(stores / "a").statistics("activations"),))
    first = learner.Learner(RESAMPLED, site, torch.device("cpu"))
    for seed in range(4):
        first.step(planted(32, 8, seed))
    tensors, numbers = first.state()
    assert len(tensors["resample.rows"]) > 0
    monkeypatch.setattr(learner, "initial_weights", lambda *_: {n: w.to("meta") for n, w in first.weights.items()})
    second = learner.Learner(RESAMPLED, site, torch.device("meta"))
    second.load_state(tensors, numbers)
    assert {name: tensor.device.type for name, tensor in second.state()[0].items()} == dict.fromkeys(tensors, "meta")
