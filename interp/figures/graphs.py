"""Draw circuits: the attribution graph of a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.figure import figure
from interp.figures.theme import BARE_TRACE, BLUE, GREY, INK, VERMILLION, escape_markup, token_label, with_style

if TYPE_CHECKING:
    from interp.effects.graph import AttributionGraph

_LOOKS: dict[str, dict[str, Any]] = {
    "embedding": {"symbol": "square-open", "color": INK, "size": 9},
    "latent": {"symbol": "circle", "color": BLUE, "size": 9},
    "error": {"symbol": "diamond-open", "color": GREY, "size": 8},
    "logit": {"symbol": "square", "color": INK, "size": 10},
}


@figure
def graph(graph: AttributionGraph, *, nodes: float = 0.7, edges: float = 0.8) -> go.Figure:
    """Draw an attribution graph, of the three likeliest next tokens: tokens to the right, layers upwards, edges in the
    colour of their sign, with a width proportional to their share of their target's input.

    nodes, edges: the shares that are drawn (`AttributionGraph.pruned`)."""
    kept = graph.pruned(nodes, edges).of_logits(3)
    x, y, ticks = _places(kept)
    fig = go.Figure()
    size = np.abs(kept.edges)
    share = size / np.maximum(size.sum(1, keepdims=True), 1e-30)
    drawn = kept.nodes["type"].isin(_LOOKS).to_numpy()
    for target, source in sorted(zip(*np.nonzero(kept.edges * drawn), strict=True), key=lambda pair: share[pair]):
        colour = BLUE if kept.edges[target, source] > 0 else VERMILLION
        line = {"color": colour, "width": 0.4 + 4 * share[target, source]}
        opacity = 0.25 + 0.6 * min(1.0, 2 * share[target, source])
        ends = {"x": [x[source], x[target]], "y": [y[source], y[target]]}
        fig.add_scatter(**ends, mode="lines", line=line, opacity=opacity, **BARE_TRACE)
    for colour, name in ((BLUE, "positive effect"), (VERMILLION, "negative effect")):
        fig.add_scatter(x=[None], y=[None], mode="lines", line={"color": colour, "width": 2}, name=name)
    for node_type, look in _LOOKS.items():
        nodes_of_type = np.flatnonzero(kept.nodes["type"] == node_type).tolist()
        texts = [escape_markup(kept.name(node)) for node in nodes_of_type]
        at = {"x": x[nodes_of_type], "y": y[nodes_of_type]}
        fig.add_scatter(**at, mode="markers", marker=look, name=node_type, hovertext=texts, hoverinfo="text")
    logit_nodes = kept.nodes[kept.nodes["type"] == "logit"]
    for node in logit_nodes.index:
        word = token_label(kept.words.get(int(kept.nodes["latent"][node]), "?"))
        fig.add_annotation(x=x[node], y=y[node], text=word, yshift=14, showarrow=False)
    levels = ["tokens", *(f"layer {layer}" for layer in kept.layers[:-1]), "next token"]
    with_style(fig, "What leads to the next token", height=140 + 60 * len(levels))
    fig.update_yaxes(tickvals=list(range(-1, len(levels) - 1)), ticktext=levels, showgrid=False)
    fig.update_yaxes(range=[-1.4, len(levels) - 1.4])
    return fig.update_xaxes(
        tickvals=ticks, ticktext=[token_label(token) for token in kept.tokens], showgrid=False, tickangle=0
    )


def _places(graph: AttributionGraph) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Place the nodes: each in the column of its position, as wide as its fullest layer, next to others of its layer.
    Returns x and y of each node, and the middle of each column."""
    nodes = graph.nodes
    seen = nodes[nodes["type"].isin(_LOOKS)]
    cells = seen.groupby(["dictionary", "position"])
    mates = cells["type"].transform("size")
    widest = mates.groupby(seen["position"]).max().reindex(range(len(graph.tokens)), fill_value=1)
    width = np.maximum(widest.to_numpy(), np.array([1 + len(token) / 3 for token in graph.tokens]))
    middle = np.cumsum(width) - width / 2
    x = np.zeros(len(nodes))
    x[seen.index] = middle[seen["position"]] + cells.cumcount() - (mates - 1) / 2
    last = np.flatnonzero(nodes["type"] == "logit")
    x[last] = middle[-1] - 4.0 * np.arange(len(last))[::-1]  # a word is above each
    return x, nodes["dictionary"].to_numpy().astype(float), middle.tolist()
