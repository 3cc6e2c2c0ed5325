"""Text with each token shaded by a feature's activation, as HTML that needs nothing else.

In: tokens of one window and the activation on each. Out: `HighlightedText`, which a notebook shows as it is.
Shade of token t = value_t / scale. Every token is escaped, and isolated so that right-to-left tokens keep their order.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from interp.figures.theme import visible


@dataclass(frozen=True)
class HighlightedText:
    """One HTML fragment; `str()` gives it, and notebooks draw it."""

    markup: str

    def __str__(self) -> str:
        return self.markup

    def _repr_html_(self) -> str:
        return self.markup


def highlighted_text(
    tokens: Sequence[str], values: Sequence[float], *, firing: int | None = None, scale: float | None = None
) -> HighlightedText:
    """`tokens` shaded by `values`; `firing` is the index of the token to outline, `scale` the value with the full shade
    (default: the largest here). Values show when the pointer rests on a token."""
    if len(tokens) != len(values):
        raise ValueError(f"{len(tokens)} tokens and {len(values)} values: give one value a token")
    scale = scale or max(max(values, default=0.0), 1e-12)
    parts = []
    for index, (token, value) in enumerate(zip(tokens, values, strict=True)):
        shade = min(max(value / scale, 0.0), 1.0)
        style = f"background:rgba(230,159,0,{0.1 + 0.75 * shade:.2f});" if value > 0 else ""
        if index == firing:
            style += "outline:1.5px solid #8a5a00;border-radius:2px;"
        title = f' title="{value:.3g}"' if value else ""
        parts.append(f'<bdi style="{style}"{title}>{html.escape(visible(token))}</bdi>')
    body = "<wbr>".join(parts)
    style = "font-family:ui-monospace,monospace;font-size:13px;line-height:1.7;direction:ltr;overflow-wrap:anywhere"
    return HighlightedText(f'<div style="{style}">{body}</div>')
