"""Draw all latents of a dictionary: firing densities, scores by verdict, verdicts by density, and the quality of
their rules.

In: a FeatureStore's table `features`, and a ranking (one row per latent). Out: a plotly Figure.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.display.verdict_names import POLYSEMANTIC, WITHOUT_SCORES
from interp.figures.figure import figure
from interp.figures.roles import ROLE_COLOURS, ROLE_NAMES, ROLES_IN_WORDS, role_of
from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    GREY,
    INK,
    LIGHT_TO_DARK,
    PALE,
    VERDICT_COLOURS,
    check_columns,
    colour_bar,
    escape_markup,
    plain_name,
    share_ticks,
    split_by_verdict,
    verdict_name,
    with_colours,
    with_meta,
    with_panel_titles,
    with_style,
)
from interp.statistics.cutoffs import ULTRA_LOW

if TYPE_CHECKING:
    import pandas as pd

BIN_WIDTH = 0.2
"""Width of a bin of the log10 density."""
MAX_NAMED = 3
"""Largest number of dictionaries whose number of ultra-low latents is shown."""
FEW_LATENTS = 10
"""The distribution of fewer latents is not drawn."""
RIDGE = 0.95
"""Height of the highest bin, in rows."""
MANY_LATENTS = 20
"""The least number of latents in a bin of which shares are drawn, if any bin has as many."""
N_BINS_OF_SCORE = 25
LEVELS_OF_F1 = (0.5, 0.8)
MIN_LATENTS_OF_PANEL = 50
"""The least number of latents of a verdict that has a panel, if any has as many: of fewer, a cell holds one or two."""
PANELS_IN_ROW = 2
PANEL_HEIGHT = 260
_CAPTION_OF_SEVERAL = (
    "The share of each dictionary's units by the share of tokens on which they fire, in bins of its logarithm. Dots on "
    "the left are dead units, which never fire. A bracket spans the range of ultra-low densities."
)
AXIS_TITLES = {
    "monosemanticity": "probability of one meaning",
    "concentration": "concentration (largest less next cluster)",
    "evenness": "evenness of similarity",
    "token_entropy": "entropy of the firing token (nats)",
    "explanation_f1": "F1 of the rule (held out)",
    "density": "density (share of tokens)",
    "max": "largest activation",
    "mean": "mean activation where it fires",
}


@figure
def density_histogram(features: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw a histogram of the share of tokens on which each latent fires. Dead latents, which fire on none, are on the
    left. A bracket spans the range of ultra-low densities. Of one dictionary, both are left out where there are none.

    features: a table with the column density, or a mapping (name → table) of dictionaries or checkpoints, which are
    drawn as lines, in shares of each. The bar of dead latents is cut off if it is more than 1.5 × the highest bin."""
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
    total = {name: len(d) if len(named) > 1 else 1 for name, d in densities.items()}
    binned = {name: np.histogram(values, edges)[0] / max(total[name], 1) for name, values in logs.items()}
    dead = {name: int((d == 0).sum()) for name, d in densities.items()}
    spikes = {name: n / max(total[name], 1) for name, n in dead.items()}
    highest = max((float(heights.max()) for heights in binned.values()), default=0.0)
    is_cut = max(spikes.values(), default=0.0) > 1.5 * highest > 0
    spikes = {name: min(height, 0.6 * highest) if is_cut else height for name, height in spikes.items()}
    for (name, heights), colour in zip(binned.items(), colours, strict=True):
        if len(named) == 1:
            look = {"width": BIN_WIDTH * 0.92, "showlegend": False}
            fig.add_bar(x=(edges[:-1] + edges[1:]) / 2, y=heights, marker_color=BLUE, **look)
            fig.add_bar(x=[spike], y=[spikes[name]], marker_color=GREY, **look)
        else:
            steps = {"x": edges, "y": [*heights, heights[-1]], "line": {"shape": "hv", "color": colour}}
            fig.add_scatter(**steps, mode="lines", name=name)
            beside = BIN_WIDTH * list(binned).index(name)
            fig.add_scatter(x=[spike + beside], y=[spikes[name]], mode="markers", marker_color=colour, showlegend=False)
    if len(named) == 1 and not any(dead.values()):
        return _mark_ultra_low(fig, densities, colours, edges[0], None)
    text = "dead, cut off" if is_cut else "dead"
    if len(named) == 1:
        text += ": " + "".join(f"{n:,} ({n / max(len(densities[name]), 1):.1%})" for name, n in dead.items())
    elif len(named) <= MAX_NAMED:
        text += ": " + _coloured([f"{n:,}" for n in dead.values()], colours)
    position = {
        "x": spike - BIN_WIDTH / 2,
        "xanchor": "left",
        "align": "left",
        "y": max(spikes.values(), default=0),
        "yanchor": "bottom",
        "yshift": 3 + 3 * (len(named) > 1),
    }
    fig.add_annotation(text=text, showarrow=False, font_size=11, **position)
    return _mark_ultra_low(fig, densities, colours, edges[0], spike)


