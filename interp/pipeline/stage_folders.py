"""The records of the stages in a run folder: the folder, state and inputs of each.

A finished stage has a `manifest.json`: its configuration, the fingerprints of its inputs, versions, wall time and
results. `interp.pipeline.run_folder` opens the stages' results.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interp.checks.errors import DamagedError, InterpError
from interp.pipeline.config import RunConfig
from interp.pipeline.stages import LEFT_OUT, STAGES, Stage
from interp.storage.files import digest_json, json_roundtrip
from interp.storage.manifests import RUN_FILE, read_manifest

PROVENANCE_FIELDS = ("seed", "tokens")
"""Fields of the configuration in a figure's provenance."""


class MissingResultError(AttributeError, InterpError):
    """The result of a stage that has not been run, or was left out. As it is an AttributeError, `hasattr(run, name)` is
    False and `getattr(run, name, None)` is None."""


class StageFolders:
    """The folder of a run, and the records of its stages.

    config: used instead of the one in run.toml.
    """

    root: "StageFolders"
    """The run of all hooks; this run may be the part of one hook."""

    def __init__(self, path: Path, config: RunConfig | None = None):
        self.path = path
        self._config = config
        self._config_read: tuple[tuple[int, ...], RunConfig] | None = None

    @property
    def config(self) -> RunConfig:
        """The configuration in run.toml. It is read once, and again if the file was written since, or if it names
        plugins, as importing one changes what can be read."""
        if self._config is not None:
            return self._config
        file = self.path / RUN_FILE
        status = file.stat()
        version = status.st_ino, status.st_mtime_ns, status.st_size
        if self._config_read is None or self._config_read[0] != version or self._config_read[1].plugins:
            self._config_read = version, RunConfig.from_toml(file)
        return self._config_read[1]

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks of the whole run's dictionaries, as named in its configuration."""
        return self.root.config.harvest.hook_names

    @property
    def title(self) -> str:
        """The title of its page: the name of the run folder, and the hook if there are several."""
        name = self.root.path.resolve().name
        return f"{name} · {self.config.harvest.hook_name}" if len(self.hooks) > 1 else name

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage, which may not exist yet."""
        is_shared = stage in STAGES and STAGES[stage].made_for == "run"
        return (self.root.path if is_shared else self.path) / stage

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """Return the manifest of a finished stage, or None. Raises ValueError if it was changed since it was
        written."""
        manifest = read_manifest(self.folder(stage))
        if manifest is not None and manifest.get("stage") != stage:
            raise DamagedError(f"{self.folder(stage)} was not made by this run: `interp run` makes the stage again")
        return manifest

    def fingerprints(self, stages: Iterable[str]) -> dict[str, str | None]:
        """Return the fingerprint of each stage; None if it is not finished. Raises ValueError as `manifest` does."""
        return {name: (self.manifest(name) or {}).get("fingerprint") for name in stages}

    def has(self, stage: str) -> bool:
        """Return whether a stage is finished, and its results are not left out."""
        manifest = self.manifest(stage)
        return manifest is not None and LEFT_OUT not in manifest["results"]

    def results(self, stage: str) -> dict[str, Any]:
        """Return the results of a finished stage, such as a training's fvu, l0 and dead. Raises MissingResultError for
        one that is not finished or was left out."""
        return self._finished(stage)["results"]

    def summaries(self) -> dict[str, str]:
        """Return one line on the results of each finished stage, by its name."""
        return {name: STAGES[name].summary_of(manifest) for name, manifest in self._manifests().items()}

    def path_to(self, name: str) -> Path:
        """Return the file or folder that the attribute `name` reads. Raises ValueError for a name that no stage
        has."""
        files = {known: (stage.name, made[0]) for stage in STAGES.values() for known, made in stage.opens.items()}
        if name not in files:
            raise InterpError(f"a run has no {name!r}; its files are those of {', '.join(files)}")
        stage, file = files[name]
        return self.folder(stage) / file

    def settings(self, stage: Stage) -> dict[str, Any]:
        """Return the settings that a stage's results depend on: its sections, and the digests of all plugins."""
        config = self.config.at(self.config.harvest.hook_name)
        sections = config.to_dict()
        settings = {name: sections[name] for name in stage.sections}
        return settings | ({"plugins": sorted(config.plugins.values())} if config.plugins else {})

    def changed_settings(self, stage: Stage, manifest: Mapping[str, Any]) -> list[str]:
        """Return the settings that differ from those in a stage's manifest."""
        settings = json_roundtrip(self.settings(stage))
        names = dict.fromkeys([*stage.sections, "plugins"])
        before = manifest["config"]
        return [name for name in names if before.get(name) != settings.get(name)]

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of figures of this run: its configuration's digest, seeds, tokens, stages and versions,
        from its manifests."""
        manifests = self._manifests()
        sections = {name: values for manifest in manifests.values() for name, values in manifest["config"].items()}
        named = {
            key: {name: values[key] for name, values in sections.items() if key in values} for key in PROVENANCE_FIELDS
        }
        return {
            "run": self.title,
            "config_sha256": digest_json(sections),
            **named,
            "stages": {name: manifest["fingerprint"] for name, manifest in manifests.items()},
            "versions": next(iter(manifests.values()))["versions"] if manifests else {},
        }

    def _manifests(self, *, without_page: bool = False) -> dict[str, dict[str, Any]]:
        """Return the manifests of the finished stages, in their order."""
        names = [name for name, stage in STAGES.items() if not (without_page and stage.runs_last)]
        return {name: manifest for name in names if (manifest := self.manifest(name)) is not None}

    def _finished(self, stage: str) -> dict[str, Any]:
        manifest = self.manifest(stage)
        if manifest is None:
            raise MissingResultError(f"{self.path} has no {stage} yet: `interp run` or `interp demo` makes it")
        if not self.has(stage):
            raise MissingResultError(f"{self.path} has no {stage}: it was left out, as {manifest['results'][LEFT_OUT]}")
        return manifest

    def _check_current(self, stage: Stage, manifest: dict[str, Any]) -> None:
        """Check that a stage's results belong to the present run. Raises ValueError if the stage was made with another
        configuration, or from inputs that have been made again since; missing inputs count as unchanged."""
        differing = [f"[{name}]" for name in self.changed_settings(stage, manifest)]
        now = self.fingerprints(manifest["inputs"])
        differing += [name for name, before in manifest["inputs"].items() if now[name] not in (None, before)]
        if differing:
            raise InterpError(
                f"{self.folder(stage.name)} was made with another {' and another '.join(differing)} than the run "
                "now has: `interp run` makes it again"
            )
