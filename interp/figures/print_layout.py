"""Change the layout of a figure for the width at which it is printed.

In: a figure as it is on a screen. Out: a copy whose letters have at least 7 points, with margins no wider than its
labels. It has no title, unless you want one, since the caption gives it. If the figure's `meta` has {"direct_labels":
True} and there is room, names next to the lines replace the legend.
"""

from __future__ import annotations

import base64
import html
import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from interp.checks.errors import InterpError
from interp.figures.name_placement import (
    ANCHORS,
    LETTER_WIDTH,
    LINE_HEIGHT,
    boxes_along,
    count_letters,
    place_names,
    plot_size,
    with_placed_names,
)
from interp.figures.theme import HEIGHT, INK, WIDTH, escape_markup, shortened, without_slider

MAX_MILLIMETRES = 10_000
"""Largest width of a figure, in millimetres, that a browser draws without running out of memory."""
WIDTHS = {"column": 84.5, "icml": 82.6, "page": 139.7}
"""Widths in millimetres: of one of ACM's two columns, of one of ICML's, and of the text of NeurIPS."""
MIN_FONT = 7 * 96 / 72
"""7 points, in the pixels of print, of which an inch has 96."""
_MARGIN = {"l": 4, "r": 10, "t": 6, "b": 4}
"""Margins in pixels. Axes, legends and colour bars widen them as far as they need."""
LEAST_PLOT = 64
"""The least height of a plot in pixels. Below it plotly takes from the room of the axis, whose title then meets its
numbers."""
MAX_LABEL_SHARE = 0.5
"""Largest share of the width that the labels of rows take. Longer ones would leave no room for what they label."""
TITLE_GAP = 4
"""Pixels between the numbers of an axis and its title."""
TITLE_ROOM = 1.5
"""The room for the title of a y axis, in its letters. Plotly leaves only 0.7 of what is the font's size, so that the
title would touch the edge of the picture."""
MAX_DIRECT = 3
"""Largest number of lines that are named at their highest point. More names would overlap other lines."""
_SIDES_OF_PEAKS = ("top center", "middle right", "middle left")
"""The sides of the highest point of a line on which its name may stand."""
_TITLE_HEIGHT = 34
"""Pixels of height that a title takes on a screen."""


def with_print_layout(fig: go.Figure, width: str | float = "column", *, title: bool = False) -> go.Figure:
    """Return a copy of `fig` for print. Its letters shrink with it, but not below 7 points, so its height shrinks less
    than its width.
    width: a name of WIDTHS, or millimetres.

    Raises ValueError for an unknown width, and for a figure that was laid out for another width.
    """
    pixels = to_pixels(width)
    meta = fig.layout.meta if isinstance(fig.layout.meta, dict) else {}
    laid_out = meta.get("laid_out_for")
    if laid_out and abs(laid_out - pixels) > 1:
        raise InterpError(
            f"the figure was laid out {laid_out * 25.4 / 96:.1f} mm wide, "
            f"not {pixels * 25.4 / 96:.1f}: give the function that made it width={width!r}"
        )
    fig = without_slider(fig)
    ratio = min(1.0, pixels / (fig.layout.width or WIDTH))
    traces = [_with_fonts(_with_arrays(trace.to_plotly_json()), ratio) for trace in fig.data]
    drawn = go.Figure(traces, _with_fonts(fig.layout.to_plotly_json(), ratio))
    # plotly would leave out points of a line that lie within a pixel of it, which slants steps in enlarged pictures
    drawn.update_traces(selector={"type": "scatter"}, line_simplify=False)
    if not title:
        drawn.layout.title = None
    if laid_out:
        return drawn.update_layout(title_automargin=True)
    shrinks = ratio if fig.layout.yaxis.scaleanchor else ratio**0.5  # square plots stay square
    height = ((fig.layout.height or HEIGHT) - _TITLE_HEIGHT * (not title)) * shrinks
    drawn.update_layout(width=pixels, height=height, autosize=False, margin=_MARGIN, title_automargin=True)
    size = float(drawn.layout.font.size or MIN_FONT)
    drawn.update_xaxes(title_font_size=size, title_standoff=TITLE_GAP, automargin=True)
    drawn.update_yaxes(title_standoff=TITLE_GAP, automargin=True)
    drawn.for_each_yaxis(lambda axis: _give_room_to_title(axis, size))
    drawn.update_traces(selector={"type": "scatter", "mode": "markers+text"}, textfont_size=size)
    for trace in drawn.data:  # on a screen the titles of colour bars are larger than the letters of the figure
        bar = trace.colorbar if trace.type == "heatmap" else trace.marker.colorbar if trace.type == "scatter" else None
        if bar is not None and bar.to_plotly_json():
            bar.update(tickfont_size=size, title_font_size=size)
    drawn = _with_fitting_axes(drawn, size)
    if meta.get("direct_labels"):
        drawn = _with_direct_labels(drawn)
    drawn = _with_key(drawn, size)
    drawn.layout.height += max(0.0, LEAST_PLOT - plot_size(drawn)[1])
    return with_placed_names(drawn)


