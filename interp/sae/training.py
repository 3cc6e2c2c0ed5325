"""Train dictionaries from a store, hooks and configs, each in a folder from which an interrupted training resumes.

`train_sae`, `train_sweep`, `train_saes` and `train_sharded` open the rows of each dictionary and one `TrainingRun` per
config. `_train_together` reads batch after batch and gives each run that needs it the columns of its hooks. A run gives
them to its learner, logs, saves and finishes.

A sweep takes one pass over the data for each batch size and seed among its configs, and `train_saes` one for all of its
hooks; each result is the one that training it alone gives. While a run is under way its folder is `OUT.unfinished/new`.
Under `torchrun` each process takes its part of each batch. `train_sharded` divides the latents as well (`learner`,
`sharding`); it writes the same files as one process, checkpoints included.
"""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationSource
from interp.checks.errors import InterpError
from interp.runtime.processes import Processes, ProcessGrid, processes
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.runtime.threads import torch_on_one_thread
from interp.sae.architectures.sae_config import SAEConfig, code_digest, config_to_dict
from interp.sae.metric_logs import Log, check_log
from interp.sae.model import SAE
from interp.sae.sharding import check_shards
from interp.sae.training_rows import TrainingRows
from interp.sae.training_run import Job, TrainingRun
from interp.storage.remote_folders import local_path

CHECKPOINT_SECONDS = 30.0
"""Seconds of training between checkpoints, at least."""
PAUSE = 10
"""The pause after a checkpoint, at least, in multiples of the time that it took."""


@shows_progress
def train_sae(
    store: ActivationSource,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    log: Log = None,
    progress: Progress = no_progress,
) -> SAE:
    """Train a dictionary on the rows of `hook`; without `out` no files are written.

    store: an `ActivationStore`, or an `ActivationStream`, which runs the model during the training and stores nothing.
    config: of a list of configs, all are trained, and a list is returned (`train_sweep`).
    output_hook: the hook that a transcoder writes, or several side by side.
    resume: False trains from the first step in any case, and replaces as `overwrite` does.
    overwrite: train again, replacing any other dictionary. An interrupted training with this config still resumes,
        which ends at the same weights as one from the first step.
    log: also send the rows of metrics.jsonl to "tensorboard" or "wandb" (into `out`), or to a function of a row.
    progress: called with (steps done, all steps, note).

    Raises ValueError for an empty store, a missing hook, a batch that is not finite (with its rows), and a loss that is
    not finite; DamagedError if `out` is damaged; OverwriteError if it contains a training with another config or store,
    or with other code of your architecture (with the differences); and TooLargeError if the memory does not suffice.

    Example:

        sae = train_sae(store, hook, TopKConfig(d_sae=8192, k=32, tokens=4_000_000), out="sae")
        codes = sae.codes(x)  # sparse; x_hat = sae.decode(codes)
    """
    if isinstance(config, list | tuple):
        jobs = _sweep_jobs(hook, output_hook, config, out, log)
        return cast(Any, _train(store, jobs, overwrite=overwrite, progress=progress, resume=resume))
    [sae] = _train(
        store, [Job(hook, output_hook, config, out, log)], overwrite=overwrite, progress=progress, resume=resume
    )
    return sae


@shows_progress
def train_sweep(
    store: ActivationSource,
    hook: str | Sequence[str],
    configs: Sequence[SAEConfig],
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    overwrite: bool = False,
    log: Log = None,
    progress: Progress = no_progress,
) -> list[SAE]:
    """Train a dictionary for each config, in one pass over the data, with the files in `out/0`, `out/1`, … Each is the
    one that `train_sae` trains with its config; the options and errors are those of `train_sae`.

    If `log` is a function, each row has the index of its config under `run`.
    """
    return _train(store, _sweep_jobs(hook, output_hook, configs, out, log), overwrite=overwrite, progress=progress)


