"""The single measures beside their nulls: recounted on shifted text, or in closed form (`chance`).

A shift lays the codes of every sequence on the text of the one some sequences further on, in a ring: a latent keeps its
rate, its places in the sequence, its bursts and its documents' clumps, and loses its meaning.

    token…, next_log_lift, labels     recounted as the scan counts, for up to UNITS latents, and pooled (`nulls`)
    ngram_coherence, residual_coherence      of moved vectors (`embeddings`), for all latents
    next_auroc, burstiness                   in closed form, for all latents

Latents of as many firings share a null: the fewer there are, the more alike are their tokens by chance. Directions
have none here (they are no matter of text), nor has a label's F1: its threshold is chosen.

Source: own. Cost: one pass over the codes that keeps UNITS latents' firings (on one core 3 s for two shifts of 1.2
million tokens and 8 firings a token, 5 s with 31 labels), and a coherence's pass once more a shift (1 s).
Failing: above its null is not one meaning: a union of two tokens stands as far from shifted text as either. A null of
labels that cover whole documents is as wide as the documents are few, and skewed (`nulls`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import scipy.sparse
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from interp.features import FeatureStore
from interp.scores.chance import burstiness_scale, next_scale
from interp.scores.concepts import measures_of_counts
from interp.scores.embeddings import MovedVectors, SequenceVectors, embedding_coherence
from interp.scores.firings import ROWS_PER_CHUNK
from interp.scores.logits import base_rate, log_lift_of
from interp.scores.nulls import NullScale, null_scale
from interp.scores.table import token_columns
from interp.scores.tokens import largest_share, offset_measures, words_of
from interp.statistics.offsets import OffsetSummary

UNITS = 512
"""Latents that are recounted on each shifted text; enough for the null, since latents are pooled."""
MARGIN = 8
"""A shift is by so many sequences at least: neighbours often share a document."""
LEAST_STD = 1e-3
"""A null is never taken to be narrower: less than this is no difference to anyone."""
OF_LABELS = ("class_selectivity", "purity", "purity_excess", "label_nmi")
"""Latents in as many groups of sequences share these' null, latents of as many firings the tokens'."""
_FIRINGS = 1 << 22

Masks = Mapping[str, Bool[Tensor, "seq pos"]]


class Judged(Protocol):
    """What is needed of `evidence.Evidence`."""

    @property
    def testable(self) -> Bool[np.ndarray, " d_sae"]: ...

    @property
    def effective_groups(self) -> Float64[np.ndarray, " d_sae"]: ...


def scales(
    features: FeatureStore,
    judged: Judged,
    measures: Mapping[str, Float64[np.ndarray, " d_sae"]],
    *,
    nulls: int,
    seed: int,
    labels: Masks | None = None,
    vectors: Mapping[str, SequenceVectors] | None = None,
) -> dict[str, NullScale]:
    """z and band of those of `measures` that have a null; NaN for latents that are not testable.

    labels: the masks that were scanned; without them their measures have no null. vectors: those that each coherence
    among the measures was taken in. Raises ValueError if a mask is missing or has another shape than the tokens.
    """
    check_labels(features, labels)
    rng = np.random.default_rng(seed)
    n_seq, testable = len(features.tokens), judged.testable
    margin = max(1, min(MARGIN, n_seq // 4))
    shifts = rng.integers(margin, max(n_seq - margin, margin + 1), nulls).tolist()
    units = np.sort(rng.permutation(np.flatnonzero(testable))[:UNITS])
    table = features.table("features").sort_values("latent")
    n_active = np.where(testable, table["n_active"].to_numpy(float), 0)
    groups = np.where(testable, judged.effective_groups, 0)
    found = {
        "next_auroc": next_scale(measures["next_auroc"], groups),
        "burstiness": burstiness_scale(n_active, table["n_sequences"].to_numpy(), features),
    }
    for name, recounted in _recount(features, units, shifts, labels).items():
        if name not in measures:
            continue
        shifted = np.full((nulls, features.d_sae), np.nan)
        shifted[:, units] = recounted
        size = groups if name in OF_LABELS else n_active
        found[name] = null_scale(measures[name], shifted, size, least_std=LEAST_STD)
    for name, own in (vectors or {}).items():
        moved = (MovedVectors(own, n_seq, max(1, shift // own.every)) for shift in shifts)
        shifted = np.stack([embedding_coherence(features.codes, each) for each in moved])
        found[name] = null_scale(measures[name], shifted, groups, size_exponent=1.0)
    return {name: found[name] for name in measures if name in found}


def check_labels(features: FeatureStore, labels: Masks | None) -> None:
    """Raises ValueError unless every label that was scanned has a mask, and every mask the tokens' shape."""
    shape = tuple(features.tokens.shape)
    if labels is None:
        return
    for name in features.meta["labels"]:
        if name not in labels:
            raise ValueError(f"no mask of label {name!r} was given, but {features.path} was scanned with it")
    for name in labels:
        if tuple(labels[name].shape) != shape:
            raise ValueError(f"label {name!r} is {tuple(labels[name].shape)}, the tokens scanned are {shape}")


