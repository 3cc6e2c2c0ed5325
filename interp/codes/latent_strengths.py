"""How strongly latents fire, and which of them are faint.

A count of dead latents misses the latents that fire but have almost no effect:

    strength of latent j   the largest z_j · ‖W_dec[j]‖ over all rows
    faint                  it fires, and its strength is below a quarter of the median over the latents that fire

Dead and faint latents together are idle. Limits: if most latents that fire are weak, the median is low, and
too few count as faint.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

FAINT_SHARE = 0.25
"""A latent is faint below this share of the median strength."""


def is_faint(maxima: Any, norms: Any = None) -> Bool[Tensor, " d_sae"]:
    """Mark the faint latents.

    maxima: each latent's strongest firing, 0 or NaN if it never fires.
    norms: the norm of each decoder row, or None if all are 1."""
    strength = latent_strengths(maxima, norms)
    fires = latent_strengths(maxima) > 0  # one whose decoder row is zero fires too
    return fires & (strength < FAINT_SHARE * strength[fires].median()) if fires.any() else fires


def latent_strengths(maxima: Any, norms: Any = None) -> Float[Tensor, " d_sae"]:
    """Return the strength of each latent, 0 if it never fires."""
    maxima = _tensor(maxima).nan_to_num(0.0)
    return maxima if norms is None else maxima * _tensor(norms).to(maxima)


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.tensor(np.asarray(values))