def to_pixels(width: str | float) -> float:
    """Return the width of a name of WIDTHS, or of millimetres, in pixels. Raises ValueError for an unknown name, and
    for a width that is not above 0, or above ten metres."""
    if isinstance(width, str) and width not in WIDTHS:
        raise InterpError(f"width={width!r} must be one of {', '.join(WIDTHS)}, or millimetres")
    pixels = (WIDTHS[width] if isinstance(width, str) else width) / 25.4 * 96
    if not 0 < pixels < MAX_MILLIMETRES / 25.4 * 96:
        raise InterpError(f"width={width} must be above 0 mm and below {MAX_MILLIMETRES:,}")
    return pixels


def _give_room_to_title(axis: Any, size: float) -> None:
    """Set the title in letters of this size, in a font that is larger, by which plotly measures its room."""
    if axis.title.text:
        axis.title.text = f'<span style="font-size:{size}px">{axis.title.text}</span>'
        axis.title.font.size = TITLE_ROOM * size


def _with_fitting_axes(fig: go.Figure, size: float) -> go.Figure:
    """Shorten the labels of rows that take too much of the width, and break titles that are longer than their axis into
    lines."""
    max_letters = int(MAX_LABEL_SHARE * fig.layout.width / (LETTER_WIDTH * size))
    longest = 0
    for axis in fig.select_yaxes():
        if axis.ticktext:
            axis.ticktext = [_shortened_label(str(label), max_letters) for label in axis.ticktext]
            lines = [line for label in axis.ticktext for line in label.split("<br>")]
            longest = max(longest, *map(count_letters, lines))
    room = min(plot_size(fig)[0], fig.layout.width - (longest + 3) * LETTER_WIDTH * size - _MARGIN["r"])
    for axis in fig.select_xaxes():
        if (title := axis.title.text) and "<" not in title:
            low, high = axis.domain or (0, 1)
            n_letters = max(1, int(room * (high - low) / (LETTER_WIDTH * size)))
            axis.title.text = "<br>".join(textwrap.wrap(title, n_letters, break_long_words=False))
    return fig


def _shortened_label(label: str, max_letters: int) -> str:
    """Return a label of at most `max_letters` letters. A label with markup stays as it is."""
    if count_letters(label) <= max_letters or "<" in label:
        return label
    short = escape_markup(shortened(html.unescape(label).strip("\u2068\u2069"), max_letters))
    return f"\u2068{short}\u2069" if label.startswith("\u2068") else short


def _with_key(fig: go.Figure, size: float) -> go.Figure:
    """Write panel titles and the key of colours above the plot. The key is a text, broken into lines as wide as the
    figure. A legend of plotly would be no wider than the plot, and all its entries as wide as the longest."""
    above = [note for note in fig.layout.annotations if note.yref == "paper" and (note.y or 0) >= 0.99]
    n_lines = [note.text.count("<br>") + 1 for note in above if note.yanchor == "bottom" and note.text]
    titles = (LINE_HEIGHT * max(n_lines) + 0.55) * size if n_lines else 0.0
    lines: list[str] = []
    left = 0.0
    for trace in _keys(fig):
        length = (count_letters(trace.name) + 3.5) * LETTER_WIDTH * size
        if not lines or length - size > left:  # the last has no space behind it
            lines.append("")
            left = fig.layout.width - 2 * _MARGIN["r"]
        hue, symbol = _legend_glyph(trace)
        name = trace.name.replace(" ", "\u00a0")
        lines[-1] += f'<span style="color:{hue}">{symbol}</span>\u00a0{name}\u2003'
        left -= length
    height = LINE_HEIGHT * 1.15 * size * len(lines)
    title = fig.layout.title
    heading = (title.pad.t or 0) + LINE_HEIGHT * (title.font.size or 1.4 * size) if title.text else 0.0
    fig.update_layout(showlegend=False, margin_t=_MARGIN["t"] + titles + height + heading)
    if lines:
        position = {
            "x": 1,
            "xref": "paper",
            "y": 1,
            "yref": "paper",
            "xanchor": "right",
            "yanchor": "bottom",
            "align": "right",
            "yshift": titles,
        }
        fig.add_annotation(text="<br>".join(line.rstrip("\u2003") for line in lines), showarrow=False, **position)
    return fig


