"""Is a latent its concept at every strength, and how much of the concept does it find?

For a latent and a label L (a set of tokens), in equal slices of its strengths (0, max]:

    specificity_i = share of the firings in slice i that are in L
    sensitivity_i = share of L's tokens where it fires in slice i or above

All firings are counted. Source: Bricken et al. 2023 (Towards Monosemanticity), whose concepts were written by hand for
four features. Cost: one pass over the codes. Failing: it knows only the labels given, and a weak firing off the label
may be another word for it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from numba import njit

from interp.features import FeatureStore

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 1 << 16

Pairs = Sequence[tuple[int, str]]
Masks = Mapping[str, Bool[torch.Tensor, "seq pos"]]


def label_intervals(
    features: FeatureStore, labels: Masks, *, pairs: Pairs | None = None, n_intervals: int = 5
) -> "pd.DataFrame":
    """One row a pair and interval, pairs in order: `latent`, `label`, `interval` (0: the weakest), `low`, `high`,
    `n` (firings), `n_label` (of these in the label), `specificity`, `mass_specificity` (weighted by activation) and
    `sensitivity`; NaN where there is nothing to take a share of.

    `labels`: one mask a label. `pairs`: latents and their labels; default each latent and its best label, where that
    one's mask is given. Raises ValueError if a latent or a mask is missing, or a mask is not of the tokens scanned.
    """
    import pandas as pd

    table = features.table("features").sort_values("latent")
    if pairs is None:
        pairs = [(j, name) for j, name in enumerate(table["best_label"]) if name in labels]
    names = _checked(features, labels, pairs)
    latents = np.array([latent for latent, _ in pairs], np.int64)
    which = np.array([names.index(name) for _, name in pairs], np.int64)
    maxima = table["max"].fillna(0).to_numpy(np.float32)
    counts, mass, size = _counts(features, [labels[name] for name in names], latents, which, maxima, n_intervals)
    above = counts[..., 1][:, ::-1].cumsum(1)[:, ::-1]
    place = np.arange(n_intervals)
    columns = {
        "latent": latents[:, None],
        "label": np.array(names, dtype=object)[which][:, None],
        "interval": place,
        "low": maxima[latents, None].astype(float) * place / n_intervals,
        "high": maxima[latents, None].astype(float) * (place + 1) / n_intervals,
        "n": counts[..., 0],
        "n_label": counts[..., 1],
        "specificity": _ratio(counts[..., 1], counts[..., 0]),
        "mass_specificity": _ratio(mass[..., 1], mass[..., 0]),
        "sensitivity": _ratio(above, size[which][:, None]),
    }
    shape = (len(latents), n_intervals)
    return pd.DataFrame({name: np.broadcast_to(column, shape).reshape(-1) for name, column in columns.items()})


def _checked(features: FeatureStore, labels: Masks, pairs: Pairs) -> list[str]:
    """The names of all labels of the pairs."""
    names, shape = sorted({name for _, name in pairs}), tuple(features.tokens.shape)
    for name in names:
        if name not in labels:
            raise ValueError(f"no mask of label {name!r} was given; there are {', '.join(labels)}")
        if tuple(labels[name].shape) != shape:
            raise ValueError(f"label {name!r} is {tuple(labels[name].shape)}, the tokens scanned are {shape}")
    for latent, _ in pairs:
        if not 0 <= latent < features.d_sae:
            raise ValueError(f"latent={latent} must be in 0..{features.d_sae - 1}")
    return names


def _counts(
    features: FeatureStore,
    masks: list[Bool[torch.Tensor, "seq pos"]],
    latents: Int64[np.ndarray, " pair"],
    which: Int64[np.ndarray, " pair"],
    maxima: np.ndarray,
    n_intervals: int,
) -> tuple[Int64[np.ndarray, "pair interval 2"], Float64[np.ndarray, "pair interval 2"], Int64[np.ndarray, " label"]]:
    """Firings and their activation, all and those in the label; tokens of each label."""
    order = np.argsort(latents, kind="stable")
    firsts = np.searchsorted(latents[order], np.arange(features.d_sae + 1))
    shape = (len(latents), n_intervals, 2)
    counts, mass, size = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(len(masks), np.int64)
    flat = [np.asarray(mask, dtype=bool).reshape(-1) for mask in masks]
    for start in range(0, len(features.codes) if len(latents) else 0, _ROWS):
        stop = min(start + _ROWS, len(features.codes))
        inside = np.stack([mask[start:stop] for mask in flat], 1)  # row label
        size += (inside & features.codes.present(start, stop).numpy()[:, None]).sum(0)
        codes = features.codes[start:stop]
        entries = codes.offsets.numpy(), codes.latents.numpy(), codes.values.numpy()
        _count(*entries, inside, maxima, firsts, order, which, counts, mass)
    return counts, mass, size


def _ratio(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, " ..."]:
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)


@njit(cache=True, nogil=True)
def _count(offsets, latents, values, inside, maxima, firsts, order, which, counts, mass):
    n_intervals = counts.shape[1]
    for row in range(len(offsets) - 1):
        for e in range(offsets[row], offsets[row + 1]):
            latent, value = latents[e], np.float64(values[e])
            if firsts[latent] == firsts[latent + 1] or value <= 0:
                continue
            interval = min(n_intervals - 1, max(0, int(np.ceil(value * n_intervals / maxima[latent])) - 1))
            for i in range(firsts[latent], firsts[latent + 1]):
                pair = order[i]
                counts[pair, interval, 0] += 1
                mass[pair, interval, 0] += value
                if inside[row, which[pair]]:
                    counts[pair, interval, 1] += 1
                    mass[pair, interval, 1] += value
