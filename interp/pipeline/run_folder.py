"""A run folder, opened: `Run("runs/demo").ranking`.

A run folder holds `run.toml`, the whole configuration, and one folder per stage. A finished stage has a
`manifest.json`: its configuration, the fingerprints of its inputs, versions, wall time and results.

A run with several hooks is the run folder of the first hook, and contains in `hooks/HOOK` a run folder for each other
hook. These share the corpus and the model of the whole run; everything else is their own, and the same as in a run of
that hook alone. `Run("runs/mine").at("blocks.9.hook_resid_post")` is the run of one hook, `Run("runs/mine").hooks`
names all.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from interp.activations.harvest_options import RowConfig
from interp.checks.config_fields import values_of
from interp.checks.errors import DamagedError, InterpError, did_you_mean
from interp.display.cards import Markup, card, markup, show_table
from interp.pipeline.config import RunConfig
from interp.pipeline.plugins import n_imported
from interp.pipeline.sections import MLP_NEURONS
from interp.pipeline.stages import LEFT_OUT, RUN_ATTRIBUTES, STAGES, Stage
from interp.pipeline.states import state_of
from interp.storage.addresses import as_local_path
from interp.storage.artifacts import HOOKS, nearest_path, root_run
from interp.storage.files import digest_json
from interp.storage.manifests import RUN_FILE, read_manifest, verify

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from interp.activations import ActivationStore, ActivationStream
    from interp.compare.null_dictionaries import Nulls
    from interp.features.feature import Feature
    from interp.features.feature_store import FeatureStore
    from interp.features.text_features import TextFeatures
    from interp.report.inputs import ReportInputs
    from interp.sae import SAE
    from interp.verdict.ranking_tables import Ranking
    from models.tokenizer import Tokenizer
    from models.tokens import LabelledTokens
    from models.transformer import Transformer

PROVENANCE_FIELDS = ("seed", "tokens")
"""Fields of the configuration in a figure's provenance."""
log = logging.getLogger(__name__)


class MissingResultError(AttributeError, InterpError):
    """The result of a stage that has not been run, or was left out. As it is an AttributeError, `hasattr(run, name)` is
    False and `getattr(run, name, None)` is None."""


class Basis(NamedTuple):
    """The directions of the model itself, with whose codes latents are compared, and their hook."""

    name: Literal["neurons", "coordinates"]
    """The neurons of the MLP or, if the model has no hook for them, the coordinates at the dictionary's own hook."""
    hook_name: str

    @property
    def singular(self) -> str:
        return self.name.removesuffix("s")


def run_folders(out: Path, config: RunConfig) -> dict[Path, RunConfig]:
    """Return the run folders of all hooks, each with its configuration: `out`, of the whole run, for the first hook,
    and for each other hook a folder inside it."""
    others = config.harvest.hook_names[1:]
    return {out: config, **{out / _hook_folder(name): config.at(name) for name in others}}


def open_runs(out: Path, config: RunConfig) -> "list[Run]":
    """Return the runs of those hooks that have a run folder already, with this configuration in place of theirs."""
    if not (out / RUN_FILE).is_file():
        return []
    root = Run(out, config)
    parts = {folder: part for folder, part in run_folders(out, config).items() if (folder / RUN_FILE).is_file()}
    return [root if folder == out else Run(folder, part, root=root) for folder, part in parts.items()]


def _hook_folder(hook_name: str) -> Path:
    """Return the folder, inside the run folder, of a hook after the first."""
    return Path(HOOKS, re.sub(r"^\.", "%2E", quote(hook_name, safe="")))


