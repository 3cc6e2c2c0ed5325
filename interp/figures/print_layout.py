"""Lay a figure out again for the width at which it is printed, and place names beside its points.

In: a figure as it is on a screen. Out: a copy whose letters have at least 7 points, with margins no wider than its
labels, without a title unless asked (a caption says it), and with names beside lines in place of a legend where the
figure asks for them (`meta={"direct_labels": True}`) and there is room.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.theme import GREY, HEIGHT, INK, WIDTH, without_slider

MAX_WIDTH = 10_000
"""Largest width of a figure, in millimetres, that a browser draws without running out of memory."""
WIDTHS = {"column": 84.5, "icml": 82.6, "page": 139.7}
"""Millimetres: a column of ACM's two and of ICML's, the text of NeurIPS."""
MIN_FONT = 7 * 96 / 72
"""7 points in the pixels that print counts, 96 an inch."""
_MARGIN = dict(l=4, r=10, t=6, b=4)
"""Pixels; axes, legends and colour bars push them outwards as far as they need."""
MAX_DIRECT = 3
"""Lines that are named where they are highest; the names of more would lie on other lines."""
_TITLE = 34
"""Pixels of height that a title takes on a screen."""
_AXES = 70.0, 90.0
"""Pixels that axes with their titles take there from width and height."""

Box = tuple[float, float, float, float]
"""left, right, bottom, top, in pixels of the plot."""
GAP = 5.0
"""Pixels between a point's middle and its name."""
CHARACTER, LINE = 0.56, 1.15
"""Width of a letter and height of a line of Helvetica, in font sizes."""
TOLERATED = 2.0
"""Square pixels of another name, or of a point, that one may touch."""
SIDES = ("middle right", "middle left", "top center", "bottom center")
LEADER = "leader"
"""The name of annotations that name a point from further away, with a line to it."""
REACHES = (16.0, 26.0, 38.0, 54.0, 74.0)
"""Pixels from a point to the middle of the nearer end of a name that a line leads to."""
DIRECTIONS = 16
"""Ways from a point, evenly around it, that are tried at each reach."""


def for_print(fig: go.Figure, width: str | float = "column", *, title: bool = False) -> go.Figure:
    """Return a copy of `fig` for print. Its letters shrink with it, but not below 7 points, and so its height shrinks
    less than its width. width: a name of WIDTHS, or millimetres.

    Raises ValueError for a width that there is not, and for a figure that was laid out for another.
    """
    pixels = in_pixels(width)
    meta = fig.layout.meta if isinstance(fig.layout.meta, dict) else {}
    laid_out = meta.get("laid_out_for")
    if laid_out and abs(laid_out - pixels) > 1:
        raise ValueError(
            f"the figure was laid out {laid_out * 25.4 / 96:.1f} mm wide, "
            f"not {pixels * 25.4 / 96:.1f}: give the function that made it width={width!r}"
        )
    fig = without_slider(fig)
    ratio = min(1.0, pixels / (fig.layout.width or WIDTH))
    traces = [_with_fonts(trace.to_plotly_json(), ratio) for trace in fig.data]
    drawn = go.Figure(traces, _with_fonts(fig.layout.to_plotly_json(), ratio))
    if not title:
        drawn.layout.title = None
    if laid_out:
        return drawn.update_layout(title_automargin=True)
    shrinks = ratio if fig.layout.yaxis.scaleanchor else ratio**0.5  # what is square stays square
    height = ((fig.layout.height or HEIGHT) - _TITLE * (not title)) * shrinks
    drawn.update_layout(width=pixels, height=height, autosize=False, margin=_MARGIN, title_automargin=True)
    size = float(drawn.layout.font.size or MIN_FONT)
    drawn.update_xaxes(title_font_size=size, automargin=True).update_yaxes(title_font_size=size, automargin=True)
    drawn.update_traces(selector=dict(type="scatter", mode="markers+text"), textfont_size=size)
    for trace in drawn.data:  # on a screen the titles of colour bars are larger than the letters of the figure
        bar = trace.colorbar if trace.type == "heatmap" else trace.marker.colorbar if trace.type == "scatter" else None
        if bar is not None and bar.to_plotly_json():
            bar.update(tickfont_size=size, title_font_size=size)
    if meta.get("direct_labels"):
        drawn = _with_direct_labels(drawn)
    return with_placed_names(_with_key(drawn, size))


