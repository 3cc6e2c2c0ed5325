"""Opens what a path holds: `open_any("runs/demo")` is a `Run`, `open_any("runs/demo", "features")` its features.

The functions `open_…` read one kind of file or folder each, and import what they need when they are called. The stages
of a run name them (`Stage.opens`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.pipeline import pretrained
from interp.storage.addresses import address_of, local_copy
from interp.storage.folder_kinds import find
from interp.storage.folders import verify

if TYPE_CHECKING:
    import pandas as pd

    from interp.activations import ActivationStore
    from interp.compare.null_dictionaries import Nulls
    from interp.features.feature_store import FeatureStore
    from interp.pipeline.run_folder import Run
    from interp.sae import SAE
    from interp.verdict.ranking_tables import Ranking
    from models.tokens import LabelledTokens


def open_any(path: str | Path, *kinds: str) -> Any:
    """The run, feature store, SAE, activation store, model, tokens or tokenizer at `path`.

    kinds: what it may be, the first that fits (keys of `interp.storage.folder_kinds.KINDS`; default: any of them). A
    run folder stands for what its stages left, so that `open_any("runs/demo", "sae")` is its dictionary. A finished
    folder may lie at an address, such as s3://bucket/features.

    Raises ValueError where the path is not there, with the nearest that is; where it holds none of these, with what was
    looked for and what is there; and for files that are not as they were written.
    """
    if (address := address_of(path)) is not None:
        if kinds == ("activations",):
            return open_activations(address)
        path = local_copy(address)
    kind, folder = find(path, *kinds)
    return _OPENERS[kind](folder)


def open_run(folder: Path) -> "Run":
    from interp.pipeline.run_folder import Run

    return Run(folder)


def open_features(folder: Path) -> "FeatureStore":
    from interp.features.feature_store import FeatureStore

    return FeatureStore.open(folder)


def open_sae(folder: Path) -> "SAE":
    from interp.sae import load_sae

    return load_sae(folder)


def open_activations(folder: str | Path) -> "ActivationStore":
    from interp.activations import ActivationStore

    return ActivationStore.open(folder)


def open_model(folder: Path) -> Any:
    """The folder of the stage `model` (`pretrained.model_of_folder`)."""
    verify(folder)
    return pretrained.model_of_folder(folder)


def open_tokens(file: Path) -> "LabelledTokens":
    from models import LabelledTokens

    verify(file)
    return LabelledTokens.load(file)


def open_tokenizer(folder: Path) -> Any:
    from models import load_tokenizer

    verify(folder)
    return load_tokenizer(folder)


def open_table(file: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(file)


def open_ranking(file: Path) -> "Ranking":
    from interp.verdict.ranking_tables import read_ranking

    return read_ranking(file)


def open_nulls(folder: Path) -> "Nulls":
    from interp.compare.null_dictionaries import Nulls

    return Nulls.read(folder)


def open_curve(file: Path) -> "pd.DataFrame":
    """The rows of a training's metrics.jsonl."""
    from interp.figures.training_curves import training_rows

    return training_rows(file)


_OPENERS: dict[str, Callable[[Path], Any]] = {
    "run": open_run,
    "features": open_features,
    "sae": open_sae,
    "activations": open_activations,
    "model": open_model,
    "tokens": open_tokens,
    "tokenizer": open_tokenizer,
}
