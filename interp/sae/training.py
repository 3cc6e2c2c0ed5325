"""Training dictionaries from a store of activations.

    store, hook, config  →  SAE,   and in `out`:  sae_weights.safetensors, cfg.json (SAELens reads them),
                                                  metrics.jsonl, results.json

    train_sae(store, hook, config)                      an autoencoder
    train_sae(store, hook, config, target=other_hook)   a transcoder: reads `hook`, writes `other_hook`
    train_sae(store, [hook, …], config)                 a crosscoder: the hooks share its latents
    train_sweep(store, hook, [config, …])               several at once

A sweep takes one pass over the data for each batch size and seed among its configs; each result is the one that
training it alone gives. A run that was cut off goes on from its last checkpoint: the weights come out bit for
bit as without the cut, and each step stands in metrics.jsonl once. Under `torchrun` each process takes its part of each
batch; the first one writes.
"""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.activations import ActivationStore, JoinedStore
from interp.files import Progress, no_progress, write_json, write_tensors, write_text
from interp.processes import Processes, processes
from interp.sae.architectures import SAEConfig, config_to_dict
from interp.sae.learner import Learner, StepResult
from interp.sae.logs import Log, RowLog, check_log, numbered, open_log
from interp.sae.model import SAE, load_sae
from interp.sae.site import Site
from interp.sae.threads import torch_on_one_thread

Store = ActivationStore | JoinedStore
LOGGED_STEPS = 500
CHECKPOINT = "checkpoint.safetensors"
_ANEW = "begin anew with resume=False (--redo)"
logger = logging.getLogger(__name__)


def train_sae(
    store: Store,
    hook: str | Sequence[str],
    config: SAEConfig,
    out: str | Path | None = None,
    *,
    target: str | None = None,
    resume: bool = True,
    progress: Progress = no_progress,
    checkpoint_seconds: float = 30.0,
    log: Log = None,
) -> SAE:
    """Train on the rows of `hook`; without `out` no files are written. (A list of configs is a `train_sweep`.)

    log: where the rows of metrics.jsonl go too: "tensorboard" or "wandb" (into `out`), or a function of a row.

    Raises ValueError on an empty store, a hook that it lacks, a batch that is not finite (which of its rows), a loss
    that is not finite, and, with `resume`, where `out` is damaged or holds training of another config or on another
    store (what differs); `resume=False` begins anew.
    """
    if isinstance(config, list | tuple):
        options: dict[str, Any] = {"checkpoint_seconds": checkpoint_seconds, "target": target, "resume": resume}
        return train_sweep(store, hook, config, out, progress=progress, log=log, **options)  # type: ignore[return-value]
    source = _Source(store, (hook,) if isinstance(hook, str) else tuple(hook), target, processes())
    check_log(log, out)
    run = _Run(source, config, None if out is None else Path(out), log, resume)
    return _train(source, [run], _Clock(checkpoint_seconds, progress))[0]


def train_sweep(
    store: Store,
    hook: str | Sequence[str],
    configs: Sequence[SAEConfig],
    out: str | Path | None = None,
    *,
    target: str | None = None,
    resume: bool = True,
    progress: Progress = no_progress,
    checkpoint_seconds: float = 30.0,
    log: Log = None,
) -> list[SAE]:
    """`train_sae` for each config, in one pass over the data, with the files in `out/0`, `out/1`, …

    A function that takes the log's rows finds the config's number in them, as `run`.
    """
    source = _Source(store, (hook,) if isinstance(hook, str) else tuple(hook), target, processes())
    check_log(log, out)
    if not configs:
        raise ValueError("configs=[] must be a config, as TopKConfig(…), or several")
    folders = [None if out is None else Path(out) / str(i) for i in range(len(configs))]
    runs = [_Run(source, config, folders[i], numbered(log, i), resume) for i, config in enumerate(configs)]
    return _train(source, runs, _Clock(checkpoint_seconds, progress))


