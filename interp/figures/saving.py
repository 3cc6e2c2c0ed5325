"""Figures as files: for print at the width of a journal's column or page, or interactive.

In: a plotly Figure. Out: a file whose ending says how: .svg, .pdf, .png, .jpeg or .webp are drawn by Chrome or Chromium
through kaleido, .html and .json need none. In print no letter is smaller than 7 points, and a slider is left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from interp.figures.theme import HEIGHT, WIDTH, without_slider
from interp.files import write_text

WIDTHS = {"column": 84.5, "page": 139.7}
"""Millimetres: a column of two (ACM), the text of one (NeurIPS)."""
MIN_FONT = 7 * 96 / 72
"""7 points in the pixels that print counts, 96 an inch."""
IMAGES = (".svg", ".pdf", ".png", ".jpeg", ".webp")
PIXEL_RATIO = 300 / 96
"""Of pixel formats: 300 dots an inch."""


def save(fig: go.Figure, path: str | Path, *, width: str | float = "column") -> Path:
    """Write `fig` to `path`, whole or not at all. width: of an image, in millimetres or by a name of WIDTHS.

    Raises ValueError for an ending or a width that there is not, RuntimeError for an image without a browser.
    """
    path = Path(path)
    if path.suffix in IMAGES:
        write_images({path: for_print(fig, width)})
    elif path.suffix in (".html", ".json"):
        write_text(path, fig.to_html() if path.suffix == ".html" else str(fig.to_json()))
    else:
        raise ValueError(f"{path} must end in one of {', '.join((*IMAGES, '.html', '.json'))}")
    return path


def for_print(fig: go.Figure, width: str | float = "column") -> go.Figure:
    """A copy of `fig` as wide as it will be printed. Its letters shrink with it, but not below 7 points, and so its
    height shrinks less than its width. What has many words or panels wants a page's width."""
    if isinstance(width, str) and width not in WIDTHS:
        raise ValueError(f"width={width!r} must be one of {', '.join(WIDTHS)}, or millimetres")
    pixels = (WIDTHS[width] if isinstance(width, str) else width) / 25.4 * 96
    if not pixels > 0:
        raise ValueError(f"width={width} must be above 0 mm")
    ratio = min(1.0, pixels / (fig.layout.width or WIDTH))
    drawn = go.Figure(_with_fonts(without_slider(fig).to_dict(), ratio))
    drawn.update_layout(width=pixels, height=(fig.layout.height or HEIGHT) * ratio**0.5, autosize=False)
    size = drawn.layout.font.size
    return drawn.update_xaxes(title_font_size=size).update_yaxes(title_font_size=size)


def write_images(figures: Mapping[Path, go.Figure]) -> None:
    """Draw each figure to its path, all with one browser. Raises RuntimeError where there is none."""
    import kaleido
    from kaleido.errors import ChromeNotFoundError

    temporary = {path: path.with_name(f"{path.stem}.tmp{path.suffix}") for path in figures}
    specs = []
    for path, fig in figures.items():
        options = {"format": path.suffix[1:], "scale": 1 if path.suffix in (".svg", ".pdf") else PIXEL_RATIO}
        specs.append({"fig": fig.to_dict(), "path": str(temporary[path]), "opts": options})
    try:
        kaleido.write_fig_from_object_sync(specs, cancel_on_error=True)
    except ChromeNotFoundError as error:
        raise RuntimeError("images are drawn by Chrome or Chromium: install one, or save .html or .json") from error
    for path, written in temporary.items():
        os.replace(written, path)


def _with_fonts(part: Any, ratio: float) -> Any:
    """The same with every font's size times `ratio`, at least MIN_FONT."""
    if isinstance(part, list | tuple):
        return [_with_fonts(each, ratio) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: {**value, "size": max(value["size"] * ratio, MIN_FONT)}
        if key.endswith("font") and isinstance(value, dict) and isinstance(value.get("size"), int | float)
        else _with_fonts(value, ratio)
        for key, value in part.items()
    }
