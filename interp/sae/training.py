"""Train a dictionary from a store, hooks and a config, in a folder from which an interrupted training resumes.

    checkpoint.safetensors   the state of the learner and the reader, until the training is finished
    metrics.jsonl            rows of step, tokens, loss, fvu, l0, dead, faint, lr, tokens_per_second
    results.json             means over the last rows, the config and the wall time, once it is finished

`train_sae`, `train_sweep`, `train_saes` and `train_sharded` open the rows of each dictionary and one `TrainingRun` per
config. `_train_together` reads batch after batch and gives each run that needs it the columns of its hooks. A run gives
them to its learner, logs, saves and finishes.

A sweep takes one pass over the data for each batch size and seed among its configs, and `train_saes` one for all of its
hooks; each result is the one that training it alone gives. While a run is under way its folder is `OUT.unfinished/new`.
An interrupted run resumes from its last checkpoint: the weights are identical to those of an uninterrupted run, and
metrics.jsonl has each step once.
Under `torchrun` each process takes its part of each batch; the first one writes, all read. `train_sharded` divides the
latents as well (`learner`, `sharding`); it writes the same files as one process, checkpoints included.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationSource
from interp.activations.hooks import Model, as_hook_names
from interp.activations.model_passes import TokenBatches, concatenate_tokens
from interp.activations.stream import ActivationStream
from interp.checks.errors import DamagedError, InterpError
from interp.checks.free_memory import check_memory
from interp.runtime.devices import device_named
from interp.runtime.options import takes_options
from interp.runtime.processes import MESH_OF_ONE, Mesh, Processes, processes
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.runtime.threads import torch_on_one_thread
from interp.sae import formats
from interp.sae.architectures.sae_config import SAEConfig, config_to_dict
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner, StepResult
from interp.sae.metric_logs import Log, Row, check_log, open_log
from interp.sae.model import SAE, load_sae
from interp.sae.sharding import check_shards, read_shard, whole_dictionary, write_shards
from interp.sae.stored_dictionary import StoredDictionary
from interp.sae.training_rows import TrainingRows
from interp.storage.files import digest, open_tensors, read_json, write_json, write_tensors, write_text
from interp.storage.remote_folders import local_path

LOGGED_STEPS = 500
CHECKPOINT, RESULTS, METRICS = "checkpoint.safetensors", "results.json", "metrics.jsonl"
_REMEDY = "delete its folder to train again from the first step"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    tokens: TokenBatches | None = None
    """Needed if `store` is a model: the tokens that it runs on, or a generator of batches [seq, pos]. Only as many
    batches are read as the training needs."""
    harvesting: Mapping[str, Any] | None = None
    """Options of `harvest`, and `buffer_bytes` (`interp.activations.stream.ActivationStream`)."""
    overwrite: bool = False
    """Train again, replacing any other dictionary. An interrupted training with this config still resumes, which ends
    at the same weights as one from the first step."""
    resume: bool = True
    """False is the same as overwrite=True."""
    progress: Progress = no_progress
    """Called with (steps done, all steps, note)."""
    checkpoint_seconds: float = 30.0
    """Seconds of training between checkpoints."""
    log: Log = None
    """Also send the rows of metrics.jsonl to "tensorboard" or "wandb" (into `out`), or to a function of a row."""


class TrainingKeywords(TypedDict, total=False):
    """The keywords of `TrainingOptions`."""

    tokens: TokenBatches | None
    harvesting: Mapping[str, Any] | None
    overwrite: bool
    resume: bool
    progress: Progress
    checkpoint_seconds: float
    log: Log


@overload
def train_sae(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    **keywords: Unpack[TrainingKeywords],
) -> SAE: ...


@overload
def train_sae(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    config: Sequence[SAEConfig],
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    **keywords: Unpack[TrainingKeywords],
) -> list[SAE]: ...


@shows_progress
@takes_options(TrainingOptions)
def train_sae(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    config: SAEConfig | Sequence[SAEConfig],
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    **keywords: Unpack[TrainingKeywords],
) -> SAE | list[SAE]:
    """Train a dictionary on the rows of `hook`; without `out` no files are written. A list of configs is trained by
    `train_sweep`.

    output_hook: the hook that a transcoder writes, or several side by side.

    Raises ValueError for an empty store, a missing hook, a batch that is not finite (with its rows), and a loss that is
    not finite; DamagedError if `out` is damaged; OverwriteError if it contains a training with another config or store
    (with the differences); and TooLargeError if the memory does not suffice.
    """
    if isinstance(config, Sequence):
        return train_sweep(store, hook, config, out, output_hook=output_hook, **keywords)
    [sae] = _train(
        store, [(hook, output_hook)], [config], [None if out is None else Path(out)], TrainingOptions(**keywords)
    )
    return sae


@shows_progress
@takes_options(TrainingOptions)
def train_sweep(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    configs: Sequence[SAEConfig],
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    **keywords: Unpack[TrainingKeywords],
) -> list[SAE]:
    """Train a dictionary for each config, in one pass over the data, with the files in `out/0`, `out/1`, … Each is the
    one that `train_sae` trains with its config; the errors are those of `train_sae`.

    If `log` is a function, each row has the index of its config under `run`.
    """
    folders = [None if out is None else Path(out, str(i)) for i in range(len(configs))]
    return _train(store, [(hook, output_hook)], configs, folders, TrainingOptions(**keywords), number_rows=True)


@shows_progress
@takes_options(TrainingOptions)
def train_saes(
    store: ActivationSource | Model,
    hooks: Mapping[str | Path, Sequence[str]],
    config: SAEConfig,
    **keywords: Unpack[TrainingKeywords],
) -> list[SAE]:
    """Train a dictionary at each of several hooks, in one pass over the data.

    hooks: the folder of each dictionary, with the hook that it reads and, for a transcoder, the hook that it writes.

    If `store` is a model, it runs once on each chunk of the text for all hooks, and only the activations of that chunk
    are kept (`interp.activations.stream`). A batch of all hooks is held in float32. Each dictionary is the one that
    `train_sae` trains on the same source. Errors are those of `train_sae`. If `log` is a function, each row
    has the index of its dictionary under `run`.
    """
    if not hooks or any(not 1 <= len(pair) <= 2 or isinstance(pair, str) for pair in hooks.values()):
        raise InterpError(f"hooks={dict(hooks)!r} must give each folder the hook to read and, if any, the one to write")
    pairs: Any = [(reads, *writes, None)[:2] for reads, *writes in hooks.values()]
    return _train(store, pairs, [config], list(map(Path, hooks)), TrainingOptions(**keywords), number_rows=True)


@shows_progress
@takes_options(TrainingOptions)
def train_sharded(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path,
    *,
    shards: int | None = None,
    output_hook: str | Sequence[str] | None = None,
    **keywords: Unpack[TrainingKeywords],
) -> Path:
    """Train a dictionary that does not fit on one device: as `train_sae`, with its latents sharded over the processes
    of `torchrun`. Returns its folder, which `load_sae` reads as one dictionary, the same that one process would train.

    shards: processes that each have d_sae / shards latents, their weights, gradients and optimizer; by default all
    processes. With a multiple of `shards` processes, each group of that size takes a part of every batch.

    An interrupted training resumes with any number of shards and processes. Raises ValueError as `train_sae` does, for
    an architecture that cannot be trained in shards (`SAEConfig.shardable`), and if `shards` does not divide d_sae or
    the number of processes.
    """
    team = processes()
    mesh = Mesh.of(team, team.count if shards is None else shards)
    check_shards(config, mesh.shards.count)
    _train(store, [(hook, output_hook)], [config], [Path(out)], TrainingOptions(**keywords), mesh=mesh)
    return Path(out)


def read_results(folder: Path) -> dict[str, Any]:
    """Return the content of a finished training's `results.json`. Raises DamagedError if it is not a JSON object."""
    return read_json(folder / RESULTS, _REMEDY)