@dataclasses.dataclass(frozen=True)
class _Source:
    """What is trained on."""

    store: Store
    hooks: tuple[str, ...]
    target: str | None
    processes: Processes

    def __post_init__(self) -> None:
        if len(self.store) == 0:
            raise ValueError("the store is empty: there is nothing to train on")
        if not self.hooks:
            raise ValueError("there is no hook to train on")
        named = self.hooks if self.target is None else (*self.hooks, self.target)
        if len(set(named)) < len(named):
            raise ValueError(f"a hook is named twice: {', '.join(named)}. An autoencoder needs no target")

    def site(self, config: SAEConfig) -> Site:
        outputs = () if self.target is None else (self.store.statistics(self.target),)
        inputs = tuple(self.store.statistics(hook) for hook in self.hooks)
        return Site(inputs=inputs, outputs=outputs)

    @property
    def metadata(self) -> dict[str, Any]:
        named = {"hook_name": self.hooks[0]} if len(self.hooks) == 1 else {"hook_names": list(self.hooks)}
        target = {} if self.target is None else {"hook_name_out": self.target}
        return {**named, **target, "context_size": self.store.n_ctx}

    def batches(self, config: SAEConfig) -> Any:
        hooks = self.hooks if self.target is None else (*self.hooks, self.target)
        part = (self.processes.rank, self.processes.count)
        return self.store.batches(hooks, config.batch_size, seed=config.seed, epochs=None, part=part)


def _train(source: _Source, runs: Sequence["_Run"], clock: "_Clock") -> list[SAE]:
    groups: dict[tuple[int, int], list[_Run]] = {}
    for run in runs:
        if run.sae is None:
            groups.setdefault((run.config.batch_size, run.config.seed), []).append(run)
    clock.total = sum(max(run.config.steps for run in group) for group in groups.values())
    try:
        for group in groups.values():
            _train_together(source, group, clock)
    finally:
        for run in runs:
            run.close_log()
    return [run.sae for run in runs if run.sae is not None]


def _train_together(source: _Source, runs: list["_Run"], clock: "_Clock") -> None:
    """Runs that were cut off at unlike steps begin where the furthest behind stands; the others wait for it."""
    behind = min(runs, key=lambda run: run.learner.steps_done)
    batches = source.batches(behind.config)
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


