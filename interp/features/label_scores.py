"""Measure how well each latent detects each label.

    precision = TP / n_fired      recall = TP / n_label      F1 = 2 TP / (n_fired + n_label)      fired: z >= threshold

The threshold is the one with the best F1 on the fit half, among at most 32 per latent. The i-th of them is the value
that a share (i / 32)^2 of its firings exceeds, lowered to the next edge of its histogram (edges are 1/16 of the value
apart). `precision`, `recall` and `f1` are measured at this threshold on the other half. `firing_share` is the fraction
of all firings, of any strength, that are on the label's tokens: n_both / n_active. `mass` is the sum of the activation
on these tokens. The correlation is Pearson's, between the activation (0 where the latent is silent) and the label.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from interp.checks.errors import InterpError
from interp.codes.offsets import offsets_from_lengths
from interp.features.firing_statistics import FiringStatistics, bin_edges, bin_of_bits
from interp.features.scan_input import FiringsByLatent, ScanInput
from interp.runtime.threads import slices
from interp.statistics.estimates import ratio, variance

_N_THRESHOLDS = 32
_ROWS_AT_ONCE = 1 << 20
MAX_LABELS = 1 << 16
"""Most labels of a scan: their numbers have 16 bits."""
MAX_PAIRS = 1 << 15
"""Pairs of a latent and a label whose thresholds may be compared at a time."""


@dataclass(frozen=True)
class LabelSets:
    """The labels of every row. A row with the set s of labels has ids[offsets[s]:offsets[s + 1]]. Many rows have the
    same set, so only one number per row grows with the text."""

    names: tuple[str, ...]
    set_of_row: np.ndarray
    """The set of each row."""
    offsets: np.ndarray
    ids: np.ndarray
    n_label: np.ndarray
    """Number of encoded rows with each label [half, label]. Half 1 is the fit half."""

    @classmethod
    def gather(cls, masks: Mapping[str, np.ndarray], scan: ScanInput) -> "LabelSets":
        """Build the sets from one mask per label. Each label divides the sets of the labels before it. Masks are read
        one at a time, so lazy masks need no memory. Raises ValueError for more than MAX_LABELS."""
        if len(masks) > MAX_LABELS:
            raise InterpError(f"{len(masks):,} labels were given, and a scan takes at most {MAX_LABELS:,}")
        set_of_row = np.zeros(scan.tokens.size, np.uint32)
        members = np.zeros((1, 0), bool)
        for name in masks:
            mask = np.asarray(masks[name], dtype=bool).reshape(-1)
            is_there = np.zeros(2 * len(members), bool)
            for block in slices(len(set_of_row), _ROWS_AT_ONCE):
                set_of_row[block] = 2 * set_of_row[block] + mask[block]
                is_there[set_of_row[block]] = True
            number = (is_there.cumsum() - 1).astype(np.uint32)
            for block in slices(len(set_of_row), _ROWS_AT_ONCE):
                set_of_row[block] = number[set_of_row[block]]
            members = np.hstack([members.repeat(2, 0), np.tile([[False], [True]], (len(members), 1))])[is_there]
        set_of, ids = np.nonzero(members)
        offsets = offsets_from_lengths(np.bincount(set_of, minlength=len(members)))
        n_rows = np.zeros((2, len(members)), np.int64)
        for block in slices(len(set_of_row), _ROWS_AT_ONCE):
            present = scan.codes.present(block.start, block.stop).numpy()
            halves = scan.fit[np.arange(block.start, block.stop) // scan.n_ctx]
            for half in range(2):
                n_rows[half] += np.bincount(set_of_row[block][present & (halves == half)], minlength=len(members))
        set_of_row = set_of_row.astype(np.uint16 if len(members) <= 1 << 16 else np.uint32)
        return cls(tuple(masks), set_of_row, offsets, ids.astype(np.uint16), n_rows @ members)


def label_table(
    labels: LabelSets, firings: FiringsByLatent, statistics: FiringStatistics, scan: ScanInput
) -> dict[str, np.ndarray]:
    """Return the table `labels`: one row per label and latent that fires."""
    bin_of = _threshold_bins(statistics.histogram)
    both, n_fired, mass = _count(
        firings.offsets,
        firings.rows,
        firings.values,
        firings.values.view(np.int32),
        scan.n_ctx,
        scan.fit,
        labels.set_of_row,
        labels.offsets,
        labels.ids,
        len(labels.names),
        bin_of,
    )
    n_both = both.sum((2, 3), dtype=np.int64)
    n_label = labels.n_label.sum(0)
    n = statistics.n_rows
    hits = both[..., ::-1].cumsum(-1, dtype=np.int64)[..., ::-1]
    fired = n_fired[..., ::-1].cumsum(-1)[..., ::-1][:, None]
    to_find = labels.n_label.T[None, :, :, None]
    # [latent, label, half, threshold]; NaN if neither the latent nor the label is to be seen.
    f1 = ratio(2 * hits, fired + to_find)
    best = np.nan_to_num(f1[:, :, 1], nan=-1).argmax(-1)

    def at_best(scores: np.ndarray, half: int) -> np.ndarray:
        return np.take_along_axis(scores[:, :, half], best[..., None], -1)[..., 0]

    mean = statistics.sums[:, None] / n
    share = n_label / n
    # The variance of the latent's values, times that of the label's.
    variances = variance(statistics.squares[:, None] / n, mean) * share * (1 - share)
    table = {
        "latent": statistics.first + np.arange(len(both))[:, None],
        "label": np.array(labels.names, dtype=object),
        "n_label": n_label,
        "n_both": n_both,
        "mass": mass,
        "firing_share": ratio(n_both, statistics.n_active[:, None]),
        "f1_fit": at_best(f1, 1),
        "threshold": np.take_along_axis(_thresholds(statistics.histogram, bin_of), best, 1),
        "f1": at_best(f1, 0),
        "precision": at_best(ratio(hits, fired), 0),
        "recall": at_best(ratio(hits, to_find), 0),
        "correlation": ratio(mass / n - mean * share, np.sqrt(variances)),
    }
    alive = statistics.n_active > 0
    return {key: np.broadcast_to(column, n_both.shape)[alive].reshape(-1) for key, column in table.items()}


def best_labels(table: dict[str, np.ndarray], n_labels: int, statistics: FiringStatistics) -> dict[str, np.ndarray]:
    """Return columns of the features table: for each latent, the label with the best `f1_fit`, and its held-out F1."""
    n_latents = len(statistics.n_active)
    best = np.full(n_latents, None, dtype=object)
    f1 = np.full(n_latents, np.nan)
    fit = np.nan_to_num(table["f1_fit"]).reshape(-1, n_labels)
    entries = (fit.argmax(1) + n_labels * np.arange(len(fit)))[fit.max(1) > 0]
    at = table["latent"][entries] - statistics.first
    best[at] = table["label"][entries]
    f1[at] = table["f1"][entries]
    return {"best_label": best, "best_label_f1": f1}


def _threshold_bins(histogram: np.ndarray) -> np.ndarray:
    """Return the threshold bin of each histogram bin, uint8 [latent, bin]. Bin 0 has the weakest firings.

    Bin t begins where the share of firings above is (1 - t / 32)^2. So the bins are narrow among the strongest firings,
    and wide below.
    """
    above = histogram[:, ::-1].cumsum(1, dtype=np.int64)[:, ::-1] - histogram
    share = above / np.maximum(histogram.sum(1, dtype=np.int64), 1)[:, None]
    below = np.minimum(_N_THRESHOLDS - 1, np.floor(_N_THRESHOLDS * np.sqrt(share)))
    return (_N_THRESHOLDS - 1 - below).astype(np.uint8)


def _thresholds(histogram: np.ndarray, bin_of: np.ndarray) -> np.ndarray:
    """Return the lowest activation at or above the start of each threshold bin, float [latent, threshold]."""
    edges = bin_edges()
    lowest = (histogram > 0).argmax(1)
    index = np.stack([(bin_of < t).sum(1) for t in range(_N_THRESHOLDS)], 1)
    at = np.clip(np.maximum(index, lowest[:, None]), 0, len(edges) - 2)
    return np.maximum(edges[at], np.finfo(np.float32).tiny)


@njit(cache=True, nogil=True)
def _count(columns, rows, values, bits, n_ctx, fit, set_of_row, label_offsets, label_ids, n_labels, bin_of):
    """Count the firings on each label's tokens [latent, label, half, threshold], and all firings [latent, half,
    threshold]. Sum the activation mass [latent, label]."""
    d = len(columns) - 1
    both = np.zeros((d, n_labels, 2, _N_THRESHOLDS), np.uint32)
    fired = np.zeros((d, 2, _N_THRESHOLDS), np.int64)
    sums = np.zeros((d, n_labels))
    for j in range(d):
        for e in range(columns[j], columns[j + 1]):
            row = rows[e]
            t = bin_of[j, bin_of_bits(bits[e])]
            half = np.int64(fit[row // n_ctx])
            fired[j, half, t] += 1
            label_set = np.int64(set_of_row[row])
            for i in range(label_offsets[label_set], label_offsets[label_set + 1]):
                label = label_ids[i]
                both[j, label, half, t] += 1
                sums[j, label] += values[e]
    return both, fired, sums