def _train(
    store: ActivationSource | Model,
    hooks: Sequence[tuple[str | Sequence[str], str | Sequence[str] | None]],
    configs: Sequence[SAEConfig],
    folders: Sequence[Path | None],
    options: TrainingOptions,
    *,
    mesh: Mesh | None = None,
    number_rows: bool = False,
) -> list[SAE]:
    """Train a dictionary in each folder: at each of the hooks (what it reads, what it writes), with each config.
    number_rows: a log function gets the index of the dictionary with each row."""
    if not configs or not all(isinstance(config, SAEConfig) for config in configs):
        raise InterpError(f"config={configs!r} must be a config, as TopKConfig(…), or several")
    for folder in folders:
        check_log(options.log, folder)
    clock = _Clock(options.checkpoint_seconds, options.progress)
    if not isinstance(store, ActivationSource):
        store = _stream(store, hooks, configs, options, clock)
    elif options.tokens is not None or options.harvesting:
        raise InterpError("tokens= and harvesting= need a model; a store has its rows already")
    mesh = mesh or Mesh.of(processes())
    sources = [TrainingRows(store, read, written, mesh) for read, written in hooks]
    each = [(source, config) for source in sources for config in configs]
    with ExitStack() as opened:
        runs = []
        for i, ((source, config), folder) in enumerate(zip(each, folders, strict=True)):
            own_log = _with_run_number(options.log, i) if number_rows else options.log
            runs.append(_begin(opened, source, config, folder, replace(options, log=own_log)))
        return _train_all(sources, runs, clock)


