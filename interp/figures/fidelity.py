"""What dictionaries keep of the activations and of the model: figures and a LaTeX table.

In: a quality table with one row a dictionary (`interp.quality_table`). Out: a plotly Figure, or LaTeX.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.theme import BLUE, GREEN, SEQUENCE, escaped, need, panelled, styled

if TYPE_CHECKING:
    import pandas as pd

LATEX_COLUMNS = {
    "l0": ("$L_0$", ".1f"),
    "fvu": ("FVU", ".3f"),
    "ce_recovered_mean": ("CE rec.\\ (mean)", ".3f"),
    "ce_recovered_zero": ("CE rec.\\ (zero)", ".3f"),
    "dead_share": ("dead", ".1%"),
}
"""Column of the quality table → its heading, and the format of its numbers."""
_LATEX = {ord(character): f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {ord("\\"): r"\textbackslash{}", ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}"}


def quality(table: pd.DataFrame) -> go.Figure:
    """What each dictionary keeps: variance explained (1 − FVU) and CE loss recovered against mean-ablation, as dots, a
    row a dictionary with its L0."""
    need(table, "dictionary", "fvu", "ce_recovered_mean", "l0")
    names = [f"{escaped(name)} (L0 {l0:.0f})" for name, l0 in zip(table["dictionary"], table["l0"], strict=True)]
    measures = {"variance explained": 1 - table["fvu"], "CE recovered": table["ce_recovered_mean"]}
    places = np.arange(len(names))
    fig = go.Figure()
    for (measure, values), colour, symbol in zip(measures.items(), (BLUE, GREEN), ("circle", "diamond"), strict=True):
        fig.add_scatter(
            x=values,
            y=places,
            mode="markers",
            name=measure,
            marker=dict(color=colour, symbol=symbol, size=9),
            hovertemplate="%{x:.3f}<extra></extra>",
        )
    height = 130 + 34 * len(names)
    styled(fig, "Quality of the dictionaries", x="share kept (1 = all)", y="dictionary", height=height)
    shown = np.concatenate([values.to_numpy(float) for values in measures.values()])
    low = float(np.nanmin(shown, initial=0.0))
    fig.update_xaxes(range=[low - 0.03, max(1.0, float(np.nanmax(shown, initial=0.0))) + 0.03])
    return fig.update_yaxes(tickvals=places, ticktext=names, range=[len(names) - 0.5, -0.5], ticks="")


def sparsity_fidelity(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """What is kept against how many latents fire, a curve an architecture or a training (name → quality table with a
    row a dictionary): FVU on the left, CE loss recovered against mean-ablation on the right."""
    panels = {"fvu": "FVU", "ce_recovered_mean": "CE recovered"}
    fig = make_subplots(cols=2, subplot_titles=list(panels.values()), horizontal_spacing=0.14)
    for (name, table), colour in zip(curves.items(), SEQUENCE * len(curves), strict=False):
        need(table, "l0", *panels)
        rows = table.sort_values("l0")
        for col, column in enumerate(panels, 1):
            look = dict(mode="lines+markers", line=dict(color=colour, width=1.5), marker=dict(color=colour, size=6))
            trace = go.Scatter(x=rows["l0"], y=rows[column], name=escaped(name), legendgroup=escaped(name), **look)
            fig.add_trace(trace.update(showlegend=col == 1), row=1, col=col)
    panelled(styled(fig, "Fidelity against sparsity", x="L0 (latents a token, log scale)"))
    shown = np.concatenate([table["l0"].to_numpy(float) for table in curves.values()])
    ticks = [2.0**power for power in range(-2, 15) if shown.min() / 1.5 <= 2.0**power <= shown.max() * 1.5]
    fig.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return fig


def quality_latex(table: pd.DataFrame) -> str:
    """The quality table as a LaTeX `tabular` with the rules of the package booktabs; NaN is a dash."""
    need(table, "dictionary", "l0", "fvu")
    columns = {name: how for name, how in LATEX_COLUMNS.items() if name in table}
    head = " & ".join(["dictionary", *(heading for heading, _ in columns.values())])
    rows = []
    for row in table.to_dict(orient="records"):
        cells = [_cell(row[name], form) for name, (_, form) in columns.items()]
        rows.append(" & ".join([str(row["dictionary"]).translate(_LATEX), *cells]) + r" \\")
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", head + r" \\", r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _cell(value: float, form: str) -> str:
    return "--" if value != value else format(value, form).replace("%", r"\%").replace("-", "$-$")
