"""Firings as EleutherAI's Delphi caches them, so that its explainers and scorers run on these features.

In: a FeatureStore. Out: a folder that `delphi.latents.LatentDataset(raw_dir=…)` reads, with one of the hook's name:

    FIRST_LAST.safetensors   of the latents FIRST … LAST: `locations` [firing, 3] (sequence, position, latent − FIRST),
                             `activations` [firing] as float16, in token order, and the `tokens` [seq, pos]
    config.json              where model and text are from, as Delphi's CacheConfig

Cost: one pass over the codes a file; a file holds at most MAX_FIRINGS firings, but for a single latent that has more.
Failing: an activation below 10⁻⁵ is none to Delphi, and one above 65,504 is beyond float16.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from interp.features.feature_store import FeatureStore
from interp.files import Progress, no_progress, write_json, write_tensors
from interp.hooks import UNNAMED

MAX_FIRINGS = 1 << 23
MIN_ACTIVATION = 1e-5
_ROWS_AT_ONCE = 1 << 16


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
    spans = list(_spans(table["n_active"].fillna(0).to_numpy(np.int64)))
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


def _spans(n_active: Int[np.ndarray, " d_sae"]) -> Iterator[tuple[int, int]]:
    """Ranges of latents, one behind the other, that together are all."""
    first, firings = 0, 0
    for latent, n in enumerate(n_active.tolist()):
        if latent > first and firings + n > MAX_FIRINGS:
            yield first, latent
            first, firings = latent, 0
        firings += n
    yield first, len(n_active)


def _firings(features: FeatureStore, first: int, stop: int) -> tuple[Int[Tensor, "firing 3"], Tensor]:
    """Locations and activations of the latents first … stop − 1."""
    found = []
    for start in range(0, len(features.codes), _ROWS_AT_ONCE):
        codes = features.codes[start : min(start + _ROWS_AT_ONCE, len(features.codes))]
        own = (codes.latents >= first) & (codes.latents < stop) & (codes.values > MIN_ACTIVATION)
        rows, latents = start + codes.rows[own], codes.latents[own].long() - first
        location = torch.stack([rows // features.n_ctx, rows % features.n_ctx, latents], 1)
        found.append((location, codes.values[own].half()))
    locations, activations = zip(*found, strict=True)
    return torch.cat(locations), torch.cat(activations)
