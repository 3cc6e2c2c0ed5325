"""Save figures as files, with their sources: for print at the width of a journal's column or page, or as interactive
pages.

In: a plotly Figure. Out: a file in the format of its ending. Chrome or Chromium draws .svg, .pdf, .png, .jpeg and .webp
through kaleido; .html and .json need no browser. Facts about the figure are next to it, in `NAME.ENDING.json`. A PDF
contains its fonts; an SVG names them.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import sys
import zlib
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import plotly.graph_objects as go

from interp.checks.errors import InterpError
from interp.figures.print_layout import to_pixels, with_print_layout
from interp.storage.addresses import as_local_path
from interp.storage.files import digest, read_json, write_json, write_text
from interp.storage.folders import check_output_file
from interp.storage.packages import versions_of

IMAGES = (".svg", ".pdf", ".png", ".jpeg", ".webp")
DPI = 300
"""Dots per inch of an image that is drawn in dots."""
_TEX = re.compile(r'\$[^$"]+\$')
"""A formula in the JSON of a figure. MathJax draws it, for which Chrome asks the network: without one, it waits
for half a minute."""
_WHOLE_PAGE = "<style>@page { margin: 0 } #kaleido-image { display: block }</style>"
"""The style of an image's page, without margins. Kaleido would set margins of a tenth of an inch, which shrink a PDF's
page and cut off its lower end."""
log = logging.getLogger(__name__)


def save(
    fig: go.Figure,
    path: str | Path,
    *,
    width: str | float = "column",
    title: bool = False,
    made_from: Any = None,
    overwrite: bool = False,
) -> Path:
    """Write `fig` to `path`, atomically, in a folder that is made if it does not exist.
    width: the width of an image: "column" (84.5 mm), "icml" (82.6 mm), "page" (139.7 mm), or a number of millimetres.
    title: keep the title in an image; by default the caption replaces it.
    made_from: a run, whose seeds, tokens and configuration are written next to the figure, or a mapping of such facts.
    overwrite: also replace a file that is not a figure of interp. A figure that has its provenance next to it is always
    replaced.

    Raises ValueError for an unknown ending or width, and for a file that would be lost. Raises RuntimeError for an
    image if there is no browser, or if the packages of `pip install 'interp[images]'` are missing.

    Example:

        save(density_histogram(features.table()), "density.pdf", width="column")
    """
    path = as_local_path(path)
    facts_file = path.with_name(f"{path.name}.json")
    for file in (path, facts_file):
        check_output_file(file, overwrite=overwrite or _is_ours(facts_file))
    if path.suffix not in (*IMAGES, ".html", ".json"):
        raise InterpError(f"{path} must end in one of {', '.join((*IMAGES, '.html', '.json'))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in IMAGES:
        write_images({path: with_print_layout(fig, width, title=title)})
    else:
        write_text(path, fig.to_html() if path.suffix == ".html" else str(fig.to_json()))
    write_json(facts_file, provenance(fig, path, width, made_from))
    return path


def _is_ours(facts_file: Path) -> bool:
    """Return whether a file has the facts of a figure."""
    with suppress(OSError, ValueError):
        return "figure_sha256" in read_json(facts_file, "")
    return False


def provenance(fig: go.Figure, path: Path, width: str | float, made_from: Any) -> dict[str, Any]:
    """Gather the facts about a figure: title, width, the data in it, the program that drew it, the versions, its
    sources. The program's arguments are left out: they may have a password, and figures are published."""
    return {
        "title": fig.layout.title.text,
        "width_mm": round(to_pixels(width) * 25.4 / 96, 1) if path.suffix in IMAGES else None,
        "figure_sha256": digest(str(fig.to_json()).encode()),
        "program": Path(sys.argv[0]).name,
        "versions": versions_of("interp", "plotly", "kaleido"),
        "made_from": made_from.provenance() if hasattr(made_from, "provenance") else dict(made_from or {}),
    }


def write_images(figures: Mapping[Path, go.Figure]) -> None:
    """Draw each figure to its path, all with one browser, and without figures with none. Raises RuntimeError if there
    is no browser, or if the packages of the extra `images` are not installed."""
    if not figures:
        return
    try:
        import kaleido
        from kaleido.errors import ChromeNotFoundError
    except ImportError as error:
        raise RuntimeError(
            f"images need packages that are missing ({error}): pip install 'interp[images]', or save .html or .json"
        ) from error

    has_tex = any(_TEX.search(str(fig.to_json())) for fig in figures.values())
    page = kaleido.PageGenerator(mathjax=has_tex)
    page.footer = _WHOLE_PAGE + page.footer
    with ExitStack() as folders:
        images = {}
        specs = []
        for path, fig in figures.items():
            folder = folders.enter_context(TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent))
            images[path] = Path(folder) / path.name
            options = {"format": path.suffix[1:], "scale": 1 if path.suffix in (".svg", ".pdf") else DPI / 96}
            specs.append({"fig": fig.to_dict(), "path": str(images[path]), "opts": options})
        try:
            kaleido.write_fig_from_object_sync(specs, cancel_on_error=True, kopts={"page_generator": page})
        except ChromeNotFoundError as error:
            raise RuntimeError("images are drawn by Chrome or Chromium: install one, or save .html or .json") from error
        for path, written in images.items():
            if path.suffix == ".png":
                written.write_bytes(with_resolution(written.read_bytes()))
            if path.suffix == ".pdf":
                warn_of_type_3(path, written.read_bytes())
            os.replace(written, path)


def with_resolution(png: bytes) -> bytes:
    """Return the PNG with its dots per metre (chunk pHYs), from which LaTeX and word processors take its size. Chrome
    writes none, and an image of 84.5 mm would be placed at three or four times that."""
    header_end = png.index(b"IHDR") + 4 + 13 + 4  # name, data, checksum: the header is the first chunk
    chunk = b"pHYs" + struct.pack(">IIB", *[round(DPI / 0.0254)] * 2, 1)
    return png[:header_end] + struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[header_end:]


def warn_of_type_3(path: Path, pdf: bytes) -> None:
    """Log a warning if letters of a PDF are in a Type 3 font, which publishers refuse. Chrome converts fonts with
    PostScript outlines (CFF, such as Noto CJK), variable fonts and picture fonts to Type 3, but keeps TrueType
    fonts."""
    if b"/Subtype /Type3" in pdf:
        log.warning(
            "%s holds letters as Type 3, which publishers refuse: install a TrueType font that has them, such as "
            "WenQuanYi Zen Hei for Chinese, Japanese and Korean",
            path,
        )
