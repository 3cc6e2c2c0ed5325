"""Place the names of points next to them, so that no name covers another.

In: a figure with names at points, and the ranges of its axes. Out: the same figure, with each name on a free side of
its point. If no side is free, the name is put further away, at the end of a thin line that crosses no other where that
can be. If there is no room for that, it is left out.
"""

from __future__ import annotations

import html
import itertools
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
_GROUND_HEIGHT = 1.3
"""Height of the ground of a line, in font sizes."""
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
N_PLACES = 64
"""Number of places of a name that are compared, those that cost least: fewer if there are more than 40 names."""
N_MOVES, _N_MOVED = 300, 4
"""Number of times that some names are moved at random, and how many: neighbours, since names are in the way of those
near them."""
_NOWHERE = -1
"""The kind of the place at which a name is left out."""
_MAX_ROUNDS = 20
"""Number of times that each name may move."""
LEFT_OUT, CROSSING_COST, LINE_COST, DOT_COST = 1e5, 300.0, 10.0, 4.0
"""What it costs to leave out a name; if its line crosses a name, a point or a line; if it has one, which costs its
length in pixels too; and to hide a dot."""
LEADER_LENGTHS = (14.0, 22.0, 32.0, 44.0, 58.0, 76.0, 100.0, 130.0)
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
_DOT_REACH = 4.0
"""Pixels from a point's middle within which no line passes."""
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
        dots = _dots(fig, room)
        sides, leaders = place_names(x, y, names, size, room, dots=dots)
        positions = {i: {"showarrow": False} | ANCHORS[side] for i, side in enumerate(sides) if side}
        for i, (right, up) in leaders.items():
            ends = {"ax": right, "ay": -up, **_anchors_at((right, up))}
            line = {"arrowhead": 0, "arrowwidth": 0.7, "arrowcolor": INK, "standoff": 4}
            positions[i] = {"showarrow": True} | ends | line
        for i, position in positions.items():
            point = {"x": _axis_value(trace.x[i], fig.layout.xaxis), "y": _axis_value(trace.y[i], fig.layout.yaxis)}
            look = {"name": POINT_NAME, "font_size": size, "bgcolor": NAME_GROUND, "borderpad": 0}
            fig.add_annotation(text=names[i], **point, **look, **position)
    return fig


def _dots(fig: go.Figure, room: Pixels) -> np.ndarray:
    """Return the places (right, up) of the points without names, and of dots along lines, in pixels."""
    dots = [np.empty((0, 2))]
    for trace in fig.select_traces({"type": "scatter"}):
        if trace.mode in ("markers", "lines") and np.size(trace.x) > 1:
            axes = ((trace.x, fig.layout.xaxis, room[0]), (trace.y, fig.layout.yaxis, room[1]))
            at = np.column_stack([_axis_pixels(values, axis, length) for values, axis, length in axes])
            dots.append(at if trace.mode == "markers" else _along(at))
    places = np.vstack(dots)
    return places[np.isfinite(places).all(1)]


