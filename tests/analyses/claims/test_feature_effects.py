"""The range of multiples over which steering works, found by hand."""

import numpy as np
import pandas as pd

from analyses.claims.feature_effects import useful_range


def test_the_useful_range_ends_where_the_loss_breaks_or_the_concept_falls():
    doses = pd.DataFrame({"multiple": [np.nan, 0, 1, 2, 4, 8], "concept": [0.1, 0.05, 0.2, 0.4, 0.6, 0.7]})
    doses["loss"] = [3, 3, 3, 3.5, 4, 9.0]
    assert useful_range(doses, 5.0) == (1, 4)
    assert useful_range(doses, 3.2) is None
    assert useful_range(doses.assign(concept=[0.1, 0, 0.2, 0.15, 0.3, 0.5]), 10.0) == (4, 8)