def in_pixels(width: str | float) -> float:
    """Return the width of a name of WIDTHS, or of millimetres, in pixels. Raises ValueError for a name that is not
    there and for a width that is not above 0, or above ten metres."""
    if isinstance(width, str) and width not in WIDTHS:
        raise ValueError(f"width={width!r} must be one of {', '.join(WIDTHS)}, or millimetres")
    pixels = (WIDTHS[width] if isinstance(width, str) else width) / 25.4 * 96
    if not 0 < pixels < MAX_WIDTH / 25.4 * 96:
        raise ValueError(f"width={width} must be above 0 mm and below {MAX_WIDTH:,}")
    return pixels


def with_placed_names(fig: go.Figure) -> go.Figure:
    """Set the name of every point of a trace of mode `markers+text` beside it; those of points that lie higher are
    placed first. A name for which there is no room beside its point stands further off, at the end of a thin line, and
    where there is none there either it is taken away. All names stay in `hovertext`. Where an axis has no range yet,
    names stay as they are."""
    if fig.layout.xaxis.range is None or fig.layout.yaxis.range is None:
        return fig
    fig.layout.annotations = [note for note in fig.layout.annotations if note.name != LEADER]
    room = fig.layout.width - _AXES[0], fig.layout.height - _AXES[1]
    for trace in fig.select_traces(dict(type="scatter", mode="markers+text")):
        names = [str(name) for name in (trace.hovertext if trace.hovertext is not None else trace.text)]
        size = trace.textfont.size or fig.layout.font.size or 12
        x, y = _along(trace.x, fig.layout.xaxis, room[0]), _along(trace.y, fig.layout.yaxis, room[1])
        sides, leaders = _placed(x, y, names, size, room)
        trace.update(
            hovertext=names,
            text=[name if side else "" for name, side in zip(names, sides, strict=True)],
            textposition=[side or "middle right" for side in sides],
        )
        for i, (right, up) in leaders.items():
            line = dict(showarrow=True, arrowhead=0, arrowwidth=0.7, arrowcolor=GREY, standoff=4, ax=right, ay=-up)
            anchor = "left" if right > 0 else "right"
            position = dict(x=_in_axis(trace.x[i], fig.layout.xaxis), y=_in_axis(trace.y[i], fig.layout.yaxis))
            look = dict(xanchor=anchor, yanchor="middle", font_size=size, borderpad=1)
            fig.add_annotation(text=names[i], name=LEADER, **position, **line, **look)
    return fig


def _in_axis(value: float, axis: go.layout.XAxis | go.layout.YAxis) -> float:
    """Return a value as annotations give it: on a logarithmic axis its logarithm."""
    return float(np.log10(value)) if axis.type == "log" else float(value)


def _along(values: object, axis: go.layout.XAxis | go.layout.YAxis, length: float) -> np.ndarray:
    """Return positions along an axis whose range is given, in pixels from its start."""
    numbers = np.asarray(values, float)
    low, high = axis.range
    return ((np.log10(numbers) if axis.type == "log" else numbers) - low) / (high - low) * length


