"""Draw comparisons of dictionaries: the correlation of each latent with the best latent of another dictionary, and
splitting.

In: tables of `interp.compare`. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from interp.checks.errors import InterpError
from interp.figures.figure import figure
from interp.figures.theme import (
    DASHES,
    GREY,
    INK,
    SEQUENCE,
    WIDTH,
    check_columns,
    escape_markup,
    interval_bars,
    shortened,
    token_label,
    with_colours,
    with_meta,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd

_NODE_HEIGHT = 17
"""Pixels per node of the tallest column."""
_MAX_RULE_LETTERS = 48
"""Number of letters of a rule that are shown next to a row."""


@figure
def universality(tables: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw, for each r, the share of latents whose correlation with their best match in another dictionary is above r.
    Dots are the medians.

    tables: a table with the columns correlation and null, as `compare.universality` returns it, or a mapping (name →
    table).
    """
    fig = _shares_above(tables, "correlation", "null", "shifted text")
    with_style(fig, "Does the other have such a latent?", height=380)
    fig.update_xaxes(title_text="largest correlation with a latent of the other, r", range=[-0.02, 1.02])
    return fig.update_yaxes(title_text="share of latents above r", tickformat=".0%", range=[-0.02, 1.02])


@figure
def matched_cosines(tables: pd.DataFrame | Mapping[str, pd.DataFrame], *, threshold: float = 0.7) -> go.Figure:
    """Draw, for each value, the share of latents whose match in another dictionary has a decoder cosine above it, next
    to the same share for random directions.

    tables: a table with the columns cosine and chance, as `compare.stability` returns it, or a mapping (name → table).
    """
    fig = _shares_above(tables, "cosine", "chance", "random directions")
    value = {"annotation_text": f"{threshold:g}", "annotation_position": "top right"}
    fig.add_vline(threshold, line={"color": INK, "width": 1, "dash": DASHES}, **value)
    with_style(fig, "Does another seed find the same directions?", height=380)
    fig.update_xaxes(title_text="|cosine| with the latent that it is matched to", range=[-0.02, 1.02])
    return fig.update_yaxes(title_text="share of latents with a larger |cosine|", tickformat=".0%", range=[-0.02, 1.02])


def _shares_above(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame], column: str, null: str, null_name: str
) -> go.Figure:
    """Draw a line per table: the share of its values above each value, with a dot at the median. The line of the null
    is dashed."""
    fig = go.Figure()
    lines = list(with_colours(tables, column, null, alone="matches"))
    for i, (name, table, colour) in enumerate(lines):
        dashed = {"color": GREY if len(lines) == 1 else colour, "width": 1.5, "dash": DASHES}
        null_key = {"name": f"{null_name} (dashed)", "showlegend": i == len(lines) - 1}
        sides = ((column, {"color": colour, "width": 2}, {"name": name}), (null, dashed, null_key))
        for drawn_column, line, key in sides:
            ordered = np.sort(table[drawn_column].dropna().to_numpy(float))
            share = 1 - np.arange(len(ordered)) / max(len(ordered), 1)
            fig.add_scatter(x=ordered, y=share, mode="lines", line=line, **key)
            if len(ordered):
                dot = {"color": line["color"], "size": 8}
                fig.add_scatter(x=[np.median(ordered)], y=[0.5], mode="markers", marker=dot, showlegend=False)
    fig.add_scatter(x=[None], y=[None], mode="markers", marker={"color": INK, "size": 8}, name="median")
    return fig


@figure
def corpus_differences(
    differences: pd.DataFrame, *, names: tuple[str, str] = ("A", "B"), max_latents: int = 24
) -> go.Figure:
    """Draw the largest differences between two corpora: the share of A's documents in which a latent fires minus that
    of B's, in percentage points, with its 95% interval.

    differences: a table with the columns latent, differs, difference, low, high and rule, as `compare.corpora` makes
    it. Of the latents that differ, the `max_latents` with the largest differences are drawn.
    """
    check_columns(differences, "latent", "differs", "difference", "low", "high", "rule")
    differing = differences[differences["differs"]]
    order = differing["difference"].abs().sort_values(ascending=False, kind="stable").index
    drawn = differing.reindex(order)[:max_latents]
    drawn = drawn.sort_values("difference", kind="stable")
    rules = [shortened(rule, _MAX_RULE_LETTERS) for rule in drawn["rule"].astype(object).fillna("").astype(str)]
    ticks = [escape_markup(f"#{latent} {rule}".strip()) for latent, rule in zip(drawn["latent"], rules, strict=True)]
    fig = go.Figure()
    for name, colour, sign in zip(names, SEQUENCE, (1, -1), strict=False):
        side = sign * drawn["difference"].to_numpy(float) > 0
        at, low, high = (100 * drawn[column].to_numpy(float)[side] for column in ("difference", "low", "high"))
        bars = interval_bars(at, low, high, thickness=1.5)
        dots = {"x": at, "y": np.flatnonzero(side), "marker": {"color": colour, "size": 6}}
        fig.add_scatter(**dots, error_x=bars, mode="markers", name=f"more often in {escape_markup(name)}")
    fig.add_vline(0, line={"color": INK, "width": 1})
    with_style(fig, "What differs between the two corpora", height=140 + _NODE_HEIGHT * max(len(drawn), 4))
    fig.update_yaxes(tickvals=list(range(len(drawn))), ticktext=ticks, range=[-0.7, max(len(drawn), 1) - 0.3])
    return fig.update_xaxes(title_text="difference in the share of documents (percentage points, 95%\u00a0CI)")


