"""A run folder, opened: `Run("runs/demo").ranking`.

A run folder holds `run.toml`, the whole configuration, and one folder a stage. A finished stage has a `manifest.json`:
its configuration, the fingerprints of its inputs, versions, wall time and results.
"""

from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from interp.display.cards import Markup, card, markup, table
from interp.pipeline.config import RunConfig
from interp.pipeline.stages import STAGES, Stage
from interp.storage.files import as_json, digest_json
from interp.storage.folders import read_manifest, verify

if TYPE_CHECKING:
    import pandas as pd

    from interp.activations import ActivationStore
    from interp.compare.null_dictionaries import Nulls
    from interp.features import Feature
    from interp.features.feature_store import FeatureStore
    from interp.sae import SAE
    from models.tokenizer import Tokenizer
    from models.tokens import LabelledTokens
    from models.transformer import Transformer


class Run:
    """What the stages of a run left, each as its stage reads it: when first asked for, and again after the stage has
    run again. Raises FileNotFoundError for a folder that is no run, and for what its stage has not made yet."""

    if TYPE_CHECKING:
        tokenizer: Tokenizer
        train_tokens: LabelledTokens
        val_tokens: LabelledTokens
        model: Transformer
        store: ActivationStore
        sae: SAE
        features: FeatureStore
        neurons: FeatureStore
        effects: pd.DataFrame
        wider: FeatureStore
        quality: pd.DataFrame
        concepts: pd.DataFrame
        ranking: pd.DataFrame
        nulls: Nulls
        words: pd.DataFrame
        words_shares: pd.DataFrame
        page: Path

    def __init__(self, path: str | Path, config: RunConfig | None = None):
        """config: in place of that of run.toml."""
        self.path = Path(path)
        if not (self.path / "run.toml").is_file():
            raise FileNotFoundError(f"{path} is not a run folder: it has no run.toml")
        self._given = config
        self._opened: dict[str, tuple[int, Any]] = {}

    @property
    def config(self) -> RunConfig:
        return self._given or RunConfig.from_toml(self.path / "run.toml")

    @property
    def harvested(self) -> "LabelledTokens":
        """The training sequences whose activations were kept."""
        return self.train_tokens[: max(1, self.config.harvest.tokens // self.train_tokens.n_ctx)]

    def feature(self, latent: int) -> "Feature":
        """A latent with what is known of it, its verdict too once it is ranked; it shows itself in a notebook."""
        feature = self.features[latent]
        if self.manifest("ranking") is None:
            return feature
        rows = self.ranking[self.ranking["latent"] == latent]
        return replace(feature, verdict=rows.iloc[0] if len(rows) else None)

    @property
    def notes(self) -> "pd.DataFrame":
        """RUN/notes.json, which `interp explore` keeps, or an export of the run's page: latent, star, label, note."""
        from interp.report.notes import NAME, read_notes

        return read_notes(self.path / NAME)

    def ranking_evidence(self, latent: int | None = None) -> "pd.DataFrame":
        """What the verdict of a latent is made of, each statistic beside its null (`interp.ranking_evidence`)."""
        from interp.monosemanticity.verdicts import ranking_evidence

        return ranking_evidence(self.ranking, latent)

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a finished stage, or None. Raises ValueError for one that is not as it was written."""
        manifest = read_manifest(self.path / stage)
        return manifest if manifest and "fingerprint" in manifest else None

    def results(self, stage: str) -> dict[str, Any]:
        """What a finished stage reached, such as a training's fvu, l0 and dead."""
        return self._finished(stage)["results"]

    def provenance(self) -> dict[str, Any]:
        """Where what is drawn of it comes from: its configuration's digest, seeds, tokens, stages and versions, as its
        manifests have them."""
        manifests = {name: found for name in STAGES if (found := self.manifest(name)) is not None}
        sections = {name: own for manifest in manifests.values() for name, own in manifest["config"].items()}
        named = {key: {name: own[key] for name, own in sections.items() if key in own} for key in ("seed", "tokens")}
        return {
            "run": self.path.resolve().name,
            "config_sha256": digest_json(sections),
            **named,
            "stages": {name: manifest["fingerprint"] for name, manifest in manifests.items()},
            "versions": next(iter(manifests.values()))["versions"] if manifests else {},
        }

    def __getattr__(self, name: str) -> Any:
        for stage in STAGES.values():
            if name in stage.opens and "_opened" in self.__dict__:
                return self._open(stage, name)
        raise AttributeError(f"a run has no {name!r}; it has {', '.join(dir(self))}")

    def __dir__(self) -> list[str]:
        own = [name for name in (*self.__dict__, *vars(type(self))) if not name.startswith("_")]
        return sorted({*own, *(name for stage in STAGES.values() for name in stage.opens)})

    def __repr__(self) -> str:
        done = sum(self.manifest(name) is not None for name in STAGES)
        return f"Run({str(self.path)!r}, {done} stages finished)"

    def _repr_html_(self) -> str:
        """Its finished stages: what each reached, how long it took, and which attributes open it."""
        rows = []
        for name, stage in STAGES.items():
            if (manifest := self.manifest(name)) is not None:
                said = Markup("<br>".join(map(markup, stage.said(manifest).split("\n"))))
                opened = ", ".join(f"run.{attribute}" for attribute in stage.opens)
                rows.append((name, f"{manifest['wall_seconds']:,.0f} s", said, opened))
        return card(self, table(("stage", "time", "what it reached", "opened by"), rows))

    def _open(self, stage: Stage, name: str) -> Any:
        manifest, (place, reader) = self._finished(stage.name), stage.opens[name]
        if name not in self._opened or self._opened[name][0] != manifest["sha256"]:
            self._check_current(stage, manifest)
            verify(self.path / stage.name / place)
            self._opened[name] = manifest["sha256"], resolve_name(reader)(self.path / stage.name / place)
        return self._opened[name][1]

    def _finished(self, stage: str) -> dict[str, Any]:
        manifest = self.manifest(stage)
        if manifest is None:
            raise FileNotFoundError(f"{self.path} has no {stage} yet: `interp run` or `interp demo` makes it")
        return manifest

    def _check_current(self, stage: Stage, manifest: dict[str, Any]) -> None:
        """Raises ValueError where a stage is of another configuration than the run now has, or of inputs that have been
        made anew since; inputs that are gone count as they were."""
        sections = self.config.to_dict()
        differing = [f"[{name}]" for name in stage.sections if manifest["config"].get(name) != as_json(sections[name])]
        there = {name: self.manifest(name) or {} for name in manifest["inputs"]}
        made_from = manifest["inputs"].items()
        differing += [name for name, before in made_from if there[name].get("fingerprint", before) != before]
        if differing:
            what = f"another {' and another '.join(differing)} than the run now has"
            raise ValueError(f"{self.path / stage.name} was made with {what}: `interp run` makes it again")
