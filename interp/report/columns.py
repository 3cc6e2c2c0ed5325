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
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """One row of a feature's evidence: where its value and z stand among the evidence columns, and what they mean."""

    title: str
    meaning: str
    null: str
    value: int | None
    z: int | None


# column of the ranking → title, what it measures, the null that its z is taken against
KNOWN = {
    "coherence": (
        "Coherence",
        "centred cosine between the contexts in which it fires, weighted by activation",
        "the same activations on shuffled contexts",
    ),
    "consistency": (
        "Consistency",
        "do weak firings have the contexts of strong ones?",
        "intervals drawn from shuffled activations",
    ),
    "n_senses": ("Senses", "modes among its contexts", "mode counts of shuffled activations"),
    "senses": ("Senses", "how well its contexts split into modes", "mode counts of shuffled activations"),
    "token_entropy": ("Token entropy (nats)", "how many different tokens it fires on: 0 is a single one", ""),
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


def table_columns(store: FeatureStore, features: pd.DataFrame, ranking: pd.DataFrame, vocab: list[str]) -> dict:
    """Column → list over the latents; verdicts and labels as places in their lists of names."""
    tokens = store.sql(f"""
        select latent, token from tokens where "offset" = 0
        qualify row_number() over (partition by latent order by n desc, token) <= {N_TOKENS}
        order by latent, n desc, token""")
    top: dict[int, list[str]] = {}
    for latent, token in zip(tokens["latent"].tolist(), tokens["token"].tolist(), strict=True):
        top.setdefault(latent, []).append(vocab[token])
    verdicts, verdict = _coded(ranking["verdict"])
    labels, label = _coded(features["best_label"]) if "best_label" in features else ([], [None] * len(features))
    return {
        "verdicts": verdicts,
        "labels": labels,
        "verdict": verdict,
        "monosemanticity": _numbers(ranking, "monosemanticity", 3),
        "low": _numbers(ranking, "ci_low", 3),
        "high": _numbers(ranking, "ci_high", 3),
        "senses": _numbers(ranking, "n_senses", 3),
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