def _stream(
    model: Model,
    hooks: Sequence[tuple[str | Sequence[str], str | Sequence[str] | None]],
    configs: Sequence[SAEConfig],
    options: TrainingOptions,
    clock: "_Clock",
) -> ActivationStream:
    """Return the rows of the model at all hooks, from as many tokens as the longest training needs."""
    if options.tokens is None:
        raise InterpError("to train on a model without a store, give tokens=; or give a store")
    names = [name for pair in hooks for side in pair if side for name in as_hook_names(side)]
    tokens = concatenate_tokens(options.tokens, max(config.tokens for config in configs))
    return ActivationStream(model, tokens, names, progress=clock.model_runs, **(options.harvesting or {}))


def _begin(
    opened: ExitStack, source: TrainingRows, config: SAEConfig, out: Path | None, options: TrainingOptions
) -> "TrainingRun":
    """Return the training of one config: finished if `out` contains it, else with its folder, which `opened`
    completes."""
    overwrite = options.overwrite or not options.resume
    key = {**source.key, **config_to_dict(config)}
    folder = None
    if out is not None:
        made_of = {"kind": "dictionary", **key}
        del made_of["device"]
        if not overwrite and source.mesh.whole.recover_finished(out, made_of):
            folder = local_path(out)
        else:
            new = source.mesh.whole.whole_folder(out, made_of, resumes=True, overwrite=overwrite)
            folder = opened.enter_context(new)
    run = TrainingRun(source, config, key, folder, out, options.log)
    run.load()
    return run


def _with_run_number(log: Log, run: int) -> Log:
    return (lambda row: log({"run": run, **row})) if callable(log) else log


def _train_all(sources: Sequence[TrainingRows], runs: Sequence["TrainingRun"], clock: "_Clock") -> list[SAE]:
    """Train the runs that are not trained yet, those with the same batches together, and return all dictionaries."""
    groups: dict[tuple[int, int], list[TrainingRun]] = {}
    for run in runs:
        if not run.is_trained:
            groups.setdefault((run.config.batch_size, run.config.seed), []).append(run)
    clock.total = sum(max(run.config.steps for run in group) for group in groups.values())
    try:
        for group in groups.values():
            _train_together(sources, group, clock)
    finally:
        for run in runs:
            run.open_log.close()
    return [run.sae for run in runs if run.sae is not None]


