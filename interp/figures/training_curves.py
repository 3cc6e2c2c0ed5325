"""Draw the curves of a training.

In: the folder of a training, or the rows of its `metrics.jsonl` as a DataFrame. Out: a plotly Figure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.checks.errors import InterpError, did_you_mean
from interp.figures.figure import figure
from interp.figures.theme import (
    DASHES,
    GREY,
    HEIGHT,
    INK,
    digit_ticks,
    escape_markup,
    with_colours,
    with_panel_titles,
    with_style,
)
from interp.storage.manifests import RUN_FILE
from interp.storage.metrics import read_metrics

if TYPE_CHECKING:
    import pandas as pd

# column of metrics.jsonl → the title of its axis
TITLES = {
    "loss": "loss",
    "fvu": "FVU",
    "l0": "L0 (latents a token)",
    "dead": "dead (share)",
    "faint": "faint (share)",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "tokens_per_second": "tokens per second",
}
_MEANINGS = {
    "dead": "Dead latents have not fired for a while.",
    "faint": "Faint ones fire, but no stronger than a quarter of the median latent.",
}
DRAWN_METRICS = ("loss", "fvu", "l0", "dead", "faint", "lr")
"""The columns that are drawn by default."""
MAX_CIRCLES = 12
"""Largest number of held-out losses that are drawn. More would hide the curve."""
LOG_METRICS = ("fvu", "loss")
"""The columns of a dictionary that fall by orders of magnitude."""
TICKS = {"dead": ".2~%", "faint": ".2~%", "tokens_per_second": "~s"}


@figure
def training(run: Any, *, panels: Sequence[str] = (), levels: Mapping[str, float] | None = None) -> go.Figure:
    """Draw the metrics of a training against the tokens seen.

    These are FVU, L0, the shares of dead and of faint latents, and the learning rate; for a language model the loss. A
    default panel is left out if its values never change (as the L0 of TopK). A dictionary's loss is left out if its FVU
    is drawn.

    run: the folder of the training of a dictionary, a sweep or a model; a run folder or a `Run` (for its dictionary);
    the rows of a `metrics.jsonl`; or a mapping (name → any of these), whose curves are drawn together.
    panels: columns to draw, by default those of DRAWN_METRICS that exist.
    levels: name → a loss to draw as a line, such as that of an n-gram model.
    Raises ValueError if there are no metrics, for a column that is no metric, and for levels if no loss is drawn.
    """
    for column in panels:
        if column not in TITLES:
            raise InterpError(f"no metric {column!r} to draw; {did_you_mean(column, TITLES)}")
    curves = list(with_colours(_metrics(run), "tokens", *(panels or ["loss"])))
    tables = [table for _, table, _ in curves]
    is_dictionary = any("fvu" in table for table in tables)
    columns = list(panels) or [column for column in DRAWN_METRICS if _varies(column, tables)]
    if not panels:
        columns = [column for column in columns if column != "loss" or not is_dictionary] or ["loss"]
    if levels and "loss" not in columns:
        raise InterpError(f"levels are losses, but the panels are {', '.join(columns)}: add loss to panels")
    n_wide = len(columns) % 2  # of an odd number of panels, the first is as wide as the figure
    places = {column: {"row": (i + n_wide) // 2 + 1, "col": (i + n_wide) % 2 + 1} for i, column in enumerate(columns)}
    if n_wide:
        places[columns[0]] = {"row": 1, "col": 1}
    rows = math.ceil(len(columns) / 2)
    cols = min(len(columns), 2)
    cells: list[list[dict | None]] = [[{}] * cols for _ in range(rows)]
    if n_wide:
        cells[0] = [{"colspan": cols}, *[None] * (cols - 1)]
    axes = TITLES | ({} if is_dictionary else {"loss": "loss (nats a token)"})
    if is_dictionary:
        axes |= {column: f"{TITLES[column]} (log scale)" for column in LOG_METRICS}
    titles = [axes[column] for column in columns] if len(columns) > 1 else None
    spacing = {"vertical_spacing": 0.38 / rows, "horizontal_spacing": 0.14}
    fig = make_subplots(rows=rows, cols=cols, specs=cells, subplot_titles=titles, **spacing)
    for name, table, colour in curves:
        alone = len(tables) == 1 and "val_loss" not in table
        for i, column in enumerate(columns):
            if column in table:
                line = {"color": colour, "width": 1 if column == "tokens_per_second" else 1.5}
                trace = go.Scatter(x=table["tokens"], y=table[column], mode="lines", line=line)
                trace.update(name=name or "training", legendgroup=name, showlegend=i == 0 and not alone)
                fig.add_trace(trace, **places[column])
        if "val_loss" in table and "loss" in columns:
            held_out = table.dropna(subset=["val_loss"])
            held_out = held_out[:: -math.ceil(len(held_out) / MAX_CIRCLES) or -1]
            hollow = {"symbol": "circle-open", "size": 5, "color": INK if len(tables) == 1 else colour, "line_width": 1}
            style = {"mode": "markers", "marker": hollow}
            key = {"name": f"{name} validation".strip(), "legendgroup": name}
            fig.add_scatter(x=held_out["tokens"], y=held_out["val_loss"], **key, **style, **places["loss"])
    for name, loss in (levels or {}).items():
        # A falling curve leaves this corner free.
        corner = "top right" if loss > tables[0]["loss"].iloc[-1] else "bottom left"
        note = {
            "annotation_text": f"{escape_markup(name)} {loss:.2f}",
            "annotation_position": corner,
            "annotation_font_size": 11,
        }
        fig.add_hline(y=loss, line={"color": GREY, "dash": DASHES, "width": 1.5}, **places["loss"], **note)
    noun, several = ("dictionary", "dictionaries") if is_dictionary else ("model", "models")
    title = f"Training of the {noun}" if len(tables) == 1 else f"Training of {len(tables)} {several}"
    has_held_out = any("val_loss" in table for table in tables) and "loss" in columns
    caption = (
        f"{' and '.join(filter(None, [', '.join(axes[column] for column in columns[:-1]), axes[columns[-1]]]))} "
        f"of the {noun if len(tables) == 1 else several} in training."
    )
    caption = f"{caption[0].upper()}{caption[1:]}"
    if has_held_out:
        caption += " Circles are the loss on held-out text."
    if "loss" in columns and not is_dictionary:
        caption += " The axis of the loss does not start at 0."
    if levels:
        caption += f" Dashed lines are the losses of {' and '.join(f'{name}s' for name in levels)}."
    caption += "".join(f" {_MEANINGS[column]}" for column in columns if column in _MEANINGS)
    with_style(fig, title, height=HEIGHT if len(columns) == 1 else 110 + 160 * rows, caption=caption)
    return _with_axes(fig, places, axes, is_dictionary)


def _varies(column: str, tables: Sequence[pd.DataFrame]) -> bool:
    """Return whether the column takes more than one value, to three digits, over all trainings."""
    return len({f"{value:.3g}" for table in tables if column in table for value in table[column]}) > 1


def _with_axes(
    fig: go.Figure, panels: Mapping[str, Mapping[str, int]], axes: Mapping[str, str], is_dictionary: bool
) -> go.Figure:
    """Name the axes, with tokens below each column of panels. LOG_METRICS get a logarithmic axis.
    panels: the column that each draws → its row and col."""
    end = max(float(max(trace.x)) for trace in fig.data if trace.x is not None and len(trace.x))
    fig.update_xaxes(nticks=5, range=[0, 1.03 * end])  # with the tick just beyond the last step
    for i, (column, position) in enumerate(panels.items()):
        if i:  # the first axis cannot match itself
            fig.update_xaxes(matches="x", **position)
        if is_dictionary and column in LOG_METRICS:
            values = [value for trace in fig.select_traces(**position) for value in trace.y if value > 0] or [1.0]
            fig.update_yaxes(type="log", tickvals=digit_ticks(min(values), max(values)), **position)
        elif column == "loss":
            fig.update_yaxes(nticks=6, **position)
        else:
            fig.update_yaxes(rangemode="tozero", **position)
        fig.update_yaxes(tickformat=TICKS.get(column), exponentformat="e", **position)
        if i >= len(panels) - 2:
            fig.update_xaxes(title_text="tokens seen", **position)
    if len(panels) == 1:
        return fig.update_yaxes(title_text=axes[next(iter(panels))])
    with_panel_titles(fig)
    for note, axis in zip(
        fig.layout.annotations, fig.select_xaxes(), strict=False
    ):  # in place of the title of the y axis
        note.update(xanchor="left", x=axis.domain[0])
    return fig


def _metrics(run: Any, name: str = "") -> dict[str, pd.DataFrame]:
    """Return the tables by the names of their runs."""
    if isinstance(run, Mapping):
        tables = [_metrics(member, f"{name} {key}".strip()) for key, member in run.items()]
        return {key: table for tables_of_run in tables for key, table in tables_of_run.items()}
    if hasattr(run, "columns"):
        return {name: run}
    folder = Path(getattr(run, "path", run))
    folder = folder / "sae" if (folder / RUN_FILE).is_file() else folder
    if (folder / "metrics.jsonl").is_file():
        return {name: read_metrics(folder / "metrics.jsonl")}
    numbered = (file.parent for file in folder.glob("*/metrics.jsonl") if file.parent.name.isdecimal())
    members = sorted(numbered, key=lambda member: int(member.name))
    if not members:
        raise InterpError(f"{folder} holds no metrics.jsonl: give the folder of a training, of a sweep or of a run")
    return {f"{name} {label}".strip(): read_metrics(m / "metrics.jsonl") for m, label in _name_trainings(members)}


def _name_trainings(members: list[Path]) -> list[tuple[Path, str]]:
    """Name each training of a sweep by what distinguishes it: its architecture, and the fields that differ within an
    architecture. In an unfinished sweep, it is named by its number."""
    results = [member / "results.json" for member in members]
    if not all(file.is_file() for file in results):
        return [(member, member.name) for member in members]
    configs = [json.loads(file.read_text(encoding="utf-8")).get("config", {}) for file in results]
    architectures = [config.get("architecture") for config in configs]
    labels = []
    for config, architecture in zip(configs, architectures, strict=True):
        like = [other for other, its in zip(configs, architectures, strict=True) if its == architecture]
        fields = [f"{field}={value}" for field, value in config.items() if any(o.get(field) != value for o in like)]
        labels.append(" ".join([str(architecture)] * (len(set(architectures)) > 1) + fields))
    unique = len(set(labels)) == len(labels)
    return [(m, label if unique and label else m.name) for m, label in zip(members, labels, strict=True)]
