"""The options of a ranking that a configuration and a command have too."""

from dataclasses import dataclass
from typing import Annotated

from interp.checks.limits import CheckedFields, Seed, between

N_SHIFTS = 2
MAX_SHIFTS = 1000
"""Largest number of shifts of the text: two suffice, each takes as long as the ranking, and memory grows with their
number."""


@dataclass(frozen=True, kw_only=True)
class RankingConfig(CheckedFields):
    n_shifts: Annotated[int, between(1, MAX_SHIFTS)] = N_SHIFTS
    """Circular shifts of the text, which give the null of each measure. Latents of similar size share them, so two
    suffice. More are used if the nulls of all latents would have fewer than 100 values: with two shifts, if fewer than
    50 latents fire."""
    seed: Seed = 0
    """Seed of the shifts, and of the firings that are compared."""
    use_labels: bool = False
    """Let explanations name the corpus's labels; verdicts never use them."""
    judge_faint: bool = False
    """Test faint latents too, which have almost no effect, and give them a verdict like any other."""
