"""Figures as files: for print at the width of a journal's column or page, or interactive; each with what made it.

In: a plotly Figure. Out: a file whose ending says how: .svg, .pdf, .png, .jpeg or .webp are drawn by Chrome or Chromium
through kaleido (SVG and PDF hold their fonts), .html and .json need none; and beside it what is known of it, in
`NAME.ENDING.json`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from interp.figures.embedded_fonts import with_fonts
from interp.figures.print_layout import for_print, in_pixels
from interp.files import digest, write_json, write_text

IMAGES = (".svg", ".pdf", ".png", ".jpeg", ".webp")
PIXEL_RATIO = 300 / 96
"""Of pixel formats: 300 dots an inch."""


def save(
    fig: go.Figure, path: str | Path, *, width: str | float = "column", title: bool = False, made_from: Any = None
) -> Path:
    """Write `fig` to `path`, whole or not at all. width: of an image, "column" (84.5 mm), "icml" (82.6), "page" (139.7)
    or in millimetres. title: keep it in an image, where a caption says it otherwise. made_from: a run, whose seeds,
    tokens and configuration are written beside the figure, or a mapping of such facts.

    Raises ValueError for an ending or a width that there is not, RuntimeError for an image without a browser.
    """
    path = Path(path)
    if path.suffix in IMAGES:
        write_images({path: for_print(fig, width, title=title)})
    elif path.suffix in (".html", ".json"):
        write_text(path, fig.to_html() if path.suffix == ".html" else str(fig.to_json()))
    else:
        raise ValueError(f"{path} must end in one of {', '.join((*IMAGES, '.html', '.json'))}")
    write_json(path.with_name(f"{path.name}.json"), provenance(fig, path, width, made_from))
    return path


def provenance(fig: go.Figure, path: Path, width: str | float, made_from: Any) -> dict[str, Any]:
    """What is known of a figure: its title and width, the data in it, the command, the versions, and what it is of."""
    facts = made_from.provenance() if hasattr(made_from, "provenance") else dict(made_from or {})
    return {
        "title": fig.layout.title.text,
        "width_mm": round(in_pixels(width) * 25.4 / 96, 1) if path.suffix in IMAGES else None,
        "figure_sha256": digest(str(fig.to_json()).encode()),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": {name: version(name) for name in ("interp", "plotly", "kaleido")},
        "made_from": facts,
    }


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
        if path.suffix == ".svg":
            written.write_text(with_fonts(written.read_text(encoding="utf-8")), encoding="utf-8")
        os.replace(written, path)
