"""Draw all latents of a dictionary: firing densities, scores by verdict, score against density, and the quality of
their rules.

In: a FeatureStore's table `features`, and a ranking (one row per latent). Out: a plotly Figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from interp.display.verdict_names import WITHOUT_SCORES
from interp.figures.figure import figure
from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    GREY,
    INK,
    VERDICT_COLOURS,
    check_columns,
    decade_ticks,
    dot_style,
    escape_markup,
    split_by_verdict,
    verdict_name,
    with_colours,
    with_minus_sign,
    with_style,
)
from interp.statistics.cutoffs import ULTRA_LOW

if TYPE_CHECKING:
    import pandas as pd

BIN_WIDTH = 0.2
"""Width of a bin of the log10 density."""
MAX_NAMED = 3
"""Largest number of dictionaries whose number of ultra-low latents is shown."""
FEWEST_OF_A_VIOLIN = 5
"""The least number of latents for a violin, since a box has five numbers: its median, quartiles and ends. Fewer latents
are drawn one by one."""
AXIS_TITLES = {
    "monosemanticity": "monosemanticity (probability)",
    "concentration": "concentration",
    "evenness": "evenness of similarity",
    "token_entropy": "entropy of the firing token (nats)",
    "explanation_f1": "F1 (held out)",
    "density": "density (share of tokens)",
    "max": "largest activation",
    "mean": "mean activation where it fires",
}


@figure
def density_histogram(features: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw a histogram of log10 of the share of tokens on which each latent fires. Dead latents are a separate bar on
    the left, which is truncated if it is more than 1.5 × the highest bin. A bracket spans the range below ULTRA_LOW. A
    mapping (name → table) overlays dictionaries or checkpoints as lines."""
    named = [
        (*entry, np.nan_to_num(entry[1]["density"].to_numpy(float))) for entry in with_colours(features, "density")
    ]
    densities = {name: d for name, _, _, d in named}
    colours = [colour for _, _, colour, _ in named]
    logs = {name: np.log10(d[d > 0]) for name, d in densities.items()}
    lowest = min((values.min() for values in logs.values() if len(values)), default=-1.0)
    first = np.floor(min(lowest, np.log10(ULTRA_LOW)) / BIN_WIDTH)
    edges = BIN_WIDTH * np.arange(first, 1)  # sums of BIN_WIDTH would end beside 0, the log of density 1
    spike = edges[0] - 4 * BIN_WIDTH

    fig = go.Figure()
    binned = {name: np.histogram(values, edges)[0] for name, values in logs.items()}
    dead = {name: int((d == 0).sum()) for name, d in densities.items()}
    highest = max((int(counts.max()) for counts in binned.values()), default=0)
    is_cut = max(dead.values(), default=0) > 1.5 * highest > 0
    heights = {name: min(n, 0.6 * highest) if is_cut else n for name, n in dead.items()}
    for (name, counts), colour in zip(binned.items(), colours, strict=True):
        if len(named) == 1:
            look = {"width": BIN_WIDTH * 0.92, "showlegend": False}
            fig.add_bar(x=(edges[:-1] + edges[1:]) / 2, y=counts, marker_color=BLUE, **look)
            fig.add_bar(x=[spike], y=[heights[name]], marker_color=GREY, **look)
        else:
            fig.add_scatter(x=edges[:-1], y=counts, mode="lines", line={"shape": "hv", "color": colour}, name=name)
            fig.add_scatter(x=[spike], y=[heights[name]], mode="markers", marker_color=colour, showlegend=False)
    numbers = [f"{n:,} ({100 * n / max(len(densities[name]), 1):.1f} %)" for name, n in dead.items()]
    if len(named) > 1:
        inks = [f'<span style="color:{hue}">{n:,}</span>' for n, hue in zip(dead.values(), colours, strict=True)]
        numbers = inks if is_cut and len(named) <= MAX_NAMED else []
    text = "dead, cut off" if is_cut else "dead"
    text = f"{text}: {numbers[0]}" if len(named) == 1 else "<br>".join([text, *numbers])
    position = {
        "x": spike - BIN_WIDTH / 2,
        "xanchor": "left",
        "align": "left",
        "y": max(heights.values(), default=0),
        "yanchor": "bottom",
        "yshift": 3 + 3 * (len(named) > 1),
    }
    fig.add_annotation(text=text, showarrow=False, font_size=11, **position)
    return _mark_ultra_low(fig, densities, colours, edges[0], spike)