def _train_together(sources: Sequence[TrainingRows], runs: list["TrainingRun"], clock: "_Clock") -> None:
    """Give each batch to the runs that need it, to each the columns of its source. Runs that were cut off at different
    steps begin at the earliest of these steps; those that are ahead wait."""
    least_done = min(runs, key=lambda run: run.learner.steps_done)
    store, mesh = sources[0].store, sources[0].mesh
    hooks = list(chain.from_iterable(source.hook_names for source in sources))
    part = (mesh.data.rank, mesh.data.count)
    batches = store.batches(hooks, least_done.config.batch_size, seed=least_done.config.seed, epochs=None, part=part)
    widths = [sum(map(store.d, source.hook_names)) for source in sources]
    if least_done.reader:
        # A run resumes on the same store, whose rows come in the same order whichever hooks are read beside its own.
        batches.load_state_dict({**least_done.reader, "source": batches.state_dict()["source"]})
    step = least_done.learner.steps_done
    clock.steps += step
    for run in runs:
        run.start()
    while active := [run for run in runs if not run.is_trained]:
        with torch_on_one_thread():  # torch's others would still spin when the step begins
            batch = mesh.whole.all_do(lambda: next(batches))  # each learns of a damaged shard in any
            _check_finite(batch, step, mesh.data)
        columns = dict(zip(sources, batch.split(widths, dim=1), strict=True))
        for run in active:
            if run.learner.steps_done == step:
                run.step(columns[run.source])
        step += 1
        clock.tick(active[0])
        due = clock.due()
        if (shards := mesh.shards).count > 1:  # by the clock of the first
            due = bool(shards.sum_(torch.tensor(int(due and shards.is_first))))
        if due:
            for run in active:
                run.save_checkpoint(step, batches.state_dict())


def _check_finite(batch: Float[Tensor, "batch d"], step: int, among: Processes) -> None:
    """Check that a batch is finite, so that every process learns of a bad row in any of them."""
    if math.isfinite(float(among.sum_(batch.sum()))):
        return
    bad = among.all_gather((~batch.isfinite().all(1)).byte())
    rows = bad.nonzero()[:, 0].tolist()
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        raise InterpError(f"the batch of step {step + 1} is not finite in {len(rows)} of {len(bad)} rows: {shown}")


