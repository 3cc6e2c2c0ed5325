"""Meta-structure: are a dictionary's directions made of one another?

Each unit decoder row is approximated by at most `ATOMS` other rows, added and never subtracted, by matching pursuit:

    r ← r − max_j (r · d_j)₊ d_j,    j not the row itself,    explained = 1 − ‖r‖²

    composed   the mean of what `ATOMS` others explain, minus the same for a random dictionary of the same size: the
               decoder's rows, mixed with one another by a random rotation, which preserves their second moments and
               nothing else
    twins      the share of rows of which one other row explains `TWIN`: the same direction twice

Latents that fire on none of the given rows are left out, since nothing trained them.

Limits: it looks at directions, not at firings. Two latents may be composed of each other and never fire together. With
more rows than dimensions squared, any direction is close to some sum of others, hence the comparison with the random
dictionary. (Meta-SAEs, Leask et al. 2025, arXiv 2502.04878, train a dictionary on the rows in place of the pursuit.)
"""

from typing import Any

import numpy as np
import scipy.fft
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.codes.dictionary import Dictionary

ATOMS = 4
TWIN = 0.9
ROWS = 512
"""Approximated at once."""


def structure(dictionary: Dictionary, x: Float[Tensor, "row d_in"], seed: int) -> dict[str, Any]:
    """Return the numbers above; `explained` by 1 .. ATOMS rows and `by chance` the same of the random dictionary."""
    fires = fired(dictionary, x)
    rows = torch.nn.functional.normalize(dictionary.W_dec.detach().float()[fires], dim=1)
    explained, chance = pursuit(rows), pursuit(random_rows(rows, seed))
    return {
        "composed": float(explained[:, -1].mean() - chance[:, -1].mean()),
        "twins": float((explained[:, 0] >= TWIN).float().mean()),
        "explained": explained.mean(0).tolist(),
        "by chance": chance.mean(0).tolist(),
        "quartiles": explained[:, -1].quantile(torch.tensor([0.25, 0.5, 0.75])).tolist(),
        "rows": int(fires.sum()),
    }


def pursuit(rows: Float[Tensor, "row d_in"]) -> Float[Tensor, "row atom"]:
    """Return the share of each unit row's square that 1 .. ATOMS others explain."""
    explained = []
    for first in range(0, len(rows), ROWS):
        residual = rows[first : first + ROWS].clone()
        index = torch.arange(len(residual))
        shares = []
        for _ in range(ATOMS):
            along = residual @ rows.T
            along[index, first + index] = 0
            best, atom = along.max(1)
            residual -= best.clamp(min=0)[:, None] * rows[atom]
            shares.append(1 - residual.square().sum(1))
        explained.append(torch.stack(shares, 1))
    return torch.cat(explained)


def random_rows(rows: Float[Tensor, "row d_in"], seed: int) -> Float[Tensor, "row d_in"]:
    """Return as many unit rows with the same second moments. Each is the sum of all given rows with random signs."""
    random = np.random.default_rng(seed)
    mixed = rows.numpy()
    for _ in range(2):
        signs = random.choice([-1.0, 1.0], len(mixed)).astype(np.float32)
        mixed = scipy.fft.dct(signs[:, None] * random.permutation(mixed), axis=0, norm="ortho")
    return torch.nn.functional.normalize(torch.from_numpy(mixed), dim=1)


def fired(dictionary: Dictionary, x: Float[Tensor, "row d_in"]) -> Bool[Tensor, " d_sae"]:
    """Return the latents that fire on these rows."""
    fires = torch.zeros(dictionary.d_sae, dtype=torch.bool)
    for part in x.split(4096):
        codes = dictionary.codes(part)
        fires[codes.latents[codes.fires].long()] = True
    return fires
