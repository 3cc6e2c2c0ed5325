"""Place the names of points next to them, so that no name covers another.

In: a figure with names at points, and the ranges of its axes. Out: the same figure, with each name on the first free
side of its point. If no side is free, the name is put further away, at the end of a thin line. If there is no room for
that, it is left out.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

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
SIDES = ("middle right", "middle left", "top center", "bottom center")
LEADER = "leader"
"""The name of annotations that name a point from further away, with a line to it."""
LEADER_LENGTHS = (16.0, 26.0, 38.0, 54.0, 74.0)
"""Pixels from a point to the near end of a name to which a line leads."""
N_DIRECTIONS = 16
"""Number of directions from a point, evenly spread, that are tried at each distance."""
HALO = ", ".join(f"{right}px {up}px white" for right in (-1, 0, 1) for up in (-1, 0, 1))
"""The white edge of a name's letters, which stays legible on points. It is not blurred, as a PDF would hold a blurred
edge as pixels."""
_AXIS_SIZE = 5.0, 4.0
"""Sizes of a letter that an axis takes with its numbers and its title: the vertical axis of the width, the other of the
height."""
_BARE_AXIS_SIZE = 2.5
"""The same for an axis without numbers."""
_BAR_SIZE = 7.0
"""Sizes of a letter that a colour bar takes of the width."""
_LINE_STEP = 2.0
"""Pixels between the boxes that stand for a line."""


def with_placed_names(fig: go.Figure) -> go.Figure:
    """Place the name of every point of a trace with the mode `markers+text`. Names of higher points are placed first. A
    name without room next to its point is put further away, at the end of a thin line. If there is no room for that, it
    is removed. All names stay in `hovertext`. On an axis without a range, or of categories, names stay as they are."""
    if fig.layout.xaxis.range is None or fig.layout.yaxis.range is None:
        return fig
    fig.layout.annotations = [note for note in fig.layout.annotations if note.name != LEADER]
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
        sides, leaders = place_names(x, y, names, size, room)
        trace.update(
            hovertext=names,
            textfont_shadow=HALO,
            text=[name if side else "" for name, side in zip(names, sides, strict=True)],
            textposition=[side or "middle right" for side in sides],
        )
        for i, (right, up) in leaders.items():
            line = {
                "showarrow": True,
                "arrowhead": 0,
                "arrowwidth": 0.7,
                "arrowcolor": INK,
                "standoff": 4,
                "ax": right,
                "ay": -up,
            }
            anchor = "left" if right > 0 else "right"
            position = {"x": _axis_value(trace.x[i], fig.layout.xaxis), "y": _axis_value(trace.y[i], fig.layout.yaxis)}
            font = {"size": size, "shadow": HALO}
            look = {"xanchor": anchor, "yanchor": "middle", "font": font, "borderpad": 1}
            fig.add_annotation(text=names[i], name=LEADER, **position, **line, **look)
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


def place_names(
    x: np.ndarray,
    y: np.ndarray,
    names: list[str],
    size: float,
    room: Pixels,
    sides: Sequence[str] = SIDES,
    obstacles: Sequence[Box] = (),
) -> tuple[list[str], dict[int, Pixels]]:
    """Find the first free side for each name, or "" if none is free. Then find the way from the point to a name further
    away, if there is room, on which the line to it crosses the fewest names, points and lines. x, y, room (width,
    height) and the obstacles are in pixels."""
    at = [(float(right), float(up)) for right, up in zip(x, y, strict=True)]
    # a letter more, so that two names side by side are not read as one
    extents = [(LETTER_WIDTH * size * (count_letters(name) + 1), LINE_HEIGHT * size) for name in names]
    points: list[Box] = [(right - NAME_GAP, right + NAME_GAP, up - NAME_GAP, up + NAME_GAP) for right, up in at]
    placed = list(obstacles)
    chosen = [""] * len(names)
    for i in np.argsort(-y, kind="stable").tolist():
        boxes = _boxes(at[i], extents[i])
        others = placed + points[:i] + points[i + 1 :]
        free = [side for side in sides if _is_free(boxes[side], others, room)]
        if free:
            chosen[i] = free[0]
            placed.append(boxes[chosen[i]])
    leaders = {}
    for i in [i for i, name in enumerate(names) if name and not chosen[i]]:
        others = placed + points[:i] + points[i + 1 :]
        free_ways = [way for way in _ways() if _is_free(_box_at(at[i], way, extents[i]), others, room)]
        if free_ways:
            lines = [_line(at[i], way) for way in free_ways]
            crossed = [sum(not _is_free(step, others, room) for step in line) for line in lines]
            best = int(np.argmin(crossed))
            leaders[i] = free_ways[best]
            placed += [_box_at(at[i], free_ways[best], extents[i]), *lines[best]]
    return chosen, leaders


def _ways() -> list[Pixels]:
    """Return the ways (right, up) from a point to the near end of its name, the shortest first."""
    angles = (np.arange(N_DIRECTIONS) + 0.5) * 2 * np.pi / N_DIRECTIONS
    return [
        (reach * float(np.cos(angle)), reach * float(np.sin(angle))) for reach in LEADER_LENGTHS for angle in angles
    ]


def _line(point: Pixels, way: Pixels) -> list[Box]:
    """Return the line from a point to its name, as boxes along it."""
    start = NAME_GAP / max(float(np.hypot(*way)), NAME_GAP)
    return boxes_along(*(np.array([at + step * start, at + step]) for at, step in zip(point, way, strict=True)))


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
    corners = zip(SIDES, lefts, bottoms, strict=True)
    return {side: (left, left + width, bottom, bottom + height) for side, left, bottom in corners}


def _is_free(box: Box, others: list[Box], room: Pixels) -> bool:
    """Return whether the box lies within the plot and covers almost nothing."""
    left, right, bottom, top = box
    if left < 0 or right > room[0] or bottom < 0 or top > room[1]:
        return False
    overlaps = (
        (min(right, other_right) - max(left, other_left), min(top, other_top) - max(bottom, other_bottom))
        for other_left, other_right, other_bottom, other_top in others
    )
    return sum(width * height for width, height in overlaps if width > 0 and height > 0) < MAX_OVERLAP
