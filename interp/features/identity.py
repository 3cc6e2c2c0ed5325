"""Which features these are, and whether a table, a store or another scan belongs with them.

    read_meta(folder)       what meta.json says of a finished scan: its sizes, names and settings
    identity(features)      digests of the dictionary or the codes, and of the tokens, that were scanned (scan.json)

A table that is made of features keeps their identity in `attrs["features"]`, which Parquet files keep too. What has
none, as CSV files and those of earlier versions, is told by its latents, and by how often they fire.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import pandas as pd
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from interp.activations import ActivationStore
from interp.files import read_json
from interp.manifests import verify
from interp.validated import Amount, Count, TypedDict, validated

if TYPE_CHECKING:
    from interp.features.feature_store import FeatureStore

_TELLING = ("dictionary", "codes", "tokens")


class _Meta(TypedDict):
    d_sae: Annotated[int, Field(ge=1, le=1 << 28)]
    n_ctx: Count
    n_tokens: NotRequired[Amount]
    hook_name: NotRequired[str]
    vocab: NotRequired[str]
    labels: NotRequired[list[str]]
    logit_effects: NotRequired[str]
    settings: NotRequired[dict[str, Any]]


def read_meta(folder: Path) -> dict[str, Any]:
    """Raises ValueError where there is no finished scan, and where a file of it is not as it was written."""
    file = folder / "meta.json"
    if not file.exists():
        how = "`interp scan` or scan_features makes one"
        raise ValueError(f"{folder} holds no finished scan (no meta.json): {how}")
    verify(folder)
    return validated(_Meta, read_json(file, "scan again"), file, "scan again")


def scanned(features: "FeatureStore") -> dict[str, str]:
    """Digests of all that went into the scan; empty where an earlier version left none."""
    file = features.path / "scan.json"
    return read_json(file, "scan again") if file.is_file() else {}


def identity(features: "FeatureStore") -> dict[str, str]:
    return {name: value for name, value in scanned(features).items() if name in _TELLING}


def check_table(
    features: "FeatureStore", table: pd.DataFrame, name: str, remedy: str = "`interp rank` makes theirs"
) -> None:
    """Raises ValueError for a table of latents that was made of other features; `name` is what the error calls it."""
    there = table.attrs.get("features", here) if (here := identity(features)) else {}
    differs = [f"other {key}" for key in {**here, **there} if here.get(key) != there.get(key)]
    latents = table["latent"].to_numpy()
    if not differs and len(latents) and latents.max() >= features.d_sae:
        differs = [f"latent {latents.max()}, which is not in 0..{features.d_sae - 1}"]
    if not differs and "n_active" in table:
        own = features.table().set_index("latent")["n_active"].reindex(latents).fillna(0).to_numpy()
        said = pd.to_numeric(table["n_active"], errors="coerce").to_numpy()
        if (unlike := own != said).any():
            at = unlike.argmax()
            differs = [f"another latent {latents[at]}: it fires {said[at]:.0f} times there, {own[at]:.0f} here"]
    if differs:
        raise ValueError(f"{name} is not of the features in {features.path}, but of {' and '.join(differs)}: {remedy}")


def check_scan_of(features: "FeatureStore", store: ActivationStore, hook: str | None = None) -> None:
    """Raises ValueError for a scan of other tokens than the store holds, or of another hook."""
    if store.tokens is None or not torch.equal(features.tokens, store.tokens):
        raise ValueError(f"{features.path} is a scan of other tokens than {store.path} holds: scan that store")
    if hook is not None and features.meta.get("hook_name") not in ("", None, hook):
        raise ValueError(f"{features.path} is a scan of {features.meta['hook_name']}, not of {hook}: name that hook")


def check_labelled(labels: Mapping[str, Any] | None, tokens: Int[Tensor, "seq pos"], where: object) -> None:
    """Raises ValueError for masks that say of which tokens they are (`labels.tokens`), if those are others."""
    of = getattr(labels, "tokens", None)
    if of is not None and not torch.equal(of.cpu().int(), tokens.cpu().int()):
        shown = f"{tuple(of.shape)}, not those {tuple(tokens.shape)} scanned"
        raise ValueError(f"the labels are of other tokens {shown} in {where}: give the labels of the tokens harvested")