def _placed(
    x: np.ndarray, y: np.ndarray, names: list[str], size: float, room: tuple[float, float], sides: Sequence[str] = SIDES
) -> tuple[list[str], dict[int, tuple[float, float]]]:
    """Find the first free side for each name, "" where none is, and for those the way from the point to the name, where
    there is room for it further off. x, y and room (width, height) in pixels."""
    points: list[Box] = [(a - GAP, a + GAP, b - GAP, b + GAP) for a, b in zip(x, y, strict=True)]
    placed: list[Box] = []
    chosen = [""] * len(names)
    for i in np.argsort(-y, kind="stable").tolist():
        boxes = _boxes(float(x[i]), float(y[i]), CHARACTER * size * _letters(names[i]), LINE * size)
        others = placed + points[:i] + points[i + 1 :]
        free = [side for side in sides if _is_free(boxes[side], others, room)]
        if free:
            chosen[i] = free[0]
            placed.append(boxes[chosen[i]])
    leaders = {}
    for i in [i for i, name in enumerate(names) if name and not chosen[i]]:
        extent = CHARACTER * size * _letters(names[i]), LINE * size
        others = placed + points[:i] + points[i + 1 :]
        free_ways = [way for way in _ways() if _is_free(_box_at(float(x[i]), float(y[i]), way, extent), others, room)]
        if free_ways:
            lines = [_line(float(x[i]), float(y[i]), way) for way in free_ways]
            crossed = [sum(not _is_free(step, placed, room) for step in line) for line in lines]
            best = int(np.argmin(crossed))
            leaders[i] = free_ways[best]
            placed += [_box_at(float(x[i]), float(y[i]), free_ways[best], extent), *lines[best]]
    return chosen, leaders


def _ways() -> list[tuple[float, float]]:
    """Return the ways from a point (right, up) to the nearer end of its name, the shortest first."""
    angles = (np.arange(DIRECTIONS) + 0.5) * 2 * np.pi / DIRECTIONS
    return [(reach * float(np.cos(a)), reach * float(np.sin(a))) for reach in REACHES for a in angles]


def _line(a: float, b: float, direction: tuple[float, float]) -> list[Box]:
    """Return the line from a point to its name, as boxes along it."""
    steps = np.linspace(GAP / max(float(np.hypot(*direction)), GAP), 1, 12)
    ends = ((a + direction[0] * step, b + direction[1] * step) for step in steps)
    return [(right - 1, right + 1, up - 1, up + 1) for right, up in ends]


def _box_at(a: float, b: float, direction: tuple[float, float], extent: tuple[float, float]) -> Box:
    """Return where a name lies whose nearer end is this way from its point."""
    end, middle = a + direction[0], b + direction[1]
    left = end if direction[0] > 0 else end - extent[0]
    return left, left + extent[0], middle - extent[1] / 2, middle + extent[1] / 2


def _letters(name: str) -> int:
    """Count the letters that are seen: an entity such as &lt; is one, and the marks of direction are none."""
    return len(html.unescape(name).strip("\u2068\u2069"))


def _boxes(a: float, b: float, width: float, height: float) -> dict[str, Box]:
    lefts = a + GAP, a - GAP - width, a - width / 2, a - width / 2
    bottoms = b - height / 2, b - height / 2, b + GAP, b - GAP - height
    corners = zip(SIDES, lefts, bottoms, strict=True)
    return {side: (left, left + width, bottom, bottom + height) for side, left, bottom in corners}


def _is_free(box: Box, others: list[Box], room: tuple[float, float]) -> bool:
    """Return whether the box lies within the plot and hides next to nothing."""
    left, right, bottom, top = box
    if left < 0 or right > room[0] or bottom < 0 or top > room[1]:
        return False
    sides = ((min(right, u1) - max(left, u0), min(top, v1) - max(bottom, v0)) for u0, u1, v0, v1 in others)
    return sum(width * height for width, height in sides if width > 0 and height > 0) < TOLERATED