@dataclass
class _Counts:
    """What some latents' firings meet on one text."""

    tokens: dict[int, scipy.sparse.csr_matrix]
    """By offset: firings by unit and token."""
    mass: dict[int, scipy.sparse.csr_matrix]
    """Their activation, for the offsets 0 and 1."""
    in_label: Float64[np.ndarray, "unit label"]
    mass_in_label: Float64[np.ndarray, "unit label"]


@dataclass(frozen=True)
class _Firings:
    unit: Int64[np.ndarray, " firing"]
    row: Int64[np.ndarray, " firing"]
    value: Float64[np.ndarray, " firing"]


def _recount(
    features: FeatureStore, units: Int64[np.ndarray, " unit"], shifts: Sequence[int], labels: Masks | None
) -> dict[str, Float64[np.ndarray, "null unit"]]:
    """The measures of the latents `units` on each shifted text."""
    if not len(units):
        return {}
    offsets = sorted(int(offset) for offset in features.table("offsets")["offset"].unique())
    masks: Masks = {} if labels is None else labels
    names = features.meta["labels"] if masks else []
    n_units, n_vocab = len(units), len(features.vocab)
    n_firings, total = np.zeros(n_units, np.int64), np.zeros(n_units)
    nothing = scipy.sparse.csr_matrix((n_units, n_vocab))
    counts = [
        _Counts(
            dict.fromkeys(offsets, nothing),
            {offset: nothing for offset in offsets if offset in (0, 1)},
            *np.zeros((2, n_units, len(names))),
        )
        for _ in shifts
    ]
    for firings in _firings(features, units):
        n_firings += np.bincount(firings.unit, minlength=n_units)
        total += np.bincount(firings.unit, firings.value, n_units)
        for shift, own in zip(shifts, counts, strict=True):
            _add_tokens(features, firings, shift, own)
        for place, name in enumerate(names):
            _add_label(firings, masks[name], shifts, place, counts)
    found = [_of_tokens(features, own) | _of_what_follows(features, units, own) for own in counts]
    if names:
        found = [
            columns | _of_labels(features, own, n_firings, total) for columns, own in zip(found, counts, strict=True)
        ]
    return {name: np.stack([columns[name] for columns in found]) for name in found[0]}


def _firings(features: FeatureStore, units: Int64[np.ndarray, " unit"]) -> Iterator[_Firings]:
    """The firings of the latents `units`, some millions at a time."""
    place = np.full(features.d_sae, -1)
    place[units] = np.arange(len(units))
    parts: list[_Firings] = []
    for start in range(0, len(features.codes), ROWS_PER_CHUNK):
        part = features.codes[start : start + ROWS_PER_CHUNK]
        unit, value = place[part.latents.numpy()], part.values.float().numpy()
        ours = (unit >= 0) & (value > 0)
        parts.append(_Firings(unit[ours], start + part.rows.numpy()[ours], value[ours].astype(np.float64)))
        last = start + ROWS_PER_CHUNK >= len(features.codes)
        if last or sum(len(each.unit) for each in parts) >= _FIRINGS:
            yield _Firings(
                *(np.concatenate([getattr(each, name) for each in parts]) for name in ("unit", "row", "value"))
            )
            parts = []