def _mark_ultra_low(
    fig: go.Figure, densities: Mapping[str, np.ndarray], colours: list[str], left: float, spike: float | None
) -> go.Figure:
    """Draw the bracket, and the axes of the histogram. spike: where dead latents stand, if there are any."""
    counts = [f"{((d > 0) & (d < ULTRA_LOW)).sum():,}" for d in densities.values()]
    numbers = _coloured(counts, colours) if len(counts) > 1 else "".join(counts)
    text = f"ultra-low: {numbers}" if len(counts) <= MAX_NAMED else "ultra-low"
    has_ultra_low = counts != ["0"]
    threshold = float(np.log10(ULTRA_LOW))
    line = {"type": "line", "yref": "y domain", "line": {"color": GREY, "width": 1.2}}
    top = 0.9  # above the bars, of which the range has few
    if has_ultra_low:
        fig.add_shape(x0=left, x1=threshold, y0=top, y1=top, **line)
        for end in (left, threshold):
            fig.add_shape(x0=end, x1=end, y0=top, y1=top - 0.03, **line)
        position = {"x": (left + threshold) / 2, "y": top + 0.01, "yref": "y domain", "yanchor": "bottom"}
        fig.add_annotation(text=text, showarrow=False, font_size=11, **position)
    title = "Firing density of the latents" if len(densities) == 1 else "Firing densities of several dictionaries"
    told = [
        "no latent is dead" if spike is None else "dead latents, which fire on none, are on the left",
        "a bracket spans the range of ultra-low densities" if has_ultra_low else "none has an ultra-low density",
    ]
    caption = f"A histogram of the share of tokens on which each latent fires: {', and '.join(told)}."
    with_style(fig, title, x=AXIS_TITLES["density"], y="number of latents", caption=caption)
    ticks = share_ticks(10 ** np.ceil(left), 1.0)
    at, labels, first = np.log10(ticks["tickvals"]).tolist(), ticks["ticktext"], left
    if spike is not None:
        at, labels, first = [spike, *at], ["none", *labels], spike
        for shift in (-0.2, 0.2):  # the axis has a break between none and the logarithms
            middle = (spike + left) / 2 + shift * BIN_WIDTH
            cut = {"x0": middle - 0.15 * BIN_WIDTH, "x1": middle + 0.15 * BIN_WIDTH, "y0": -0.02, "y1": 0.02}
            fig.add_shape(type="line", yref="y domain", **cut, line={"color": INK, "width": 1})
    fig.update_xaxes(range=[first - BIN_WIDTH, 0], tickangle=0, tickvals=at, ticktext=labels)
    if len(densities) > 1:
        with_meta(fig, direct_labels=True, caption=_CAPTION_OF_SEVERAL)
        fig.update_yaxes(rangemode="tozero", tickformat=".0%", title_text="share of each dictionary")
    return fig


def _coloured(numbers: list[str], colours: list[str]) -> str:
    """Return the numbers of several dictionaries, each in its colour."""
    return ", ".join(f'<span style="color:{hue}">{n}</span>' for n, hue in zip(numbers, colours, strict=True))


