"""What labels are called in captions: "python_name" is "python name", and "speech", all of which is in texts labelled
"shakespeare", is "shakespeare speech".

In: labels, and those of their masks over the scanned tokens that are known. Out: the name of each.
"""

from collections.abc import Sequence

import numpy as np

from interp.report.contexts import Labels
from interp.statistics.evenly_spread import spread_sequences

N_READ = 1 << 17
"""Tokens at which labels are compared, in whole sequences evenly spaced over those scanned."""
WITHIN = 0.99
"""Share of the tokens of a label that are those of another one, from which on it is a part of that."""


def label_names(labels: Sequence[str], masks: Labels) -> dict[str, str]:
    """Return what each label is called. A part of another label, if that is not most of the text, has the name of the
    smallest such before its own, unless it begins so."""
    plain = {label: label.replace("_", " ") for label in (*labels, *masks)}
    names = dict(plain)
    if not masks:
        return names
    n_seq, n_ctx = next(iter(masks.values())).shape
    read = spread_sequences(np.arange(n_seq), n_ctx, N_READ)
    holds = np.stack([np.asarray(mask)[read].reshape(-1) for mask in masks.values()]).astype(np.float32)
    both = holds @ holds.T
    n = both.diagonal()
    for label, n_own, n_both in zip(masks, n, both, strict=True):
        is_around = (n_both >= WITHIN * n_own) & (0 < n_own) & (n_own < n) & (2 * n < holds.shape[1])
        around = min((n[k], other) for k, other in enumerate(masks) if is_around[k]) if is_around.any() else None
        if around is not None and not plain[label].startswith(plain[around[1]]):
            names[label] = f"{plain[around[1]]} {plain[label]}"
    return names