def _mark_ultra_low(
    fig: go.Figure, densities: Mapping[str, np.ndarray], colours: list[str], left: float, spike: float
) -> go.Figure:
    counts = [f"{((d > 0) & (d < ULTRA_LOW)).sum():,}" for d in densities.values()]
    if len(counts) > 1:
        counts = [f'<span style="color:{hue}">{n}</span>' for n, hue in zip(counts, colours, strict=True)]
    text = "ultra-low: " + ", ".join(counts) if len(counts) <= MAX_NAMED else "ultra-low"
    threshold = float(np.log10(ULTRA_LOW))
    line = {"type": "line", "yref": "y domain", "line": {"color": GREY, "width": 1.2}}
    top = 0.9  # above the bars, of which the range has few
    fig.add_shape(x0=left, x1=threshold, y0=top, y1=top, **line)
    for end in (left, threshold):
        fig.add_shape(x0=end, x1=end, y0=top, y1=top - 0.03, **line)
    position = {"x": (left + threshold) / 2, "y": top + 0.01, "yref": "y domain", "yanchor": "bottom"}
    fig.add_annotation(text=text, showarrow=False, font_size=11, **position)
    ticks = list(range(int(np.ceil(left)), 1))
    with_style(fig, "Firing density of the latents", x="density (log₁₀ of the share of tokens)", y="latents")
    fig.update_xaxes(tickangle=0, tickvals=[spike, *ticks], ticktext=["none", *map(with_minus_sign, ticks)])
    if len(densities) > 1:
        fig.update_layout(meta={"direct_labels": True}).update_yaxes(rangemode="tozero")
    return fig


@figure
def score_distributions(ranking: pd.DataFrame, *, score: str = "explanation_f1") -> go.Figure:
    """Draw the distribution of a score within each verdict, with the number of latents. It is a violin with its box, or
    points if there are few latents. Latents that were not tested have no score, whatever the table contains."""
    check_columns(ranking, "verdict", score)
    fig = go.Figure()
    for verdict, rows in split_by_verdict(_tested_rows(ranking, score)):
        name = f"{verdict_name(verdict)}<br>{len(rows):,}"
        colour = VERDICT_COLOURS.get(verdict, GREY)
        if len(rows) < FEWEST_OF_A_VIOLIN:
            fig.add_scatter(x=[name] * len(rows), y=rows[score], mode="markers", marker_color=colour, showlegend=False)
            continue
        look = {"box_visible": True, "points": False, "spanmode": "hard", "showlegend": False}
        fig.add_violin(y=rows[score], name=name, line_color=colour, **look)
    return with_style(fig, f"{_title(score)} by verdict", x="verdict (number of latents)", y=_unit(score))


@figure
def scores_beside_nulls(verdicts: pd.DataFrame, *, score: str = "monosemanticity") -> go.Figure:
    """Draw the distribution of a score in the dictionary and in each null. Each has a row, and the dictionary is on
    top.
    verdicts: the table `verdicts` of a run's nulls, with one row per dictionary and latent. Only tested latents are
    drawn."""
    check_columns(verdicts, "dictionary", "verdict", score)
    fig = go.Figure()
    for name, rows in _tested_rows(verdicts, score).groupby("dictionary", sort=False):
        # reversed, since the axis runs down
        look = {
            "orientation": "h",
            "side": "negative",
            "width": 1.5,
            "points": False,
            "spanmode": "hard",
            "showlegend": False,
        }
        named = f"{escape_markup(name)} ({len(rows):,})"
        fig.add_violin(x=rows[score], name=named, line_color=GREY if len(fig.data) else BLUE, **look)
    title = f"{_title(score)} and its nulls"
    height = 130 + 34 * len(fig.data)
    with_style(fig, title, x=_unit(score), y="dictionary (latents)", height=height)
    return fig.update_yaxes(range=[len(fig.data) - 0.6, -1.0], showgrid=False, ticks="")


