"""Finds where else a feature lives, in dictionaries of other models, seeds, widths and checkpoints; and in which texts.

In: feature stores, codes of the same tokens, or decoders. Out: small results with intervals, each beside its null.
"""

from interp.compare.across_corpora import Corpora, corpora
from interp.compare.across_models import MIN_FIRED, Estimate, stability, universality
from interp.compare.lineage import splitting
from interp.compare.pairs import Pair, open_pair

__all__ = [
    "MIN_FIRED",
    "Corpora",
    "Estimate",
    "Pair",
    "corpora",
    "open_pair",
    "splitting",
    "stability",
    "universality",
]
