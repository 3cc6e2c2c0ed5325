"""Summarize a ranking: the share of latents with each verdict, with its interval.

In: a ranking, or any table with its columns `verdict`, `sure` and `n_senses`.
"""

from collections.abc import Callable
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from interp.display import cards
from interp.display.cards import Markup
from interp.display.verdict_names import (
    BY_PROBABILITY,
    IDLE,
    MONOSEMANTIC,
    ONE_MEANING_ROW,
    ONE_MEANING_VERDICTS,
    POLYSEMANTIC,
    VERDICTS,
)
from interp.statistics.estimates import wilson
from interp.verdict.ranking_tables import has_rule


def verdict_shares(ranking: pd.DataFrame) -> pd.DataFrame:
    """Count the latents of each verdict, and those whose verdict is sure. Returns a row per verdict, with its `n` and
    the following shares of the latents that are neither dead nor faint, with 95 % intervals (Wilson):

        share, ci_low, ci_high                  those that have the verdict; NaN for dead and faint
        sure_share, sure_low, sure_high         those that have it and are `sure` of it
        unsure_share, unsure_low, unsure_high   those that are monosemantic or polysemantic without being `sure`: the
                                                interval of each contains ½

    The last six are NaN for verdicts that do not depend on the probability.

    The last row, `one_meaning`, counts monosemantic and single-token latents together.
    """
    works = int((~ranking["verdict"].isin(IDLE)).sum())
    unsure = ranking["verdict"].isin(BY_PROBABILITY) & ~ranking["sure"].astype(bool)
    rows = []
    for verdict in (*VERDICTS, ONE_MEANING_ROW):
        is_sum = verdict == ONE_MEANING_ROW
        has_verdict = ranking["verdict"].isin(ONE_MEANING_VERDICTS if is_sum else (verdict,))
        judged = is_sum or verdict in BY_PROBABILITY
        shares = {("share", "ci_low", "ci_high"): int(has_verdict.sum()) if verdict not in IDLE else None}
        shares["sure_share", "sure_low", "sure_high"] = int((has_verdict & ~unsure).sum()) if judged else None
        shares["unsure_share", "unsure_low", "unsure_high"] = int(unsure.sum()) if judged else None
        rows.append({"verdict": verdict, "n": int(has_verdict.sum())})
        for names, k in shares.items():
            share = (np.nan,) * 3 if k is None else (k / max(works, 1), *wilson(k, works))
            rows[-1] |= dict(zip(names, share, strict=True))
    return VerdictShares(rows)


class VerdictShares(pd.DataFrame):
    """A DataFrame with the shares of verdicts. In a notebook it draws each share with its interval."""

    @property
    def _constructor(self) -> Callable[..., "VerdictShares"]:
        return VerdictShares

    def _repr_html_(self) -> str | None:
        if not {"verdict", "n", "share", "ci_low", "ci_high", "sure_share"} <= set(self.columns):
            return super()._repr_html_()  # type: ignore[misc]
        rows = []
        for row in self[self["n"] > 0].to_dict(orient="records"):
            sure = row["sure_share"]
            name = (
                Markup("<b>one meaning</b>")
                if row["verdict"] == ONE_MEANING_ROW
                else cards.verdict_badge(row["verdict"])
            )
            share = cards.interval_mark(row["share"], row["ci_low"], row["ci_high"])
            rows.append((name, f"{row['n']:,}", share, "" if isnan(sure) else f"{sure:.2f}"))
        note = "Shares count the latents that are neither dead nor faint, with 95 % intervals."
        return cards.card("Verdicts", cards.show_table(("verdict", "latents", "share", "surely so"), rows), note)


def verdict_counts(ranking: pd.DataFrame) -> dict[str, Any]:
    """Count latents for a summary. `verdicts` is the number of latents with each verdict, `unsure` the number with a
    verdict by probability whose interval contains ½, `inseparable` the number of polysemantic latents with one sense,
    and `without_rule` the number of monosemantic latents without a rule in words that holds."""
    probable = ranking[ranking["verdict"].isin(BY_PROBABILITY)]
    has_no_rule = (ranking["verdict"] == MONOSEMANTIC) & ~has_rule(ranking) & ("explanation" in ranking)
    return {
        "verdicts": ranking["verdict"].value_counts().to_dict(),
        "unsure": (~probable["sure"].astype(bool)).groupby(probable["verdict"]).sum().to_dict(),
        "inseparable": int(((ranking["verdict"] == POLYSEMANTIC) & (ranking["n_senses"] == 1)).sum()),
        "without_rule": int(has_no_rule.sum()),
    }
