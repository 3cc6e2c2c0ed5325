"""The main job as a run folder: stages in order, each skipped when done and resumed when cut off.

    corpus → model → activations → sae → features, neurons → quality, concepts, ranking, nulls, (wider) → report

A run folder holds `run.toml` (the whole configuration) and one folder a stage. A finished stage has a
`manifest.json`: its configuration, the fingerprints of its inputs, versions, wall time and results. The fingerprint
is the SHA-256 of the stage's name, configuration and input fingerprints; a stage whose manifest carries the expected
one is not run again. A stage without a manifest is run, and goes on from its own checkpoints.
"""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from interp.activations import ActivationStore
from interp.baselines import NeuronDictionary, PCADictionary, RandomDictionary
from interp.config import RunConfig
from interp.dictionary import Dictionary
from interp.features import FeatureStore, scan_features
from interp.harvest import harvest
from interp.nulls import Nulls, compare_with_nulls
from interp.quality import quality_table
from interp.ranking import rank_features
from interp.report import write_report
from interp.sae import SAE, load_sae, train_sae
from interp.scores.concepts import concept_table
from models.corpus import CorpusConfig, LabelledTokens, load_documents, split_documents, tokenize
from models.tokenizer import Tokenizer
from models.training import train_model
from models.transformer import Transformer

VERSIONED = ("interp", "torch", "numpy", "transformer-lens", "sae-lens")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Stage:
    name: str
    inputs: tuple[str, ...]
    sections: tuple[str, ...]
    """The sections of the configuration that its result depends on."""
    build: Callable[["Run", Path, Progress], dict[str, Any]]
    """Fills the folder and returns the results for the manifest."""
    wanted: Callable[[RunConfig], bool] = lambda config: True
    """Whether a run of this configuration has it at all."""


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
        settings = {name: config.to_dict()[name] for name in stage.sections}
        if stage.name == "corpus":
            settings["files"] = _file_hashes(config.corpus)
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


def stages_of(config: RunConfig) -> list[Stage]:
    return [stage for stage in STAGES if stage.wanted(config)]


def run_alone(run: Run, name: str, *, config: RunConfig | None = None, progress: Progress) -> dict[str, Any]:
    """One stage anew, done or not, from what the stages before it left; those are not asked whether they still fit.

    config: replaces that of the run folder. Returns the stage's manifest. Raises ValueError where a stage that it reads
    has not been run.
    """
    if config is not None and config != run.config:
        _claim(run.path, config, redo=True)
        run.config = config
    stage = next(stage for stage in stages_of(run.config) if stage.name == name)
    wanted = [before for before in stage.inputs if before in {s.name for s in stages_of(run.config)}]
    done = {before: run.manifest(before) for before in wanted}
    if missing := [before for before, manifest in done.items() if manifest is None and before in _NEEDED[name]]:
        raise ValueError(f"{run.path} has no {' and '.join(missing)} yet: `interp run` or `interp demo` makes them")
    inputs = {before: manifest["fingerprint"] for before, manifest in done.items() if manifest}
    settings = {section: run.config.to_dict()[section] for section in stage.sections}
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


