"""The measures beside their nulls: the same functions on circularly shifted codes, and on random directions.

In: the values of a FeatureStore's measures, and the firings of some of its latents, kept while its codes are read. Out:
z and band of each measure that has a null (`null_scale`). A measure says which null is its own (`measures.Measure`):

    shift         the latents' codes, all rows moved by one shift through the text as in a ring, written as the codes of
                  another store of the same tokens and labels: the measure of that store
    directions    decoder rows and encoder columns drawn anew, v ∝ N(0, C), C = mean of Ŵ Ŵᵀ, shrunk: as anisotropic as
                  the dictionary, nothing learnt
    ranks         ½ ± 1 / √(12 G), G effective groups of sequences: of what follows, ranked like any text's; the store
                  keeps no unembedding to rank it by
    none          burstiness and density do not depend on the text

A shifted latent keeps its rate, its bursts and its company, and loses its meaning. The shifts are the verdict's own
(`null_scale`); the latents of all shifts lie side by side in one store, and one scan counts them. Latents of similar
size share their nulls, so UNITS suffice.

Source: shrinkage, Ledoit & Wolf 2004, without which C fits its own rows; the rest, own. Cost: a scan of UNITS latents a
shift; d_sae² d for directions.
Failing: above its null is not one meaning: a union of two tokens stands as far from shifted text as either. A latent
that fires by its place in the sequence correlates with its twin on any text, more than its pool does. A largest cosine
is skewed, and its band is as if it were not. Of dense latents in much text fewer than UNITS are kept (MAX_FIRINGS).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.codes.reading import CodeChunk
from interp.codes.sparse_codes import SparseCodes
from interp.features.decoder import Decoder
from interp.features.feature_store import FeatureStore, ScanConfig
from interp.features.scan import check_labelled, labels_digest
from interp.features.scan_checks import scanned
from interp.verdict.evidence import Evidence
from interp.verdict.measures import MEASURES, Null, Values, column
from interp.verdict.null_scale import MIN_GROUPS, POOL, NullScale, normal_scale, null_scale

UNITS = 512
"""Latents that are shifted; enough for the null, since latents are pooled."""
MAX_FIRINGS = 1 << 23
"""Firings of the shifted latents on all shifts; 16 bytes each, and three times that while they are sorted."""
MIN_STD = 1e-3
"""A null is never taken to be narrower: less than this is no difference to anyone."""

Masks = Mapping[str, Bool[Tensor, "seq pos"]]


class SampledCodes:
    """The codes of some latents: `add` each chunk while all are read, then shift them. Those that fire too rarely to be
    tested are among them only where the others are too few for a scale."""

    def __init__(self, features: FeatureStore, shifts: Sequence[int], seed: int):
        self._features, self.shifts = features, shifts
        n_active = column(features, "n_active").astype(np.int64)
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(n_active))
        n_frequent = int((n_active >= MIN_GROUPS).sum())
        most = min(UNITS, max(n_frequent, -(-POOL // len(shifts))))
        drawn = drawn[np.argsort(n_active[drawn] < MIN_GROUPS, kind="stable")][:most]
        fits = len(shifts) * np.cumsum(n_active[drawn]) <= MAX_FIRINGS
        self.units = np.sort(drawn[: max(1, fits.sum())])
        self._place = np.full(features.d_sae, -1, np.int32)
        self._place[self.units] = np.arange(len(self.units))
        self._parts: list[tuple[np.ndarray, ...]] = []  # row, unit and activation of each firing

    def add(self, chunk: CodeChunk) -> None:
        units = self._place[chunk.latents]
        kept = (units >= 0) & (chunk.activations > 0)
        rows = chunk.rows[kept].astype(np.int32 if self._features.tokens.numel() < 1 << 31 else np.int64)
        self._parts.append((rows, units[kept], chunk.activations[kept]))

    def shifted(self, labels: Masks | None, folder: str | Path) -> FeatureStore:
        """A store of the same text, in which latent s · n_units + u is unit u, `shifts[s]` rows further on."""
        features, n_units, n_shifts = self._features, len(self.units), len(self.shifts)
        n_rows = features.tokens.numel()
        rows, units, values = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        place = np.concatenate([((rows + np.int64(shift)) % n_rows).astype(rows.dtype) for shift in self.shifts])
        latents = np.concatenate([units + np.int32(s * n_units) for s in range(n_shifts)])
        entries = np.tile(values, n_shifts), (place, latents)
        shifted = scipy.sparse.coo_matrix(entries, shape=(n_rows, n_units * n_shifts)).tocsr()
        tensors = [torch.from_numpy(array) for array in (shifted.indptr, shifted.indices, shifted.data)]
        codes = SparseCodes(tensors[0], tensors[1], tensors[2], shifted.shape[1])
        masks = {name: labels[name] for name in features.meta["labels"]} if labels else None
        config = {"n_before": features.meta["settings"]["n_before"]}
        config |= dict.fromkeys(("n_top", "n_per_interval", "n_coactivations", "n_neighbours"), 0)
        options: dict[str, Any] = {"labels": masks, "settings": ScanConfig(n_tokens=1, n_logits=1, **config)}
        return FeatureStore.from_codes(features.tokens, codes, folder, vocab=features.vocab, **options)


class RandomDirections(FeatureStore):
    """A scan as it is, but for its decoder rows and encoder columns: these are random, with the second moments of the
    decoder's rows."""

    def __init__(self, features: FeatureStore, seed: int):
        self.__dict__.update(features.__dict__)
        assert features.W_dec is not None
        moments = second_moments(features.W_dec)
        W_dec, W_enc = (random_directions(moments, self.d_sae, [seed, part]) for part in (0, 1))
        self.__dict__["W_dec"], self._W_enc = W_dec, W_enc.T

    def table(self, name: str = "features") -> pd.DataFrame:
        if name != "features":
            return super().table(name)
        norms = Decoder(self.W_dec, self._W_enc).norms
        return super().table(name).sort_values("latent").assign(**norms)


