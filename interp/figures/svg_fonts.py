"""Embed the fonts of an SVG, so that it looks the same on a machine without them.

In: an SVG as Chrome draws it. Out: the same SVG with an `@font-face` for each font name that it uses. It contains a
WOFF of the font, reduced to the letters shown. The letters stay text, which can be selected and read aloud. fontconfig,
which Chrome uses too, says for which fonts a name stands on this machine. A font is not embedded if its licence bits
forbid embedding or subsetting (`fsType`, OpenType specification, OS/2 table). Without fontconfig, as on macOS and
Windows, no font is embedded.
"""

from __future__ import annotations

import base64
import io
import logging
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

FONT_FILES = (".ttf", ".otf", ".ttc")
NO_EMBEDDING_BITS = 0x0002 | 0x0100 | 0x0200
"""Bits of fsType that forbid embedding a part of a font: restricted licence, no subsetting, bitmaps only."""
MIN_BOLD_WEIGHT = 600
log = logging.getLogger(__name__)


class Face(NamedTuple):
    """A font as CSS requests it."""

    families: str = ""
    bold: bool = False
    italic: bool = False


def with_fonts(svg: str) -> str:
    """Return the SVG with its fonts embedded. A font that cannot be embedded stays a name. Logs a warning if none could
    be embedded."""
    if shutil.which("fc-match") is None or find_spec("fontTools") is None:
        log.warning("the fonts of an SVG stay names: embedding them needs fontconfig (fc-match) and fonttools")
        return svg
    letters: dict[Face, set[int]] = defaultdict(set)
    _collect(ElementTree.fromstring(svg), Face(), letters)
    rules = "".join(rule for face, shown in letters.items() if face.families for rule in _rules(face, shown))
    return re.sub(r"<svg\b[^>]*>", lambda opening: f"{opening[0]}<style>{rules}</style>", svg, count=1)


def _collect(element: ElementTree.Element, inherited: Face, letters: dict[Face, set[int]]) -> None:
    """Collect the letters below an element by their font."""
    css = dict(re.findall(r"font-(family|weight|style):\s*([^;]+)", element.get("style", "")))
    weight = css.get("weight", "")
    face = Face(
        css.get("family", inherited.families),
        weight == "bold" or weight.isdecimal() and int(weight) >= MIN_BOLD_WEIGHT if weight else inherited.bold,
        css["style"] in ("italic", "oblique") if "style" in css else inherited.italic,
    )
    letters[face].update(map(ord, element.text or ""))
    for child in element:
        _collect(child, face, letters)
        letters[face].update(map(ord, child.tail or ""))


def _rules(face: Face, letters: set[int]) -> Iterator[str]:
    """Yield an `@font-face` for each font file from which letters come. A letter comes from the first of the ranked
    fonts that has it."""
    from fontTools.ttLib import TTFont

    names = [name.strip(" '\"") for name in face.families.split(",")]
    left = set(letters)
    for file, index in rank_fonts(names, face):
        if not left:
            return
        with TTFont(file, fontNumber=index, lazy=True, recalcTimestamp=False) as font:
            covered = left & font.getBestCmap().keys()
            left -= covered
            if not covered or getattr(font["OS/2"], "fsType", 0) & NO_EMBEDDING_BITS:
                continue
            data = base64.b64encode(_subset_font(font, covered)).decode()
        family = re.sub(r"[^\w .-]", "", names[0])
        style = f"font-weight:{'bold' if face.bold else 'normal'};font-style:{'italic' if face.italic else 'normal'}"
        shown = ",".join(f"U+{letter:X}" for letter in sorted(covered))
        source = f"url(data:font/woff;base64,{data})format('woff')"
        yield f"@font-face{{font-family:'{family}';{style};unicode-range:{shown};src:{source}}}"


def rank_fonts(names: list[str], face: Face) -> Iterator[tuple[Path, int]]:
    """Yield font files, each with the number of the font in it. The best font for the names comes first."""
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
    options.drop_tables += ["FFTM", "BDF "]  # fontTools warns of the date of a font, and of its bitmaps
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=letters)
    cutter.subset(font)
    written = io.BytesIO()
    subset.save_font(font, written, options)
    return written.getvalue()
