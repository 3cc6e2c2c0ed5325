"""The folder of a run: what its stages have written, without opening any of it (`run.Run` does).

A run folder holds `run.toml`, the whole configuration, and one folder per stage. A finished stage has a
`manifest.json`: its configuration, the fingerprints of its inputs, versions, wall time and results.

A run with several hooks is the run folder of the first hook, and contains in `hooks/HOOK` a run folder for each other
hook. These share the corpus and the model of the whole run; everything else is their own, and the same as in a run of
that hook alone.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from interp.checks.errors import DamagedError, InterpError
from interp.pipeline.config import RunConfig
from interp.pipeline.plugins import n_imported
from interp.pipeline.stages import LEFT_OUT, STAGES
from interp.storage.addresses import as_local_path
from interp.storage.artifacts import HOOKS, nearest_path, root_run
from interp.storage.files import digest_json
from interp.storage.manifests import RUN_FILE, read_manifest

PROVENANCE_FIELDS = ("seed", "tokens")
"""Fields of the configuration in a figure's provenance."""


class MissingResultError(AttributeError, InterpError):
    """The result of a stage that has not been run, or was left out. As it is an AttributeError, `hasattr(run, name)` is
    False and `getattr(run, name, None)` is None."""


def run_folders(out: Path, config: RunConfig) -> dict[Path, RunConfig]:
    """Return the run folders of all hooks, each with its configuration: `out`, of the whole run, for the first hook,
    and for each other hook a folder inside it."""
    others = config.harvest.hook_names[1:]
    return {out: config, **{out / hook_folder(name): config.at(name) for name in others}}


def hook_folder(hook_name: str) -> Path:
    """Return the folder, inside the run folder, of a hook after the first."""
    return Path(HOOKS, re.sub(r"^\.", "%2E", quote(hook_name, safe="")))


class RunFolder:
    """The configuration of a run, its hooks, and the manifests of its stages.

    Raises FileNotFoundError for a folder that is not a run."""

    def __init__(self, path: str | Path, config: RunConfig | None = None, *, root: Self | None = None):
        """Open the run.
        config: used instead of the one in run.toml.
        root: the run of all hooks, if it is open."""
        self.path = as_local_path(path)
        self._config = config
        self._config_read: tuple[tuple[int, ...], RunConfig] | None = None
        if not (self.path / RUN_FILE).is_file():
            near = nearest_path(self.path)
            remedy = (
                f"did you mean {near}?" if near and near != self.path else "`interp run` and `interp demo` make one"
            )
            raise FileNotFoundError(f"{path} is not a run folder, it has no {RUN_FILE}; {remedy}")
        whole = root_run(self.path)
        self.root: Self = root or (self if whole == self.path else type(self)(whole))
        """The run of all hooks; this run may be the part of one hook."""

    @property
    def config(self) -> RunConfig:
        """The configuration in run.toml. It is read once, and again if the file was written or a plugin imported since,
        which changes what can be read."""
        if self._config is not None:
            return self._config
        file = self.path / RUN_FILE
        status = file.stat()
        version = status.st_ino, status.st_mtime_ns, status.st_size, n_imported()
        if self._config_read is None or self._config_read[0] != version:
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

    @property
    def hook_name(self) -> str:
        """The hook at which the dictionary reads the model, by its name in the store."""
        manifest = self.manifest("activations")
        return next(iter(manifest["results"]["d"])) if manifest else self.config.harvest.hook_name

    @property
    def output_hook(self) -> str | None:
        """The hook that its transcoder writes, by its name in the store; None for an autoencoder."""
        return None if self.config.harvest.output_hook is None else [*self.results("activations")["d"]][-1]

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage, which may not exist yet."""
        is_shared = stage in STAGES and STAGES[stage].made_for == "run"
        return (self.root.path if is_shared else self.path) / stage

    def path_to(self, name: str) -> Path:
        """Return the file or folder that the attribute `name` reads. Raises ValueError for a name that no stage
        has."""
        files = {
            attribute: (stage.name, made[0]) for stage in STAGES.values() for attribute, made in stage.opens.items()
        }
        if name not in files:
            raise InterpError(f"a run has no {name!r}; its files are those of {', '.join(files)}")
        stage, file = files[name]
        return self.folder(stage) / file

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """Return the manifest of a finished stage, or None. Raises ValueError if it was changed since it was
        written."""
        manifest = read_manifest(self.folder(stage))
        if manifest is not None and manifest.get("stage") != stage:
            raise DamagedError(f"{self.folder(stage)} was not made by this run: `interp run` makes the stage again")
        return manifest

    def finished(self, stage: str) -> dict[str, Any]:
        """Return the manifest of a finished stage. Raises MissingResultError for one that is not finished or was
        left out."""
        manifest = self.manifest(stage)
        if manifest is None:
            raise MissingResultError(f"{self.path} has no {stage} yet: `interp run` or `interp demo` makes it")
        if not self.has(stage):
            raise MissingResultError(f"{self.path} has no {stage}: it was left out, as {manifest['results'][LEFT_OUT]}")
        return manifest

    def manifests(self, *, without_page: bool = False) -> dict[str, dict[str, Any]]:
        """Return the manifests of the finished stages, in their order."""
        names = [name for name, stage in STAGES.items() if not (without_page and stage.makes_page)]
        return {name: manifest for name in names if (manifest := self.manifest(name)) is not None}

    def fingerprints(self, stages: Iterable[str]) -> dict[str, str]:
        """Return the fingerprints of those of these stages that are finished. Raises ValueError as `manifest` does."""
        manifests = {name: self.manifest(name) for name in stages}
        return {name: manifest["fingerprint"] for name, manifest in manifests.items() if manifest is not None}

    def has(self, stage: str) -> bool:
        """Return whether a stage is finished, and its results are not left out."""
        manifest = self.manifest(stage)
        return manifest is not None and LEFT_OUT not in manifest["results"]

    def results(self, stage: str) -> dict[str, Any]:
        """Return the results of a finished stage, such as a training's fvu, l0 and dead. Raises MissingResultError for
        one that is not finished or was left out."""
        return self.finished(stage)["results"]

    def summaries(self) -> dict[str, str]:
        """Return one line on the results of each finished stage, by its name."""
        return {name: STAGES[name].summary_of(manifest) for name, manifest in self.manifests().items()}

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of figures of this run: its configuration's digest, seeds, tokens, stages and versions,
        from its manifests."""
        manifests = self.manifests()
        sections = {name: values for manifest in manifests.values() for name, values in manifest["config"].items()}
        fields = {
            key: {name: part[key] for name, part in sections.items() if isinstance(part, Mapping) and key in part}
            for key in PROVENANCE_FIELDS
        }
        return {
            "run": self.title,
            "config_sha256": digest_json(sections),
            **fields,
            "stages": {name: manifest["fingerprint"] for name, manifest in manifests.items()},
            "versions": next(iter(manifests.values()))["versions"] if manifests else {},
        }