def _along(corners: np.ndarray) -> np.ndarray:
    """Return dots along the line through corners (right, up), a few pixels apart."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    steps = np.arange(0, lengths[-1], _LINE_STEP)
    return np.column_stack([np.interp(steps, lengths, values) for values in corners.T])


def plot_size(fig: go.Figure) -> Pixels:
    """Estimate the width and height of a plot, without its axes, its colour bar and its margins."""
    layout = fig.layout
    size = layout.font.size or 12
    bare = layout.xaxis.showticklabels is False
    left, bottom = ((_BARE_AXIS_SIZE if bare else numbered) * size for numbered in _AXIS_SIZE)
    bars = [trace.marker.colorbar for trace in fig.select_traces({"type": "scatter"})]
    right = layout.margin.r + _BAR_SIZE * size * any(bar.to_plotly_json() for bar in bars)
    width = layout.width - max(left, layout.margin.l) - right
    return width, layout.height - layout.margin.t - max(bottom, layout.margin.b)


def _axis_value(value: float, axis: go.layout.XAxis | go.layout.YAxis) -> float:
    """Return a value as annotations need it, which is its logarithm on a logarithmic axis."""
    return float(np.log10(value)) if axis.type == "log" else float(value)


def _axis_pixels(values: object, axis: go.layout.XAxis | go.layout.YAxis, length: float) -> np.ndarray:
    """Return positions along an axis whose range is given, in pixels from its start."""
    numbers = np.asarray(values, float)
    low, high = axis.range
    with np.errstate(divide="ignore"):  # 0 has no place on a logarithmic axis
        along = np.log10(numbers) if axis.type == "log" else numbers
    return (along - low) / (high - low) * length


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
    *,
    sides: Sequence[str] = tuple(ANCHORS),
    obstacles: Sequence[Box] = (),
    dots: np.ndarray | None = None,
) -> Placement:
    """Choose a place for each name: a side of its point, or further away at the end of a line, or none.

    Each name in turn takes the place that is best beside those of the others, until none moves. Then a few names are
    moved at random and the rest follow, many times; the placement with the least cost counts. It leaves out the fewest
    names; then its lines cross the fewest names, points and lines; then names hide few dots and are close to their
    points.

    x, y, room (width, height): in pixels. obstacles: boxes that no name covers. dots: a row (right, up) for each dot
    that a name had better not hide.
    """
    points = np.column_stack([x, y]).astype(float)
    dots = np.empty((0, 2)) if dots is None else dots
    placement = Placement([""] * len(names), {})
    named = [i for i in np.argsort(-points[:, 1], kind="stable").tolist() if names[i] and np.isfinite(points[i]).all()]
    if not named:
        return placement
    n_places = int(np.clip(N_PLACES * 40 // len(named), 16, N_PLACES))
    fixed = np.vstack([np.reshape(obstacles, (-1, 4)), _boxes_around(points)])
    places = []
    for i in named:
        others = np.delete(fixed, len(obstacles) + i, axis=0)
        places.append(_places_of(i, points, _extent(names[i], size), room, sides, others, dots).best(n_places))
    for i, place in zip(named, _least_cost(places), strict=True):
        kind = int(place.kinds[0])
        if kind < len(sides):
            placement.sides[i] = sides[kind]
        elif kind != _NOWHERE:
            right, up = (place.ends[0] - place.points[0]).tolist()
            placement.leaders[i] = right, up
    return placement


class _Places(NamedTuple):
    """Places that a name may take."""

    kinds: np.ndarray
    """The number of the side, that of a way after the sides, or _NOWHERE where the name is left out."""
    boxes: np.ndarray
    """[place, 4]"""
    points: np.ndarray
    """The point [place, 2]: the same for all places."""
    starts: np.ndarray
    ends: np.ndarray
    """The ends of the line to the name [place, 2]; the same twice where there is none."""
    costs: np.ndarray
    """Of each place, whatever the other names do."""

    def best(self, n: int) -> "_Places":
        """Keep the n places that cost least."""
        least = np.argsort(self.costs, kind="stable")[:n]
        return _Places(*(part[least] for part in self))


def _least_cost(places: Sequence[_Places]) -> list[_Places]:
    """Return the place of each name."""
    costs = np.array([each.costs for each in places])
    pairs = np.zeros((len(places), len(places), costs.shape[1], costs.shape[1]))
    for i, j in itertools.combinations(range(len(places)), 2):
        pairs[i, j] = _conflicts(places[i], places[j])
        pairs[j, i] = pairs[i, j].T
    points = np.array([each.points[0] for each in places])
    nearest = np.argsort(((points[:, None] - points) ** 2).sum(2), axis=1, kind="stable")
    generator = np.random.default_rng(0)
    best = _improved(np.full(len(places), -1), range(len(places)), costs, pairs)
    least = _total(best, costs, pairs)
    for _ in range(N_MOVES):
        if least < LINE_COST:
            break
        moved = best.copy()
        some = nearest[generator.integers(len(places))][:_N_MOVED]
        moved[some] = generator.integers(0, costs.shape[1], len(some))
        moved = _improved(moved, generator.permutation(len(places)).tolist(), costs, pairs)
        if (total := _total(moved, costs, pairs)) < least:
            best, least = moved, total
    return [_Places(*(part[k : k + 1] for part in each)) for each, k in zip(places, best.tolist(), strict=True)]


def _improved(chosen: np.ndarray, order: Sequence[int], costs: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Let each name in turn, in an order, take its best place, until none moves.
    chosen: the place of each, or −1 where it is not yet placed. pairs: [name, other, place, place of the other]."""
    chosen = chosen.copy()
    for _ in range(_MAX_ROUNDS):
        before = chosen.copy()
        for i in order:
            placed = np.flatnonzero(chosen >= 0)
            chosen[i] = (costs[i] + pairs[i, placed, :, chosen[placed]].sum(0)).argmin()
        if (chosen == before).all():
            break
    return chosen


