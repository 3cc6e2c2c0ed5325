"""How a dictionary's latents lie to each other: a map, cosines beside those of chance, and which fire together.

In: coordinates, cosines or pairs, computed elsewhere. Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import GREY, SCALE, SEQUENCE, VERDICT_COLOURS, dots, escaped, need, styled, verdict_name

if TYPE_CHECKING:
    import pandas as pd

N_BINS = 50


def decoder_map(points: pd.DataFrame, *, colour: str = "verdict", way: str = "UMAP") -> go.Figure:
    """The decoder's rows in the plane, coloured by verdict or by a column of numbers (a fraction, or one whose decimal
    logarithm is drawn: `density`). points: x, y and the column. Distances have no unit, so the axes have no numbers.
    The colours of numbers end at their 2nd and 98th percentile, so that a few far off leave the others apart."""
    need(points, "x", "y", colour)
    fig = go.Figure()
    if colour == "verdict":
        for verdict, rows in points.groupby("verdict", sort=False):
            hue = VERDICT_COLOURS.get(str(verdict), GREY)
            look = dict(mode="markers", marker=dots(len(points), color=hue), hoverinfo="skip")
            fig.add_scatter(x=rows["x"], y=rows["y"], name=verdict_name(str(verdict)), **look)
        fig.update_layout(legend_itemsizing="constant")
    else:
        values = points[colour].to_numpy(float)
        bar = dict(title=dict(text=_words(colour), side="right"), thickness=10, outlinewidth=0)
        if colour == "density":
            values = np.log10(np.where(values > 0, values, np.nan))
            bar["title"] = dict(text="log<sub>10</sub> density", side="right")
        low, high = np.nanpercentile(values, [2, 98]) if np.isfinite(values).any() else (0, 1)
        marker = dots(len(points), color=values, colorscale=SCALE, colorbar=bar, cmin=low, cmax=high)
        fig.add_scatter(x=points["x"], y=points["y"], mode="markers", marker=marker, hoverinfo="skip")
    x, y = f"{escaped(way)} 1 (no unit)", f"{escaped(way)} 2 (no unit)"
    styled(fig, "Map of the decoder", x=x, y=y, height=520)
    fig.update_xaxes(ticks="", showticklabels=False, showgrid=False)
    return fig.update_yaxes(ticks="", showticklabels=False, showgrid=False, scaleanchor="x", constrain="domain")


def cosine_histogram(
    cosines: Mapping[str, Sequence[float] | np.ndarray], *, null: str | None = None, title: str = "Nearest latents"
) -> go.Figure:
    """How cosines are spread, a line a name. null: the name of those that chance gives, drawn as a grey area."""
    fig = go.Figure()
    found = {name: np.asarray(values, float) for name, values in cosines.items()}
    found = {name: values[np.isfinite(values)] for name, values in found.items()}
    low = min((float(values.min()) for values in found.values() if len(values)), default=0.0)
    edges = np.linspace(np.floor(min(low, 0.0) * 10) / 10, 1, N_BINS + 1)
    hues = iter(SEQUENCE * len(found))
    for name, values in found.items():
        share = np.histogram(np.clip(values, edges[0], 1), edges)[0] / max(len(values), 1)
        look = dict(line=dict(color=GREY, width=1), fill="tozeroy", fillcolor="rgba(138,143,152,.3)")
        look = look if name == null else dict(line=dict(color=next(hues), width=1.8))
        x, y = np.repeat(edges, 2)[1:-1], np.repeat(share, 2)
        fig.add_scatter(x=x, y=y, mode="lines", name=escaped(name), **look)
    fig.update_xaxes(range=[edges[0], 1.01])
    fig.update_yaxes(tickformat=".0%", rangemode="tozero")
    styled(fig, title, x="cosine", y="share of the latents")
    return fig.update_layout(meta={"direct_labels": True})


def coactivation_heatmap(pairs: pd.DataFrame, *, n: int = 24, names: Mapping[int, str] | None = None) -> go.Figure:
    """Which latents fire together: `n` around the closest pair, those that fire together beside each other. pairs: a
    FeatureStore's table `coactivations`; a pair that neither latent has among its closest is white."""
    need(pairs, "latent", "other", "jaccard")
    known = {(int(a), int(b)): float(j) for a, b, j in pairs[["latent", "other", "jaccard"]].itertuples(index=False)}
    known |= {(b, a): value for (a, b), value in known.items()}
    order = _grown(known, n)
    grid = [[known.get((row, column), np.nan) for column in order] for row in order]
    ticks = [escaped((names or {}).get(latent, latent)) for latent in order]
    bar = dict(title=dict(text="Jaccard index", side="right"), thickness=10, outlinewidth=0)
    places = list(range(len(order)))
    fig = go.Figure(go.Heatmap(z=grid, x=places, y=places, colorscale=SCALE, zmin=0, colorbar=bar, hoverongaps=False))
    styled(fig, "Latents that fire together", x="other latent", y="latent", height=560)
    lines: dict[str, Any] = dict(tickvals=places, ticktext=ticks, showgrid=False, constrain="domain", ticks="")
    fig.update_xaxes(**lines, tickangle=-90)
    return fig.update_yaxes(**lines, autorange="reversed", scaleanchor="x")


def _grown(known: Mapping[tuple[int, int], float], n: int) -> list[int]:
    """The closest pair, then again and again the latent that those placed are closest to, in sum; each is put behind
    the one that it is closest to itself. Where none is close to them, the next closest pair begins anew."""
    order: list[int] = []
    pairs = sorted(known, key=lambda pair: (-known[pair], pair))
    while len(order) < n:
        sums: dict[int, float] = {}
        for (inside, outside), value in known.items():
            if inside in order and outside not in order:
                sums[outside] = sums.get(outside, 0.0) + value
        fresh = next((a for a, b in pairs if a not in order and b not in order), None)
        latent = min(sums, key=lambda other: (-sums[other], other)) if sums else fresh
        if latent is None:
            break
        nearest = max(range(len(order)), key=lambda at: known.get((order[at], latent), 0.0), default=-1)
        order.insert(nearest + 1, latent)
    return order


def _words(column: str) -> str:
    return escaped(column.replace("_", " "))
