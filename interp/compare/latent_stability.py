"""Find the same features in another seed by their directions.

In: the decoders of two dictionaries that read the same hook of the same model. Out, with M the one-to-one matching with
the largest sum of |cosine| (Hungarian algorithm),

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|              share = mean_{(i, j) ∈ M} 1[|Ŵ_i · Ŵ'_j| ≥ threshold]

The null uses random directions, equally anisotropic, in place of Ŵ' (`verdict.measure_nulls`). Estimates have a 95 %
interval from a bootstrap over pairs.

Sources: Song et al. 2025 (arXiv 2505.20254) for PW-MCC; Paulo & Belrose 2025 (arXiv 2501.16615) for the share above
0.7, which they require of encoders too.
Cost: the matching costs O(n³) at worst, and 12 bytes for each pair of latents.
Limits: the interval covers the choice of latents, but not of the models; for these, look at the spread over seeds.
Latents that never fire have meaningless directions, so leave them out of a matching. Dictionaries that split a feature
differently disagree in their directions, but agree on the text (`compare.latent_universality`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.checks.errors import InterpError
from interp.display import cards
from interp.display.cards import Markup
from interp.features.latent_matches import match_rows
from interp.statistics.estimates import Estimate, bootstrap
from interp.verdict.measure_nulls import random_directions, second_moments


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
