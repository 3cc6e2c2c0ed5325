"""One training of one config: its learner, and the files from which it resumes.

    checkpoint.safetensors   the state of the learner and the reader, until the training is finished
    metrics.jsonl            rows of step, tokens, loss, fvu, l0, dead, faint, lr, tokens_per_second
    results.json             means over the last rows, the config and the wall time, once it is finished

An interrupted run resumes from its last checkpoint: the weights are identical to those of an uninterrupted run, and
metrics.jsonl has each step once. Of several processes, the first one writes, all read.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.hooks import as_hook_names
from interp.checks.errors import DamagedError, InterpError
from interp.checks.free_memory import check_memory
from interp.runtime.devices import device_named
from interp.runtime.processes import SINGLE_PROCESS_GRID, ProcessGrid
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.formats.dictionary_files import encode_files
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner, StepResult
from interp.sae.metric_logs import Log, Row, open_log
from interp.sae.model import SAE, load_sae
from interp.sae.sharding import read_shard, whole_dictionary, write_shards
from interp.sae.training_rows import TrainingRows
from interp.storage.files import digest, open_tensors, read_json, write_json, write_tensors, write_text

LOGGED_STEPS = 500
"""Rows of metrics.jsonl, about."""
CHECKPOINT = "checkpoint.safetensors"
RESULTS = "results.json"
METRICS = "metrics.jsonl"
_REMEDY = "delete its folder to train again from the first step"
log = logging.getLogger(__name__)


class Job(NamedTuple):
    """A dictionary to be trained, with the arguments that `train_sae` was given."""

    hook: str | Sequence[str]
    output_hook: str | Sequence[str] | None
    config: SAEConfig
    out: str | Path | None
    log: Log

    @property
    def hooks(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The hook that it reads, or those of a crosscoder; and the hooks that a transcoder writes."""
        return as_hook_names(self.hook), as_hook_names(self.output_hook) if self.output_hook else ()

    @property
    def folder(self) -> Path | None:
        return None if self.out is None else Path(self.out).expanduser()


