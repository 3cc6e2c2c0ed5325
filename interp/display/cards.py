"""Build the display of an object in a notebook: one self-contained HTML fragment.

It contains no script and sets no text or background colour, so it is readable on light and dark pages. Every text is
escaped unless it is `Markup`.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from interp.display.byte_parts import split_byte_parts
from interp.display.segments import Segment, Segments, Token, TokenList, map_tokens, name_of_token, short_list, to_text
from interp.display.verdict_looks import verdict_colour, verdict_words
from interp.display.verdict_names import MONOSEMANTIC

ACCENT = verdict_colour(MONOSEMANTIC)
LINE_MARKS = {ord("\n"): "↵", ord("\t"): "⇥"}
BORDER = "1px solid rgba(128,128,128,.35)"
_PART_STYLE = (
    "border:1px dashed rgba(128,128,128,.8);border-radius:3px;padding:0 .3em;margin:0 .1em;font:.85em sans-serif"
)
_WHOLE = 'style="max-width:none"'
"""Of a picture in a cell, which JupyterLab would let a narrow cell cut."""
_CELL_STYLE = f"text-align:left;vertical-align:top;padding:2px 14px 2px 0;border:0;border-top:{BORDER};background:none"


class Markup(str):
    """HTML that may be shown as it is."""


def markup(text: object) -> str:
    """Escape a text, so that HTML shows it verbatim; return `Markup` unchanged."""
    return text if isinstance(text, Markup) else escape(str(text))


def script_json(value: Any) -> str:
    """Encode JSON for use inside a script, inline or not. Nothing in it can close the script or end a line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def card(title: object, *parts: object) -> str:
    """Stack a title and parts vertically."""
    lines = "".join(f'<div style="margin:3px 0">{markup(part)}</div>' for part in parts)
    look = f"max-width:64em;border-left:3px solid {ACCENT};padding:2px 0 2px 10px;line-height:1.45"
    return f'<div style="{look}"><div style="font-weight:600">{markup(title)}</div>{lines}</div>'


def show_facts(values: Mapping[str, Any]) -> Markup:
    """Show names with their values, side by side while there is room. Values that are None or empty are left
    out."""
    look = '<span style="display:inline-block;margin-right:18px"><span style="opacity:.7">'
    shown = (f"{look}{markup(name)}</span> {markup(v)}</span>" for name, v in values.items() if v not in (None, ""))
    return Markup("".join(shown))