def _keys(fig: go.Figure) -> list[Any]:
    """Return the traces that a legend would name."""
    if fig.layout.showlegend is False:
        return []
    legend_traces = [trace for trace in fig.data if trace.name and trace.showlegend is not False]
    return legend_traces if len(legend_traces) > 1 or any(trace.showlegend for trace in legend_traces) else []


_GLYPHS = {
    "circle-open": "○",
    "square": "■",
    "square-open": "□",
    "diamond": "◆",
    "diamond-open": "◇",
    "line-ns-open": "|",
}
"""The letter for each symbol of a marker in the key; any other is a dot."""


def _legend_glyph(trace: Any) -> tuple[str, str]:
    """Return the colour and the letter that represent a trace. The colour is INK if its points have individual
    colours."""
    if "lines" in (getattr(trace, "mode", None) or ""):
        return trace.line.color or INK, "– –" if trace.line.dash else "━"
    symbol = _GLYPHS.get(getattr(trace.marker, "symbol", None) or "", "●")
    colour = trace.marker.color if isinstance(trace.marker.color, str) else INK
    if trace.type == "scatter":
        return colour, symbol
    return colour, "▨" if trace.type == "bar" and trace.marker.pattern.shape else "■"


def _with_direct_labels(fig: go.Figure) -> go.Figure:
    """Name each line at its highest point, or where it falls, in its colour, if there is room for all names beside the
    lines. Otherwise leave the figure as it was."""
    traces = [trace for trace in _keys(fig) if "lines" in (trace.mode or "")]
    if not 2 <= len(traces) <= MAX_DIRECT:
        return fig
    lines = [_corners(trace) for trace in traces]
    peaks = np.array([(np.mean(x[y == y.max()][:2]), y.max()) for x, y in lines])  # the middle of a step
    size = float(fig.layout.font.size)
    top = 1.15 * float(peaks[:, 1].max())
    low, high = fig.layout.xaxis.range or (min(np.min(t.x) for t in fig.data), max(np.max(t.x) for t in fig.data))
    width, height = plot_size(fig)
    names = [str(trace.name) for trace in traces]
    along, up = (peaks[:, 0] - low) / (high - low) * width, peaks[:, 1] / top * height
    drawn = [box for x, y in lines for box in boxes_along((x - low) / (high - low) * width, y / top * height)]
    sides, _ = place_names(along, up, names, size, (width, height), sides=_SIDES_OF_PEAKS, obstacles=drawn)
    if not all(sides):  # beside the last place at which a line is half as high as its peak
        lines_and_sides = zip(lines, peaks.copy(), sides, strict=True)
        peaks = np.array([peak if side else _last_half(*line) for line, peak, side in lines_and_sides])
        along, up = (peaks[:, 0] - low) / (high - low) * width, peaks[:, 1] / top * height
        sides, _ = place_names(along, up, names, size, (width, height), sides=_SIDES_OF_PEAKS, obstacles=drawn)
    if not all(sides):
        return fig
    for trace, (peak_x, peak_y), side in zip(traces, peaks.tolist(), sides, strict=True):
        font = {"color": trace.line.color, "size": size}
        fig.add_annotation(x=peak_x, y=peak_y, text=trace.name, showarrow=False, **ANCHORS[side], font=font)
    return fig.update_layout(showlegend=False).update_yaxes(range=[0, top])


def _last_half(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the last point of a line that is at least half as high as its peak."""
    at = int(np.flatnonzero(2 * y >= y.max())[-1])
    return float(x[at]), float(y[at])


def _corners(trace: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a line, which are more than its points if it is drawn in steps."""
    x, y = np.asarray(trace.x, float), np.asarray(trace.y, float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    return (np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]) if trace.line.shape == "hv" else (x, y)


def _with_arrays(part: Any) -> Any:
    """Return a copy of a part of a figure with arrays in place of their bytes, as a figure has them that was read from
    JSON."""
    if not isinstance(part, dict):
        return part
    if "bdata" not in part:
        return {key: _with_arrays(value) for key, value in part.items()}
    values = np.frombuffer(base64.b64decode(part["bdata"]), part["dtype"])
    return values.reshape([int(n) for n in part["shape"].split(",")]) if "shape" in part else values


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
