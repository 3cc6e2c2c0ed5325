"""Does another model have the same feature? The activation of each latent against that of any latent of the other.

In: two scans, or codes, of the same tokens; they may be of other models, seeds, hooks and widths, and of neurons. Out,
for each latent i that fires on at least `min_fired` rows,

    correlation_i = max_j Pearson(z_i, z'_j)          other_i: that j
    null_i        = the same with z' shifted circularly against the text

and the medians of both with a 95 % interval of a bootstrap over latents.

Source: max activation correlation, Towards Monosemanticity (Bricken et al. 2023), "Universality"; the shift, Harris
2020 (arXiv 2012.06862). Cost: L0 L0' a row, twice (`metrics.joint_sums`).
Failing: the largest of many correlations is above 0 by chance, and the more so the more latents the other has: the
null says how much. It is directed: a narrow dictionary's latents may all be found in a wide one, and not the other
way. Two models find the same token detectors whatever they compute. The interval is of the latents, not of the text
or of models: seeds of models are to be compared by their spread.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from interp.codes import SparseCodes
from interp.compare.estimates import Estimate, bootstrap
from interp.features.feature_store import FeatureStore
from interp.files import Progress, no_progress
from interp.metrics.twins import best_matches
from interp.monosemanticity.firings import CodeSource

MIN_FIRED = 10
"""Of fewer firings a correlation is what chance makes it."""


@dataclass(frozen=True)
class Universality:
    table: pd.DataFrame
    """A row a latent that fires enough: latent, fired (rows), other, correlation, null."""
    median: Estimate
    """Of `correlation`."""
    null: Estimate
    """The median of `null`."""
    shift: int
    """Rows by which the null was shifted."""


@dataclass(frozen=True)
class ShiftedCodes:
    """Row i of these is row (i + by) mod n of `codes`."""

    codes: CodeSource
    by: int

    @property
    def d_sae(self) -> int:
        return self.codes.d_sae

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice, /) -> SparseCodes:
        return SparseCodes.cat([self.codes[part] for part in self._parts(rows)])

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        if not hasattr(self.codes, "present"):
            return torch.ones(stop - start, dtype=torch.bool)
        return torch.cat([self.codes.present(part.start, part.stop) for part in self._parts(slice(start, stop))])

    def _parts(self, rows: slice) -> list[slice]:
        start, stop, _ = rows.indices(len(self))
        first, last, n = start + self.by, max(start, stop) + self.by, len(self)
        if last <= n or first >= n:
            return [slice(first % n, first % n + last - first)]
        return [slice(first, n), slice(0, last - n)]


def universality(
    ours: FeatureStore | CodeSource,
    theirs: FeatureStore | CodeSource,
    *,
    min_fired: int = MIN_FIRED,
    seed: int = 0,
    buffer_mb: int = 256,
    progress: Progress = no_progress,
) -> Universality:
    """Each of our latents, in theirs. The seed draws the shift, between a quarter and three quarters of the text.

    Raises ValueError for scans of unlike tokens, codes of unlike numbers of rows, and where no latent fires enough.
    """
    check_same_text(ours, theirs)
    own, other = codes_of(ours), codes_of(theirs)
    shift = drawn_shift(len(own), seed)
    found = best_matches(own, other, buffer_mb, progress)
    null = best_matches(own, ShiftedCodes(other, shift), buffer_mb, progress)
    columns = {"latent": np.arange(own.d_sae), "fired": found.fired.astype(int), "other": found.other}
    table = pd.DataFrame({**columns, "correlation": found.correlation, "null": null.correlation})
    table = table[table["fired"] >= min_fired].reset_index(drop=True)
    if table.empty:
        most = int(found.fired.max())
        raise ValueError(f"no latent fires on min_fired={min_fired} rows, but at most on {most}: take more text")
    median = bootstrap(table["correlation"].to_numpy(), np.median, seed=seed)
    return Universality(table, median, bootstrap(table["null"].to_numpy(), np.median, seed=seed), shift)


def codes_of(source: FeatureStore | CodeSource) -> CodeSource:
    return source.codes if isinstance(source, FeatureStore) else source


def drawn_shift(n_rows: int, seed: int) -> int:
    """Between a quarter and three quarters of the text."""
    return int(np.random.default_rng(seed).integers(n_rows // 4, max(3 * n_rows // 4, 1) + 1))


def check_same_text(ours: FeatureStore | CodeSource, theirs: FeatureStore | CodeSource) -> None:
    """Raises ValueError for scans of unlike tokens; codes do not say of which they are."""
    if not (isinstance(ours, FeatureStore) and isinstance(theirs, FeatureStore)):
        return
    if ours.tokens.shape != theirs.tokens.shape or not torch.equal(ours.tokens, theirs.tokens):
        raise ValueError(f"{theirs.path} is a scan of other tokens than {ours.path}: scan both over the same")
