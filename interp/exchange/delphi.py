"""Write firings in Delphi's format.

Delphi's `delphi.latents.LatentDataset(raw_dir=…)` reads a folder that contains a folder with the hook's name. This has

    FIRST_LAST.safetensors   the latents FIRST … LAST: `locations` [firing, 3] (sequence, position, latent − FIRST),
                             `activations` [firing] as float16, in token order, and the `tokens` [seq, pos]
    config.json              the sources of model and text, as Delphi's CacheConfig

Cost: one pass over the codes per file. A file has at most FIRINGS_PER_FILE firings, unless one latent alone has more.
Limits: Delphi does not count an activation below 10⁻⁵. An activation above 65,504 is out of the range of float16.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.activations.hooks import DEFAULT_HOOK_NAME
from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields
from interp.codes.code_chunks import read_chunks
from interp.exchange.results_format import results_format
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import scan_identity
from interp.features.scan_input import latent_blocks
from interp.report.inputs import ReadableRun
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.files import write_json, write_tensors
from interp.storage.folders import atomic_folder

FIRINGS_PER_FILE = 1 << 23
MIN_ACTIVATION = 1e-5


@dataclass(frozen=True, kw_only=True)
class DelphiOptions(CheckedFields):
    model_id: str
    """The model's name: for delphi, the one by which transformers finds the tokenizer."""


@results_format("delphi", DelphiOptions)
def publish_delphi(run: ReadableRun, out: Path, options: DelphiOptions, **how: Any) -> Path:
    """all firings, as its latent cache"""
    return write_delphi(run.features, out, model_name=options.model_id, **how)


@shows_progress
def write_delphi(
    features: FeatureStore,
    out: str | Path,
    *,
    model_name: str,
    dataset: str = "",
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Write the folder of the hook below `out`, and return `out`.
    model_name: the name under which transformers finds the tokenizer.
    dataset: the source of the text.
    overwrite: replace existing features of that hook.

    Raises ValueError if an activation exceeds the range of float16.
    """
    table = features.table().set_index("latent").reindex(range(features.d_sae))
    if (most := float(table["max"].max())) > torch.finfo(torch.float16).max:
        raise InterpError(
            f"an activation of {most:.4g} exceeds the range of float16, which Delphi stores: scale the dictionary"
        )
    out = Path(out).expanduser()
    folder = out / (re.sub(r"[^\w.-]+", "_", features.meta.get("hook_name", "")).lstrip(".") or DEFAULT_HOOK_NAME)
    made_of = {"kind": "Delphi", "features": scan_identity(features), "model_name": model_name, "dataset": dataset}
    with atomic_folder(folder, made_of, overwrite=overwrite, editable=True) as new:
        _write(features, table, new, model_name, dataset, progress)
    return out


def _write(
    features: FeatureStore, table: pd.DataFrame, folder: Path, model_name: str, dataset: str, progress: Progress
) -> None:
    spans = latent_blocks(table["n_active"].fillna(0).to_numpy(np.int64), features.d_sae, FIRINGS_PER_FILE)
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


def _firings(features: FeatureStore, first: int, stop: int) -> tuple[Int[Tensor, "firing 3"], Tensor]:
    """Return the locations and activations of the firings of the latents first … stop − 1."""
    parts = []
    for chunk in read_chunks(features.codes):
        is_written = (chunk.latents >= first) & (chunk.latents < stop) & (chunk.activations > MIN_ACTIVATION)
        sequences, positions = np.divmod(chunk.rows[is_written], features.n_ctx)
        location = np.stack([sequences, positions, chunk.latents[is_written] - first], 1)
        parts.append((torch.from_numpy(location), torch.from_numpy(chunk.activations[is_written]).half()))
    locations, activations = zip(*parts, strict=True)
    return torch.cat(locations), torch.cat(activations)
