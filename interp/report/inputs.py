"""What a report is made of, gathered from a run folder or handed over; all but the features may be missing.

In: a run folder, a feature store, or either's path. Out: `ReportInputs`, each table there or None.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.compare.null_dictionaries import Nulls
from interp.evaluation.quality import decoder_digest
from interp.features.feature_store import FeatureStore
from interp.features.scan import check_table
from interp.figures.training_curves import training_rows
from interp.monosemanticity.verdicts import ranking_evidence
from interp.report.verdict_evidence import COLUMNS
from interp.report.wider import Wider, wider_of
from interp.storage.files import read_json
from interp.storage.folders import MANIFEST, read_manifest, verify

READ = ("model", "sae", "effects", "quality", "concepts", "ranking", "nulls", "words", "wider")
"""Stages of a run whose files are compared with their manifests, as those of the features are."""


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    title: str
    store: FeatureStore
    features: pd.DataFrame
    """One row a latent, dead ones too, in the order of the latents."""
    ranking: pd.DataFrame
    """One row a latent in the same order; without a ranking only `verdict` (`dead` or `unranked`)."""
    evidence: pd.DataFrame
    """A row a latent and measure: latent, measure, value, z, null_low, null_high; empty where the ranking has none."""
    ranked: bool
    quality: pd.DataFrame | None
    concepts: pd.DataFrame | None
    effects: pd.DataFrame | None
    """Of ablating latents, a row each (`interp.effects.feature_effects`)."""
    words: pd.DataFrame | None
    """What the explanations alone recover (`rewriting.InWords.losses`)."""
    curves: Mapping[str, pd.DataFrame]
    """Rows of metrics.jsonl of `model` and `sae`, where they are."""
    model_results: Mapping[str, Any]
    shares: pd.DataFrame | None
    """Verdict shares of the dictionary and of its nulls, a row a dictionary and verdict."""
    wider: Wider | None
    """What its latents resemble in a wider dictionary."""
    stages: list[tuple[str, float]]
    """Stages of the run in the order of their dependence, with their wall time in seconds."""

    @property
    def n_scanned(self) -> int:
        """Tokens."""
        return int(self.store.meta.get("n_tokens", self.store.tokens.numel()))


def gather(
    run_or_features: Any,
    *,
    ranking: pd.DataFrame | None = None,
    quality: pd.DataFrame | None = None,
    curves: Mapping[str, pd.DataFrame] | None = None,
    nulls: Nulls | None = None,
    wider: Any = None,
    title: str | None = None,
) -> ReportInputs:
    """Read what there is. Raises ValueError when the source is neither a run folder nor a feature store."""
    folder = Path(getattr(run_or_features, "path", run_or_features))
    store = run_or_features if isinstance(run_or_features, FeatureStore) else _open_verified(folder)
    manifests = _manifests(folder)
    _check_inputs(manifests, folder)
    features = _every_latent(store)
    ranking = ranking if ranking is not None else _parquet(folder / "ranking/ranking.parquet")
    quality = quality if quality is not None else _parquet(folder / "quality/quality.parquet")
    nulls = nulls if nulls is not None else _nulls(folder / "nulls")
    _check_of_features(store, ranking, quality, nulls)
    if wider is None and (folder / "wider/features/meta.json").is_file():
        wider = folder / "wider"
    results = folder / "model/results.json"
    return ReportInputs(
        title=title or (folder.resolve().name if (folder / "features").is_dir() else "Features"),
        store=store,
        features=features,
        ranking=_one_row_a_latent(ranking, features),
        evidence=_evidence(ranking, None if nulls is None else nulls.twins),
        ranked=ranking is not None,
        quality=quality,
        concepts=_parquet(folder / "concepts/concepts.parquet"),
        effects=_parquet(folder / "effects/effects.parquet"),
        words=_parquet(folder / "words/words.parquet"),
        curves=_curves(folder) if curves is None else curves,
        model_results=read_json(results, "train the model again") if results.is_file() else {},
        shares=None if nulls is None else nulls.shares,
        wider=None if wider is None else wider_of(store, wider),
        stages=_timed(manifests),
    )


def _nulls(folder: Path) -> Nulls | None:
    whole = all((folder / f"{name}.parquet").is_file() for name in Nulls._fields)
    return Nulls.read(folder) if whole else None


def _curves(folder: Path) -> dict[str, pd.DataFrame]:
    logs = [file for name in ("model", "sae") if (file := folder / name / "metrics.jsonl").is_file()]
    return {file.parent.name: training_rows(file) for file in logs}


def _open_verified(folder: Path) -> FeatureStore:
    if not ((folder / "features").is_dir() or (folder / "meta.json").is_file()):
        raise ValueError(f"{folder} is neither a run folder (with features/) nor a feature store (with meta.json)")
    for stage in READ:
        verify(folder / stage)
    return FeatureStore.open(folder)


def _every_latent(store: FeatureStore) -> pd.DataFrame:
    features = store.table().set_index("latent", drop=False).reindex(range(store.d_sae))
    features["latent"] = features.index
    features["n_active"] = features["n_active"].fillna(0).astype(int)
    return features


def _one_row_a_latent(ranking: pd.DataFrame | None, features: pd.DataFrame) -> pd.DataFrame:
    if ranking is None:
        table = features[["latent"]].copy()
    else:
        if ranking["latent"].duplicated().any():
            raise ValueError("the ranking has latents more than once; give one row a latent")
        table = ranking.set_index("latent", drop=False).reindex(features.index)
        table["latent"] = features["latent"]
    fallback = features["n_active"].eq(0).map({True: "dead", False: "unranked"})
    table["verdict"] = table["verdict"].fillna(fallback) if "verdict" in table else fallback
    return table


def _evidence(ranking: pd.DataFrame | None, twins: pd.DataFrame | None) -> pd.DataFrame:
    """That of the ranking; and the cosine with the nearest latent of the run's twin, where the ranking was given none:
    its null are random directions, those of a frozen decoder."""
    table = pd.DataFrame(columns=[*COLUMNS])
    if ranking is not None and "evidence" in ranking:
        table = ranking_evidence(ranking)
    if twins is None or "twin_cosine" in set(table["measure"]):
        return table
    low, high = twins["frozen_cosine"].quantile([0.025, 0.975])
    nearest = twins[["latent"]].assign(measure="nearest_twin", value=twins["cosine"], z=np.nan)
    return pd.concat([table, nearest.assign(null_low=low, null_high=high)], ignore_index=True)


def _parquet(file: Path) -> pd.DataFrame | None:
    return pd.read_parquet(file) if file.is_file() else None


def _check_of_features(
    store: FeatureStore, ranking: pd.DataFrame | None, quality: pd.DataFrame | None, nulls: Nulls | None
) -> None:
    if ranking is not None:
        check_table(store, ranking, "the ranking")
    if nulls is not None:
        check_table(store, nulls.twins, "the table of nulls", "`interp run` makes theirs")
    decoders = {} if quality is None else quality.attrs.get("decoders", {})
    if decoders and store.W_dec is not None and decoder_digest(store.W_dec) not in decoders.values():
        said = f"the quality table is of other dictionaries ({', '.join(decoders)}) than the features in {store.path}"
        raise ValueError(f"{said}: evaluate the one that was scanned")


def _manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Of the stages of a run but the report's, which this one may replace."""
    stages = [file.parent for file in folder.glob(f"*/{MANIFEST}") if file.parent.name != "report"]
    return {stage.name: read_manifest(stage) or {} for stage in stages}


def _check_inputs(manifests: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Raises ValueError for a stage whose input was made anew since."""
    for name, manifest in manifests.items():
        inputs = manifest.get("inputs")
        for stage, made_from in inputs.items() if isinstance(inputs, dict) else ():
            if manifests.get(stage, {}).get("fingerprint", made_from) != made_from:
                what = f"{folder / name} was made from another {stage} than {folder / stage} is now"
                raise ValueError(f"{what}: `interp run` makes it anew")


def _timed(manifests: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float]]:
    timed = {name: m for name, m in manifests.items() if math.isfinite(m.get("wall_seconds", math.nan))}
    graph = {name: [stage for stage in timed[name].get("inputs") or () if stage in timed] for name in sorted(timed)}
    return [(name, float(timed[name]["wall_seconds"])) for name in TopologicalSorter(graph).static_order()]
