"""Which latents a newcomer should meet first.

In: a ranking, or any table with its columns. Out: some of its rows: surely of one meaning, with a rule in words that
holds and can be read, no two rules alike. The command line, a ranking that shows itself and the page choose by this.
"""

from typing import Any

import pandas as pd

from interp.display.verdict_looks import MIN_F1

MAX_ALIKE = 0.5
"""Words that the rules of two latents shown may share, of all the words of both."""
_NEEDED = ("verdict", "sure", "explanation", "explanation_f1", "token_entropy")


def has_rule(ranking: pd.DataFrame) -> pd.Series:
    """Whether the rule of a latent has MIN_F1 or more; of a ranking without rules none has."""
    if "explanation_f1" not in ranking:
        return pd.Series(False, ranking.index)
    return ranking["explanation_f1"].fillna(0) >= MIN_F1


def rule_holds(ranking: pd.DataFrame) -> pd.Series:
    """Whether a latent has a rule that names no bytes of characters, and is not known to be one that the model did not
    learn."""
    holds = has_rule(ranking)
    if "explanation" in ranking:
        holds &= ~ranking["explanation"].fillna("⟨").str.contains("⟨")
    return holds & (ranking["learnt"].fillna(1) >= 0.5) if "learnt" in ranking else holds


def worth_a_look(ranking: pd.DataFrame, n: int) -> list[Any]:
    """The index of at most n rows, those first whose rules predict most: by the square of the rule's F1 times the
    entropy of the tokens that it predicts."""
    if not set(_NEEDED) <= set(ranking):
        return []
    one = ranking[(ranking["verdict"] == "monosemantic") & ranking["sure"].eq(True) & rule_holds(ranking)]
    order = one.assign(worth=one["explanation_f1"] ** 2 * one["token_entropy"]).dropna(subset=["worth"])
    order = order.sort_values(["worth", "explanation_f1"], ascending=False, kind="stable")
    chosen: list[Any] = []
    rules: list[set[str]] = []
    for place, explanation in order["explanation"].items():
        rule = set(str(explanation).replace(",", " ").split())
        if len(chosen) < n and all(len(rule & r) <= MAX_ALIKE * len(rule | r) for r in rules):
            chosen.append(place)
            rules.append(rule)
    return chosen
