"""Write the files in which viewers of attribution graphs look up a graph's latents.

`FOLDER/NUMBER.json` for each latent of a graph, NUMBER as in the graph's file, has the texts on which it fires most
strongly and the tokens that it promotes and suppresses.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interp.checks.errors import InterpError
from interp.effects.graph import AttributionGraph
from interp.effects.graph_files import feature_number
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import scan_identity
from interp.storage.files import write_text
from interp.storage.folders import atomic_folder

_N_LOGITS = 10


def write_graph_features(
    graph: AttributionGraph, features: Mapping[str, FeatureStore], out: str | Path, *, overwrite: bool = False
) -> Path:
    """Write a file for each latent of a graph to the folder `out`, and return the folder.
    features: the FeatureStore of each hook.

    Raises ValueError if a hook of the graph has no features, or if the folder holds other files.
    """
    if missing := [name for name in graph.hook_names if name not in features]:
        raise InterpError(f"the graph has latents at {missing[0]}, whose features are not given")
    made_of = {
        "kind": "graph features",
        "nodes": np.array(graph.node_ids())[graph.nodes["type"] == "latent"].tolist(),
        "of": [scan_identity(features[name]) for name in graph.hook_names],
    }
    with atomic_folder(out, made_of, overwrite=overwrite, editable=True) as new:
        for (name, latents), layer in zip(graph.latents().items(), graph.layers, strict=False):
            for latent, feature in features[name].several(latents).items():
                number = feature_number(layer, latent)
                entry = _feature(feature, number)
                write_text(new / f"{number}.json", json.dumps(entry, ensure_ascii=False, allow_nan=False))
    return Path(out).expanduser()


def _feature(feature: Any, number: int) -> dict[str, Any]:
    examples = [
        {
            "tokens": [feature.vocab[token] for token in row.tokens],
            "tokens_acts_list": [round(float(value), 3) for value in row.values],
        }
        for row in feature.examples.itertuples()
    ]
    quantile = {"quantile_name": "Top activations", "examples": examples}
    entry: dict[str, Any] = {"index": number, "examples_quantiles": [quantile]}
    if feature.has_logits:
        for side in ("top", "bottom"):
            tokens = feature.facts[f"{side}_logit_tokens"][:_N_LOGITS]
            entry[f"{side}_logits"] = [feature.vocab[token] for token in tokens]
    return entry
