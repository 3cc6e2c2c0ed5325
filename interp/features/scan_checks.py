"""Check that inputs belong to a scan: tables made from its features, other scans, and the activations that it was made
from.

A scan has the digests of all its inputs (`FeatureStore.inputs`), and two scans are compared by them
(`differing_inputs`). A table made from features has their `scan_identity` in `attrs["features"]`, which Parquet files
preserve. A table without an identity, such as one from a CSV file, is recognized by its latents and by how often they
fire.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from interp.activations import StoredRows
from interp.activations.hooks import Model, names_of_hook, resolve_hooks
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary
from interp.features.feature_store import FeatureStore
from interp.storage.job_parts import PartNote, order_parts
from interp.storage.manifests import MADE_OF

_IDENTITY_INPUTS = ("dictionary", "codes", "tokens")
_ROUNDING = 0.01
"""The share of its norm by which a decoder in bfloat16 may differ. The decoder of another seed differs by more than its
norm."""


def scan_identity(features: FeatureStore) -> dict[str, str]:
    """Return the digests by which a table of features identifies them."""
    return {name: value for name, value in features.inputs.items() if name in _IDENTITY_INPUTS}


def differing_inputs(features: FeatureStore, other: FeatureStore, *names: str) -> list[str]:
    """Return those of these inputs ("tokens", "labels", "hook", "dictionary", …) that differ between two scans. One
    that either scan does not know counts as the same."""
    ours, theirs = features.inputs, other.inputs
    return [name for name in names if ours.get(name) and theirs.get(name) and ours[name] != theirs[name]]


def check_same_inputs(features: FeatureStore, other: FeatureStore, *names: str) -> None:
    """Check that two scans have the same inputs. Raises ValueError with those that differ."""
    others = [
        f"{'another' if name == 'hook' else 'other'} {name}" for name in differing_inputs(features, other, *names)
    ]
    if others:
        raise InterpError(
            f"{other.path} is a scan of {' and '.join(others)} than {features.path}: scan both with the same"
        )


def check_twin(features: FeatureStore, twin: FeatureStore) -> None:
    """Check that two scans are of the same tokens and one hook. Raises ValueError if not."""
    check_same_inputs(features, twin, "tokens", "hook")
    ours, theirs = features.d_in, twin.d_in
    if ours is not None and theirs is not None and ours != theirs:
        raise InterpError(f"decoders are {ours} and {theirs} wide: twins read the same hook")


def same_dictionary(a: FeatureStore, b: FeatureStore) -> bool:
    """Return whether two scans are by one dictionary at one hook. The digests of the dictionaries decide if both scans
    have one, otherwise the decoders. If neither is known, as for codes of another producer, the number of latents
    decides."""
    if a.d_sae != b.d_sae or differing_inputs(a, b, "hook", "dictionary"):
        return False
    is_known = all("dictionary" in features.inputs for features in (a, b))
    return is_known or a.W_dec is None or b.W_dec is None or torch.equal(a.W_dec, b.W_dec)


def check_part_tables(parts: Sequence[pd.DataFrame], names: Sequence[str] | None = None) -> dict[str, Any]:
    """Check that tables made with `part=` are all parts of one table, in the order of their ranks. Returns their common
    inputs. Raises ValueError if they are not.
    names: the names of the tables in the error."""
    names = [f"table {i}" for i in range(len(parts))] if names is None else names
    notes = [
        PartNote(name, part.attrs.get("part"), {**part.attrs.get(MADE_OF, {}), **part.attrs.get("features", {})})
        for name, part in zip(names, parts, strict=True)
    ]
    order_parts(notes)
    return dict(parts[0].attrs[MADE_OF])


def check_table(
    features: FeatureStore, table: pd.DataFrame, name: str, remedy: str = "`interp rank` makes theirs"
) -> None:
    """Check that a table of latents was made from these features. Raises ValueError if not.
    name: the name of the table in the error."""
    ours = scan_identity(features)
    tables = table.attrs.get("features", ours) if ours else {}
    differing = [f"other {key}" for key in {**ours, **tables} if ours.get(key) != tables.get(key)]
    latents = table["latent"].to_numpy()
    if not differing and len(latents) and latents.max() >= features.d_sae:
        differing = [f"latent {latents.max()}, which is not in 0..{features.d_sae - 1}"]
    if not differing and "n_active" in table:
        scanned_n = pd.Series(features.column("n_active")).reindex(latents).fillna(0).to_numpy()
        table_n = pd.to_numeric(table["n_active"], errors="coerce").to_numpy()
        if (is_other := scanned_n != table_n).any():
            i = is_other.argmax()
            differing = [f"another latent {latents[i]}: it fires {table_n[i]:.0f} times, not {scanned_n[i]:.0f}"]
    if differing:
        raise InterpError(
            f"{name} is not of the features in {features.path}, but of {' and '.join(differing)}: {remedy}"
        )


def check_dictionary_of_scan(features: FeatureStore, dictionary: Dictionary, model: Model, hook: str) -> None:
    """Check that the features are a scan by this dictionary at this hook. Raises ValueError for a dictionary with other
    directions (in any precision), for another hook of the model (under any of its names), and for a scan of rows that
    are not text, which a language model cannot run."""
    if not features.has_text:
        raise InterpError(
            f"{features.path} is a scan of rows that are not text: what a model says of them is not known"
        )
    W_dec = dictionary.W_dec.detach().float().cpu()
    scanned_W_dec = features.W_dec
    is_same = dictionary.d_sae == features.d_sae
    if is_same and scanned_W_dec is not None:
        is_same = W_dec.shape == scanned_W_dec.shape
        is_same = is_same and float((W_dec - scanned_W_dec).norm()) <= _ROUNDING * float(scanned_W_dec.norm())
    if not is_same:
        raise InterpError(
            f"{features.path} is a scan of {features.d_sae} latents of another dictionary than this "
            f"{type(dictionary).__name__} of {dictionary.d_sae}: give the one that was scanned"
        )
    names = names_of_hook(model, resolve_hooks(model, [hook])[hook])
    if features.meta["hook_name"] not in ("", hook, *names):
        raise InterpError(f"{features.path} is a scan of {features.meta['hook_name']}, not of {hook}: name that hook")


def check_store_of_scan(features: FeatureStore, store: StoredRows, hook: str | None = None) -> None:
    """Check that the features are a scan of this store. Raises ValueError if they were scanned on other tokens, on
    other activations of the same tokens, or at another hook."""
    if not features.is_scan_of(store):
        other = "activations" if features.has_rows_of(store) else "tokens"
        raise InterpError(f"{features.path} is a scan of other {other} than {store.location} holds: scan that store")
    if hook is not None and features.meta["hook_name"] not in ("", store.name_of(hook)):
        raise InterpError(f"{features.path} is a scan of {features.meta['hook_name']}, not of {hook}: name that hook")
