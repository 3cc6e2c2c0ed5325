"""Figures of all latents of a dictionary: firing densities, scores by verdict, score against density, concepts.

In: a FeatureStore's table `features`, a ranking (one row a latent), a concept table. Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import (
    BLUE,
    GREY,
    ORANGE,
    SEQUENCE,
    VERDICT_COLOURS,
    escaped,
    label,
    need,
    styled,
    verdict_name,
)

if TYPE_CHECKING:
    import pandas as pd

UNTESTED = ("dead", "too_rare", "unranked")
"""Verdicts whose scores stand for "not tested", not for a measurement."""
UNITS = {
    "monosemanticity": "monosemanticity (probability)",
    "context_coherence": "coherence (centred cosine of the contexts)",
    "consistency": "consistency across activation intervals",
    "token_entropy": "entropy of the firing token (nats)",
    "explanation_f1": "F1 of the explanation (held out)",
    "density": "density (share of tokens)",
}


def density_histogram(
    features: pd.DataFrame | Mapping[str, pd.DataFrame], *, ultra_low: float = 1e-5, bin_width: float = 0.2
) -> go.Figure:
    """log10 of the share of tokens on which each latent fires. Dead latents stand apart as a spike on the left, and the
    range below `ultra_low` is shaded. A mapping (name → table) overlays dictionaries or checkpoints as lines."""
    tables = features if isinstance(features, Mapping) else {"": features}
    for table in tables.values():
        need(table, "density")
    densities = {escaped(name): np.nan_to_num(table["density"].to_numpy(float)) for name, table in tables.items()}
    logs = {name: np.log10(d[d > 0]) for name, d in densities.items()}
    lowest = min((values.min() for values in logs.values() if len(values)), default=-1.0)
    edges = np.arange(np.floor(min(lowest, np.log10(ultra_low)) / bin_width) * bin_width, bin_width, bin_width)
    spike = edges[0] - 4 * bin_width

    fig = go.Figure()
    for (name, values), colour in zip(logs.items(), SEQUENCE * len(logs), strict=False):
        counts, _ = np.histogram(values, edges)
        centres = (edges[:-1] + edges[1:]) / 2
        dead = int((densities[name] == 0).sum())
        if len(tables) == 1:
            fig.add_bar(x=centres, y=counts, width=bin_width * 0.92, marker_color=BLUE, showlegend=False)
            fig.add_bar(x=[spike], y=[dead], width=bin_width * 0.92, marker_color=GREY, showlegend=False)
            share = dead / max(len(densities[name]), 1)
            text = f"dead<br>{dead:,} ({share:.1%})"
            fig.add_annotation(x=spike, y=dead, text=text, showarrow=False, yshift=16, font_size=11)
        else:
            fig.add_scatter(x=edges[:-1], y=counts, mode="lines", line=dict(shape="hv", color=colour), name=name)
            fig.add_scatter(x=[spike], y=[dead], mode="markers", marker_color=colour, showlegend=False)
    return _mark_ultra_low(fig, densities, ultra_low, edges[0], spike)


def _mark_ultra_low(fig: go.Figure, densities: Mapping[str, np.ndarray], ultra_low: float, left: float, spike: float):
    counts = {name: int(((d > 0) & (d < ultra_low)).sum()) for name, d in densities.items()}
    text = ", ".join(f"{name} {n:,}".strip() for name, n in counts.items())
    threshold = float(np.log10(ultra_low))
    fig.add_vrect(x0=left, x1=threshold, fillcolor=ORANGE, opacity=0.14, line_width=0, layer="below")
    place = dict(x=threshold, y=1, yref="y domain", xanchor="right", yanchor="top", align="right")
    fig.add_annotation(text=f"ultra-low<br>{text}", showarrow=False, font_size=11, **place)
    ticks = list(range(int(np.ceil(left)), 1))
    styled(fig, "Firing density of the latents", x="density (share of tokens, log scale)", y="latents")
    fig.update_xaxes(tickvals=[spike, *ticks], ticktext=["0", *(f"10<sup>{t}</sup>" for t in ticks)])
    if len(densities) > 1:
        fig.add_annotation(x=spike, y=0, yref="y domain", yanchor="bottom", text="dead", showarrow=False, font_size=11)
    return fig


def score_distributions(ranking: pd.DataFrame, *, score: str = "monosemanticity") -> go.Figure:
    """How one score is spread within each verdict: a violin with its box, and the number of latents. Those whose
    verdict is that they were not tested have no score, whatever the table holds."""
    need(ranking, "verdict", score)
    fig = go.Figure()
    tested = ranking[~ranking["verdict"].isin(UNTESTED)]
    for verdict, rows in _by_verdict(tested.dropna(subset=[score])):
        fig.add_violin(
            y=rows[score],
            name=f"{verdict_name(verdict)}<br>{len(rows):,}",
            line_color=VERDICT_COLOURS.get(verdict, GREY),
            box_visible=True,
            points=False,
            spanmode="hard",
            showlegend=False,
        )
    return styled(fig, f"{_title(score)} by verdict", x="verdict (number of latents)", y=_unit(score))


def coherence_density(ranking: pd.DataFrame, *, score: str = "context_coherence") -> go.Figure:
    """A score against firing density, coloured by verdict: a score that only follows density says little."""
    need(ranking, "latent", "verdict", "density", score)
    fig = go.Figure()
    rows = ranking[ranking["density"] > 0].dropna(subset=[score])
    for verdict, part in _by_verdict(rows):
        fig.add_scatter(
            x=part["density"],
            y=part[score],
            mode="markers",
            name=verdict_name(verdict),
            customdata=part["latent"],
            marker=dict(color=VERDICT_COLOURS.get(verdict, GREY), size=4, opacity=0.55),
            hovertemplate="latent %{customdata}<br>density %{x:.2g}<br>" + escaped(score) + " %{y:.3f}<extra></extra>",
        )
    fig.update_layout(legend_itemsizing="constant")
    styled(fig, f"{_title(score)} against density", x="density (share of tokens, log scale)", y=_unit(score))
    return fig.update_xaxes(type="log", exponentformat="power", dtick=1)


def concept_scatter(concepts: pd.DataFrame) -> go.Figure:
    """For each labelled concept, the held-out F1 of the best feature against that of the best neuron."""
    need(concepts, "label", "f1_feature", "f1_neuron")
    fig = go.Figure()
    fig.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=dict(color=GREY, dash="dot", width=1), hoverinfo="skip", showlegend=False
    )
    x, y = concepts["f1_neuron"].to_numpy(float), concepts["f1_feature"].to_numpy(float)
    texts = [str(text).replace("_", " ") for text in concepts["label"]]
    fig.add_scatter(
        x=x,
        y=y,
        mode="markers+text",
        text=[label(text) for text in texts],
        textposition=_free_sides(x, y, texts),
        textfont_size=10,
        marker=dict(color=BLUE, size=8),
        showlegend=False,
        hovertemplate="%{text}<br>feature %{y:.3f}, neuron %{x:.3f}<extra></extra>",
    )
    styled(fig, "Concepts: best feature against best neuron", x="F1 of the best neuron (held out)", height=520)
    fig.update_yaxes(title_text="F1 of the best feature (held out)", range=[-0.03, 1.05])
    return fig.update_xaxes(range=[-0.03, 1.05])


def _free_sides(x: np.ndarray, y: np.ndarray, texts: list[str]) -> list[str]:
    """A side for each text where it covers the fewest points and texts placed before it (in the figure's own size)."""
    height, per_character, gap = 0.028, 0.0115, 0.014
    points = [(a - gap, a + gap, b - gap, b + gap) for a, b in zip(x, y, strict=True)]
    taken: list[tuple] = []
    chosen = []
    for a, b, text in zip(x, y, texts, strict=True):
        width = per_character * len(text)
        starts = {
            "middle right": (a + gap, b - height / 2),
            "middle left": (a - gap - width, b - height / 2),
            "top center": (a - width / 2, b + gap),
            "bottom center": (a - width / 2, b - gap - height),
        }
        places = {side: (u, u + width, v, v + height) for side, (u, v) in starts.items()}
        cost = {side: _covered(box, points) + 5 * _covered(box, taken) for side, box in places.items()}
        best = min(cost, key=cost.__getitem__)
        taken.append(places[best])
        chosen.append(best)
    return chosen


def _covered(box: tuple, others: list[tuple]) -> float:
    """The area of `box` that lies under others, in thousandths; much for a box that leaves the axes."""
    left, right, bottom, top = box
    outside = 1e3 if left < -0.03 or right > 1.05 else 0.0
    widths = ((min(right, u1) - max(left, u0), min(top, v1) - max(bottom, v0)) for u0, u1, v0, v1 in others)
    return outside + sum(1e3 * width * height for width, height in widths if width > 0 and height > 0)


def _by_verdict(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Rows of each verdict, in the order of the palette."""
    known = [*VERDICT_COLOURS, *sorted(set(table["verdict"].dropna()) - set(VERDICT_COLOURS))]
    return [(verdict, rows) for verdict in known if len(rows := table[table["verdict"] == verdict])]


def _unit(score: str) -> str:
    """The title of a score's axis."""
    return UNITS.get(score, escaped(score))


def _title(score: str) -> str:
    return score.replace("_", " ").capitalize().replace("f1", "F1")
