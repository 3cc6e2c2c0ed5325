"""What becomes of a latent at other checkpoints of a training: is it there from the start, is it born, does it
disappear?

In: codes of dictionaries at the checkpoints of one training, in order, of any widths. Let r_f(t) be the largest
correlation of latent f with any latent at checkpoint t (`features.latent_matches`). f is present at t if
r_f(t) ≥ `threshold`. A feature is a latent that no later checkpoint has: all latents of the last checkpoint, and the
latents of earlier ones that are gone afterwards. A feature is

    there     present at every checkpoint up to its last
    born      absent, then present at MIN_RUN checkpoints or more up to its last, without a gap
    passing   absent, then present at fewer: what any latent is that is found once
    flickers  anything else

For each born feature, `split` says whether a latent of the checkpoint before held it: one whose masked cosine with it
reaches the threshold. The null is the share called born after the checkpoints are shuffled.

Source: the lives are our own; Xu et al. 2024 (arXiv 2412.17626) train one dictionary on through all checkpoints
instead. Cost: for T checkpoints, T² passes over two codes, and 8 T² bytes per latent. Limits: a feature can be born and
die unseen between two checkpoints, and one that changes gradually into another is never born. One dictionary may miss
what the model has, and its luck looks like a birth or a death: give all dictionaries the same seed and tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64

from interp.codes.code_chunks import CodeSource
from interp.compare.latent_splitting import masked_edges
from interp.compare.latent_universality import MIN_FIRED
from interp.features.latent_matches import best_matches
from interp.runtime.progress import Progress, no_progress

THRESHOLD = 0.7
MIN_RUN = 3
_SHUFFLES = 50

Presence = Float64[np.ndarray, "latent checkpoint"]


@dataclass(frozen=True)
class Lives:
    table: pd.DataFrame
    """A row a feature: checkpoint (its last) and latent there, kind, born (a checkpoint; NaN of those not born), died
    (the first checkpoint without it; NaN of those that last), split (of those born; None of others)."""
    presence: Presence
    """r at each checkpoint, for the features of the table."""
    null: float
    """Share of features called born where the checkpoints are shuffled, the mean over shuffles."""

    @property
    def share_born(self) -> float:
        return float((self.table["kind"] == "born").mean())


def feature_lives(
    checkpoints: Sequence[CodeSource],
    *,
    threshold: float = THRESHOLD,
    min_fired: int = MIN_FIRED,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Lives:
    """Return the lives of latents that fire on `min_fired` rows. The seed draws the shuffles.

    Raises ValueError for fewer than MIN_RUN + 1 checkpoints, codes with different numbers of rows, a threshold that is
    not in 0..1, and where no latent fires enough."""
    n = len(checkpoints)
    if n <= MIN_RUN:
        raise ValueError(f"{n} checkpoints are too few: a birth shows in at least {MIN_RUN + 1}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} is a correlation and must be above 0 and at most 1")
    alive, correlations = [], []
    for i, codes in enumerate(checkpoints):
        matches = []
        for j, other in enumerate(checkpoints):
            matches.append(best_matches(codes, other))
            progress(i * n + j + 1, n * n, "correlations")
        alive.append(np.flatnonzero(matches[i].fired >= min_fired))
        correlations.append(np.stack([each.correlation for each in matches], 1)[alive[i]])
    if not any(map(len, alive)):
        raise ValueError(f"no latent fires on min_fired={min_fired} rows: take more text")
    table, presence = lives_of_latents(correlations, threshold)
    table["latent"] = [alive[c][at] for c, at in zip(table["checkpoint"], table["latent"], strict=True)]
    generator, shuffled = np.random.default_rng(seed), []
    for _ in range(_SHUFFLES):
        order = generator.permutation(n)
        shuffled_correlations = [correlations[c][:, order] for c in order]
        shuffled.append((lives_of_latents(shuffled_correlations, threshold)[0]["kind"] == "born").mean())
    table["split"] = _splits(table, checkpoints, threshold, min_fired)
    return Lives(table, presence, float(np.mean(shuffled)))


def lives_of_latents(presence: Sequence[Presence], threshold: float) -> tuple[pd.DataFrame, Presence]:
    """Return the lives, from the correlations of the latents of each checkpoint with those of all others. Features with
    the longest lives come first, and among these the earliest born."""
    parts, kept = [], []
    for c, r in enumerate(presence):
        present = r >= threshold
        present[:, c] = True
        ending = np.flatnonzero(~present[:, c + 1 :].any(1))
        # How many in a row have it up to c, without a gap.
        run = np.argmin(np.column_stack([present[ending, c::-1], np.zeros(len(ending), bool)]), 1)
        start = c + 1 - run
        gap = np.array([present[f, :s].any() for f, s in zip(ending, start, strict=True)], bool)
        kind = np.where(gap, "flickers", np.where(start == 0, "there", np.where(run >= MIN_RUN, "born", "passing")))
        born = np.where(kind == "born", start, np.nan)
        died = np.full(len(ending), np.nan if c == len(presence) - 1 else c + 1)
        parts.append(pd.DataFrame({"checkpoint": c, "latent": ending, "kind": kind, "born": born, "died": died}))
        kept.append(r[ending])
    table = pd.concat(parts, ignore_index=True)
    order = table.sort_values(["checkpoint", "born"], ascending=[False, True], na_position="last", kind="stable").index
    return table.loc[order].reset_index(drop=True), np.concatenate(kept)[order]


def _splits(
    table: pd.DataFrame, checkpoints: Sequence[CodeSource], threshold: float, min_fired: int
) -> list[bool | None]:
    """Return whether a latent of the checkpoint before a birth held what was born."""
    split: list[bool | None] = [None] * len(table)
    for _, rows in table[table["kind"] == "born"].groupby(["checkpoint", "born"]):
        before, last = checkpoints[int(rows["born"].iloc[0]) - 1], checkpoints[int(rows["checkpoint"].iloc[0])]
        edges = masked_edges(before, last, threshold, min_fired)[0]
        for row, latent in zip(rows.index, rows["latent"], strict=True):
            split[row] = bool((edges["other"] == latent).any())
    return split
