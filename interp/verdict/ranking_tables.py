"""Display a ranking, with interesting rows first, and the evidence of each latent.

In a notebook and in a terminal `Ranking` shows the most important of its 40 columns.
"""

from collections.abc import Callable, Mapping
from math import isnan, prod
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from interp.checks.errors import DamagedError, InterpError
from interp.display import cards
from interp.display.byte_parts import STRAY
from interp.display.verdict_looks import NO_RULE, verdict_words
from interp.display.verdict_names import MONOSEMANTIC, ONE_MEANING_ROW, VERDICTS
from interp.statistics.cutoffs import MIN_F1
from interp.storage.format_numbers import check_format
from interp.text.rules import read_atoms
from interp.text.short_rules import short_rule
from interp.verdict.measure_nulls import NullComparison
from interp.verdict.measures import title_and_meaning

RANKING_FORMAT = "interp.ranking/1"
"""In the attributes of a ranking, which Parquet files preserve."""
_MEASURE_COLUMNS = ("measure", "value", "z", "null_low", "null_high")
NEEDED_COLUMNS = ("latent", "verdict", "monosemanticity", "ci_low", "ci_high", "sure")
SHOWN_COLUMNS = (*NEEDED_COLUMNS[:-1], "learnt", "n_senses", "explanation", "explanation_f1")
"""The columns that a line of text has."""
N_FIRST = 12
"""Number of latents to begin with, which are the first rows of a ranking."""
N_ROWS = 10
"""Rows that are shown of a long ranking."""
N_CHARACTERS = 90
"""Characters that are shown of a rule in a notebook."""
FORMAT = "{:.3f}".format
MIN_CHARACTERS = 31
"""Characters that a rule has in a line of text, however narrow the terminal is."""
MAX_ALIKE = 0.5
"""Largest share of words that the rules of two displayed latents may have in common."""
NONE_WORTH_A_LOOK = (
    "none is worth a look: no latent surely has one meaning and a rule in words that holds; look at the first rows of "
    "the ranking, ranking.head(10), or rank again on more text"
)
NO_LEARNT = (
    "learnt is NaN: it is estimated in a run with nulls, for hooks after the model's last block (interp.verdict.learnt)"
)
"""What a display says of a ranking in which no latent has this probability."""


def evidence_rows(
    statistics: Mapping[str, tuple[Float64[np.ndarray, " d_sae"], NullComparison | None]],
    latents: Int64[np.ndarray, " latent"],
) -> pd.Series:
    """List the evidence of some latents, as dictionaries.
    statistics: name → (a value per latent, its null or None)."""
    listed: dict[int, list[dict[str, Any]]] = {int(latent): [] for latent in latents}
    for name, (values, null) in statistics.items():
        numbers = np.column_stack([values, *(null or np.full((3, len(values)), np.nan))])[latents]
        is_finite = np.isfinite(numbers)
        values_or_none = np.where(is_finite, numbers.astype(object), None)
        for index in np.flatnonzero(is_finite[:, 0]):
            listed[int(latents[index])].append(dict(zip(_MEASURE_COLUMNS, (name, *values_or_none[index]), strict=True)))
    return pd.Series(list(listed.values()), index=latents, dtype=object)


def ranking_evidence(ranking: pd.DataFrame, latent: int | None = None) -> pd.DataFrame:
    """Return the statistics behind a latent's verdict, and its measures, as a table with the columns `measure`,
    `value`, `z`, `null_low` and `null_high`. The last three are NaN if there is no null. Without a latent, the table
    has the rows of all latents, and a column `latent`.

    Raises ValueError if the ranking has no such latent, or no evidence.
    """
    if "evidence" not in ranking:
        raise InterpError("the ranking has no column 'evidence': rank the features again")
    rows = ranking if latent is None else ranking[ranking["latent"] == latent]
    if latent is not None and rows.empty:
        raise InterpError(f"latent={latent} is not in the ranking")
    pairs = zip(rows["latent"], rows["evidence"], strict=True)
    listed = [
        {"latent": latent, **row}
        for latent, entries in pairs
        if isinstance(entries, list | np.ndarray)
        for row in entries
    ]
    table = EvidenceTable(listed, columns=["latent", *_MEASURE_COLUMNS]).astype(
        dict.fromkeys(_MEASURE_COLUMNS[1:], float)
    )
    if latent is None:
        return table
    table.attrs["latent"] = int(latent)
    return table.drop(columns="latent")