@shows_progress
def train_saes(
    store: ActivationSource,
    hooks: Mapping[str | Path, Sequence[str]],
    config: SAEConfig,
    *,
    overwrite: bool = False,
    log: Log = None,
    progress: Progress = no_progress,
) -> list[SAE]:
    """Train a dictionary at each of several hooks, in one pass over the data.

    hooks: the folder of each dictionary, with the hook that it reads and, for a transcoder, the hook that it writes.

    A model behind an `ActivationStream` runs once on each chunk of the text for all hooks, and only the activations of
    that chunk are kept. A batch of all hooks is held in float32. Each dictionary is the one that
    `train_sae` trains on the same source. The options and errors are those of `train_sae`. If `log` is a function, each
    row has the index of its dictionary under `run`.
    """
    if not hooks or any(not 1 <= len(pair) <= 2 or isinstance(pair, str) for pair in hooks.values()):
        raise InterpError(f"hooks={dict(hooks)!r} must give each folder the hook to read and, if any, the one to write")
    jobs = [
        Job(reads, writes, config, folder, _numbered(log, i))
        for i, (folder, (reads, *writes)) in enumerate(hooks.items())
    ]
    return _train(store, jobs, overwrite=overwrite, progress=progress)


@shows_progress
def train_sharded(
    store: ActivationSource,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path,
    *,
    shards: int | None = None,
    output_hook: str | Sequence[str] | None = None,
    overwrite: bool = False,
    log: Log = None,
    progress: Progress = no_progress,
) -> Path:
    """Train a dictionary that does not fit on one device: as `train_sae`, with its latents sharded over the processes
    of `torchrun`. Returns its folder, which `load_sae` reads as one dictionary, the same that one process would train.

    shards: processes that each have d_sae / shards latents, their weights, gradients and optimizer; by default all
    processes. With a multiple of `shards` processes, each group of that size takes a part of every batch.
    The other options are those of `train_sae`.

    An interrupted training resumes with any number of shards and processes. Raises ValueError as `train_sae` does, for
    an architecture that cannot be trained in shards (`SAEConfig.shardable`), and if `shards` does not divide d_sae or
    the number of processes.
    """
    world = processes()
    grid = ProcessGrid.of(world, world.count if shards is None else shards)
    check_shards(config, grid.shards.count)
    _train(store, [Job(hook, output_hook, config, out, log)], overwrite=overwrite, progress=progress, grid=grid)
    return Path(out).expanduser()


def _sweep_jobs(
    hook: str | Sequence[str],
    output_hook: str | Sequence[str] | None,
    configs: Sequence[SAEConfig],
    out: str | Path | None,
    log: Log,
) -> list[Job]:
    """Return the training of each config of a sweep."""
    return [
        Job(hook, output_hook, config, None if out is None else Path(out, str(i)), _numbered(log, i))
        for i, config in enumerate(configs)
    ]


def _numbered(log: Log, run: int) -> Log:
    """Return the log of one of several runs; a function gets the number of the run with each row."""
    return (lambda row: log({"run": run, **row})) if callable(log) else log


def _train(
    store: ActivationSource,
    jobs: Sequence[Job],
    *,
    overwrite: bool,
    progress: Progress,
    grid: ProcessGrid | None = None,
    resume: bool = True,
) -> list[SAE]:
    """Train each dictionary, in one pass over the data for those with the same batches."""
    if not jobs or not all(isinstance(job.config, SAEConfig) for job in jobs):
        configs = [job.config for job in jobs]
        raise InterpError(f"config={configs!r} must be a config, as TopKConfig(…); train_sweep takes several")
    if not isinstance(store, ActivationSource):
        raise InterpError(
            f"a {type(store).__name__} has no rows to train on: give ActivationStore.open(folder), "
            "ActivationStore.from_batches(rows, folder) or ActivationStream(model, tokens, hooks)"
        )
    for job in jobs:
        check_log(job.log, job.folder)
    grid = grid or ProcessGrid.of(processes())
    sources = {hooks: TrainingRows(store, *hooks, grid) for hooks in dict.fromkeys(job.hooks for job in jobs)}
    with ExitStack() as opened:
        runs = [_begin(opened, sources[job.hooks], job, overwrite, resume) for job in jobs]
        return _train_all(runs, _CheckpointTimer(progress))


def _begin(opened: ExitStack, source: TrainingRows, job: Job, overwrite: bool, resume: bool) -> TrainingRun:
    """Return a training: finished if its folder contains it, else with its folder, which `opened` completes."""
    code = code_digest(job.config)
    key = {**source.key, **config_to_dict(job.config), **({} if code is None else {"code": code})}
    world = source.grid.world
    folder = None
    if job.folder is not None:
        made_of = {"kind": "dictionary", **key}
        del made_of["device"]
        if resume and not overwrite and world.recover_finished(job.folder, made_of):
            folder = local_path(job.folder)
        else:
            new = world.atomic_folder(job.folder, made_of, resumes=True, overwrite=overwrite or not resume)
            folder = opened.enter_context(new)
            if not resume:
                world.first_does(partial(_empty, folder))
    run = TrainingRun(source, job, key, folder)
    run.load()
    return run


