"""Draw the features and concepts that a dictionary has at each checkpoint of a training.

In: the measurements of `features_in_training` at each checkpoint. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import BLUE, COLOUR_SCALE, INK, VERMILLION, check_columns, colour_bar, plain_name, with_style

_LAST = {"there": 0, "born": 1, "flickers": 2, "passing": 3}


def feature_lives(
    lives: pd.DataFrame, presence: np.ndarray, *, steps: Sequence[int], losses: Sequence[float] | None = None
) -> go.Figure:
    """Draw when features are born and die: their number at each checkpoint and, below, the correlation of each feature
    with its best match at each checkpoint, with the oldest features at the bottom. Features that exist at only one or
    two checkpoints are left out.

    lives, presence: those of `feature_lives.Lives`.
    steps, losses: the step and the loss, in nats, of each checkpoint. The losses are drawn on top.
    """
    check_columns(lives, "kind", "born", "died")
    shown = lives[lives["kind"] != "passing"]
    order = shown.assign(last=shown["kind"].map(_LAST)).sort_values(["last", "born", "died"]).index
    z = np.clip(np.asarray(presence, float)[order], 0, 1)
    bars = []
    for name, colour, sign in (("born", BLUE, 1), ("died", VERMILLION, -1)):
        counts = sign * np.bincount(shown[name].dropna().astype(int), minlength=len(steps))
        bars.append(go.Bar(x=np.arange(len(steps)), y=counts, name=name, marker_color=colour, width=0.7))
    fig, row = _over_checkpoints("When features are born", z, "r of the best match", steps, losses, 440, bars)
    fig.update_yaxes(title_text="number", row=row - 1)
    return fig.update_yaxes(title_text=f"{len(order):,} features", showticklabels=False, ticks="", row=row)


def concept_births(
    scores: np.ndarray, concepts: Sequence[str], *, steps: Sequence[int], losses: Sequence[float] | None = None
) -> go.Figure:
    """Draw when the best feature of each concept appears: its F1 at each checkpoint, with the earliest concepts at the
    bottom.

    scores: a row per concept, and a column per checkpoint.
    steps, losses: the step and the loss, in nats, of each checkpoint. The losses are drawn on top.
    """
    z = np.nan_to_num(np.asarray(scores, float))
    order = np.lexsort((-z[:, -1], np.argmax(z >= z[:, -1:] / 2, 1)))
    title, height = "When each concept has a feature", 160 + 15 * len(order)
    fig, row = _over_checkpoints(title, z[order], "F1 of the best feature", steps, losses, height)
    names = [plain_name(concepts[i]) for i in order]
    return fig.update_yaxes(tickvals=np.arange(len(names)), ticktext=names, title_text="concept", row=row)


def _over_checkpoints(
    title: str,
    z: np.ndarray,
    unit: str,
    steps: Sequence[int],
    losses: Sequence[float] | None,
    height: int,
    bars: Sequence[go.Bar] = (),
) -> tuple[go.Figure, int]:
    """Draw a raster with one column per checkpoint. Above it are the bars and, on top, the loss, if they are given."""
    shares = [*([0.22] if losses is not None else []), *([0.2] if bars else [])]
    row, heights, x = len(shares) + 1, [*shares, 1 - sum(shares)], np.arange(len(steps))
    fig = make_subplots(rows=row, shared_xaxes=True, vertical_spacing=0.04, row_heights=heights)
    if losses is not None:
        look = dict(mode="lines+markers", line=dict(color=INK, width=1.8), showlegend=False)
        fig.add_scatter(x=x, y=losses, name="loss", **look, row=1, col=1)
        fig.update_yaxes(title_text="loss (nats)", row=1)
    for bar in bars:
        fig.add_trace(bar, row=row - 1, col=1)
    key = colour_bar(unit, len=0.6, y=0.3)
    fig.add_heatmap(z=z, x=x, colorscale=COLOUR_SCALE, zmin=0, zmax=1, colorbar=key, row=row, col=1)
    with_style(fig, title, height=height + 100 * (losses is not None)).update_layout(bargap=0.1, barmode="relative")
    fig.update_xaxes(tickvals=x, ticktext=[f"{step:,}" for step in steps])
    return fig.update_xaxes(title_text="steps of training", row=row), row
