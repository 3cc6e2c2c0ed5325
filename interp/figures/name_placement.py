"""Place the names of points next to them, so that no name covers another.

In: a figure with names at points, and the ranges of its axes. Out: the same figure, with each name on a free side of
its point. If no side is free, the name is put further away, at the end of a thin line. If there is no room for that, it
is left out. Of several orders in which names are placed, the one that leaves out the fewest counts.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import INK

Pixels = tuple[float, float]
"""Two lengths in pixels: to the right and up, or width and height."""
Box = tuple[float, float, float, float]
"""The sides of a box, left, right, bottom and top, in pixels of the plot."""
NAME_GAP = 5.0
"""Pixels between a point's middle and its name."""
LETTER_WIDTH = 0.56
"""Width of a letter of Helvetica, in font sizes."""
LINE_HEIGHT = 1.15
"""Height of a line of Helvetica, in font sizes."""
MAX_OVERLAP = 2.0
"""Square pixels of another name, or of a point, that a name may cover."""
ANCHORS: dict[str, dict[str, Any]] = {
    "middle right": {"xanchor": "left", "xshift": NAME_GAP},
    "middle left": {"xanchor": "right", "xshift": -NAME_GAP},
    "top center": {"yanchor": "bottom", "yshift": NAME_GAP},
    "bottom center": {"yanchor": "top", "yshift": -NAME_GAP},
}
"""The sides of a point, the best first, and how an annotation there is attached to it."""
POINT_NAME = "name of a point"
"""The name of annotations that name a point."""
N_ORDERS = 50
"""Number of orders in which names are placed, of which the best counts."""
LEADER_LENGTHS = (16.0, 26.0, 38.0, 54.0, 74.0, 100.0, 130.0)
"""Pixels from a point to the near end of a name to which a line leads."""
N_DIRECTIONS = 24
"""Number of directions from a point, evenly spread, that are tried at each distance."""
NAME_GROUND = "rgba(255,255,255,.75)"
"""The ground of a name, on which it stays legible over points."""
_AXIS_SIZE = 5.0, 4.0
"""Sizes of a letter that an axis takes with its numbers and its title: the vertical axis of the width, the other of the
height."""
_BARE_AXIS_SIZE = 2.5
"""The same for an axis without numbers."""
_BAR_SIZE = 7.0
"""Sizes of a letter that a colour bar takes of the width."""
_CLOSE = 2.5 * NAME_GAP
"""Pixels between two points of which a line from one cannot always avoid the other."""
_LINE_STEP = 2.0
"""Pixels between the boxes that stand for a line."""


def with_placed_names(fig: go.Figure) -> go.Figure:
    """Name every point of a trace with the mode `markers+text` in an annotation next to it. A name without room there
    is put further away, at the end of a thin line. If there is no room for that, it is left out. All names stay in
    `hovertext`. On an axis without a range, or of categories, names stay as they are."""
    if fig.layout.xaxis.range is None or fig.layout.yaxis.range is None:
        return fig
    fig.layout.annotations = [note for note in fig.layout.annotations if note.name != POINT_NAME]
    room = plot_size(fig)
    if fig.layout.yaxis.scaleanchor:  # a unit is as long upwards as it is to the right
        spans = [abs(axis.range[1] - axis.range[0]) for axis in (fig.layout.xaxis, fig.layout.yaxis)]
        unit = min(room[0] / spans[0], room[1] / spans[1])
        room = unit * spans[0], unit * spans[1]
    for trace in fig.select_traces({"type": "scatter", "mode": "markers+text"}):
        texts = trace.hovertext if trace.hovertext is not None else trace.text
        names = [] if texts is None or isinstance(texts, str) else [str(name) for name in texts]
        size = trace.textfont.size or fig.layout.font.size or 12
        try:
            x, y = _axis_pixels(trace.x, fig.layout.xaxis, room[0]), _axis_pixels(trace.y, fig.layout.yaxis, room[1])
        except ValueError:  # on an axis of categories names stay as they are
            continue
        if not x.shape == y.shape == (len(names),):
            continue
        trace.update(hovertext=names, text=[""] * len(names))
        sides, leaders = place_names(x, y, names, size, room)
        positions = {i: {"showarrow": False} | ANCHORS[side] for i, side in enumerate(sides) if side}
        for i, (right, up) in leaders.items():
            ends = {"ax": right, "ay": -up, "xanchor": "left" if right > 0 else "right", "yanchor": "middle"}
            line = {"arrowhead": 0, "arrowwidth": 0.7, "arrowcolor": INK, "standoff": 4}
            positions[i] = {"showarrow": True, "borderpad": 1} | ends | line
        for i, position in positions.items():
            point = {"x": _axis_value(trace.x[i], fig.layout.xaxis), "y": _axis_value(trace.y[i], fig.layout.yaxis)}
            look = {"name": POINT_NAME, "font_size": size, "bgcolor": NAME_GROUND}
            fig.add_annotation(text=names[i], **point, **look, **position)
    return fig


