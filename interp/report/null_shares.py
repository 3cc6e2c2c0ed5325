"""Compare the share of latents with one meaning with the same share of the dictionary's nulls.

In: the tables of a report. Out: the shares of each dictionary with their intervals, the closest null, and what they
show.

The nulls may learn from fewer tokens than the dictionary of the page. So they are compared with `SAE`, a dictionary
with the same settings that learns from as many tokens, and is judged by as many latents on the same text.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES, MATCHED, TWIN
from interp.display.verdict_looks import VERDICT_LOOKS
from interp.display.verdict_names import IDLE, MONOSEMANTIC, ONE_MEANING_ROW
from interp.report.inputs import ReportInputs
from interp.report.json_text import number
from interp.statistics.estimates import Estimate, difference
from interp.verdict.verdict_shares import verdict_shares

OWN_NAME = "this page's dictionary"


def closest_null(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the share of one meaning of the dictionary, trained as its nulls were (`matched`), and the share of the
    closest null, each as a row of `share_rows`, and their difference with its 95 % interval. Returns None if nulls are
    unknown."""
    rows = [row for row in share_rows(inputs) if row["one"]]
    nulls = [row for row in rows if row["kind"] == "null"]
    matched = next((row for row in rows if row["kind"] == "matched"), None)
    if matched is None or not nulls:
        return None
    nearest = max(nulls, key=lambda row: row["one"][0])
    between = difference(Estimate(*matched["one"]), Estimate(*nearest["one"]))
    return {"matched": matched, "null": nearest, "difference": [number(x, 4) for x in between]}


def nulls_account(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the shares of all dictionaries, what they show (`finding`), and a sentence on how they are made comparable
    (`account`)."""
    rows = share_rows(inputs)
    if not rows:
        return None
    return {"verdicts": _verdicts_in(inputs), "rows": rows, "finding": _finding(rows), "account": _account(rows)}


def _finding(rows: list[dict[str, Any]]) -> str:
    """Say whether the share of one meaning distinguishes this dictionary from all others, and what follows if it does
    not; nothing if it is not known."""
    one = {row["dictionary"]: row["one"] for row in rows if row["one"]}
    others = [name for name in one if name not in (OWN_NAME, MATCHED, TWIN)]
    if MATCHED not in one or not others:
        return ""
    _, low, _ = one[MATCHED]
    near = [f"the {name}" for name in others if one[name][2] >= low]
    if not near:
        return "At equal training, its share with one meaning is above that of all that it is compared with."
    return (
        f"At equal training, about as many features of {' and '.join(near)} have one meaning, or more. So "
        "a feature that has one meaning need not be one that the model learnt."
    )


def _account(rows: list[dict[str, Any]]) -> str:
    """Explain how the dictionaries are made comparable; nothing if none is like this one."""
    alike = next((row for row in rows if row["dictionary"] == MATCHED), None)
    if alike is None:
        return ""
    trained = f", trained on {alike['trained']:,} tokens" if alike["trained"] else ""
    return (
        f"The nulls have the same settings as the dictionary{trained}, but no way to learn what the model learnt; "
        f"{alike['judged']:,} features of each were judged on the same text."
    )


def share_rows(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the shares of each dictionary with their intervals, first those of this page. There are none if nulls are
    unknown. The kind of a dictionary is own (that of this page), matched (the same settings, for comparison with the
    nulls), reference (another dictionary that shows what the model learnt) or null. `title` is its name next to the
    others."""
    if inputs.nulls is None or inputs.nulls.shares.empty:
        return []
    verdicts = _verdicts_in(inputs)
    rows: list[dict[str, Any]] = []
    for name, part in pd.concat([*_this_dictionary(inputs), inputs.nulls.shares]).groupby("dictionary", sort=False):
        counted = part.set_index("verdict").reindex([*verdicts, ONE_MEANING_ROW, *IDLE]).fillna({"n": 0})
        counts_by_verdict = counted.to_dict("index")
        first = part.iloc[0]
        compared = COMPARED_DICTIONARIES.get(str(name))
        kind = "own" if name == OWN_NAME else compared.role if compared else "null"
        rows.append({
            "dictionary": str(name),
            "kind": kind,
            "title": {"own": "this dictionary", "matched": "judged as the nulls"}.get(kind, str(name)),
            "means": compared.meaning if compared else "all features that were ranked" if kind == "own" else "",
            "trained": number(first.get("trained_tokens")),
            "judged": number(first.get("latents")),
            "of": int(part["n"][~part["verdict"].isin([ONE_MEANING_ROW, *IDLE])].sum()),
            "one": _share(counts_by_verdict, ONE_MEANING_ROW),
            "shares": [_share(counts_by_verdict, verdict) for verdict in verdicts],
            "unsure": _share(counts_by_verdict, MONOSEMANTIC, "unsure"),
            **{verdict: int(counts_by_verdict[verdict]["n"]) for verdict in IDLE},
        })  # fmt: skip
    most = rows[0]["trained"] or 0
    for row in rows:
        if row["kind"] == "matched" and most > (row["trained"] or math.inf):
            row["title"] = f"after {format_large(row['trained'])} tokens"
    return rows


def format_large(n: int) -> str:
    """Format a large number in two digits, such as 1.2M."""
    rounded = float(f"{n:.2g}")
    sizes = ((1e9, "B"), (1e6, "M"), (1e3, "K"), (0, ""))
    size, unit = next((size, unit) for size, unit in sizes if rounded >= size)
    return f"{rounded / (size or 1):g}{unit}"


def _verdicts_in(inputs: ReportInputs) -> list[str]:
    assert inputs.nulls is not None
    in_nulls = set(inputs.nulls.shares["verdict"])
    return [verdict for verdict in VERDICT_LOOKS if verdict not in IDLE and verdict in in_nulls]


def _this_dictionary(inputs: ReportInputs) -> list[pd.DataFrame]:
    """Return the shares of the ranking that the page shows. The nulls have fewer judged latents and fewer tokens."""
    if inputs.ranking is None or inputs.verdicts["sure"].isna().all():
        return []
    training = inputs.curves.get("sae")
    tokens = None if training is None or "tokens" not in training else training["tokens"].max()
    shares = verdict_shares(inputs.ranking)
    return [shares.assign(dictionary=OWN_NAME, latents=len(inputs.ranking), trained_tokens=tokens)]


def _share(
    counts_by_verdict: Mapping[Any, Mapping[Any, Any]], verdict: str, part: str = ""
) -> list[float | None] | None:
    """Return a share with its interval: of the latents with the verdict, or of those that are `unsure` between it and
    another verdict."""
    columns = [f"{part}_share", f"{part}_low", f"{part}_high"] if part else ["share", "ci_low", "ci_high"]
    counts = counts_by_verdict.get(verdict, {})
    if not set(columns) <= counts.keys():
        return None
    cells = [number(counts[column]) for column in columns]
    return None if None in cells else cells  # type: ignore[return-value]
