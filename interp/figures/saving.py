"""Save figures as files, for print at the width of a journal's column or page, or interactive, each with its sources.

In: a plotly Figure. Out: a file in the format of its ending: .svg, .pdf, .png, .jpeg or .webp are drawn by Chrome or
Chromium through kaleido, .html and .json need none. Facts about it are next to it, in `NAME.ENDING.json`.

A PDF holds its fonts, and so does an SVG, which then looks the same where none of them is installed: a WOFF for each
font, cut down to the letters shown, in an `@font-face` of the name that the SVG gives the font. The letters stay text,
which can be selected and read aloud. fontconfig, which Chrome asks too, says which fonts a name stands for on this
machine. A font is not embedded where its licence bits forbid embedding or subsetting (`fsType`, OpenType specification,
OS/2 table), and none is where the machine has no fontconfig, as on macOS and Windows.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import plotly.graph_objects as go

from interp.figures.print_layout import for_print, in_pixels
from interp.runtime.packages import versions_of
from interp.storage.files import digest, read_json, write_json, write_text
from interp.storage.folders import check_output_file

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

IMAGES = (".svg", ".pdf", ".png", ".jpeg", ".webp")
PIXEL_RATIO = 300 / 96
"""Pixels of an image for one of the figure: 300 dots an inch."""
FONT_FILES = (".ttf", ".otf", ".ttc")
FORBIDDEN = 0x0002 | 0x0100 | 0x0200
"""Bits of fsType that forbid to embed a part of a font: restricted licence, no subsetting, bitmaps only."""
BOLD = 600
_WHOLE_PAGE = "<style>@page { margin: 0 } #kaleido-image { display: block }</style>"
"""Kaleido asks for margins of a tenth of an inch, in which a PDF's page is shrunk and its lower end is lost."""
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
    """Write `fig` to `path`, whole or not at all. width: of an image, "column" (84.5 mm), "icml" (82.6), "page" (139.7)
    or in millimetres. title: keep it in an image, where a caption says it otherwise. made_from: a run, whose seeds,
    tokens and configuration are written next to the figure, or a mapping of such facts. overwrite: also in the place of
    a file that is not a figure of ours; one with its facts beside it is drawn again without.

    Raises ValueError for an ending or a width that there is not, and for a file that would be lost; RuntimeError for an
    image without a browser, or without the packages of `pip install 'interp[images]'`.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.json")
    for file in (path, beside):
        check_output_file(file, overwrite=overwrite or _is_ours(beside))
    if path.suffix in IMAGES:
        write_images({path: for_print(fig, width, title=title)})
    elif path.suffix in (".html", ".json"):
        write_text(path, fig.to_html() if path.suffix == ".html" else str(fig.to_json()))
    else:
        raise ValueError(f"{path} must end in one of {', '.join((*IMAGES, '.html', '.json'))}")
    write_json(beside, provenance(fig, path, width, made_from))
    return path


def _is_ours(beside: Path) -> bool:
    """Return whether a file holds the facts of a figure."""
    with suppress(OSError, ValueError):
        return "figure_sha256" in read_json(beside, "")
    return False


def provenance(fig: go.Figure, path: Path, width: str | float, made_from: Any) -> dict[str, Any]:
    """Gather the facts about a figure: title, width, the data in it, the command, the versions, its sources."""
    return {
        "title": fig.layout.title.text,
        "width_mm": round(in_pixels(width) * 25.4 / 96, 1) if path.suffix in IMAGES else None,
        "figure_sha256": digest(str(fig.to_json()).encode()),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": versions_of("interp", "plotly", "kaleido"),
        "made_from": made_from.provenance() if hasattr(made_from, "provenance") else dict(made_from or {}),
    }


def write_images(figures: Mapping[Path, go.Figure]) -> None:
    """Draw each figure to its path, all with one browser. Raises RuntimeError if there is none, or if the packages of
    the extra `images` are not installed."""
    try:
        import fontTools  # noqa: F401  (`with_fonts`)
        import kaleido
        from kaleido.errors import ChromeNotFoundError
    except ImportError as error:
        raise RuntimeError(
            f"images need packages that are missing ({error}): pip install 'interp[images]', or save .html or .json"
        ) from error

    page = kaleido.PageGenerator()
    page.footer = _WHOLE_PAGE + page.footer
    with ExitStack() as folders:
        drawn = {}
        specs = []
        for path, fig in figures.items():
            folder = folders.enter_context(TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent))
            drawn[path] = Path(folder) / path.name
            options = {"format": path.suffix[1:], "scale": 1 if path.suffix in (".svg", ".pdf") else PIXEL_RATIO}
            specs.append({"fig": fig.to_dict(), "path": str(drawn[path]), "opts": options})
        try:
            kaleido.write_fig_from_object_sync(specs, cancel_on_error=True, kopts={"page_generator": page})
        except ChromeNotFoundError as error:
            raise RuntimeError("images are drawn by Chrome or Chromium: install one, or save .html or .json") from error
        for path, written in drawn.items():
            if path.suffix == ".svg":
                written.write_text(with_fonts(written.read_text(encoding="utf-8")), encoding="utf-8")
            if path.suffix == ".pdf":
                warn_of_type_3(path, written.read_bytes())
            os.replace(written, path)


def warn_of_type_3(path: Path, pdf: bytes) -> None:
    """Log a warning where letters of a PDF are Type 3: Chrome writes so what it has from fonts of PostScript outlines
    (CFF, as Noto CJK), from variable fonts and from pictures, and publishers refuse it. TrueType fonts stay fonts."""
    if b"/Subtype /Type3" in pdf:
        log.warning(
            "%s holds letters as Type 3, which publishers refuse: install a TrueType font that has them, such as "
            "WenQuanYi Zen Hei for Chinese, Japanese and Korean",
            path,
        )


class Face(NamedTuple):
    """A font as CSS asks for it."""

    families: str = ""
    bold: bool = False
    italic: bool = False


def with_fonts(svg: str) -> str:
    """Return the SVG with its fonts in it, or as it was where they are left names; a warning says so if all are."""
    if shutil.which("fc-match") is None or find_spec("fontTools") is None:
        log.warning("the fonts of an SVG stay names: embedding them needs fontconfig (fc-match) and fonttools")
        return svg
    letters: dict[Face, set[int]] = defaultdict(set)
    _collect(ElementTree.fromstring(svg), Face(), letters)
    rules = "".join(rule for face, shown in letters.items() if face.families for rule in _rules(face, shown))
    return re.sub(r"<svg\b[^>]*>", lambda opening: f"{opening[0]}<style>{rules}</style>", svg, count=1)


def _collect(element: ElementTree.Element, inherited: Face, letters: dict[Face, set[int]]) -> None:
    """Collect the letters below an element by the font that they are in."""
    css = dict(re.findall(r"font-(family|weight|style):\s*([^;]+)", element.get("style", "")))
    weight = css.get("weight", "")
    face = Face(
        css.get("family", inherited.families),
        weight == "bold" or weight.isdecimal() and int(weight) >= BOLD if weight else inherited.bold,
        css["style"] in ("italic", "oblique") if "style" in css else inherited.italic,
    )
    letters[face].update(map(ord, element.text or ""))
    for child in element:
        _collect(child, face, letters)
        letters[face].update(map(ord, child.tail or ""))


def _rules(face: Face, letters: set[int]) -> Iterator[str]:
    """Yield an `@font-face` for each font file that letters come from: the first of the ranked fonts that has them."""
    from fontTools.ttLib import TTFont

    names = [name.strip(" '\"") for name in face.families.split(",")]
    left = set(letters)
    for file, index in ranked_fonts(names, face):
        if not left:
            return
        with TTFont(file, fontNumber=index, lazy=True, recalcTimestamp=False) as font:
            covered = left & font.getBestCmap().keys()
            left -= covered
            if not covered or getattr(font["OS/2"], "fsType", 0) & FORBIDDEN:
                continue
            data = base64.b64encode(_subset_font(font, covered)).decode()
        family = re.sub(r"[^\w .-]", "", names[0])
        style = f"font-weight:{'bold' if face.bold else 'normal'};font-style:{'italic' if face.italic else 'normal'}"
        shown = ",".join(f"U+{letter:X}" for letter in sorted(covered))
        source = f"url(data:font/woff;base64,{data})format('woff')"
        yield f"@font-face{{font-family:'{family}';{style};unicode-range:{shown};src:{source}}}"


def ranked_fonts(names: list[str], face: Face) -> Iterator[tuple[Path, int]]:
    """Yield font files, each with the number of the font in it, the best for the names first."""
    pattern = ",".join(re.sub(r"([\\:,-])", r"\\\1", name) for name in names)
    for line in _matches(pattern + ":bold" * face.bold + ":italic" * face.italic).splitlines():
        file, index = line.split("\t")
        if Path(file).suffix.lower() in FONT_FILES:
            yield Path(file), int(index) & 0xFFFF  # the bits above name a variable font's instance


@cache
def _matches(pattern: str) -> str:
    command = ["fc-match", "--sort", "--format", "%{file}\t%{index}\n", pattern]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _subset_font(font: TTFont, letters: set[int]) -> bytes:
    from fontTools import subset

    options = subset.Options(flavor="woff", hinting=False, notdef_outline=True)
    options.drop_tables += ["FFTM", "BDF "]  # when a font was made, and its bitmaps: fontTools warns of each
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=letters)
    cutter.subset(font)
    written = io.BytesIO()
    subset.save_font(font, written, options)
    return written.getvalue()
