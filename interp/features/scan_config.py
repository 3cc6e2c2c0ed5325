"""The amounts of data that a scan keeps for each latent."""

from dataclasses import dataclass
from typing import Annotated

from interp.checks.limits import CheckedFields, Seed, between

_MAX_KEPT = 10_000
"""What is kept of a latent is held in memory."""
_Kept = Annotated[int, between(0, _MAX_KEPT)]
_KeptOne = Annotated[int, between(1, _MAX_KEPT)]


@dataclass(frozen=True, kw_only=True)
class ScanConfig(CheckedFields):
    """The amounts of data that are kept for each latent.

    Measures need only the counts. The tables of examples, of co-activating and of neighbouring latents take most of a
    scan's time. To leave them out, set n_top=0, n_per_interval=0, n_coactivations=0 and n_neighbours=0.
    """

    n_top: _Kept = 20
    """Strongest firings kept as examples."""
    n_per_interval: _Kept = 10
    """Firings sampled from each interval of a latent's range as examples."""
    n_before: Annotated[int, between(0, 100)] = 3
    """Number of tokens before the firing token that are counted, besides the firing token and the one after it."""
    n_tokens: _KeptOne = 20
    """Number of the most frequent tokens kept for each latent and offset."""
    n_logits: _KeptOne = 10
    """Number of tokens kept with the largest, and with the smallest, logit effects."""
    n_neighbours: _Kept = 10
    """Number of latents kept with the nearest decoder directions."""
    n_coactivations: _Kept = 10
    """Number of latents kept that fire together with a latent."""
    seed: Seed = 0
    """Seed of the samples of firings."""