class _Run:
    """One config: its learner, its folder, its log. `sae` is there once it is trained. The first process writes."""

    def __init__(self, source: _Source, config: SAEConfig, folder: Path | None, log: Log, resume: bool):
        if not isinstance(config, SAEConfig):
            raise ValueError(f"config={config!r} must be a config, as TopKConfig(…), or several")
        self.config, self.folder, self.log = config, folder, log
        self.out = folder if source.processes.is_first else None
        self.sae: SAE | None = None
        self.reader: dict[str, Any] = {}
        self.last: StepResult | None = None
        self._seconds, self._rows = 0.0, list[dict[str, float]]()
        self._processes = source.processes
        self._row_log: RowLog | None = None
        hook = source.hooks[0] if len(source.hooks) == 1 else list(source.hooks)
        target = {} if source.target is None else {"target": source.target}
        self._key = {"store": source.store.fingerprint, "hook": hook, **target, **config_to_dict(config)}
        self._metadata = source.metadata
        device = _device(config.device)
        source.processes.all_do(lambda: self._prepare(resume) if source.processes.is_first else None)
        source.processes.all_do(lambda: None if source.processes.is_first else self._prepare(True))
        if self.sae is None:
            self.learner = Learner(config, source.site(config), device, processes=source.processes)
            self._restore()

    def start(self) -> None:
        first, given = self._processes.is_first, (self.log, self.folder, self._key, self._rows)
        self._row_log = self._processes.all_do(lambda: open_log(*given) if first else None)
        self._started = self._logged = time.perf_counter()
        self._logged_step = self.learner.steps_done

    def step(self, batch: Float[Tensor, "batch d_in"]) -> None:
        self.last = self.learner.step(batch)
        done, steps = self.learner.steps_done, self.config.steps
        if not math.isfinite(self.last.loss):
            raise ValueError(f"the loss of step {done} is {self.last.loss}: lower lr={self.config.peak_lr:.3g}")
        if done % max(1, steps // LOGGED_STEPS) == 0 or done == steps:
            self._log(self.last)
        if done == steps:
            self._finish()

    def save_checkpoint(self, step: int, reader: dict[str, Any]) -> None:
        """Unless it waits: its last one stands further on than the reader does."""
        if self.out is None or self.sae is not None or self.learner.steps_done != step:
            return
        tensors, numbers = self.learner.state()
        seconds = self._seconds + time.perf_counter() - self._started
        state = {"config": self._key, "learner": numbers, "reader": reader, "rows": self._rows, "seconds": seconds}
        write_tensors(self.out / CHECKPOINT, tensors, {"state": json.dumps(state)})

    def _prepare(self, resume: bool) -> None:
        """Take over a finished result, refuse another config's, or clear the folder for a new start."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint, results = self.folder / CHECKPOINT, self.folder / "results.json"
        if resume and results.exists():
            with _naming(results):
                there = json.loads(results.read_text())["config"]
            self._check_config(there)
            self.sae = load_sae(self.folder, device=str(_device(self.config.device)))
            self._drop_checkpoint()
        elif not (resume and checkpoint.exists()):
            for name in (CHECKPOINT, "results.json", "metrics.jsonl"):
                (self.folder / name).unlink(missing_ok=True)

    def _restore(self) -> None:
        if self.folder is None or not (self.folder / CHECKPOINT).exists():
            return
        checkpoint = self.folder / CHECKPOINT
        with _naming(checkpoint), safe_open(str(checkpoint), "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        self._check_config(state["config"])
        self.learner.load_state(tensors, state["learner"])
        self.reader, self._rows, self._seconds = state["reader"], state["rows"], state["seconds"]
        if self.out is not None:
            write_text(self.out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self._rows))
        logger.info("going on at step %d of %d in %s", self.learner.steps_done, self.config.steps, self.folder)

    def _check_config(self, there: dict[str, Any]) -> None:
        mine = json.loads(json.dumps(self._key))
        if there.get("store") != mine["store"]:
            raise ValueError(f"{self.folder} holds training on another store. Choose another folder, or {_ANEW}")
        names = [name for name in {**there, **mine} if there.get(name) != mine.get(name) and name != "device"]
        if names:
            differ = "; ".join(f"{name} is {there.get(name)!r}, not {mine.get(name)!r}" for name in names)
            raise ValueError(
                f"{self.folder} holds training of another config: {differ}. Choose another folder, or {_ANEW}"
            )

    def close_log(self) -> None:
        if self._row_log is not None:
            self._row_log.close()
            self._row_log = None

    def _log(self, result: StepResult) -> None:
        now = time.perf_counter()
        done = self.learner.steps_done
        speed = (done - self._logged_step) * self.config.batch_size / max(now - self._logged, 1e-9)
        tokens = done * self.config.batch_size
        self._logged, self._logged_step = now, done
        self._rows.append({"step": done, "tokens": tokens, **result._asdict(), "tokens_per_second": round(speed)})
        if self.out is not None:
            with (self.out / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(self._rows[-1]) + "\n")
        if self._row_log is not None:
            self._row_log.write(self._rows[-1])

    def _finish(self) -> None:
        self.close_log()
        if not all(weight.isfinite().all() for weight in self.learner.weights.values()):
            raise ValueError(f"the last step left weights that are not finite: lower lr={self.config.peak_lr:.3g}")
        self.sae = self.learner.sae(self._metadata)
        del self.learner
        if self.out is None:
            return
        self.sae.save(self.out, format=self.sae.preferred_format)
        ending = self._rows[-math.ceil(len(self._rows) / 20) :]
        seconds = self._seconds + time.perf_counter() - self._started
        results = {name: sum(row[name] for row in ending) / len(ending) for name in ("loss", "fvu", "l0", "dead")}
        results |= {"steps": self.config.steps, "tokens": self._rows[-1]["tokens"], "wall_seconds": seconds}
        write_json(self.out / "results.json", {**results, "config": self._key})
        self._drop_checkpoint()

    def _drop_checkpoint(self) -> None:
        """Also one that a kill left unfinished."""
        if self.out is not None:
            for name in (CHECKPOINT, f"{CHECKPOINT}.tmp"):
                (self.out / name).unlink(missing_ok=True)


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

    def tick(self, run: _Run) -> None:
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


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Errors of a damaged file name it."""
    try:
        yield
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): delete it, or {_ANEW}") from error


def _device(name: str) -> torch.device:
    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(f"device={name!r} is not there on this machine: use 'cpu', or 'auto'") from error
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
