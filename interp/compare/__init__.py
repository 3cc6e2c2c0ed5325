"""Find a feature again in dictionaries of other models, seeds, widths and checkpoints, and the texts in which it fires.

In: feature stores, codes of the same tokens, or decoders. Out: small results with intervals, each with its null.
"""

from interp.compare.across_corpora import Corpora as Corpora
from interp.compare.across_corpora import corpora as corpora
from interp.compare.across_models import MIN_FIRED as MIN_FIRED
from interp.compare.across_models import stability as stability
from interp.compare.across_models import universality as universality
from interp.compare.lineage import splitting as splitting
from interp.compare.pairs import Pair as Pair
from interp.compare.pairs import open_pair as open_pair
from interp.statistics.estimates import Estimate as Estimate
