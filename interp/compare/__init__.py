"""Where else a feature lives: dictionaries of other models, seeds, widths and checkpoints beside one another.

In: feature stores, codes of the same tokens, or decoders. Out: small results with intervals, each beside its null.
"""

from interp.compare.absorption import absorption
from interp.compare.across_checkpoints import Lives, feature_lives
from interp.compare.across_models import Universality, universality
from interp.compare.across_seeds import Stability, stability
from interp.compare.across_widths import Splitting, splitting
from interp.compare.communities import Communities, communities
from interp.compare.model_diffing import (
    EXCLUSIVE,
    NU_ERROR,
    NU_RECONSTRUCTION,
    SHARED,
    LatentScaling,
    MeanDifference,
    diff_table,
    latent_scaling,
    mean_difference,
    relative_norms,
)
from interp.compare.neighbourhoods import Neighbourhoods, neighbourhoods
from interp.compare.pairs import Pair, open_pair
from interp.compare.sensitivity import sensitivity

__all__ = [
    "EXCLUSIVE",
    "NU_ERROR",
    "NU_RECONSTRUCTION",
    "SHARED",
    "Communities",
    "LatentScaling",
    "Lives",
    "MeanDifference",
    "Neighbourhoods",
    "Pair",
    "Splitting",
    "Stability",
    "Universality",
    "absorption",
    "communities",
    "diff_table",
    "feature_lives",
    "latent_scaling",
    "mean_difference",
    "neighbourhoods",
    "open_pair",
    "relative_norms",
    "sensitivity",
    "splitting",
    "stability",
    "universality",
]