@figure
def score_distributions(ranking: pd.DataFrame, *, score: str = "explanation_f1") -> go.Figure:
    """Draw the distribution of a score of the tested latents within each verdict: the share in equally wide bins, on
    one scale, with a line at the median. Verdicts of fewer than ten latents are left out, unless all are."""
    check_columns(ranking, "verdict", score)
    tested = _tested_rows(ranking, score)
    groups = split_by_verdict(tested)
    least = min(FEW_LATENTS, max((len(rows) for _, rows in groups), default=0))
    drawn = [(verdict_name(verdict), rows[score].to_numpy(float)) for verdict, rows in groups if len(rows) >= least]
    caption = (
        f"The {html.unescape(_unit(score))} of the {len(tested):,} tested of {len(ranking):,} latents by verdict, with "
        f"the number of each: the share in each of {N_BINS_OF_SCORE} bins, on one scale, with a line at the median."
    )
    if few := [f"{len(rows)} {html.unescape(verdict_name(verdict))}" for verdict, rows in groups if len(rows) < least]:
        caption += f" The {' and the '.join(few)} latents are not drawn: they are too few."
    fig = _ridges(drawn, [BLUE] * len(drawn), score, f"{_title(score)} by verdict", caption, row_height=76)
    for row, (_, values) in enumerate(drawn):
        median = float(np.median(values))
        height = fig.data[row].y[np.searchsorted(fig.data[row].x, median)]
        line = {"color": INK, "width": 1.5}
        fig.add_scatter(x=[median] * 2, y=[row, height], mode="lines", line=line, **BARE_TRACE)
    return fig


@figure
def scores_beside_nulls(verdicts: pd.DataFrame, *, score: str = "monosemanticity") -> go.Figure:
    """Draw the distribution of a score in the dictionary, on top, in its positive control, in the model's own units,
    and in each null: the share of the tested latents in equally wide bins, on one scale.

    verdicts: the table `verdicts` of a run's nulls, with one row per dictionary and latent."""
    check_columns(verdicts, "dictionary", "verdict", score)
    groups = _tested_rows(verdicts, score).groupby("dictionary", sort=False)
    drawn = [(escape_markup(name), rows[score].to_numpy(float)) for name, rows in groups]
    roles = [role_of(str(name)) for name, _ in groups]
    caption = (
        f"The {html.unescape(_unit(score))} of the tested latents of each dictionary, with their number: the share in "
        f"each of {N_BINS_OF_SCORE} bins, on one scale. {ROLES_IN_WORDS}"
    )
    colours = [ROLE_COLOURS[role] for role in roles]
    fig = _ridges(drawn, colours, score, f"{_title(score)} and its nulls", caption, row_height=46)
    for row, role in enumerate(roles):
        key = {"name": ROLE_NAMES[role], "legendgroup": role, "showlegend": role not in roles[:row]}
        fig.data[row].update(key)
    return fig


def _ridges(
    named: list[tuple[str, np.ndarray]], colours: list[str], score: str, title: str, caption: str, *, row_height: int
) -> go.Figure:
    """Draw in each row the share of the values in equally wide bins, on one scale, which stands on the right."""
    edges = np.histogram_bin_edges(np.concatenate([*(values for _, values in named), [0.0]]), N_BINS_OF_SCORE)
    shares = [np.histogram(values, edges)[0] / len(values) for _, values in named]
    highest = max((float(share.max()) for share in shares), default=1.0)
    low_enough = 0.8 * highest  # that it does not meet the zero of the next row
    tick = next(step for step in (0.5, 0.2, 0.1, 0.05, 0.02) if step <= low_enough or step == 0.02)
    fig = go.Figure()
    x = np.repeat(edges, 2)  # from the zero line up to the first bin, and down again after the last
    for row, (share, colour) in enumerate(zip(shares, colours, strict=True)):
        y = row - np.concatenate([[0.0], np.repeat(share, 2), [0.0]]) * RIDGE / highest
        line = {"color": colour, "width": 1.5, "simplify": False}  # steps stay steps
        fig.add_scatter(x=x, y=y, mode="lines", fill="toself", line=line, showlegend=False)
    fig.add_scatter(x=[None], y=[None], yaxis="y2", **BARE_TRACE)  # an axis without a trace is not drawn
    rows = np.arange(len(named))
    scale = {"tickvals": np.concatenate([rows, rows - RIDGE * tick / highest]), "overlaying": "y", "side": "right"}
    scale |= {"ticktext": ["0"] * len(named) + [f"{tick:.0%}"] * len(named), "title_text": "share of the latents"}
    fig.update_layout(yaxis2=scale)
    with_style(fig, title, x=_unit(score), height=130 + row_height * len(named), caption=caption)
    margin = 0.01 * (edges[-1] - edges[0])  # so that a line at an end of the axis is whole
    fig.update_xaxes(range=[edges[0] - margin, edges[-1] + margin])
    fig.update_yaxes(range=[len(named) - 0.9, -1.05], showgrid=False)
    names = [f"{name} ({len(values):,})" for name, values in named]
    return fig.update_layout(yaxis={"tickvals": rows, "ticktext": names, "ticks": ""})