def _empty(folder: Path) -> None:
    """Delete what an interrupted training left."""
    shutil.rmtree(folder)
    folder.mkdir()


def _train_all(runs: Sequence[TrainingRun], clock: "_CheckpointTimer") -> list[SAE]:
    """Train the runs that are not trained yet, those with the same batches together, and return all dictionaries."""
    groups: dict[tuple[int, int], list[TrainingRun]] = {}
    for run in runs:
        if not run.is_trained:
            groups.setdefault((run.config.batch_size, run.config.seed), []).append(run)
    clock.total = sum(max(run.config.steps for run in group) for group in groups.values())
    try:
        for group in groups.values():
            _train_together(group, clock)
    finally:
        for run in runs:
            run.open_log.close()
    return [run.sae for run in runs if run.sae is not None]


def _train_together(runs: list[TrainingRun], clock: "_CheckpointTimer") -> None:
    """Give each batch to the runs that need it, to each the columns of its source. Runs that were cut off at different
    steps begin at the earliest of these steps; those that are ahead wait."""
    least_done = min(runs, key=lambda run: run.learner.steps_done)
    sources = list(dict.fromkeys(run.source for run in runs))
    store, grid = sources[0].store, sources[0].grid
    hooks = list(chain.from_iterable(source.hook_names for source in sources))
    part = (grid.data.rank, grid.data.count)
    batches = store.batches(hooks, least_done.config.batch_size, seed=least_done.config.seed, epochs=None, part=part)
    widths = [sum(map(store.d, source.hook_names)) for source in sources]
    if least_done.reader_state:
        # A run resumes on the same store, whose rows come in the same order whichever hooks are read beside its own.
        batches.load_state_dict({**least_done.reader_state, "source": batches.state_dict()["source"]})
    step = least_done.learner.steps_done
    clock.steps += step
    for run in runs:
        run.start()
    while active := [run for run in runs if not run.is_trained]:
        with torch_on_one_thread():  # torch's others would still spin when the step begins
            batch = grid.world.all_do(lambda: next(batches))  # each learns of a damaged shard in any
            _check_finite(batch, step, grid.data)
        columns = dict(zip(sources, batch.split(widths, dim=1), strict=True))
        for run in active:
            if run.learner.steps_done == step:
                run.step(columns[run.source])
        step += 1
        clock.tick(active[0])
        is_due = torch.tensor(int(clock.due() and grid.shards.is_first))  # all save by the clock of the first
        if grid.shards.sum_(is_due):
            began = time.perf_counter()
            for run in active:
                run.save_checkpoint(step, batches.state_dict())
            clock.has_saved(began)


def _check_finite(batch: Float[Tensor, "batch d"], step: int, among: Processes) -> None:
    """Check that a batch is finite, so that every process learns of a bad row in any of them."""
    if math.isfinite(float(among.sum_(batch.sum()))):
        return
    bad = among.all_gather((~batch.isfinite().all(1)).byte())
    rows = bad.nonzero()[:, 0].tolist()
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        raise InterpError(f"the batch of step {step + 1} is not finite in {len(rows)} of {len(bad)} rows: {shown}")


class _CheckpointTimer:
    """A clock that decides when to save, and shows the progress of all steps of all groups."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.steps = 0
        self.total = 0
        self._tokens = 0
        self._began = time.perf_counter()
        self._saved = self._began
        self._pause = CHECKPOINT_SECONDS

    def due(self) -> bool:
        return time.perf_counter() - self._saved >= self._pause

    def has_saved(self, began: float) -> None:
        """Take note that checkpoints were saved, from a time on until now."""
        self._saved = time.perf_counter()
        self._pause = max(CHECKPOINT_SECONDS, PAUSE * (self._saved - began))

    def tick(self, run: TrainingRun) -> None:
        self.steps += 1
        self._tokens += run.config.batch_size
        if r := run.last:
            speed = self._tokens / max(time.perf_counter() - self._began, 1e-9) / 1e3
            note = f"loss {r.loss:.3g} FVU {r.fvu:.3g} L0 {r.l0:.1f} dead {r.dead:.1%} {speed:.1f}k tok/s"
            self.progress(self.steps, self.total, note)
