"""The table of all features, column by column, and the words for the evidence behind a verdict.

In: features and ranking, one row a latent. Out: plain lists for JSON, small enough to load before the first paint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.report.payloads import number

if TYPE_CHECKING:
    import pandas as pd

    from interp.features.feature_store import FeatureStore

N_TOKENS = 8
SHOWN_ELSEWHERE = {
    "latent", "monosemanticity", "ci_low", "ci_high", "verdict", "explanation", "explanation_f1",
    "explanation_precision", "explanation_recall", "explanation_f1_one", "explanation_n_examples", "explanation_bits",
    "density", "n_active", "n_sequences", "sure",
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
    """One row of a feature's evidence: where its numbers stand among the evidence columns, and what they mean."""

    title: str
    meaning: str
    null: str
    """What the z and the band are taken against; "" where there is no null."""
    value: int | None
    z: int | None
    low: int | None
    high: int | None
    """The central 95 % of the null for a latent of its size."""
    domain: tuple[float, float] | None
    """The ends of its bar: nearly all latents and nearly all of their nulls lie between. None: there is no bar."""


SHIFTED = "the same firings on shifted text"
DIRECTIONS = "random directions"
LIKE_DECODER = "random directions, as anisotropic as the decoder"
ANY = "what follows any token"
THROWN = "as many firings anywhere in the text"
OUTLIERS = 0.01
"""Share of the latents on either side that may lie beyond the ends of a bar."""
# column of the ranking → title, what it measures, the null that its z is taken against
KNOWN = {
    "effect_size": ("Effect size", "how far its firings stand out from the text, in standard deviations", SHIFTED),
    "core_share": ("Core share", "share of its activation at firings that stand out", SHIFTED),
    "consistency": ("Consistency", "what weak firings share with strong ones: 1 is all", SHIFTED),
    "cosine": ("Alike", "mean cosine of two sampled firings, in their surroundings or their tokens", SHIFTED),
    "between_within_ratio": (
        "Kinship of its parts",
        "what two parts share, over what each has in common: near 0 is two meanings",
        SHIFTED,
    ),
    "between_similarity": ("In common", "what the two least akin parts share", SHIFTED),
    "within_similarity": ("Of their own", "what the firings of either part have in common", SHIFTED),
    "part_share": ("Poorer part", "its share of the activation", SHIFTED),
    "context_coherence": ("Coherence", "mean cosine of the contexts of two firings, weighted by activation", SHIFTED),
    "token_coherence": ("Token coherence", "the same of the firing tokens themselves", SHIFTED),
    "n_senses": ("Senses", "parts into which its firings fall", SHIFTED),
    "separation": ("Separation", "depth of the valley between two senses, in standard deviations", SHIFTED),
    "token_share": ("Share of the commonest token", "of its activation, with variants in case and space", SHIFTED),
    "token_entropy": ("Token entropy (nats)", "how many different tokens it fires on: 0 is a single one", SHIFTED),
    "best_token_concentration": (
        "Token concentration",
        "at the offset where it is largest, 3 before to 1 after: 1 is always one token",
        SHIFTED,
    ),
    "next_auroc": (
        "What follows",
        "does it raise the tokens that follow it? ½: no more than any, 1: above all others",
        ANY,
    ),
    "enc_dec_cosine": ("Encoder and decoder", "cosine of the direction it reads and the one it writes", LIKE_DECODER),
    "max_cosine": ("Nearest direction", "largest cosine with another latent's decoder row", LIKE_DECODER),
    "label_f1": ("Nearest label", "F1 of the label that it detects best, held out: 1 is the label itself", SHIFTED),
    "burstiness": ("Burstiness", "firings in a sequence that has any", THROWN),
    "twin_cosine": ("Twin seed", "cosine with the nearest latent of a dictionary from another seed", LIKE_DECODER),
    "twin_correlation": ("Twin's activation", "largest correlation with a latent of that dictionary", SHIFTED),
}
EVEN = "_even"
"""Suffix of the measures of a split whose poorer part has a third of the activation."""


