"""The share of latents with one meaning, compared with the same share of the dictionary's nulls.

In: the tables of a report. Out: for each dictionary its shares with their intervals; the null that comes closest; and
sentences that name the dictionaries from which this share distinguishes it.

The nulls learn from fewer tokens than the dictionary of the page may have had: they are compared with `SAE`, the same
settings learnt from the same number of tokens, and judged on the same number of latents and the same text.
"""

import math
from typing import Any

import pandas as pd

from interp.display.verdict_looks import VERDICT_LOOKS
from interp.display.verdict_names import IDLE, MONOSEMANTIC, ONE_MEANING
from interp.report.inputs import ReportInputs
from interp.report.json_text import between, number, percent
from interp.verdict.verdict_shares import verdict_shares

THIS = "this page's dictionary"
ALIKE = "SAE"
KINDS = {THIS: "own", ALIKE: "matched"} | dict.fromkeys(("twin seed", "neurons", "coordinates"), "reference")
"""These reflect what the model learnt. All others are nulls."""
DICTIONARIES = {
    THIS: "all features that were ranked",
    ALIKE: "the same settings, trained on as many tokens as the nulls",
    "twin seed": "the same settings from another seed",
    "neurons": "the neurons of the MLP, no dictionary",
    "coordinates": "the coordinates of the activations themselves, no dictionary",
    "frozen decoder": "the same settings, with a decoder that stays random",
    "frozen encoder": "the same settings, with an encoder that stays random",
    "soft-frozen decoder": "the same settings, with decoder rows that stay near their random start",
    "shuffled model": "the same settings on a model whose weights are shuffled",
    "untrained model": "the same settings on the model before any training",
}


def closest_null(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the share of one meaning of the dictionary, trained as its nulls were, and the share of the closest null,
    each as a row of `share_rows`. Returns None if nulls are unknown."""
    rows = [row for row in share_rows(inputs) if row["one"]]
    nulls = [row for row in rows if row["kind"] == "null"]
    matched = next((row for row in rows if row["kind"] == "matched"), None)
    if matched is None or not nulls:
        return None
    return {"matched": matched, "null": max(nulls, key=lambda row: row["one"][0])}


def nulls_account(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the shares of all dictionaries, and sentences that describe them and name those from which the share
    distinguishes this one."""
    rows = share_rows(inputs)
    if not rows:
        return None
    return {"verdicts": _verdicts_in(inputs), "rows": rows, "sentences": _account(rows)}


def _account(rows: list[dict[str, Any]]) -> list[str]:
    """Explain how the dictionaries are made comparable, and from which of them the share of one meaning distinguishes
    this one."""
    by_name = {row["dictionary"]: row for row in rows}
    if ALIKE not in by_name:
        return []
    alike = by_name[ALIKE]
    this = by_name.get(THIS, {})
    trained = f", trained on {alike['trained']:,} tokens" if alike["trained"] else ""
    again = ""
    if (this.get("trained") or 0) > (alike["trained"] or this.get("trained") or 0):
        again = (
            f" This dictionary had {this['trained']:,}; a second one was trained on as many tokens as the nulls, "
            "so that they can be compared."
        )
    sentences = [
        f"The nulls have the same settings as the dictionary{trained}, but no way to learn what the model learnt; "
        f"{alike['judged']:,} features of each were judged on the same text.{again}"
    ]
    one = {name: row["one"] for name, row in by_name.items() if row["one"]}
    others = {name: interval for name, interval in one.items() if name not in (THIS, ALIKE, "twin seed")}
    if ALIKE not in one or not others:
        return sentences
    share, low, high = one[ALIKE]
    below = [name for name, (_, _, above) in others.items() if above < low]
    near = [name for name in others if name not in below]
    parts = {"more than in": below, "not clearly more than in": near}
    comparison = "; ".join(f"{words} {', '.join(names)}" for words, names in parts.items() if names)
    return [
        f"{alike['title'][0].upper()}{alike['title'][1:]}, {percent(share)} [{between(low, high)}] of its features "
        f"have one meaning: {comparison}.",
        *sentences,
    ]


def share_rows(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the shares of each dictionary with their intervals, this page's first; empty where nulls are not known.
    The kind of each is: own (this page's), matched (the same settings, to be compared with the nulls), reference
    (another dictionary that shows what the model learnt) or null. `title`: its name next to the others."""
    if inputs.nulls is None or inputs.nulls.shares.empty:
        return []
    verdicts = _verdicts_in(inputs)
    rows: list[dict[str, Any]] = []
    for name, part in pd.concat([*_this_dictionary(inputs), inputs.nulls.shares]).groupby("dictionary", sort=False):
        by_verdict = part.set_index("verdict").reindex([*verdicts, ONE_MEANING, *IDLE]).fillna({"n": 0})
        first = part.iloc[0]
        kind = KINDS.get(str(name), "null")
        rows.append({
            "dictionary": str(name),
            "kind": kind,
            "title": {"own": "this dictionary", "matched": "judged as the nulls"}.get(kind, str(name)),
            "means": DICTIONARIES.get(str(name), ""),
            "trained": number(first.get("trained_tokens")),
            "judged": number(first.get("latents")),
            "of": int(part["n"][~part["verdict"].isin([ONE_MEANING, *IDLE])].sum()),
            "one": _share(by_verdict, ONE_MEANING),
            "shares": [_share(by_verdict, verdict) for verdict in verdicts],
            "unsure": _share(by_verdict, MONOSEMANTIC, "unsure"),
            **{verdict: int(by_verdict["n"].to_dict()[verdict]) for verdict in IDLE},
        })  # fmt: skip
    most = rows[0]["trained"] or 0
    for row in rows:
        if row["kind"] == "matched" and most > (row["trained"] or math.inf):
            row["title"] = f"after {in_short(row['trained'])} tokens"
    return rows


def in_short(n: int) -> str:
    """Format a large number in two digits, such as 1.2M."""
    rounded = float(f"{n:.2g}")
    sizes = ((1e9, "B"), (1e6, "M"), (1e3, "K"), (0, ""))
    size, unit = next((size, unit) for size, unit in sizes if rounded >= size)
    return f"{rounded / (size or 1):g}{unit}"


def _verdicts_in(inputs: ReportInputs) -> list[str]:
    assert inputs.nulls is not None
    known = set(inputs.nulls.shares["verdict"])
    return [verdict for verdict in VERDICT_LOOKS if verdict not in IDLE and verdict in known]


def _this_dictionary(inputs: ReportInputs) -> list[pd.DataFrame]:
    """Return the shares of the ranking that the page shows. The nulls have fewer latents judged and fewer tokens."""
    if inputs.ranking is None or inputs.verdicts["sure"].isna().all():
        return []
    training = inputs.curves.get("sae")
    tokens = None if training is None or "tokens" not in training else training["tokens"].max()
    shares = verdict_shares(inputs.ranking)
    return [shares.assign(dictionary=THIS, latents=len(inputs.ranking), trained_tokens=tokens)]


def _share(by_verdict: pd.DataFrame, verdict: str, part: str = "") -> list[float | None] | None:
    """Return a share and its interval, of the latents with the verdict or of those that are `unsure` between it and
    another."""
    columns = [f"{part}_share", f"{part}_low", f"{part}_high"] if part else ["share", "ci_low", "ci_high"]
    if verdict not in by_verdict.index or not set(columns) <= set(by_verdict):
        return None
    cells = [number(value) for value in by_verdict.loc[verdict, columns]]
    return None if None in cells else cells  # type: ignore[return-value]
