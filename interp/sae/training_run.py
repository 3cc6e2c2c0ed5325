"""One training of one config: its learner, its folder, and where else its metrics go.

    checkpoint.safetensors   all that the learner and the reader need to go on, until the training is finished
    metrics.jsonl            rows of step, tokens, loss, fvu, l0, dead, faint, lr, tokens_per_second
    results.json             means over the last rows, the config and the wall time, once it is finished

    log="tensorboard"        tensorboard/events.out.tfevents.…     look at it with: tensorboard --logdir FOLDER
    log="wandb"              wandb/…                               WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, … hold

A training that goes on gives its rows from the first one on, and each step stands once in what comes out: TensorBoard's
file is written anew, a run at Weights & Biases takes the steps that it lacks. A function of the user's may get those
after the last checkpoint twice. The first process writes, all read.
"""

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.architectures import SAEConfig, config_to_dict, renamed
from interp.sae.formats import CONFIG, WEIGHTS
from interp.sae.learner import Learner, StepResult
from interp.sae.model import SAE, load_sae
from interp.sae.site import Source, check_room
from interp.storage.files import as_json, digest, open_tensors, read_json, write_json, write_tensors, write_text
from interp.storage.folders import write_manifest
from interp.storage.processes import device_named

Row = dict[str, float]
Log = str | Callable[[Row], None] | None
OpenLog = tuple[Callable[[Row], None], Callable[[], object]]
"""Writes a row; closes."""
LOGGED_STEPS = 500
CHECKPOINT, RESULTS, METRICS = "checkpoint.safetensors", "results.json", "metrics.jsonl"
_ANEW = "begin anew with resume=False (--redo)"
_REMEDY = f"delete it, or {_ANEW}"
_WANDB_ID = "wandb-id.txt"
logger = logging.getLogger(__name__)