class EvidenceTable(pd.DataFrame):
    """A DataFrame with the evidence of latents. For a single latent it shows each value over its null."""

    @property
    def _constructor(self) -> Callable[..., "EvidenceTable"]:
        return EvidenceTable

    def _repr_html_(self) -> str | None:
        if not set(_MEASURE_COLUMNS) <= set(self.columns) or "latent" in self:
            return super()._repr_html_()  # type: ignore[misc]
        rows = [_evidence_cells(row) for row in self.to_dict(orient="records")]
        latent_name = f" of latent {self.attrs['latent']}" if "latent" in self.attrs else ""
        note = "Shaded: 95 % of its null, and z is the distance from it; no mark: it has none."
        head = ("measure", "over its null", "value", "z", "what it says")
        return cards.card(f"Evidence for the verdict{latent_name}", cards.show_table(head, rows), note)


def _evidence_cells(row: dict) -> tuple[object, ...]:
    title, meaning = title_and_meaning(row["measure"])
    mark = cards.null_mark(row["value"], row["null_low"], row["null_high"])
    return title, mark, f"{row['value']:.3g}", "" if isnan(row["z"]) else f"{row['z']:.1f}", meaning


class Ranking(pd.DataFrame):
    """A DataFrame of ranked latents, whose columns `help("interp.verdict.ranking")` describes. It shows its first rows.
    If a column that this needs is missing, pandas displays the table."""

    @property
    def _constructor(self) -> Callable[..., "Ranking"]:
        return Ranking

    def worth_a_look(self, n: int = 10) -> "Ranking":
        """Return at most n rows to start with. These latents certainly have one meaning, their rules in words hold, and
        they differ from one another. If there are none, the empty table says so when it is printed."""
        chosen = self.loc[worth_a_look(self, n)]
        if chosen.empty:
            chosen.attrs["why_empty"] = NONE_WORTH_A_LOOK
        return chosen  # type: ignore[return-value]

    def rows_as_text(self) -> str:
        """Return the rows, ten at most, without the number of latents, in lines as wide as the terminal, or of 120
        characters: the explanation has what the numbers leave."""
        shown = pd.DataFrame(self)[[name for name in SHOWN_COLUMNS if name in self]].head(N_ROWS)
        numbers = shown.drop(columns="explanation", errors="ignore").to_string(float_format=FORMAT, index=False)
        room = get_terminal_size((120, 24)).columns - numbers.index("\n") - len("  …")
        rows = shown.to_string(max_colwidth=max(room, MIN_CHARACTERS), float_format=FORMAT, index=False)
        return f"{rows}\n{NO_LEARNT}" if self._lacks_learnt() else rows

    def __repr__(self) -> str:
        if not set(NEEDED_COLUMNS) <= set(self.columns):
            return super().__repr__()
        if self.empty:
            return self.attrs.get("why_empty", "Ranking of 0 latents")
        return f"{self._title()}\n{self.rows_as_text()}"

    def _repr_html_(self) -> str | None:
        if not set(NEEDED_COLUMNS) <= set(self.columns):
            return super()._repr_html_()  # type: ignore[misc]
        if self.empty:
            return f"<p>{self!r}</p>"
        rows = [_ranking_cells(row) for row in self.head(N_ROWS).to_dict(orient="records")]
        note = f"{len(self) - len(rows):,} more rows; {len(self.columns)} columns." if len(self) > len(rows) else ""
        if self._lacks_learnt():
            note = f"{note} {NO_LEARNT[0].upper()}{NO_LEARNT[1:]}.".strip()
        head = ("latent", "verdict", "one meaning", "learnt", "senses", "explanation", "F1")
        return cards.card(self._title(), cards.show_table(head, rows), note)

    def _lacks_learnt(self) -> bool:
        return "learnt" in self and not self.empty and bool(self["learnt"].isna().all())

    def _title(self) -> str:
        counts = self["verdict"].value_counts()
        counted = ", ".join(f"{n:,} {verdict_words(str(name))}" for name, n in counts.items())
        return f"Ranking of {len(self):,} latents: {counted}"


