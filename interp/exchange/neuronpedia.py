"""Write features in Neuronpedia's format.

Neuronpedia reads the output of SAEDashboard 0.8. This is a folder with `batch-0.json`, …, each with some features,
`skipped_indexes.json` with the latents that never fire, and `run_settings.json`. A feature has its examples (the top
examples with bin_min −1, then those of the intervals, the strongest first), logits, and a histogram of its activations.
Values that a FeatureStore does not have (similar neurons, correlations, the histogram of all logits) are empty lists,
as SAEDashboard leaves them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from interp.activations.hooks import layer_of
from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields, at_least, check_at_least
from interp.exchange.results_format import results_format
from interp.features.bins import merge_bins
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import scan_identity
from interp.report.inputs import ReadableRun
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.files import write_json, write_text
from interp.storage.folders import atomic_folder

FEATURES_PER_FILE = 128
"""Features per file."""
N_HISTOGRAM_BARS = 40
"""Bars of a histogram."""
N_DECIMALS = 3
"""Digits after the decimal point, as SAEDashboard rounds."""
EMPTY_FIELDS = """neuron_alignment_indices neuron_alignment_values neuron_alignment_l1 correlated_neurons_indices
    correlated_neurons_l1 correlated_neurons_pearson correlated_features_indices correlated_features_l1
    correlated_features_pearson logits_hist_data_bar_heights logits_hist_data_bar_values decoder_weights_dist
    vector""".split()


@dataclass(frozen=True, kw_only=True)
class NeuronpediaOptions(CheckedFields):
    model_id: str
    """The model's name: for neuronpedia, the one there."""
    layer: Annotated[int, at_least(0)] | None = None
    """The layer of the hook (default: as its name says)."""
    sae_set: str
    """The name of the dictionaries there."""


@results_format("neuronpedia", NeuronpediaOptions)
def publish_neuronpedia(run: ReadableRun, out: Path, options: NeuronpediaOptions, **how: Any) -> Path:
    """the dashboards of features in JSON, as SAEDashboard writes them"""
    layer = layer_of(run.hook_name) if options.layer is None else options.layer
    if layer is None:
        raise InterpError(f"{run.hook_name} does not name its layer: give --layer")
    model_id, sae_set = options.model_id, options.sae_set
    return write_neuronpedia(run.features, out, model_id=model_id, layer=layer, sae_set=sae_set, **how)


@shows_progress
def write_neuronpedia(
    features: FeatureStore,
    out: str | Path,
    *,
    model_id: str,
    layer: int,
    sae_set: str,
    dataset: str = "",
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Write all features that fire to the folder `out`, and return it.
    model_id, layer, sae_set: the name of the source on Neuronpedia.
    dataset: the source of the text.
    overwrite: replace other features, or another source.
    Raises ValueError for a layer below 0."""
    check_at_least(0, layer=layer)
    source: dict[str, Any] = {"model_id": model_id, "layer": layer, "sae_set": sae_set}
    made_of = {"kind": "Neuronpedia", "features": scan_identity(features), **source, "dataset": dataset}
    with atomic_folder(out, made_of, overwrite=overwrite, editable=True) as new:
        _write(features, new, source, dataset, progress)
    return Path(out).expanduser()


def _write(features: FeatureStore, out: Path, source: dict[str, Any], dataset: str, progress: Progress) -> None:
    table = features.table().sort_values("latent")
    fires = table[table["n_active"] > 0]
    batches = [fires.iloc[start : start + FEATURES_PER_FILE] for start in range(0, len(fires), FEATURES_PER_FILE)]
    for number, rows in enumerate(batches):
        batch = {**source, "sae_id_suffix": None, "features": _batch(features, rows, dataset)}
        write_text(out / f"batch-{number}.json", json.dumps(batch, separators=(",", ":"), allow_nan=False))
        progress(number + 1, len(batches), "writing features")
    skipped = [int(latent) for latent in table["latent"][table["n_active"] == 0]]
    sparsity = {"log_sparsity": None, "skipped_indexes": skipped}
    write_json(out / "skipped_indexes.json", {**source, "layer": str(source["layer"]), **sparsity})
    sizes = {"n_prompts_total": features.meta["n_sequences"], "n_tokens_in_prompt": features.n_ctx}
    settings = {**source, **sizes, "huggingface_dataset_path": dataset, "n_features_per_batch": FEATURES_PER_FILE}
    write_json(out / "run_settings.json", settings)


def _batch(features: FeatureStore, rows: pd.DataFrame, dataset: str) -> list[dict[str, Any]]:
    first, last = int(rows["latent"].min()), int(rows["latent"].max())
    where = f"where latent between {first} and {last}"
    histograms = features.sql(f"select * from histograms {where} order by latent, bin").groupby("latent")
    intervals = features.sql(f"select * from intervals {where}").set_index(["latent", "interval"])
    order = "latent, kind desc, case kind when 'top' then 0 else -interval end, rank"
    examples = features.sql(f"select * from examples {where} order by {order}").groupby("latent")
    entries = []
    for row in rows.to_dict(orient="records"):
        latent = int(row["latent"])
        examples_of_latent = examples.get_group(latent) if latent in examples.groups else pd.DataFrame()
        activations = [
            _activation(example, row, intervals, features.vocab)
            for example in examples_of_latent.to_dict(orient="records")
        ]
        entries.append(_feature(features, row, histograms.get_group(latent), dataset) | {"activations": activations})
    return entries


def _feature(features: FeatureStore, row: dict, histogram: pd.DataFrame, dataset: str) -> dict[str, Any]:
    edges, counts = merge_bins(histogram["low"], histogram["high"], histogram["n"], at_most=N_HISTOGRAM_BARS)
    logits: dict[str, list] = {}
    for side, name in (("top", "pos"), ("bottom", "neg")):
        tokens, values = (row[f"{side}_logit_tokens"], row[f"{side}_logits"]) if features.has_logits else ((), ())
        logits[f"{name}_str"] = [features.vocab[token] for token in tokens]
        logits[f"{name}_values"] = _round(values)
    return {
        "feature_index": int(row["latent"]),
        **{name: [] for name in EMPTY_FIELDS},
        **logits,
        "frac_nonzero": float(row["density"]),
        "freq_hist_data_bar_values": _round((edges[1:] + edges[:-1]) / 2),
        "freq_hist_data_bar_heights": [int(count) for count in counts],
        "n_prompts_total": features.meta["n_sequences"],
        "n_tokens_in_prompt": features.n_ctx,
        "dataset": dataset,
    }


def _activation(example: dict, row: dict, intervals: pd.DataFrame, vocab: list[str]) -> dict[str, Any]:
    low = -1.0
    high = float(row["max"])
    share = -1.0
    if example["kind"] != "top":
        interval = intervals.loc[(example["latent"], example["interval"])]
        low, high = float(interval["low"]), float(interval["high"])
        share = float(interval["n"]) / max(int(row["n_active"]), 1)
    return {
        "bin_min": round(low, N_DECIMALS),
        "bin_max": round(high, N_DECIMALS),
        "bin_contains": round(share, N_DECIMALS),
        "tokens": [vocab[token] for token in example["tokens"]],
        "values": _round(example["values"]),
        "qualifying_token_index": int(example["row"] - example["start"]),
    }


def _round(values: Any) -> list[float]:
    return np.round(np.asarray(values, float), N_DECIMALS).tolist()
