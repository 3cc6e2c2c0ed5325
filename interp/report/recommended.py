"""Which features to look at first: an order for all of them, and a handful that show what there is.

In: features and ranking, one row a latent, dead ones too, in the same order. Out: latents.
"""

import numpy as np
import pandas as pd

from interp.report.columns import MIN_F1

MAX_TOKEN_SHARE = 0.5
"""Share of the activation on its commonest token up to which a latent fires on many tokens."""
MAX_ALIKE = 0.5
"""Words that the rules of two features shown may share, of all the words of both."""


def recommended_order(features: pd.DataFrame, ranking: pd.DataFrame) -> list[int]:
    """The latents in the order in which a newcomer should meet them: first those surely of one meaning with a rule of
    MIN_F1 or more, on many tokens before on one; then other sure ones, single-token ones, unsure ones, those not
    judged, faint ones, and dead ones last. Within each group by the rule's F1, then by the variance that they explain,
    or where that is not known by the sum of their activations."""
    verdict, n_active = ranking["verdict"], features["n_active"]
    sure = ranking["sure"].eq(True) if "sure" in ranking else pd.Series(True, ranking.index)
    f1 = ranking["explanation_f1"].fillna(0) if "explanation_f1" in ranking else pd.Series(0.0, ranking.index)
    share = ranking["token_share"] if "token_share" in ranking else features["top_token_share"]
    good = sure & (verdict == "monosemantic") & (f1 >= MIN_F1)
    groups = [
        n_active == 0,
        verdict == "faint",
        good & (share <= MAX_TOKEN_SHARE),
        good,
        verdict == "lexical",
        sure & verdict.isin(["monosemantic", "polysemantic"]),
        verdict.isin(["monosemantic", "polysemantic"]),
    ]
    group = np.select([each.to_numpy() for each in groups], [7, 6, 0, 1, 3, 2, 4], default=5)
    explains = features["fvu_rise"] if "fvu_rise" in features and features["fvu_rise"].notna().any() else None
    contribution = (features["mean"] * n_active if explains is None else explains).fillna(0)
    return np.lexsort((ranking.index, -contribution, -f1, group)).tolist()


def worth_showing(features: pd.DataFrame, ranking: pd.DataFrame, n: int = 5) -> list[int]:
    """At most `n` latents surely of one meaning whose rules predict most, no two with rules alike: by the square of
    the rule's F1 times the entropy of the tokens that it predicts. The last place is for one surely of several
    meanings, where there is one. Rules that name bytes of characters are left to the table."""
    if "explanation" not in ranking:
        return []
    sure, f1 = ranking["sure"].eq(True), ranking["explanation_f1"].fillna(0)
    readable = sure & (f1 >= MIN_F1) & ~ranking["explanation"].fillna("⟨").str.contains("⟨")
    worth = (f1**2 * features["token_entropy"])[readable].sort_values(ascending=False, kind="stable")
    verdict = ranking["verdict"].loc[worth.index]
    several = worth.index[(verdict == "polysemantic") & (ranking["n_senses"].loc[worth.index] > 1)].tolist()[:1]
    chosen: list[int] = []
    rules: list[set[str]] = []
    for latent in worth.index[verdict == "monosemantic"]:
        rule = set(str(ranking.at[latent, "explanation"]).replace(",", " ").split())
        if len(chosen) < n - len(several) and all(len(rule & r) <= MAX_ALIKE * len(rule | r) for r in rules):
            chosen.append(int(latent))
            rules.append(rule)
    return chosen + [int(latent) for latent in several]
