"""What becomes of features from one dictionary to a wider one, as a flow from left to right.

In: tables of edges as `interp.compare.splitting` makes them. Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from interp.figures.theme import GREY, SEQUENCE, WIDTH, label, need, styled

if TYPE_CHECKING:
    import pandas as pd

_ROW = 17
"""Pixels a node of the tallest column."""


def splitting(
    levels: Sequence[pd.DataFrame],
    *,
    names: Sequence[Mapping[int, str]] = (),
    roots: Sequence[int] | None = None,
    most: int = 8,
    rows: int = 40,
) -> go.Figure:
    """A column of bars a dictionary, narrow on the left; a band is as thick as the rows on which both of its ends fire.
    Of each column the `rows` thickest are drawn, and the others of a feature as one bar, "n more".

    levels: latent, other, both, is_best, from each dictionary to the next wider one. names: of the latents of each
    dictionary, left to right; their numbers, where there are none. roots: the narrow latents that are shown; by default
    the `most` that split into the most.
    """
    for table in levels:
        need(table, "latent", "other", "both", "is_best")
    tables = [table[table["is_best"]] for table in levels]
    n_children = tables[0]["latent"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    roots = list(map(int, n_children.index[:most] if roots is None else roots))
    columns, bands, merged = _flow(tables, roots, rows)
    place = {(level, latent): i for i, (level, latent) in enumerate((k, j) for k, c in enumerate(columns) for j in c)}
    colours = {(0, root): SEQUENCE[i % len(SEQUENCE)] for i, root in enumerate(columns[0])}
    for level, latent, other, _ in bands:
        colours[level + 1, other] = colours[level, latent]
    known = [*names, *[{}] * len(columns)]
    labels = [merged.get(key) or label(known[key[0]].get(key[1], f"#{key[1]}")) for key in place]
    shades = [GREY if key in merged else colours[key] for key in place]
    node = dict(label=labels, color=shades, align="left", pad=_ROW - 4, thickness=8, line_width=0)
    link = dict(
        source=[place[level, latent] for level, latent, _, _ in bands],
        target=[place[level + 1, other] for level, _, other, _ in bands],
        value=[max(both, 1) for *_, both in bands],
        color=[_pale(colours[level, latent]) for level, latent, _, _ in bands],
    )
    tallest = max(map(len, columns))
    fig = go.Figure(go.Sankey(node=node, link=link, arrangement="snap", textfont=dict(size=10)))
    styled(fig, "Features that split in wider dictionaries", height=max(300, 120 + _ROW * tallest))
    return fig.update_layout(meta={"min_width": WIDTH})


def _flow(
    tables: Sequence[pd.DataFrame], roots: list[int], most: int
) -> tuple[list[list[int]], list[tuple[int, int, int, int]], dict[tuple[int, int], str]]:
    """The latents of each column, (level, latent, other, both) of each band, from the roots on, and the names of the
    bars that stand for several latents, −1 − the latent they come from."""
    columns, bands, merged = [roots], [], {}
    for level, table in enumerate(tables):
        order = {latent: i for i, latent in enumerate(columns[-1])}
        edges = table[table["latent"].isin(columns[-1])].sort_values("both", ascending=False, kind="stable")
        thick = edges.head(most)[["latent", "other", "both"]].to_numpy(int).tolist()
        thin = edges.iloc[most:]
        for latent in thin["latent"].unique().tolist():
            rest = thin[thin["latent"] == latent]
            other = int(rest["other"].iloc[0])
            if len(rest) > 1:
                merged[level + 1, other := -1 - latent] = f"{len(rest)} more"
            thick.append([latent, other, int(rest["both"].sum())])
        rows = sorted(thick, key=lambda row: order[row[0]])
        bands += [(level, latent, other, both) for latent, other, both in rows]
        columns.append([other for _, other, _ in rows])
    return columns, bands, merged


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.3)"
