"""Read and write the files that other tools use together with an attribution graph: circuit-tracer's transcoders, and
feature files.

Transcoders: `layer_0.safetensors` … (`W_enc`, `W_dec` [d_sae, d_model], `b_enc`, `b_dec`; `W_skip` [d_out, d_in],
`activation_function.threshold` and `k` if present) and `config.yaml`, which names the hooks that they read and write.
circuit-tracer's older files are pickles, which could run code, and are not read.

Feature files: `FOLDER/NUMBER.json` for each latent of a graph, NUMBER as in the graph's file, with the texts on which
it fires most strongly and the tokens that it promotes and suppresses, as viewers of attribution graphs show them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.checks.errors import DamagedError, InterpError
from interp.effects.graph import AttributionGraph
from interp.effects.graph_files import feature_number
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import identity
from interp.sae.architectures.thresholds import Threshold
from interp.sae.architectures.topk import TopK
from interp.sae.file_tensors import FileTensors, read_whole_number
from interp.sae.model import Transcoder
from interp.storage.files import read_tensors, write_text
from interp.storage.folders import whole_folder

_CONFIG = "config.yaml"
_N_LOGITS = 10


def load_transcoders(folder: str | Path) -> dict[str, Transcoder]:
    """Load the transcoders of a circuit-tracer folder. Returns them by the hook that they read.

    Raises ValueError, naming the file, for a folder without `config.yaml` or a layer, for cross-layer transcoders, and
    for weights that are damaged.
    """
    config = _config(Path(folder) / _CONFIG)
    files = {_layer(file): file for file in Path(folder).glob("layer_*.safetensors")}
    if not files:
        raise InterpError(f"{folder} contains no layer_0.safetensors: name a folder of circuit-tracer transcoders")
    transcoders = {}
    for layer, file in sorted(files.items()):
        reads, writes = (f"blocks.{layer}.{config[f'feature_{side}_hook']}" for side in ("input", "output"))
        transcoders[reads] = _transcoder(file, config, {"hook_name": reads, "hook_name_out": writes})
    return transcoders


def _layer(file: Path) -> int:
    number = file.stem.removeprefix("layer_")
    if not number.isdecimal():
        raise InterpError(f"{file} is not named after a layer, as layer_0.safetensors is: rename it or move it away")
    return int(number)


def _config(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise InterpError(f"{file} needs a package that is missing ({error}): pip install 'interp[hub]'") from None
    if not file.is_file():
        raise InterpError(f"{file} does not exist: name a folder of circuit-tracer's transcoders")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        if config["model_kind"] != "transcoder_set":
            raise InterpError(
                f"model_kind={config['model_kind']!r} is not supported: only 'transcoder_set' can be read"
            )
        for side in ("input", "output"):
            if not isinstance(config[f"feature_{side}_hook"], str):
                raise InterpError(f"feature_{side}_hook is not a name")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{file} describes no transcoders ({type(error).__name__}: {error})") from None
    return config


def _transcoder(file: Path, config: Mapping[str, Any], metadata: dict[str, Any]) -> Transcoder:
    tensors = read_tensors(file, "download it again")
    k = tensors.pop("k", None)
    parts = FileTensors(tensors, str(file))
    parts.dtype = torch.float32
    rows = parts.pop("W_enc", None, None)
    d_sae, d_in = rows.shape
    W_dec = parts.pop("W_dec", d_sae, None)
    threshold = torch.zeros(d_sae)
    if "activation_function.threshold" in parts:
        threshold = parts.pop("activation_function.threshold", d_sae)
    picks_k = config.get("activation") == "topk"  # as in circuit-tracer, the config's k is of no other activation
    n = int(k) if k is not None else config.get("k") if picks_k else None
    if n is None and picks_k:
        raise DamagedError(f"{file} has no k, and neither has {_CONFIG}, whose activation is topk: add its k there")
    encoder = Threshold(threshold) if n is None else TopK(read_whole_number({"k": n}, "k", str(file), limit=d_sae))
    transcoder = Transcoder(
        W_enc=rows.T,
        W_dec=W_dec,
        b_enc=parts.pop("b_enc", d_sae),
        b_dec=parts.pop("b_dec", W_dec.shape[1]),
        encoder=encoder,
        metadata=metadata,
        W_skip=parts.pop("W_skip", W_dec.shape[1], d_in).T.contiguous() if "W_skip" in parts else None,
    )
    parts.end()
    return transcoder


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
        "of": [identity(features[name]) for name in graph.hook_names],
    }
    with whole_folder(out, made_of, overwrite=overwrite, editable=True) as new:
        for (name, latents), layer in zip(graph.latents().items(), graph.layers, strict=False):
            for latent, feature in features[name].several(latents).items():
                number = feature_number(layer, latent)
                entry = _feature(feature, number)
                write_text(new / f"{number}.json", json.dumps(entry, ensure_ascii=False, allow_nan=False))
    return Path(out)


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
