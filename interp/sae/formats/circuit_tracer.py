"""Read circuit-tracer's transcoders: a folder with one for each layer of a model.

`layer_0.safetensors` … have `W_enc`, `W_dec` [d_sae, d_model], `b_enc`, `b_dec`, and, if present, `W_skip`
[d_out, d_in], `activation_function.threshold` and `k`. `config.yaml` names the hooks that they read and write.
circuit-tracer's older files are pickles, which could run code, and are not read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from interp.checks.errors import DamagedError, InterpError
from interp.sae.architectures.thresholds import Threshold
from interp.sae.architectures.topk import TopK
from interp.sae.file_tensors import FileTensors, read_whole_number
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.storage.addresses import as_local_path
from interp.storage.files import read_tensors

_CONFIG = "config.yaml"
_KIND = "transcoder_set"
_HOOKS = ("feature_input_hook", "feature_output_hook")


def read_transcoders(folder: str | Path) -> dict[str, StoredDictionary]:
    """Read the transcoders of a folder. Returns them by the hook that they read.

    Raises ValueError, naming the file, for a folder without `config.yaml` or a layer, for cross-layer transcoders, and
    for weights that are damaged.
    """
    folder = as_local_path(folder)
    config = _config(folder / _CONFIG)
    files = {_layer(file): file for file in folder.glob("layer_*.safetensors")}
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
        kind = config["model_kind"]
        hooks = {name: config[name] for name in _HOOKS} if kind == _KIND else {}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{file} describes no transcoders ({type(error).__name__}: {error})") from None
    if kind != _KIND:
        raise InterpError(f"{file} has model_kind={kind!r}, which is not supported: only {_KIND!r} can be read")
    for name, hook in hooks.items():
        if not isinstance(hook, str):
            raise DamagedError(f"{file} describes no transcoders: {name} is not a name")
    return config


def _transcoder(file: Path, config: Mapping[str, Any], metadata: dict[str, Any]) -> StoredDictionary:
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
    n = config.get("k") if picks_k else None
    if k is not None:
        n = k.item() if k.numel() == 1 else k.tolist()
    if n is None and picks_k:
        raise DamagedError(f"{file} has no k, and neither has {_CONFIG}, whose activation is topk: add its k there")
    encoder = Threshold(threshold) if n is None else TopK(read_whole_number({"k": n}, "k", str(file), limit=d_sae))
    transcoder = StoredDictionary(
        kind="transcoder",
        W_enc=rows.T,
        W_dec=W_dec,
        b_enc=parts.pop("b_enc", d_sae),
        b_dec=parts.pop("b_dec", W_dec.shape[1]),
        encoder=encoder,
        metadata=metadata,
        W_skip=parts.pop_skip_path(d_in, W_dec.shape[1]) if "W_skip" in parts else None,
    )
    parts.end()
    return transcoder
