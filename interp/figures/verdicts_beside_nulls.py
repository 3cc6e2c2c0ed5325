"""Draw how far a ranking can be trusted: verdicts compared with their nulls.

In: the shares of verdicts that `interp.compare.null_dictionaries` writes, with one row per dictionary and verdict. Out:
a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.display.verdict_names import ONE_MEANING_ROW, SINGLE_TOKEN
from interp.figures.figure import figure
from interp.figures.roles import ROLE_COLOURS, ROLE_NAMES, role_of
from interp.figures.theme import (
    INK,
    check_columns,
    escape_markup,
    interval_bars,
    verdict_name,
    with_panel_titles,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd

DRAWN_VERDICTS = (ONE_MEANING_ROW, SINGLE_TOKEN)
"""The verdicts that are drawn: latents of one meaning, and those among them that a single token explains."""


@figure
def verdict_shares(shares: pd.DataFrame) -> go.Figure:
    """Draw for a dictionary, references that may learn as it did, and its nulls the share of latents with one meaning
    among those that are neither dead nor faint, whose number is in brackets, and the share that a single token
    explains, each with its 95% interval. Latents too rare to be tested count as having none. An open mark is the share
    that surely has one meaning.

    shares: the table of that name of a run's nulls."""
    check_columns(
        shares, "dictionary", "verdict", "n", "share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high"
    )
    names = list(dict.fromkeys(shares["dictionary"]))
    titles = [verdict_name(verdict) for verdict in DRAWN_VERDICTS]
    tops = [max(0.05, float(shares.loc[shares["verdict"] == v, "ci_high"].max())) for v in DRAWN_VERDICTS]
    margin = 0.04 * max(tops)
    spans = [top + 2 * margin for top in tops]  # as which the panels are wide, on one scale
    look = {"shared_yaxes": True, "subplot_titles": titles, "horizontal_spacing": 0.08, "column_widths": spans}
    fig = make_subplots(rows=1, cols=2, **look)
    parts = {
        "all": (("share", "ci_low", "ci_high"), "all", "circle"),
        "sure": (("sure_share", "sure_low", "sure_high"), "those that are sure", "circle-open"),
    }
    for i, verdict in enumerate(DRAWN_VERDICTS):
        rows = shares[shares["verdict"] == verdict].set_index("dictionary").reindex(names)
        colours = [ROLE_COLOURS[role_of(name)] for name in names]
        shifts = (-0.15, 0.2) if rows["sure_share"].notna().any() else (0.0,)
        for (part, (columns, caption, symbol)), shift in zip(parts.items(), shifts, strict=False):
            for y, (name, colour) in enumerate(zip(names, colours, strict=True)):
                look = {"name": caption, "legendgroup": part, "marker": {"color": colour, "symbol": symbol, "size": 5}}
                points = _interval(rows.loc[[name]], columns, colour)
                fig.add_scatter(y=[y + shift], **look, **points, row=1, col=i + 1)
        fig.update_xaxes(range=[-margin, tops[i] + margin], row=1, col=i + 1)
    fig.update_xaxes(tickformat=".0%", dtick=0.2 if max(tops) > 0.4 else 0.1)
    with_style(fig, "Verdicts of the dictionary and of its nulls", height=140 + 30 * len(names))
    keys = [(part, caption, INK, symbol) for part, (_, caption, symbol) in parts.items()]
    keys += [(role, ROLE_NAMES[role], colour, "square") for role, colour in ROLE_COLOURS.items()]
    for group, name, colour, symbol in keys:
        key = {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": 7}, "name": name}
        fig.add_scatter(x=[None], y=[None], showlegend=True, legendgroup=group, **key, row=1, col=1)
    fig.update_xaxes(title_text="share of latents (95% CI)", row=1, col=1)
    with_panel_titles(fig)
    lines = {
        "tickvals": list(range(len(names))),
        "ticktext": [f"{escape_markup(name)} ({_n_judged(shares, name):,})" for name in names],
        "range": [len(names) - 0.5, -0.5],
    }
    return fig.update_yaxes(**lines, ticks="")


def _n_judged(shares: pd.DataFrame, dictionary: str) -> int:
    """Return how many latents of a dictionary the shares are of: those that are neither dead nor faint."""
    rows = shares[(shares["dictionary"] == dictionary) & (shares["share"] > 0)]
    return round(float((rows["n"] / rows["share"]).max())) if len(rows) else 0


def _interval(rows: pd.DataFrame, columns: tuple[str, str, str], colour: str) -> dict[str, Any]:
    """Return a point with its interval.
    rows: that of a dictionary. columns: the columns of the share and of both ends."""
    share, low, high = (rows[name] for name in columns)
    return {
        "x": share,
        "mode": "markers",
        "error_x": interval_bars(share, low, high, thickness=1.5, color=colour),
        "showlegend": False,
        "customdata": list(zip(map(escape_markup, share.index), low, high, strict=True)),
        "hovertemplate": "%{customdata[0]}: %{x:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})",
    }
