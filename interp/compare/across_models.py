"""Find the same features in another model or seed, by their firings on the same text or by their directions.

In: two scans, or codes, of the same tokens, by any models, hooks and widths; they may be of neurons. Out, for each
latent i that fires on at least ten rows,

    correlation_i = max_j Pearson(z_i, z'_j)          other_i: that j
    null_i        = the same with z' shifted circularly against the text, along the rows that were encoded

and the medians of both. In: the decoders of two dictionaries that read the same hook of the same model. Out, with M the
one-to-one matching with the largest sum of |cosine| (Hungarian algorithm),

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|              share = mean_{(i, j) ∈ M} 1[|Ŵ_i · Ŵ'_j| ≥ threshold]

The null uses random directions, equally anisotropic, in place of Ŵ' (`verdict.nulls`). Estimates have a 95 % interval
from a bootstrap over latents or pairs.

Sources: Towards Monosemanticity (Bricken et al. 2023), "Universality", for the maximum correlation; Harris 2020 (arXiv
2012.06862) for the shift; Song et al. 2025 (arXiv 2505.20254) for PW-MCC; Paulo & Belrose 2025 (arXiv 2501.16615) for
the share above 0.7, which they require of encoders too.
Cost: L0 L0' operations per row, twice (`features.latent_matches`). The matching costs O(n³) at worst, and 12 bytes for
each pair of latents.
Limits: the largest of many correlations is above 0 by chance, and grows with the number of latents of the other
dictionary. The null says by how much. The measure has a direction: all latents of a narrow dictionary may be found in a
wide one, but not vice versa. Two models find the same token detectors whatever they compute. The interval covers the
choice of latents, but not of the text or of the models; for models, look at the spread over seeds. Latents that never
fire have meaningless directions, so leave them out of a matching. Dictionaries that split a feature differently
disagree in their directions, but agree on the text.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.code_chunks import CodeSource
from interp.codes.sparse_codes import SparseCodes
from interp.display import cards
from interp.display.cards import Markup
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import best_matches, match_rows
from interp.features.scan_checks import check_same
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.statistics.estimates import Estimate, bootstrap
from interp.verdict.nulls import random_directions, second_moments

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


@dataclass(frozen=True)
class Stability:
    table: pd.DataFrame
    """A row per pair: latent, other, cosine (absolute), chance (the latent's match among random directions; NaN if
    there is none, because the other dictionary is narrower)."""
    mcc: Estimate
    chance: float
    """The PW-MCC of random directions."""
    share: Estimate
    chance_share: float
    threshold: float

    def __repr__(self) -> str:
        return f"Stability({len(self.table):,} pairs, PW-MCC {self.mcc}, by chance {self.chance:.3f})"

    def _repr_html_(self) -> str:
        above = f"share of pairs with a cosine of at least {self.threshold:g}"
        rows = [
            ("mean cosine of the pairs (PW-MCC)", Markup(self.mcc._repr_html_()), f"{self.chance:.2f}"),
            (above, Markup(self.share._repr_html_()), f"{self.chance_share:.2f}"),
        ]
        head = ("", "", "of random directions")
        return cards.card(f"{len(self.table):,} pairs of latents, matched one to one", cards.show_table(head, rows))


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


@torch.no_grad()
def stability(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"], *, threshold: float = 0.7, seed: int = 0
) -> Stability:
    """Match the rows of two decoders one to one. If one has fewer rows, all of them are matched.

    Raises ValueError if the rows have different widths, if there are no rows, and for a threshold that is not in 0..1.
    """
    if ours.shape[1] != theirs.shape[1]:
        raise InterpError(f"decoders are {ours.shape[1]} and {theirs.shape[1]} wide: they must read the same hook")
    if not (len(ours) and bool(theirs.any())):
        raise InterpError(f"decoders have {len(ours)} and {len(theirs)} rows: none is left to be matched")
    if not 0 <= threshold <= 1:
        raise InterpError(f"threshold={threshold} is a cosine and must be in 0..1")
    matched, other, signed = match_rows(ours, theirs)
    random = random_directions(second_moments(theirs.detach().float().cpu()), len(theirs), seed)
    match, _, signed_by_chance = match_rows(ours, random)
    cosine = np.abs(signed)
    null_cosine = np.abs(signed_by_chance)
    chance = np.full(len(ours), np.nan)
    chance[match] = null_cosine
    columns = {"latent": matched, "other": other, "cosine": cosine, "chance": chance[matched]}
    table = pd.DataFrame(columns).sort_values("latent", ignore_index=True)
    share = bootstrap((cosine >= threshold).astype(float), seed=seed)
    chance_share = float((null_cosine >= threshold).mean())
    return Stability(table, bootstrap(cosine, seed=seed), float(null_cosine.mean()), share, chance_share, threshold)


class ShiftedCodes:
    """Codes that are shifted circularly along the rows that were encoded: row encoded[i] is row encoded[(i + by) mod n]
    of `codes`. Other rows, such as padding, have no codes before and after."""

    def __init__(self, codes: CodeSource, by: int):
        self.codes = codes
        self.by = by
        self._encoded = codes.present(0, len(codes)).nonzero()[:, 0]

    @classmethod
    def draw(cls, codes: CodeSource, seed: int) -> "ShiftedCodes":
        """Shift by between a quarter and three quarters of the text."""
        n = int(codes.present(0, len(codes)).sum())
        return cls(codes, int(np.random.default_rng(seed).integers(n // 4, max(3 * n // 4, 1) + 1)))

    @property
    def d_sae(self) -> int:
        return self.codes.d_sae

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice, /) -> SparseCodes:
        start, stop, _ = rows.indices(len(self))
        stop = max(start, stop)
        first, last = torch.searchsorted(self._encoded, torch.tensor([start, stop])).tolist()
        moved = SparseCodes.cat([self._codes_of(part) for part in self._parts(first, last)])
        counts = torch.zeros(stop - start, dtype=torch.int64)
        counts[self._encoded[first:last] - start] = moved.offsets.diff()
        return SparseCodes.from_counts(counts, moved.latents, moved.values, self.d_sae)

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        return self.codes.present(start, stop)

    def _parts(self, first: int, last: int) -> list[slice]:
        """Return the encoded rows, by their numbers among all of these, whose codes the encoded rows first … last − 1
        get."""
        n = max(len(self._encoded), 1)
        first, last = first + self.by, last + self.by
        if last <= n or first >= n:
            return [slice(first % n, first % n + last - first)]
        return [slice(first, n), slice(0, last - n)]

    def _codes_of(self, part: slice) -> SparseCodes:
        """Read the codes of some encoded rows."""
        rows = self._encoded[part]
        if not len(rows):
            return self.codes[0:0]
        block = self.codes[int(rows[0]) : int(rows[-1]) + 1]
        return block.take(rows - rows[0])


def codes_of_same_text(
    ours: FeatureStore | CodeSource, theirs: FeatureStore | CodeSource
) -> tuple[CodeSource, CodeSource]:
    """Return the codes of both. Raises ValueError for scans of different tokens. For plain codes, this cannot be
    checked."""
    if isinstance(ours, FeatureStore) and isinstance(theirs, FeatureStore):
        check_same(ours, theirs, "tokens")
    our_codes, their_codes = (source.codes if isinstance(source, FeatureStore) else source for source in (ours, theirs))
    return our_codes, their_codes