@figure
def splitting(
    levels: Sequence[pd.DataFrame],
    *,
    names: Sequence[Mapping[int, str]] = (),
    roots: Sequence[int] | None = None,
    max_roots: int = 8,
    rows: int = 40,
) -> go.Figure:
    """Draw a column of bars per dictionary, with the narrowest dictionary on the left. The width of a band is the
    number of rows on which both of its ends fire. Each column shows its `rows` thickest bars, and the other latents of
    a feature as one bar, "n more", whose band is as wide as theirs together.

    levels: for each dictionary and the next wider one, a table with the columns latent, other, both, is_best.
    names: names of the latents of each dictionary, from left to right. By default these are their numbers.
    roots: the latents of the narrowest dictionary that are shown. By default these are the `max_roots` latents that
    split into most parts.
    """
    if len(levels) == 0:
        raise InterpError("levels is empty: give at least one table, such as the edges of a Splitting")
    for table in levels:
        check_columns(table, "latent", "other", "both", "is_best")
    tables = [table[table["is_best"]] for table in levels]
    n_children = tables[0]["latent"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    roots = list(map(int, n_children.index[:max_roots] if roots is None else roots))
    columns, bands, merged = _flow(tables, roots, rows)
    keys = [(level, latent) for level, latents in enumerate(columns) for latent in latents]
    number = {key: i for i, key in enumerate(keys)}
    colours = {(0, root): SEQUENCE[i % len(SEQUENCE)] for i, root in enumerate(columns[0])}
    for level, latent, other, _ in bands:
        colours[level + 1, other] = colours[level, latent]
    names_of_columns = [*names, *[{}] * len(columns)]
    labels = [merged.get(key) or token_label(names_of_columns[key[0]].get(key[1], f"#{key[1]}")) for key in number]
    shades = [GREY if key in merged else colours[key] for key in number]
    node = {"label": labels, "color": shades, "align": "left", "pad": _NODE_HEIGHT - 4, "thickness": 8, "line_width": 0}
    hues = [[int(colours[level, latent][at : at + 2], 16) for at in (1, 3, 5)] for level, latent, _, _ in bands]
    firings = [max(both, 1) for *_, both in bands]
    link = {
        "source": [number[level, latent] for level, latent, _, _ in bands],
        "target": [number[level + 1, other] for level, _, other, _ in bands],
        "value": firings,
        "color": [f"rgba({red},{green},{blue},0.3)" for red, green, blue in hues],
    }
    tallest = max(map(len, columns))
    fig = go.Figure(go.Sankey(node=node, link=link, arrangement="snap", textfont={"size": 10}))
    with_style(fig, "Features that split in wider dictionaries", height=max(300, 140 + _NODE_HEIGHT * tallest))
    note = f"Width of a band: firings that both ends share, up to {max(firings, default=0):,}"
    fig.add_annotation(text=note, x=0, y=1, xref="paper", yref="paper", yanchor="bottom", yshift=4, showarrow=False)
    return with_meta(fig, min_width=WIDTH)


def _flow(
    tables: Sequence[pd.DataFrame], roots: list[int], max_bands: int
) -> tuple[list[list[int]], list[tuple[int, int, int, int]], dict[tuple[int, int], str]]:
    """Return the latents of each column, (level, latent, other, both) of each band, from the roots on, and the names of
    the bars that stand for several latents, −1 − the latent they come from."""
    columns = [roots]
    bands = []
    merged = {}
    for level, table in enumerate(tables):
        order = {latent: i for i, latent in enumerate(columns[-1])}
        edges = table[table["latent"].isin(columns[-1])].sort_values("both", ascending=False, kind="stable")
        thick = edges.head(max_bands)[["latent", "other", "both"]].to_numpy(int).tolist()
        thin = edges.iloc[max_bands:]
        for latent in thin["latent"].unique().tolist():
            edges_of_latent = thin[thin["latent"] == latent]
            other = int(edges_of_latent["other"].iloc[0])
            if len(edges_of_latent) > 1:
                other = -1 - latent
                merged[level + 1, other] = f"{len(edges_of_latent)} more"
            thick.append([latent, other, int(edges_of_latent["both"].sum())])
        rows = sorted(thick, key=lambda row: order[row[0]])
        bands += [(level, latent, other, both) for latent, other, both in rows]
        columns.append([other for _, other, _ in rows])
    return columns, bands, merged
