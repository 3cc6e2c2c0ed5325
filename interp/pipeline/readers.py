"""Open any result by its path: `open_any("runs/demo")` is a `Run`, `open_any("runs/demo", "features")` its features.

The reader of each artifact is imported when it is first called, so that the command line prints help without it.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from interp.storage.addresses import address_of
from interp.storage.artifacts import find_artifact
from interp.storage.manifests import verify

_READERS = {
    "run": "interp.pipeline.run:Run",
    "features": "interp.features.feature_store:FeatureStore.open",
    "sae": "interp.sae:load_sae",
    "activations": "interp.activations:ActivationStore.open",
    "model": "interp.pipeline.model_section:model_of_folder",
    "tokens": "models:LabelledTokens.load",
    "tokenizer": "models:load_tokenizer",
}
"""The function that opens each artifact (`storage.artifacts`), "module:name"."""
_DO_NOT_VERIFY = ("model", "tokens", "tokenizer")
"""Artifacts whose readers do not compare the files with their manifest."""


def open_any(path: str | Path, *artifacts: str) -> Any:
    """Return the run, feature store, SAE, activation store, model, tokens or tokenizer at `path`.

    artifacts: those accepted, of which the first match is taken (keys of `interp.storage.artifacts.ARTIFACTS`; default:
    any of them). A run folder stands for the results of its stages, so that `open_any("runs/demo", "sae")` is its
    dictionary. A finished folder may lie at an address, such as s3://bucket/features.

    Raises ValueError if the path does not exist, with the most similar path that does; if it contains none of
    them, with a list of them and of its contents; and if files were changed since they were written.
    """
    if artifacts == ("activations",) and (address := address_of(path)) is not None:
        return reader_of("activations")(address)
    if not artifacts or "sae" in artifacts:
        import_module("interp.sae.formats")  # each format of dictionaries tells by which file they are found
    artifact, folder = find_artifact(path, *artifacts)
    if artifact in _DO_NOT_VERIFY:
        verify(folder)
    return reader_of(artifact)(folder)


def reader_of(artifact: str) -> Callable[[Any], Any]:
    """Return the function that reads an artifact (a key of `storage.artifacts.ARTIFACTS`)."""
    return lazy_call(_READERS[artifact])


def lazy_call(name: str, **options: Any) -> Callable[..., Any]:
    """Return the function "module:name", with these options bound. Its module is imported at the first call."""
    return lambda *arguments: resolve_name(name)(*arguments, **options)


read_table = lazy_call("pandas:read_parquet")
read_curve = lazy_call("interp.storage.metrics:read_metrics")
"""Reads the metrics.jsonl of a training."""
