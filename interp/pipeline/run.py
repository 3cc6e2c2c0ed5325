"""The main job as a run folder: stages in order, each skipped when done and resumed when cut off.

    corpus → model → activations → sae → features, neurons → quality, concepts, ranking, nulls, (wider) → report

A run folder holds `run.toml` (the whole configuration) and one folder a stage. A finished stage has a
`manifest.json`: its configuration, the fingerprints of its inputs, versions, wall time and results. The fingerprint
is the SHA-256 of the stage's name, configuration and input fingerprints; a stage whose manifest carries the expected
one is not run again. A stage without a manifest is run, and goes on from its own checkpoints.
"""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from interp.activations import ActivationStore
from interp.controls import Nulls
from interp.features.feature_store import FeatureStore
from interp.pipeline.config import RunConfig
from interp.pipeline.stages import Progress, Stage, stages_of
from interp.sae import SAE, load_sae
from models.corpus import CorpusConfig, LabelledTokens
from models.tokenizer import Tokenizer
from models.transformer import Transformer

VERSIONED = ("interp", "torch", "numpy", "transformer-lens", "sae-lens")


class Run:
    """A run folder, opened: each artifact is read when it is first asked for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "run.toml").is_file():
            raise FileNotFoundError(f"{path} is not a run folder: it has no run.toml")
        self.config = RunConfig.from_toml(self.path / "run.toml")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.path / "corpus" / "tokenizer")

    @cached_property
    def train_tokens(self) -> LabelledTokens:
        return LabelledTokens.load(self.path / "corpus" / "train")

    @cached_property
    def val_tokens(self) -> LabelledTokens:
        return LabelledTokens.load(self.path / "corpus" / "val")

    @property
    def harvested(self) -> LabelledTokens:
        """The training sequences whose activations were kept."""
        return self.train_tokens[: max(1, self.config.harvest.tokens // self.train_tokens.n_ctx)]

    @cached_property
    def model(self) -> Transformer:
        return Transformer.load(self.path / "model")

    @cached_property
    def store(self) -> ActivationStore:
        return ActivationStore.open(self.path / "activations" / "store")

    @cached_property
    def sae(self) -> SAE:
        return load_sae(self.path / "sae")

    @property
    def sae_results(self) -> dict[str, Any]:
        """What the dictionary's training reached: fvu, l0, dead, …"""
        return json.loads((self.path / "sae" / "results.json").read_text())

    @cached_property
    def features(self) -> FeatureStore:
        return FeatureStore.open(self.path / "features")

    @cached_property
    def neurons(self) -> FeatureStore:
        return FeatureStore.open(self.path / "neurons")

    @property
    def quality(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "quality" / "quality.parquet")

    @property
    def concepts(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "concepts" / "concepts.parquet")

    @property
    def ranking(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "ranking" / "ranking.parquet")

    @property
    def nulls(self) -> Nulls:
        """Verdict shares of the SAE beside those of its nulls, the verdicts themselves, and the twin of each latent."""
        return Nulls.read(self.path / "nulls")

    @cached_property
    def wider(self) -> FeatureStore:
        """The features of the wider dictionary, where `[wider]` asks for one."""
        return FeatureStore.open(self.path / "wider" / "features")

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a finished stage, or None."""
        file = self.path / stage / "manifest.json"
        return json.loads(file.read_text()) if file.is_file() else None


def run_stages(
    config: RunConfig,
    out: str | Path,
    *,
    until: str = "report",
    redo: bool = False,
    progress: Callable[[str], Progress] = lambda stage: lambda done, total, note: None,
    finished: Callable[[str, dict[str, Any], bool], None] = lambda stage, manifest, ran: None,
) -> Run:
    """Run the stages up to `until` in the folder `out`, skipping what is done.

    progress: given a stage's name, returns what is called with (done, total, note) on its long steps.
    finished: called after each stage with its name, its manifest and whether it ran now.

    Raises ValueError when `out` holds a run of another configuration (it says what differs), unless `redo` is set:
    then the stages that the difference touches are run again; and when the configuration has no stage `until`.
    """
    out, names = Path(out), [stage.name for stage in stages_of(config)]
    if until not in names:
        raise ValueError(f"{until} is not a stage of this configuration; its stages are {', '.join(names)}")
    _claim(out, config, redo)
    run = Run(out)
    fingerprints: dict[str, str] = {}
    for stage in stages_of(config):
        settings = _settings(stage, config)
        inputs = {name: fingerprints[name] for name in stage.inputs if name in fingerprints}
        expected = _sha256(json.dumps([stage.name, settings, inputs], sort_keys=True))
        fingerprints[stage.name] = expected
        manifest = run.manifest(stage.name)
        ran = manifest is None or manifest["fingerprint"] != expected
        if ran:
            manifest = _build(stage, run, settings, inputs, expected, progress(stage.name))
        finished(stage.name, manifest or {}, ran)
        if stage.name == until:
            break
    return run


def run_alone(run: Run, name: str, *, config: RunConfig | None = None, progress: Progress) -> dict[str, Any]:
    """One stage anew, done or not, from what the stages before it left; those are not asked whether they still fit.

    config: replaces that of the run folder. Returns the stage's manifest. Raises ValueError where a stage that it reads
    has not been run.
    """
    config = config or run.config
    stage = next(stage for stage in stages_of(config) if stage.name == name)
    wanted = [before for before in stage.inputs if before in {s.name for s in stages_of(config)}]
    done = {before: run.manifest(before) for before in wanted}
    if missing := [before for before, manifest in done.items() if manifest is None and before in _NEEDED[name]]:
        raise ValueError(f"{run.path} has no {' and '.join(missing)} yet: `interp run` or `interp demo` makes them")
    if config != run.config:
        _claim(run.path, config, redo=True)
        run.config = config
    inputs = {before: manifest["fingerprint"] for before, manifest in done.items() if manifest}
    settings = _settings(stage, run.config)
    fingerprint = _sha256(json.dumps([name, settings, inputs], sort_keys=True))
    return _build(stage, run, settings, inputs, fingerprint, progress)


_NEEDED = {"ranking": ("features",), "report": ("features",)}
"""Without which `run_alone` cannot be; what else is missing is left out."""


def _build(stage: Stage, run: Run, settings: dict, inputs: dict, fingerprint: str, progress: Progress) -> dict:
    folder = run.path / stage.name
    started = folder / "started.json"
    if folder.exists() and (not started.is_file() or json.loads(started.read_text())["fingerprint"] != fingerprint):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(started, {"fingerprint": fingerprint})
    begin = time.monotonic()
    progress(0, 1, "starting")
    results = stage.build(run, folder, progress)
    manifest = {
        "stage": stage.name,
        "fingerprint": fingerprint,
        "config": settings,
        "inputs": inputs,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONED},
        "wall_seconds": round(time.monotonic() - begin, 2),
        "results": results,
    }
    _write_json(folder / "manifest.json", manifest)
    return manifest


def _claim(out: Path, config: RunConfig, redo: bool) -> None:
    """Make `out` this configuration's run folder, or say what differs from the one that it is."""
    file = out / "run.toml"
    if file.is_file():
        there, here = RunConfig.from_toml(file).to_dict(), config.to_dict()
        different = [
            f"{section}.{key}: {there[section].get(key)!r} there, {here[section].get(key)!r} here"
            for section in here
            for key in sorted(there[section].keys() | here[section].keys())
            if there[section].get(key) != here[section].get(key)
        ]
        if different and not redo:
            raise ValueError(
                f"{out} holds a run of another configuration ({'; '.join(different)}); "
                "choose another folder with --out, or pass --redo to run the stages that this touches again"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not a run folder; choose another with --out")
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / "run.toml.tmp"
    temporary.write_text(tomli_w.dumps(config.to_dict()), encoding="utf-8")
    os.replace(temporary, file)


def _settings(stage: Stage, config: RunConfig) -> dict[str, Any]:
    """All that a stage hangs on but the stages before it: its sections, and what it reads from elsewhere."""
    settings: dict[str, Any] = {name: config.to_dict()[name] for name in stage.sections}
    if stage.name == "corpus":
        settings["files"] = _file_hashes(config.corpus)
    if stage.name == "ranking" and config.ranking.twin is not None:
        settings["twin"] = _sha256((FeatureStore.open(config.ranking.twin).path / "scan.json").read_text())
    return settings


def _file_hashes(config: CorpusConfig) -> dict[str, str]:
    """So that a user's text that changed is read again."""
    hashes = {}
    for pattern in config.paths:
        for path in sorted(Path().glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]:
            if path.is_file():
                with path.open("rb") as file:
                    hashes[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_json(file: Path, content: Any) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, default=float), encoding="utf-8")
    os.replace(temporary, file)
