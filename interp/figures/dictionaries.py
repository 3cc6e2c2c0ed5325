"""Draw whole dictionaries: their quality, the similarity of their latents, and the concepts that they detect.

In: a quality table with one row per dictionary (`interp.quality_table`); coordinates, cosines or pairs of latents; or
the concept table of a run, with one row per label (`compare.concepts.concept_table`). Out: a plotly Figure, or LaTeX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from interp.figures.figure import figure
from interp.figures.name_placement import with_placed_names
from interp.figures.theme import (
    BARE_TRACE,
    BLUE,
    COLOUR_SCALE,
    DASHES,
    GREEN,
    GREY,
    INK,
    LIGHT_TO_DARK,
    SEQUENCE,
    VERMILLION,
    check_columns,
    colour_bar,
    dot_style,
    escape_markup,
    plain_name,
    share_ticks,
    shortened,
    split_by_verdict,
    verdict_dots,
    verdict_name,
    with_meta,
    with_style,
)

if TYPE_CHECKING:
    import pandas as pd

_BAR_BELOW: dict[str, Any] = {
    "orientation": "h",
    "x": 0.5,
    "y": -0.12,
    "xanchor": "center",
    "yanchor": "top",
    "len": 0.8,
}
"""Where the scale of colours is, for a plot that needs the whole width."""
_MAX_NAME_LETTERS = 17
"""Number of letters of a name that are shown beside the number of its latent."""
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
    """Draw the quality of each dictionary with its L0, the mean number of active latents per token. A disc is the
    variance explained (1 − FVU), which is 0 for the mean activation. A diamond is the cross-entropy recovered, which is
    0 for zero ablation or unigrams, whichever is better for the model."""
    check_columns(quality_table, "dictionary", "fvu", "ce_recovered", "l0")
    names = list(map(escape_markup, quality_table["dictionary"]))
    l0 = [f"L0 {value:.0f}" for value in quality_table["l0"]]
    x_title = "share kept (1 = all)"
    if len(set(l0)) == 1:
        x_title += f", all with {l0[0]}"
    else:
        names = [f"{name} ({value})" for name, value in zip(names, l0, strict=True)]
    measures = (  # beside one another, so that equal values do not cover each other
        ("variance explained", 1 - quality_table["fvu"], BLUE, "circle", -0.13),
        ("CE recovered", quality_table["ce_recovered"], GREEN, "diamond", 0.13),
    )
    y = np.arange(len(names))
    fig = go.Figure()
    for name, values, colour, symbol, shift in measures:
        look = {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": 9}}
        fig.add_scatter(x=values, y=y + shift, name=name, hovertemplate="%{x:.3f}<extra></extra>", **look)
    with_style(fig, "Quality of the dictionaries", x=x_title, height=130 + 34 * len(names))
    drawn_values = np.concatenate([values.to_numpy(float) for _, values, *_ in measures])
    low = float(np.nanmin(drawn_values, initial=0.0))
    fig.update_xaxes(range=[low - 0.03, max(1.0, float(np.nanmax(drawn_values, initial=0.0))) + 0.03])
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
def decoder_map(points: pd.DataFrame, *, colour: str = "verdict") -> go.Figure:
    """Draw the directions of the decoder in the plane (UMAP), a dot per latent, coloured by verdict or by a number.
    Distances have no unit. A ring is the latent that detects the named concept best.

    points: a table with x, y and the column `colour`. A point that has an entry in an optional column `name` has a ring
    and this name.
    colour: "verdict", or a column of numbers; "density" is drawn on a logarithmic scale. The scale ends at the 2nd and
    98th percentiles, so that a few outliers do not compress it."""
    check_columns(points, "x", "y", colour)
    fig = go.Figure()
    if colour == "verdict":
        for verdict, rows in split_by_verdict(points):
            look = {"mode": "markers", "hoverinfo": "skip", "name": verdict_name(verdict)}
            dots = verdict_dots(verdict, len(rows), len(points), opacity=0.9)
            fig.add_scatter(x=rows["x"], y=rows["y"], **look, **dots)
        fig.update_layout(legend_itemsizing="constant")
    else:
        values = points[colour].to_numpy(float)
        if colour == "density":
            values = np.log10(np.where(values > 0, values, np.nan))
        low, high = np.nanpercentile(values, [2, 98]) if np.isfinite(values).any() else (0, 1)
        bar = colour_bar(plain_name(colour), **_BAR_BELOW)
        if colour == "density":
            ticks = share_ticks(10**low, 10**high)
            bar = colour_bar(
                "density (share of tokens)", **_BAR_BELOW | ticks | {"tickvals": np.log10(ticks["tickvals"])}
            )
        hues = {"color": values, "colorscale": COLOUR_SCALE, "colorbar": bar, "cmin": low, "cmax": high}
        marker = dot_style(len(points), **hues, opacity=1)  # as on the scale
        fig.add_scatter(x=points["x"], y=points["y"], mode="markers", marker=marker, hoverinfo="skip")
    ringed = points[points["name"].fillna("") != ""] if "name" in points else points.iloc[:0]
    x_range = _with_margin(points["x"], 0.3 if len(ringed) else 0.05)  # names stand beside the dots
    y_range = _with_margin(points["y"], 0.05)
    shape = min((y_range[1] - y_range[0]) / (x_range[1] - x_range[0]), 1.0)
    scale = "verdict" if colour == "verdict" else f"{colour.replace('_', ' ')}, from the 2nd to the 98th percentile"
    caption = f"The directions of the decoder in the plane (UMAP), a dot per latent, coloured by {scale}."
    if len(ringed):
        caption += " A ring is the latent that detects the named concept best."
    title = f"Map of the decoder, coloured by {colour.replace('_', ' ')}"
    with_style(
        fig,
        title,
        x="UMAP 1 (no unit)",
        y="UMAP 2 (no unit)",
        height=round(130 + 560 * shape + 90 * (colour != "verdict")),
        caption=caption,
    )
    fig.update_xaxes(ticks="", showticklabels=False, showgrid=False, range=x_range)
    fig.update_yaxes(ticks="", showticklabels=False, showgrid=False, range=y_range)
    fig.update_yaxes(scaleanchor="x", constrain="domain")
    if len(ringed):
        ring = {"symbol": "circle-open", "color": INK, "size": 6, "line": {"width": 1.2}}
        names: dict[str, Any] = {
            "mode": "markers+text",
            "text": list(map(plain_name, ringed["name"])),
            "textfont_size": 11,
            "name": "detects the named concept best",
            "showlegend": True,
        }
        fig.add_scatter(x=ringed["x"], y=ringed["y"], marker=ring, hoverinfo="skip", zorder=1, **names)
    return with_placed_names(fig)


def _with_margin(values: pd.Series, share: float) -> list[float]:
    """Return the range of an axis that shows all values, with a share of it free on both sides."""
    low, high = float(values.min()), float(values.max())
    margin = share * (high - low) or 1.0
    return [low - margin, high + margin]


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
    caption = f"The share of the latents in equally wide bins of the {axis}.{of_null}"
    with_style(fig, title, x=escape_markup(axis), y="share of the latents", caption=caption)
    return with_meta(fig, direct_labels=True)


@figure
def coactivation_heatmap(
    coactivations: pd.DataFrame, *, n: int = 14, names: Mapping[int, str] | None = None
) -> go.Figure:
    """Draw which latents fire together: the Jaccard index of the tokens on which two latents fire, for latents around
    the closest pair. Latents that fire together are neighbours. A pair is white if neither latent has the other among
    its closest.

    coactivations: the FeatureStore's table of that name.
    n: the number of latents.
    names: names of latents, which stand beside their numbers."""
    check_columns(coactivations, "latent", "other", "jaccard")
    pairs = coactivations[["latent", "other", "jaccard"]].itertuples(index=False)
    jaccard_of_pair = {(int(a), int(b)): float(jaccard) for a, b, jaccard in pairs}
    jaccard_of_pair |= {(b, a): value for (a, b), value in jaccard_of_pair.items()}
    order = _chained_order(jaccard_of_pair, n)
    cells = list(range(len(order)))
    grid = [[jaccard_of_pair.get((row, column), np.nan) for column in order] for row in order]
    scale = {"colorscale": LIGHT_TO_DARK, "zmin": 0, "zmax": max(jaccard_of_pair.values(), default=1.0)}
    bar = colour_bar("Jaccard index", **_BAR_BELOW | {"y": -0.22})
    fig = go.Figure(go.Heatmap(z=grid, x=cells, y=cells, **scale, colorbar=bar, hoverongaps=False))
    itself = np.where(np.eye(len(order)) > 0, 1.0, np.nan)
    grey = {"colorscale": [[0, GREY], [1, GREY]], "showscale": False}
    fig.add_heatmap(z=itself, x=cells, y=cells, **grey, hoverinfo="skip")
    for symbol, name in (("square", "the latent itself"), ("square-open", "not among the closest")):
        marker = {"symbol": symbol, "color": GREY, "size": 9}
        fig.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, showlegend=True)
    with_style(fig, "Latents that fire together", x="other latent", y="latent", height=640)
    named = {} if names is None else names  # a column of a table is a mapping too, but has no truth value
    numbers = list(map(str, order))
    labels = {
        n: f"{n} \u2068{escape_markup(shortened(named[n], _MAX_NAME_LETTERS))}\u2069" for n in order if n in named
    }
    lines: dict[str, Any] = {
        "tickvals": cells,
        "showgrid": False,
        "constrain": "domain",
        "ticks": "",
    }
    fig.update_xaxes(**lines, ticktext=numbers, tickangle=-90)
    return fig.update_yaxes(
        **lines, ticktext=[labels.get(n, str(n)) for n in order], autorange="reversed", scaleanchor="x"
    )


def _chained_order(jaccard_of_pair: Mapping[tuple[int, int], float], n: int) -> list[int]:
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
def concept_scatter(concepts: pd.DataFrame) -> go.Figure:
    """Draw the held-out F1 of the best feature against that of the best neuron for each labelled concept. Above the
    dashed line the feature is better."""
    check_columns(concepts, "label", "f1_feature", "f1_neuron")
    rival = _rival(concepts)
    fig = go.Figure()
    equal: dict[str, Any] = {"name": "equally good", "showlegend": True, "hoverinfo": "skip"}
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": DASHES, "width": 1}, **equal)
    _named_points(fig, concepts, concepts["f1_neuron"], f"feature %{{y:.3f}}, {rival} %{{x:.3f}}")
    title = f"Concepts: best feature against best {rival}"
    with_style(fig, title, x=f"F1 of the best {rival} (held out)", height=520)
    fig.update_yaxes(title_text="F1 of the best feature (held out)", range=[-0.03, 1.05])
    return with_placed_names(fig.update_xaxes(range=[-0.03, 1.05]))


@figure
def concept_dots(concepts: pd.DataFrame) -> go.Figure:
    """Draw the held-out F1 of the best feature and of the best neuron for each labelled concept. The concept that is
    detected best is on top."""
    check_columns(concepts, "label", "f1_feature", "f1_neuron")
    rows = concepts.sort_values("f1_feature", ascending=False, kind="stable")
    y = np.arange(len(rows))
    names = list(map(plain_name, rows["label"]))
    rival = _rival(concepts)
    fig = go.Figure()
    ends = rows[["f1_neuron", "f1_feature"]].to_numpy(float)
    line = np.column_stack([ends, np.full(len(rows), np.nan)]).ravel()
    fig.add_scatter(x=line, y=np.repeat(y, 3), mode="lines", line={"color": "#c9ced6", "width": 2}, **BARE_TRACE)
    for column, name, colour in (("f1_neuron", f"best {rival}", VERMILLION), ("f1_feature", "best feature", BLUE)):
        hover_data = _latents(rows) if column == "f1_feature" else {}
        hover = f"%{{hovertext}}<br>{name} %{{x:.3f}}{'<br>latent %{customdata}' if hover_data else ''}<extra></extra>"
        look = {"mode": "markers", "marker": {"color": colour, "size": 7}, "hovertext": names, "hovertemplate": hover}
        fig.add_scatter(x=rows[column], y=y, name=name, **look, **hover_data)
    height = 130 + 15 * len(rows)
    with_style(fig, f"Each concept's best feature and {rival}", x="F1 (held out)", height=height)
    fig.update_xaxes(range=[-0.02, 1.02])
    return fig.update_yaxes(tickvals=y, ticktext=names, range=[len(rows) - 0.4, -0.6], showgrid=False, ticks="")


def _latents(concepts: pd.DataFrame) -> dict[str, list[int | None]]:
    """Return the latent of each concept as data of a trace; nothing if the table has none."""
    if "feature" not in concepts:
        return {}
    return {"customdata": [None if np.isnan(j) else int(j) for j in concepts["feature"].astype(float)]}


def _rival(concepts: pd.DataFrame) -> str:
    """Return the word for the units with which the features are compared: the table's `rival`, by default "neuron"."""
    return concepts["rival"].iloc[0] if "rival" in concepts and len(concepts) else "neuron"


