"""Define the style of all figures: as wide as a page column (6.5 inches at 96 px), safe for colour-blind readers, in
print and on screens.

The hues are those of Okabe and Ito (2008). Quantities use Cividis, which looks the same with any colour vision.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from interp.checks.errors import InterpError
from interp.display.byte_parts import split_byte_parts
from interp.display.cards import LINE_MARKS
from interp.display.verdict_looks import VERDICT_LOOKS, verdict_words

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, SLIDER_HEIGHT = 624, 360, 64
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"
GREY, PALE, INK = "#8a8f98", "#dfe3e8", "#23272e"
SEQUENCE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)
COLOUR_SCALE = "Cividis"
DASHES = "4px,3px"
"""The dashes of a line for comparison. Those of plotly are as long as a panel of print is wide."""
LIGHT_TO_DARK = [[0, "#e3eef8"], [0.5, "#5b94c6"], [1, "#062750"]]
"""The colours of quantities: the larger, the darker. The least differs from white."""
CJK_FONTS = "WenQuanYi Zen Hei, Droid Sans Fallback"
"""TrueType fonts of Chinese, Japanese and Korean, which are requested first. In a PDF, fonts of the other kind, such as
Noto CJK, become Type 3, which publishers refuse. The second font has no Korean."""
UPLOAD_BUTTON = "sendChartToCloud"
"""plotly's button that sends the figure and its data to a server. It is removed everywhere, also in notebooks."""
VERDICT_COLOURS = {name: shown.colour for name, shown in VERDICT_LOOKS.items()}
BARE_TRACE: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False}
"""The look of a trace that is not data, such as a line for comparison, an edge or a ring."""

_PICTURES = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}
_VISIBLE = _PICTURES | LINE_MARKS | {ord(" "): "␣", ord("\r"): ""}


def with_style(
    fig: go.Figure, title: str, *, x: str = "", y: str = "", height: int = HEIGHT, caption: str = ""
) -> go.Figure:
    """Return `fig` with the common layout: a title, axis titles with units, thin grid lines, room for long tick labels.

    `title` is text. `x` and `y` may contain plotly's markup, such as <sub>: names in them need `escape_markup`.
    caption: what is drawn, in plain text, where that depends on the figure's arguments; by default the caption of a
    figure is the first paragraph of its function's docstring.
    """
    if caption:
        with_meta(fig, caption=caption)
    axis = {
        "showline": True,
        "linecolor": GREY,
        "gridcolor": "#e6e6e6",
        "zeroline": False,
        "separatethousands": True,
        "ticks": "outside",
        "automargin": True,
        "ticklabeloverflow": "allow",
        "title_standoff": 8,
    }
    position = {"x": 0, "xref": "paper", "xanchor": "left", "automargin": True, "yref": "container", "pad_t": 8}
    fig.update_layout(
        title={"text": escape_markup(title), "font_size": 15, **position},
        font={"family": f"Helvetica, Arial, {CJK_FONTS}, sans-serif", "size": 12, "color": INK},
        width=WIDTH,
        height=height,
        margin={"l": 64, "r": 16, "t": 56, "b": 56},
        paper_bgcolor="white",
        plot_bgcolor="white",
        colorway=SEQUENCE,
        # 5 pixels above the plot, whatever its height. More would reach the title.
        legend={"orientation": "h", "x": 0, "y": 1 + 5 / max(height - 112, 50), "xanchor": "left", "yanchor": "bottom"},
        hoverlabel={"namelength": -1},
        modebar_remove=[UPLOAD_BUTTON],
    )
    fig.update_traces(cliponaxis=False, selector={"type": "scatter", "mode": "markers"})  # whole at an axis' ends
    fig.update_xaxes(**axis, **({"title_text": x} if x else {}))
    return fig.update_yaxes(**axis, **({"title_text": y} if y else {}))


def with_meta(fig: go.Figure, **facts: Any) -> go.Figure:
    """Return `fig` with further facts in its `meta`."""
    fig.layout.meta = (fig.layout.meta or {}) | facts
    return fig


def with_panel_titles(fig: go.Figure) -> go.Figure:
    """Return `fig`, to which `with_style` was applied, with the titles of its panels in the size of axis titles, and
    its legend above them."""
    inside = max((fig.layout.height or HEIGHT) - 150, 50)
    return fig.update_annotations(font_size=12).update_layout(margin_t=86, legend_y=1 + 24 / inside)


