"""The ranking as a table that shows itself: in a notebook and in a terminal the columns that tell a latent, of 40.

In: the table that `ranking.rank_features` makes, or its Parquet file. Out: the same as a pandas DataFrame.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from interp.notebook import card, interval_mark, table, verdict_mark

SHOWN = (
    "latent",
    "verdict",
    "monosemanticity",
    "ci_low",
    "ci_high",
    "learnt",
    "n_senses",
    "explanation",
    "explanation_f1",
    "sure",
)
NEEDED = ("latent", "verdict", "monosemanticity", "ci_low", "ci_high", "sure")
N_ROWS, N_CHARACTERS = 10, 90
MIN_F1 = 0.3
"""A rule below it explains nothing, and is left out."""


class Ranking(pd.DataFrame):
    """A DataFrame in everything; parts of it that lack a column which it shows look as pandas shows them."""

    @property
    def _constructor(self) -> Callable[..., "Ranking"]:
        return Ranking

    def __repr__(self) -> str:
        if not set(NEEDED) <= set(self.columns):
            return super().__repr__()
        shown = pd.DataFrame(self)[[name for name in SHOWN if name in self]]
        return f"{self._title()}\n{shown.to_string(max_rows=N_ROWS, max_colwidth=40, float_format='{:.3f}'.format)}"

    def _repr_html_(self) -> str | None:
        if not set(NEEDED) <= set(self.columns):
            return super()._repr_html_()  # type: ignore[misc]
        rows = [_row(row) for row in self.head(N_ROWS).to_dict(orient="records")]
        more = f"{len(self) - len(rows):,} more rows; {len(self.columns)} columns." if len(self) > len(rows) else ""
        head = ("latent", "verdict", "one meaning", "used by the model", "senses", "explanation", "F1")
        return card(self._title(), table(head, rows), more)

    def _title(self) -> str:
        counts = self["verdict"].value_counts()
        said = ", ".join(f"{n:,} {str(name).replace('lexical', 'single-token')}" for name, n in counts.items())
        return f"Ranking of {len(self):,} latents: {said}".replace("_", " ")


def _row(row: dict) -> tuple[object, ...]:
    f1 = row.get("explanation_f1", float("nan"))
    rule = str(row.get("explanation", "")) if f1 >= MIN_F1 else ""
    rule = rule if len(rule) <= N_CHARACTERS else rule[: N_CHARACTERS - 1] + "…"
    told = verdict_mark(str(row["verdict"]), bool(row["sure"]) or row["monosemanticity"] != row["monosemanticity"])
    probability = interval_mark(row["monosemanticity"], row["ci_low"], row["ci_high"])
    own = row.get("learnt", float("nan"))
    used = "" if own != own else f"{own:.2f}"
    return row["latent"], told, probability, used, row.get("n_senses", ""), rule, f"{f1:.2f}" if rule else ""


def read_ranking(file: str | Path) -> Ranking:
    table = pd.read_parquet(file)
    ranking = Ranking(table)
    ranking.attrs = table.attrs
    return ranking
