"""The table of all features, column by column, and the words for the evidence behind a verdict.

In: features and ranking, one row a latent. Out: plain lists for JSON, small enough to load before the first paint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.report.chunks import number

if TYPE_CHECKING:
    import pandas as pd

    from interp.features import FeatureStore

N_TOKENS = 8
SHOWN_ELSEWHERE = {
    "latent", "monosemanticity", "ci_low", "ci_high", "verdict", "explanation", "explanation_f1", "density", "n_active",
    "n_sequences", "burstiness",
}  # fmt: skip
UNTESTED = ("dead", "too_rare", "unranked")
"""Verdicts whose scores stand for "not tested", not for a measurement."""
VERDICTS = {
    "monosemantic": "its contexts are more likely one meaning than a union of several",
    "polysemantic": "its contexts are more likely a union of several meanings than one",
    "lexical": "almost all of its activation lies on one token and its variants in case and space",
    "too_rare": "it fires in too few places to tell one meaning from two",
    "dense": "it fires on so many tokens that it splits the text rather than marks a meaning in it",
    "dead": "it never fired on the tokens scanned",
    "unranked": "these features were not ranked",
}


@dataclass(frozen=True)
class Evidence:
    """One row of a feature's evidence: where its value and z stand among the evidence columns, and what they mean."""

    title: str
    meaning: str
    null: str
    value: int | None
    z: int | None


SHIFTED = "the same firings on shifted text"
# column of the ranking → title, what it measures, the null that its z is taken against
KNOWN = {
    "coherence": ("Coherence", "mean cosine of the contexts of two firings, weighted by activation", SHIFTED),
    "token_coherence": ("Token coherence", "the same of the firing tokens themselves", SHIFTED),
    "consistency": ("Consistency", "weak and strong firings have like contexts: 1 is alike", SHIFTED),
    "n_senses": ("Senses", "modes among its contexts", SHIFTED),
    "separation": ("Separation", "depth of the valley between two senses, in standard deviations", SHIFTED),
    "token_entropy": ("Token entropy (nats)", "how many different tokens it fires on: 0 is a single one", ""),
    "token_share": ("Share of the commonest token", "of its activation, with variants in case and space", ""),
    "explanation_precision": ("Precision of the explanation", "held out", ""),
    "explanation_recall": ("Recall of the explanation", "held out", ""),
}


def evidence_rows(ranking: pd.DataFrame) -> tuple[list[str], list[Evidence]]:
    """The numeric columns to send, and the rows to show: each score beside its z, unknown scores by their own name.
    `ranking.attrs["nulls"]` (column → words) overrides what is said of a null."""
    columns = [c for c in ranking.columns if c not in SHOWN_ELSEWHERE and ranking[c].dtype.kind in "fiub"]
    place = {column: index for index, column in enumerate(columns)}
    said: dict[str, str] = ranking.attrs.get("nulls", {})
    rows = []
    for column in columns:
        if column.endswith("_z"):
            stem = column.removesuffix("_z")
            if stem in place or f"n_{stem}" in place:
                continue
            title, meaning, null = KNOWN.get(stem, (_title(stem), "", "its null"))
            rows.append(Evidence(title, meaning, said.get(stem, null), None, place[column]))
            continue
        z = place.get(f"{column}_z", place.get(f"{column.removeprefix('n_')}_z"))
        title, meaning, null = KNOWN.get(column, (_title(column), "", "its null"))
        rows.append(Evidence(title, meaning, said.get(column, null) if z is not None else "", place[column], z))
    return columns, rows


def table_columns(store: FeatureStore, features: pd.DataFrame, ranking: pd.DataFrame) -> dict:
    """Column → list over the latents; verdicts and labels as places in their lists of names."""
    tokens = store.sql(f"""
        select latent, token from tokens where "offset" = 0
        qualify row_number() over (partition by latent order by n desc, token) <= {N_TOKENS}
        order by latent, n desc, token""")
    top: dict[int, list[str]] = {}
    for latent, token in zip(tokens["latent"].tolist(), tokens["token"].tolist(), strict=True):
        top.setdefault(latent, []).append(store.vocab[token])
    verdicts, verdict = _coded(ranking["verdict"])
    tested = ranking.mask(ranking["verdict"].isin(UNTESTED))
    labels, label = _coded(features["best_label"]) if "best_label" in features else ([], [None] * len(features))
    return {
        "verdicts": verdicts,
        "verdict_words": [VERDICTS.get(name, "") for name in verdicts],
        "labels": labels,
        "verdict": verdict,
        "monosemanticity": _numbers(tested, "monosemanticity", 3),
        "low": _numbers(tested, "ci_low", 3),
        "high": _numbers(tested, "ci_high", 3),
        "senses": _numbers(tested, "n_senses", 3),
        "explanation": [text if isinstance(text, str) else "" for text in _column(ranking, "explanation")],
        "explanation_f1": _numbers(ranking, "explanation_f1", 3),
        "density": _numbers(features, "density", 3),
        "max": _numbers(features, "max", 3),
        "tokens": [top.get(latent, []) for latent in range(len(features))],
        "label": label,
        "label_f1": _numbers(features, "best_label_f1", 3),
    }


def _coded(column: pd.Series) -> tuple[list[str], list[int | None]]:
    names = sorted({name for name in column if isinstance(name, str)})
    place = {name: index for index, name in enumerate(names)}
    return names, [place.get(name) if isinstance(name, str) else None for name in column]


def _column(table: pd.DataFrame, name: str) -> list[Any]:
    return table[name].tolist() if name in table else [None] * len(table)


def _numbers(table: pd.DataFrame, name: str, digits: int) -> list:
    import pandas as pd

    return [None if pd.isna(value) else number(value, digits) for value in _column(table, name)]


def _title(column: str) -> str:
    return column.replace("_", " ").capitalize().replace("f1", "F1")
