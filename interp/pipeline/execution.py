"""Run the stages of a run folder: a finished stage is skipped, an interrupted one resumes from its checkpoints.

A stage is finished if its manifest has the expected fingerprint (`states`) and all its files exist. Any other stage is
built next to its final folder (`storage.folders.atomic_folder`), and resumes interrupted work with the same
fingerprint. When it is complete it replaces the earlier folder. One process at a time writes.

If a run has several hooks, each has a run folder (`run_folder`) with the fingerprints of a run with
that hook alone, so hooks can be added later while finished ones are kept.
"""

import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from interp.checks.errors import DamagedError, InterpError, OverwriteError
from interp.pipeline.config import RunConfig
from interp.pipeline.lost_results import refuse_other_inputs, refuse_other_settings
from interp.pipeline.plan import Plan
from interp.pipeline.plugins import check_imported
from interp.pipeline.run import Run, open_runs
from interp.pipeline.run_folder import run_folders
from interp.pipeline.stages import STAGES, Stage, check_config
from interp.pipeline.states import finished_manifest, stage_identity, state_of
from interp.runtime.memory import peak_memory, release_freed, reset_peak
from interp.runtime.progress import Progress
from interp.runtime.progress_bar import bar_by_default
from interp.storage.addresses import as_local_path
from interp.storage.artifacts import HOOKS, root_run
from interp.storage.files import write_atomically
from interp.storage.folders import atomic_folder, recover_finished, restore_replaced
from interp.storage.locks import lock_folder, wait_for_lock
from interp.storage.manifests import MADE_OF, RUN_FILE, has_all_files, write_manifest
from interp.storage.packages import versions_of

VERSIONED_PACKAGES = ("interp", "torch", "numpy", "transformer-lens", "sae-lens")
log = logging.getLogger(__name__)


