"""What some latents' firings meet on shifted texts, counted chunk by chunk as the scan counts it on its own.

In: chunks of the codes. Out: the measures of tokens, of what follows and of labels (`table`), a row a shifted text. A
label's F1 is that of the threshold and the label chosen on the fit half of the shifted text, as on the true one.

Memory: a unit's tokens by offset, 64 counts a unit, label and text, BUFFERED firings, and one label's mask at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse
from jaxtyping import Bool, Float32, Float64, Int64, Integer
from torch import Tensor

from interp.features.feature_store import FeatureStore
from interp.features.firing import N_BINS, bins_of
from interp.features.labelling import N_THRESHOLDS, best_threshold, threshold_bins
from interp.features.offsets import OffsetSummary
from interp.metrics.concepts import measures_of_counts
from interp.metrics.next_token import base_rate, log_lift_of
from interp.metrics.table import token_columns
from interp.metrics.tokens import largest_share, offset_measures, words_of
from interp.monosemanticity.firings import CodeChunk

BUFFERED = 1 << 20
"""Firings that are counted in one go."""
_BLOCK = 64

Masks = Mapping[str, Bool[Tensor, "seq pos"]]


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


def bytes_of_unit(features: FeatureStore, labels: Masks | None) -> int:
    """What the labels' counts of a unit on one text take."""
    return 8 * len(features.meta["labels"] if labels else ()) * 2 * N_THRESHOLDS


@dataclass(frozen=True)
class _Firings:
    unit: Int64[np.ndarray, " firing"]
    row: Int64[np.ndarray, " firing"]
    value: Float32[np.ndarray, " firing"]

    @classmethod
    def joined(cls, parts: "Sequence[_Firings]") -> "_Firings":
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("unit", "row", "value")))


@dataclass
class _Counts:
    """What the firings meet on one text."""

    tokens: dict[int, scipy.sparse.csr_matrix]
    """By offset: firings by unit and token."""
    mass: dict[int, scipy.sparse.csr_matrix]
    """Their activation, for the offsets 0 and 1."""
    in_label: Int64[np.ndarray, "unit label half threshold"]
    mass_in_label: Float64[np.ndarray, "unit label"]


