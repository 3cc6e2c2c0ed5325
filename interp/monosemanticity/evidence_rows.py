"""The evidence of a ranking as its column `evidence`, and as a table.

In: what the verdicts are made of, the measures, and the nulls of both. Out: of each latent, a row a statistic or
measure that it has: `measure`, `value`, `z`, `null_low`, `null_high`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from interp.metrics.null_scale import NullScale
from interp.monosemanticity.evidence import NAMES, Evidence

EVIDENCE = ("measure", "value", "z", "null_low", "null_high")


def evidence_rows(
    evidence: Evidence,
    measures: Mapping[str, Float64[np.ndarray, " d_sae"]],
    scales: Mapping[str, NullScale],
    latents: Int64[np.ndarray, " latent"],
) -> pd.Series:
    """Of some latents, a list of dictionaries each; None where there is no null."""
    n_senses = np.where(evidence.testable, evidence.n_senses, np.nan)
    stated: dict[str, tuple[np.ndarray, NullScale | None]]
    stated = {name: (evidence.of(name), evidence.null(name)) for name in (*NAMES[2:], *NAMES[:2])}
    stated |= {"n_senses": (n_senses, evidence.senses_null)}
    stated |= {name: (values, scales.get(name)) for name, values in measures.items()}
    listed: dict[int, list[dict[str, Any]]] = {int(latent): [] for latent in latents}
    for name, (values, null) in stated.items():
        numbers = np.column_stack([values, *(null or np.full((3, len(values)), np.nan))])[latents]
        known = np.isfinite(numbers)
        as_stated = np.where(known, numbers.astype(object), None)
        for place in np.flatnonzero(known[:, 0]):
            listed[int(latents[place])].append(dict(zip(EVIDENCE, (name, *as_stated[place]), strict=True)))
    return pd.Series(list(listed.values()), index=latents, dtype=object)


def ranking_evidence(ranking: pd.DataFrame, latent: int | None = None) -> pd.DataFrame:
    """What the verdict of a latent is made of, and its measures: `measure`, `value`, `z`, `null_low`, `null_high`, NaN
    where there is no null. Without a latent: of all, with their `latent`.

    Raises ValueError where the ranking has no such latent, or no evidence.
    """
    if "evidence" not in ranking:
        raise ValueError("the ranking has no column evidence: an earlier version made it; rank the features again")
    rows = ranking if latent is None else ranking[ranking["latent"] == latent]
    if latent is not None and rows.empty:
        raise ValueError(f"latent={latent} is not in the ranking")
    pairs = zip(rows["latent"], rows["evidence"], strict=True)
    listed = [{"latent": at, **row} for at, own in pairs if isinstance(own, list | np.ndarray) for row in own]
    table = pd.DataFrame(listed, columns=["latent", *EVIDENCE]).astype(dict.fromkeys(EVIDENCE[1:], float))
    return table if latent is None else table.drop(columns="latent")