def _add_tokens(features: FeatureStore, firings: _Firings, shift: int, counts: _Counts) -> None:
    flat, n_ctx = features.tokens.numpy().reshape(-1), features.n_ctx
    position, shape = firings.row % n_ctx, next(iter(counts.tokens.values())).shape
    for offset in counts.tokens:
        inside = (position + offset >= 0) & (position + offset < n_ctx)
        token = flat[(firings.row[inside] + shift * n_ctx) % flat.size + offset]
        at = firings.unit[inside], token
        counts.tokens[offset] = counts.tokens[offset] + scipy.sparse.csr_matrix((np.ones(len(token)), at), shape=shape)
        if offset in counts.mass:
            values = firings.value[inside]
            counts.mass[offset] = counts.mass[offset] + scipy.sparse.csr_matrix((values, at), shape=shape)


def _add_label(
    firings: _Firings, mask: Bool[Tensor, "seq pos"], shifts: Sequence[int], place: int, counts: list[_Counts]
) -> None:
    flat, n_ctx = np.asarray(mask, dtype=bool).reshape(-1), mask.shape[1]
    for shift, own in zip(shifts, counts, strict=True):
        inside, n_units = flat[(firings.row + shift * n_ctx) % flat.size], len(own.in_label)
        own.in_label[:, place] += np.bincount(firings.unit[inside], minlength=n_units)
        own.mass_in_label[:, place] += np.bincount(firings.unit[inside], firings.value[inside], n_units)


def _of_tokens(features: FeatureStore, counts: _Counts) -> dict[str, Float64[np.ndarray, " unit"]]:
    n_units, n_vocab = counts.tokens[0].shape
    unigrams = np.bincount(features.tokens.numpy().reshape(-1), minlength=n_vocab)
    summary = OffsetSummary(n_units, list(counts.tokens), unigrams)
    for offset, matrix in counts.tokens.items():
        found = matrix.tocoo()
        pairs = np.zeros((found.nnz, 4), np.int64)
        pairs[:, 0], pairs[:, 1] = found.row.astype(np.int64) * n_vocab + found.col, found.data
        summary.add(offset, pairs[np.argsort(pairs[:, 0])])
    columns = token_columns(offset_measures(pd.DataFrame(summary.table(np.ones(n_units)))))
    word = words_of(features.vocab)
    by_word = scipy.sparse.csr_matrix((np.ones(n_vocab), (np.arange(n_vocab), word)))
    return columns | {"token_share": largest_share((counts.mass[0] @ by_word).tocsr())}


def _of_what_follows(
    features: FeatureStore, units: Int64[np.ndarray, " unit"], counts: _Counts
) -> dict[str, Float64[np.ndarray, " unit"]]:
    table = features.table("features").sort_values("latent").iloc[units]
    if 1 not in counts.mass or table["top_logit_tokens"].isna().any():
        return {}
    top = np.stack(table["top_logit_tokens"].to_list())
    mass, following = counts.mass[1], np.asarray(counts.tokens[1].sum(1)).ravel()
    promoted = np.asarray(mass[np.arange(len(top))[:, None], top].todense()).sum(1)
    every = np.asarray(mass.sum(1)).ravel()
    hits = np.divide(promoted, every, out=np.full(len(top), np.nan), where=every > 0)
    return {"next_log_lift": log_lift_of(hits, base_rate(features, top), following)}


def _of_labels(
    features: FeatureStore,
    counts: _Counts,
    n_firings: Int64[np.ndarray, " unit"],
    total: Float64[np.ndarray, " unit"],
) -> dict[str, Float64[np.ndarray, " unit"]]:
    """The largest of each measure over the labels."""
    size = features.table("labels").drop_duplicates("label").set_index("label")["n_label"]
    shape = counts.in_label.shape
    sizes = size.reindex(features.meta["labels"]).to_numpy()
    n_active, total, n_label = (
        np.broadcast_to(x, shape).reshape(-1) for x in (n_firings[:, None], total[:, None], sizes)
    )
    n_both, mass = counts.in_label.reshape(-1), counts.mass_in_label.reshape(-1)
    found = measures_of_counts(n_both, mass, n_active, total, n_label, features.meta["n_tokens"])
    best = {name: np.nanmax(values.reshape(shape), axis=1, initial=-np.inf) for name, values in found.items()}
    titles = {"selectivity": "class_selectivity", "excess": "purity_excess", "nmi": "label_nmi"}
    return {titles.get(name, name): np.where(np.isfinite(values), values, np.nan) for name, values in best.items()}
