"""Define panels: the figures and tables that a stage of a run adds to the page's summary.

    Panel(note="F1 on held-out text.", figure=figures.concept_dots(run.concepts))
    Panel(note="The ten longest.", title="Longest latents", table=longest)

Its payload is JSON that the page's code reads.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from interp.figures.theme import HEIGHT
from interp.report.json_text import number

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MAX_TABLE_ROWS = 200
"""Largest number of rows of a table that the page shows."""
SHARE_OF_HEIGHT, SHARE_OF_PANELS = 0.6, 0.85
"""Height of a figure on the page, and of one in several panels, as a share of its height in print. One with a row for
each name keeps its own."""
LETTER_WIDTH, ABOVE_AND_BELOW = 6, 76
"""Pixels of a letter of an axis title, and of a figure above and below its plot. A vertical title that is longer than
the plot is shown without what stands in parentheses."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    note: str
    """A sentence or two below the figure or the table. They say how to read it, or why there is none."""
    figure: "go.Figure | None" = None
    table: "pd.DataFrame | None" = None
    """A table. At most MAX_TABLE_ROWS of its rows are shown, as text."""
    title: str = ""
    """A heading. By default the figure's heading."""
    height: int | None = None
    """Of the figure on the page, in pixels. By default a share of its height in print."""

    def payload(self) -> dict[str, Any]:
        """Return the panel as JSON, as the page's code reads it. Empty fields are left out."""
        figure = {} if self.figure is None else _figure_payload(self.figure, self.height)
        values = {
            "title": self.title or figure.get("title"),
            "note": self.note,
            "height": figure.get("height"),
            "figure": figure.get("figure"),
            "table": None if self.table is None else _table_payload(self.table),
        }
        return {name: value for name, value in values.items() if value}


def _figure_payload(figure: "go.Figure", height: int | None = None) -> dict[str, Any]:
    """Return the title, height and plotly JSON of a figure that fills the available width, in the page's words.
    height: in pixels, None for a share of that in print."""
    drawn = json.loads(figure.to_json())  # a copied figure would validate each of its properties again
    layout: dict[str, Any] = drawn["layout"]
    title = _in_its_words(_text_of(layout))
    if height is None:
        share = SHARE_OF_PANELS if "yaxis2" in layout else SHARE_OF_HEIGHT
        is_of_names = "ticktext" in layout.get("yaxis", {})
        height = round((1 if is_of_names else share) * layout.get("height", HEIGHT))
    for name, axis in layout.items():
        if re.fullmatch(r"[xy]axis\d*", name) and (words := _text_of(axis)):
            is_long = name.startswith("y") and LETTER_WIDTH * len(words) > height - ABOVE_AND_BELOW
            axis["title"]["text"] = _in_its_words(words.split(" (")[0] if is_long else words)
    notes = layout.pop("annotations", [])
    above = 56 if any(note.get("yref") == "paper" and note.get("y", 0) >= 0.99 for note in notes) else 28
    for trace in drawn["data"]:
        if isinstance(template := trace.get("hovertemplate"), str):
            trace["hovertemplate"] = _in_its_words(template)
    if notes:
        layout["annotations"] = [note | {"text": _in_its_words(note.get("text"))} for note in notes]
    for name in ("title", "width", "meta"):
        layout.pop(name, None)
    layout["margin"] = layout.get("margin", {}) | {"l": 56, "r": 12, "t": above, "b": 48}
    return {"title": title, "height": height, "figure": drawn}


def _text_of(titled: Mapping[str, Any]) -> str | None:
    """Return the text of the title of a layout or of an axis."""
    return titled.get("title", {}).get("text")


def _in_its_words(title: str | None) -> str | None:
    """Replace "latent" by "feature", as the page calls latents."""
    return title and re.sub(r"\blatent(s?)\b", r"feature\1", title)


def _table_payload(table: "pd.DataFrame") -> dict[str, list]:
    drawn = table.head(MAX_TABLE_ROWS).astype(object)
    rows = drawn.where(drawn.notna(), None).itertuples(index=False, name=None)
    return {"columns": [str(name) for name in table.columns], "rows": [[_cell(value) for value in row] for row in rows]}


def _cell(value: Any) -> str:
    """Write a number in few digits, and anything else, such as a date or a list, as Python does."""
    if value is None or not isinstance(value, Real) or isinstance(value, bool):
        return "–" if value is None else str(value)
    cell = number(value)
    return "–" if cell is None else f"{cell:,}" if isinstance(cell, int) else f"{cell:,g}"
