"""A run, opened: `Run("runs/demo").ranking`.

`Run("runs/mine").at("blocks.9.hook_resid_post")` is the run of one hook, `Run("runs/mine").hooks` names all
(`run_folder`).
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.activations.harvest_options import RowConfig
from interp.checks.config_fields import values_of
from interp.checks.errors import InterpError, did_you_mean
from interp.display.cards import Markup, card, markup, show_table
from interp.pipeline.config import RunConfig
from interp.pipeline.run_folder import RunFolder, hook_folder, run_folders
from interp.pipeline.stages import RUN_ATTRIBUTES, STAGES, Stage
from interp.pipeline.states import check_current, state_of
from interp.storage.manifests import RUN_FILE, verify

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


def open_runs(out: Path, config: RunConfig) -> "list[Run]":
    """Return the runs of those hooks that have a run folder already, with this configuration in place of theirs."""
    if not (out / RUN_FILE).is_file():
        return []
    root = Run(out, config)
    parts = {folder: part for folder, part in run_folders(out, config).items() if (folder / RUN_FILE).is_file()}
    return [root if folder == out else Run(folder, part, root=root) for folder, part in parts.items()]


class Run(RunFolder):
    """A run, opened by its folder.

    Each attribute below opens a stage's result, when it is first accessed, and again after the stage has been rerun.
    Raises FileNotFoundError for a folder that is not a run, and MissingResultError, an AttributeError, for an attribute
    whose stage has not been run yet or was left out. `Run.has(stage)` tells whether it is finished, without opening it.
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
        names: pd.DataFrame
        page: Path

    def __init__(self, path: str | Path, config: RunConfig | None = None, *, root: "Run | None" = None):
        super().__init__(path, config, root=root)
        self._opened: dict[str, tuple[int, Any]] = {}
        self._at: dict[str, Run] = {}

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

    @property
    def held_out(self) -> "LabelledTokens":
        """The validation sequences on which dictionaries are spliced into the model."""
        return self.val_tokens[: max(1, self.config.quality.tokens // self.val_tokens.n_ctx)]

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

    def feature(self, latent: int) -> "Feature":
        """Return a latent with the facts known about it, its verdict too once it is ranked, and its name once it is
        named; it shows itself in a notebook."""
        feature = self.features[latent]
        if self._has_current("names"):
            feature = replace(feature, name=self.names.iloc[feature.latent])
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
        """Return the inputs of its page (`interp.report`): all that its stages have written so far, but for names of
        another ranking, which `interp rank` has replaced."""
        from interp.report.inputs import ReportInputs

        done = {name: manifest for name, manifest in self.manifests(without_page=True).items() if self.has(name)}
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
            names=self.names if self._has_current("names") else None,
            **{name: getattr(self, name) for name in tables if name in done},
        )

    def panels(self) -> list[dict[str, Any]]:
        """Return the panels of its finished stages as JSON."""
        done = self.manifests(without_page=True)
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
        return f"Run({str(self.path)!r}, {len(self.manifests())} stages finished)"

    def _repr_html_(self) -> str:
        """Show its finished stages: the result and duration of each, and the attributes that open it."""
        rows = []
        for name, manifest in self.manifests().items():
            summary = Markup("<br>".join(map(markup, STAGES[name].summary_of(manifest).split("\n"))))
            opened = ", ".join(f"run.{attribute}" for attribute in STAGES[name].opens)
            rows.append((name, f"{manifest['wall_seconds']:,.0f} s", summary, opened))
        return card(self, show_table(("stage", "time", "what it reached", "opened by"), rows))

    def _run_at(self, hook_name: str) -> "Run":
        """Return the run of one of its hooks, by the name that its configuration has."""
        if hook_name == self.hooks[0]:
            return self
        if hook_name not in self._at:
            self._at[hook_name] = Run(self.path / hook_folder(hook_name), root=self)
        return self._at[hook_name]

    def _has_current(self, stage: str) -> bool:
        """Return whether a stage is finished, with the present configuration and inputs."""
        return self.has(stage) and state_of(self, STAGES[stage], outside=False).name == "current"

    def _names(self) -> list[str]:
        """Return the names of its hook in the model, as far as they are known."""
        if self.manifest("activations") is None:
            return []
        aliases = self.results("activations").get("aliases")
        return [self.hook_name, *(self.store.aliases if aliases is None else aliases).get(self.hook_name, ())]

    def _open(self, stage: Stage, name: str) -> Any:
        if stage.made_for == "run" and self.root is not self:
            return self.root._open(stage, name)
        manifest = self.finished(stage.name)
        name_in_folder, reader = stage.opens[name]
        if name not in self._opened or self._opened[name][0] != manifest["sha256"]:
            check_current(self, stage.name)
            verify(self.folder(stage.name) / name_in_folder)
            self._opened[name] = manifest["sha256"], reader(self.folder(stage.name) / name_in_folder)
        return self._opened[name][1]


RUN_ATTRIBUTES.update(dir(Run), ("path", "root"))
