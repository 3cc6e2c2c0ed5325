"""Read the names of latents from a page that was written, as text, for displays that have no page beside them.

In: the folder of a page. Out: for each latent, what it fires on in a few words, as its own page says it (`captions`),
and the same in short: without the words that qualify it, and with … for further senses. A latent with half or more of
its activation of no sense has "no clear senses" for its short name, since no sense would tell what it fires on.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interp.report.json_text import format_percent, unpack

SHORT_LEAVES_OUT = ("muted", "small", "apart", "more_senses", "no_sense")
"""Parts of a caption that qualify a name."""
MOST_OF_NO_SENSE = 0.5
"""The share of the activation of no sense from which on the senses are no name."""


class LatentName(NamedTuple):
    whole: str
    short: str


def names_of_page(folder: str | Path) -> list[LatentName]:
    """Return the name of each latent of the page in a folder."""
    script = (Path(folder) / "data" / "table.js").read_text(encoding="utf-16")
    columns = json.loads(unpack(json.loads(script[script.index(",") + 1 : script.rindex(")")])))["columns"]
    names = []
    for latent, brief in enumerate(columns["brief"]):
        words = {name: columns[name][latent] for name in ("rule", "tokens")}
        whole = caption_text(brief or [{"rule": 0}], words)
        parts = [part for part in brief or () if isinstance(part, dict)]  # not a text or a token that is named so
        of_no_sense = max((part["no_sense"] for part in parts if "no_sense" in part), default=0.0)
        short = "no clear senses"
        if of_no_sense < MOST_OF_NO_SENSE:
            short = caption_text(brief or [{"rule": 0}], words, SHORT_LEAVES_OUT)
        names.append(LatentName(whole, short.strip(", :") or whole))
    return names


def caption_text(segments: list, words: Mapping[str, Any], without: tuple[str, ...] = ()) -> str:
    """Write the JSON of segments (`display.segments`) as text.
    words: the rule of their latent, and its commonest tokens. without: kinds of parts that are left out."""

    def text_of(one: Any) -> str:
        if isinstance(one, str):
            return one
        if isinstance(one, list):
            return _token(one)
        kind, content = next(iter(one.items()))
        if kind in without:
            return " …" if kind == "more_senses" else ""
        if kind == "groups":
            return " or ".join(_group(*group) for group in content)
        if kind == "rule":
            return caption_text(content or words["rule"], words, without)
        if kind == "senses":
            return "; ".join(caption_text(rule, words, without) or "no rule" for rule, *_ in content)
        return {
            "label": lambda: content[0],
            "f1": lambda: "",
            "more_senses": lambda: f" and {len(content)} more",
            "no_sense": lambda: f", of no sense {format_percent(content)}",
        }.get(kind, lambda: caption_text(content, words, without))()

    return "".join(map(text_of, segments))


def _group(name: str, tokens: list, n_shown: int) -> str:
    listed = ", ".join(map(_token, tokens[:n_shown]))
    more = f" +{len(tokens) - n_shown}" if 0 < n_shown < len(tokens) else ""
    return f"{name} {listed}{more}".strip()


def _token(token: list) -> str:
    """Write a token by its name, or in quotes, with the parts of characters in it in words."""
    text, drawn_by = (*token, None)[:2]
    if isinstance(drawn_by, str):  # its name
        return drawn_by
    if drawn_by is None:
        return f'"{text}"'.replace("\n", "\\n").replace("\t", "\\t")
    whole = "".join(piece for piece in drawn_by if isinstance(piece, str))
    parts = " and ".join(piece[1] for piece in drawn_by if not isinstance(piece, str))
    return f'"{whole}" with {parts}' if whole else parts