def _total(chosen: np.ndarray, costs: np.ndarray, pairs: np.ndarray) -> float:
    names = np.arange(len(chosen))
    between = pairs[names[:, None], names, chosen[:, None], chosen]
    return float(costs[names, chosen].sum() + between.sum() / 2)


def _conflicts(places: _Places, others: _Places) -> np.ndarray:
    """Return what each place of a name costs beside each place of another name [place, other]."""
    covers = _overlaps(places.boxes, others.boxes) > MAX_OVERLAP
    lines = _enters(places.starts, places.ends, others.boxes).astype(float)
    lines += _enters(others.starts, others.ends, places.boxes).T
    lines += _cross(places.starts, places.ends, others.starts, others.ends)
    return np.where(covers, np.inf, CROSSING_COST * lines)


def _places_of(
    i: int,
    points: np.ndarray,
    extent: Pixels,
    room: Pixels,
    sides: Sequence[str],
    others: np.ndarray,
    dots: np.ndarray,
) -> _Places:
    """List the places of the name of a point: on its sides, further away, and none.
    others: boxes that it must not cover."""
    point = points[i]
    boxes_of_sides = _boxes_beside(point, extent)
    ways = _ways()
    boxes = np.array([*(boxes_of_sides[side] for side in sides), *(_box_at(point, way, extent) for way in ways)])
    ends = point + np.array([*[(0.0, 0.0)] * len(sides), *ways])
    lengths = np.hypot(*(ends - point).T)
    starts = point + (ends - point) * (NAME_GAP / np.maximum(lengths, NAME_GAP))[:, None]
    far = points[np.hypot(*(points - point).T) > _CLOSE]
    left, right, bottom, top = boxes.T
    is_outside = (left < 0) | (right > room[0]) | (bottom < 0) | (top > room[1])
    is_covering = _overlaps(boxes, others).sum(1) > MAX_OVERLAP
    costs = np.where(lengths > 0, LINE_COST + lengths, 0.01 * np.arange(len(boxes)))  # of sides, the first
    costs += CROSSING_COST * _enters(starts, ends, _boxes_around(far, _DOT_REACH)).sum(1)
    costs += DOT_COST * _hidden(boxes, dots)
    costs[is_outside | is_covering] = np.inf
    return _Places(
        np.append(np.arange(len(boxes)), _NOWHERE),
        np.vstack([boxes, np.full((1, 4), -1e6)]),
        np.tile(point, (len(boxes) + 1, 1)),
        np.vstack([starts, point]),
        np.vstack([ends, point]),
        np.append(costs, LEFT_OUT),
    )


def _ways() -> list[Pixels]:
    """Return the ways (right, up) from a point to the near end of its name, the shortest first."""
    angles = (np.arange(N_DIRECTIONS) + 0.5) * 2 * np.pi / N_DIRECTIONS
    return [
        (reach * float(np.cos(angle)), reach * float(np.sin(angle))) for reach in LEADER_LENGTHS for angle in angles
    ]


def _extent(name: str, size: float) -> Pixels:
    """Return the width and height of a name with its ground, and a letter more, so that two names side by side are not
    read as one."""
    return LETTER_WIDTH * size * (count_letters(name) + 1), _GROUND_HEIGHT * size