def plot_size(fig: go.Figure) -> Pixels:
    """Estimate the width and height of a plot, without its axes, its colour bar and its margins."""
    layout = fig.layout
    size = layout.font.size or 12
    bare = layout.xaxis.showticklabels is False
    left, bottom = ((_BARE_AXIS_SIZE if bare else numbered) * size for numbered in _AXIS_SIZE)
    has_bar = any(trace.marker.colorbar.to_plotly_json() for trace in fig.select_traces({"type": "scatter"}))
    right = layout.margin.r + _BAR_SIZE * size * has_bar
    width = layout.width - max(left, layout.margin.l) - right
    return width, layout.height - layout.margin.t - max(bottom, layout.margin.b)


def _axis_value(value: float, axis: go.layout.XAxis | go.layout.YAxis) -> float:
    """Return a value as annotations need it, which is its logarithm on a logarithmic axis."""
    return float(np.log10(value)) if axis.type == "log" else float(value)


def _axis_pixels(values: object, axis: go.layout.XAxis | go.layout.YAxis, length: float) -> np.ndarray:
    """Return positions along an axis whose range is given, in pixels from its start."""
    numbers = np.asarray(values, float)
    low, high = axis.range
    return ((np.log10(numbers) if axis.type == "log" else numbers) - low) / (high - low) * length


class Placement(NamedTuple):
    """Where names stand."""

    sides: list[str]
    """The side of each point on which its name stands, or "" if it stands on none."""
    leaders: dict[int, Pixels]
    """The way from a point to its name, for the names further away."""


def place_names(
    x: np.ndarray,
    y: np.ndarray,
    names: list[str],
    size: float,
    room: Pixels,
    sides: Sequence[str] = tuple(ANCHORS),
    obstacles: Sequence[Box] = (),
) -> Placement:
    """Find a free side for each name. If none is free, find the way to a name further away, if there is room, on which
    the line to it crosses the fewest names, points and lines. Names of higher points are placed first, then other
    orders are tried; the placement counts that leaves out the fewest names, then the one whose lines cross least, then
    the one with the shortest lines. x, y, room (width, height) and the obstacles are in pixels."""
    at = [(float(right), float(up)) for right, up in zip(x, y, strict=True)]
    # a letter more, so that two names side by side are not read as one
    extents = [(LETTER_WIDTH * size * (count_letters(name) + 1), LINE_HEIGHT * size) for name in names]
    generator = np.random.default_rng(0)
    order = np.array([i for i in np.argsort(-y, kind="stable") if names[i]], int)
    best = Placement([""] * len(names), {})
    least = (float("inf"),) * 3
    for _ in range(N_ORDERS):
        placement, n_crossed = _placed(order.tolist(), at, extents, room, sides, obstacles)
        n_left_out = len(order) - sum(map(bool, placement.sides)) - len(placement.leaders)
        cost = (float(n_left_out), float(n_crossed), sum(float(np.hypot(*way)) for way in placement.leaders.values()))
        if cost < least:
            best, least = placement, cost
        if not any(least):
            break
        order = generator.permutation(order)
    return best


