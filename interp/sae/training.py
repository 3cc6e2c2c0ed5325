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
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationSource
from interp.activations.hooks import Model, as_hook_names
from interp.activations.model_passes import TokenBatches, concatenate_tokens
from interp.activations.stream import ActivationStream
from interp.checks.errors import InterpError
from interp.runtime.processes import Mesh, Processes, processes
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.runtime.threads import torch_on_one_thread
from interp.sae.architectures.sae_config import SAEConfig, config_to_dict
from interp.sae.metric_logs import Log, check_log
from interp.sae.model import SAE
from interp.sae.sharding import check_shards
from interp.sae.training_rows import TrainingRows
from interp.sae.training_run import TrainingRun
from interp.storage.remote_folders import local_path


@shows_progress
def train_sae(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    tokens: TokenBatches | None = None,
    harvesting: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = True,
    checkpoint_seconds: float = 30.0,
    log: Log = None,
    progress: Progress = no_progress,
) -> SAE:
    """Train a dictionary on the rows of `hook`; without `out` no files are written. A list of configs is trained as by
    `train_sweep`.

    output_hook: the hook that a transcoder writes, or several side by side.
    tokens: needed if `store` is a model: the tokens that it runs on, or a generator of batches [seq, pos]. Only as many
        batches are read as the training needs.
    harvesting: options of the `ActivationStream` that then gives the rows.
    overwrite: train again, replacing any other dictionary. An interrupted training with this config still resumes,
        which ends at the same weights as one from the first step.
    resume: False is the same as overwrite=True.
    checkpoint_seconds: seconds of training between checkpoints.
    log: also send the rows of metrics.jsonl to "tensorboard" or "wandb" (into `out`), or to a function of a row.
    progress: called with (steps done, all steps, note).

    Raises ValueError for an empty store, a missing hook, a batch that is not finite (with its rows), and a loss that is
    not finite; DamagedError if `out` is damaged; OverwriteError if it contains a training with another config or store
    (with the differences); and TooLargeError if the memory does not suffice.
    """
    hooks = [(hook, output_hook)]
    overwrite = overwrite or not resume
    if isinstance(config, Sequence):
        folders, logs = _sweep_folders(out, len(config)), _numbered(log, len(config))
        sweep = _train(store, hooks, config, folders, tokens, harvesting, overwrite, checkpoint_seconds, logs, progress)
        return cast(Any, sweep)
    folder = None if out is None else Path(out)
    [sae] = _train(store, hooks, [config], [folder], tokens, harvesting, overwrite, checkpoint_seconds, [log], progress)
    return sae


@shows_progress
def train_sweep(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    configs: Sequence[SAEConfig],
    out: str | Path | None = None,
    *,
    output_hook: str | Sequence[str] | None = None,
    tokens: TokenBatches | None = None,
    harvesting: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 30.0,
    log: Log = None,
    progress: Progress = no_progress,
) -> list[SAE]:
    """Train a dictionary for each config, in one pass over the data, with the files in `out/0`, `out/1`, … Each is the
    one that `train_sae` trains with its config; the options and errors are those of `train_sae`.

    If `log` is a function, each row has the index of its config under `run`.
    """
    hooks = [(hook, output_hook)]
    folders, logs = _sweep_folders(out, len(configs)), _numbered(log, len(configs))
    return _train(store, hooks, configs, folders, tokens, harvesting, overwrite, checkpoint_seconds, logs, progress)


@shows_progress
def train_saes(
    store: ActivationSource | Model,
    hooks: Mapping[str | Path, Sequence[str]],
    config: SAEConfig,
    *,
    tokens: TokenBatches | None = None,
    harvesting: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 30.0,
    log: Log = None,
    progress: Progress = no_progress,
) -> list[SAE]:
    """Train a dictionary at each of several hooks, in one pass over the data.

    hooks: the folder of each dictionary, with the hook that it reads and, for a transcoder, the hook that it writes.

    If `store` is a model, it runs once on each chunk of the text for all hooks, and only the activations of that chunk
    are kept (`interp.activations.stream`). A batch of all hooks is held in float32. Each dictionary is the one that
    `train_sae` trains on the same source. The options and errors are those of `train_sae`. If `log` is a function, each
    row has the index of its dictionary under `run`.
    """
    if not hooks or any(not 1 <= len(pair) <= 2 or isinstance(pair, str) for pair in hooks.values()):
        raise InterpError(f"hooks={dict(hooks)!r} must give each folder the hook to read and, if any, the one to write")
    pairs: Any = [(reads, *writes, None)[:2] for reads, *writes in hooks.values()]
    folders, logs = list(map(Path, hooks)), _numbered(log, len(hooks))
    return _train(store, pairs, [config], folders, tokens, harvesting, overwrite, checkpoint_seconds, logs, progress)