def _ranking_cells(row: dict) -> tuple[object, ...]:
    f1 = row.get("explanation_f1", float("nan"))
    rule = short_rule(row) if f1 >= MIN_F1 else []
    text = cards.marked_rule(rule)
    is_short = len(text) <= N_CHARACTERS
    shown = cards.show_rule(rule) if is_short else cards.show_text(f"{text[: N_CHARACTERS - 1]}…")
    p = row["monosemanticity"]
    badge = cards.verdict_badge(str(row["verdict"]), bool(row["sure"]) or isnan(p))
    probability = cards.interval_mark(p, row["ci_low"], row["ci_high"])
    p_learnt = row.get("learnt", float("nan"))
    learnt = "" if isnan(p_learnt) else f"{p_learnt:.2f}"
    words = shown or (NO_RULE if not isnan(p) and "explanation" in row else "")
    return row["latent"], badge, probability, learnt, row.get("n_senses", ""), words, f"{f1:.2f}" if rule else ""


def read_ranking(file: str | Path) -> Ranking:
    """Read a ranking of `interp run` or `interp rank`. Raises DamagedError for one with verdicts of another version."""
    table = read_verdicts(file)
    ranking = Ranking(table)
    ranking.attrs = table.attrs
    return ranking


def read_verdicts(file: str | Path) -> pd.DataFrame:
    """Read a table with a column `verdict`. Raises DamagedError if one of them is not a verdict of this version, and
    InterpError for a ranking of a later format."""
    table = pd.read_parquet(file)
    check_format(table.attrs.get("format"), RANKING_FORMAT, file)
    if unknown := sorted(set(table["verdict"]) - {*VERDICTS, ONE_MEANING_ROW}):
        found = f"{file} has the verdict {unknown[0]!r} of another version"
        raise DamagedError(f"{found}: make it again (`interp run` does)")
    return table


def has_rule(ranking: pd.DataFrame) -> pd.Series:
    """Return whether the rule of a latent has an F1 of MIN_F1 or more. In a ranking without rules, no latent has."""
    if "explanation_f1" not in ranking:
        return pd.Series(False, ranking.index)
    return ranking["explanation_f1"].fillna(0) >= MIN_F1


def rule_holds(ranking: pd.DataFrame) -> pd.Series:
    """Return whether a latent has a rule without partial characters, and is not known to be unlearnt by the model."""
    holds = has_rule(ranking)
    if "explanation" in ranking:
        holds &= ~ranking["explanation"].astype(object).str.contains(STRAY, na=True)
    return holds & (ranking["learnt"].fillna(1) >= 0.5) if "learnt" in ranking else holds


def worth_a_look(ranking: pd.DataFrame, n: int) -> list[Any]:
    """Return the index of at most n rows, ordered by how much their rules predict: the square of the rule's F1 times
    the entropy of the tokens that it predicts, divided by how many things the rule lists. A list of six tokens says
    less than one thing that they share. First comes the best rule of each sort, since ten topics show a reader less
    than a topic, a place in the line and what stands before."""
    if not {"verdict", "sure", "explanation", "explanation_f1", "token_entropy"} <= set(ranking):
        return []
    sure = ranking[(ranking["verdict"] == MONOSEMANTIC) & ranking["sure"].eq(True) & rule_holds(ranking)]
    rules_json = sure.get("explanation_json", pd.Series("", sure.index))
    worth = sure["explanation_f1"] ** 2 * sure["token_entropy"] / rules_json.map(_n_listed).astype(float)
    order = sure.assign(worth=worth, sort=rules_json.map(_sort_of)).dropna(subset=["worth"])
    order = order.sort_values(["worth", "explanation_f1"], ascending=False, kind="stable")
    is_repeated = order["sort"].ne("") & order["sort"].duplicated()
    order = order.loc[is_repeated.sort_values(kind="stable").index]
    chosen: list[Any] = []
    rules: list[set[str]] = []
    for row, explanation in order["explanation"].items():
        rule = set(str(explanation).replace(",", " ").split())
        if len(chosen) < n and all(len(rule & r) <= MAX_ALIKE * len(rule | r) for r in rules):
            chosen.append(row)
            rules.append(rule)
    return chosen


def _sort_of(rule: str) -> str:
    """Return the kinds of a rule's atoms, in JSON, without the numbers of the neighbours, topics … that differ in size
    alone; "" for no rule."""
    return ", ".join(sorted({atom.kind.rstrip("_0123456789") for atom in read_atoms(rule)}))


def _n_listed(rule: str) -> int:
    """Return how many things a rule lists, in JSON: of each of its atoms, one of the values holds."""
    return prod(len(atom.values) for atom in read_atoms(rule))
