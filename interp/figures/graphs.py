"""Draw circuits: the attribution graph of a prompt."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.figure import figure
from interp.figures.name_placement import LETTER_WIDTH, count_letters
from interp.figures.print_layout import MIN_FONT, to_pixels
from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    GREY,
    INK,
    VERMILLION,
    escape_markup,
    shortened,
    token_label,
    visible_token,
    with_meta,
    with_style,
)

if TYPE_CHECKING:
    from interp.effects.graph import AttributionGraph

NODES, EDGES, MAX_LATENTS = 0.7, 0.8, 12
"""The shares of the influence and of the edges that are drawn, and the largest number of latents."""
_FEWEST_LETTERS = 70.0
"""The narrowest drawing with a column for each token. In narrower ones the tokens share the boxes of a layer."""
_LEFT = 9.5
"""Width of the names of rows, in letters."""
_LEAST, _MOST, _VALUE = 10.0, 32.0, 6.0
"""Width of a box, and of the number in it with its margins, in letters."""
_BETWEEN, _TRACK = 1.5, 1.1
"""Distance of columns, and of lines side by side, in letters."""
_LINE, _SPACE = 16, 30
"""Height of a name in a box, and of the space between two rows, in pixels."""
_SHOWN_EFFECT = 0.005
"""The least effect that is not written as 0.00."""
_MARGIN = {"l": 0, "r": 2, "t": 24, "b": 4}
_BARS = {"raises": BLUE, "lowers": VERMILLION}
_BAR_OPACITY = 0.4
_PALE = {BLUE: "#99c7e0", VERMILLION: "#eebf99"}
"""The colours as they are at this opacity on white."""
_GREY_LINE = "#b9bcc1"
_DASHES = {"node": "solid", "error": "dot"}
"""How lines from nodes and from errors are drawn. They are grey: what an edge adds may differ in sign from what its
node adds in all."""


@dataclass(eq=False)
class _Box:
    """The nodes of a layer at a token, by row (0 for tokens) and position, and its sides, in letters and pixels."""

    row: int
    position: int
    nodes: list[int]
    more: list[int] = field(default_factory=list)
    """Nodes that share the line of the first of them, which alone is among `nodes`."""
    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    top: float = 0.0


@dataclass(eq=False)
class _Strand:
    """The edges between two boxes, those of errors apart, and what they carry."""

    source: _Box
    target: _Box
    look: str
    carries: float = 0.0
    track: float | None = None


@figure
def graph(
    graph: AttributionGraph,
    *,
    nodes: float = NODES,
    edges: float = EDGES,
    max_latents: int = MAX_LATENTS,
    names: Mapping[str, str] | None = None,
    width: str | float = "column",
) -> go.Figure:
    """Draw the attribution graph of a prompt for its likeliest next token: a column for each token, a row for each
    layer. The wider a line, the more of the influence on the next token it carries.

    nodes, edges: the shares that are drawn (`AttributionGraph.pruned`).
    max_latents: the largest number of latents; the share of nodes is lowered until there are no more.
    names: names of latents, by their `node_ids`. Others have their numbers.
    width: as in `figures.save`. In a column of print all tokens share the boxes of a layer, and the prompt
    stands below."""
    pixels = to_pixels(width)
    letters = (pixels - _MARGIN["r"]) / (LETTER_WIDTH * MIN_FONT) - _LEFT
    nodes, kept = with_few_latents(graph, nodes, edges, max_latents)
    is_narrow = letters < _FEWEST_LETTERS
    labels = [_name_of(kept, node, names or {}, with_token=is_narrow) for node in range(len(kept.nodes))]
    boxes = _boxes_of(kept, is_narrow)
    for box in boxes:
        if box.more:
            tokens = [kept.tokens[position] for position in kept.nodes["position"].iloc[box.more]]
            labels[box.more[0]] = " ".join(map(visible_token, tokens)), ""
    strands = _strands_of(kept, boxes)
    beside = _beside(strands, boxes)
    unused = {} if is_narrow else _unused_tokens(kept, boxes)
    _place_columns(boxes, beside, labels, unused, letters)
    height = _place_rows(boxes)
    prompt = textwrap.wrap("".join(kept.tokens).strip(), int(letters)) if is_narrow else []
    below = _LINE * (len(prompt) + 0.5) if prompt else 0.0
    fig = go.Figure()
    _draw_strands(fig, strands, boxes)
    _draw_boxes(fig, kept, boxes, labels)
    if unused:
        places = list(unused.values())
        at = {"x": [left for left, _ in places], "y": [_LINE / 2] * len(places), "text": [text for _, text in places]}
        look = {"mode": "text", "textposition": "middle right", "textfont": {"size": MIN_FONT, "color": GREY}}
        fig.add_scatter(**at, **look, **BARE_TRACE)
    keys = [(_PALE[colour], "■", name) for name, colour in _BARS.items()]
    if any(strand.look == "error" for strand in strands):
        keys.append((_GREY_LINE, "• • •", "from an error"))
    key = "\u2003".join(f'<span style="color:{colour}">{sign}</span> {name}' for colour, sign, name in keys)
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    fig.add_annotation(text=key, showarrow=False, font_size=MIN_FONT, **above)
    count, n_latents = (int((each.nodes["type"] == "latent").sum()) for each in (kept, graph))
    columns = "" if is_narrow else "a column for each token, "
    note_on_tokens = " A latent or error without @ is at the last token." if is_narrow else ""
    caption = (
        f"The attribution graph of a prompt for its likeliest next token: {columns}a row for each layer of a drawn "
        "node. A number, and the bar behind it, says how many nats a node adds in all to the log probability of that "
        "token, to first order. The wider a line, the more of the influence on the token it carries. Drawn are the "
        f"nodes with {nodes:.0%} of the influence, among them {count:,} of {n_latents:,} latents.{note_on_tokens}"
    )
    drawn_height = round(height + below) + _MARGIN["t"] + _MARGIN["b"]
    with_style(fig, "What leads to the next token", height=drawn_height, caption=caption)
    rows = sorted({box.row for box in boxes})
    middles = [next((box.bottom + box.top) / 2 for box in boxes if box.row == row) for row in rows]
    layers = [f"layer {layer}" for layer in kept.layers[: len(kept.hook_names)]]
    texts = [["tokens", *layers, "next token"][row] for row in rows]
    lefts = [0.4 - _LEFT] * len(texts)
    if prompt:
        lines = "<br>".join(escape_markup(visible_token(line).replace("␣", " ")) for line in prompt)
        lefts += [0.4 - _LEFT, 0.0]
        middles += [-below / 2] * 2
        texts += ["prompt", lines]
    look = {"mode": "text", "textposition": "middle right"}
    fig.add_scatter(x=lefts, y=middles, text=texts, **look, **BARE_TRACE)
    bare = {"visible": False, "fixedrange": True}
    fig.update_yaxes(range=[-below, height], **bare).update_xaxes(range=[-_LEFT, letters + 0.4], **bare)
    fig.update_layout(width=pixels, margin=_MARGIN, font_size=MIN_FONT)
    return with_meta(fig, laid_out_for=pixels)


def with_few_latents(
    graph: AttributionGraph, nodes: float = NODES, edges: float = EDGES, max_latents: int = MAX_LATENTS
) -> tuple[float, AttributionGraph]:
    """Return the largest share of nodes, up to `nodes`, with at most so many latents, and what it keeps. What attention
    compares is kept at any share: if no share has so few latents, return the one with the fewest."""
    parts = []
    for k in range(20):
        share = nodes * 0.95**k
        part = graph.pruned(share, edges).of_logits(1)
        parts.append((int((part.nodes["type"] == "latent").sum()), -share, part))
        if parts[-1][0] <= max_latents:
            break
    _, share, part = min(parts, key=lambda each: each[:2])
    return -share, part


def _name_of(graph: AttributionGraph, node: int, names: Mapping[str, str], *, with_token: bool) -> tuple[str, str]:
    """Return the token of a logit or an embedding, or the name of a latent, which is its number if it has none; and
    what is written behind it however long it is: if wished, the token of a latent that is not at the last one."""
    facts: Any = [graph.nodes[column].iat[node] for column in ("type", "position", "latent")]
    node_type, position, latent = facts
    if node_type in ("logit", "embedding"):
        return visible_token(graph.words.get(latent, "?") if node_type == "logit" else graph.tokens[position]), ""
    name = names.get(graph.node_ids()[node]) or str(latent) if node_type == "latent" else "error"
    is_before_last = 0 <= position < len(graph.tokens) - 1
    return name, f" @ {visible_token(graph.tokens[position])}" if with_token and is_before_last else ""


def _boxes_of(graph: AttributionGraph, is_narrow: bool) -> list[_Box]:
    """Return the boxes, those of the tokens first, each with its nodes: latents by their effects, then errors, and
    tokens in their order."""
    drawn = graph.nodes[graph.nodes["type"].isin(["embedding", "latent", "error", "logit"])]
    drawn = drawn.assign(size=drawn["effect"].abs().where(drawn["type"] == "latent", -1.0))
    ordered = drawn.sort_values("size", ascending=False, kind="stable", na_position="last")
    column = 0 * ordered["position"] if is_narrow else ordered["position"]
    cells: Any = ordered.groupby(["dictionary", column], sort=True).groups
    boxes = [_Box(int(row) + 1, int(position), list(inside)) for (row, position), inside in cells.items()]
    if is_narrow:  # tokens that add nothing share a line
        tokens = boxes[0]
        effects = graph.nodes["effect"].to_numpy(float)
        idle = [node for node in tokens.nodes if abs(effects[node]) < _SHOWN_EFFECT]
        if len(idle) > 1:
            tokens.nodes = [node for node in tokens.nodes if node not in idle[1:]]
            tokens.more = idle
    return boxes


def _strands_of(graph: AttributionGraph, boxes: list[_Box]) -> list[_Strand]:
    box_of = {node: box for box in boxes for node in (*box.nodes, *box.more)}
    size = np.abs(graph.edges)
    share = size / np.maximum(size.sum(1, keepdims=True), 1e-30)
    node_type = graph.nodes["type"].to_numpy()
    carries = share * np.where(node_type == "logit", 1.0, graph.nodes["influence"].to_numpy())[:, None]
    strands: dict[tuple[_Box, _Box, str], _Strand] = {}
    for target, source in zip(*np.nonzero(graph.edges), strict=True):
        if source in box_of and target in box_of:
            key = box_of[source], box_of[target], "error" if node_type[source] == "error" else "node"
            strands.setdefault(key, _Strand(*key)).carries += float(carries[target, source])
    return list(strands.values())


def _beside(strands: list[_Strand], boxes: list[_Box]) -> dict[int, list[_Strand]]:
    """Return the strands that go past boxes beside their column, by its position, the shortest first."""
    beside = defaultdict(list)
    for strand in strands:
        source, target = strand.source, strand.target
        if any(box.position == source.position and source.row < box.row < target.row for box in boxes):
            beside[source.position].append(strand)
    for inside in beside.values():
        inside.sort(key=lambda strand: (strand.target.row, -strand.source.row))
    return beside


def _unused_tokens(graph: AttributionGraph, boxes: list[_Box]) -> dict[int, tuple[float, str]]:
    """Return the tokens between the columns of boxes, by the position of the first, each with a left side, which is
    not known yet."""
    used = {box.position for box in boxes}
    texts: dict[int, str] = {}
    for position, token in enumerate(graph.tokens):
        if position not in used:
            first = max(texts, default=0) if position - 1 not in used and texts else position
            texts[first] = texts.get(first, "") + token
    return {position: (0.0, token_label(shortened(text, 8))) for position, text in texts.items()}


def _place_columns(
    boxes: list[_Box],
    beside: Mapping[int, list[_Strand]],
    labels: list[tuple[str, str]],
    unused: dict[int, tuple[float, str]],
    letters: float,
) -> None:
    """Give each box its left and right side, each strand beside a column its place, and each unused token its left
    side. The more names stand in a column, the more of the room it has."""
    columns = {position: [box for box in boxes if box.position == position] for position in {b.position for b in boxes}}
    names = {
        position: ["".join(labels[node]) for box in column for node in box.nodes]
        for position, column in columns.items()
    }
    tracks = {position: _TRACK * len(beside.get(position, [])) for position in columns}
    between = {position: count_letters(text) + _BETWEEN for position, (_, text) in unused.items()}
    longest = {position: max(map(len, inside)) + _VALUE for position, inside in names.items()}
    wished = {position: letters if len(columns) == 1 else min(_MOST, width) for position, width in longest.items()}
    widths = {position: min(_LEAST, width) for position, width in wished.items()}
    for _ in range(3):
        taken = sum(widths.values()) + sum(tracks.values()) + sum(between.values()) + _BETWEEN * len(columns)
        wish = {position: (wished[position] - widths[position]) * len(names[position]) for position in columns}
        part = max(0.0, letters - taken) / (sum(wish.values()) or 1.0)
        widths = {position: min(wished[position], widths[position] + part * wish[position]) for position in columns}
    used = sum(widths.values()) + sum(tracks.values()) + sum(between.values())
    gap = _BETWEEN if len(columns) == 1 else max(_BETWEEN, (letters - used) / (len(columns) - 1))
    left = 0.0
    for position in sorted({*columns, *unused}):
        if position in unused:
            unused[position] = left, unused[position][1]
            left += between[position]
            continue
        for box in columns[position]:
            box.left, box.right = left, left + widths[position]
        for k, strand in enumerate(beside.get(position, [])):
            strand.track = left + widths[position] + _TRACK * (k + 1)
        left += widths[position] + tracks[position] + gap


def _place_rows(boxes: list[_Box]) -> float:
    """Give each box its bottom and top, and return the height of all, in pixels."""
    at = 1.0
    for row in sorted({box.row for box in boxes}):
        mates = [box for box in boxes if box.row == row]
        for box in mates:
            box.bottom, box.top = at, at + _LINE * len(box.nodes)
        at = max(box.top for box in mates) + _SPACE
    return at - _SPACE + 1.0


def _draw_strands(fig: go.Figure, strands: list[_Strand], boxes: list[_Box]) -> None:
    """Draw each strand from the top of a box to the bottom of another. It leaves its column only between two rows."""
    rows = sorted({box.row for box in boxes})
    bottoms = [min(box.bottom for box in boxes if box.row == row) for row in rows]
    tops = [max(box.top for box in boxes if box.row == row) for row in rows]

    def middle(box: _Box) -> float:
        return (box.left + box.right) / 2

    def leads_to(strand: _Strand) -> float:
        is_next = rows.index(strand.target.row) == rows.index(strand.source.row) + 1
        return strand.track or middle(strand.target if is_next else strand.source)

    starts, ends = dict[int, float](), dict[int, float]()
    for box in boxes:
        starts |= _ports(box, [strand for strand in strands if strand.source is box], leads_to)

    def comes_from(strand: _Strand) -> float:
        return strand.track or starts[id(strand)]

    for box in boxes:
        ends |= _ports(box, [strand for strand in strands if strand.target is box], comes_from)
    most = max((strand.carries for strand in strands), default=1.0) or 1.0
    for strand in sorted(strands, key=lambda strand: -strand.carries):
        first, last = rows.index(strand.source.row), rows.index(strand.target.row)
        start, track, end = starts[id(strand)], comes_from(strand), ends[id(strand)]
        path = f"M {start},{strand.source.top} L {start},{tops[first]}"
        if strand.track:
            path += _bend(start, tops[first], track, bottoms[first + 1])
        path += f" L {track},{tops[last - 1]}" + _bend(track, tops[last - 1], end, bottoms[last])
        width = 0.6 + 4 * float(np.sqrt(strand.carries / most))
        line = {"color": _GREY_LINE, "width": width, "dash": _DASHES[strand.look]}
        fig.add_shape(type="path", path=path, line=line, layer="below")


def _bend(x1: float, y1: float, x2: float, y2: float) -> str:
    return f" C {x1},{(y1 + y2) / 2} {x2},{(y1 + y2) / 2} {x2},{y2}"


def _ports(box: _Box, strands: list[_Strand], order: Callable[[_Strand], float]) -> dict[int, float]:
    """Return where strands leave or enter a box, by their `id`: side by side, in an order from left to right."""
    step = min(_TRACK, (box.right - box.left - 1) / max(1, len(strands)))
    first = (box.left + box.right - step * (len(strands) - 1)) / 2
    return {id(strand): first + step * k for k, strand in enumerate(sorted(strands, key=order))}


def _draw_boxes(fig: go.Figure, graph: AttributionGraph, boxes: list[_Box], labels: list[tuple[str, str]]) -> None:
    """Draw the boxes, in each line a name and the node's effect, and below them its size."""
    effects = graph.nodes["effect"].to_numpy()
    most = max(float(np.nanmax(np.abs(effects[[node for box in boxes for node in box.nodes]]), initial=0.0)), 1e-30)
    sides: dict[str, list] = {"middle right": [], "middle left": []}
    for box in boxes:
        is_answer = graph.nodes["type"].iat[box.nodes[0]] == "logit"
        outline = {"color": BLUE if is_answer else GREY, "width": 1.6 if is_answer else 0.8}
        corners = {"x0": box.left, "x1": box.right, "y0": box.bottom, "y1": box.top}
        fig.add_shape(type="rect", **corners, line=outline, fillcolor="white", layer="below")
        for k, node in enumerate(box.nodes):
            y = box.top - _LINE * (k + 0.5)
            effect = float(effects[node])
            value = f"{graph.nodes['activation'].iat[node]:.0%}" if is_answer else _signed(effect)
            colour = _BARS["raises" if effect > 0 else "lowers"]
            if not is_answer and not np.isnan(effect):
                wide = (box.right - box.left) * abs(effect) / most
                bar = {"x0": box.left, "x1": box.left + wide, "y0": y - _LINE / 2, "y1": y + _LINE / 2}
                fig.add_shape(type="rect", **bar, line_width=0, fillcolor=colour, opacity=_BAR_OPACITY, layer="below")
            name, behind = labels[node]
            text = shortened(name, max(3, int(box.right - box.left - _VALUE + 1) - len(behind))) + behind
            sides["middle right"].append((box.left + 0.3, y, escape_markup(text), name + behind))
            sides["middle left"].append((box.right - 0.3, y, value, name + behind))
    for side, written in sides.items():
        at = {
            "x": [x for x, *_ in written],
            "y": [y for _, y, *_ in written],
            "text": [text for *_, text, _ in written],
        }
        look = {"mode": "text", "textposition": side, "textfont": {"size": MIN_FONT, "color": INK}, "showlegend": False}
        tips = [escape_markup(whole) for *_, whole in written]
        fig.add_scatter(**at, **look, hovertext=tips, hoverinfo="text")


def _signed(effect: float) -> str:
    if np.isnan(effect):
        return ""
    return "0.00" if abs(effect) < _SHOWN_EFFECT else f"{effect:+.2f}".replace("-", "−")
