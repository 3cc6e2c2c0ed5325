"""Running the stages of a run folder: each is skipped when done, and goes on from its checkpoints when cut off.

    fingerprint = SHA-256 of (stage, its sections of the configuration, digests of what it reads, their fingerprints)

Digests of the run's plugins are part of every stage's configuration: what a user's own code changes is not known.

A stage is done whose manifest carries the expected fingerprint and whose files are all there. Any other is built beside
its place (`storage.folders.whole_folder`): on what a process that was killed left, if that began with the same
fingerprint. When it is whole it takes the place of what the run had of it. One process at a time writes.
"""

import logging
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w

from interp.pipeline.config import RunConfig
from interp.pipeline.plugins import check_imported
from interp.pipeline.run_folder import Run
from interp.pipeline.stages import STAGES, Stage
from interp.storage.checks import forget_peak, peak_memory
from interp.storage.files import Progress, digest_json, no_progress, write_text
from interp.storage.folder_kinds import RUN_FILE
from interp.storage.folders import MADE_OF, is_whole, locked, put_back, whole_folder, write_manifest

VERSIONED = ("interp", "torch", "numpy", "transformer-lens", "sae-lens")
FORMAT = 4
"""The version of what stages write. It is raised when a stage's results are no longer what they were."""
log = logging.getLogger(__name__)


def run_stages(
    config: RunConfig,
    out: str | Path,
    *,
    until: str | None = None,
    redo: bool = False,
    progress: Callable[[str], Progress] = lambda stage: no_progress,
    finished: Callable[[Stage, dict[str, Any], bool], None] = lambda stage, manifest, ran: None,
) -> Run:
    """Run the stages up to `until`, or all, in the folder `out`, skipping what is done.

    progress: given a stage's name, returns what is called with (done, total, note) on its long steps.
    finished: called after each stage with the stage, its manifest and whether it ran now.

    Raises ValueError when `out` holds a run of another configuration (it says what differs), unless `redo` is set:
    then the stages that the difference touches are run again; when there is no stage `until`; and while another process
    works in `out`.
    """
    stages, names = list(STAGES.values()), list(STAGES)
    if until is not None and until not in names:
        raise ValueError(f"{until} is not a stage; the stages are {', '.join(names)}")
    with locked(out):
        _claim(Path(out), config, redo)
        run = Run(out)
        _put_back(run.path)
        fingerprints: dict[str, str] = {}
        checked, asked = False, stages[: None if until is None else names.index(until) + 1]
        for stage in asked:
            expected = _expected(stage, run, {name: fingerprints[name] for name in stage.reads if name in fingerprints})
            fingerprints[stage.name] = expected["fingerprint"]
            manifest = _done(run, stage.name, expected["fingerprint"])
            ran = manifest is None
            if ran and not checked:
                checked = True
                for each in asked[asked.index(stage) :]:
                    each.check(config)
            finished(stage, manifest or _build(stage, run, expected, progress(stage.name)), ran)
    return run


def run_alone(run: Run, name: str, *, config: RunConfig | None = None, progress: Progress) -> dict[str, Any]:
    """One stage anew, done or not, from what the stages before it left; those are not made again.

    config: replaces that of the run folder once the stage is whole. Returns the stage's manifest. Raises ValueError
    where a stage that it needs has not been run, where a plugin of the run has not been imported, and while another
    process works in the run folder.
    """
    config, stage = config or run.config, STAGES[name]
    check_imported(config.plugins, run.path)
    with locked(run.path):
        _put_back(run.path)
        before = [each for each in STAGES if each in stage.reads]
        done = {each: manifest for each in before if (manifest := run.manifest(each)) is not None}
        if missing := [each for each in stage.inputs if each not in done]:
            raise ValueError(f"{run.path} has no {' and '.join(missing)} yet: `interp run` or `interp demo` makes them")
        asked = Run(run.path, config)
        inputs = {each: manifest["fingerprint"] for each, manifest in done.items()}
        manifest = _build(stage, asked, _expected(stage, asked, inputs), progress)
        _claim(run.path, config, redo=True)
    return manifest


def _expected(stage: Stage, run: Run, inputs: dict[str, str]) -> dict[str, Any]:
    """The head of the stage's manifest: what its result depends on, and the fingerprint of that."""
    sections = run.config.to_dict()
    settings = {name: sections[name] for name in stage.sections} | dict(stage.outside(run.config))
    if run.config.plugins:
        settings["plugins"] = sorted(run.config.plugins.values())
    fingerprint = digest_json([FORMAT, stage.name, settings, inputs])
    return {"stage": stage.name, "fingerprint": fingerprint, "config": settings, "inputs": inputs}


def _done(run: Run, stage: str, fingerprint: str) -> dict[str, Any] | None:
    """The manifest of a stage that need not run; None where it is damaged, or a file is missing or of another size."""
    try:
        manifest = run.manifest(stage)
    except ValueError as error:
        log.warning("%s: it is run again", error)
        return None
    if manifest is None or manifest["fingerprint"] != fingerprint:
        return None
    if not is_whole(run.path / stage, manifest):
        log.warning("files of %s are missing or cut off: it is run again", run.path / stage)
        return None
    return manifest


def _build(stage: Stage, run: Run, expected: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Returns the manifest, which is written last."""
    made_of = {name: expected[name] for name in ("stage", "fingerprint")}
    with whole_folder(run.path / stage.name, made_of, resume=True, overwrite=True, run=run.path) as folder:
        begin = time.monotonic()
        forget_peak()
        progress(0, 1, "starting")
        results = stage.build(run, folder, progress)
        manifest = expected | {
            MADE_OF: made_of,
            "results": results,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONED},
            "wall_seconds": round(time.monotonic() - begin, 2),
            "peak_megabytes": round(peak_memory() / 1e6),
        }
        return write_manifest(folder, manifest)


def _put_back(run: Path) -> None:
    """The stages that a process was replacing when it was killed."""
    for name in STAGES:
        put_back(run / name)


def _claim(out: Path, config: RunConfig, redo: bool) -> None:
    """Make `out` this configuration's run folder, or say what differs from the one that it is."""
    file = out / RUN_FILE
    if not file.is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not a run folder, it has no run.toml; choose another with --out")
    if file.is_file() and not redo:
        try:
            there, here = RunConfig.from_toml(file).to_dict(), config.to_dict()
        except ValueError as error:
            raise ValueError(f"{error}; --redo writes it again, and runs the stages that this touches") from error
        different = [
            f"{section}.{key}: {there.get(section, {}).get(key)!r} there, {here.get(section, {}).get(key)!r} here"
            for section in here | there
            for key in sorted(there.get(section, {}).keys() | here.get(section, {}).keys())
            if there.get(section, {}).get(key) != here.get(section, {}).get(key)
        ]
        if different:
            how = "choose another folder with --out, or pass --redo to run the stages that this touches again"
            raise ValueError(f"{out} holds a run of another configuration ({'; '.join(different)}); {how}")
    text = tomli_w.dumps(config.to_dict())
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)
