"""Features and concepts over the checkpoints of a training, above them the loss.

In: what `interp.compare.feature_lives` finds, or the F1 of concepts at each checkpoint. Out: plotly Figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import BLUE, INK, SCALE, VERMILLION, escaped, need, styled

if TYPE_CHECKING:
    import pandas as pd

_LAST = {"there": 0, "born": 1, "flickers": 2, "passing": 3}


def feature_lives(
    lives: pd.DataFrame, presence: np.ndarray, *, steps: Sequence[int], losses: Sequence[float] | None = None
) -> go.Figure:
    """When features are born and die: their number at each checkpoint, and below each feature's correlation with its
    best match there, the oldest at the bottom. Features found at one or two checkpoints only are left out.

    lives, presence: of `compare.Lives`. steps, losses: of each checkpoint, the loss in nats.
    """
    need(lives, "kind", "born", "died")
    fig, row = _panels(losses, steps, [0.2])
    ticks = np.arange(len(steps))
    for column, name, colour, sign in (("born", "born", BLUE, 1), ("died", "died", VERMILLION, -1)):
        counts = np.bincount(lives[column][lives["kind"] != "passing"].dropna().astype(int), minlength=len(steps))
        fig.add_bar(x=ticks, y=sign * counts, name=name, marker_color=colour, width=0.7, row=row, col=1)
    shown = lives[lives["kind"] != "passing"]
    order = shown.assign(last=shown["kind"].map(_LAST)).sort_values(["last", "born", "died"]).index
    z = np.clip(np.asarray(presence, float)[order], 0, 1)
    fig.add_trace(_raster(z, ticks, "r of the best match"), row=row + 1, col=1)
    _finished(fig, "When features are born", 540 if losses is not None else 440, steps)
    fig.update_yaxes(title_text="number", row=row)
    return fig.update_yaxes(title_text=f"{len(order):,} features", showticklabels=False, ticks="", row=row + 1)


def concept_births(
    scores: np.ndarray, concepts: Sequence[str], *, steps: Sequence[int], losses: Sequence[float] | None = None
) -> go.Figure:
    """When each concept's best feature appears: its F1 at each checkpoint, those that appear first at the bottom.

    scores: a row a concept, a column a checkpoint. steps, losses: of each checkpoint, the loss in nats.
    """
    fig, row = _panels(losses, steps, [])
    z = np.nan_to_num(np.asarray(scores, float))
    final = z[:, -1:]
    order = np.lexsort((-z[:, -1], np.argmax(z >= final / 2, 1)))
    fig.add_trace(_raster(z[order], np.arange(len(steps)), "F1 of the best feature"), row=row, col=1)
    names = [escaped(str(concepts[i]).replace("_", " ")) for i in order]
    fig.update_yaxes(tickvals=np.arange(len(names)), ticktext=names, title_text="concept", row=row)
    height = (260 if losses is not None else 160) + 15 * len(names)
    return _finished(fig, "When each concept has a feature", height, steps)


def _panels(losses: Sequence[float] | None, steps: Sequence[int], heights: list[float]) -> tuple[go.Figure, int]:
    """Panels above one another, the loss in the first, and the row of the next."""
    shares = [*([0.22] if losses is not None else []), *heights]
    fig = make_subplots(
        rows=len(shares) + 1,
        shared_xaxes=True,
        vertical_spacing=0.04,
        row_heights=[*shares, 1 - sum(shares)],
    )
    if losses is not None:
        look = dict(mode="lines+markers", line=dict(color=INK, width=1.8), showlegend=False)
        fig.add_scatter(x=np.arange(len(steps)), y=losses, name="loss", **look, row=1, col=1)
        fig.update_yaxes(title_text="loss (nats)", row=1)
    return fig, 1 + (losses is not None)


def _raster(z: np.ndarray, x: np.ndarray, title: str) -> go.Heatmap:
    bar = dict(title=dict(text=title, side="right"), thickness=10, outlinewidth=0, len=0.6, y=0.3)
    return go.Heatmap(z=z, x=x, colorscale=SCALE, zmin=0, zmax=1, colorbar=bar)


def _finished(fig: go.Figure, title: str, height: int, steps: Sequence[int]) -> go.Figure:
    styled(fig, title, height=height)
    fig.update_layout(bargap=0.1, barmode="relative")
    fig.update_xaxes(tickvals=np.arange(len(steps)), ticktext=[f"{step:,}" for step in steps])
    rows = max(int(name.removeprefix("yaxis") or 1) for name in fig.to_dict()["layout"] if name.startswith("yaxis"))
    return fig.update_xaxes(title_text="steps of training", row=rows)