def _boxes_around(points: np.ndarray, reach: float = NAME_GAP) -> np.ndarray:
    """Return the box around each point [point, 4]."""
    right, up = points.T
    return np.column_stack([right - reach, right + reach, up - reach, up + reach])


def boxes_along(x: np.ndarray, y: np.ndarray) -> list[Box]:
    """Return boxes along the line that joins points, whose coordinates are in pixels."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    steps = np.arange(0, lengths[-1] + _LINE_STEP, _LINE_STEP)
    at = zip(np.interp(steps, lengths, x).tolist(), np.interp(steps, lengths, y).tolist(), strict=True)
    return [(right - 1, right + 1, up - 1, up + 1) for right, up in at]


def _box_at(point: np.ndarray, way: Pixels, extent: Pixels) -> Box:
    """Return the box of a name of this width and height at the end of a way from its point: beside the end, or above or
    below the end of a steep way."""
    (x, y), (width, height) = point + np.array(way), extent
    anchors = _anchors_at(way)
    left = x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[anchors["xanchor"]]
    bottom = y - height * {"bottom": 0.0, "middle": 0.5, "top": 1.0}[anchors["yanchor"]]
    return left, left + width, bottom, bottom + height


def _anchors_at(way: Pixels) -> dict[str, str]:
    """Return which part of a name is at the end of the way (right, up) from its point."""
    right, up = way
    if abs(up) > 1.5 * abs(right):
        return {"xanchor": "center", "yanchor": "bottom" if up > 0 else "top"}
    return {"xanchor": "left" if right > 0 else "right", "yanchor": "middle"}


def count_letters(name: str) -> int:
    """Count the visible letters. An entity such as &lt; is one letter, and marks of writing direction are none."""
    return len(html.unescape(name).strip("\u2068\u2069"))


def _boxes_beside(point: np.ndarray, extent: Pixels) -> dict[str, Box]:
    """Return the boxes of a name of this width and height on each side of its point."""
    x, y = point.tolist()
    width, height = extent
    lefts = x + NAME_GAP, x - NAME_GAP - width, x - width / 2, x - width / 2
    bottoms = y - height / 2, y - height / 2, y + NAME_GAP, y - NAME_GAP - height
    corners = zip(ANCHORS, lefts, bottoms, strict=True)
    return {side: (left, left + width, bottom, bottom + height) for side, left, bottom in corners}


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area [box, other] that both share."""
    left, right, bottom, top = boxes.T[:, :, None]
    other_left, other_right, other_bottom, other_top = others.T
    widths = np.minimum(right, other_right) - np.maximum(left, other_left)
    return widths.clip(min=0) * (np.minimum(top, other_top) - np.maximum(bottom, other_bottom)).clip(min=0)


def _hidden(boxes: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """Count the dots in each box."""
    left, right, bottom, top = boxes.T[:, :, None]
    return ((left < dots[:, 0]) & (dots[:, 0] < right) & (bottom < dots[:, 1]) & (dots[:, 1] < top)).sum(1)


def _enters(starts: np.ndarray, ends: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether each line [line, box] passes through each box: there is a share of its way at which it is between
    the sides and between bottom and top."""
    step = ends - starts
    step = np.where(np.abs(step) < 1e-9, 1e-9, step)
    with_sides = (boxes[:, :2][None] - starts[:, :1, None]) / step[:, :1, None]
    with_ends = (boxes[:, 2:][None] - starts[:, 1:, None]) / step[:, 1:, None]
    first = np.maximum(np.maximum(with_sides.min(2), with_ends.min(2)), 0.0)
    last = np.minimum(np.minimum(with_sides.max(2), with_ends.max(2)), 1.0)
    return (first < last) & (ends != starts).any(1)[:, None]


def _cross(starts: np.ndarray, ends: np.ndarray, other_starts: np.ndarray, other_ends: np.ndarray) -> np.ndarray:
    """Return whether each line [line, other] crosses each other: the ends of each lie on both sides of the other."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

    a, b, c, d = starts[:, None], ends[:, None], other_starts[None], other_ends[None]
    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