@figure
def verdicts_by_density(ranking: pd.DataFrame) -> go.Figure:
    """Draw the verdicts of latents that fire on about as many tokens: above, the number of latents in each bin of the
    firing density, and below, the share of each verdict among them, where there are twenty or more. If verdicts only
    followed density, one colour would fill each bin. The axis ends with the last bins of so many."""
    check_columns(ranking, "verdict", "density")
    fires = ranking[ranking["density"] > 0].dropna(subset=["verdict"])
    logs = np.log10(fires["density"].to_numpy(float))
    first = np.floor(min(logs, default=-1.0) / BIN_WIDTH)
    edges = BIN_WIDTH * np.arange(first, 1)
    n = np.histogram(logs, edges)[0]
    has_many = n >= min(MANY_LATENTS, n.max())
    fig = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.25, 0.75], vertical_spacing=0.06)
    bar: dict[str, Any] = {"x": (edges[:-1] + edges[1:]) / 2, "width": 0.92 * BIN_WIDTH}
    fig.add_bar(**bar, y=n, marker_color=GREY, showlegend=False, row=1, col=1)
    untested = fires["verdict"].isin(WITHOUT_SCORES)
    for verdict, rows in split_by_verdict(fires.assign(verdict=fires["verdict"].mask(untested, "untested"))):
        of_verdict = np.histogram(np.log10(rows["density"].to_numpy(float)), edges)[0] * has_many
        if of_verdict.any():
            look: dict[str, Any] = {"marker_color": VERDICT_COLOURS.get(verdict, PALE), "name": verdict_name(verdict)}
            if verdict == POLYSEMANTIC:  # without colours it is told from its neighbours
                look["marker_pattern"] = {"shape": "/", "fillmode": "overlay", "fgcolor": "white", "size": 4}
            hover = {"customdata": of_verdict, "hovertemplate": "%{customdata:,} (%{y:.0%})"}
            fig.add_bar(**bar, y=of_verdict / np.maximum(n, 1), **hover, **look, showlegend=True, row=2, col=1)
    caption = (
        "Above, the number of latents by the share of the tokens on which they fire, in bins of its logarithm. Below, "
        f"the share of each verdict in the bins of {MANY_LATENTS} or more latents. If verdicts only followed density, "
        "one colour would fill each bin. Untested latents are too rare, without context or faint."
    )
    first, last = np.flatnonzero(has_many)[[0, -1]]
    if n_beyond := n[:first].sum() + n[last + 1 :].sum():
        caption += f" The {n_beyond:,} latents of lower and higher densities are not drawn."
    with_style(fig, "Verdicts by firing density", caption=caption)
    fig.update_layout(barmode="stack", legend_traceorder="reversed")
    fig.update_yaxes(title_text="latents", nticks=3, row=1, col=1)
    fig.update_yaxes(title_text="share of the bin", range=[0, 1], tickformat=".0%", nticks=4, row=2, col=1)
    ticks = share_ticks(10 ** edges[first], 10 ** edges[last + 1])
    fig.update_xaxes(title_text=AXIS_TITLES["density"], row=2, col=1)
    fig.update_xaxes(range=[edges[first] - BIN_WIDTH / 2, edges[last + 1] + BIN_WIDTH / 2], tickangle=0)
    return fig.update_xaxes(tickvals=np.log10(ticks["tickvals"]).tolist(), ticktext=ticks["ticktext"])


