"""Names beside points: each on the side where it covers the least, and left out where it would lie on another.

In: a figure with traces of mode `markers+text`, at the size at which it will be seen. Out: the same, its texts placed.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

Box = tuple[float, float, float, float]
"""left, right, bottom, top, in pixels of the plot."""
GAP = 5.0
"""Pixels between a point's middle and its name."""
CHARACTER, LINE = 0.56, 1.15
"""Width of a letter and height of a line of Helvetica, in font sizes."""
TOLERATED = 2.0
"""Square pixels of another name, or of a point, that one may touch."""
SIDES = ("middle right", "middle left", "top center", "bottom center")
_MARGIN = 70.0, 90.0
"""Pixels that axes with their titles take from width and height."""


def with_placed_names(fig: go.Figure) -> go.Figure:
    """Set `textposition` of every named point, and take away the names for which there is no room; those of points
    that lie higher are placed first. A name that is taken away stays in `hovertext`. Where an axis has no range yet,
    names stay as they are."""
    if fig.layout.xaxis.range is None or fig.layout.yaxis.range is None:
        return fig
    for trace in fig.select_traces(dict(type="scatter", mode="markers+text")):
        names = [str(name) for name in (trace.hovertext if trace.hovertext is not None else trace.text)]
        size = trace.textfont.size or fig.layout.font.size or 12
        x, y = _pixels(trace.x, fig, "x"), _pixels(trace.y, fig, "y")
        room = fig.layout.width - _MARGIN[0], fig.layout.height - _MARGIN[1]
        sides = placed(x, y, names, size, room)
        trace.update(
            hovertext=names,
            text=[name if side else "" for name, side in zip(names, sides, strict=True)],
            textposition=[side or "middle right" for side in sides],
        )
    return fig


def placed(
    x: np.ndarray,
    y: np.ndarray,
    names: list[str],
    size: float,
    room: tuple[float, float],
    sides: Sequence[str] = SIDES,
) -> list[str]:
    """The first free side for each name, "" where none is. x, y and room (width, height) in pixels."""
    points: list[Box] = [(a - GAP, a + GAP, b - GAP, b + GAP) for a, b in zip(x, y, strict=True)]
    taken: list[Box] = []
    chosen = [""] * len(names)
    for i in np.argsort(-y, kind="stable").tolist():
        boxes = _boxes(float(x[i]), float(y[i]), CHARACTER * size * letters(names[i]), LINE * size)
        others = points[:i] + points[i + 1 :]
        free = [
            side for side in sides if _inside(boxes[side], room) and _covered(boxes[side], taken + others) < TOLERATED
        ]
        if free:
            chosen[i] = free[0]
            taken.append(boxes[chosen[i]])
    return chosen


def _inside(box: Box, room: tuple[float, float]) -> bool:
    return 0 <= box[0] and box[1] <= room[0] and 0 <= box[2] and box[3] <= room[1]


def letters(name: str) -> int:
    """How many are seen: an entity such as &lt; is one, and the marks of direction are none."""
    return len(html.unescape(name).strip("\u2068\u2069"))


def _boxes(a: float, b: float, width: float, height: float) -> dict[str, Box]:
    corners = (
        (a + GAP, b - height / 2),
        (a - GAP - width, b - height / 2),
        (a - width / 2, b + GAP),
        (a - width / 2, b - GAP - height),
    )
    return {side: (u, u + width, v, v + height) for side, (u, v) in zip(SIDES, corners, strict=True)}


def _covered(box: Box, others: list[Box]) -> float:
    """The area of `box` that lies under others."""
    left, right, bottom, top = box
    sides = ((min(right, u1) - max(left, u0), min(top, v1) - max(bottom, v0)) for u0, u1, v0, v1 in others)
    return sum(width * height for width, height in sides if width > 0 and height > 0)


def _pixels(values: object, fig: go.Figure, axis: str) -> np.ndarray:
    """Places along an axis whose range is given, in pixels from its start."""
    layout = fig.layout[f"{axis}axis"]
    low, high = layout.range
    numbers = np.asarray(values, float)
    numbers = np.log10(numbers) if layout.type == "log" else numbers
    length = fig.layout.width - _MARGIN[0] if axis == "x" else fig.layout.height - _MARGIN[1]
    return (numbers - low) / (high - low) * length
