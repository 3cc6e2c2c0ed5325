"""How well each latent finds each label.

    precision = n_both / n_active      recall = n_both / n_label      F1 = 2 TP / (n_fired + n_label),   z >= threshold

The threshold is the one of best F1 on the fit half, out of at most 32 of a latent: those that its upper
tail passes at the shares (i / 32)^2 of its firings, moved down to the next edge of its histogram (1/16 of the value).
`f1` is measured at it on the other half. `mass` is the activation on the label's tokens, summed. Correlation is
Pearson's, of the activation (0 where silent) with the label.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from interp.features.chunks import Columns, Rows
from interp.features.firing import FiringStatistics, bin_edges, bin_of_bits
from interp.files import ratio

_N_THRESHOLDS = 32
_CELLS = 1 << 15
"""Pairs of a latent and a label whose thresholds are compared at a time."""


@dataclass(frozen=True)
class LabelSets:
    """The labels of every row: ids[offsets[row]:offsets[row + 1]]."""

    names: tuple[str, ...]
    offsets: np.ndarray
    ids: np.ndarray
    n_label: np.ndarray
    """Rows of each "half label" among those that were encoded; half 1 is the fit half."""

    @classmethod
    def gather(cls, masks: Mapping[str, np.ndarray], rows: Rows) -> "LabelSets":
        """From one mask a label, read twice and one at a time, so that lazy masks need no memory."""
        counts = np.zeros(rows.tokens.size, np.int64)
        n_label, halves = np.zeros((2, len(masks)), np.int64), np.repeat(rows.fit, rows.n_ctx)
        for i, name in enumerate(masks):
            mask = np.asarray(masks[name], dtype=bool).reshape(-1)
            counts += mask
            n_label[:, i] = np.bincount(halves[mask & rows.present], minlength=2)
        offsets = np.concatenate([[0], counts.cumsum()])
        ids, ends = np.empty(offsets[-1], np.uint16), offsets[:-1].copy()
        for i, name in enumerate(masks):
            labelled = np.flatnonzero(np.asarray(masks[name], dtype=bool).reshape(-1))
            ids[ends[labelled]] = i
            ends[labelled] += 1
        return cls(tuple(masks), offsets, ids, n_label)


def label_table(labels: LabelSets, columns: Columns, firing: FiringStatistics, rows: Rows) -> dict[str, np.ndarray]:
    """The table `labels`: one row a label and latent that fires."""
    bin_of = _threshold_bins(firing.histogram)  # histogram bin -> threshold bin
    fired = columns.offsets, columns.rows, columns.values, columns.values.view(np.int32), rows.n_ctx, rows.fit
    both, n_fired, sums = _count(*fired, labels.offsets, labels.ids, len(labels.names), bin_of)
    alive, step = np.flatnonzero(firing.n_active), max(1, _CELLS // len(labels.names))
    blocks = [alive[i : i + step] for i in range(0, max(len(alive), 1), step)]
    parts = [_rows(labels, firing, bin_of, both, n_fired, sums, block) for block in blocks]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _rows(labels, firing, bin_of, both, n_fired, sums, alive) -> dict[str, np.ndarray]:
    n_both, n_label = both[alive].sum((2, 3), dtype=np.int64), labels.n_label.sum(0)
    f1 = _f1(both[alive], n_fired[alive], labels.n_label)
    best = np.nan_to_num(f1[:, :, 1], nan=-1).argmax(-1)
    held, fit = (np.take_along_axis(f1[:, :, half], best[..., None], -1)[..., 0] for half in (0, 1))
    shape = n_both.shape
    columns = {
        "latent": np.broadcast_to(firing.first + alive[:, None], shape),
        "label": np.broadcast_to(np.array(labels.names, dtype=object), shape),
        "n_label": np.broadcast_to(n_label, shape),
        "n_both": n_both,
        "mass": sums[alive],
        "precision": n_both / firing.n_active[alive, None],
        "recall": ratio(n_both, n_label),
        "f1_fit": fit,
        "threshold": np.take_along_axis(_thresholds(firing, bin_of, alive), best, 1),
        "f1": held,
        "correlation": _correlation(firing, alive, sums[alive], n_label),
    }
    return {key: column.reshape(-1) for key, column in columns.items()}


def _thresholds(firing: FiringStatistics, bin_of: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """The lowest activation of each threshold bin and those above it."""
    edges, tiny = bin_edges(), np.finfo(np.float32).tiny
    lowest = (firing.histogram[alive] > 0).argmax(1)
    index = np.stack([(bin_of[alive] < t).sum(1) for t in range(_N_THRESHOLDS)], 1)
    return np.maximum(edges[np.clip(np.maximum(index, lowest[:, None]), 0, len(edges) - 2)], tiny)


def _correlation(firing: FiringStatistics, alive: np.ndarray, sums: np.ndarray, n_label: np.ndarray) -> np.ndarray:
    n = firing.n_rows
    mean = firing.sums[alive, None] / n
    variance = firing.squares[alive, None] / n - mean**2
    share = n_label / n
    return ratio(sums / n - mean * share, np.sqrt(np.maximum(variance * share * (1 - share), 0)))


def _f1(both: np.ndarray, fired: np.ndarray, n_label: np.ndarray) -> np.ndarray:
    """F1 "latent label half threshold", from the firings in each threshold bin: those on the label's tokens, of the
    same shape, and all, "latent half threshold". NaN where neither the latent nor the label is to be seen."""
    tail = both[..., ::-1].cumsum(-1, dtype=np.int64)[..., ::-1]
    total = fired[..., ::-1].cumsum(-1)[..., ::-1][:, None] + n_label.T[None, :, :, None]
    return ratio(2 * tail, total)


def best_labels(table: dict[str, np.ndarray], n_labels: int, firing: FiringStatistics) -> dict[str, np.ndarray]:
    """Columns of the features table: the label of best `f1_fit` of each latent, with its held-out F1."""
    n_latents = len(firing.n_active)
    best, f1 = np.full(n_latents, None, dtype=object), np.full(n_latents, np.nan)
    fit = np.nan_to_num(table["f1_fit"]).reshape(-1, n_labels)
    found = (fit.argmax(1) + n_labels * np.arange(len(fit)))[fit.max(1) > 0]
    at = table["latent"][found] - firing.first
    best[at], f1[at] = table["label"][found], table["f1"][found]
    return {"best_label": best, "best_label_f1": f1}


def _threshold_bins(histogram: np.ndarray) -> np.ndarray:
    """Uint8 "latent bin": which threshold bin a histogram bin belongs to; 0 holds the weakest firings.

    Bin t begins where the share of firings above is (1 - t / 32)^2: fine among the strongest, coarse below.
    """
    above = histogram[:, ::-1].cumsum(1, dtype=np.int64)[:, ::-1] - histogram
    share = above / np.maximum(histogram.sum(1, dtype=np.int64), 1)[:, None]
    below = np.minimum(_N_THRESHOLDS - 1, np.floor(_N_THRESHOLDS * np.sqrt(share)))
    return (_N_THRESHOLDS - 1 - below).astype(np.uint8)


@njit(cache=True, nogil=True)
def _count(columns, rows, values, bits, n_ctx, fit, label_offsets, label_ids, n_labels, bin_of):
    """Firings "latent label half threshold" on the label's tokens, all "latent half threshold"; mass "latent label"."""
    d = len(columns) - 1
    both = np.zeros((d, n_labels, 2, _N_THRESHOLDS), np.uint32)
    fired, sums = np.zeros((d, 2, _N_THRESHOLDS), np.int64), np.zeros((d, n_labels))
    for j in range(d):
        for e in range(columns[j], columns[j + 1]):
            row = rows[e]
            t, half = bin_of[j, bin_of_bits(bits[e])], np.int64(fit[row // n_ctx])
            fired[j, half, t] += 1
            for i in range(label_offsets[row], label_offsets[row + 1]):
                label = label_ids[i]
                both[j, label, half, t] += 1
                sums[j, label] += values[e]
    return both, fired, sums
