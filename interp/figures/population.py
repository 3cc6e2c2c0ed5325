"""All features at once: scores by verdict, score against density, features against neurons, the map of the decoder.

In: a ranking (one row a latent), a concept table, coordinates. Out: a plotly Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import BLUE, GREY, SCALE, SEQUENCE, VERDICT_COLOURS, label, need, styled

if TYPE_CHECKING:
    import pandas as pd

UNITS = {
    "monosemanticity": "monosemanticity (probability)",
    "context_coherence": "coherence (centred cosine of the contexts)",
    "consistency": "consistency across activation intervals",
    "token_entropy": "entropy of the firing token (nats)",
    "explanation_f1": "F1 of the explanation (held out)",
    "density": "density (share of tokens)",
}


def score_distributions(ranking: pd.DataFrame, *, score: str = "monosemanticity") -> go.Figure:
    """How one score is spread within each verdict: a violin with its box, and the number of latents."""
    need(ranking, "verdict", score)
    fig = go.Figure()
    for verdict, rows in _by_verdict(ranking.dropna(subset=[score])):
        fig.add_violin(
            y=rows[score],
            name=f"{verdict.replace('_', ' ')}<br>{len(rows):,}",
            line_color=VERDICT_COLOURS.get(verdict, GREY),
            box_visible=True,
            points=False,
            spanmode="hard",
            showlegend=False,
        )
    return styled(fig, f"{_title(score)} by verdict", x="verdict (number of latents)", y=UNITS.get(score, score))


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
            name=verdict.replace("_", " "),
            customdata=part["latent"],
            marker=dict(color=VERDICT_COLOURS.get(verdict, GREY), size=4, opacity=0.55),
            hovertemplate="latent %{customdata}<br>density %{x:.2g}<br>" + score + " %{y:.3f}<extra></extra>",
        )
    fig.update_layout(legend_itemsizing="constant")
    styled(fig, f"{_title(score)} against density", x="density (share of tokens, log scale)", y=UNITS.get(score, score))
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


def decoder_map(points: pd.DataFrame, *, colour: str = "verdict", n_labels: int = 6) -> go.Figure:
    """Latents in the plane. `points`: latent, x, y and the column `colour`: a verdict, a label (the `n_labels` most
    frequent keep a colour), or a number (`density` on a log scale)."""
    need(points, "latent", "x", "y", colour)
    hover = "latent %{customdata}<extra></extra>"
    fig = go.Figure()
    if points[colour].dtype.kind in "fiu":
        values = points[colour].to_numpy(float)
        text = UNITS.get(colour, colour)
        if colour == "density":
            values, text = np.log10(np.where(values > 0, values, np.nan)), "log10 density"
        marker = dict(
            color=values, colorscale=SCALE, size=4, colorbar=dict(title=text, title_side="right", thickness=12)
        )
        fig.add_scatter(x=points["x"], y=points["y"], mode="markers", marker=marker, customdata=points["latent"])
    else:
        groups = _by_verdict(points) if colour == "verdict" else _by_label(points, colour, n_labels)
        palette = (
            VERDICT_COLOURS if colour == "verdict" else dict(zip([name for name, _ in groups], SEQUENCE, strict=False))
        )
        for name, part in groups:
            shade = GREY if name == "other" else palette.get(name, GREY)
            fig.add_scatter(
                x=part["x"],
                y=part["y"],
                mode="markers",
                name=label(name.replace("_", "\u00a0")),
                customdata=part["latent"],
                marker=dict(color=shade, size=4, opacity=0.35 if name == "other" else 0.75),
            )
    fig.update_traces(hovertemplate=hover)
    fig.update_layout(legend_itemsizing="constant")
    styled(
        fig,
        f"Map of the decoder, by {colour.replace('_', ' ')}",
        x="UMAP 1 (no unit)",
        y="UMAP 2 (no unit)",
        height=560,
    )
    fig.update_xaxes(showticklabels=False, showgrid=False)
    return fig.update_yaxes(showticklabels=False, showgrid=False, scaleanchor="x")


def _by_verdict(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Rows of each verdict, in the order of the palette."""
    known = [*VERDICT_COLOURS, *sorted(set(table["verdict"].dropna()) - set(VERDICT_COLOURS))]
    return [(verdict, rows) for verdict in known if len(rows := table[table["verdict"] == verdict])]


def _by_label(table: pd.DataFrame, column: str, n: int) -> list[tuple[str, pd.DataFrame]]:
    """Rows of the `n` most frequent values, and the rest as `other`, drawn first so that it lies below."""
    frequent = list(table[column].value_counts().index[:n])
    rest = table[~table[column].isin(frequent)]
    groups = [(str(value), table[table[column] == value]) for value in frequent]
    return [("other", rest), *groups] if len(rest) else groups


def _title(score: str) -> str:
    return score.replace("_", " ").capitalize().replace("f1", "F1")