def share_ticks(low: float, high: float) -> dict[str, list]:
    """Return ticks at the powers of ten from `low` to `high`, or just beyond, labelled in percent. These are shares
    above 0. If there are more than four ticks, the last one and every second one before it are labelled: in a column,
    more labels would overlap."""
    powers = range(math.ceil(math.log10(low) - 0.3), math.floor(math.log10(high) + 0.3) + 1)
    step = 1 if len(powers) <= 4 else 2
    labels = [
        f"{10.0 ** (power + 2):.{max(-power - 2, 0)}f}%" if (powers[-1] - power) % step == 0 else "" for power in powers
    ]
    return {"tickvals": [10.0**power for power in powers], "ticktext": labels}


def digit_ticks(low: float, high: float) -> list[float]:
    """Return ticks of a logarithmic axis from `low` to `high`, which are above 0: so many digits of each decade that
    there are several ticks and they do not overlap."""
    span = high / low
    near = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
    digits_up_to = {2.5: near, 4: range(1, 10), 20: (1, 2, 3, 5, 7), 100: (1, 2, 5), 3000: (1, 3), math.inf: (1,)}
    digits: Iterable[float] = next(digits for limit, digits in digits_up_to.items() if span <= limit)
    return [digit * 10.0**power for power in range(-9, 10) for digit in digits]


def colour_bar(title: str, **position: Any) -> dict[str, Any]:
    return {"title": {"text": title, "side": "right"}, "thickness": 10, "outlinewidth": 0, **position}


def interval_bars(at: Any, low: Any, high: Any, **line: Any) -> dict[str, Any]:
    """Return intervals in plotly's form: the distances of their ends from the points."""
    return {"type": "data", "symmetric": False, "array": high - at, "arrayminus": at - low, "width": 0, **line}


def with_colours(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame], *columns: str, alone: str = ""
) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Yield each table with its name and its colour. A single table has the name `alone`. Raises ValueError if a table
    lacks a column."""
    named = tables if isinstance(tables, Mapping) else {alone: tables}
    for (name, table), colour in zip(named.items(), SEQUENCE * len(named), strict=False):
        check_columns(table, *columns)
        yield escape_markup(name), table, colour


def without_slider(fig: go.Figure) -> go.Figure:
    """Return a copy of `fig` for paper, in its initial state, without the slider."""
    if not fig.layout.sliders:
        return fig
    fig = go.Figure(fig.data, fig.layout)
    fig.layout.sliders = []
    return fig.update_layout(margin_b=56, height=fig.layout.height - SLIDER_HEIGHT)


def visible_token(token: str) -> str:
    """Return a token with its white space made visible: ␣ for a space, ↵ for a line end, ⇥ for a tab, and a picture for
    each other control character, which an SVG could not hold; and with the names of parts of characters."""
    pieces = split_byte_parts(token)
    return "".join(piece.translate(_VISIBLE) if its_bytes is None else f"⟨{piece}⟩" for piece, its_bytes in pieces)


def verdict_name(verdict: str) -> str:
    return escape_markup(verdict_words(verdict))


def split_by_verdict(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each verdict, in the order of the palette."""
    verdicts = [*VERDICT_COLOURS, *sorted(set(table["verdict"].dropna()) - set(VERDICT_COLOURS))]
    return [(verdict, rows) for verdict in verdicts if len(rows := table[table["verdict"] == verdict])]


def shortened(text: str, max_letters: int) -> str:
    """Return a text of at most `max_letters` letters, of which the last is … where some are left out. It ends with a
    whole word, if the second half of it has room for the end of one."""
    if len(text) <= max_letters:
        return text
    end = text.rfind(" ", max_letters // 2, max_letters)
    return text[: max_letters - 1 if end < 0 else end].rstrip() + "…"


def plain_name(name: object) -> str:
    """Return a table's name as ordinary words."""
    return escape_markup(str(name).replace("_", " "))


def escape_markup(name: object) -> str:
    """Escape a name so that plotly shows it verbatim. plotly reads every text as markup, with links and entities, and
    as TeX between two $ if MathJax is loaded. Use it for titles, legends, ticks, hover texts, annotations and cells."""
    return html.escape(str(name), quote=False).replace("$", "&#36;")


def token_label(token: str) -> str:
    """Return a token as the text of a plotly label, with visible white space and without markup. U+2068 … U+2069
    isolate it from the writing direction of its neighbours."""
    return f"\u2068{escape_markup(visible_token(token))}\u2069"


def check_columns(table: pd.DataFrame | pd.Series | Mapping, *columns: str) -> None:
    """Raise ValueError if a table lacks a column that a figure draws."""
    if not hasattr(table, "keys"):
        kind = type(table).__name__
        raise InterpError(f"a {kind} is not a table: give a DataFrame, such as run.features.table() or run.ranking")
    missing = [column for column in columns if column not in table]
    if missing:
        raise InterpError(f"the table lacks the columns {missing}; it has {list(table.keys())}")