@figure
def concept_frequency(concepts: pd.DataFrame, *, n_tokens: int) -> go.Figure:
    """Draw how well the best feature detects each labelled concept, against how frequent the concept is. For a
    dictionary with only frequent concepts, the points rise from left to right.

    n_tokens: the number of tokens of the scan, in which `n_label` counts the labelled ones."""
    check_columns(concepts, "label", "f1_feature", "n_label")
    fig = go.Figure()
    share = concepts["n_label"].to_numpy(float) / max(n_tokens, 1)
    _named_points(fig, concepts, share, "on %{x:.2%} of tokens, F1 %{y:.3f}")
    with_style(fig, "Concepts: detection against frequency", x="frequency of the concept (share of tokens)", height=420)
    fig.update_yaxes(title_text="F1 of the best feature (held out)", range=[-0.03, 1.05])
    logs = np.log10(share[share > 0]) if (share > 0).any() else np.array([-1.0])
    ticks = share_ticks(10 ** logs.min(), 10 ** logs.max())
    fig.update_xaxes(type="log", range=[logs.min() - 0.25, logs.max() + 0.25], **ticks)
    return with_placed_names(fig)


def _named_points(fig: go.Figure, concepts: pd.DataFrame, x: pd.Series | np.ndarray, hover: str) -> None:
    """Draw a dot per concept at the F1 of its best feature, with its name. Hovering tells the latent, if the table has
    it. Spaces in names stay spaces, and are not marked as in tokens."""
    look: dict[str, Any] = {
        "mode": "markers+text",
        "textfont_size": 11,
        "marker": {"color": BLUE, "size": 7},
        "showlegend": False,
    }
    if hover_data := _latents(concepts):
        look |= hover_data
        hover += "<br>latent %{customdata}"
    shown = f"%{{hovertext}}<br>{hover}<extra></extra>"
    fig.add_scatter(
        x=x, y=concepts["f1_feature"], text=list(map(plain_name, concepts["label"])), hovertemplate=shown, **look
    )
