"""The records of the stages in a run folder: where each is, whether it is finished, and what it was made from.

A finished stage has a `manifest.json`: its configuration, the fingerprints of its inputs, versions, wall time and
results. `interp.pipeline.run_folder` opens what the stages left.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interp.pipeline.config import RunConfig
from interp.pipeline.stages import LEFT_OUT, STAGES, Stage
from interp.storage.files import as_json, digest_json
from interp.storage.folder_kinds import RUN_FILE
from interp.storage.folders import read_manifest

PROVENANCE_FIELDS = ("seed", "tokens")
"""Fields of the configuration that a figure's provenance names."""


class StageFolders:
    """The folder of a run, and what its stages wrote down about themselves."""

    path: Path
    whole: "StageFolders"
    """The run of all hooks, of which this may be the part of one."""
    _config: RunConfig | None

    @property
    def config(self) -> RunConfig:
        return self._config or RunConfig.from_toml(self.path / RUN_FILE)

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks at which the whole run learns dictionaries, as its configuration names them."""
        return self.whole.config.harvest.hook_names

    @property
    def title(self) -> str:
        """The title of its page: the name of the run folder, and the hook where there are several."""
        name = self.whole.path.resolve().name
        return f"{name} · {self.config.harvest.hook_name}" if len(self.hooks) > 1 else name

    def folder(self, stage: str) -> Path:
        """Return where a stage is, or will be."""
        is_shared = stage in STAGES and STAGES[stage].for_all_hooks
        return (self.whole.path if is_shared else self.path) / stage

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """Return the manifest of a finished stage, or None. Raises ValueError for one that is not as it was written."""
        manifest = read_manifest(self.folder(stage))
        if manifest is not None and manifest.get("stage") != stage:
            raise ValueError(f"{self.folder(stage)} was not made by this run: `interp run` makes the stage again")
        return manifest

    def has(self, stage: str) -> bool:
        """Return whether a stage is finished, and its results are not left out."""
        manifest = self.manifest(stage)
        return manifest is not None and LEFT_OUT not in manifest["results"]

    def results(self, stage: str) -> dict[str, Any]:
        """Return what a finished stage reached, such as a training's fvu, l0 and dead."""
        return self._finished(stage)["results"]

    def summaries(self) -> dict[str, str]:
        """Return a line on what each finished stage reached, by its name."""
        return {name: STAGES[name].summary_of(manifest) for name, manifest in self._manifests().items()}

    def path_to(self, name: str) -> Path:
        """Return the file or folder that the attribute `name` reads."""
        return next(self.folder(stage.name) / stage.opens[name][0] for stage in STAGES.values() if name in stage.opens)

    def settings(self, stage: Stage) -> dict[str, Any]:
        """Return what the results of a stage depend on in the configuration: its sections, and the digests of all
        plugins."""
        config = self.config.at(self.config.harvest.hook_name)
        sections = config.to_dict()
        settings = {name: sections[name] for name in stage.sections}
        return settings | ({"plugins": sorted(config.plugins.values())} if config.plugins else {})

    def differing(self, stage: Stage, manifest: Mapping[str, Any]) -> list[str]:
        """Return the settings that were others when a stage was made, by its manifest."""
        settings = as_json(self.settings(stage))
        names = dict.fromkeys([*stage.sections, "plugins"])
        return [name for name in names if manifest["config"].get(name) != settings.get(name)]

    def provenance(self) -> dict[str, Any]:
        """Tell the origin of what is drawn from it: its configuration's digest, seeds, tokens, stages and versions, as
        its manifests record them."""
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
        names = [name for name, stage in STAGES.items() if not (without_page and stage.last)]
        return {name: manifest for name in names if (manifest := self.manifest(name)) is not None}

    def _fingerprints(self, stages: Iterable[str]) -> dict[str, str | None]:
        return {name: (self.manifest(name) or {}).get("fingerprint") for name in stages}

    def _finished(self, stage: str) -> dict[str, Any]:
        manifest = self.manifest(stage)
        if manifest is None:
            raise FileNotFoundError(f"{self.path} has no {stage} yet: `interp run` or `interp demo` makes it")
        if not self.has(stage):
            raise FileNotFoundError(f"{self.path} has no {stage}: it was left out, as {manifest['results'][LEFT_OUT]}")
        return manifest

    def _check_current(self, stage: Stage, manifest: dict[str, Any]) -> None:
        """Check that a stage's results belong to the present run. Raises ValueError if the stage was made with
        another configuration, or from inputs that have been made again since; inputs that are gone count as
        unchanged."""
        differing = [f"[{name}]" for name in self.differing(stage, manifest)]
        now = {name: self.manifest(name) or {} for name in manifest["inputs"]}
        before = manifest["inputs"]
        differing += [name for name in before if now[name].get("fingerprint", before[name]) != before[name]]
        if differing:
            raise ValueError(
                f"{self.folder(stage.name)} was made with another {' and another '.join(differing)} than the run "
                "now has: `interp run` makes it again"
            )
