"""The single measures beside their nulls: recounted on shifted text, or in closed form (`chance`).

A shift lays the codes of every sequence on the text of the one some sequences further on, in a ring: a latent keeps its
rate, its places in the sequence, its bursts and its documents' clumps, and loses its meaning. Of a text of fewer than
2 MARGIN sequences it is by rows.

    token…, next_log_lift, labels            recounted as the scan counts (`recount`)
    ngram_coherence, residual_coherence      of the vectors of the rows further on (`embeddings`)
    twin_correlation                         with the twin's codes further on (`twins`)
    next_auroc, burstiness, directions       in closed form, or beside random directions (`chance`)

All that reads codes listens to the pass that collects the evidence. The nulls are those of up to UNITS latents, drawn
from all that may be testable before it is known which are; latents of similar size share them (`nulls`): the fewer
firings, the more alike are their tokens by chance. Where few may be testable, there are more shifts.

Source: own. Cost: of one core, 3 s for two shifts of 1.2 million tokens and 8 firings a token, 5 s with 31 labels; 1 s
for a coherence; 3 s for a twin.
Failing: above its null is not one meaning: a union of two tokens stands as far from shifted text as either. A null of
labels that cover whole documents is as wide as the documents are few, and skewed (`nulls`). A latent that fires by its
place in the sequence correlates with its twin on any text, more than its pool does.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from interp.features.feature_store import FeatureStore
from interp.metrics.chance import burstiness_scale, direction_scales, next_scale
from interp.metrics.embeddings import CoherenceSummer, SequenceVectors
from interp.metrics.null_scale import POOL, NullScale, n_repetitions, null_scale
from interp.metrics.recount import Masks, Recount, bytes_of_unit, check_labels
from interp.metrics.twins import Correlator, TwinSummer, nearest_latents
from interp.monosemanticity.firings import CodeChunk, Listener
from interp.monosemanticity.groups import rows_per_group
from interp.monosemanticity.senses import MIN_GROUPS

UNITS = 512
"""Latents that are recounted on each shifted text; enough for the null, since latents are pooled."""
BUFFER = 256 << 20
"""Bytes for their counts: fewer latents, but POOL at least, where there are very many labels, or latents of a twin."""
MARGIN = 8
"""A shift is by so many sequences at least: neighbours often share a document."""
LEAST_STD = 1e-3
"""A null is never taken to be narrower: less than this is no difference to anyone."""
BY_GROUPS = ("class_selectivity", "purity", "purity_excess", "label_nmi")
"""Latents in as many groups of sequences share these' null, latents of as many firings the others'."""

Progress = Callable[[int, int, str], None]


class Judged(Protocol):
    """What is needed of `evidence.Evidence`."""

    @property
    def testable(self) -> Bool[np.ndarray, " d_sae"]: ...

    @property
    def effective_groups(self) -> Float64[np.ndarray, " d_sae"]: ...


class MeasureNulls:
    """What the single measures' nulls need, summed in one pass: hand `listeners` each chunk of the codes, whole groups
    (`groups`) at a time, then ask for `measures` and `scales`.

    labels: the masks that were scanned; without them their measures have no null. vectors: those that each coherence is
    to be taken in. twin: a scan of the same tokens. Raises ValueError if a mask is missing or has another shape than
    the tokens, or if the twin does not fit.
    """

    def __init__(
        self,
        features: FeatureStore,
        *,
        nulls: int,
        seed: int,
        labels: Masks | None = None,
        vectors: Mapping[str, SequenceVectors] | None = None,
        twin: FeatureStore | None = None,
    ):
        check_labels(features, labels)
        if nulls < 1:
            raise ValueError(f"nulls={nulls} must be at least 1: without a null no score has a scale")
        self._features, self._seed, self._twin = features, seed, twin
        rng = np.random.default_rng(seed)
        n_seq, n_rows = len(features.tokens), features.tokens.numel()
        per_group = rows_per_group(n_seq, features.n_ctx)
        may_be = np.flatnonzero(_most_groups(features, per_group) >= MIN_GROUPS)
        shifts = _draw_shifts(n_seq, features.n_ctx, n_repetitions(nulls, len(may_be)), rng)
        bytes_each = len(shifts) * (bytes_of_unit(features, labels) + (8 * twin.d_sae if twin else 0))
        most = min(UNITS, max(POOL, BUFFER // max(bytes_each, 1)))
        self._units: Int64[np.ndarray, " unit"] = np.sort(rng.permutation(may_be)[:most])
        self._place = np.full(features.d_sae, -1)
        self._place[self._units] = np.arange(len(self._units))
        self._recount = Recount(features, self._units, shifts, labels)
        vectors = vectors or {}
        self._coherence = {
            name: CoherenceSummer(features.d_sae, own, per_group, n_rows) for name, own in vectors.items()
        }
        self._moved_coherence = {
            name: [CoherenceSummer(len(self._units), own, per_group, n_rows, shift) for shift in shifts]
            for name, own in vectors.items()
        }
        self._correlation = TwinSummer(features, twin) if twin else None
        self._moved_correlation = [Correlator(features, twin, self._units, shift) for shift in shifts] if twin else []

    @property
    def listeners(self) -> list[Listener]:
        twins = [self._correlation.add] if self._correlation else []
        of_units = [each.add for moved in self._moved_coherence.values() for each in moved]

        def add_units(chunk: CodeChunk) -> None:
            own = chunk.only(self._place)
            for add in of_units:
                add(own)

        moved_twins = [each.add for each in self._moved_correlation]
        return [*twins, *moved_twins, self._recount.add, *(each.add for each in self._coherence.values()), add_units]

    def measures(self, progress: Progress | None = None) -> dict[str, Float64[np.ndarray, " d_sae"]]:
        """Those that this pass took: the coherences, and the agreement with the twin."""
        found = {name: each.coherence for name, each in self._coherence.items()}
        if self._twin and self._correlation:
            found["twin_cosine"] = nearest_latents(self._features, self._twin).value
            found["twin_correlation"] = self._correlation.best(progress).value
        return found

    def scales(self, judged: Judged, measures: Mapping[str, Float64[np.ndarray, " d_sae"]]) -> dict[str, NullScale]:
        """z and band of those of `measures` that have a null; NaN for latents that are not testable."""
        features, testable = self._features, judged.testable
        table = features.table("features").sort_values("latent")
        n_active, groups = table["n_active"].to_numpy(float), judged.effective_groups
        tested = {name: np.where(testable, values, np.nan) for name, values in measures.items()}
        n_sequences = table["n_sequences"].to_numpy()
        found = {
            "next_auroc": next_scale(tested["next_auroc"], np.where(testable, groups, 0)),
            "burstiness": burstiness_scale(np.where(testable, n_active, 0), n_sequences, features),
            **direction_scales(features, self._twin, tested, UNITS, self._seed),
        }
        recounted = self._recount.measures()
        if self._moved_correlation:
            recounted["twin_correlation"] = np.stack([each.best().value for each in self._moved_correlation])
        for name in set(recounted) & set(measures):
            size = groups if name in BY_GROUPS else n_active
            found[name] = null_scale(tested[name], self._of_units(recounted[name]), size, least_std=LEAST_STD)
        for name, moved in self._moved_coherence.items():
            shifted = self._of_units(np.stack([each.coherence for each in moved]))
            found[name] = null_scale(tested[name], shifted, groups, size_exponent=1.0)
        return {name: found[name] for name in measures if name in found}

    def _of_units(self, values: Float64[np.ndarray, "null unit"]) -> Float64[np.ndarray, "null d_sae"]:
        shifted = np.full((len(values), self._features.d_sae), np.nan)
        shifted[:, self._units] = values
        return shifted


def _draw_shifts(n_seq: int, n_ctx: int, n: int, rng: np.random.Generator) -> list[int]:
    """In rows."""
    if n_seq < 2 * MARGIN:
        margin = min(n_ctx, n_seq * n_ctx // 4)
        return rng.integers(margin, max(n_seq * n_ctx - margin, margin + 1), n).tolist()
    margin = min(MARGIN, n_seq // 4)
    return (rng.integers(margin, n_seq - margin, n) * n_ctx).tolist()


def _most_groups(features: FeatureStore, rows_per_group: int) -> Int64[np.ndarray, " d_sae"]:
    """In how many groups a latent fires at most."""
    table = features.table("features").sort_values("latent")
    n_active, n_sequences = table["n_active"].to_numpy(), table["n_sequences"].to_numpy()
    return n_sequences if rows_per_group >= features.n_ctx else n_active
