"""Draw whole dictionaries: their quality, the similarity of their latents, and the concepts that they detect.

In: a quality table with one row per dictionary (`interp.quality_table`); cosines or pairs of latents; or
the concept table of a run, with one row per label (`compare.concepts.concept_table`). Out: a plotly Figure, or LaTeX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.figure import figure
from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    GREEN,
    GREY,
    INK,
    LIGHT_TO_DARK,
    SEQUENCE,
    VERMILLION,
    check_columns,
    colour_bar,
    escape_markup,
    plain_name,
    share_ticks,
    shortened,
    with_meta,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd

N_COACTIVE = 12
"""Number of latents whose co-activations are drawn."""
_NO_VALUE = "#c5cad1"
"""The grey of cells that have no value."""
_NAME_LETTERS = 28
"""Number of letters of the name of a row."""
LATEX_COLUMNS = {
    "l0": ("$L_0$", ".1f"),
    "fvu": ("FVU", ".3f"),
    "ce_recovered": ("CE rec.", ".3f"),
    "dead_share": ("dead", ".1%"),
}
"""Column of the quality table → its heading, and the format of its numbers."""
_LATEX = {ord(character): f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {ord("\\"): r"\textbackslash{}", ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}"}
_LATEX |= {ord("−"): "$-$", ord("␣"): r"\textvisiblespace{}"}


@figure
def quality(quality_table: pd.DataFrame) -> go.Figure:
    """Draw how much each dictionary keeps. A dot is the share of the variance of the activations that it explains (1 −
    FVU; the mean activation explains 0). An open diamond is the share of the cross-entropy that the model recovers with
    the reconstruction in place of its activations, with its 95% interval over texts; 0 is zero ablation or unigrams,
    whichever is better for the model."""
    check_columns(quality_table, "dictionary", "fvu", "ce_recovered", "l0")
    names = list(map(escape_markup, quality_table["dictionary"]))
    l0 = [f"L0 {value:.0f}" for value in quality_table["l0"]]
    x_title = "share kept"
    if len(set(l0)) == 1:
        x_title += f" ({l0[0]}{' each' if len(l0) > 1 else ''})"
    else:
        names = [f"{name} ({value})" for name, value in zip(names, l0, strict=True)]
    measures = (  # an open mark does not cover an equal value
        ("variance explained", 1 - quality_table["fvu"], BLUE, "circle", 5),
        ("CE recovered", quality_table["ce_recovered"], GREEN, "diamond-open", 8),
    )
    y = np.arange(len(names))
    fig = go.Figure()
    for name, values, colour, symbol, size in measures:
        look: dict[str, Any] = {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": size}}
        if symbol == "diamond-open" and "ce_recovered_se" in quality_table:
            look["error_x"] = {"array": 1.96 * quality_table["ce_recovered_se"], "thickness": 1.5, "width": 0}
        fig.add_scatter(x=values, y=y, name=name, hovertemplate="%{x:.3f}<extra></extra>", **look)
    with_style(fig, "Quality of the dictionaries", x=x_title, height=130 + 34 * len(names))
    drawn_values = np.concatenate([values.to_numpy(float) for _, values, *_ in measures])
    low = float(np.nanmin(drawn_values, initial=0.0))
    fig.update_xaxes(range=[low - 0.03 * (low < 0), max(1.0, float(np.nanmax(drawn_values, initial=0.0))) + 0.03])
    return fig.update_yaxes(tickvals=y, ticktext=names, range=[len(names) - 0.5, -0.5], ticks="")


def quality_latex(table: pd.DataFrame) -> str:
    """Write the quality table as a LaTeX `tabular` with the rules of the package booktabs. NaN becomes a dash."""
    check_columns(table, "dictionary", "l0", "fvu")
    columns = {name: heading_and_format for name, heading_and_format in LATEX_COLUMNS.items() if name in table}
    head = " & ".join(["dictionary", *(heading for heading, _ in columns.values())])
    rows = []
    for row in table.to_dict(orient="records"):
        cells = [
            "--" if np.isnan(row[name]) else format(row[name], form).replace("%", r"\%").replace("-", "$-$")
            for name, (_, form) in columns.items()
        ]
        rows.append(" & ".join([escape_latex(str(row["dictionary"])), *cells]) + r" \\")
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", head + r" \\", r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escape_latex(text: str) -> str:
    """Escape a text so that LaTeX shows it verbatim."""
    return text.translate(_LATEX)


@figure
def cosine_histogram(
    cosines: Mapping[str, Sequence[float] | np.ndarray],
    *,
    null: str | None = None,
    title: str = "Nearest latents",
    axis: str = "cosine",
) -> go.Figure:
    """Draw the distribution of cosines of directions, in equally wide bins. A null is drawn as a grey area.

    cosines: name → the cosine of each latent.
    null: the name of the null's cosines.
    axis: the title of the axis, which says between which directions the cosines are."""
    fig = go.Figure()
    finite = {name: np.asarray(values, float) for name, values in cosines.items()}
    finite = {name: values[np.isfinite(values)] for name, values in finite.items()}
    low = min((float(values.min()) for values in finite.values() if len(values)), default=0.0)
    edges = np.linspace(np.floor(min(low, 0.0) * 10) / 10, 1, 51)
    hues = iter(SEQUENCE * len(finite))
    for name, values in finite.items():
        share = np.histogram(np.clip(values, edges[0], 1), edges)[0] / max(len(values), 1)
        area = {"line": {"color": GREY, "width": 1}, "fill": "tozeroy", "fillcolor": "rgba(138,143,152,.3)"}
        look = area if name == null else {"line": {"color": next(hues), "width": 1.8}}
        fig.add_scatter(x=edges, y=[*share, share[-1]], mode="lines", name=escape_markup(name), **look)
    fig.update_traces(line_shape="hv")
    fig.update_xaxes(range=[edges[0], 1.01])
    fig.update_yaxes(tickformat=".0%", rangemode="tozero")
    of_null = "" if null is None else f" The grey area is the null, {null}."
    caption = f"The share of the latents in equally wide bins of the cosine.{of_null}"
    with_style(fig, title, x=escape_markup(axis), y="share of the latents", caption=caption)
    return with_meta(fig, direct_labels=True)


@figure
def coactivation_heatmap(
    coactivations: pd.DataFrame, *, n: int = N_COACTIVE, names: Mapping[int, str] | None = None
) -> go.Figure:
    """Draw for each pair of latents on how many tokens both fire, as a share of those on which either does (the
    Jaccard index). Rows and columns are the same latents, those around the closest pair, in one order. A cell is grey
    for a latent with itself, and for a pair that is not in the table.

    coactivations: the FeatureStore's table of that name, which has the closest latents of each, or one of all pairs.
    n: the number of latents.
    names: names of latents, which stand beside their numbers."""
    check_columns(coactivations, "latent", "other", "jaccard")
    jaccard_of_pair = pairs_of(coactivations)
    order = chained_order(jaccard_of_pair, n)
    cells = list(range(len(order)))
    grid = [[jaccard_of_pair.get((row, column), np.nan) for column in order] for row in order]
    scale = {"zmin": 0, "zmax": 1, "colorbar": colour_bar("Jaccard index", dtick=0.5)}
    scale["colorscale"] = [[0, "white"], *LIGHT_TO_DARK[1:]]
    fig = go.Figure(go.Heatmap(z=grid, x=cells, y=cells, xgap=1, ygap=1, **scale, hoverongaps=False))
    has_unknown = bool(np.isnan(grid).sum() > len(order))
    key = "a latent with itself" + (", or a pair that is not known" if has_unknown else "")
    grey = {"mode": "markers", "marker": {"color": _NO_VALUE, "symbol": "square", "size": 9}}
    fig.add_scatter(x=[None], y=[None], **grey, name=key, showlegend=True, hoverinfo="skip")
    caption = (
        "On how many tokens two latents both fire, as a share of those on which either does (the Jaccard index). Rows "
        "and columns are the same latents, those around the closest pair, in one order."
    )
    caption += " Grey cells are a latent with itself"
    caption += ", and pairs of which neither has the other among its closest." if has_unknown else "."
    with_style(fig, "Latents that fire together", x="latent", caption=caption, height=130 + 20 * len(order))
    fig.update_layout(plot_bgcolor=_NO_VALUE)  # it shows in cells without a value, and between cells
    named = {} if names is None else names  # a column of a table is a mapping too, but has no truth value
    lines: dict[str, Any] = {"tickvals": cells, "showgrid": False, "showline": False, "ticks": ""}
    fig.update_xaxes(**lines, ticktext=[str(latent) for latent in order], tickangle=-90)
    ticks = [f"{latent} {named[latent]}" if latent in named else str(latent) for latent in order]
    ticks = [f"\u2068{escape_markup(shortened(tick, _NAME_LETTERS))}\u2069" for tick in ticks]
    return fig.update_yaxes(**lines, ticktext=ticks, autorange="reversed")


def pairs_of(coactivations: pd.DataFrame) -> dict[tuple[int, int], float]:
    """Return the Jaccard index of each pair of a table, in both orders."""
    pairs = coactivations[["latent", "other", "jaccard"]].itertuples(index=False)
    jaccard_of_pair = {(int(a), int(b)): float(jaccard) for a, b, jaccard in pairs}
    return jaccard_of_pair | {(b, a): value for (a, b), value in jaccard_of_pair.items()}


def chained_order(jaccard_of_pair: Mapping[tuple[int, int], float], n: int) -> list[int]:
    """Order latents so that close latents are neighbours. The closest pair comes first. Then the latent with the
    largest sum of closeness to the placed latents is placed after its closest one, again and again. If no latent is
    close to a placed one, the next closest pair follows."""
    order: list[int] = []
    pairs = sorted(jaccard_of_pair, key=lambda pair: (-jaccard_of_pair[pair], pair))
    while len(order) < n:
        sums: dict[int, float] = {}
        for (inside, outside), value in jaccard_of_pair.items():
            if inside in order and outside not in order:
                sums[outside] = sums.get(outside, 0.0) + value
        fresh = next((a for a, b in pairs if a not in order and b not in order), None)
        latent = min(sums, key=lambda other: (-sums[other], other)) if sums else fresh
        if latent is None:
            break
        nearest = max(range(len(order)), key=lambda at: jaccard_of_pair.get((order[at], latent), 0.0), default=-1)
        order.insert(nearest + 1, latent)
    return order


@figure
def concept_dots(concepts: pd.DataFrame, *, n_tokens: int | None = None) -> go.Figure:
    """Draw the held-out F1 of the best feature and of the best neuron for each labelled concept. The concept that is
    detected best is on top. A tick is the F1 of always saying yes. Beside it is how frequent the concept is.

    n_tokens: the number of tokens of the scan, in which `n_label` counts the labelled ones. Without it, neither
    frequencies nor the F1 of always saying yes are drawn."""
    check_columns(concepts, "label", "f1_feature", "f1_neuron", *(["n_label"] if n_tokens else []))
    rows = concepts.sort_values("f1_feature", ascending=False, kind="stable")
    y = np.arange(len(rows))
    names = list(map(plain_name, rows["label"]))
    rival = _rival(concepts)
    fig = make_subplots(1, 2, column_widths=[0.6, 0.4], horizontal_spacing=0.08) if n_tokens else go.Figure()
    ends = rows[["f1_neuron", "f1_feature"]].to_numpy(float)
    line = np.column_stack([ends, np.full(len(rows), np.nan)]).ravel()
    fig.add_scatter(x=line, y=np.repeat(y, 3), mode="lines", line={"color": "#c9ced6", "width": 2}, **BARE_TRACE)
    marks = (  # a ring around the disc where both are equal
        ("f1_feature", "best feature", {"color": BLUE, "size": 5}),
        ("f1_neuron", f"best {rival}", {"color": VERMILLION, "size": 7, "symbol": "circle-open"}),
    )
    for column, name, marker in marks:
        hover_data = _latents(rows) if column == "f1_feature" else {}
        hover = f"%{{hovertext}}<br>{name} %{{x:.3f}}{'<br>latent %{customdata}' if hover_data else ''}<extra></extra>"
        look = {"mode": "markers", "marker": marker, "hovertext": names, "hovertemplate": hover}
        fig.add_scatter(x=rows[column], y=y, name=name, **look, **hover_data)
    caption = f"For each labelled concept, the held-out F1 of the feature and of the {rival} that detect it best."
    if n_tokens:
        caption += (
            " A tick is the F1 of always saying yes. On the right is the share of the tokens that have the label."
        )
        share = rows["n_label"] / n_tokens
        tick = {"symbol": "line-ns-open", "color": INK, "size": 8}
        always = {"x": 2 * share / (1 + share), "y": y, "mode": "markers", "marker": tick, "hovertext": names}
        fig.add_scatter(**always, name="always yes", hovertemplate="%{hovertext}<br>always yes %{x:.3f}<extra></extra>")
    height = 130 + 15 * len(rows)
    with_style(fig, f"Each concept's best feature and {rival}", x="F1 (held out)", height=height, caption=caption)
    fig.update_xaxes(range=[-0.02, 1.02])
    if n_tokens:
        dots: dict[str, Any] = {"mode": "markers", "marker": {"color": INK, "size": 5}, "showlegend": False}
        dots |= {"hovertext": names, "hovertemplate": "%{hovertext}<br>%{x:.2%} of the tokens<extra></extra>"}
        fig.add_scatter(x=share, y=y, cliponaxis=False, **dots, row=1, col=2)
        logs = np.log10(share[share > 0]) if (share > 0).any() else np.array([-1.0])
        ends_of_axis = [logs.min() - 0.15, logs.max() + 0.15]
        ticks = share_ticks(10 ** logs.min(), 10 ** logs.max())
        fig.update_xaxes(type="log", range=ends_of_axis, **ticks, title_text="frequency", row=1, col=2)
        fig.update_yaxes(showticklabels=False, row=1, col=2)
    grid = {"showgrid": True, "gridcolor": "#f0f0f0", "ticks": ""}
    return fig.update_yaxes(tickvals=y, ticktext=names, range=[len(rows) - 0.4, -0.6], **grid)


def _latents(concepts: pd.DataFrame) -> dict[str, list[int | None]]:
    """Return the latent of each concept as data of a trace; nothing if the table has none."""
    if "feature" not in concepts:
        return {}
    return {"customdata": [None if np.isnan(j) else int(j) for j in concepts["feature"].astype(float)]}


def _rival(concepts: pd.DataFrame) -> str:
    """Return the word for the units with which the features are compared: the table's `rival`, by default "neuron"."""
    return concepts["rival"].iloc[0] if "rival" in concepts and len(concepts) else "neuron"