def evidence_rows(ranking: pd.DataFrame) -> tuple[list[str], list[Evidence]]:
    """The numeric columns to send, and the rows to show, of a ranking `with_evidence`: each score x beside x_z and the
    band from x_null_low to x_null_high, where there are any; unknown scores by their own name. Columns without a number
    stay in the ranking. `ranking.attrs["nulls"]` (column → words) overrides what is said of a null."""
    numeric = [c for c in ranking.columns if ranking[c].dtype.kind in "fiub" and ranking[c].notna().any()]
    columns = [c for c in numeric if c not in SHOWN_ELSEWHERE]
    place = {column: index for index, column in enumerate(columns)}
    said: dict[str, str] = ranking.attrs.get("nulls", {})
    rows = []
    for column in columns:
        stem = _stem(column)
        if stem != column and (stem in place or not column.endswith("_z")):
            continue
        z, low, high = (place.get(f"{stem}{suffix}") for suffix in ("_z", "_null_low", "_null_high"))
        title, meaning, null = _known(stem)
        null = said.get(stem, null) if z is not None or low is not None else ""
        value = place.get(stem)
        shown = [columns[at] for at in (value, low, high) if at is not None] if value is not None else []
        rows.append(Evidence(title, meaning, null, value, z, low, high, _domain(ranking, shown)))
    return columns, rows


def with_evidence(ranking: pd.DataFrame) -> pd.DataFrame:
    """Each statistic x of the column `evidence` as the columns x, x_z, x_null_low and x_null_high."""
    import pandas as pd

    from interp.monosemanticity.ranking import ranking_evidence

    if "evidence" not in ranking:
        return ranking
    wide: dict[str, Any] = {}
    for measure, rows in ranking_evidence(ranking).groupby("measure", sort=False):
        rows = rows.set_index("latent").reindex(ranking["latent"])
        suffixes = {"value": "", "z": "_z", "null_low": "_null_low", "null_high": "_null_high"}
        wide |= {f"{measure}{suffix}": rows[name].to_numpy() for name, suffix in suffixes.items()}
    rest = ranking.drop(columns=["evidence", *(name for name in wide if name in ranking)])
    joined: pd.DataFrame = pd.concat([rest, pd.DataFrame(wide, index=ranking.index)], axis="columns")
    joined.attrs = ranking.attrs
    return joined


def _stem(column: str) -> str:
    return column.removesuffix("_z").removesuffix("_null_low").removesuffix("_null_high")


def _known(stem: str) -> tuple[str, str, str]:
    if stem.endswith(EVEN) and stem.removesuffix(EVEN) in KNOWN:
        title, meaning, null = KNOWN[stem.removesuffix(EVEN)]
        return f"{title}, of an even split", meaning, null
    return KNOWN.get(stem, (_title(stem), "", "its null"))


def _domain(ranking: pd.DataFrame, columns: list[str]) -> tuple[float, float] | None:
    import numpy as np

    tested = ranking[~ranking["verdict"].isin(UNTESTED)] if "verdict" in ranking else ranking
    parts = [part[np.isfinite(part)] for part in (tested[column].to_numpy(float) for column in columns)]
    ends = [np.quantile(part, [OUTLIERS, 1 - OUTLIERS]) for part in parts if len(part)]
    if not ends:
        return None
    low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    return (number(low), number(high)) if high > low else None  # type: ignore[return-value]


RESPECTS = {"same": "token itself", "previous_same": "previous token itself", "next_same": "next token itself"}


def respects(ranking: pd.DataFrame) -> dict[int, str]:
    """In what the firings of each latent are most alike, where the ranking says."""
    if "view" not in ranking:
        return {}
    said = zip(ranking.index.tolist(), ranking["view"].tolist(), strict=True)
    return {
        latent: RESPECTS.get(name, name.replace("_", " ")) for latent, name in said if isinstance(name, str) and name
    }


EXPLAINED = ("precision", "recall", "f1_one", "n_examples", "bits", "f1_by_interval")


def explanations(ranking: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """What there is of EXPLAINED (columns `explanation_…`) for each latent that has an explanation."""
    given = [name for name in EXPLAINED if f"explanation_{name}" in ranking]
    if not given:
        return {}
    rows = ranking[[f"explanation_{name}" for name in given]].itertuples(index=True, name=None)
    said = ranking["explanation"].tolist() if "explanation" in ranking else [""] * len(ranking)
    return {
        int(latent): {name: _plain(value) for name, value in zip(given, values, strict=True)}
        for (latent, *values), words in zip(rows, said, strict=True)
        if isinstance(words, str) and words
    }


def _plain(value: Any) -> Any:
    return [number(each, 3) for each in value] if hasattr(value, "__len__") else number(value, 3)


def table_columns(store: FeatureStore, features: pd.DataFrame, ranking: pd.DataFrame) -> dict:
    """Column → list over the latents; verdicts and labels as places in their lists of names."""
    import pandas as pd

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
        "sure": [None if pd.isna(x) else bool(x) for x in _column(tested, "sure")],
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