def show_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """Show a table with left-aligned cells, which suits words in a notebook."""
    top = "".join(f'<th style="{_CELL_STYLE};border-top:0;font-weight:600">{markup(cell)}</th>' for cell in head)
    lines = ("".join(f'<td style="{_CELL_STYLE}">{markup(cell)}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr style='background:none'>{line}</tr>" for line in lines)
    style = "border-collapse:collapse;border:0;margin:2px 0;color:inherit;font:inherit;background:none"
    style += ";table-layout:auto"  # that of JupyterLab is fixed, so that a wide cell would lie over the next
    return Markup(f'<table style="{style}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>')


def verdict_badge(verdict: str, sure: bool = True) -> Markup:
    """Show a verdict's name after a dot of its colour, or after a ring if the verdict is not sure."""
    hue = verdict_colour(verdict)
    fill = hue if sure else "transparent"
    dot = f"display:inline-block;width:8px;height:8px;border:2px solid {hue};background:{fill};border-radius:50%"
    words = escape(verdict_words(verdict) + ("" if sure else " (unsure)"))
    return Markup(f'<span style="white-space:nowrap"><span style="{dot};margin-right:6px"></span>{words}</span>')


def null_mark(value: float, low: float, high: float) -> Markup:
    """Draw a value as a point over the interval of its null, on a line just long enough for both. Draws nothing if one
    of them is NaN."""
    if any(map(math.isnan, (value, low, high))):
        return Markup("")
    least = min(value, low)
    span = (max(value, high) - least) or 1.0
    at, start, end = (4 + 112 * (x - least) / span for x in (value, low, high))
    grey = 'stroke="currentColor" stroke-opacity'
    caption = f"{value:.3g}, null {low:.3g} to {high:.3g}"
    return Markup(
        f'<svg {_WHOLE} width="120" height="12" viewBox="0 0 120 12" role="img" aria-label="{caption}">'
        f"<title>{caption}</title>"
        f'<path d="M4 6H116" {grey}=".25"/>'
        f'<path d="M{start:.1f} 6H{max(end, start + 2):.1f}" {grey}=".35" stroke-width="7"/>'
        f'<path d="M{at:.1f} 0V12" stroke="{ACCENT}" stroke-width="3"/></svg>'
    )


def mark_line_ends(text: str) -> str:
    """Return a text on one line, with marks for line ends and tabs."""
    return text.translate(LINE_MARKS)


def show_text(text: str) -> Markup:
    """Show a text on one line, with marks for line ends and tabs and with stray bytes as the parts of characters that
    they are."""
    part = '<bdi dir="ltr" title="{}" style="{};white-space:nowrap">{}</bdi>'
    return Markup(
        "".join(
            escape(piece) if its_bytes is None else part.format(its_bytes, _PART_STYLE, escape(piece))
            for piece, its_bytes in split_byte_parts(mark_line_ends(text))
        )
    )


def show_token(token: str) -> Markup:
    """Show a token on its own, as `show_text` does, with marks for its spaces too, which HTML would drop."""
    return show_text(_mark_spaces(token))


def show_rule(rule: Segments) -> Markup:
    """Show a rule. What stands in its quotes keeps its writing direction to itself, and its white space is
    marked, since HTML folds it into one space; several spaces are one mark with their number. Lists are in short."""

    def show(one: Segment) -> str:
        if isinstance(one, Token):
            return name_of_token(one.text) or f'"<bdi>{show_token(one.text)}</bdi>"'
        return "".join(map(show, short_list(one))) if isinstance(one, TokenList) else escape(str(one))

    return Markup("".join(map(show, rule)))


def marked_rule(rule: Segments) -> str:
    """Return a rule as text, with marks for the white space of its tokens. Lists are in short."""

    def marked(token: Token) -> Token:
        return token if name_of_token(token.text) else Token(mark_line_ends(_mark_spaces(token.text)))

    return to_text(map_tokens(rule, marked))


def _mark_spaces(token: str) -> str:
    """Return a token with marks for its white space."""
    many = re.sub(" {3,}", lambda spaces: f"␣×{len(spaces[0])}", token)
    return many.replace(" ", "␣").replace("\t", "⇥")


def shade_text(text: str, strength: float, title: str = "") -> Markup:
    """Show a piece of text, as `show_text` does, on an orange background. The strength of the colour is in [0, 1]."""
    style = f' style="background:rgba(255,140,0,{0.8 * min(strength, 1):.2f})"' if strength > 0 else ""
    attribute = f' title="{escape(title)}"' if title else ""
    return Markup(f"<span{style}{attribute}>{show_text(text)}</span>")


def interval_mark(at: float, low: float, high: float) -> Markup:
    """Draw a probability as a point with its interval, on a line from 0 to 1. Draws nothing for NaN."""
    if math.isnan(at):
        return Markup("")
    low, high = (at if math.isnan(end) else end for end in (low, high))
    line = (
        f'<svg {_WHOLE} width="84" height="12" viewBox="0 0 84 12" role="img" aria-label="{low:.2f} to {high:.2f}">'
        '<path d="M2 6H82" stroke="currentColor" stroke-opacity=".25"/>'
        f'<path d="M{2 + 80 * low:.1f} 6H{2 + 80 * high:.1f}" stroke="{ACCENT}" stroke-width="3"/>'
        f'<circle cx="{2 + 80 * at:.1f}" cy="6" r="3.5" fill="currentColor"/></svg>'
    )
    return Markup(f'<span style="white-space:nowrap">{line} {at:.2f}</span>')
