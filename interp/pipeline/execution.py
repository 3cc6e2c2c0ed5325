"""Running the stages of a run folder: each is skipped when done, and goes on from its checkpoints when cut off.

    fingerprint = SHA-256 of (stage, its sections of the configuration, digests of what it reads, their fingerprints)

A stage whose manifest carries the expected fingerprint is not run again. Any other is: on what a process that was
killed left of it, if that began with the same fingerprint, and in an empty folder otherwise.
"""

import json
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w

from interp.files import Progress, digest_json, no_progress, write_json, write_text
from interp.pipeline.config import RunConfig
from interp.pipeline.run_folder import Run
from interp.pipeline.stage import STAGES, Stage, stages_of

VERSIONED = ("interp", "torch", "numpy", "transformer-lens", "sae-lens")
FORMAT = 2
"""Of what stages write. Raised when a stage's results are no longer what an earlier version's were."""


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
    then the stages that the difference touches are run again; and when the configuration has no stage `until`.
    """
    stages = stages_of(config)
    names = [stage.name for stage in stages]
    if until is not None and until not in names:
        raise ValueError(f"{until} is not a stage of this configuration; its stages are {', '.join(names)}")
    _claim(Path(out), config, redo)
    run = Run(out)
    fingerprints: dict[str, str] = {}
    for stage in stages[: None if until is None else names.index(until) + 1]:
        expected = _expected(stage, run, {name: fingerprints[name] for name in stage.reads if name in fingerprints})
        fingerprints[stage.name] = expected["fingerprint"]
        manifest = run.manifest(stage.name)
        if manifest is not None and manifest["fingerprint"] == expected["fingerprint"]:
            finished(stage, manifest, False)
        else:
            finished(stage, _build(stage, run, expected, progress(stage.name)), True)
    return run


def run_alone(run: Run, name: str, *, config: RunConfig | None = None, progress: Progress) -> dict[str, Any]:
    """One stage anew, done or not, from what the stages before it left; those are not asked whether they still fit.

    config: replaces that of the run folder. Returns the stage's manifest. Raises ValueError where a stage that it needs
    has not been run.
    """
    config, stage = config or run.config, STAGES[name]
    before = [each.name for each in stages_of(config) if each.name in stage.reads]
    done = {each: manifest for each in before if (manifest := run.manifest(each)) is not None}
    if missing := [each for each in stage.inputs if each not in done]:
        raise ValueError(f"{run.path} has no {' and '.join(missing)} yet: `interp run` or `interp demo` makes them")
    if config != run.config:
        _claim(run.path, config, redo=True)
        run = Run(run.path)
    inputs = {each: manifest["fingerprint"] for each, manifest in done.items()}
    return _build(stage, run, _expected(stage, run, inputs), progress)


def _expected(stage: Stage, run: Run, inputs: dict[str, str]) -> dict[str, Any]:
    """The head of the stage's manifest: what its result depends on, and the fingerprint of that."""
    sections = run.config.to_dict()
    settings = {name: sections[name] for name in stage.sections} | dict(stage.outside(run.config))
    fingerprint = digest_json([FORMAT, stage.name, settings, inputs])
    return {"stage": stage.name, "fingerprint": fingerprint, "config": settings, "inputs": inputs}


def _build(stage: Stage, run: Run, expected: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Returns the manifest, which is written last."""
    folder = run.path / stage.name
    started = folder / "started.json"
    begun = {"fingerprint": expected["fingerprint"]}
    if started.is_file() and json.loads(started.read_text(encoding="utf-8")) == begun:
        (folder / "manifest.json").unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(started, begun)
    begin = time.monotonic()
    progress(0, 1, "starting")
    results = stage.build(run, folder, progress)
    manifest = expected | {
        "results": results,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONED},
        "wall_seconds": round(time.monotonic() - begin, 2),
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def _claim(out: Path, config: RunConfig, redo: bool) -> None:
    """Make `out` this configuration's run folder, or say what differs from the one that it is."""
    file = out / "run.toml"
    if not file.is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not a run folder; choose another with --out")
    if file.is_file() and not redo:
        there, here = RunConfig.from_toml(file).to_dict(), config.to_dict()
        different = [
            f"{section}.{key}: {there[section].get(key)!r} there, {here[section].get(key)!r} here"
            for section in here
            for key in sorted(there[section].keys() | here[section].keys())
            if there[section].get(key) != here[section].get(key)
        ]
        if different:
            raise ValueError(
                f"{out} holds a run of another configuration ({'; '.join(different)}); "
                "choose another folder with --out, or pass --redo to run the stages that this touches again"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, tomli_w.dumps(config.to_dict()))
