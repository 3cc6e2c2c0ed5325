"""Sparse dictionaries, and their training from a store of activations.

    store, hook, config  →  SAE,   and in `out`:  sae_weights.safetensors, cfg.json (SAELens reads them),
                                                  metrics.jsonl, results.json

    train_sae(store, hook, config)                      an autoencoder
    train_sae(store, hook, config, target=other_hook)   a transcoder: reads `hook`, writes `other_hook`
    train_sae(store, [hook, …], config)                 a crosscoder: the hooks share its latents
    train_sweep(store, hook, [config, …])               several at once
    train_sae(model, hook, config, tokens=tokens)       without a store: the model runs meanwhile (`activations.stream`)

A sweep takes one pass over the data for each batch size and seed among its configs; each result is the one that
training it alone gives. A run that was cut off goes on from its last checkpoint: the weights come out bit for
bit as without the cut, and each step stands in metrics.jsonl once. Under `torchrun` each process takes its part of each
batch; the first one writes.
"""

import math
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from interp.activations import ActivationStore
from interp.activations.hooks import Model
from interp.activations.stream import ActivationStream
from interp.sae.architectures import ARCHITECTURES, SAEConfig
from interp.sae.architectures.thresholds import GatedConfig, JumpReLUConfig, ReLUConfig
from interp.sae.architectures.topk import (
    BatchTopKConfig,
    MatchingPursuitConfig,
    MatryoshkaConfig,
    PickConfig,
    TopKConfig,
)
from interp.sae.gradient_check import check_gradients
from interp.sae.model import SAE, Crosscoder, Transcoder, load_sae
from interp.sae.site import Source, Store
from interp.sae.training_run import Log, TrainingRun
from interp.storage.files import Progress, no_progress
from interp.storage.processes import Processes, processes, torch_on_one_thread

__all__ = [
    "ARCHITECTURES",
    "SAE",
    "BatchTopKConfig",
    "Crosscoder",
    "GatedConfig",
    "JumpReLUConfig",
    "MatchingPursuitConfig",
    "MatryoshkaConfig",
    "PickConfig",
    "ReLUConfig",
    "SAEConfig",
    "TopKConfig",
    "Transcoder",
    "check_gradients",
    "load_sae",
    "train_sae",
    "train_sweep",
]


def train_sae(
    store: Store | Model,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path | None = None,
    *,
    tokens: Int[Tensor, "seq pos"] | None = None,
    harvesting: Mapping[str, Any] = {},
    target: str | None = None,
    resume: bool = True,
    progress: Progress = no_progress,
    checkpoint_seconds: float = 30.0,
    log: Log = None,
) -> SAE:
    """Train on the rows of `hook`; without `out` no files are written. (A list of configs is a `train_sweep`.)

    tokens: those that a model runs on, which is then given in the place of a store; `harvesting` are options of
    `harvest` and `buffer_bytes` (`interp.activations.stream.ActivationStream`).
    log: where the rows of metrics.jsonl go too: "tensorboard" or "wandb" (into `out`), or a function of a row.

    Raises ValueError on an empty store, a hook that it lacks, a batch that is not finite (which of its rows), a loss
    that is not finite, and, with `resume`, where `out` is damaged or holds training of another config or on another
    store (what differs); `resume=False` begins anew.
    """
    if isinstance(config, list | tuple):
        options: dict[str, Any] = {"checkpoint_seconds": checkpoint_seconds, "target": target, "resume": resume}
        options |= {"tokens": tokens, "harvesting": harvesting}
        return train_sweep(store, hook, config, out, progress=progress, log=log, **options)  # type: ignore[return-value]
    _check_log(log, out)
    clock = _Clock(checkpoint_seconds, progress)
    source = _source(store, hook, target, tokens, harvesting, clock)
    with source.processes.locked(out):
        run = TrainingRun(source, config, None if out is None else Path(out), log, resume)
        return _train(source, [run], clock)[0]


