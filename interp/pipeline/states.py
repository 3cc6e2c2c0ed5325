"""Whether what a run has of a stage is what it would make of it now.

    missing       there is nothing of it
    interrupted   it was begun, of the same that it would be made of now: it resumes
    current       it was finished, of the same: it is kept
    replaced      it was begun or finished, of something else: it is made again, and what there is of it is lost

A stage's result is made of

    version    the number that its declaration raises when it gives other results than before (`Stage.version`)
    settings   its sections of the configuration, and the plugins with which it can do something (`Stage.extended_by`)
    outside    what it reads outside the run folder (`Stage.outside_inputs`), such as the digests of files of text
    inputs     the results of the stages that it reads

    fingerprint = SHA-256 of version, name, settings, outside, and the fingerprints of the inputs

The manifest of a finished stage has all of these, so `state_of` tells which differ; of an interrupted stage only the
fingerprint is known. If a stage is made again, so are those that read it (`stages_lost`).
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from interp.checks.errors import InterpError
from interp.pipeline.plugins import registered_by
from interp.pipeline.run_folder import RunFolder
from interp.pipeline.stages import STAGES, Stage
from interp.storage.files import digest_json, json_roundtrip
from interp.storage.folders import interrupted_work

_MAX_NAMED = 3
"""Most names in a list of what differs."""
log = logging.getLogger(__name__)


class State(NamedTuple):
    name: Literal["missing", "interrupted", "current", "replaced"]
    settings: tuple[str, ...] = ()
    """The sections whose settings differ."""
    inputs: tuple[str, ...] = ()
    """The stages that it reads and that were made again since."""
    others: tuple[str, ...] = ()
    """What else differs, each in words."""


def state_of(
    run: RunFolder, stage: Stage, *, outside: bool = True, expected: Mapping[Path, str] = MappingProxyType({})
) -> State:
    """Return the state of a stage.

    outside: False leaves out the version and what a finished stage reads outside the run folder, whose files may be
    large.
    expected: the fingerprints of stages, by folder, that would be made now. An input that is missing is compared with
    these; it counts as unchanged if it is not among them.
    """
    manifest = finished_manifest(run, stage.name)
    if manifest is None:
        begun = interrupted_work(run.folder(stage.name))
        if begun is None:
            return State("missing")
        inputs = finished_fingerprints(run, stage.all_inputs)
        if begun["fingerprint"] == stage_identity(run, stage, inputs)["fingerprint"]:
            return State("interrupted")
        return State("replaced", others=(f"{stage.name} was begun with other inputs",))
    now = finished_fingerprints(run, manifest["inputs"])
    settings = json_roundtrip(_settings(run, stage))
    before = manifest["config"]
    others = [
        f"{stage.name} was made of another {name}, which is missing"
        for name, fingerprint in manifest["inputs"].items()
        if name not in now and expected.get(run.folder(name), fingerprint) != fingerprint
    ]
    differs = State(
        "replaced",
        tuple(name for name in (*stage.sections, "plugins") if before.get(name) != settings.get(name)),
        tuple(name for name, fingerprint in manifest["inputs"].items() if now.get(name, fingerprint) != fingerprint),
        (*others, *(_other_differences(run, stage, manifest) if outside else ())),
    )
    return differs if any(differs[1:]) else State("current")


def check_current(run: RunFolder, stage: str) -> None:
    """Check that a stage's results belong to the present run, whatever lies outside the run folder. Raises
    MissingResultError if it is not finished or was left out, and ValueError if it was made with another configuration,
    or from inputs that have been made again since."""
    run.fingerprints(run.finished(stage)["inputs"])  # a damaged manifest of theirs is an error here
    state = state_of(run, STAGES[stage], outside=False)
    if state.name == "replaced":
        differing = [*(f"[{name}]" for name in state.settings), *state.inputs]
        raise InterpError(
            f"{run.folder(stage)} was made with another {' and another '.join(differing)} than the run now has: "
            "`interp run` makes it again"
        )


def stages_lost(run: RunFolder, made_again: Collection[str]) -> list[str]:
    """Return the stages of which the run has something that is lost if these are made again: they, and those that read
    one of them, be it through others."""
    made_again = {*made_again}
    for stage in STAGES.values():
        if made_again.intersection(stage.all_inputs):
            made_again.add(stage.name)
    return [stage.name for stage in STAGES.values() if stage.name in made_again and _has_any(run, stage.name)]


def stage_identity(run: RunFolder, stage: Stage, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the identity of the manifest that a stage would get now: what its result is made of, and the fingerprint.
    inputs: the fingerprints of the stages that it reads."""
    settings = _settings(run, stage) | dict(stage.outside_inputs(run))
    fingerprint = _fingerprint(stage, settings, inputs)
    return {"stage": stage.name, "fingerprint": fingerprint, "config": settings, "inputs": dict(inputs)}


def finished_fingerprints(run: RunFolder, stages: Iterable[str]) -> dict[str, str]:
    """Return the fingerprints of those of these stages that are finished."""
    manifests = {name: finished_manifest(run, name) for name in stages}
    return {name: manifest["fingerprint"] for name, manifest in manifests.items() if manifest is not None}


def finished_manifest(run: RunFolder, stage: str) -> dict[str, Any] | None:
    """Return the manifest of a finished stage; None if the stage is unfinished or the manifest damaged."""
    try:
        return run.manifest(stage)
    except ValueError as error:
        log.warning("%s: it is run again", error)
        return None


def _settings(run: RunFolder, stage: Stage) -> dict[str, Any]:
    """Return the settings that a stage's results depend on: its sections, and the digests of the plugins that count."""
    config = run.config.at(run.config.harvest.hook_name)
    sections = config.to_dict()
    settings = {name: sections[name] for name in stage.sections}
    plugins = sorted(digest for file, digest in config.plugins.items() if _counts(run, stage, file, digest))
    return settings | ({"plugins": plugins} if plugins else {})


def _counts(run: RunFolder, stage: Stage, file: str, digest: str) -> bool:
    """Return whether a stage can use what a plugin registers or, where it has not been imported, whether it could."""
    registered = registered_by(file, digest)
    if registered is None:
        manifest = finished_manifest(run, stage.name)
        return manifest is not None and digest in manifest["config"].get("plugins", ())
    return any(noun in stage.extended_by or (noun, name) == ("stage", stage.name) for noun, name in registered)


def _fingerprint(stage: Stage, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    return digest_json([stage.version, stage.name, settings, inputs])


def _has_any(run: RunFolder, stage: str) -> bool:
    return finished_manifest(run, stage) is not None or interrupted_work(run.folder(stage)) is not None


def _other_differences(run: RunFolder, stage: Stage, manifest: Mapping[str, Any]) -> list[str]:
    """Return, in words, the differences of a finished stage in version and in what lies outside the run folder."""
    settings = manifest["config"]
    if manifest["fingerprint"] != _fingerprint(stage, settings, manifest["inputs"]):
        return [f"another version of interp made {stage.name}, with other results than this one"]
    before = {name: value for name, value in settings.items() if name not in (*stage.sections, "plugins")}
    now = json_roundtrip(dict(stage.outside_inputs(run)))
    differences = []
    for name in _differing(before, now):
        old, new = before.get(name), now.get(name)
        parts = _differing(old, new) if isinstance(old, dict) and isinstance(new, dict) else []
        shown = ", ".join(parts[:_MAX_NAMED]) + (", …" if len(parts) > _MAX_NAMED else "")
        words = stage.outside_words.get(name, name)
        differences.append(f"{stage.name} was made of other {words}{shown and f' ({shown})'}")
    return differences


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
