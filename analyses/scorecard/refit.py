"""What a new fit of the calibration changes, for each source of latents, judged by a fit to all others.

    print(changes(pd.read_parquet(before), pd.read_parquet(JUDGED_LATENTS)))

In: tables as `judged.calibration_latents` makes them, before and after. They have no sampling errors of the statistics,
so these count as none, and probabilities lie further from ½ than those of a ranking.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float64

from analyses.scorecard.scores import auroc, expected_calibration_error
from interp.verdict.calibration_fit import READ, fit_calibration
from interp.verdict.similarity import STATISTIC_NAMES


def held_out_probabilities(latents: pd.DataFrame) -> Float64[np.ndarray, " latent"]:
    """Return the probability of one meaning of each latent, those of each family by a fit to all others."""
    p = np.zeros(len(latents))
    for family in latents.family.unique():
        in_family = (latents.family == family).to_numpy()
        fitted = fit_calibration(latents[~in_family], fits=1)
        errors = np.zeros((in_family.sum(), len(STATISTIC_NAMES), len(STATISTIC_NAMES)))
        p[in_family] = fitted.probability(latents.loc[in_family, list(STATISTIC_NAMES)].to_numpy(float), errors).one
    return p


def changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return a row per family, and one each of all that were read and all that were planted: the number of latents, the
    AUROC, the ECE, and the share called one meaning (P ≥ ½), each before → after. What a table of other statistics
    would be before is left out."""
    scores = {
        time: _scores(table)
        for time, table in (("before", before), ("after", after))
        if {*STATISTIC_NAMES} <= {*table.columns}
    }
    return pd.concat(scores, axis=1).swaplevel(axis=1).reindex(columns=["n", "auroc", "ece", "called_one"], level=0)


def _scores(latents: pd.DataFrame) -> pd.DataFrame:
    latents = latents.reset_index(drop=True).assign(p=held_out_probabilities(latents))
    kind = latents.family.str.startswith(READ).map({True: "all read", False: "all planted"})
    rows = {}
    for name, part in [*latents.groupby(kind), *latents.groupby("family", sort=False)]:
        p, one = part.p.to_numpy(), part.is_one.to_numpy(bool)
        rows[name] = {
            "n": len(part),
            "auroc": auroc(one, p, np.ones(len(p))),
            "ece": expected_calibration_error(p, one),
            "called_one": (p >= 0.5).mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
