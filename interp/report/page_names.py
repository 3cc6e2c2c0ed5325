"""Read the names of latents from a page that was written, as text, for displays that have no page beside them.

In: the folder of a page. Out: for each latent, what it fires on in a few words, as its own page says it (`captions`),
and the same in short, as its map says it (`short_names`).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from interp.display.segments import CharacterPart, Segment, Token, to_text
from interp.report.json_text import unpack


class LatentName(NamedTuple):
    whole: str
    short: str


def names_of_page(folder: str | Path) -> list[LatentName]:
    """Return the name of each latent of the page in a folder."""
    script = (Path(folder) / "data" / "table.js").read_text(encoding="utf-16")
    columns = json.loads(unpack(json.loads(script[script.index(",") + 1 : script.rindex(")")])))["columns"]
    return [LatentName(text, _text(short)) for text, short in zip(columns["text"], columns["short"], strict=True)]


def _text(short: list) -> str:
    """Return the JSON of a short name as text."""
    named = short[0]["sense"][1] + short[1:] if isinstance(short[0], dict) else short
    return to_text(list(map(_segment, named)))


def _segment(one: Any) -> Segment:
    if isinstance(one, str):
        return one
    text, *drawn_by = one
    pieces = drawn_by[0] if drawn_by and isinstance(drawn_by[0], list) else []  # else it is drawn by its name
    return Token(text, tuple(piece if isinstance(piece, str) else CharacterPart(*piece) for piece in pieces))