class TrainingRun:
    """One training of one config: its learner, its folder and its log. `load` comes first.

    Before it is trained it has a `learner`, afterwards a `sae`, unless its latents are sharded.
    """

    def __init__(
        self,
        source: TrainingRows,
        config: SAEConfig,
        key: dict[str, Any],
        working_folder: Path | None,
        final_folder: Path | None,
        log: Log,
    ):
        self.source = source
        self.config = config
        self.key = key
        self.log = log
        self.working_folder = working_folder
        self.writes_to = working_folder if source.mesh.whole.is_first else None
        self.final_folder = final_folder
        self.shards = source.mesh.shards
        self._learner: Learner | None = None
        self.sae: SAE | None = None
        self.reader: dict[str, Any] = {}
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
        self.source.mesh.whole.all_do(lambda: self._load(device))

    def _load(self, device: torch.device) -> None:
        if self.working_folder is not None and (self.working_folder / RESULTS).exists():
            read_results(self.working_folder)
            if self.shards.count == 1:
                self.sae = load_sae(self.working_folder)  # on the CPU, as a dictionary is that was trained now
            self._delete(CHECKPOINT)
            return
        if device.type == "cpu":
            _check_training_memory(self.config, self.source.hook_scales, self.source.mesh)
        self._learner = Learner(self.config, self.source.hook_scales, device, mesh=self.source.mesh)
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
        self.learner.load_state(tensors, state["learner"])
        self.reader = state["reader"]
        self._rows = state["rows"]
        self._seconds = state["seconds"]
        if self.writes_to is not None:
            write_text(self.writes_to / METRICS, "".join(json.dumps(row) + "\n" for row in self._rows))
        log.info("resuming at step %d of %d in %s", self.learner.steps_done, self.config.steps, self.working_folder)

    def start(self) -> None:
        self.source.mesh.whole.all_do(self._open_log)
        self._started = time.perf_counter()
        self._logged = self._started
        self._logged_step = self.learner.steps_done

    def _open_log(self) -> None:
        """Open the logs. A function gets the new rows only."""
        if callable(log := self.log):
            if self.source.mesh.whole.is_first:
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
        self.source.mesh.whole.all_do(self._check_weights)
        sae = self.learner.sae(self.source.metadata)
        self._learner = None
        if self.shards.count == 1:
            self.sae = sae
        if self.working_folder is not None and self.source.mesh.data.is_first:
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
            formats.encode_files(part, part.preferred_format).write(folder)
            return
        stored = whole_dictionary(part, self.shards)
        files = formats.encode_files(stored, stored.preferred_format)
        matrices = {"W_enc": part.W_enc, "W_dec": part.W_dec}

        def write(pieces: Mapping[str, Any]) -> None:
            files._replace(tensors={**files.tensors, **pieces}).write(folder)

        write_shards(write, matrices, self.shards)

    def save_checkpoint(self, step: int, reader: dict[str, Any]) -> None:
        """Save the state from which the run resumes; a run that waits for others already has a later checkpoint."""
        if self.working_folder is None or not self.source.mesh.data.is_first:
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


def _check_training_memory(config: SAEConfig, hook_scales: HookScales, mesh: Mesh) -> None:
    """Check that the memory suffices. Raises TooLargeError if training needs more than is free."""
    width = hook_scales.d_in + hook_scales.d_out
    needed = training_bytes(config, width, mesh)
    purpose = f"d_sae={config.d_sae} on {width} numbers a row, batch_size={config.batch_size},"
    check_memory(needed, purpose, "lower d_sae or batch_size")


def training_bytes(config: SAEConfig, width: int, mesh: Mesh = MESH_OF_ONE) -> int:
    """Return the bytes of memory that training takes per process: weights, gradients, Adam's moments, a batch and its
    intermediate results.
    width: d_in + d_out."""
    return 4 * width * (4 * config.d_sae // mesh.shards.count + 2 * config.batch_size // mesh.data.count)


def _digest_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of names and values, one after the other."""
    return digest(*(digest(name, tensor) for name, tensor in tensors))


class _Clock:
    """A clock that decides when to save, and shows the progress of all steps of all groups."""

    def __init__(self, checkpoint_seconds: float, progress: Progress):
        self.checkpoint_seconds = checkpoint_seconds
        self.progress = progress
        self.steps = 0
        self.total = 0
        self._tokens = 0
        self._began = time.perf_counter()
        self._saved = self._began

    def due(self) -> bool:
        if time.perf_counter() - self._saved < self.checkpoint_seconds:
            return False
        self._saved = time.perf_counter()
        return True

    def model_runs(self, done: int, total: int, note: str) -> None:
        self.progress(self.steps, max(self.total, 1), f"running the model: {done:,} of {total:,} {note}")

    def tick(self, run: TrainingRun) -> None:
        self.steps += 1
        self._tokens += run.config.batch_size
        if r := run.last:
            speed = self._tokens / max(time.perf_counter() - self._began, 1e-9) / 1e3
            note = f"loss {r.loss:.3g} FVU {r.fvu:.3g} L0 {r.l0:.1f} dead {r.dead:.1%} {speed:.1f}k tok/s"
            self.progress(self.steps, self.total, note)
