"""The settings of a feature scan, and which half of the text thresholds and explanations are fitted on."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool
from torch import Tensor

_MOST = {"seed": 2**31 - 1, "chunk_entries": 1 << 30, "buffer_mb": 1 << 20, "n_before": 100, "n_after": 100}
"""What is kept of a latent is kept in memory; other fields end at 10,000."""


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """What is kept of each latent, and how much memory the counting may take.

    Measures need only the counts: n_top=0, n_per_interval=0, n_coactivations=0 and n_neighbours=0 leave out the tables
    of examples, of co-activating and of neighbouring latents, which take most of a scan's time.
    """

    n_top: int = 20
    """Strongest firings kept as examples."""
    n_intervals: int = 5
    """Equal slices of (0, max]."""
    n_per_interval: int = 10
    """Firings sampled from each interval as examples."""
    window_before: int = 20
    window_after: int = 11
    """Tokens shown on both sides of an example's firing token."""
    n_before: int = 3
    n_after: int = 1
    """How many tokens before and behind the firing token are counted. Without one behind, it is not known whether the
    tokens follow that a latent promotes."""
    n_tokens: int = 20
    """Most frequent tokens kept for each latent and offset."""
    n_logits: int = 10
    """Tokens of the largest and of the smallest logit effects kept."""
    min_occurrences: int = 1
    """Of a token in the text, for it to be among those; 0: any of the vocabulary."""
    n_neighbours: int = 10
    n_coactivations: int = 10
    strongest: int | None = None
    """Co-activation counts pairs among this many strongest latents of a row. None: among all, if there are at most 8192
    latents and 64 firings a row on average; else among 16."""
    seed: int = 0
    chunk_entries: int = 1 << 22
    """Firings read at a time, in whole sequences; about 100 bytes each."""
    buffer_mb: int = 256
    """Memory for the counts of pairs, 4 bytes for each two latents. What is over takes a further pass."""

    def __post_init__(self) -> None:
        for name in ("n_intervals", "n_tokens", "n_logits", "chunk_entries", "buffer_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        counts = ("n_top", "n_per_interval", "window_before", "window_after", "n_before", "n_after", "min_occurrences")
        for name in (*counts, "n_neighbours", "n_coactivations", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for field in fields(self):
            value, most = getattr(self, field.name), _MOST.get(field.name, 10_000)
            if not (value is None and field.name == "strongest") and not (type(value) is int and value <= most):
                raise ValueError(f"{field.name}={value!r} must be a whole number, at most {most:,}")
        if self.strongest is not None and self.strongest < 2:
            raise ValueError(f"strongest={self.strongest} must be at least 2: pairs are counted among the strongest")


def fit_half(n_seq: int) -> Bool[Tensor, " seq"]:
    """Which sequences belong to the half that is fitted on: blocks of up to 32 sequences, turn and turn about."""
    return (torch.arange(n_seq) // max(1, min(32, n_seq // 8))) % 2 == 0