def measure_scales(
    values: Mapping[str, Values],
    features: FeatureStore,
    sample: SampledCodes,
    evidence: Evidence,
    *,
    labels: Masks | None = None,
    twin: FeatureStore | None = None,
    seed: int = 0,
) -> dict[str, NullScale]:
    """z and band of those measures that have a null; NaN for latents that are not testable.

    labels: the masks that were scanned; without them a measure of labels has none.
    """
    tested = {name: np.where(evidence.testable, own, np.nan) for name, own in values.items()}
    wanted: dict[str, list[str]] = {null: [] for null in get_args(Null)}
    for name, own in tested.items():
        if np.isfinite(own).any():
            wanted[MEASURES[name].null].append(name)
    n_active, found = column(features, "n_active"), {}
    with TemporaryDirectory() as folder:
        shifted = sample.shifted(labels, folder) if wanted["shift"] else features
        for name in wanted["shift"]:
            nulls = np.full((len(sample.shifts), features.d_sae), np.nan)
            nulls[:, sample.units] = MEASURES[name](shifted, twin).reshape(len(sample.shifts), -1)
            if np.isfinite(nulls).any():
                found[name] = null_scale(tested[name], nulls, n_active, min_std=MIN_STD)
    if wanted["directions"] and features.W_dec is not None and features.W_dec.any():
        random = RandomDirections(features, seed)
        for name in wanted["directions"]:
            nulls = MEASURES[name](random, twin)
            found[name] = normal_scale(tested[name], np.nanmean(nulls), max(np.nanstd(nulls), MIN_STD))
    for name in wanted["ranks"]:
        with np.errstate(divide="ignore"):
            found[name] = normal_scale(tested[name], 0.5, 1 / np.sqrt(12 * evidence.effective_groups))
    return found


def check_labels(features: FeatureStore, labels: Masks | None, *, needed: bool) -> None:
    """Check that every label that was scanned has a mask, and every mask the tokens' shape. Raises ValueError if
    not."""
    if needed and not labels:
        raise ValueError("use_labels=True, but no labels were given: a store has counts of labels and not their masks")
    if labels is None:
        return
    if missing := [name for name in features.meta["labels"] if name not in labels]:
        raise ValueError(f"no mask of label {missing[0]!r} was given, but {features.path} was scanned with it")
    for name, mask in labels.items():
        if mask.shape != features.tokens.shape:
            shapes = tuple(mask.shape), tuple(features.tokens.shape)
            raise ValueError(f"label {name!r} is {shapes[0]}, the tokens scanned are {shapes[1]}")
    check_labelled(labels, features.tokens, features.path)
    if hasattr(labels, "tokens"):  # they are of this text, and reading each mask would take a second a million tokens
        return
    if scanned(features).get("labels") not in (None, labels_digest(labels, features.meta["labels"])):
        raise ValueError(f"the labels are other masks than those that {features.path} was scanned with: give the same")


def random_directions(moments: Float[Tensor, "d d"], n: int, seed: Any) -> Float[Tensor, "n d"]:
    """Unit vectors of Gaussian draws with these second moments."""
    values, vectors = torch.linalg.eigh(moments)
    draws = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, len(moments))))
    return torch.nn.functional.normalize((draws * values.clamp(min=0).sqrt()) @ vectors.T, dim=1).float()


def second_moments(W: Float[Tensor, "row d"]) -> Float[Tensor, "d d"]:
    """Estimates, shrunk, the second moments of the directions of the rows that have one."""
    from sklearn.covariance import ledoit_wolf

    unit = torch.nn.functional.normalize(W[W.norm(dim=1) > 0].double(), dim=1)
    return torch.from_numpy(ledoit_wolf(unit.numpy(), assume_centered=True)[0])