@figure
def precision_recall(ranking: pd.DataFrame) -> go.Figure:
    """Draw precision against recall of the rules in words on held-out text: a panel per verdict, with the share of its
    tested latents in each cell, in colours of its logarithm. Verdicts of fewer than fifty are left out. Each grey curve
    joins points of one F1, which stands at its end on the right."""
    check_columns(ranking, "latent", "verdict", "explanation_precision", "explanation_recall")
    scored = _tested_rows(ranking, "explanation_precision", "explanation_recall")
    groups = split_by_verdict(scored)
    least = min(MIN_LATENTS_OF_PANEL, max((len(rows) for _, rows in groups), default=0))
    groups = [(verdict, rows) for verdict, rows in groups if len(rows) >= least]
    n_columns = min(PANELS_IN_ROW, max(len(groups), 1))
    n_rows = max(1, -(-len(groups) // n_columns))
    titles = [f"{verdict_name(verdict)} ({len(rows):,})" for verdict, rows in groups]
    height = 80 + PANEL_HEIGHT * n_rows
    look: dict[str, Any] = {"horizontal_spacing": 0.16, "vertical_spacing": 100 / height, "subplot_titles": titles}
    fig = make_subplots(n_rows, n_columns, **look)
    edges = np.linspace(0, 1, 11)
    middles = (edges[:-1] + edges[1:]) / 2
    inverse = [np.linspace(1, 2 / f1 - 1, 100) for f1 in LEVELS_OF_F1]  # values of recall, and of precision in reverse
    curves = {
        "x": np.concatenate([[*1 / each, np.nan] for each in inverse]),
        "y": np.concatenate([[*1 / each[::-1], np.nan] for each in inverse]),
    }
    for panel, (_, rows) in enumerate(groups):
        place = {"row": panel // n_columns + 1, "col": panel % n_columns + 1}
        at = rows["explanation_precision"], rows["explanation_recall"]
        shares = np.histogram2d(*at, [edges, edges])[0] / len(rows)
        shares[shares == 0] = np.nan
        cells = {"x": middles, "y": middles, "z": np.log10(shares), "customdata": shares, "showscale": panel == 0}
        text = "precision %{y:.2f}, recall %{x:.2f}: %{customdata:.1%}<extra></extra>"
        fig.add_heatmap(**cells, hoverongaps=False, hovertemplate=text, **place)
        fig.add_scatter(**curves, mode="lines", line={"color": GREY, "width": 1}, **BARE_TRACE, **place)
    with_style(fig, "Rules in words", height=height)
    bar = colour_bar("share of the latents (log scale)", tickvals=[-3, -2, -1], ticktext=["0.1%", "1%", "10%"], x=1.1)
    scale = {"colorscale": LIGHT_TO_DARK, "zmin": -3, "zmax": -1, "colorbar": bar}
    fig.update_traces(**scale, selector={"type": "heatmap"})
    with_panel_titles(fig)
    for panel in range(len(groups)):  # beside the end of each curve
        for f1 in LEVELS_OF_F1:
            note = {"text": str(f1), "showarrow": False, "xanchor": "left", "xshift": 2, "font_size": 11}
            fig.add_annotation(x=1, y=f1 / (2 - f1), **note, row=panel // n_columns + 1, col=panel % n_columns + 1)
    axis = {"range": [0, 1], "tickvals": [0, 0.5, 1], "showgrid": False, "constrain": "domain"}
    fig.update_xaxes(**axis).update_yaxes(**axis)
    for column in range(1, n_columns + 1):  # below the last panel of each column
        row = n_rows if len(groups) > (n_rows - 1) * n_columns + column - 1 else max(n_rows - 1, 1)
        fig.update_xaxes(title_text="recall", row=row, col=column)
    for n, yaxis in enumerate(fig.select_yaxes(), 1):
        yaxis.scaleanchor = f"x{n if n > 1 else ''}"
    return fig.update_yaxes(title_text="precision", col=1)


def _tested_rows(table: pd.DataFrame, *scores: str) -> pd.DataFrame:
    return table[~table["verdict"].isin(WITHOUT_SCORES)].dropna(subset=list(scores))


def _unit(score: str) -> str:
    """Return the title of a score's axis."""
    return AXIS_TITLES.get(score, plain_name(score))


def _title(score: str) -> str:
    title = AXIS_TITLES.get(score, score.replace("_", " ")).partition(" (")[0]
    return title[:1].upper() + title[1:]
