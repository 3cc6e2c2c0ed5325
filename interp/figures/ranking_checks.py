"""How far a ranking can be trusted: verdicts beside their nulls, and what the explanations alone recover.

In: the verdict shares that `interp.compare.null_dictionaries` writes (a row a dictionary and verdict), and the losses
of `interp.rewriting`. Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import (
    BLUE,
    GREY,
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
        for (kind, (columns, said, symbol)), shift in zip(kinds.items(), shifts, strict=False):
            look = dict(name=said, legendgroup=kind, marker=dict(color=colour, symbol=symbol, size=7))
            points = _intervals(rows, columns, colour)
            fig.add_scatter(y=np.arange(len(names)) + shift, **look, **points, **place)
        top = float(np.nanmax(rows["ci_high"].to_numpy(float), initial=0.05))
        fig.update_xaxes(range=[0, 1.08 * top], tickformat=".0%", nticks=3, **place)
    styled(fig, "Verdicts of the dictionary and of its nulls", height=90 + n_rows * (50 + 30 * len(names)))
    for _, said, symbol in kinds.values():
        key = dict(mode="markers", marker=dict(color=INK, symbol=symbol, size=7), name=said)
        fig.add_scatter(x=[None], y=[None], showlegend=True, **key, row=1, col=1)
    fig.update_xaxes(title_text="share (95 % CI)", row=n_rows)
    panelled(fig)
    lines = dict(tickvals=list(range(len(names))), ticktext=list(map(escaped, names)), range=[len(names) - 0.5, -0.5])
    return fig.update_yaxes(**lines, ticks="")


def loss_in_words(losses: pd.DataFrame) -> go.Figure:
    """The cross-entropy that each reconstruction recovers of what ablation to the mean costs, one dot each, the best on
    top; the ends are the mean (0) and the model itself (1)."""
    need(losses, "reconstruction", "ce_recovered_mean", "ce_spliced", "ce_clean", "ce_mean_ablated")
    drawn = losses[["reconstruction", "ce_recovered_mean", "ce_spliced"]].to_numpy().tolist()
    first, ends = losses.iloc[0], ("model as it is", "mean ablation")
    drawn += [[ends[0], 1.0, first["ce_clean"]], [ends[1], 0.0, first["ce_mean_ablated"]]]
    drawn.sort(key=lambda row: row[1])
    names, recovered, ce = [escaped(row[0]) for row in drawn], [row[1] for row in drawn], [row[2] for row in drawn]
    places = list(range(len(names)))
    colours = [GREY if name in ends else BLUE if name == "words" else INK for name in names]
    fig = go.Figure()
    fig.add_scatter(
        x=recovered,
        y=places,
        mode="markers+text",
        marker=dict(color=colours, size=9),
        text=[f"{share:.1%}" for share in recovered],
        textposition="top center",
        textfont_size=11,
        customdata=list(zip(names, ce, strict=True)),
        hovertemplate="%{customdata[0]}: %{x:.1%}, %{customdata[1]:.3f} nats a token<extra></extra>",
        showlegend=False,
    )
    fig.add_vline(x=0, line=dict(color=GREY, dash="dot"))
    styled(fig, "What the explanations alone recover", y="in place of the activations", height=130 + 38 * len(names))
    fig.update_yaxes(tickvals=places, ticktext=names, range=[-0.5, len(names) - 0.3], ticks="")
    x, low = "cross-entropy recovered (held out)", min(0.0, *recovered)
    return fig.update_xaxes(title_text=x, tickformat=".0%", range=[1.15 * low - 0.06, 1.08])


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