def train_sweep(
    store: Store | Model,
    hook: str | Sequence[str],
    configs: Sequence[SAEConfig],
    out: str | Path | None = None,
    *,
    tokens: Int[Tensor, "seq pos"] | None = None,
    harvesting: Mapping[str, Any] = {},
    target: str | None = None,
    resume: bool = True,
    progress: Progress = no_progress,
    checkpoint_seconds: float = 30.0,
    log: Log = None,
) -> list[SAE]:
    """`train_sae` for each config, in one pass over the data, with the files in `out/0`, `out/1`, …

    A function that takes the log's rows finds the config's number in them, as `run`.
    """
    _check_log(log, out)
    if not configs:
        raise ValueError("configs=[] must be a config, as TopKConfig(…), or several")
    clock = _Clock(checkpoint_seconds, progress)
    source = _source(store, hook, target, tokens, harvesting, clock)
    folders = [None if out is None else Path(out) / str(i) for i in range(len(configs))]
    logs = [_numbered(log, i) for i in range(len(configs))]
    with source.processes.locked(out):
        each = zip(configs, folders, logs, strict=True)
        runs = [TrainingRun(source, config, folder, log, resume) for config, folder, log in each]
        return _train(source, runs, clock)


def _source(
    store: Store | Model,
    hook: str | Sequence[str],
    target: str | None,
    tokens: Int[Tensor, "seq pos"] | None,
    harvesting: Mapping[str, Any],
    clock: "_Clock",
) -> Source:
    if not isinstance(store, ActivationStore):
        if tokens is None:
            raise ValueError("to train on a model without a store, give tokens=; or give a store")
        names = [*((hook,) if isinstance(hook, str) else hook), *(() if target is None else (target,))]
        store = ActivationStream(store, tokens, names, progress=clock.model_runs, **harvesting)
    elif tokens is not None or harvesting:
        raise ValueError("tokens= and harvesting= go with a model; the rows of a store are there already")
    return Source(store, hook, target, processes())


def _numbered(log: Log, run: int) -> Log:
    return (lambda row: log({"run": run, **row})) if callable(log) else log


def _check_log(log: Log, out: object) -> None:
    """Raises ValueError for a log that is not known or not installed, and for one of files without a folder."""
    if log is None or callable(log):
        return
    if log not in ("tensorboard", "wandb"):
        raise ValueError(f"log={log!r} must be 'tensorboard', 'wandb', a function of a row, or None")
    if out is None:
        raise ValueError(f"log={log!r} writes into the folder of the run: name one with out=")
    if find_spec(log) is None:
        raise ValueError(f"log={log!r} needs a package that is not installed: pip install {log}")


def _train(source: Source, runs: Sequence[TrainingRun], clock: "_Clock") -> list[SAE]:
    groups: dict[tuple[int, int], list[TrainingRun]] = {}
    for run in runs:
        if run.sae is None:
            groups.setdefault((run.config.batch_size, run.config.seed), []).append(run)
    clock.total = sum(max(run.config.steps for run in group) for group in groups.values())
    try:
        for group in groups.values():
            _train_together(source, group, clock)
    finally:
        for run in runs:
            run.open_log.close()
    return [run.sae for run in runs if run.sae is not None]


def _train_together(source: Source, runs: list[TrainingRun], clock: "_Clock") -> None:
    """Runs that were cut off at unlike steps begin where the furthest behind stands; the others wait for it."""
    behind = min(runs, key=lambda run: run.learner.steps_done)
    batches = source.batches(behind.config.batch_size, behind.config.seed)
    if behind.reader:
        batches.load_state_dict(behind.reader)
    step = behind.learner.steps_done
    clock.steps += step
    for run in runs:
        run.start()
    while active := [run for run in runs if run.sae is None]:
        with torch_on_one_thread():  # torch's others would still spin when the step begins
            batch = source.processes.all_do(lambda: next(batches))  # each learns of a damaged shard in any
            _check_finite(batch, step, source.processes)
        for run in active:
            if run.learner.steps_done == step:
                run.step(batch)
        step += 1
        clock.tick(active[0])
        if clock.due():
            for run in active:
                run.save_checkpoint(step, batches.state_dict())


class _Clock:
    """When to save, and the progress of all steps of all groups."""

    def __init__(self, checkpoint_seconds: float, progress: Progress):
        self.checkpoint_seconds, self.progress = checkpoint_seconds, progress
        self.steps = self.total = self._tokens = 0
        self._saved = self._began = time.perf_counter()

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


def _check_finite(batch: Float[Tensor, "batch d"], step: int, among: Processes) -> None:
    """Every process learns of a bad row in any of them."""
    if math.isfinite(float(among.sum_(batch.sum()))):
        return
    bad = among.gather((~batch.isfinite().all(1)).byte())
    rows = bad.nonzero()[:, 0].tolist()
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        raise ValueError(f"the batch of step {step + 1} is not finite in {len(rows)} of {len(bad)} rows: {shown}")
