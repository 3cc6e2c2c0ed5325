"""Pretrained language models: one registered function per kind of source.

Each function takes a name and returns a `HookedLanguageModel`; `models.load_model` calls them.
Weights are read from safetensors or GGUF files, and code that comes with a model is never run. Heavy libraries are
imported when a model is loaded, so that a configuration can check its source's name without them.
"""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from interp.checks.errors import DamagedError, InterpError
from interp.storage.artifacts import folder_of
from models.from_transformers import check_hub_answers, errors_on_one_line, from_transformers
from models.sources import MODEL_SOURCES, model_source

if TYPE_CHECKING:
    from models.pretrained_tokenizer import PretrainedTokenizer
    from models.tokenizer import Tokenizer


REFERENCE = "pretrained.json"
"""The file of a run's stage `model` that names the pretrained model."""
WEIGHTS_FOLDER = "weights"
"""The folder of a run's stage `model` with weights that were de-quantized."""


def model_source_of(location: str) -> tuple[str, str]:
    """Return the model source and the name in it: both from "SOURCE:NAME", else the source that owns the location.
    Hugging Face is the fallback: a folder, or a name on the hub. "~" is the user's folder.
    """
    if names_source(location):
        source, _, name = location.partition(":")
        return source, os.path.expanduser(name)
    location = os.path.expanduser(location)
    owners = (source for source, each in MODEL_SOURCES.items() if each.owns(location))
    return next(owners, "huggingface"), location


def names_source(location: str) -> bool:
    """Return whether a location is "SOURCE:NAME" of a registered source. With an absolute path as NAME it looks like an
    address."""
    source, colon, _ = location.partition(":")
    return bool(colon) and source in MODEL_SOURCES


@model_source(takes="a name on the hub, or a folder")
def huggingface(name: str, *, dtype: str, revision: str | None, tokenizer: Any) -> Any:
    """Any language model or text encoder of Hugging Face with a fast tokenizer."""
    is_path = Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if is_path and not Path(name).exists():  # the hub would be asked for a name that it cannot have
        raise FileNotFoundError(f"{name} does not exist: name a folder, a GGUF file or a model of Hugging Face")
    if not Path(name).exists():
        check_hub_answers(name, revision)
    return from_transformers(name, name, dtype, revision, tokenizer)


@model_source("gguf", takes="a .gguf file", owns=lambda location: location.endswith(".gguf"), slow=True)
def from_gguf(name: str, *, dtype: str, revision: str | None, tokenizer: Any) -> Any:
    """A GGUF file, de-quantized by `transformers` and the package `gguf`."""
    file = Path(name)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: name a GGUF file")
    if find_spec("gguf") is None:
        raise InterpError(f"reading {file} needs the package gguf: pip install gguf")
    model = from_transformers(name, str(file.parent), dtype, revision, tokenizer, gguf_file=file.name)
    if hasattr(model.inner.config, "quantization_config"):  # it is de-quantized, and can be saved unchanged
        del model.inner.config.quantization_config
        model.inner.hf_quantizer = None
    return model


@model_source("transformer_lens", takes="a name that TransformerLens knows")
def from_transformer_lens(name: str, *, dtype: str, revision: str | None, tokenizer: Any) -> Any:
    """A model of TransformerLens."""
    from transformer_lens.model_bridge import TransformerBridge

    with errors_on_one_line(name):
        bridge = TransformerBridge.boot_transformers(name, revision=revision)
    return from_object(bridge, tokenizer)


class NamedModel(NamedTuple):
    """The pretrained model that a run names, or its de-quantized weights in the run."""

    source: str
    name: str
    revision: str | None
    dtype: str


def named_model(folder: Path) -> NamedModel | None:
    """Read which pretrained model the folder of a run's stage `model` names; None if it holds one that was trained."""
    from interp.storage.files import read_json

    if not (folder / REFERENCE).is_file():
        return None
    named = NamedModel(**read_json(folder / REFERENCE, "run the stage again"))
    if (folder / WEIGHTS_FOLDER).is_dir():
        return NamedModel("huggingface", str(folder / WEIGHTS_FOLDER), None, named.dtype)
    if named.source not in MODEL_SOURCES:
        raise InterpError(
            f"{folder} names a model of the source {named.source!r}, which nothing registered: import its script first "
            "(--import FILE on the command line)"
        )
    return named


