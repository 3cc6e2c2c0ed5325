"""Metrics sent elsewhere than metrics.jsonl: each row once, also after an interruption; clear refusals."""

import importlib.machinery
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from interp.activations import ActivationStore
from interp.sae import TopKConfig, train_sae, train_sweep
from interp.sae.learner import Learner
from interp.storage.folders import unfinished_folder

HOOK = "activations"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    rows = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    return ActivationStore.from_batches(rows, tmp_path_factory.mktemp("store"), dtype="float32")


def topk(**changes) -> TopKConfig:
    return TopKConfig(**{"d_sae": 16, "k": 2, "tokens": 2000, "batch_size": 100, "device": "cpu", **changes})


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Cut(Exception):
    pass


def cut_and_go_on(store, out, monkeypatch, log) -> None:
    """The checkpoint is of step 8, the cut comes after step 12, of 20."""
    step = Learner.step

    def cut(self, rows):
        if self.steps_done == 12:
            raise Cut
        return step(self, rows)

    due = iter([False] * 7 + [True] + [False] * 99)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", cut)
        patch.setattr("interp.sae.training._CheckpointTimer.due", lambda self: next(due))
        with pytest.raises(Cut):
            train_sae(store, HOOK, topk(), out, log=log)
    assert len(metrics(unfinished_folder(out) / "new")) == 12
    train_sae(store, HOOK, topk(), out, log=log)


def test_a_function_gets_the_rows_of_the_file(store, tmp_path):
    rows: list[dict] = []
    train_sae(store, HOOK, topk(), tmp_path, log=rows.append)
    assert rows == metrics(tmp_path) and len(rows) == 20
    rows.clear()
    train_sae(store, HOOK, topk(), log=rows.append)
    assert [row["step"] for row in rows] == list(range(1, 21))


def test_log_rows_of_a_sweep_name_their_run(store, tmp_path):
    rows: list[dict] = []
    train_sweep(store, HOOK, [topk(), topk(k=3)], tmp_path, log=rows.append)
    for i in (0, 1):
        mine = [{k: v for k, v in row.items() if k != "run"} for row in rows if row["run"] == i]
        assert mine == metrics(tmp_path / str(i))


def test_tensorboard_has_each_step_once_after_an_interruption(store, tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cut_and_go_on(store, tmp_path, monkeypatch, "tensorboard")
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(metrics(tmp_path)[0]) - {"step"}
    scalars = [(event.step, event.value) for event in read.Scalars("fvu")]
    assert scalars == [(row["step"], pytest.approx(row["fvu"])) for row in metrics(tmp_path)]


class Server(types.ModuleType):
    """What Weights & Biases keeps of each run: rows by step, the newest step where a run goes on."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.runs: dict[str, list[int]] = {}
        self.asked: list[dict] = []

    def init(self, **asked):
        self.asked.append(asked)
        steps = self.runs.setdefault(asked["id"], [])
        log = lambda values, step: steps.append(step)  # noqa: E731
        return types.SimpleNamespace(step=max(steps, default=-1) + 1, log=log, finish=lambda: None)


def test_wandb_resumes_the_same_run_without_missing_steps(store, tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)
    cut_and_go_on(store, tmp_path, monkeypatch, "wandb")
    assert list(server.runs.values()) == [list(range(1, 21))]
    assert server.asked[0]["dir"] == unfinished_folder(tmp_path) / "new" and server.asked[0]["config"]["k"] == 2
    train_sae(store, HOOK, topk(), tmp_path, log="wandb", overwrite=True)
    assert len(server.runs) == 2


def test_a_run_kept_offline_is_not_kept_twice(store, tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)
    init = server.init

    def offline(**asked):
        server.runs.clear()
        (asked["dir"] / f"wandb/offline-run-{len(server.asked)}-{asked['id']}").mkdir(parents=True)
        return init(**asked)

    monkeypatch.setattr(server, "init", offline)
    cut_and_go_on(store, tmp_path, monkeypatch, "wandb")
    assert list(server.runs.values()) == [list(range(1, 21))]
    assert [folder.name[:13] for folder in (tmp_path / "wandb").iterdir()] == ["offline-run-1"]


def test_logs_that_cannot_be_are_refused_before_training(store, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="log='wanddb' must be 'tensorboard', 'wandb'"):
        train_sae(store, HOOK, topk(), tmp_path / "run", log="wanddb")
    with pytest.raises(ValueError, match="name a folder with out="):
        train_sae(store, HOOK, topk(), log="tensorboard")
    monkeypatch.setattr("interp.sae.metric_logs.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed: pip install tensorboard"):
        train_sae(store, HOOK, topk(), tmp_path / "run", log="tensorboard")
    assert not (tmp_path / "run").exists()


def test_a_refusal_of_wandb_is_one_line(store, tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)

    def refuse(**asked):
        raise server.Error("No API key configured.")

    monkeypatch.setattr(server, "init", refuse)
    with pytest.raises(ValueError, match="No API key configured. Or set WANDB_MODE=offline"):
        train_sae(store, HOOK, topk(), tmp_path, log="wandb")
