"""Where else a feature lives: dictionaries of other models, seeds, widths and checkpoints beside one another.

In: feature stores, codes of the same tokens, or decoders. Out: small results with intervals, each beside its null.
"""

from interp.compare.across_models import MIN_FIRED, Estimate, stability, universality
from interp.compare.lineage import MIN_RUN, feature_lives, splitting
from interp.compare.model_diffing import LatentScaling, diff_table, latent_scaling, mean_difference, relative_norms
from interp.compare.neighbourhoods import communities, neighbourhoods
from interp.compare.pairs import Pair, open_pair
from interp.compare.rules_at_work import absorption, sensitivity

__all__ = ["MIN_FIRED", "MIN_RUN", "Estimate", "LatentScaling", "Pair", "absorption", "communities", "diff_table"]
__all__ += ["feature_lives", "latent_scaling", "mean_difference", "neighbourhoods", "open_pair", "relative_norms"]
__all__ += ["sensitivity", "splitting", "stability", "universality"]