class Run:
    """A run, opened by its folder.

    Each attribute below opens a stage's result, when it is first accessed, and again after the stage has been rerun.
    Raises FileNotFoundError for a folder that is not a run, and MissingResultError, an AttributeError, for an attribute
    whose stage has not been run yet or was left out. `run.has(stage)` tells whether it is finished, without opening it.
    """

    if TYPE_CHECKING:
        tokenizer: Tokenizer
        train_tokens: LabelledTokens
        val_tokens: LabelledTokens
        model: Transformer
        model_curve: pd.DataFrame
        store: ActivationStore
        sae: SAE
        sae_curve: pd.DataFrame
        features: FeatureStore
        neurons: FeatureStore
        effects: pd.DataFrame
        quality: pd.DataFrame
        concepts: pd.DataFrame
        ranking: Ranking
        nulls: Nulls
        page: Path

    def __init__(self, path: str | Path, config: RunConfig | None = None, *, root: "Run | None" = None):
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
        self._opened: dict[str, tuple[int, Any]] = {}
        self._at: dict[str, Run] = {}
        whole = root_run(self.path)
        self.root: Run = root or (self if whole == self.path else Run(whole))
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
        files = {
            attribute: (stage.name, made[0]) for stage in STAGES.values() for attribute, made in stage.opens.items()
        }
        if name not in files:
            raise InterpError(f"a run has no {name!r}; its files are those of {', '.join(files)}")
        stage, file = files[name]
        return self.folder(stage) / file

    def check_current(self, stage: str) -> None:
        """Check that a stage's results belong to the present run (`states`), whatever lies outside the run folder.
        Raises MissingResultError if it is not finished or was left out, and ValueError if it was made with another
        configuration, or from inputs that have been made again since."""
        self.fingerprints(self._finished(stage)["inputs"])  # a damaged manifest of theirs is an error here
        state = state_of(self, STAGES[stage], outside=False)
        if state.name == "replaced":
            differing = [*(f"[{name}]" for name in state.settings), *state.inputs]
            raise InterpError(
                f"{self.folder(stage)} was made with another {' and another '.join(differing)} than the run "
                "now has: `interp run` makes it again"
            )

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of figures of this run: its configuration's digest, seeds, tokens, stages and versions,
        from its manifests."""
        manifests = self._manifests()
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

    def at(self, hook_name: str) -> "Run":
        """Return the run of one of the hooks, by any of its names. Raises ValueError if there is no such hook."""
        runs = {name: self.root._run_at(name) for name in self.hooks}
        if hook_name in runs:
            return runs[hook_name]
        for run in runs.values():
            if hook_name in run._names():
                return run
        raise InterpError(f"{self.root.path} has no hook {hook_name!r}; it has {', '.join(runs)}")

    @property
    def harvested(self) -> "LabelledTokens":
        """The training sequences whose activations were kept."""
        return self.train_tokens[: max(1, self.config.harvest.tokens // self.train_tokens.n_ctx)]

    def stream(self) -> "ActivationStream":
        """Return the activations of the training sequences at all hooks of the whole run, from its model, which runs
        whenever they are read. Raises ValueError for a run that keeps them on disk."""
        from interp.activations import ActivationStream

        config = self.config.harvest
        if config.buffer_mb is None:
            raise InterpError(f"{self.path} keeps its activations: open them as `store`")
        hooks = [name for hook in self.hooks for name in self.root.config.at(hook).harvest.hooks_in(self.model)]
        return ActivationStream(
            self.model,
            self.harvested.tokens,
            hooks,
            exclude=self.tokenizer.special_ids,
            buffer_bytes=config.buffer_mb * 1_000_000,
            **values_of(RowConfig, config),
        )

    @property
    def held_out(self) -> "LabelledTokens":
        """The validation sequences on which dictionaries are spliced into the model."""
        return self.val_tokens[: max(1, self.config.quality.tokens // self.val_tokens.n_ctx)]

    @property
    def hook_name(self) -> str:
        """The hook at which the dictionary reads the model, by its name in the store."""
        manifest = self.manifest("activations")
        return next(iter(manifest["results"]["d"])) if manifest else self.config.harvest.hook_name

    @property
    def output_hook(self) -> str | None:
        """The hook that its transcoder writes, by its name in the store; None for an autoencoder."""
        return None if self.config.harvest.output_hook is None else [*self.results("activations")["d"]][-1]

    @property
    def basis(self) -> Basis:
        """The basis with whose codes the latents are compared."""
        *_, hook_name = self.results("activations")["d"]
        is_named = self.config.harvest.neuron_hook is not None
        is_mlp = is_named or hook_name != self.hook_name or hook_name.endswith(MLP_NEURONS)
        return Basis("neurons" if is_mlp else "coordinates", hook_name)

    def feature(self, latent: int) -> "Feature":
        """Return a latent with the facts known about it, its verdict too once it is ranked; it shows itself in a
        notebook."""
        feature = self.features[latent]
        if not self.has("ranking"):
            return feature
        rows = self.ranking[self.ranking["latent"] == latent]
        return replace(feature, verdict=rows.iloc[0] if len(rows) else None)

    def activations(self, text: "str | Tensor") -> "TextFeatures":
        """Return the firings on a text, or on token ids: `token_strings`, `codes`, `firings()` and `latents()`, the
        strongest first."""
        from interp.features.text_features import features_of

        read = features_of(self.model, self.hook_name, self.sae, text, tokenizer=self.tokenizer)
        return replace(read, ranking=self.ranking) if self.has("ranking") else read

    @property
    def notes(self) -> "pd.DataFrame":
        """RUN/notes.json, which `interp explore` keeps, or an export of the run's page: latent, star, label, note."""
        from interp.report.notes import FILE_NAME, read_notes

        return read_notes(self.path / FILE_NAME)

    def ranking_evidence(self, latent: int | None = None) -> "pd.DataFrame":
        """Return the evidence for the verdict of a latent, each statistic with its null
        (`interp.ranking_evidence`)."""
        from interp.verdict.ranking_tables import ranking_evidence

        return ranking_evidence(self.ranking, latent)

    def report_inputs(self) -> "ReportInputs":
        """Return the inputs of its page (`interp.report`): all that its stages have written so far."""
        from interp.report.inputs import ReportInputs

        done = {name: manifest for name, manifest in self._manifests(without_page=True).items() if self.has(name)}
        tables = ("ranking", "quality", "nulls", "effects")
        curves = [name for name in ("model", "sae") if name in done and self.path_to(f"{name}_curve").is_file()]
        return ReportInputs(
            features=self.features,
            title=self.title,
            curves={name: getattr(self, f"{name}_curve") for name in curves},
            labels=self.harvested.labels if "features" in done else {},
            model_results=self.results("model") if "model" in done else {},
            config={name: done[name]["config"].get(name, {}) for name in ("corpus", "model", "sae") if name in done},
            stages=[(name, manifest["wall_seconds"]) for name, manifest in done.items()],
            versions=self.provenance()["versions"],
            panels=self.panels(),
            **{name: getattr(self, name) for name in tables if name in done},
        )

    def panels(self) -> list[dict[str, Any]]:
        """Return the panels of its finished stages as JSON."""
        done = self._manifests(without_page=True)
        panels = [panel for name in done if self.has(name) and (panel := STAGES[name].panel(self)) is not None]
        return [panel.payload() for panel in panels]

    def __getattr__(self, name: str) -> Any:
        for stage in STAGES.values():
            if name in stage.opens and "_opened" in self.__dict__:
                return self._open(stage, name)
        if hasattr(type(self), name):  # a property that needs a missing result: its own error says which
            return object.__getattribute__(self, name)
        raise AttributeError(f"a run has no {name!r}; {did_you_mean(name, dir(self))}")

    def __dir__(self) -> list[str]:
        names = [name for name in super().__dir__() if not name.startswith("_")]
        return sorted({*names, *(name for stage in STAGES.values() for name in stage.opens)})

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {len(self._manifests())} stages finished)"

    def _repr_html_(self) -> str:
        """Show its finished stages: the result and duration of each, and the attributes that open it."""
        rows = []
        for name, manifest in self._manifests().items():
            summary = Markup("<br>".join(map(markup, STAGES[name].summary_of(manifest).split("\n"))))
            opened = ", ".join(f"run.{attribute}" for attribute in STAGES[name].opens)
            rows.append((name, f"{manifest['wall_seconds']:,.0f} s", summary, opened))
        return card(self, show_table(("stage", "time", "what it reached", "opened by"), rows))

    def _manifests(self, *, without_page: bool = False) -> dict[str, dict[str, Any]]:
        """Return the manifests of the finished stages, in their order."""
        names = [name for name, stage in STAGES.items() if not (without_page and stage.makes_page)]
        return {name: manifest for name in names if (manifest := self.manifest(name)) is not None}

    def _finished(self, stage: str) -> dict[str, Any]:
        manifest = self.manifest(stage)
        if manifest is None:
            raise MissingResultError(f"{self.path} has no {stage} yet: `interp run` or `interp demo` makes it")
        if not self.has(stage):
            raise MissingResultError(f"{self.path} has no {stage}: it was left out, as {manifest['results'][LEFT_OUT]}")
        return manifest

    def _run_at(self, hook_name: str) -> "Run":
        """Return the run of one of its hooks, by the name that its configuration has."""
        if hook_name == self.hooks[0]:
            return self
        if hook_name not in self._at:
            self._at[hook_name] = Run(self.path / _hook_folder(hook_name), root=self)
        return self._at[hook_name]

    def _names(self) -> list[str]:
        """Return the names of its hook in the model, as far as they are known."""
        if self.manifest("activations") is None:
            return []
        aliases = self.results("activations").get("aliases")
        return [self.hook_name, *(self.store.aliases if aliases is None else aliases).get(self.hook_name, ())]

    def _open(self, stage: Stage, name: str) -> Any:
        if stage.made_for == "run" and self.root is not self:
            return self.root._open(stage, name)
        manifest = self._finished(stage.name)
        name_in_folder, reader = stage.opens[name]
        if name not in self._opened or self._opened[name][0] != manifest["sha256"]:
            self.check_current(stage.name)
            verify(self.folder(stage.name) / name_in_folder)
            self._opened[name] = manifest["sha256"], reader(self.folder(stage.name) / name_in_folder)
        return self._opened[name][1]


RUN_ATTRIBUTES.update(dir(Run), ("path", "root"))
