"""Find the same features in another model or seed, by their firings on the same text.

In: two scans, or codes, of the same tokens, by any models, hooks and widths; they may be of neurons. Out, for each
latent i that fires on at least ten rows,

    correlation_i = max_j Pearson(z_i, z'_j)          other_i: that j
    null_i        = the same with z' shifted circularly against the text, along the rows that were encoded

and the medians of both, with a 95 % interval from a bootstrap over latents.

Sources: Towards Monosemanticity (Bricken et al. 2023), "Universality", for the maximum correlation; Harris 2020 (arXiv
2012.06862) for the shift.
Cost: L0 L0' operations per row, twice (`features.latent_matches`).
Limits: the largest of many correlations is above 0 by chance, and grows with the number of latents of the other
dictionary. The null says by how much. The measure has a direction: all latents of a narrow dictionary may be found in a
wide one, but not vice versa. Two models find the same token detectors whatever they compute. The interval covers the
choice of latents, but not of the text or of the models; for models, look at the spread over seeds.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.checks.errors import InterpError
from interp.codes.code_chunks import CodeSource
from interp.compare.shifted_codes import ShiftedCodes, codes_of_same_text
from interp.display import cards
from interp.display.cards import Markup
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import best_matches
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.statistics.estimates import Estimate, bootstrap

MIN_FIRED = 10
"""Least number of firings for a meaningful correlation."""


@dataclass(frozen=True)
class Universality:
    table: pd.DataFrame
    """A row per latent with enough firings: latent, fired (rows), other, correlation, null."""
    median: Estimate
    """The median of `correlation`."""
    null: Estimate
    """The median of `null`."""
    shift: int
    """Encoded rows by which the null was shifted."""

    def __repr__(self) -> str:
        return f"Universality({len(self.table):,} latents, median correlation {self.median}, null {self.null})"

    def _repr_html_(self) -> str:
        rows = [("Median of the best correlations", Markup(self.median._repr_html_()), Markup(self.null._repr_html_()))]
        return cards.card(
            f"{len(self.table):,} latents in the other", cards.show_table(("", "", "on shifted text"), rows)
        )


@shows_progress
def universality(
    ours: FeatureStore | CodeSource,
    theirs: FeatureStore | CodeSource,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Universality:
    """Find, for each of our latents, the most correlated of theirs. The seed determines the shift, which is between a
    quarter and three quarters of the text.

    Raises ValueError for scans of different tokens, codes of different numbers of rows, and if no latent fires enough.
    """
    our_codes, their_codes = codes_of_same_text(ours, theirs)
    shifted = ShiftedCodes.draw(their_codes, seed)
    matches, shifted_matches = (
        best_matches(our_codes, their_codes, progress),
        best_matches(our_codes, shifted, progress),
    )
    columns = {"latent": np.arange(our_codes.d_sae), "fired": matches.fired.astype(int), "other": matches.other}
    table = pd.DataFrame({**columns, "correlation": matches.correlation, "null": shifted_matches.correlation})
    table = table[table["fired"] >= MIN_FIRED].reset_index(drop=True)
    if table.empty:
        most = int(matches.fired.max())
        raise InterpError(f"no latent fires on {MIN_FIRED} rows, but at most on {most}: take more text")
    median, null_median = (bootstrap(table[name].to_numpy(), np.median, seed=seed) for name in ("correlation", "null"))
    return Universality(table, median, null_median, shifted.by)