class TrainingRun:
    """`sae` is there once it is trained; before, `learner` is, where the checkpoint left it."""

    def __init__(self, source: Source, config: SAEConfig, folder: Path | None, log: Log, resume: bool):
        if not isinstance(config, SAEConfig):
            raise ValueError(f"config={config!r} must be a config, as TopKConfig(…), or several")
        self.config, self.folder, self.log, self.source = config, folder, log, source
        self.out = folder if source.processes.is_first else None
        self.key = {**source.key, **config_to_dict(config)}
        self.sae: SAE | None = None
        self.reader: dict[str, Any] = {}
        self.last: StepResult | None = None
        self._rows: list[Row] = []
        self._seconds = 0.0
        self._write: Callable[[Row], None] = lambda row: None
        self.open_log = ExitStack()
        device = device_named(config.device)
        source.processes.all_do(lambda: self._clear(resume))
        source.processes.all_do(lambda: self._take_over(device))

    def start(self) -> None:
        self.source.processes.all_do(self._open_log)
        self._started = self._logged = time.perf_counter()
        self._logged_step = self.learner.steps_done

    def step(self, batch: Float[Tensor, "batch d_in"]) -> None:
        self.last = self.learner.step(batch)
        done, steps = self.learner.steps_done, self.config.steps
        if not math.isfinite(self.last.loss):
            raise ValueError(f"the loss of step {done} is {self.last.loss}: lower lr={self.config.peak_lr:.3g}")
        if done % max(1, steps // LOGGED_STEPS) == 0 or done == steps:
            self._add_row(self.last)
        if done == steps:
            self._finish()

    def save_checkpoint(self, step: int, reader: dict[str, Any]) -> None:
        """Unless it waits: its last one stands further on than the reader does."""
        if self.out is None or self.sae is not None or self.learner.steps_done != step:
            return
        tensors, numbers = self.learner.state()
        state = {"config": self.key, "learner": numbers, "reader": reader, "rows": self._rows, "seconds": self._wall()}
        state["sha256"] = _sum_of(tensors)
        write_tensors(self.out / CHECKPOINT, tensors, {"state": json.dumps(state)})

    def _clear(self, resume: bool) -> None:
        """Remove what an earlier training left, unless there is something to go on from."""
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        if not resume or not any((self.out / name).exists() for name in (RESULTS, CHECKPOINT)):
            self._drop(CHECKPOINT, RESULTS, METRICS)

    def _take_over(self, device: torch.device) -> None:
        """A finished result, or a checkpoint. Another config's are refused."""
        if self.folder is not None and (results := self.folder / RESULTS).exists():
            self._check_config(read_json(results, _REMEDY).get("config") or {})
            self.sae = load_sae(self.folder, device=str(device))
            self._drop(CHECKPOINT)
            return
        if device.type == "cpu":
            check_room(self.config, self.source.site, self.source.processes.count)
        self.learner = Learner(self.config, self.source.site, device, processes=self.source.processes)
        if self.folder is None or not (checkpoint := self.folder / CHECKPOINT).exists():
            return
        with open_tensors(checkpoint, _REMEDY) as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            if state.get("sha256") != _sum_of(tensors):
                raise ValueError(f"{checkpoint} is altered: {_REMEDY}")
        self._check_config(state["config"])
        self.learner.load_state(tensors, state["learner"])
        self.reader, self._rows, self._seconds = state["reader"], state["rows"], state["seconds"]
        if self.out is not None:
            write_text(self.out / METRICS, "".join(json.dumps(row) + "\n" for row in self._rows))
        logger.info("going on at step %d of %d in %s", self.learner.steps_done, self.config.steps, self.folder)

    def _check_config(self, there: dict[str, Any]) -> None:
        mine, there = as_json(self.key), renamed(there)
        if there.get("store") != mine["store"]:
            raise ValueError(f"{self.folder} holds training on another store. Choose another folder, or {_ANEW}")
        names = [name for name in {**there, **mine} if there.get(name) != mine.get(name) and name != "device"]
        if names:
            differ = "; ".join(f"{name} is {there.get(name)!r}, not {mine.get(name)!r}" for name in names)
            raise ValueError(
                f"{self.folder} holds training of another config: {differ}. Choose another folder, or {_ANEW}"
            )

    def _open_log(self) -> None:
        """A function gets the new rows only."""
        if callable(log := self.log):
            if self.source.processes.is_first:
                self._write = lambda row: log(dict(row))
        elif log is not None and self.out is not None:
            opened = _tensorboard(self.out) if log == "tensorboard" else _wandb(self.out, self.key, bool(self._rows))
            self._write, close = opened
            self.open_log.callback(close)
            for row in self._rows:
                self._write(row)

    def _wall(self) -> float:
        return self._seconds + time.perf_counter() - self._started

    def _add_row(self, result: StepResult) -> None:
        now, done = time.perf_counter(), self.learner.steps_done
        speed = (done - self._logged_step) * self.config.batch_size / max(now - self._logged, 1e-9)
        self._logged, self._logged_step = now, done
        tokens = done * self.config.batch_size
        self._rows.append({"step": done, "tokens": tokens, **result._asdict(), "tokens_per_second": round(speed)})
        if self.out is not None:
            with (self.out / METRICS).open("a") as file:
                file.write(json.dumps(self._rows[-1]) + "\n")
        self._write(self._rows[-1])

    def _finish(self) -> None:
        self.open_log.close()
        if not all(weight.isfinite().all() for weight in self.learner.weights.values()):
            raise ValueError(f"the last step left weights that are not finite: lower lr={self.config.peak_lr:.3g}")
        self.sae = self.learner.sae(self.source.metadata)
        del self.learner
        if self.out is None:
            return
        self.sae.save(self.out, format=self.sae.preferred_format)
        write_manifest(self.out, {"kind": "dictionary"}, [CONFIG, WEIGHTS])
        ending = self._rows[-math.ceil(len(self._rows) / 20) :]
        results = {
            name: sum(row[name] for row in ending) / len(ending) for name in ("loss", "fvu", "l0", "dead", "faint")
        }
        results |= {"steps": self.config.steps, "tokens": self._rows[-1]["tokens"], "wall_seconds": self._wall()}
        write_json(self.out / RESULTS, {**results, "config": self.key})
        self._drop(CHECKPOINT)

    def _drop(self, *names: str) -> None:
        """Also a checkpoint that a kill left unfinished."""
        if self.out is not None:
            for name in (*names, f"{CHECKPOINT}.tmp"):
                (self.out / name).unlink(missing_ok=True)


def _sum_of(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names and values."""
    return digest(*(part for name in sorted(tensors) for part in (name, tensors[name])))


def _tensorboard(folder: Path) -> OpenLog:
    from torch.utils.tensorboard import SummaryWriter

    place = folder / "tensorboard"
    shutil.rmtree(place, ignore_errors=True)
    writer = SummaryWriter(str(place))

    def write(row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    return write, writer.close


def _wandb(folder: Path, config: dict[str, Any], going_on: bool) -> OpenLog:
    """The id is kept in the folder, so that a training that goes on is the same run there."""
    import wandb

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "interp"),
            name="/".join(folder.resolve().parts[-2:]),
            dir=folder,
            id=_wandb_id(folder, going_on),
            resume="allow",
            reinit="create_new",
            config=config,
        )
    except wandb.Error as error:
        raise ValueError(f"Weights & Biases took no run: {error} Or set WANDB_MODE=offline") from error
    first = run.step

    def write(row: Row) -> None:
        if row["step"] >= first:
            run.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    return write, run.finish


def _wandb_id(folder: Path, going_on: bool) -> str:
    """Runs of this training that were kept offline and never sent are dropped: the new one repeats their rows."""
    file = folder / _WANDB_ID
    there = file.read_text().strip() if file.exists() else None
    for unsent in (folder / "wandb").glob(f"offline-run-*-{there}") if there else ():
        if not list(unsent.glob("*.synced")):
            shutil.rmtree(unsent)
    if going_on and there:
        return there
    file.write_text(os.urandom(4).hex())
    return file.read_text()