def _corpus(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    config = run.config
    progress(0, 4, "reading documents")
    split = split_documents(load_documents(config.corpus), config.corpus.val_fraction, config.corpus.seed)
    progress(1, 4, "training the tokenizer")
    texts = (document.text for document in split.train)
    if config.tokenizer.kind == "bpe":
        tokenizer = Tokenizer.train_bpe(texts, config.tokenizer.vocab_size)
    else:
        tokenizer = Tokenizer.train_characters(texts)
    tokenizer.save(folder / "tokenizer")
    progress(2, 4, "tokenizing")
    train = tokenize(split.train, tokenizer, config.model.n_ctx)
    progress(3, 4, "tokenizing")
    val = tokenize(split.val, tokenizer, config.model.n_ctx, label_names=train.label_names)
    results: dict[str, Any] = {"vocab_size": tokenizer.vocab_size}
    for name, documents, tokens in (("train", split.train, train), ("val", split.val, val)):
        tokens.save(folder / name)
        results[name] = {"documents": len(documents), "tokens": tokens.tokens.numel(), "characters": tokens.characters}
    return results


def _model(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    train_model(
        Transformer(run.config.model.transformer(run.tokenizer.vocab_size)),
        run.train_tokens.tokens,
        run.val_tokens.tokens,
        run.config.training,
        folder,
        tokenizer=run.tokenizer,
        val_characters=run.val_tokens.characters,
        progress=progress,
    )
    return json.loads((folder / "results.json").read_text())


def _activations(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    config = run.config.harvest
    store = harvest(
        run.model,
        run.harvested.tokens,
        list(dict.fromkeys((config.hook_name, config.neurons))),
        folder / "store",
        dtype=config.dtype,
        batch_size=config.batch_size,
        exclude=(run.tokenizer.bos_id,),
        max_norm=config.max_norm,
        seed=config.seed,
        progress=progress,
    )
    size = sum(file.stat().st_size for file in (folder / "store").iterdir())
    widths = {name: store.d(name) for name in store.hook_names}
    per_value = size / len(store) / sum(widths.values())
    return {"rows": len(store), "excluded": store.n_excluded, "d": widths, "bytes_per_value": per_value}


def _sae(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    train_sae(run.store, run.config.harvest.hook_name, run.config.sae, out=folder, progress=progress)
    return json.loads((folder / "results.json").read_text())


def _features(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    return _scan(run, run.sae, run.config.harvest.hook_name, folder, progress)


def _neurons(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    hook_name = run.config.harvest.neurons
    return _scan(run, NeuronDictionary(run.store.d(hook_name)), hook_name, folder, progress)


def _scan(run: Run, dictionary: Dictionary, hook_name: str, folder: Path, progress: Progress) -> dict[str, Any]:
    features = scan_features(
        dictionary,
        run.store,
        hook_name,
        folder,
        model=run.model,
        vocab=run.tokenizer.display(),
        labels=run.harvested.labels,
        settings=run.config.scan,
        progress=progress,
    )
    table = features.table()
    return {"latents": len(table), "dead": int((table.n_active == 0).sum()), "mean_l0": float(table.density.sum())}


def _quality(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    config, hook_name = run.config, run.config.harvest.hook_name
    d_in = run.store.d(hook_name)
    k = getattr(config.sae, "k", None) or min(d_in, max(1, round(run.sae_results["l0"])))
    is_mlp = hook_name == config.harvest.neurons
    dictionaries: dict[str, Dictionary] = {
        "SAE": run.sae,
        "PCA": PCADictionary.fit(run.store, hook_name, k=k),
        "neurons" if is_mlp else "coordinates": NeuronDictionary(d_in, k=k, signed=not is_mlp),
        "random": RandomDictionary.fit(run.store, hook_name, config.sae.d_sae, k=k, seed=config.sae.seed),
    }
    tokens = run.val_tokens.tokens[: max(1, config.quality.tokens // run.val_tokens.n_ctx)]
    table = quality_table(
        dictionaries,
        run.model,
        tokens,
        hook_name,
        batch_size=config.quality.batch_size,
        exclude=(run.tokenizer.bos_id,),
        progress=progress,
    )
    _write_parquet(table, folder / "quality.parquet")
    return _rows(table, "dictionary")


def _concepts(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    table = concept_table(run.features, run.neurons)
    _write_parquet(table, folder / "concepts.parquet")
    return _rows(table, "label")


def _ranking(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    config = run.config.ranking
    table = rank_features(run.features, nulls=config.nulls, seed=config.seed, progress=progress)
    _write_parquet(table, folder / "ranking.parquet")
    return {"verdicts": table.verdict.value_counts().to_dict()}


def _nulls(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    config = run.config.harvest
    nulls = compare_with_nulls(
        run.features,
        run.neurons,
        run.store,
        config.hook_name,
        run.model,
        run.config.sae,
        folder,
        settings=run.config.nulls,
        batch_size=config.batch_size,
        exclude=(run.tokenizer.bos_id,),
        max_norm=config.max_norm,
        progress=progress,
    )
    shares = nulls.shares.dropna(subset=["share"]).groupby("dictionary", sort=False)
    verdicts = {name: rows.set_index("verdict")[["share", "ci_low", "ci_high"]] for name, rows in shares}
    match, chance = (float(nulls.twins[column].mean()) for column in ("cosine", "frozen_cosine"))
    return {
        "shares": {name: table.to_dict(orient="index") for name, table in verdicts.items()},
        "twin": {"mean_cosine": match, "by_chance": chance},
    }


def _wider(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    config, factor = run.config.sae, run.config.wider.factor or 1
    wide = dataclasses.replace(config, d_sae=factor * config.d_sae)
    sae = train_sae(run.store, run.config.harvest.hook_name, wide, out=folder / "sae", progress=progress)
    results = _scan(run, sae, run.config.harvest.hook_name, folder / "features", progress)
    return results | {"fvu": json.loads((folder / "sae" / "results.json").read_text())["fvu"]}


def _report(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    page = write_report(run.path, folder / "page", progress=progress)
    files = [file for file in page.parent.rglob("*") if file.is_file()]
    return {"page": str(page.relative_to(run.path)), "bytes": sum(file.stat().st_size for file in files)}


STAGES = (
    Stage("corpus", (), ("corpus", "tokenizer", "model"), _corpus),
    Stage("model", ("corpus",), ("model", "training"), _model),
    Stage("activations", ("corpus", "model"), ("harvest",), _activations),
    Stage("sae", ("activations",), ("harvest", "sae"), _sae),
    Stage("features", ("corpus", "model", "activations", "sae"), ("harvest", "scan"), _features),
    Stage("neurons", ("corpus", "model", "activations"), ("harvest", "scan"), _neurons),
    Stage("quality", ("corpus", "model", "activations", "sae"), ("harvest", "sae", "quality"), _quality),
    Stage("concepts", ("features", "neurons"), (), _concepts),
    Stage("ranking", ("features",), ("ranking",), _ranking),
    Stage("nulls", ("model", "activations", "sae", "features", "neurons"), ("harvest", "sae", "nulls"), _nulls),
    Stage(
        "wider",
        ("corpus", "model", "activations"),
        ("harvest", "sae", "scan", "wider"),
        _wider,
        wanted=lambda config: config.wider.factor is not None,
    ),
    Stage("report", ("model", "sae", "features", "quality", "concepts", "ranking", "nulls", "wider"), (), _report),
)


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


def _rows(table: pd.DataFrame, key: str) -> dict[str, Any]:
    return {str(name): row for name, row in table.set_index(key).to_dict(orient="index").items()}


def _write_json(file: Path, content: Any) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, default=float), encoding="utf-8")
    os.replace(temporary, file)


def _write_parquet(table: pd.DataFrame, file: Path) -> None:
    temporary = file.with_suffix(".tmp")
    table.to_parquet(temporary, index=False)
    os.replace(temporary, file)