class Recount:
    """Counts the firings of the latents `units` on texts shifted by so many rows each, in a ring."""

    def __init__(
        self,
        features: FeatureStore,
        units: Int64[np.ndarray, " unit"],
        shifts: Sequence[int],
        labels: Masks | None = None,
    ):
        self._features, self._units, self._shifts = features, units, shifts
        self._labels: Masks = {} if labels is None else labels
        self._names: list[str] = features.meta["labels"] if labels else []
        self._place = np.full(features.d_sae, -1)
        self._place[units] = np.arange(len(units))
        self._half = features.fit_half().numpy().astype(np.int64)
        self._threshold = threshold_bins(_histograms(features, units))
        offsets = sorted(int(offset) for offset in features.table("offsets")["offset"].unique())
        n_units, n_labels = len(units), len(self._names)
        nothing = scipy.sparse.csr_matrix((n_units, len(features.vocab)))
        self._fired = np.zeros((n_units, 2, N_THRESHOLDS), np.int64)
        self._total = np.zeros(n_units)
        self._counts = [
            _Counts(
                dict.fromkeys(offsets, nothing),
                {offset: nothing for offset in offsets if offset in (0, 1)},
                np.zeros((n_units, n_labels, 2, N_THRESHOLDS), np.int64),
                np.zeros((n_units, n_labels)),
            )
            for _ in shifts
        ]
        self._waiting: list[_Firings] = []

    def add(self, chunk: CodeChunk) -> None:
        own = chunk.only(self._place)
        self._waiting.append(_Firings(own.latents.astype(np.int64), own.rows, own.activations))
        if sum(len(part.unit) for part in self._waiting) >= BUFFERED:
            self._count_waiting()

    def measures(self) -> dict[str, Float64[np.ndarray, "text unit"]]:
        self._count_waiting()
        if not len(self._units):
            return {}
        vocab = self._features.vocab
        by_word = scipy.sparse.csr_matrix((np.ones(len(vocab)), (np.arange(len(vocab)), words_of(vocab))))
        unigrams = np.bincount(self._features.tokens.numpy().reshape(-1), minlength=len(vocab))
        table = self._features.table("features").sort_values("latent").iloc[self._units]
        top = None if table["top_logit_tokens"].isna().any() else np.stack(table["top_logit_tokens"].to_list())
        found = [self._of_tokens(own, unigrams, by_word) | self._of_what_follows(own, top) for own in self._counts]
        if self._names:
            sizes = self._label_sizes()
            for columns, own, n_label in zip(found, self._counts, sizes, strict=True):
                columns |= self._of_labels(own, n_label)
        return {name: np.stack([columns[name] for columns in found]) for name in found[0]}

    def _count_waiting(self) -> None:
        if not self._waiting:
            return
        firings, self._waiting = _Firings.joined(self._waiting), []
        half = self._half[firings.row // self._features.n_ctx]
        threshold = self._threshold[firings.unit, bins_of(firings.value)]
        cell = np.ravel_multi_index((firings.unit, half, threshold), self._fired.shape)
        self._fired += np.bincount(cell, minlength=self._fired.size).reshape(self._fired.shape)
        self._total += np.bincount(firings.unit, firings.value, len(self._units))
        for shift, own in zip(self._shifts, self._counts, strict=True):
            self._add_tokens(firings, shift, own)
        for place, name in enumerate(self._names):
            self._add_label(firings, cell, place, np.asarray(self._labels[name], dtype=bool).reshape(-1))

    def _add_tokens(self, firings: _Firings, shift: int, counts: _Counts) -> None:
        flat, n_ctx = self._features.tokens.numpy().reshape(-1), self._features.n_ctx
        row, shape = (firings.row + shift) % flat.size, next(iter(counts.tokens.values())).shape
        for offset in counts.tokens:
            inside = (row % n_ctx + offset >= 0) & (row % n_ctx + offset < n_ctx)
            at = firings.unit[inside], flat[row[inside] + offset]
            ones = np.ones(len(at[0]))
            counts.tokens[offset] = counts.tokens[offset] + scipy.sparse.csr_matrix((ones, at), shape=shape)
            if offset in counts.mass:
                values = firings.value[inside].astype(np.float64)
                counts.mass[offset] = counts.mass[offset] + scipy.sparse.csr_matrix((values, at), shape=shape)

    def _add_label(
        self, firings: _Firings, cell: Int64[np.ndarray, " firing"], place: int, mask: Bool[np.ndarray, " row"]
    ) -> None:
        shape = self._fired.shape
        for shift, own in zip(self._shifts, self._counts, strict=True):
            inside = mask[(firings.row + shift) % mask.size]
            own.in_label[:, place] += np.bincount(cell[inside], minlength=self._fired.size).reshape(shape)
            own.mass_in_label[:, place] += np.bincount(firings.unit[inside], firings.value[inside], len(self._units))

    def _label_sizes(self) -> Int64[np.ndarray, "text half label"]:
        """Tokens of each label that stand where a row was encoded."""
        n_rows = self._features.tokens.numel()
        present = self._features.codes.present(0, n_rows).numpy()
        sizes = np.zeros((len(self._shifts), 2, len(self._names)), np.int64)
        for place, name in enumerate(self._names):
            mask = np.asarray(self._labels[name], dtype=bool).reshape(-1)
            for text, shift in enumerate(self._shifts):
                met = (np.roll(mask, -shift) & present).reshape(self._features.tokens.shape).sum(1)
                sizes[text, :, place] = np.bincount(self._half, met, 2)
        return sizes

    def _of_tokens(
        self, counts: _Counts, unigrams: Int64[np.ndarray, " token"], by_word: scipy.sparse.csr_matrix
    ) -> dict[str, Float64[np.ndarray, " unit"]]:
        n_units, n_vocab = counts.tokens[0].shape
        summary = OffsetSummary(n_units, list(counts.tokens), unigrams)
        for offset, matrix in counts.tokens.items():
            found = matrix.tocoo()
            pairs = np.zeros((found.nnz, 4), np.int64)
            pairs[:, 0], pairs[:, 1] = found.row.astype(np.int64) * n_vocab + found.col, found.data
            summary.add(offset, pairs[np.argsort(pairs[:, 0])])
        columns = token_columns(offset_measures(pd.DataFrame(summary.table(np.ones(n_units)))))
        return columns | {"token_share": largest_share((counts.mass[0] @ by_word).tocsr())}

    def _of_what_follows(
        self, counts: _Counts, top: Int64[np.ndarray, "unit promoted"] | None
    ) -> dict[str, Float64[np.ndarray, " unit"]]:
        if 1 not in counts.mass or top is None:
            return {}
        mass, following = counts.mass[1], np.asarray(counts.tokens[1].sum(1)).ravel()
        promoted = np.asarray(mass[np.arange(len(top))[:, None], top].todense()).sum(1)
        every = np.asarray(mass.sum(1)).ravel()
        hits = np.divide(promoted, every, out=np.full(len(top), np.nan), where=every > 0)
        return {"next_log_lift": log_lift_of(hits, base_rate(self._features, top), following)}

    def _of_labels(
        self, counts: _Counts, n_label: Integer[np.ndarray, "half label"]
    ) -> dict[str, Float64[np.ndarray, " unit"]]:
        """The largest of each measure over the labels, and F1 of the label and threshold chosen on the fit half."""
        n_both, mass = counts.in_label.sum((2, 3)), counts.mass_in_label
        n_active, total, size = (
            np.broadcast_to(x, mass.shape).reshape(-1)
            for x in (self._fired.sum((1, 2))[:, None], self._total[:, None], n_label.sum(0))
        )
        given = n_both.reshape(-1), mass.reshape(-1), n_active, total, size
        found = measures_of_counts(*given, self._features.meta["n_tokens"])
        best = {name: np.nanmax(values.reshape(mass.shape), axis=1, initial=-np.inf) for name, values in found.items()}
        titles = {"selectivity": "class_selectivity", "excess": "purity_excess", "nmi": "label_nmi"}
        columns = {titles.get(name, name): np.where(np.isfinite(x), x, np.nan) for name, x in best.items()}
        f1 = np.full(len(self._units), np.nan)
        for first in range(0, len(f1), _BLOCK):
            block = slice(first, first + _BLOCK)
            at_best = best_threshold(counts.in_label[block], self._fired[block], n_label)
            label = np.nan_to_num(at_best.f1_fit, nan=-1).argmax(1)[:, None]
            chosen, measured = (np.take_along_axis(x, label, 1)[:, 0] for x in (at_best.f1_fit, at_best.f1))
            f1[block] = np.where(chosen > 0, measured, np.nan)
        return columns | {"label_f1": f1}


def _histograms(features: FeatureStore, units: Int64[np.ndarray, " unit"]) -> Int64[np.ndarray, "unit bin"]:
    table = features.table("histograms")
    place = np.full(features.d_sae, -1)
    place[units] = np.arange(len(units))
    own = place[table["latent"].to_numpy()]
    found = np.zeros((len(units), N_BINS), np.int64)
    found[own[own >= 0], table["bin"].to_numpy()[own >= 0]] = table["n"].to_numpy()[own >= 0]
    return found
