"""The stages of a run, and what each does: it reads what those before it left, and fills a folder of its own.

    corpus → model → activations → sae → features, neurons → quality, concepts, ranking, nulls, (wider) → report

When a stage is run, and when it is skipped, is `interp.pipeline.run`'s business.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.baselines import NeuronDictionary, PCADictionary, RandomDictionary
from interp.codes import Dictionary
from interp.controls import compare_with_nulls
from interp.features.feature_store import FeatureStore, scan_features
from interp.harvest import harvest
from interp.metrics.concepts import concept_table
from interp.metrics.embeddings import ResidualVectors
from interp.monosemanticity.ranking import rank_features, verdict_counts
from interp.pipeline.config import RankingConfig, RunConfig
from interp.quality import quality_table
from interp.report import write_report
from interp.sae import train_sae
from models.corpus import load_documents, split_documents, tokenize
from models.tokenizer import Tokenizer
from models.training import train_model
from models.transformer import Transformer

if TYPE_CHECKING:
    from interp.pipeline.run import Run

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


def stages_of(config: RunConfig) -> list[Stage]:
    return [stage for stage in STAGES if stage.wanted(config)]


def _corpus(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
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


def _model(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
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


def _activations(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
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


def _sae(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
    train_sae(run.store, run.config.harvest.hook_name, run.config.sae, out=folder, progress=progress)
    return json.loads((folder / "results.json").read_text())


def _features(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
    return _scan(run, run.sae, run.config.harvest.hook_name, folder, progress)


def _neurons(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
    hook_name = run.config.harvest.neurons
    return _scan(run, NeuronDictionary(run.store.d(hook_name)), hook_name, folder, progress)


def _scan(run: "Run", dictionary: Dictionary, hook_name: str, folder: Path, progress: Progress) -> dict[str, Any]:
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


def _quality(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
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


def _concepts(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
    table = concept_table(run.features, run.neurons)
    _write_parquet(table, folder / "concepts.parquet")
    return _rows(table, "label")


def _ranking(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
    table = ranked(run, run.config.ranking, progress)
    _write_parquet(table, folder / "ranking.parquet")
    return verdict_counts(table)


def ranked(run: "Run", config: RankingConfig, progress: Progress) -> pd.DataFrame:
    """The ranking of a run's features, with the evidence of its labels and of the activations they were learnt on."""
    if config.use_labels and not run.harvested.labels:
        raise ValueError(f"explanations are to name labels, but the corpus of {run.path} has none")
    twin = None if config.twin is None else FeatureStore.open(config.twin)
    return rank_features(
        run.features,
        nulls=config.nulls,
        seed=config.seed,
        labels=run.harvested.labels,
        use_labels=config.use_labels,
        embeddings=ResidualVectors.from_store(run.store, run.config.harvest.hook_name),
        twin=twin,
        progress=progress,
    )


def _nulls(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
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


def _wider(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
    config, factor = run.config.sae, run.config.wider.factor or 1
    wide = dataclasses.replace(config, d_sae=factor * config.d_sae)
    sae = train_sae(run.store, run.config.harvest.hook_name, wide, out=folder / "sae", progress=progress)
    results = _scan(run, sae, run.config.harvest.hook_name, folder / "features", progress)
    return results | {"fvu": json.loads((folder / "sae" / "results.json").read_text())["fvu"]}


def _report(run: "Run", folder: Path, progress: Progress) -> dict[str, Any]:
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
    Stage("ranking", ("corpus", "activations", "features"), ("ranking",), _ranking),
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


def _rows(table: pd.DataFrame, key: str) -> dict[str, Any]:
    return {str(name): row for name, row in table.set_index(key).to_dict(orient="index").items()}


def _write_parquet(table: pd.DataFrame, file: Path) -> None:
    temporary = file.with_suffix(".tmp")
    table.to_parquet(temporary, index=False)
    os.replace(temporary, file)
