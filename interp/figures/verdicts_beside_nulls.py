"""Draw how far a ranking can be trusted: verdicts compared with their nulls.

In: the shares of verdicts that `interp.compare.null_dictionaries` writes, with one row per dictionary and verdict. Out:
a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.display.verdict_names import IDLE, ONE_MEANING_ROW, UNTESTED
from interp.figures.figure import figure
from interp.figures.roles import ROLE_COLOURS, ROLE_NAMES, ROLES_IN_WORDS, role_of
from interp.figures.theme import INK, check_columns, escape_markup, interval_bars, with_panel_titles, with_style
from interp.statistics.estimates import wilson

if TYPE_CHECKING:
    import pandas as pd


@figure
def verdict_shares(shares: pd.DataFrame) -> go.Figure:
    """Draw for a dictionary, references and nulls the share of the tested latents with one meaning, and the share of
    those that surely have it, each with its 95% interval; and beside them the share of the latents that fire in too few
    places to be tested. The number of tested latents is in brackets.

    shares: the table of that name of a run's nulls."""
    check_columns(shares, "dictionary", "verdict", "n", "share", "sure_share")
    names = list(dict.fromkeys(shares["dictionary"]))
    titles = ["one meaning, of those tested", "untested"]
    look: dict[str, Any] = {"shared_yaxes": True, "subplot_titles": titles, "horizontal_spacing": 0.08}
    fig = make_subplots(rows=1, cols=2, **look, column_widths=[0.74, 0.26])
    n_tested = []
    for y, name in enumerate(names):
        of_verdict = shares[shares["dictionary"] == name].set_index("verdict")
        n = of_verdict["n"]
        untested = int(n[n.index.isin(UNTESTED) & ~n.index.isin(IDLE)].sum())
        alive = int(n.drop([ONE_MEANING_ROW, *IDLE], errors="ignore").sum())
        tested = alive - untested
        n_tested.append(tested)
        sure = of_verdict["sure_share"].get(ONE_MEANING_ROW, np.nan)
        colour = ROLE_COLOURS[role_of(name)]
        marks = [
            (n.get(ONE_MEANING_ROW, 0), tested, -0.15, "all", "circle", 1),
            (np.nan if np.isnan(sure) else round(sure * alive), tested, 0.2, "sure", "circle-open", 1),
            (untested, alive, 0.0, "untested", "circle", 2),
        ]
        for k, of, shift, group, symbol, column in marks:
            if of and not np.isnan(k):
                marker = {"color": colour, "symbol": symbol, "size": 5}
                point = _interval(k, of, y + shift, name, colour)
                fig.add_scatter(**point, mode="markers", marker=marker, legendgroup=group, row=1, col=column)
    height = 140 + 30 * len(names)
    caption = (
        "The share of the tested latents that have one meaning, with its 95% interval; an open mark counts those that "
        "surely have it. The number of tested latents is in brackets. On the right is the share of the latents that "
        f"fire in too few places to be tested. {ROLES_IN_WORDS}"
    )
    with_style(fig, "Verdicts of the dictionary and of its nulls", height=height, caption=caption)
    keys = [("all", "all", INK, "circle"), ("sure", "sure", INK, "circle-open")]
    keys += [(role, ROLE_NAMES[role], colour, "square") for role, colour in ROLE_COLOURS.items()]
    for group, name, colour, symbol in keys:
        key = {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": 7}, "name": name}
        fig.add_scatter(x=[None], y=[None], showlegend=True, legendgroup=group, **key, row=1, col=1)
    fig.update_xaxes(tickformat=".0%", range=[-0.02, None])
    fig.update_xaxes(title_text="share (95% CI)", dtick=0.2, row=1, col=1)
    fig.update_xaxes(title_text="share", dtick=0.1, row=1, col=2)
    with_panel_titles(fig)
    ticks = [f"{escape_markup(name)} ({n:,})" for name, n in zip(names, n_tested, strict=True)]
    return fig.update_yaxes(tickvals=[*range(len(names))], ticktext=ticks, range=[len(names) - 0.5, -0.5], ticks="")


def _interval(k: float, n: int, y: float, name: str, colour: str) -> dict[str, Any]:
    """Return the share k / n as a point with its interval."""
    share, (low, high) = k / n, wilson(int(k), n)
    return {
        "x": [share],
        "y": [y],
        "error_x": interval_bars(np.array([share]), low, high, thickness=1.5, color=colour),
        "showlegend": False,
        "hovertemplate": f"{escape_markup(name)}: %{{x:.1%}} ({low:.1%} to {high:.1%})<extra></extra>",
    }
