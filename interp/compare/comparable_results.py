"""Find how two results can be compared: by the seeds, widths or models of their dictionaries, or by their texts.

In: two folders, each a run, a feature store or an SAE. Out: `Pair`, which compares

    seeds     decoders of one width that read the same hook of the same model
    widths    the same, but of different widths
    models    scans of the same tokens, of another hook or another model
    corpora   scans of different tokens by one dictionary

Decoders are compared if both read one hook, and activations if both are scans of the same tokens. Folders of other
tools may not name their model; they are assumed to read the same model if hook name and width agree.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from interp.activations.hooks import trained_hook
from interp.checks.errors import InterpError
from interp.compare.latent_universality import MIN_FIRED
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import differing_inputs, same_dictionary, scan_identity
from interp.features.scan_digests import dictionary_digest, tensor_digest
from interp.sae import SAE, load_sae
from interp.storage.artifacts import find_artifact


@dataclass(frozen=True)
class ComparedResult:
    """One side of the comparison: a scan, or a dictionary without a scan."""

    path: Path
    source: FeatureStore | SAE

    @property
    def features(self) -> FeatureStore | None:
        return self.source if isinstance(self.source, FeatureStore) else None

    @property
    def hook(self) -> str | None:
        return self.source.meta["hook_name"] if isinstance(self.source, FeatureStore) else trained_hook(self.source)

    @property
    def d_sae(self) -> int:
        return self.source.d_sae

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_in"] | None:
        return None if self.source.W_dec is None else self.source.W_dec.detach().float()

    @cached_property
    def alive(self) -> Int64[np.ndarray, " latent"]:
        """The latents that fire on at least MIN_FIRED rows. For a dictionary without a scan, all latents."""
        if self.features is None:
            return np.arange(self.d_sae)
        return np.flatnonzero(self.features.column("n_active") >= MIN_FIRED)

    @property
    def identity(self) -> dict[str, str]:
        """Digests that identify the scan or the dictionary."""
        if isinstance(self.source, FeatureStore):
            return scan_identity(self.source)
        return {"dictionary": dictionary_digest(self.source)}

    @property
    def origins(self) -> dict[str, str]:
        """Digests that identify the model, by the name of what they digest."""
        if not isinstance(self.source, FeatureStore):
            weights = self.source.metadata.get("model_weights")
            return {"weights": weights} if weights else {}
        nothing = tensor_digest(None)
        origins = {key: value for key, value in self.source.inputs.items() if key in ("activations", "model")}
        return {key: value for key, value in origins.items() if value != nothing}


@dataclass(frozen=True)
class Pair:
    first: ComparedResult
    second: ComparedResult
    by: Literal["seeds", "widths", "models", "corpora"]
    share_text: bool
    """Whether both are scans of the same tokens."""

    def __str__(self) -> str:
        latents = " and ".join(f"{side.d_sae:,}" for side in (self.first, self.second))
        where = {"models": "the same text read by another model or hook", "corpora": "two texts read by one dictionary"}
        setting = where.get(self.by, f"one hook ({self.first.hook})")
        return f"compared by {self.by}: {setting}, {latents} latents"


def open_pair(first: str | Path, second: str | Path) -> Pair:
    """Open two results as one pair. Raises ValueError for a folder that contains neither features nor an SAE, and if
    the two have nothing in common."""
    a, b = _open(first), _open(second)
    same_text = False
    if a.features is not None and b.features is not None:
        same_text = not differing_inputs(a.features, b.features, "tokens")
        # Rows that are not text are known by their numbers, which are the same for any other rows: one dictionary
        # that read other activations read other rows.
        is_other = not same_text or (
            not a.features.has_text and differing_inputs(a.features, b.features, "activations")
        )
        if is_other and same_dictionary(a.features, b.features):
            return Pair(a, b, "corpora", False)
    if _may_share_hook(a, b):
        return Pair(a, b, "seeds" if a.d_sae == b.d_sae else "widths", same_text)
    if same_text:
        return Pair(a, b, "models", True)
    raise InterpError(
        f"nothing to compare {a.path} of {a.hook or 'an unnamed hook'} and {b.path} of {b.hook or 'an unnamed hook'} "
        "by: they read other hooks or models, and are not scans of the same tokens; `interp scan` both over the same "
        "tokens"
    )


def _open(source: str | Path) -> ComparedResult:
    """Return the features of a run folder or feature store. For the folder of an SAE, or a run without a scan, return
    the dictionary."""
    artifact, folder = find_artifact(source, "features", "sae")
    return ComparedResult(Path(source), FeatureStore.open(folder) if artifact == "features" else load_sae(folder))


def _may_share_hook(a: ComparedResult, b: ComparedResult) -> bool:
    """Return whether both may belong to the same hook of the same model, by what is known of them."""
    decoders: list[Any] = [a.W_dec, b.W_dec]
    if any(W is None for W in decoders) or decoders[0].shape[1] != decoders[1].shape[1]:
        return False
    if a.hook and b.hook and a.hook != b.hook:
        return False
    shared_keys = [key for key in a.origins if key in b.origins]
    return not shared_keys or any(a.origins[key] == b.origins[key] for key in shared_keys)
