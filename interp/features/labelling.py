"""How well each latent finds each label.

    precision = n_both / n_active      recall = n_both / n_label      F1 = 2 TP / (n_fired + n_label),   z >= threshold

The threshold is the one of best F1 on the fit half, out of at most `N_THRESHOLDS` of a latent: those that its upper
tail passes at the shares (i / 32)^2 of its firings, moved down to the next edge of its histogram (1/16 of the value).
`f1` is measured at it on the other half. `mass` is the activation on the label's tokens, summed. Correlation is
Pearson's, of the activation (0 where silent) with the label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from interp.features.chunks import Chunk
from interp.features.firing import FiringStatistics, bin_edges, bin_of_bits

N_THRESHOLDS = 32
_BLOCK = 512


@dataclass(frozen=True)
class LabelSets:
    """The labels of every row: ids[offsets[row]:offsets[row + 1]]."""

    names: tuple[str, ...]
    offsets: np.ndarray
    ids: np.ndarray

    @classmethod
    def gather(cls, masks: Mapping[str, np.ndarray], n_rows: int) -> "LabelSets":
        """From one mask a label, read twice and one at a time, so that lazy masks need no memory."""
        counts = np.zeros(n_rows, np.int64)
        for name in masks:
            counts += _flat(name, masks[name], n_rows)
        offsets = np.concatenate([[0], counts.cumsum()])
        ids, ends = np.empty(offsets[-1], np.uint16), offsets[:-1].copy()
        for i, name in enumerate(masks):
            rows = np.flatnonzero(_flat(name, masks[name], n_rows))
            ids[ends[rows]] = i
            ends[rows] += 1
        return cls(tuple(masks), offsets, ids)


class LabelCounts:
    """Contingency of latents first .. last with every label, by half and activation bin."""

    def __init__(self, labels: LabelSets, firing: FiringStatistics, first: int, last: int):
        self.labels, self.first, self.last = labels, first, last
        self.bin_of = threshold_bins(firing.histogram[first:last])  # histogram bin -> threshold bin
        shape = (last - first, len(labels.names))
        self.both = np.zeros((*shape, 2, N_THRESHOLDS), np.uint32)
        self.fired = np.zeros((last - first, 2, N_THRESHOLDS), np.int64)
        self.sums = np.zeros(shape)
        self.n_label = np.zeros((2, len(labels.names)), np.int64)

    def add(self, chunk: Chunk) -> None:
        stop = chunk.start + len(chunk.tokens)
        offsets = self.labels.offsets[chunk.start : stop + 1]
        ids = self.labels.ids[offsets[0] : offsets[-1]]
        fit = chunk.fit.astype(np.int8)
        halves = np.repeat(np.where(chunk.present, fit, -1), np.diff(offsets))
        for half in (0, 1):
            self.n_label[half] += np.bincount(ids[halves == half], minlength=len(self.labels.names))
        columns = chunk.columns.offsets[self.first : self.last + 1]
        inside = slice(columns[0], columns[-1])
        values = chunk.columns.values[inside]
        fired = (columns - columns[0], chunk.columns.rows[inside], values, values.view(np.int32))
        _add(*fired, fit, offsets - offsets[0], ids, self.bin_of, self.both, self.fired, self.sums)

    def table(self, firing: FiringStatistics) -> dict[str, np.ndarray]:
        """One row a label and latent that fires."""
        alive = np.flatnonzero(firing.n_active[self.first : self.last])
        parts = [self._rows(alive[i : i + _BLOCK], firing) for i in range(0, max(len(alive), 1), _BLOCK)]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _rows(self, alive: np.ndarray, firing: FiringStatistics) -> dict[str, np.ndarray]:
        n_active = firing.n_active[self.first + alive, None]
        both, n_label = self.both[alive].sum((2, 3), dtype=np.int64), self.n_label.sum(0)
        best = best_threshold(self.both[alive], self.fired[alive], self.n_label)
        thresholds = np.take_along_axis(self._thresholds(firing, alive), best.place, 1)
        shape = both.shape
        columns = {
            "latent": np.broadcast_to(self.first + alive[:, None], shape),
            "label": np.broadcast_to(np.array(self.labels.names, dtype=object), shape),
            "n_label": np.broadcast_to(n_label, shape),
            "n_both": both,
            "mass": self.sums[alive],
            "precision": both / n_active,
            "recall": _ratio(both, n_label),
            "f1_fit": best.f1_fit,
            "threshold": thresholds,
            "f1": best.f1,
            "correlation": self._correlation(firing, alive, n_label),
        }
        return {key: column.reshape(-1) for key, column in columns.items()}

    def _thresholds(self, firing: FiringStatistics, alive: np.ndarray) -> np.ndarray:
        """The lowest activation of each threshold bin and those above it."""
        edges, tiny = bin_edges(), np.finfo(np.float32).tiny
        lowest = (firing.histogram[self.first + alive] > 0).argmax(1)
        index = np.stack([(self.bin_of[alive] < t).sum(1) for t in range(N_THRESHOLDS)], 1)
        return np.maximum(edges[np.clip(np.maximum(index, lowest[:, None]), 0, len(edges) - 2)], tiny)

    def _correlation(self, firing: FiringStatistics, alive: np.ndarray, n_label: np.ndarray) -> np.ndarray:
        n = firing.n_rows
        mean = firing.sums[self.first + alive, None] / n
        variance = firing.squares[self.first + alive, None] / n - mean**2
        share = n_label / n
        return _ratio(self.sums[alive] / n - mean * share, np.sqrt(np.maximum(variance * share * (1 - share), 0)))


class BestThreshold(NamedTuple):
    """Each "latent label"."""

    place: np.ndarray
    f1_fit: np.ndarray
    f1: np.ndarray


def best_threshold(both: np.ndarray, fired: np.ndarray, n_label: np.ndarray) -> BestThreshold:
    """The threshold of best F1 on the fit half (half 1), F1 there and on the other half.

    both "latent label half threshold": firings on the label's tokens in each threshold bin; fired "latent half
    threshold": all firings; n_label "half label". F1 is NaN where neither the latent nor the label is to be seen.
    """
    tail = both[..., ::-1].cumsum(-1, dtype=np.int64)[..., ::-1]
    total = fired[..., ::-1].cumsum(-1)[..., ::-1][:, None] + n_label.T[None, :, :, None]
    f1 = _ratio(2 * tail, total)
    best = np.nan_to_num(f1[:, :, 1], nan=-1).argmax(-1)
    fit, held = (np.take_along_axis(f1[:, :, half], best[..., None], -1)[..., 0] for half in (1, 0))
    return BestThreshold(best, fit, held)


def best_labels(table: dict[str, np.ndarray], d_sae: int) -> dict[str, np.ndarray]:
    """For the features table: the label of best `f1_fit` of each latent, with its held-out F1."""
    best, f1 = np.full(d_sae, None, dtype=object), np.full(d_sae, np.nan)
    order = np.lexsort((-np.nan_to_num(table["f1_fit"], nan=-1), table["latent"]))
    latents, first = np.unique(table["latent"][order], return_index=True)
    found = order[first][table["f1_fit"][order[first]] > 0]
    best[table["latent"][found]], f1[table["latent"][found]] = table["label"][found], table["f1"][found]
    return {"best_label": best, "best_label_f1": f1}


def threshold_bins(histogram: np.ndarray) -> np.ndarray:
    """Uint8 "latent bin": which threshold bin a histogram bin belongs to; 0 holds the weakest firings.

    Bin t begins where the share of firings above is (1 - t / 32)^2: fine among the strongest, coarse below.
    """
    above = histogram[:, ::-1].cumsum(1, dtype=np.int64)[:, ::-1] - histogram
    share = above / np.maximum(histogram.sum(1, dtype=np.int64), 1)[:, None]
    return (N_THRESHOLDS - 1 - np.minimum(N_THRESHOLDS - 1, np.floor(N_THRESHOLDS * np.sqrt(share)))).astype(np.uint8)


def _flat(name: str, mask, n_rows: int) -> np.ndarray:
    flat = np.asarray(mask, dtype=bool).reshape(-1)
    if len(flat) != n_rows:
        raise ValueError(f"label {name!r} covers {len(flat)} tokens, but the scan has {n_rows}")
    return flat


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)


@njit(cache=True, nogil=True)
def _add(columns, rows, values, bits, fit, label_offsets, label_ids, bin_of, both, fired, sums):
    for j in range(len(columns) - 1):
        for e in range(columns[j], columns[j + 1]):
            row = rows[e]
            t, half = bin_of[j, bin_of_bits(bits[e])], fit[row]
            fired[j, half, t] += 1
            for i in range(label_offsets[row], label_offsets[row + 1]):
                label = label_ids[i]
                both[j, label, half, t] += 1
                sums[j, label] += values[e]
