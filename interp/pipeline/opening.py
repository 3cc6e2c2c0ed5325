"""Opening what a path holds: `open_any("runs/demo")` is a `Run`, `open_any("runs/demo", "features")` its features."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from interp.storage.folder_kinds import find
from interp.storage.folders import verify


def open_any(path: str | Path, *kinds: str) -> Any:
    """The run, feature store, SAE, activation store, model, tokens or tokenizer at `path`.

    kinds: what it may be, the first that fits (keys of `interp.storage.folder_kinds.KINDS`; default: any of them). A
    run folder stands for what its stages left, so that `open_any("runs/demo", "sae")` is its dictionary.

    Raises ValueError where the path is not there, with the nearest that is; where it holds none of these, with what was
    looked for and what is there; and for files that are not as they were written.
    """
    kind, folder = find(path, *kinds)
    return _OPENERS[kind](folder)


def _run(folder: Path) -> Any:
    from interp.pipeline.run_folder import Run

    return Run(folder)


def _features(folder: Path) -> Any:
    from interp.features.feature_store import FeatureStore

    return FeatureStore.open(folder)


def _sae(folder: Path) -> Any:
    from interp.sae import load_sae

    return load_sae(folder)


def _activations(folder: Path) -> Any:
    from interp.activations import ActivationStore

    return ActivationStore.open(folder)


def _model(folder: Path) -> Any:
    from interp.pipeline.pretrained import open_model

    verify(folder)
    return open_model(folder)


def _tokens(file: Path) -> Any:
    from models.tokens import LabelledTokens

    verify(file)
    return LabelledTokens.load(file)


def _tokenizer(folder: Path) -> Any:
    from models import load_tokenizer

    verify(folder)
    return load_tokenizer(folder)


_OPENERS: dict[str, Callable[[Path], Any]] = {
    "run": _run,
    "features": _features,
    "sae": _sae,
    "activations": _activations,
    "model": _model,
    "tokens": _tokens,
    "tokenizer": _tokenizer,
}
