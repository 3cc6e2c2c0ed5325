"""Checks what belongs to a scan: tables made of its features, and the activations that it was made of.

A table that is made of features keeps their `identity` in `attrs["features"]`, which Parquet files keep too. What has
none, as a CSV file, is told by its latents, and by how often they fire.
"""

import pandas as pd

from interp.activations import StoredRows
from interp.activations.hooks import Model, names_of, resolve_hooks
from interp.codes.sparse_codes import Dictionary
from interp.features.feature_store import FeatureStore
from interp.features.scan import SCAN
from interp.storage.files import read_json

_TELLING = ("dictionary", "codes", "tokens")
_ROUNDING = 0.01
"""The share of its norm by which a decoder in bfloat16 may differ; another seed's differs by more than all of it."""


def scanned(features: FeatureStore) -> dict[str, str]:
    """Digests of all that went into the scan."""
    return read_json(features.path / SCAN, "scan again")


def identity(features: FeatureStore) -> dict[str, str]:
    """The digests by which a table of features knows them again."""
    return {name: value for name, value in scanned(features).items() if name in _TELLING}


def check_table(
    features: FeatureStore, table: pd.DataFrame, name: str, remedy: str = "`interp rank` makes theirs"
) -> None:
    """Check that a table of latents was made of these features. Raises ValueError if not; `name` is what it calls the
    table."""
    there = table.attrs.get("features", here) if (here := identity(features)) else {}
    differs = [f"other {key}" for key in {**here, **there} if here.get(key) != there.get(key)]
    latents = table["latent"].to_numpy()
    if not differs and len(latents) and latents.max() >= features.d_sae:
        differs = [f"latent {latents.max()}, which is not in 0..{features.d_sae - 1}"]
    if not differs and "n_active" in table:
        here_active = features.table().set_index("latent")["n_active"].reindex(latents).fillna(0).to_numpy()
        there_active = pd.to_numeric(table["n_active"], errors="coerce").to_numpy()
        if (unlike := here_active != there_active).any():
            at = unlike.argmax()
            differs = [
                f"another latent {latents[at]}: it fires {there_active[at]:.0f} times there, {here_active[at]:.0f} here"
            ]
    if differs:
        raise ValueError(f"{name} is not of the features in {features.path}, but of {' and '.join(differs)}: {remedy}")


def check_scanned(features: FeatureStore, dictionary: Dictionary, model: Model, hook: str) -> None:
    """Check that the features are a scan by this dictionary at this hook. Raises ValueError for a dictionary of other
    directions, in whatever precision, for another hook of the model, by whichever of its names, and for a scan of rows
    that are no text, of which no model says anything."""
    if not features.has_text:
        raise ValueError(f"{features.path} is a scan of rows that are no text: what a model says of them is not known")
    W_dec, there = dictionary.W_dec.detach().float().cpu(), features.W_dec
    same = dictionary.d_sae == features.d_sae
    if same and there is not None:
        same = W_dec.shape == there.shape and float((W_dec - there).norm()) <= _ROUNDING * float(there.norm())
    if not same:
        what = f"{features.path} is a scan of {features.d_sae} latents of another dictionary"
        raise ValueError(
            f"{what} than this {type(dictionary).__name__} of {dictionary.d_sae}: give the one that was scanned"
        )
    names = names_of(model, resolve_hooks(model, [hook])[hook])
    if features.meta["hook_name"] not in ("", hook, *names):
        raise ValueError(f"{features.path} is a scan of {features.meta['hook_name']}, not of {hook}: name that hook")


def check_scan_of(features: FeatureStore, store: StoredRows, hook: str | None = None) -> None:
    """Check that the features are a scan of this store. Raises ValueError if they are of other tokens than it holds, or
    of another hook."""
    if not features.is_scan_of(store):
        raise ValueError(f"{features.path} is a scan of other tokens than {store.location} holds: scan that store")
    if hook is not None and features.meta["hook_name"] not in ("", store.name_of(hook)):
        raise ValueError(f"{features.path} is a scan of {features.meta['hook_name']}, not of {hook}: name that hook")