def _with_key(fig: go.Figure, size: float) -> go.Figure:
    """Write panel titles and the key of colours above the plot. The key is a text, broken into lines as wide as the
    figure: a legend of plotly's is no wider than the plot, and each of its entries as wide as the longest."""
    above = [note for note in fig.layout.annotations if note.yref == "paper" and note.y >= 0.99]
    titles = 1.7 * size if any(note.yanchor == "bottom" for note in above) else 0.0
    lines: list[str] = []
    left = 0.0
    for trace in _keys(fig):
        length = (_letters(trace.name) + 4) * CHARACTER * size
        if not lines or length > left:
            lines.append("")
            left = fig.layout.width - 2 * _MARGIN["r"]
        hue, symbol = _legend_glyph(trace)
        name = trace.name.replace(" ", "\u00a0")
        lines[-1] += f'<span style="color:{hue}">{symbol}</span>\u00a0{name}\u2003'
        left -= length
    height = LINE * 1.15 * size * len(lines)
    fig.update_layout(showlegend=False, margin_t=_MARGIN["t"] + titles + height)
    if lines:
        position = dict(x=1, xref="paper", y=1, yref="paper", xanchor="right", yanchor="bottom", yshift=titles)
        fig.add_annotation(text="<br>".join(line.rstrip("\u2003") for line in lines), showarrow=False, **position)
    return fig


def _keys(fig: go.Figure) -> list[Any]:
    """Return the traces that a legend would name."""
    if fig.layout.showlegend is False:
        return []
    named = [trace for trace in fig.data if trace.name and trace.showlegend is not False]
    return named if len(named) > 1 or any(trace.showlegend for trace in named) else []


def _legend_glyph(trace: Any) -> tuple[str, str]:
    """Return the colour and the letter that stand for a trace; ink where its points have colours of their own."""
    if "lines" in (getattr(trace, "mode", None) or ""):
        return trace.line.color or INK, "┅" if trace.line.dash else "━"
    symbol = {"circle-open": "○", "diamond": "◆"}.get(getattr(trace.marker, "symbol", None) or "", "●")
    colour = trace.marker.color if isinstance(trace.marker.color, str) else INK
    return colour, symbol if trace.type == "scatter" else "■"


def _with_direct_labels(fig: go.Figure) -> go.Figure:
    """Name each line at its highest point, in its colour, if all names find room; else leave the figure as it was."""
    anchors = {
        "top center": dict(yanchor="bottom", yshift=GAP),
        "middle right": dict(xanchor="left", xshift=GAP),
        "middle left": dict(xanchor="right", xshift=-GAP),
    }
    traces = [trace for trace in _keys(fig) if "lines" in (trace.mode or "")]
    if not 2 <= len(traces) <= MAX_DIRECT:
        return fig
    peaks = [int(np.nanargmax(np.asarray(trace.y, float))) for trace in traces]
    x = np.array([float(trace.x[at]) for trace, at in zip(traces, peaks, strict=True)])
    y = np.array([float(trace.y[at]) for trace, at in zip(traces, peaks, strict=True)])
    size = float(fig.layout.font.size)
    top = 1.15 * float(y.max())
    low, high = fig.layout.xaxis.range or (min(np.min(t.x) for t in traces), max(np.max(t.x) for t in traces))
    width, height = fig.layout.width - 55, fig.layout.height - 60
    names = [str(trace.name) for trace in traces]
    along = (x - low) / (high - low) * width
    sides, _ = _placed(along, y / top * height, names, size, (width, height), list(anchors))
    if not all(sides):
        return fig
    for trace, a, b, side in zip(traces, x, y, sides, strict=True):
        font = dict(color=trace.line.color, size=size)
        fig.add_annotation(x=a, y=b, text=trace.name, showarrow=False, **anchors[side], font=font)
    return fig.update_layout(showlegend=False).update_yaxes(range=[0, top])


def _with_fonts(part: Any, ratio: float) -> Any:
    """Return a copy of a part of a figure in which every font's size is multiplied by `ratio`, but is at least
    MIN_FONT."""
    if isinstance(part, list | tuple):
        return [_with_fonts(item, ratio) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: {**value, "size": max(value["size"] * ratio, MIN_FONT)}
        if key.endswith("font") and isinstance(value, dict) and isinstance(value.get("size"), int | float)
        else _with_fonts(value, ratio)
        for key, value in part.items()
    }
