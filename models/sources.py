"""Register sources of text and of language models: one function each.

    @text_source(fields=("paths",), takes="at least one file or glob")
    def files(paths, size): …                          # an iterator of `Document`s of at most `size` characters

    @model_source("gguf", takes="a .gguf file", owns=lambda location: location.endswith(".gguf"))
    def from_gguf(name, *, dtype, revision, tokenizer): …   # a model as `models.load_model` gives it

A configuration names a source ([corpus] source, [model] source). Checks, messages, the command line and its help follow
from the registration. Those of the library are in the folder `models.text_sources` and in `models.pretrained`.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from interp.runtime.hooked_model import HookedLanguageModel
from interp.runtime.registry import register
from models.documents import Document
from models.text_files import check_local_files, local_files

ModelDtype = Literal["auto", "float32", "bfloat16", "float16"]
"""The number formats for loading a model's weights; auto: the stored one."""


def _owns_nothing(location: str) -> bool:
    return False


def _no_files(config: Any) -> Iterable[Path]:
    return ()


def _check_nothing(config: Any) -> None:
    pass


class TextSource(NamedTuple):
    """A function that reads documents of at most `size` characters: read(rng, size), or read(*fields, size)."""

    read: Callable[..., Iterator[Document]]
    help: str
    endless: bool = False
    """Whether it is endless or very long: a corpus then takes a fixed number of characters from it."""
    fields: tuple[str, ...] = ()
    """The fields of a `CorpusConfig`, or names in its `options`, that select a user's own text. The first must be
    set."""
    takes: str = ""
    """The value of the first field, in words."""
    owns: Callable[[str], bool] = _owns_nothing
    """Whether it reads this file if no source is named."""
    files: Callable[[Any], Iterable[Path]] = _no_files
    """Returns the files on this machine that it reads for a `CorpusConfig`; a run notices that they changed. By default
    those that `paths` names, if that is one of the fields."""
    check: Callable[[Any], None] = _check_nothing
    """Checks a `CorpusConfig` before a run begins. Raises OSError or ValueError. By default each of `paths` must name a
    file, if that is one of the fields."""


class ModelSource(NamedTuple):
    """A function that loads a model: load(name, dtype=…, revision=…, tokenizer=…), each as in `models.load_model`.

    It returns a `HookedLanguageModel`, such as `models.pretrained.from_object` makes of a module of Hugging Face or
    TransformerLens.
    """

    load: Callable[..., HookedLanguageModel]
    help: str
    takes: str
    """A description of the name, in words."""
    owns: Callable[[str], bool] = _owns_nothing
    """Whether it loads this location if no source is named."""
    slow: bool = False
    """Whether loading takes minutes: a run then stores the weights, to load them quickly the next time."""


TEXT_SOURCES: dict[str, TextSource] = {}
MODEL_SOURCES: dict[str, ModelSource] = {}


def text_source(**facts: Any) -> Callable[[Callable[..., Iterator[Document]]], Callable[..., Iterator[Document]]]:
    """Register the function below under its name; `facts` are the fields of `TextSource` after `help`.

    Raises ValueError if another has the name, or if it is `mixture`."""

    of_paths: dict[str, Any] = {}
    if "paths" in facts.get("fields", ()):
        of_paths["files"] = lambda config: local_files(config.paths)
        of_paths["check"] = lambda config: check_local_files(config.paths)

    def decorate(read: Callable[..., Iterator[Document]]) -> Callable[..., Iterator[Document]]:
        source = TextSource(read, _first_sentence(read), **of_paths | facts)
        register(TEXT_SOURCES, read.__name__, source, "source of text", lambda source: source.read, {"mixture"})
        return read

    return decorate


def model_source(
    name: str = "", **facts: Any
) -> Callable[[Callable[..., HookedLanguageModel]], Callable[..., HookedLanguageModel]]:
    """Register the function below under `name`, or under its own name; `facts` are the fields of `ModelSource`
    after `help`.

    Raises ValueError if another has the name, or if it is `train`."""

    def decorate(load: Callable[..., HookedLanguageModel]) -> Callable[..., HookedLanguageModel]:
        source = ModelSource(load, _first_sentence(load), **facts)
        noun = "source of models"
        register(MODEL_SOURCES, name or load.__name__, source, noun, lambda source: source.load, {"train"})
        return load

    return decorate


def source_help(sources: Mapping[str, TextSource] | Mapping[str, ModelSource]) -> str:
    """Lines for the help of a command: each source's name and content, with equal contents grouped."""
    names: dict[str, list[str]] = {}
    for name, source in sources.items():
        names.setdefault(source.help, []).append(name)
    lines = []
    for help, several in names.items():
        if len(several) == 1:
            lines.append(f"  {several[0]:16s} {help}")
        else:
            lines += textwrap.wrap(f"{', '.join(several)}: {help}", 100, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _first_sentence(function: Callable[..., Any]) -> str:
    text = " ".join((function.__doc__ or "").split())
    return text.partition(". ")[0].rstrip(".")
