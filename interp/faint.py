"""Latents that fire and yet do next to nothing, which a count of dead ones misses.

    strength of latent j   the largest z_j · ‖W_dec[j]‖ of all rows
    faint                  it fires, and its strength is below a quarter of the median of those that fire

Dead and faint latents together are idle. Failing: where most latents are faint the median is that of a faint one.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

FAINT = 0.25


def is_faint(maxima: Any, norms: Any = None) -> Bool[Tensor, " d_sae"]:
    """maxima: each latent's strongest firing, 0 or NaN where it never fires; norms: of its decoder row, None = 1."""
    strength = strengths(maxima, norms)
    fires = strength > 0
    return fires & (strength < FAINT * strength[fires].median()) if fires.any() else fires


def strengths(maxima: Any, norms: Any = None) -> Float[Tensor, " d_sae"]:
    """Of each latent, 0 where it never fires."""
    found = _tensor(maxima).nan_to_num(0.0)
    return found if norms is None else found * _tensor(norms).to(found)


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.tensor(np.asarray(values))
