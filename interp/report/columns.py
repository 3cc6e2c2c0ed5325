"""The page's table of all features, column by column, and what the ranking says of each latent in words.

In: features and ranking, one row a latent. Out: plain lists for JSON, small enough to load before the first paint.
"""

from typing import Any

import pandas as pd

from interp.features.feature_store import FeatureStore
from interp.figures.population import UNTESTED
from interp.report.payloads import number

N_TOKENS = 8
VERDICTS = {
    "monosemantic": "its firings are more likely to have one meaning than several",
    "polysemantic": "its firings are more likely to have several meanings than one",
    "lexical": "almost all of its activation lies on one token and its variants in case and space",
    "too_rare": "it fires in too few places to tell one meaning from two",
    "dense": "it fires on so many tokens that it splits the text rather than marks a meaning in it",
    "faint": "it fires, but never a quarter as strongly as the median latent: it does next to nothing",
    "dead": "it never fired on the tokens scanned",
    "unranked": "these features were not ranked",
}
MIN_F1 = 0.3
"""Held-out F1 below which a rule or a label tells a reader nothing."""
VIEWS = {"same": "token itself", "previous_same": "previous token itself", "next_same": "next token itself"}
"""Those views whose name does not say what they compare."""
EXPLAINED = ("precision", "recall", "f1_one", "n_examples", "bits", "f1_by_interval")


def explanations(ranking: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """What there is of EXPLAINED (columns `explanation_…`) for each latent that has an explanation."""
    if "explanation" not in ranking:
        return {}
    given = {f"explanation_{name}": name for name in EXPLAINED if f"explanation_{name}" in ranking}
    rows = ranking.loc[ranking["explanation"].fillna("") != "", list(given)].rename(columns=given)
    return {
        int(latent): {str(name): _plain(value) for name, value in row.items()}
        for latent, row in zip(rows.index, rows.to_dict("records"), strict=True)
        if row
    }


def _plain(value: Any) -> Any:
    return [number(each, 3) for each in value] if hasattr(value, "__len__") else number(value, 3)


def views(ranking: pd.DataFrame) -> dict[int, str]:
    """The view in which the firings of each latent are most alike, where the ranking says."""
    if "view" not in ranking:
        return {}
    said = ranking["view"].dropna()
    named = zip(said.index.tolist(), said.tolist(), strict=True)
    return {latent: VIEWS.get(name, name.replace("_", " ")) for latent, name in named if name}


def table_columns(store: FeatureStore, features: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, list]:
    """Column → list over the latents; verdicts and labels as places in their lists of names. A label
    that it detects with an F1 below MIN_F1 is left out."""
    tested = ranking.mask(ranking["verdict"].isin(UNTESTED))
    verdicts, verdict = _coded(ranking["verdict"])
    named = features["best_label"].where(features["best_label_f1"] >= MIN_F1) if "best_label" in features else None
    labels, label = _coded(pd.Series(None, features.index, dtype=object) if named is None else named)
    top = top_tokens(store, N_TOKENS)
    return {
        "verdicts": verdicts,
        "verdict_words": [VERDICTS.get(name, "") for name in verdicts],
        "labels": labels,
        "verdict": verdict,
        "monosemanticity": _numbers(tested, "monosemanticity"),
        "sure": _column(tested, "sure"),
        "low": _numbers(tested, "ci_low"),
        "high": _numbers(tested, "ci_high"),
        "learnt": _numbers(tested, "learnt"),
        "senses": _numbers(tested, "n_senses"),
        "explanation": [text or "" for text in _column(ranking, "explanation")],
        "explanation_f1": _numbers(ranking, "explanation_f1"),
        "density": _numbers(features, "density"),
        "max": _numbers(features, "max"),
        "fvu_rise": _numbers(features, "fvu_rise"),
        "tokens": [top.get(latent, []) for latent in range(len(features))],
        "label": label,
        "label_f1": _numbers(features, "best_label_f1"),
    }


def top_tokens(store: FeatureStore, n: int) -> dict[int, list[str]]:
    """The `n` commonest firing tokens of each latent that fires, as text."""
    tokens = store.sql(f"""
        select latent, token from tokens where "offset" = 0
        qualify row_number() over (partition by latent order by n desc, token) <= {n}
        order by latent, n desc, token""")
    top: dict[int, list[str]] = {}
    for latent, token in zip(tokens["latent"].tolist(), tokens["token"].tolist(), strict=True):
        top.setdefault(latent, []).append(store.vocab[token])
    return top


def _coded(column: pd.Series) -> tuple[list[str], list[int | None]]:
    """The names in order, and the place of each value among them; None where there is none."""
    places, names = pd.factorize(column, sort=True)
    return list(names), [int(place) if place >= 0 else None for place in places]


def _column(table: pd.DataFrame, name: str) -> list[Any]:
    """The values, None where there is none."""
    if name not in table:
        return [None] * len(table)
    return table[name].astype(object).where(table[name].notna(), None).tolist()


def _numbers(table: pd.DataFrame, name: str) -> list:
    return [number(value, 3) for value in _column(table, name)]
