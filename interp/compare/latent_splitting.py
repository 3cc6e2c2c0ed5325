"""Find whether a latent is kept or splits in a wider dictionary.

Given a narrow and a wider dictionary of the same activations, an edge leads from latent i of the narrow one to latent j
of the wide one if their masked cosine is at least 0.7. This is the cosine of the two activations on the rows where j
fires,

    masked_ij = Σ_{z'_j > 0} z_i z'_j / √(Σ_{z'_j > 0} z_i² · Σ z'_j²)

which is near 1 if j is a part of i, however small; the plain cosine would be small. Each wide latent belongs to its
best narrow latent (`is_best`). A narrow latent has split if two or more wide latents belong to it. The null counts the
edges on shifted codes.

Source: feature splitting and the masked cosine, Towards Monosemanticity (Bricken et al. 2023); the threshold is ours.
Cost: L0 L0' operations per row for each of three sums, twice. Limits: a dense latent is active on the rows of every
other latent, so if it fires evenly, everything is a part of it. A wide latent that takes firings from two narrow
latents has only one parent here.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.checks.errors import InterpError
from interp.codes.code_chunks import CodeSource
from interp.compare.latent_universality import MIN_FIRED
from interp.compare.shifted_codes import ShiftedCodes, codes_of_same_text
from interp.display.cards import card
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import joint_sums
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.statistics.estimates import ratio

MIN_COSINE_OF_PARENT = 0.7


@dataclass(frozen=True)
class Splitting:
    edges: pd.DataFrame
    """A row per edge: latent (narrow), other (wide), masked, both (rows on which both fire), share (of the wide
    latent's firings at which the narrow latent fires too), is_best (among the wide latent's edges). They are sorted by
    narrow latent, each with its best edge first."""
    children: pd.DataFrame
    """A row per narrow latent with enough firings: latent, fired, children (the number of wide latents that belong to
    it)."""
    share_with_parent: float
    """Share of the wide latents with enough firings that have an edge."""
    null: float
    """The same share on shifted text, which is the null."""
    n_wide: int
    """Number of wide latents with enough firings."""

    @property
    def n_split(self) -> int:
        return int((self.children["children"] >= 2).sum())

    def __repr__(self) -> str:
        return f"Splitting({self.n_split:,} of {len(self.children):,} latents split)"

    def _repr_html_(self) -> str:
        title = f"{self.n_split:,} of {len(self.children):,} latents split in the wider dictionary"
        share = f"{self.share_with_parent:.0%} of the wider one's latents fire on a part of a narrow one's firings"
        return card(title, f"{share}; on shifted text {self.null:.0%}.")


@shows_progress
def splitting(
    narrow: FeatureStore | CodeSource,
    wide: FeatureStore | CodeSource,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Splitting:
    """Find which latents of the narrow dictionary split, and into which latents of the wide one. Raises ValueError if
    the narrow dictionary has more latents than the wide one, and for scans of different tokens."""
    if narrow.d_sae > wide.d_sae:
        raise InterpError(f"the narrow dictionary has {narrow.d_sae} latents, the wide one {wide.d_sae}: swap them")
    narrow_codes, wide_codes = codes_of_same_text(narrow, wide)
    limits = MIN_COSINE_OF_PARENT, MIN_FIRED, progress
    edges, *fired = masked_edges(narrow_codes, wide_codes, *limits)
    null_counts = masked_edges(narrow_codes, ShiftedCodes.draw(wide_codes, seed), *limits)[0]
    best = edges.sort_values("masked", ascending=False, kind="stable").drop_duplicates("other").index
    edges["is_best"] = edges.index.isin(best)
    alive = np.flatnonzero(fired[0] >= MIN_FIRED)
    n_wide = max(int((fired[1] >= MIN_FIRED).sum()), 1)
    n_children = np.bincount(edges["latent"][edges["is_best"]], minlength=narrow_codes.d_sae)[alive]
    return Splitting(
        edges.reset_index(drop=True),
        pd.DataFrame({"latent": alive, "fired": fired[0][alive].astype(int), "children": n_children}),
        edges["other"].nunique() / n_wide,
        null_counts["other"].nunique() / n_wide,
        n_wide,
    )


def masked_edges(
    narrow: CodeSource, wide: CodeSource, min_cosine: float, min_fired: int, progress: Progress = no_progress
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return the edges, and the number of firings of each narrow and each wide latent."""
    parts = []
    fired = (np.zeros(narrow.d_sae), np.zeros(wide.d_sae))
    for sums in joint_sums(narrow, wide, [(1, 1), (2, 0), (0, 0)], progress):
        products, squares, both = sums.products
        fired = sums.ours.fired, sums.theirs.fired
        masked = ratio(products, np.sqrt(squares * sums.theirs.squares), empty=0.0)
        enough = np.outer(fired[0][sums.latents] >= min_fired, fired[1] >= min_fired)
        row, j = np.nonzero((masked >= min_cosine) & enough)
        columns = {"latent": sums.latents[row], "other": j, "masked": masked[row, j], "both": both[row, j].astype(int)}
        parts.append(pd.DataFrame({**columns, "share": both[row, j] / fired[1][j]}))
    edges = pd.concat(parts, ignore_index=True)
    return edges.sort_values(["latent", "masked"], ascending=[True, False], ignore_index=True), fired[0], fired[1]