@shows_progress
def train_sharded(
    store: ActivationSource | Model,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path,
    *,
    shards: int | None = None,
    output_hook: str | Sequence[str] | None = None,
    tokens: TokenBatches | None = None,
    harvesting: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 30.0,
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
    team = processes()
    mesh = Mesh.of(team, team.count if shards is None else shards)
    check_shards(config, mesh.shards.count)
    hooks = [(hook, output_hook)]
    _train(
        store, hooks, [config], [Path(out)], tokens, harvesting, overwrite, checkpoint_seconds, [log], progress, mesh
    )
    return Path(out)


def _sweep_folders(out: str | Path | None, count: int) -> list[Path | None]:
    return [None if out is None else Path(out, str(i)) for i in range(count)]


def _numbered(log: Log, count: int) -> list[Log]:
    """Return the log of each run; a function gets the number of the run with each row."""

    def with_number(run: int) -> Log:
        return (lambda row: log({"run": run, **row})) if callable(log) else log

    return list(map(with_number, range(count)))


def _train(
    store: ActivationSource | Model,
    hooks: Sequence[tuple[str | Sequence[str], str | Sequence[str] | None]],
    configs: Sequence[SAEConfig],
    folders: Sequence[Path | None],
    tokens: TokenBatches | None,
    harvesting: Mapping[str, Any] | None,
    overwrite: bool,
    checkpoint_seconds: float,
    logs: Sequence[Log],
    progress: Progress,
    mesh: Mesh | None = None,
) -> list[SAE]:
    """Train a dictionary in each folder: at each of the hooks (what it reads, what it writes), with each config."""
    if not configs or not all(isinstance(config, SAEConfig) for config in configs):
        raise InterpError(f"config={configs!r} must be a config, as TopKConfig(…), or several")
    for folder, log in zip(folders, logs, strict=True):
        check_log(log, folder)
    clock = _Clock(checkpoint_seconds, progress)
    if not isinstance(store, ActivationSource):
        store = _stream(store, hooks, configs, tokens, harvesting or {}, clock)
    elif tokens is not None or harvesting:
        raise InterpError("tokens= and harvesting= need a model; a store has its rows already")
    mesh = mesh or Mesh.of(processes())
    sources = [TrainingRows(store, read, written, mesh) for read, written in hooks]
    each = [(source, config) for source in sources for config in configs]
    with ExitStack() as opened:
        runs = [
            _begin(opened, source, config, folder, overwrite, log)
            for (source, config), folder, log in zip(each, folders, logs, strict=True)
        ]
        return _train_all(sources, runs, clock)


def _stream(
    model: Model,
    hooks: Sequence[tuple[str | Sequence[str], str | Sequence[str] | None]],
    configs: Sequence[SAEConfig],
    tokens: TokenBatches | None,
    harvesting: Mapping[str, Any],
    clock: "_Clock",
) -> ActivationStream:
    """Return the rows of the model at all hooks, from as many tokens as the longest training needs."""
    if tokens is None:
        raise InterpError("to train on a model without a store, give tokens=; or give a store")
    names = [name for pair in hooks for side in pair if side for name in as_hook_names(side)]
    needed = concatenate_tokens(tokens, max(config.tokens for config in configs))
    return ActivationStream(model, needed, names, progress=clock.model_runs, **harvesting)


def _begin(
    opened: ExitStack, source: TrainingRows, config: SAEConfig, out: Path | None, overwrite: bool, log: Log
) -> TrainingRun:
    """Return the training of one config: finished if `out` contains it, else with its folder, which `opened`
    completes."""
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
    run = TrainingRun(source, config, key, folder, out, log)
    run.load()
    return run


def _train_all(sources: Sequence[TrainingRows], runs: Sequence[TrainingRun], clock: "_Clock") -> list[SAE]:
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


def _train_together(sources: Sequence[TrainingRows], runs: list[TrainingRun], clock: "_Clock") -> None:
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
