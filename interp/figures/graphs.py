"""Draw circuits: the attribution graph of a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.figure import figure
from interp.figures.name_placement import with_placed_names
from interp.figures.theme import BARE_TRACE, BLUE, GREY, INK, VERMILLION, escape_markup, token_label, with_style

if TYPE_CHECKING:
    from interp.effects.graph import AttributionGraph

_LOOKS: dict[str, dict[str, Any]] = {
    "embedding": {"symbol": "square-open", "color": INK, "size": 9},
    "latent": {"symbol": "circle", "color": BLUE, "size": 9},
    "error": {"symbol": "diamond-open", "color": GREY, "size": 8},
    "logit": {"symbol": "square", "color": INK, "size": 10},
}
_NODE_LETTERS, _COLUMN_LETTERS = 5.0, 2.6
"""Width of a node with its number, and the least width of the column of a position, whose token is written aslant, in
letters."""


@figure
def graph(graph: AttributionGraph, *, nodes: float = 0.7, edges: float = 0.8) -> go.Figure:
    """Draw the attribution graph of a prompt for its three likeliest next tokens: positions to the right, layers
    upwards. Latents have their numbers. The wider an edge, the larger its share of its target's input.

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
    numbers = [str(row.latent) if row.type == "latent" else "" for row in kept.nodes.iloc[seen].itertuples()]
    numbered = {"x": x[seen], "y": y[seen], "text": numbers, "textfont_size": 10}  # no number stands on another node
    fig.add_scatter(**numbered, mode="markers+text", marker={"size": 9, "opacity": 0}, **BARE_TRACE)
    logit_nodes = kept.nodes[kept.nodes["type"] == "logit"]
    for node in logit_nodes.index:
        word = token_label(kept.words.get(int(kept.nodes["latent"][node]), "?"))
        fig.add_annotation(x=x[node], y=y[node], text=word, yshift=14, showarrow=False)
    levels = ["tokens", *(f"layer {layer}" for layer in kept.layers[:-1]), "next token"]
    with_style(fig, "What leads to the next token", height=140 + 60 * len(levels))
    fig.update_yaxes(tickvals=list(range(-1, len(levels) - 1)), ticktext=levels, showgrid=False)
    fig.update_yaxes(range=[-1.4, len(levels) - 1.4])
    tokens = [token_label(token) for token in kept.tokens]
    span = [min(x) - _NODE_LETTERS, max(x) + _NODE_LETTERS]
    fig.update_xaxes(tickvals=ticks, ticktext=tokens, tickangle=-45, showgrid=False, range=span)
    return with_placed_names(fig)


def _places(graph: AttributionGraph) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Place the nodes: each in the column of its position, next to others of its layer; logits to the left of the right
    end, as far apart as their words are long. Returns x, in letters, and y of each node, and the middle of each column.
    """
    nodes = graph.nodes
    seen = nodes[nodes["type"].isin(_LOOKS)]
    cells = seen.groupby(["dictionary", "position"])
    mates = cells["type"].transform("size")
    widest = mates.groupby(seen["position"]).max().reindex(range(len(graph.tokens)), fill_value=0)
    width = np.maximum(_NODE_LETTERS * widest.to_numpy(), _COLUMN_LETTERS)
    middle = np.cumsum(width) - width / 2
    x = np.zeros(len(nodes))
    x[seen.index] = middle[seen["position"]] + _NODE_LETTERS * (cells.cumcount() - (mates - 1) / 2)
    last = np.flatnonzero(nodes["type"] == "logit")
    lengths = np.array([len(graph.words.get(int(latent), "?")) + 2.0 for latent in nodes["latent"].iloc[last]])
    to_the_right = lengths[::-1].cumsum()[::-1] - lengths  # a word is above each
    x[last] = width.sum() - lengths / 2 - to_the_right
    return x, nodes["dictionary"].to_numpy().astype(float), middle.tolist()