@figure
def score_against_density(ranking: pd.DataFrame, *, score: str = "concentration") -> go.Figure:
    """Draw a score against firing density, coloured by verdict: a score that only follows density is uninformative."""
    check_columns(ranking, "latent", "verdict", "density", score)
    rows = ranking[ranking["density"] > 0].dropna(subset=[score])
    fig = _dots_by_verdict(rows, "density", score, "density %{x:.2g}<br>" + escape_markup(score) + " %{y:.3f}")
    with_style(fig, f"{_title(score)} against density", x="density (log₁₀ of the share of tokens)", y=_unit(score))
    shown = rows["density"] if len(rows) else [0.1, 1.0]
    return fig.update_xaxes(type="log", **decade_ticks(min(shown), max(shown)))


@figure
def precision_recall(ranking: pd.DataFrame) -> go.Figure:
    """Draw precision against recall of the rule in words of each latent that was tested, on held-out text, coloured by
    verdict. Curves join equal F1."""
    precision, recall = "explanation_precision", "explanation_recall"
    check_columns(ranking, "latent", "verdict", precision, recall)
    fig = go.Figure()
    for f1 in (0.2, 0.4, 0.6, 0.8):
        inverse = np.linspace(1, 2 / f1 - 1, 200)  # values of recall; precision takes the same values in reverse
        fig.add_scatter(
            x=1 / inverse, y=1 / inverse[::-1], mode="lines", line={"color": "#c9ced6", "width": 1}, **BARE_TRACE
        )
        note = {
            "text": f"F1 {f1}",
            "showarrow": False,
            "font": {"size": 10, "color": INK},
            "bgcolor": "rgba(255,255,255,.75)",
        }
        fig.add_annotation(x=1, y=f1 / (2 - f1), xanchor="right", yanchor="middle", borderpad=0, **note)
    scored = _tested_rows(ranking, precision, recall)
    fig.add_traces(_dots_by_verdict(scored, recall, precision, "precision %{y:.2f}, recall %{x:.2f}").data)
    fig.update_layout(legend_itemsizing="constant")
    fig.update_xaxes(range=[-0.02, 1.02]).update_yaxes(range=[-0.02, 1.02])
    return with_style(fig, "Rules in words", x="recall (held out)", y="precision (held out)", height=420)


def _dots_by_verdict(rows: pd.DataFrame, x: str, y: str, text: str) -> go.Figure:
    """Draw a dot per latent in the colour of its verdict.
    text: the hover text."""
    fig = go.Figure().update_layout(legend_itemsizing="constant")
    for verdict, part in split_by_verdict(rows):
        look = {"mode": "markers", "marker": dot_style(len(rows), color=VERDICT_COLOURS.get(verdict, GREY))}
        hover = {"customdata": part["latent"], "hovertemplate": f"latent %{{customdata}}<br>{text}<extra></extra>"}
        fig.add_scatter(x=part[x], y=part[y], name=verdict_name(verdict), **look, **hover)
    return fig


def _tested_rows(table: pd.DataFrame, *scores: str) -> pd.DataFrame:
    return table[~table["verdict"].isin(WITHOUT_SCORES)].dropna(subset=list(scores))


def _unit(score: str) -> str:
    """Return the title of a score's axis."""
    return AXIS_TITLES.get(score, escape_markup(score))


def _title(score: str) -> str:
    return score.replace("_", " ").capitalize().replace("f1", "F1")
