"""Draws how far a ranking can be trusted: verdicts beside their nulls.

In: the verdict shares that `interp.compare.null_dictionaries` writes (a row a dictionary and verdict). Out: a plotly
Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import (
    INK,
    VERDICT_COLOURS,
    escaped,
    need,
    panelled,
    styled,
    verdict_name,
)

if TYPE_CHECKING:
    import pandas as pd

MIN_SHARE = 0.005


def verdict_shares(shares: pd.DataFrame) -> go.Figure:
    """A panel a verdict, one meaning first, a row a dictionary: of the latents that are not idle, the share that has
    the verdict (full) and, where verdicts go by a probability, the share that is sure of it (open), each with its
    95 % interval. Verdicts that no dictionary has on more than 0.5 % of its latents are left out."""
    need(shares, "dictionary", "verdict", "share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high")
    names = list(dict.fromkeys(shares["dictionary"]))
    largest = shares.groupby("verdict")["share"].max()
    verdicts = [verdict for verdict in ("one_meaning", *VERDICT_COLOURS) if largest.get(verdict, 0) > MIN_SHARE]
    n_rows = max(1, -(-len(verdicts) // 2))
    titles = [verdict_name(verdict) for verdict in verdicts]
    spacing = dict(horizontal_spacing=0.08, vertical_spacing=0.3 / n_rows)
    fig = make_subplots(rows=n_rows, cols=2, shared_yaxes=True, subplot_titles=titles, **spacing)
    kinds = {
        "all": (("share", "ci_low", "ci_high"), "all with the verdict", "circle"),
        "sure": (("sure_share", "sure_low", "sure_high"), "those that are sure of it", "circle-open"),
    }
    for i, verdict in enumerate(verdicts):
        rows = shares[shares["verdict"] == verdict].set_index("dictionary").reindex(names)
        place, colour = dict(row=i // 2 + 1, col=i % 2 + 1), VERDICT_COLOURS.get(verdict, INK)
        shifts = (-0.15, 0.2) if rows["sure_share"].notna().any() else (0.0,)
        for (kind, (columns, caption, symbol)), shift in zip(kinds.items(), shifts, strict=False):
            look = dict(name=caption, legendgroup=kind, marker=dict(color=colour, symbol=symbol, size=7))
            points = _intervals(rows, columns, colour)
            fig.add_scatter(y=np.arange(len(names)) + shift, **look, **points, **place)
        top = float(np.nanmax(rows["ci_high"].to_numpy(float), initial=0.05))
        fig.update_xaxes(range=[0, 1.08 * top], tickformat=".0%", nticks=3, **place)
    styled(fig, "Verdicts of the dictionary and of its nulls", height=90 + n_rows * (50 + 30 * len(names)))
    for _, caption, symbol in kinds.values():
        key = dict(mode="markers", marker=dict(color=INK, symbol=symbol, size=7), name=caption)
        fig.add_scatter(x=[None], y=[None], showlegend=True, **key, row=1, col=1)
    fig.update_xaxes(title_text="share (95 % CI)", row=n_rows)
    panelled(fig)
    lines = dict(tickvals=list(range(len(names))), ticktext=list(map(escaped, names)), range=[len(names) - 0.5, -0.5])
    return fig.update_yaxes(**lines, ticks="")


def _error(at: Any, low: Any, high: Any, **look: Any) -> dict[str, Any]:
    """An interval as plotly wants it: its distances from the point."""
    return dict(type="data", symmetric=False, array=high - at, arrayminus=at - low, thickness=1, **look)


def _intervals(rows: pd.DataFrame, columns: tuple[str, str, str], colour: str) -> dict[str, Any]:
    """Points with their intervals, a row a dictionary. columns: of the share and of both ends."""
    share, low, high = (rows[name] for name in columns)
    return dict(
        x=share,
        mode="markers",
        error_x=_error(share, low, high, color=colour, width=0),
        showlegend=False,
        customdata=list(zip(map(escaped, share.index), low, high, strict=True)),
        hovertemplate="%{customdata[0]}: %{x:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})",
    )