class TrainingRun:
    """One training of one config: its learner, its folder and its log. `load` comes first.

    Before it is trained it has a `learner`, afterwards a `sae`, unless its latents are sharded.
    """

    def __init__(
        self,
        source: TrainingRows,
        job: Job,
        key: dict[str, Any],
        working_folder: Path | None,
    ):
        self.source = source
        self.config = job.config
        self.key = key
        self.log = job.log
        self.working_folder = working_folder
        self.writes_to = working_folder if source.grid.world.is_first else None
        self.final_folder = job.folder
        self.shards = source.grid.shards
        self._learner: Learner | None = None
        self.sae: SAE | None = None
        self.reader_state: dict[str, Any] = {}
        """The state of the batches at its checkpoint."""
        self.last: StepResult | None = None
        self._rows: list[Row] = []
        self._seconds = 0.0
        self._write: Callable[[Row], None] = lambda row: None
        self.open_log = ExitStack()

    @property
    def is_trained(self) -> bool:
        return self._learner is None

    @property
    def learner(self) -> Learner:
        assert self._learner is not None, "the training is finished"
        return self._learner

    def load(self) -> None:
        """Read a finished result, or make the learner, in the state of the checkpoint if there is one."""
        device = device_named(self.config.device)
        self.source.grid.world.all_do(lambda: self._load(device))

    def _load(self, device: torch.device) -> None:
        if self.working_folder is not None and (self.working_folder / RESULTS).exists():
            read_results(self.working_folder)
            if self.shards.count == 1:
                self.sae = load_sae(self.working_folder)  # on the CPU, as a dictionary is that was trained now
            self._delete(CHECKPOINT)
            return
        if device.type == "cpu":
            _check_training_memory(self.config, self.source.hook_scales, self.source.grid)
        self._learner = Learner(self.config, self.source.hook_scales, device, grid=self.source.grid)
        if self.working_folder is None or not (checkpoint := self.working_folder / CHECKPOINT).exists():
            self._delete(METRICS)
            return
        with open_tensors(checkpoint, _REMEDY) as file:
            state = json.loads(file.metadata()["state"])
            tensors = dict(read_shard(file, self.shards.rank, self.shards.count))
            writers = len(state["sha256"])  # if the number of processes differs, the first one checks all parts
            parts = (
                [self.shards.rank] if writers == self.shards.count else range(writers if self.shards.is_first else 0)
            )
            for i in parts:
                part = tensors.items() if writers == self.shards.count else read_shard(file, i, writers)
                if state["sha256"][i] != _digest_of(part):
                    raise DamagedError(f"{checkpoint} is altered: {_REMEDY}")
        if missing := self.learner.state()[0].keys() - tensors.keys():
            raise InterpError(f"{checkpoint} lacks {min(missing)}, which the architecture has now: {_REMEDY}")
        self.learner.load_state(tensors, state["learner"])
        self.reader_state = state["reader"]
        self._rows = state["rows"]
        self._seconds = state["seconds"]
        if self.writes_to is not None:
            write_text(self.writes_to / METRICS, "".join(json.dumps(row) + "\n" for row in self._rows))
        log.info("resuming at step %d of %d in %s", self.learner.steps_done, self.config.steps, self.working_folder)

    def start(self) -> None:
        self.source.grid.world.all_do(self._open_log)
        self._started = time.perf_counter()
        self._logged = self._started
        self._logged_step = self.learner.steps_done

    def _open_log(self) -> None:
        """Open the logs. A function gets the new rows only."""
        if callable(log := self.log):
            if self.source.grid.world.is_first:
                self._write = lambda row: log(dict(row))
        elif log is not None and self.writes_to is not None and self.final_folder is not None:
            name = "/".join(self.final_folder.resolve().parts[-2:])
            self._write, close = open_log(log, self.writes_to, name, self.key, bool(self._rows))
            self.open_log.callback(close)
            for row in self._rows:
                self._write(row)

    def step(self, batch: Float[Tensor, "batch d_in"]) -> None:
        self.last = self.learner.step(batch)
        done, steps = self.learner.steps_done, self.config.steps
        if not math.isfinite(self.last.loss):
            raise InterpError(f"the loss of step {done} is {self.last.loss}: lower lr={self.config.peak_lr:.3g}")
        if self.last.loss < 0:
            raise InterpError(
                f"the loss of step {done} is {self.last.loss:.3g}, below 0, but training follows the gradient of its "
                f"logarithm: leave out of {type(self.config).__name__}.loss what does not depend on the weights"
            )
        if done % max(1, steps // LOGGED_STEPS) == 0 or done == steps:
            self._add_row(self.last)
        if done == steps:
            self._finish()

    def _add_row(self, result: StepResult) -> None:
        now = time.perf_counter()
        done = self.learner.steps_done
        speed = (done - self._logged_step) * self.config.batch_size / max(now - self._logged, 1e-9)
        self._logged, self._logged_step = now, done
        tokens = done * self.config.batch_size
        self._rows.append({"step": done, "tokens": tokens, **result._asdict(), "tokens_per_second": round(speed)})
        if self.writes_to is not None:
            with (self.writes_to / METRICS).open("a") as file:
                file.write(json.dumps(self._rows[-1]) + "\n")
        self._write(self._rows[-1])

    def _finish(self) -> None:
        self.open_log.close()
        self.source.grid.world.all_do(self._check_weights)
        sae = self.learner.sae(self.source.metadata)
        self._learner = None
        if self.shards.count == 1:
            self.sae = sae
        if self.working_folder is not None and self.source.grid.data.is_first:
            self._write_files(sae.stored(), self.working_folder)
        if self.writes_to is None:
            return
        ending = self._rows[-math.ceil(len(self._rows) / 20) :]
        means = {
            name: sum(row[name] for row in ending) / len(ending) for name in ("loss", "fvu", "l0", "dead", "faint")
        }
        results = {
            **means,
            "steps": self.config.steps,
            "tokens": self._rows[-1]["tokens"],
            "wall_seconds": self._wall_seconds(),
            "config": self.key,
        }
        write_json(self.writes_to / RESULTS, results)
        self._delete(CHECKPOINT)

    def _check_weights(self) -> None:
        if not all(weight.isfinite().all() for weight in self.learner.weights.values()):
            raise InterpError(f"the last step left weights that are not finite: lower lr={self.config.peak_lr:.3g}")

    def _write_files(self, part: StoredDictionary, folder: Path) -> None:
        """Write the whole dictionary; each shard has a part of it."""
        if self.shards.count == 1:
            encode_files(part, part.preferred_format).write(folder)
            return
        stored = whole_dictionary(part, self.shards)
        files = encode_files(stored, stored.preferred_format)
        matrices = {"W_enc": part.W_enc, "W_dec": part.W_dec}

        def write(pieces: Mapping[str, Any]) -> None:
            files._replace(tensors={**files.tensors, **pieces}).write(folder)

        write_shards(write, matrices, self.shards)

    def save_checkpoint(self, step: int, reader: dict[str, Any]) -> None:
        """Save the state from which the run resumes; a run that waits for others already has a later checkpoint."""
        if self.working_folder is None or not self.source.grid.data.is_first:
            return
        if self.is_trained or self.learner.steps_done != step:
            return
        checkpoint = self.working_folder / CHECKPOINT
        tensors, numbers = self.learner.state()
        state = {
            "learner": numbers,
            "reader": reader,
            "rows": self._rows,
            "seconds": self._wall_seconds(),
        }
        state["sha256"] = self.shards.all_gather_values(_digest_of(sorted(tensors.items())))
        metadata = {"state": json.dumps(state)}
        write_shards(lambda parts: write_tensors(checkpoint, parts, metadata), tensors, self.shards)

    def _delete(self, name: str) -> None:
        """Delete a file, and the partial successor that a kill may have left."""
        if self.writes_to is not None:
            for file in (name, f"{name}.tmp"):
                (self.writes_to / file).unlink(missing_ok=True)

    def _wall_seconds(self) -> float:
        return self._seconds + time.perf_counter() - self._started


def read_results(folder: Path) -> dict[str, Any]:
    """Return the content of a finished training's `results.json`. Raises DamagedError if it is not a JSON object."""
    return read_json(folder / RESULTS, _REMEDY)


def _check_training_memory(config: SAEConfig, hook_scales: HookScales, grid: ProcessGrid) -> None:
    """Check that the memory suffices. Raises TooLargeError if training needs more than is free."""
    width = hook_scales.d_in + hook_scales.d_out
    needed = training_bytes(config, width, grid)
    purpose = f"d_sae={config.d_sae} on {width} numbers a row, batch_size={config.batch_size},"
    check_memory(needed, purpose, "lower d_sae or batch_size")


def training_bytes(config: SAEConfig, width: int, grid: ProcessGrid = SINGLE_PROCESS_GRID) -> int:
    """Return the bytes of memory that training takes per process: weights, gradients, Adam's moments, a batch and its
    intermediate results.
    width: d_in + d_out."""
    return 4 * width * (4 * config.d_sae // grid.shards.count + 2 * config.batch_size // grid.data.count)


def _digest_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of names and values, one after the other."""
    return digest(*(digest(name, tensor) for name, tensor in tensors))