def _is_of_run(location: str) -> bool:
    from interp.storage.files import read_json

    folder = folder_of(location, "model")
    if (folder / REFERENCE).is_file():
        return True
    return folder.is_dir() and "model_type" not in read_json(folder / "config.json", "name a folder that holds a model")


@model_source("interp", takes="a run's folder, or the folder of its stage `model`", owns=_is_of_run)
def from_interp(name: str, *, dtype: str, revision: str | None, tokenizer: Any) -> Any:
    """The small transformer that a run trained, or the pretrained model that it names."""
    from models.pretrained_tokenizer import wrap_tokenizer
    from models.transformer import Transformer

    folder = folder_of(name, "model")
    if (named := named_model(folder)) is not None:
        dtype = named.dtype if dtype == "auto" else dtype
        load = MODEL_SOURCES[named.source].load
        return load(named.name, dtype=dtype, revision=revision or named.revision, tokenizer=tokenizer)
    model = Transformer.load(folder)
    model.tokenizer = wrap_tokenizer(tokenizer)
    if model.tokenizer is None and (tokenizer_folder := _tokenizer_folder(name)) is not None:
        model.tokenizer = load_tokenizer(tokenizer_folder)
    return model.eval()


def from_object(model: Any, tokenizer: Any) -> Any:
    """Wrap a model object of Hugging Face, TransformerLens or interp with its tokenizer and named hooks."""
    from models.language_model import LanguageModel
    from models.pretrained_tokenizer import wrap_tokenizer

    if isinstance(model, LanguageModel) or _is_transformer(model):
        model.tokenizer = wrap_tokenizer(tokenizer, model.d_vocab) or model.tokenizer
        return model
    class_name = type(model).__name__
    if not hasattr(model, "hook_dict"):
        if not hasattr(model, "get_output_embeddings"):
            raise InterpError(
                f"{class_name} is not a model of Hugging Face or TransformerLens: give it to "
                "harvest itself, or (module, {name: submodule})"
            )
        if getattr(model, "main_input_name", "input_ids") != "input_ids":
            raise InterpError(
                f"{class_name} reads {model.main_input_name}, not tokens: give the model itself to harvest, or its "
                "activations to ActivationStore.from_batches"
            )
        if model.config.is_encoder_decoder and hasattr(model, "get_decoder"):
            raise InterpError(f"{class_name} reads two texts: give its encoder alone, such as model.get_encoder()")
    wrapper = LanguageModel(model)
    wrapper.tokenizer = wrap_tokenizer(tokenizer or getattr(model, "tokenizer", None), wrapper.d_vocab)
    return wrapper


def _is_transformer(model: Any) -> bool:
    if not hasattr(model, "hook_dict"):
        return False  # and TransformerLens, of which ours is one, need not be imported, which takes seconds
    from models.transformer import Transformer

    return isinstance(model, Transformer)


def load_tokenizer(location: str | Path) -> "Tokenizer | PretrainedTokenizer":
    """Load the tokenizer of a folder, of a model's or run's folder, or of any model that `model_source_of` finds.

    Raises FileNotFoundError or ValueError, with the location, if none can be read."""
    from interp.storage.files import read_json
    from models.pretrained_tokenizer import TOKENIZER_REMEDY, PretrainedTokenizer
    from models.tokenizer import Tokenizer

    if names_source(str(location)):
        location = model_source_of(str(location))[1]
    folder = _tokenizer_folder(str(location)) or Path(location)
    if folder.is_dir() and not (folder / "tokenizer_config.json").is_file():
        try:
            return Tokenizer.load(folder)
        except DamagedError:  # the file alone may be of any fast tokenizer
            with suppress(DamagedError):
                return PretrainedTokenizer.load(folder)
            raise
    if folder.is_dir():
        read_json(folder / "tokenizer.json", TOKENIZER_REMEDY)
        return PretrainedTokenizer.load(folder)
    return PretrainedTokenizer.load(model_source_of(str(location))[1])


def _tokenizer_folder(location: str) -> Path | None:
    """Find the folder with the tokenizer.json of a folder or of the run that it belongs to."""
    folder = folder_of(location, "model")
    candidates = (folder, folder / "tokenizer", folder.parent / "corpus" / "tokenizer")
    return next((candidate for candidate in candidates if (candidate / "tokenizer.json").is_file()), None)