def run_stages(
    config: RunConfig,
    out: str | Path,
    *,
    until: str | None = None,
    redo: bool = False,
    progress: Callable[[str], Progress] | None = None,
    on_finish: Callable[[Stage, dict[str, Any], bool], None] = lambda stage, manifest, ran: None,
    on_begin: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Run the stages up to `until`, or all, in the folder `out`, skipping finished ones.

    progress: maps a stage's name to the function that is called with (done, total, note) during its long
    steps. By default each stage shows a bar at a terminal and in a notebook.
    on_finish: called after each stage with the stage, its manifest and whether it ran now; after a stage that is made
        for all hooks, once for each hook, in their order.
    on_begin: if there are several hooks, called with the run of each before the stages that only it has.

    Raises OverwriteError if `out` contains work, finished or interrupted, of another configuration, of other files
    outside the run or of an earlier version of interp, that this run would replace (the message has the differences and
    the stages), unless `redo` is set, which runs those stages again;
    TooLargeError if the disk or the memory is too small (`plan.Plan`); InUseError while another process works in `out`;
    and ValueError if there is no stage `until`.
    """
    config, out = config.with_named_hooks(), as_local_path(out)
    stages = _stages_until(until)
    if root_run(out) != out:
        raise InterpError(f"{out} is one hook's part of {root_run(out)}: run that")
    with _claimed_runs(out, config, redo) as (runs, begin_work):
        fingerprints: dict[Path, str] = {}
        has_begun = False
        for stage, its_runs in _in_order(stages, runs, on_begin):
            work = _StageWork.of(stage, its_runs, fingerprints)
            fingerprints |= work.fingerprints
            if work.pending and not has_begun:
                after = stages[stages.index(stage) :]
                to_come = [each for each in stages if each in after or _is_missing(each, runs)]
                check_config(to_come, config)
                outdated = _outdated_results(stages, runs, fingerprints, redo)
                Plan.of(config, out, to_come, outdated=outdated).check()
                begin_work()
                has_begun = True
            built = work.build(progress) if work.pending else {}
            for run in its_runs:
                on_finish(stage, (work.finished | built)[run], run in built)
    return runs[0]


def finished_alone(run: Run, name: str, config: RunConfig) -> dict[str, Any] | None:
    """Return the manifest of a stage if `run_alone` with this configuration would make the same again; else None."""
    configured = Run(run.path, config)
    identity = stage_identity(configured, STAGES[name], configured.fingerprints(STAGES[name].all_inputs))
    manifest = finished_manifest(configured, name)
    if manifest is None or manifest["fingerprint"] != identity["fingerprint"]:
        return None
    return manifest if has_all_files(configured.folder(name), manifest) else None


def run_alone(run: Run, name: str, *, config: RunConfig | None = None, progress: Progress) -> dict[str, Any]:
    """Run one stage again, finished or not, from the existing results of the stages before it.

    config: replaces the configuration of the run folder once the stage is complete. Returns the stage's manifest.
    Raises ValueError if a stage that it needs has not been run, or if a plugin of the run has not been imported, and
    InUseError while another process works in the run folder.
    """
    config = config or run.config
    stage = STAGES[name]
    check_imported(config.plugins, run.path)
    with lock_folder(run.path):
        _restore_replaced(run.path)
        inputs = run.fingerprints(stage.all_inputs)
        if missing := [needed for needed in stage.inputs if needed not in inputs]:
            names = " and ".join(missing)
            them = "it" if len(missing) == 1 else "them"
            raise InterpError(f"{run.path} has no {names} yet: `interp run` or `interp demo` makes {them}")
        configured = Run(run.path, config)
        identity = stage_identity(configured, stage, inputs)
        # The configuration is written first: a process that is killed between the two has lost no result.
        built = _build(stage, {configured: identity}, progress, on_made=lambda: _write_config(run.path, config))
    return built[configured]


def _stages_until(until: str | None) -> list[Stage]:
    """Return the stages up to `until`, or all, in the order in which they run. Raises ValueError for another name."""
    names = list(STAGES)
    if until is not None and until not in names:
        raise InterpError(f"{until} is not a stage; the stages are {', '.join(names)}")
    wanted = [STAGES[name] for name in names[: None if until is None else names.index(until) + 1]]
    return sorted(wanted, key=lambda stage: stage.made_for == "each hook")


def _in_order(
    stages: Sequence[Stage], runs: Sequence[Run], on_begin: Callable[[Run], None]
) -> Iterator[tuple[Stage, Sequence[Run]]]:
    """Yield (stage, runs): the runs for which the stage is made in one call. Stages that are made for the run or for
    all hooks come first."""
    for stage in stages:
        if stage.made_for != "each hook":
            yield stage, runs[:1] if stage.made_for == "run" else runs
    for run in runs:
        if len(runs) > 1:
            on_begin(run)
        for stage in stages:
            if stage.made_for == "each hook":
                yield stage, [run]


class _StageWork(NamedTuple):
    """What is left to do of a stage, for the runs for which it is made in one call."""

    stage: Stage
    identities: dict[Run, dict[str, Any]]
    """What the stage would be made of now (`stage_identity`)."""
    finished: dict[Run, dict[str, Any]]
    """The manifests of the runs that have just this."""

    @classmethod
    def of(cls, stage: Stage, runs: Sequence[Run], fingerprints: Mapping[Path, str]) -> "_StageWork":
        """fingerprints: those of the stages before it, by their folders, which several runs may share."""
        work = cls(stage, {}, {})
        for run in runs:
            read = {name: run.folder(name) for name in stage.all_inputs}
            inputs = {name: fingerprints[folder] for name, folder in read.items() if folder in fingerprints}
            identity = work.identities[run] = stage_identity(run, stage, inputs)
            manifest = _kept_manifest(run, stage.name, identity["fingerprint"])
            if manifest is not None:
                work.finished[run] = manifest
        return work

    @property
    def fingerprints(self) -> dict[Path, str]:
        return {run.folder(self.stage.name): identity["fingerprint"] for run, identity in self.identities.items()}

    @property
    def pending(self) -> dict[Run, dict[str, Any]]:
        """The identities of the runs for which the stage is built."""
        return {run: identity for run, identity in self.identities.items() if run not in self.finished}

    def build(self, progress: Callable[[str], Progress] | None) -> dict[Run, dict[str, Any]]:
        """Build the stage where it is pending, and return the manifests."""
        name = self.stage.name
        with bar_by_default(name) if progress is None else nullcontext(progress(name)) as bar:
            return _build(self.stage, self.pending, bar)


def _is_missing(stage: Stage, runs: Sequence[Run]) -> bool:
    """Return whether a run lacks a stage, as that of a later hook may where an earlier one has it."""
    return any(finished_manifest(run, stage.name) is None for run in runs)


def _outdated_results(
    stages: Sequence[Stage], runs: Sequence[Run], fingerprints: Mapping[Path, str], redo: bool
) -> list[Path]:
    """Return the folders of the results that are made again, but for the page. Raises OverwriteError if these may not
    be lost (`refuse_other_inputs`).
    fingerprints: those that are expected of the stages so far, by their folders."""
    kept = [stage for stage in stages if not stage.makes_page]
    results = {run.folder(stage.name): (run, stage) for stage in kept for run in reversed(runs)}
    states = {folder: state_of(*result, expected=fingerprints) for folder, result in results.items()}
    if not redo:
        refuse_other_inputs(runs, states)
    return [folder for folder, state in states.items() if state.name == "replaced"]


def _kept_manifest(run: Run, stage: str, fingerprint: str) -> dict[str, Any] | None:
    """Return the manifest of a stage that need not run, as a killed process may have left it; None if it is damaged, or
    if a file is missing or has another size."""
    with suppress(DamagedError):  # `finished_manifest` tells it
        recover_finished(run.folder(stage), _made_of(stage, fingerprint), run=run.path)
    manifest = finished_manifest(run, stage)
    if manifest is None or manifest["fingerprint"] != fingerprint:
        return None
    if not has_all_files(run.folder(stage), manifest):
        log.warning("files of %s are missing or have another size; it runs again", run.folder(stage))
        return None
    return manifest


def _build(
    stage: Stage,
    identities: Mapping[Run, dict[str, Any]],
    progress: Progress,
    *,
    on_made: Callable[[], None] = lambda: None,
) -> dict[Run, dict[str, Any]]:
    """Build a stage of one run, or of several runs together. Returns the manifests, which start with
    `identities` and are written last.
    on_made: called when all is made, before it replaces earlier results."""
    with ExitStack() as stack:
        folders = {}
        for run, identity in identities.items():
            made_of = _made_of(stage.name, identity["fingerprint"])
            new = atomic_folder(run.folder(stage.name), made_of, resumes=True, overwrite=True, run=run.path)
            folders[run] = stack.enter_context(new)
        begin = time.monotonic()
        release_freed()
        reset_peak()
        progress(0, 1, "starting")
        if stage.made_for == "all hooks":
            results = stage.build(list(folders), list(folders.values()), progress)
        else:
            results = [stage.build(run, folder, progress) for run, folder in folders.items()]
        stage.check_results(results, len(folders))
        cost = {
            "versions": {"python": platform.python_version(), **versions_of(*VERSIONED_PACKAGES)},
            "wall_seconds": round((time.monotonic() - begin) / len(folders), 2),
            "peak_megabytes": round(peak_memory() / 1e6),
        }
        manifests = {}
        for (run, identity), reached in zip(identities.items(), results, strict=True):
            made_of = _made_of(stage.name, identity["fingerprint"])
            manifests[run] = write_manifest(folders[run], identity | {MADE_OF: made_of, "results": reached, **cost})
        on_made()
        return manifests


def _made_of(stage: str, fingerprint: str) -> dict[str, str]:
    """Return what identifies a stage's result (`storage.folders`)."""
    return {"stage": stage, "fingerprint": fingerprint}


def _restore_replaced(run: Path) -> None:
    """Restore the stages that a process was replacing when it was killed."""
    for name in STAGES:
        restore_replaced(run / name)


@contextmanager
def _claimed_runs(out: Path, config: RunConfig, redo: bool) -> Iterator[tuple[list[Run], Callable[[], None]]]:
    """Yield the run of each hook, locked and with this configuration, and a function that is called before the first
    stage is built. A run that is refused before that keeps the run.toml files that it had."""
    with ExitStack() as locks:
        locks.enter_context(lock_folder(out))
        folders = run_folders(out, config)
        files = [folder / RUN_FILE for folder in folders]
        before = {file: file.read_bytes() if file.is_file() else None for file in files}
        begun = False

        def begin_work() -> None:
            nonlocal begun
            begun = True

        try:
            runs = _claim_folders(folders, redo, locks)
            for run in runs:
                _restore_replaced(run.path)
            yield runs, begin_work
        except BaseException:  # an interruption too
            if not begun:
                _restore_configs(before)
            raise


def _claim_folders(folders: Mapping[Path, RunConfig], redo: bool, locks: ExitStack) -> list[Run]:
    """Make these the run folders of a run (`run_folders`), and lock those of hooks after the first too. Raises
    OverwriteError if results of another configuration would be replaced."""
    out, *others = folders
    if not (out / RUN_FILE).is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OverwriteError(f"{out} exists and is not a run folder, it has no run.toml; choose another with --out")
    locked = {out, *(folder for folder in others if folder.is_dir())}
    for folder in locked - {out}:
        locks.enter_context(lock_folder(folder))
    if not redo:
        for run in open_runs(out, folders[out]):
            refuse_other_settings(run)
    for folder, config in folders.items():
        _write_config(folder, config)
        if folder not in locked:
            locks.enter_context(lock_folder(folder))
    root = Run(out)
    return [root.at(name) for name in root.hooks]


def _restore_configs(before: Mapping[Path, bytes | None]) -> None:
    """Restore the run.toml files, so that none differs from what the results next to it were made of. A file that is
    new (None) is deleted, and so is the folder of its hook, unless other files are in it."""
    for file, content in before.items():
        if content is not None:
            if not file.is_file() or file.read_bytes() != content:
                _replace_config(file, content)
            continue
        file.unlink(missing_ok=True)
        for folder in (file.parent, file.parent.parent) if file.parent.parent.name == HOOKS else ():
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _write_config(out: Path, config: RunConfig) -> None:
    file = out / RUN_FILE
    text = tomli_w.dumps(config.to_dict())
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        out.mkdir(parents=True, exist_ok=True)
        _replace_config(file, text.encode())


def _replace_config(file: Path, content: bytes) -> None:
    """Write a run.toml, while nobody writes notes under the lock of the one before."""
    with wait_for_lock(file) if file.exists() else nullcontext(), write_atomically(file) as temporary:
        temporary.write_bytes(content)