def _placed(
    order: Sequence[int],
    at: Sequence[Pixels],
    extents: Sequence[Pixels],
    room: Pixels,
    sides: Sequence[str],
    obstacles: Sequence[Box],
) -> tuple[Placement, int]:
    """Place names in an order. Return with it how much their lines cross."""
    points = np.array([(right - NAME_GAP, right + NAME_GAP, up - NAME_GAP, up + NAME_GAP) for right, up in at])
    names, leaders = np.array(obstacles).reshape(-1, 4), np.empty((0, 4))
    placement = Placement([""] * len(at), {})
    n_crossed = 0
    for i in order:
        others = np.concatenate([names, leaders, np.delete(points, i, 0)])
        boxes = _boxes(at[i], extents[i])
        free_sides = _are_free(np.array([boxes[side] for side in sides]), others, room)
        if free_sides.any():
            placement.sides[i] = sides[int(free_sides.argmax())]
            names = np.vstack([names, boxes[placement.sides[i]]])
            continue
        # A line through a name or a point is worse than one through a line, or past a point too close to avoid.
        is_far = [math.dist(place, at[i]) > _CLOSE for place in at]
        worse = np.concatenate([names, points[is_far]])
        best: tuple[int, Pixels, np.ndarray] | None = None
        for reach in LEADER_LENGTHS:
            ways = _ways(reach)
            far_boxes = np.array([_box_at(at[i], way, extents[i]) for way in ways])
            ways = [ways[k] for k in np.flatnonzero(_are_free(far_boxes, others, room))]
            if not ways:
                continue
            lines = _lines(at[i], ways, reach)
            crossed = (~_are_free(lines, others, room)).sum(1) + 10 * (~_are_free(lines, worse, room)).sum(1)
            k = int(crossed.argmin())
            if best is None or crossed[k] < best[0]:
                best = int(crossed[k]), ways[k], lines[k]
            if not crossed[k]:
                break
        if best is not None:
            crossings, placement.leaders[i], line = best
            names = np.vstack([names, _box_at(at[i], placement.leaders[i], extents[i])])
            leaders = np.concatenate([leaders, line])
            n_crossed += crossings
    return placement, n_crossed


def _ways(reach: float) -> list[Pixels]:
    """Return the ways (right, up) of this length from a point to the near end of its name."""
    angles = (np.arange(N_DIRECTIONS) + 0.5) * 2 * np.pi / N_DIRECTIONS
    return list(zip((reach * np.cos(angles)).tolist(), (reach * np.sin(angles)).tolist(), strict=True))


def _lines(point: Pixels, ways: list[Pixels], reach: float) -> np.ndarray:
    """Return the lines from a point to its name in several ways, as boxes along them [way, box, side]."""
    shares = np.append(np.arange(NAME_GAP, reach, _LINE_STEP), reach) / reach
    right, up = (at + np.outer(steps, shares) for at, steps in zip(point, zip(*ways, strict=True), strict=True))
    return np.stack([right - 1, right + 1, up - 1, up + 1], -1)


def boxes_along(x: np.ndarray, y: np.ndarray) -> list[Box]:
    """Return boxes along the line that joins points, whose coordinates are in pixels."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    steps = np.arange(0, lengths[-1] + _LINE_STEP, _LINE_STEP)
    at = zip(np.interp(steps, lengths, x).tolist(), np.interp(steps, lengths, y).tolist(), strict=True)
    return [(right - 1, right + 1, up - 1, up + 1) for right, up in at]


def _box_at(point: Pixels, way: Pixels, extent: Pixels) -> Box:
    """Return the box of a name of this width and height, if its near end is this way from its point."""
    end, middle = point[0] + way[0], point[1] + way[1]
    left = end if way[0] > 0 else end - extent[0]
    return left, left + extent[0], middle - extent[1] / 2, middle + extent[1] / 2


def count_letters(name: str) -> int:
    """Count the visible letters. An entity such as &lt; is one letter, and marks of writing direction are none."""
    return len(html.unescape(name).strip("\u2068\u2069"))


def _boxes(point: Pixels, extent: Pixels) -> dict[str, Box]:
    """Return the boxes of a name of this width and height on each side of its point."""
    x, y = point
    width, height = extent
    lefts = x + NAME_GAP, x - NAME_GAP - width, x - width / 2, x - width / 2
    bottoms = y - height / 2, y - height / 2, y + NAME_GAP, y - NAME_GAP - height
    corners = zip(ANCHORS, lefts, bottoms, strict=True)
    return {side: (left, left + width, bottom, bottom + height) for side, left, bottom in corners}


def _are_free(boxes: np.ndarray, others: np.ndarray, room: Pixels) -> np.ndarray:
    """Return for each box [..., side] whether it lies within the plot and covers almost nothing of the others
    [other, side]."""
    left, right, bottom, top = (boxes[..., side, None] for side in range(4))
    is_inside = (left >= 0) & (right <= room[0]) & (bottom >= 0) & (top <= room[1])
    other_left, other_right, other_bottom, other_top = others.T
    widths = np.minimum(right, other_right) - np.maximum(left, other_left)
    heights = np.minimum(top, other_top) - np.maximum(bottom, other_bottom)
    covered = (widths.clip(min=0) * heights.clip(min=0)).sum(-1)
    return is_inside[..., 0] & (covered < MAX_OVERLAP)
