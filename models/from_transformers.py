"""Load a text model with `transformers`: no code of the model is run, and weights that are missing, damaged, not finite
or too large for memory are refused."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from interp.checks.errors import DamagedError, InterpError
from interp.storage.artifacts import nearest_path


def from_transformers(name: str, folder: str, dtype: str, revision: str | None, tokenizer: Any, **options: Any) -> Any:
    from transformers import AutoConfig

    from models.language_model import LanguageModel
    from models.pretrained_tokenizer import PretrainedTokenizer, wrap_tokenizer

    revision = revision or "main"
    with errors_on_one_line(name), _without_progress_bars():
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False, **options)
    candidates = auto_classes(config)
    _check_size(name, candidates[0], config, dtype, Path(folder), options.get("gguf_file"))
    lacks: list[str] = []
    for candidate in candidates:  # of a classifier, only the last, which has no logits, has all its weights
        with errors_on_one_line(name), _without_progress_bars():
            loaded: Any = candidate.from_pretrained(
                folder,
                dtype=dtype,
                revision=revision,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
        model, report = loaded
        # They would be filled with random numbers. A pooler reads the last layer, and no layer reads it.
        missing = sorted(key for key in report["missing_keys"] if "pooler." not in key)
        if not missing:
            break
        lacks.append(f"lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}")
    else:
        raise DamagedError(f"{name} {lacks[0]}")
    _check_finite(name, model)
    if tokenizer is None:
        tokenizer = PretrainedTokenizer.load(name, revision=revision).inner
    wrapper = LanguageModel(model.eval(), name=Path(name).name if Path(name).exists() else name)
    wrapper.tokenizer = wrap_tokenizer(tokenizer, wrapper.d_vocab)
    return wrapper


def check_hub_answers(name: str, revision: str | None) -> None:
    """Check that the hub can be reached for a model that is not in its cache: `transformers` tries for half a minute.
    Raises ValueError if not."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        return
    with errors_on_one_line(name), suppress(HfHubHTTPError, HFValidationError):  # which `transformers` explains better
        if try_to_load_from_cache(name, "config.json", revision=revision) is None:
            HfApi().model_info(name, revision=revision, timeout=10)


def _check_finite(name: str, model: Any) -> None:
    """Check the weights of a model. Raises DamagedError for NaN and infinity. Numbers of eight bits, of which torch
    finds no extremes, are not checked."""
    for key, weight in model.named_parameters():
        has_extremes = weight.numel() and weight.itemsize > 1
        if has_extremes and not all(extreme.isfinite() for extreme in weight.detach().aminmax()):
            raise DamagedError(f"{name} holds values that are not finite in {key}: fetch it again")


def _check_size(name: str, loader: Any, config: Any, dtype: str, folder: Path, gguf_file: str | None) -> None:
    """Check, before memory is allocated for weights, that the files are large enough for the configuration's number of
    weights, at one bit each, and that the memory is. Raises ValueError if not."""
    import torch

    from interp.checks.free_memory import check_memory

    described = 0
    with errors_on_one_line(name), suppress(NotImplementedError), torch.device("meta"):
        described = sum(weight.numel() for weight in loader.from_config(config).parameters())
    files = [folder / gguf_file] if gguf_file else list(folder.glob("*.safetensors"))
    n_bytes = sum(file.stat().st_size for file in files)
    if files and folder.is_dir() and described > 8 * n_bytes:  # not so a name on the hub
        raise DamagedError(
            f"the configuration of {name} describes {described:,} weights, but its files have {n_bytes:,} bytes: "
            "fetch it again"
        )
    kept_as = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.") if dtype == "auto" else dtype
    needed = described * getattr(torch, kept_as).itemsize
    check_memory(needed, f"{name} with {described:,} weights", "take a smaller model, or its weights as bfloat16")


def auto_classes(config: Any) -> list[Any]:
    """Return the `transformers` classes that a text model may have: the one in its configuration, else those that fit
    of a causal language model, a masked one, and an encoder without logits. BERT and its kin, which have both heads,
    are causal only if they say that they are decoders.

    Raises ValueError for a model that does not read text."""
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        MODEL_MAPPING,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForTextEncoding,
    )

    mapping: dict[Any, Any] = {
        AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING,
        AutoModelForMaskedLM: MODEL_FOR_MASKED_LM_MAPPING,
        AutoModelForTextEncoding: MODEL_FOR_TEXT_ENCODING_MAPPING,
        AutoModel: MODEL_MAPPING,
    }
    classes = {each: models[type(config)] for each, models in mapping.items() if type(config) in models}
    if AutoModelForMaskedLM in classes and not (config.is_encoder_decoder or getattr(config, "is_decoder", False)):
        classes.pop(AutoModelForCausalLM, None)
    named = [each for each, cls in classes.items() if cls.__name__ in (config.architectures or ())]
    takes_text = [each for each, cls in classes.items() if cls.main_input_name == "input_ids"]
    fitting = [each for each in takes_text if each is not AutoModel or not config.is_encoder_decoder]
    found = [each for each in fitting if each in named] or fitting
    if not found:
        class_name = type(config).__name__.removesuffix("Config")
        raise InterpError(
            f"{class_name} is not a model of text: store its activations with ActivationStore.from_batches"
        )
    return found


@contextmanager
def errors_on_one_line(name: str) -> Iterator[None]:
    """Shorten errors of `transformers`. Raises ValueError with the first line of a long loading error; MemoryError is
    passed on."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # any error that the library raises for a damaged file
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
        near = None if Path(name).exists() else nearest_path(Path(name))
        remedy = f"did you mean {near}?" if near else "name a folder, a GGUF file or a model of Hugging Face"
        raise InterpError(f"{name} cannot be loaded as a language model ({reason}): {remedy}") from error


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
