"""Does another seed find the same directions? A one-to-one matching of the rows of two decoders.

In: the decoders of two dictionaries that read the same hook of the same model. Out: with M the matching of the largest
|cosine| in sum (Hungarian algorithm),

    PW-MCC = mean_{(i, j) ∈ M} |Ŵ_i · Ŵ'_j|              share = mean_{(i, j) ∈ M} 1[|Ŵ_i · Ŵ'_j| ≥ threshold]

each with a 95 % interval of a bootstrap over pairs, and the same function on random directions in place of Ŵ', which
are as anisotropic as they are (`metrics.nulls`): what chance gives.

Source: PW-MCC, Song et al. 2025 (arXiv 2505.20254); the share above .7, Paulo & Belrose 2025 (arXiv 2501.16615), who
ask it of encoders too. Cost: O(n³) at worst, and 12 bytes for each two latents.
Failing: latents that never fire keep directions that mean nothing: leave them out. Dictionaries that split a feature
differently disagree here and say the same of the text (`across_models`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.compare.estimates import Estimate, bootstrap
from interp.metrics.nulls import random_directions, second_moments
from interp.metrics.twins import matched_rows

THRESHOLD = 0.7


@dataclass(frozen=True)
class Stability:
    table: pd.DataFrame
    """A row a pair: latent, other, cosine (absolute), chance (the latent's match among random directions; NaN where the
    other dictionary is narrower and it has none)."""
    mcc: Estimate
    chance: float
    """The PW-MCC of random directions."""
    share: Estimate
    chance_share: float
    threshold: float


@torch.no_grad()
def stability(
    ours: Float[Tensor, "n d"], theirs: Float[Tensor, "m d"], *, threshold: float = THRESHOLD, seed: int = 0
) -> Stability:
    """Of unlike numbers of rows, all of the fewer are matched.

    Raises ValueError for rows of unlike widths, for none, and for a threshold that is not in 0..1.
    """
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"decoders are {ours.shape[1]} and {theirs.shape[1]} wide: they must read the same hook")
    if not (len(ours) and bool(theirs.any())):
        raise ValueError(f"decoders have {len(ours)} and {len(theirs)} rows: none is left to be matched")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold} is a cosine and must be in 0..1")
    own, other, cosine = matched_rows(ours, theirs)
    random = random_directions(second_moments(theirs.detach().float().cpu()), len(theirs), seed)
    at, _, by_chance = matched_rows(ours, random)
    chance = np.full(len(ours), np.nan)
    chance[at] = np.abs(by_chance)
    columns = {"latent": own, "other": other, "cosine": np.abs(cosine), "chance": chance[own]}
    table = pd.DataFrame(columns).sort_values("latent", ignore_index=True)
    mcc = bootstrap(np.abs(cosine), seed=seed)
    share = bootstrap((np.abs(cosine) >= threshold).astype(float), seed=seed)
    found = np.abs(by_chance)
    return Stability(table, mcc, float(found.mean()), share, float((found >= threshold).mean()), threshold)
