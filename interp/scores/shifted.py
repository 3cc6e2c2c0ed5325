"""The single measures beside their nulls: recounted on shifted text, or in closed form (`chance`).

A shift lays the codes of every sequence on the text of the one some sequences further on, in a ring: a latent keeps its
rate, its places in the sequence, its bursts and its documents' clumps, and loses its meaning.

    token…, next_log_lift, labels     recounted as the scan counts (`recount`), for up to UNITS latents, and pooled
    ngram_coherence, residual_coherence      of moved vectors (`embeddings`), for all latents
    twin_correlation                         with the twin's codes moved (`twins`), for up to UNITS latents, and pooled
    next_auroc, burstiness, directions       in closed form, or beside random directions (`chance`)

All that reads codes listens to the pass that collects the evidence; so the latents to recount are drawn from those that
may be testable, before it is known which are. Latents of as many firings share a null (`nulls`): the fewer there are,
the more alike are their tokens by chance. Where few may be testable, there are more shifts.

Source: own. Cost: of one core, 3 s for two shifts of 1.2 million tokens and 8 firings a token, 5 s with 31 labels, and
for a coherence 1 s and again for each shift.
Failing: above its null is not one meaning: a union of two tokens stands as far from shifted text as either. A null of
labels that cover whole documents is as wide as the documents are few, and skewed (`nulls`). A latent that fires by its
place in the sequence correlates with its twin on any text, more than its pool does.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from interp.features import FeatureStore
from interp.scores.chance import burstiness_scale, direction_scales, next_scale
from interp.scores.embeddings import CoherenceSummer, MovedVectors, SequenceVectors
from interp.scores.firings import Listener
from interp.scores.groups import rows_per_group
from interp.scores.nulls import POOL, NullScale, n_repetitions, null_scale
from interp.scores.recount import Masks, Recount, bytes_of_unit, check_labels
from interp.scores.senses import MIN_GROUPS
from interp.scores.twins import Correlator, TwinSummer

UNITS = 512
"""Latents that are recounted on each shifted text; enough for the null, since latents are pooled."""
BUFFER = 256 << 20
"""Bytes for their counts: fewer latents are recounted where there are very many labels, or latents of a twin."""
MARGIN = 8
"""A shift is by so many sequences at least: neighbours often share a document."""
LEAST_STD = 1e-3
"""A null is never taken to be narrower: less than this is no difference to anyone."""
BY_GROUPS = ("class_selectivity", "purity", "purity_excess", "label_nmi")
"""Latents in as many groups of sequences share these' null, latents of as many firings the others'."""


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
        self._features, self._seed, self._twin = features, seed, twin
        rng, n_seq = np.random.default_rng(seed), len(features.tokens)
        per_group = rows_per_group(n_seq, features.n_ctx)
        may_be = np.flatnonzero(_most_groups(features, per_group) >= MIN_GROUPS)
        margin = max(1, min(MARGIN, n_seq // 4))
        shifts = rng.integers(margin, max(n_seq - margin, margin + 1), n_repetitions(nulls, len(may_be))).tolist()
        bytes_each = len(shifts) * (bytes_of_unit(features, labels) + (8 * twin.d_sae if twin else 0))
        most = min(UNITS, max(POOL, BUFFER // max(bytes_each, 1)))
        self._units: Int64[np.ndarray, " unit"] = np.sort(rng.permutation(may_be)[:most])
        self._recount = Recount(features, self._units, shifts, labels)
        self._coherences: dict[str, list[CoherenceSummer]] = {}
        for name, own in (vectors or {}).items():
            moved = [MovedVectors(own, n_seq, max(1, shift // own.every)) for shift in shifts]
            self._coherences[name] = [CoherenceSummer(features.d_sae, each, per_group) for each in (own, *moved)]
        self._twins = TwinSummer(features, twin) if twin else None
        rows = [shift * features.n_ctx for shift in shifts] if twin else []
        self._moved_twins = [Correlator(features, twin, self._units, moved) for moved in rows if twin]

    @property
    def listeners(self) -> list[Listener]:
        summers = [summer.add for summers in self._coherences.values() for summer in summers]
        twins = [self._twins.add] if self._twins else []
        return [*twins, *(each.add for each in self._moved_twins), *summers, self._recount.add]

    def measures(self) -> dict[str, Float64[np.ndarray, " d_sae"]]:
        """Those that this pass took: the coherences, and the agreement with the twin."""
        found = {name: summers[0].coherence for name, summers in self._coherences.items()}
        if self._twins:
            agreement = self._twins.finish()
            found |= {"twin_cosine": agreement.decoder_cosine, "twin_correlation": agreement.correlation}
        return found

    def scales(self, judged: Judged, measures: Mapping[str, Float64[np.ndarray, " d_sae"]]) -> dict[str, NullScale]:
        """z and band of those of `measures` that have a null; NaN for latents that are not testable."""
        features, testable = self._features, judged.testable
        table = features.table("features").sort_values("latent")
        n_active = np.where(testable, table["n_active"].to_numpy(float), 0)
        groups = np.where(testable, judged.effective_groups, 0)
        found = {
            "next_auroc": next_scale(measures["next_auroc"], groups),
            "burstiness": burstiness_scale(n_active, table["n_sequences"].to_numpy(), features),
            **direction_scales(features, self._twin, measures, testable, UNITS, self._seed),
        }
        recounted = self._recount.measures()
        if self._moved_twins:
            recounted["twin_correlation"] = np.stack([each.best()[1] for each in self._moved_twins])
        for name in set(recounted) & set(measures):
            shifted = np.full((len(recounted[name]), features.d_sae), np.nan)
            shifted[:, self._units] = recounted[name]
            size = groups if name in BY_GROUPS else n_active
            found[name] = null_scale(measures[name], shifted, size, least_std=LEAST_STD)
        for name, (_, *moved) in self._coherences.items():
            shifted = np.stack([each.coherence for each in moved])
            found[name] = null_scale(measures[name], shifted, groups, size_exponent=1.0)
        return {name: found[name] for name in measures if name in found}


def _most_groups(features: FeatureStore, rows_per_group: int) -> Int64[np.ndarray, " d_sae"]:
    """In how many groups a latent fires at most."""
    table = features.table("features").sort_values("latent")
    n_active, n_sequences = table["n_active"].to_numpy(), table["n_sequences"].to_numpy()
    return n_sequences if rows_per_group >= features.n_ctx else n_active
