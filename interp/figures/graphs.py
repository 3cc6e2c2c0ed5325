"""Draw circuits: the attribution graph of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.figure import figure
from interp.figures.name_placement import count_letters, with_placed_names
from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    GREY,
    INK,
    VERMILLION,
    escape_markup,
    shortened,
    token_label,
    with_style,
)

if TYPE_CHECKING:
    from interp.effects.graph import AttributionGraph

_LOOKS: dict[str, dict[str, Any]] = {
    "embedding": {"symbol": "square-open", "color": INK, "size": 9},
    "latent": {"symbol": "circle", "color": BLUE, "size": 9},
    "error": {"symbol": "diamond-open", "color": GREY, "size": 8},
    "logit": {"symbol": "square", "color": INK, "size": 10},
}
_COLUMN, _FEWEST_LETTERS = 3.2, 28.0
"""Width of the column of a position, whose token is written aslant below it, and of the columns of a short prompt, in
letters."""
_SLANT = 0.7
"""The share of a column over which the nodes of a position and layer are spread, one above another."""
_FEWEST_LINES, _LINE_PIXELS = 2.5, 17
"""Height of a layer, in lines, and of a line; a layer has a line for each node that stands above another."""
_MAX_NAME_LETTERS = 22


@figure
def graph(
    graph: AttributionGraph,
    *,
    nodes: float = 0.7,
    edges: float = 0.8,
    max_latents: int = 12,
    names: Mapping[str, str] | None = None,
) -> go.Figure:
    """Draw the attribution graph of a prompt for its three likeliest next tokens: positions to the right, layers
    upwards. The wider an edge, the larger its share of its target's input.

    nodes, edges: the shares that are drawn (`AttributionGraph.pruned`).
    max_latents: the largest number of latents; the share of nodes is lowered until there are no more.
    names: names of latents, by their `node_ids`. Others have their numbers."""
    nodes, kept = _with_few_latents(graph, nodes, edges, max_latents)
    x, y, ticks, levels = _places(kept)
    fig = go.Figure()
    size = np.abs(kept.edges)
    share = size / np.maximum(size.sum(1, keepdims=True), 1e-30)
    drawn = kept.nodes["type"].isin(_LOOKS).to_numpy()
    for target, source in sorted(zip(*np.nonzero(kept.edges * drawn), strict=True), key=lambda pair: share[pair]):
        colour = BLUE if kept.edges[target, source] > 0 else VERMILLION
        line = {"color": colour, "width": 0.4 + 3 * share[target, source]}
        opacity = 0.25 + 0.6 * min(1.0, 2 * share[target, source])
        ends = {"x": [x[source], x[target]], "y": [y[source], y[target]]}
        fig.add_scatter(**ends, mode="lines", line=line, opacity=opacity, **BARE_TRACE)
    signs = np.sign(kept.edges[kept.edges * drawn != 0])
    for sign, colour, name in ((1, BLUE, "positive effect"), (-1, VERMILLION, "negative effect")):
        if (signs == sign).any():
            fig.add_scatter(x=[None], y=[None], mode="lines", line={"color": colour, "width": 2}, name=name)
    for node_type, look in _LOOKS.items():
        nodes_of_type = np.flatnonzero(kept.nodes["type"] == node_type).tolist()
        if not nodes_of_type:
            continue
        texts = [escape_markup(kept.name(node)) for node in nodes_of_type]
        at = {"x": x[nodes_of_type], "y": y[nodes_of_type]}
        fig.add_scatter(**at, mode="markers", marker=look, name=node_type, hovertext=texts, hoverinfo="text")
    seen = np.flatnonzero(drawn)
    words = [_name_of(kept, node, names or {}) for node in seen.tolist()]
    named = {"x": x[seen], "y": y[seen], "text": words, "textfont_size": 10}  # no name stands on another node
    fig.add_scatter(**named, mode="markers+text", marker={"size": 9, "opacity": 0}, **BARE_TRACE)
    count, n_latents = (int((each.nodes["type"] == "latent").sum()) for each in (kept, graph))
    caption = (
        f"The attribution graph of a prompt for its three likeliest next tokens: positions to the right, layers "
        f"upwards. The wider an edge, the larger its share of its target's input. Drawn are the nodes with {nodes:.0%} "
        f"of the influence on the next token, {count:,} of {n_latents:,} latents among them, and {edges:.0%} of the "
        "influence of their edges. A diamond is what a dictionary leaves out."
    )
    height = levels[-1] + _FEWEST_LINES
    with_style(fig, "What leads to the next token", height=round(140 + _LINE_PIXELS * height), caption=caption)
    names_of_levels = ["tokens", *(f"layer {layer}" for layer in kept.layers[:-1]), "next token"]
    fig.update_yaxes(tickvals=levels, ticktext=names_of_levels, showgrid=False, range=[0.0, height])
    tokens = [token_label(token) for token in kept.tokens]
    room = max((count_letters(word) for word in words), default=0) + 5  # for names to the right of the last position
    span = [0.0, len(ticks) * (ticks[0] * 2) + room]
    fig.update_xaxes(tickvals=ticks, ticktext=tokens, tickangle=-45, showgrid=False, range=span)
    return with_placed_names(fig)


def _with_few_latents(
    graph: AttributionGraph, nodes: float, edges: float, max_latents: int
) -> tuple[float, AttributionGraph]:
    """Return the largest share of nodes, up to `nodes`, with at most so many latents, and what it keeps. What attention
    compares is kept at any share: if no share has so few latents, return the one with the fewest."""
    parts = []
    for k in range(20):
        share = nodes * 0.95**k
        part = graph.pruned(share, edges).of_logits(3)
        parts.append((int((part.nodes["type"] == "latent").sum()), -share, part))
        if parts[-1][0] <= max_latents:
            break
    _, share, part = min(parts, key=lambda each: each[:2])
    return -share, part


def _name_of(graph: AttributionGraph, node: int, names: Mapping[str, str]) -> str:
    """Return the token of a logit, and the name of a latent, or its number if it has none; "" for other nodes."""
    node_type, latent = graph.nodes["type"].iat[node], int(graph.nodes["latent"].to_numpy()[node])
    if node_type == "logit":
        return token_label(graph.words.get(latent, "?"))
    if node_type != "latent":
        return ""
    return escape_markup(shortened(names.get(graph.node_ids()[node]) or str(latent), _MAX_NAME_LETTERS))


def _places(graph: AttributionGraph) -> tuple[np.ndarray, np.ndarray, list[float], list[float]]:
    """Place the nodes: each beside the tick of its position, aslant above others of its layer there; logits to the left
    of the right end, as far apart as their words are long. Returns x, in letters, and y, in lines, of each node, the
    tick of each position, and the middle of each layer."""
    nodes = graph.nodes
    column = max(_COLUMN, _FEWEST_LETTERS / max(len(graph.tokens), 1))
    ticks = (np.arange(len(graph.tokens)) + 0.5) * column
    stacked = nodes[nodes["type"].isin(["latent", "error"])]
    cells = stacked.groupby(["dictionary", "position"])
    order, mates = cells.cumcount().to_numpy(), cells["type"].transform("size")
    tallest = mates.groupby(stacked["dictionary"]).max().reindex(range(-1, len(graph.layers)), fill_value=0)
    lines = np.maximum(tallest.to_numpy() + 1.0, _FEWEST_LINES)
    levels = np.cumsum(lines) - lines / 2
    x, y = np.zeros(len(nodes)), levels[nodes["dictionary"] + 1]
    placed = np.flatnonzero(nodes["position"] >= 0)
    x[placed] = ticks[nodes["position"].iloc[placed]]
    shift = order - (mates.to_numpy() - 1) / 2
    x[stacked.index] += _SLANT * column * shift / mates.to_numpy()
    y[stacked.index] += shift
    last = np.flatnonzero(nodes["type"] == "logit")
    lengths = np.array([len(graph.words.get(int(latent), "?")) + 2.0 for latent in nodes["latent"].iloc[last]])
    to_the_right = lengths[::-1].cumsum()[::-1] - lengths  # a word is above each
    x[last] = len(ticks) * column - lengths / 2 - to_the_right
    return x, y, ticks.tolist(), levels.tolist()
