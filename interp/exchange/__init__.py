"""Features in the formats of other tools: Neuronpedia and Delphi. (Dictionaries: `dictionary_formats`.)

Neuronpedia reads what SAEDashboard 0.8 writes: a folder with `batch-0.json`, … of some features each, the latents that
never fire in `skipped_indexes.json`, and `run_settings.json`. A feature holds its examples (the top ones with bin_min
−1, then those of the intervals, strongest first), logits, and a histogram of its activations; what a FeatureStore does
not know (neurons alike, correlations, the histogram of all logits) is an empty list, as SAEDashboard leaves it.

Delphi's `delphi.latents.LatentDataset(raw_dir=…)` reads a folder with one of the hook's name:

    FIRST_LAST.safetensors   of the latents FIRST … LAST: `locations` [firing, 3] (sequence, position, latent − FIRST),
                             `activations` [firing] as float16, in token order, and the `tokens` [seq, pos]
    config.json              where model and text are from, as Delphi's CacheConfig

Cost: one pass over the codes a file; a file holds at most MAX_FIRINGS firings, but for a single latent that has more.
Failing: an activation below 10⁻⁵ is none to Delphi, and one above 65,504 is beyond float16.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.activations.hooks import UNNAMED
from interp.exchange.dictionary_formats import upload_to_hub, write_hub_folder
from interp.features.feature_store import FeatureStore
from interp.features.scan_input import latent_blocks
from interp.figures.one_latent import merged_bins
from interp.storage.files import Progress, no_progress, write_json, write_tensors, write_text

__all__ = ["upload_to_hub", "write_delphi", "write_hub_folder", "write_neuronpedia"]

BATCH = 128
"""Features a file."""
N_BARS, DIGITS = 40, 3
"""Bars of a histogram; and digits behind the point, as SAEDashboard rounds."""
EMPTY = """neuron_alignment_indices neuron_alignment_values neuron_alignment_l1 correlated_neurons_indices
    correlated_neurons_l1 correlated_neurons_pearson correlated_features_indices correlated_features_l1
    correlated_features_pearson logits_hist_data_bar_heights logits_hist_data_bar_values decoder_weights_dist
    vector""".split()
MAX_FIRINGS = 1 << 23
MIN_ACTIVATION = 1e-5
_ROWS_AT_ONCE = 1 << 16


def write_neuronpedia(
    features: FeatureStore,
    out: str | Path,
    *,
    model_id: str,
    layer: int,
    sae_set: str,
    dataset: str = "",
    progress: Progress = no_progress,
) -> Path:
    """Write all features that fire to the folder `out`, and return it. model_id, layer and sae_set name the source on
    Neuronpedia, `dataset` where the text is from. Raises ValueError for a layer below 0."""
    if layer < 0:
        raise ValueError(f"layer={layer} must be 0 or more")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("batch-*.json"):
        old.unlink()
    table = features.table().sort_values("latent")
    fires = table[table["n_active"] > 0]
    batches = [fires.iloc[start : start + BATCH] for start in range(0, len(fires), BATCH)]
    named: dict[str, Any] = {"model_id": model_id, "layer": layer, "sae_set": sae_set}
    for number, rows in enumerate(batches):
        batch = {**named, "sae_id_suffix": None, "features": _batch(features, rows, dataset)}
        write_text(out / f"batch-{number}.json", json.dumps(batch, separators=(",", ":"), allow_nan=False))
        progress(number + 1, len(batches), "writing features")
    skipped = [int(latent) for latent in table["latent"][table["n_active"] == 0]]
    sparsity = {"log_sparsity": None, "skipped_indexes": skipped}
    write_json(out / "skipped_indexes.json", {**named, "layer": str(layer), **sparsity})
    sizes = {"n_prompts_total": features.meta["n_sequences"], "n_tokens_in_prompt": features.n_ctx}
    settings = {**named, **sizes, "huggingface_dataset_path": dataset, "n_features_per_batch": BATCH}
    write_json(out / "run_settings.json", settings)
    return out


def write_delphi(
    features: FeatureStore, out: str | Path, *, model_name: str, dataset: str = "", progress: Progress = no_progress
) -> Path:
    """Write the folder of the hook below `out`, and return `out`. model_name: by which transformers finds the
    tokenizer; dataset: where the text is from.

    Raises ValueError where an activation is beyond float16.
    """
    table = features.table().set_index("latent").reindex(range(features.d_sae))
    if (most := float(table["max"].max())) > torch.finfo(torch.float16).max:
        raise ValueError(f"an activation of {most:.4g} is beyond float16, which Delphi keeps: scale the dictionary")
    folder = Path(out) / (re.sub(r"[^\w.-]+", "_", features.meta.get("hook_name", "")).lstrip(".") or UNNAMED)
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("config.json"), *folder.glob("*.safetensors")):
        old.unlink()
    spans = latent_blocks(table["n_active"].fillna(0).to_numpy(np.int64), features.d_sae, MAX_FIRINGS)
    for done, (first, stop) in enumerate(spans, 1):
        locations, activations = _firings(features, first, stop)
        small = max(stop - first, len(features.tokens), features.n_ctx) < 1 << 16
        locations = locations.to(torch.uint16 if small else torch.uint32)
        tensors = {"locations": locations, "activations": activations, "tokens": features.tokens}
        write_tensors(folder / f"{first}_{stop - 1}.safetensors", tensors)
        progress(done, len(spans), "writing firings")
    sizes = {"n_tokens": features.tokens.numel(), "cache_ctx_len": features.n_ctx, "n_splits": len(spans)}
    text = {"dataset_repo": dataset, "dataset_split": "", "dataset_name": "", "dataset_column": ""}
    write_json(folder / "config.json", {**text, **sizes, "ctx_len": features.n_ctx, "model_name": model_name})
    return Path(out)


def _batch(features: FeatureStore, rows: pd.DataFrame, dataset: str) -> list[dict[str, Any]]:
    first, last = int(rows["latent"].min()), int(rows["latent"].max())
    where = f"where latent between {first} and {last}"
    histograms = features.sql(f"select * from histograms {where} order by latent, bin").groupby("latent")
    intervals = features.sql(f"select * from intervals {where}").set_index(["latent", "interval"])
    order = "latent, kind desc, case kind when 'top' then 0 else -interval end, rank"
    examples = features.sql(f"select * from examples {where} order by {order}").groupby("latent")
    made = []
    for row in rows.to_dict(orient="records"):
        latent = int(row["latent"])
        known = examples.get_group(latent) if latent in examples.groups else pd.DataFrame()
        shown = [_activation(each, row, intervals, features.vocab) for each in known.to_dict(orient="records")]
        made.append(_feature(features, row, histograms.get_group(latent), dataset) | {"activations": shown})
    return made


def _feature(features: FeatureStore, row: dict, histogram: pd.DataFrame, dataset: str) -> dict[str, Any]:
    edges, counts = merged_bins(histogram["low"], histogram["high"], histogram["n"], at_most=N_BARS)
    logits: dict[str, list] = {}
    for side, name in (("top", "pos"), ("bottom", "neg")):
        tokens, values = row[f"{side}_logit_tokens"], row[f"{side}_logits"]
        logits[f"{name}_str"] = [features.vocab[token] for token in tokens] if tokens is not None else []
        logits[f"{name}_values"] = _rounded(values) if values is not None else []
    return {
        "feature_index": int(row["latent"]),
        **{name: [] for name in EMPTY},
        **logits,
        "frac_nonzero": float(row["density"]),
        "freq_hist_data_bar_values": _rounded((edges[1:] + edges[:-1]) / 2),
        "freq_hist_data_bar_heights": [int(count) for count in counts],
        "n_prompts_total": features.meta["n_sequences"],
        "n_tokens_in_prompt": features.n_ctx,
        "dataset": dataset,
    }


def _activation(example: dict, row: dict, intervals: pd.DataFrame, vocab: list[str]) -> dict[str, Any]:
    low, high, share = -1.0, float(row["max"]), -1.0
    if example["kind"] != "top":
        interval = intervals.loc[(example["latent"], example["interval"])]
        low, high = float(interval["low"]), float(interval["high"])
        share = float(interval["n"]) / max(int(row["n_active"]), 1)
    return {
        "bin_min": round(low, DIGITS),
        "bin_max": round(high, DIGITS),
        "bin_contains": round(share, DIGITS),
        "tokens": [vocab[token] for token in example["tokens"]],
        "values": _rounded(example["values"]),
        "qualifying_token_index": int(example["row"] - example["start"]),
    }


def _rounded(values: Any) -> list[float]:
    return np.round(np.asarray(values, float), DIGITS).tolist()


def _firings(features: FeatureStore, first: int, stop: int) -> tuple[Int[Tensor, "firing 3"], Tensor]:
    """Locations and activations of the latents first … stop − 1."""
    parts = []
    for start in range(0, len(features.codes), _ROWS_AT_ONCE):
        codes = features.codes[start : min(start + _ROWS_AT_ONCE, len(features.codes))]
        wanted = (codes.latents >= first) & (codes.latents < stop) & (codes.values > MIN_ACTIVATION)
        rows, latents = start + codes.rows[wanted], codes.latents[wanted].long() - first
        location = torch.stack([rows // features.n_ctx, rows % features.n_ctx, latents], 1)
        parts.append((location, codes.values[wanted].half()))
    locations, activations = zip(*parts, strict=True)
    return torch.cat(locations), torch.cat(activations)
