"""Draw the benefit and the cost of holding a latent.

In: a table of `interp.effects.dose_response`. Out: a plotly Figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.figures.figure import figure
from interp.figures.theme import BLUE, DASHES, GREY, VERMILLION, with_colours, with_panel_titles, with_style

if TYPE_CHECKING:
    import pandas as pd

_DOSED = {
    "concept": "concept (probability)",
    "fires": "fires (share of tokens)",
    "loss": "loss (nats)",
    "kl": "KL (nats)",
}


@figure
def steering(doses: pd.DataFrame | Mapping[str, pd.DataFrame], *, latent: int | None = None) -> go.Figure:
    """Draw the benefit and the cost of holding a latent at multiples of its maximum: the probability of its concept if
    one was given, how often it then fires in the model's text, and the loss and KL divergence on the scan's text.

    doses: a table of `effects.dose_response`, or a mapping (name → table) for several latents. Its first row (with the
    multiple NaN) is the unchanged model, which is drawn as a dashed line."""
    curves = list(with_colours(doses, "multiple", "fires", "loss", "kl"))
    has_concept = all("concept" in table and table["concept"].notna().any() for _, table, _ in curves)
    panels = {name: title for name, title in _DOSED.items() if name != "concept" or has_concept}
    columns = 2 if len(panels) == 4 else 3
    space = {"horizontal_spacing": 0.12, "vertical_spacing": 0.2} if columns == 2 else {"horizontal_spacing": 0.1}
    fig = make_subplots(math.ceil(len(panels) / columns), columns, subplot_titles=list(panels.values()), **space)
    unchanged = {"color": GREY, "dash": DASHES, "width": 1}
    for i, column in enumerate(panels):
        position: dict[str, Any] = {"row": i // columns + 1, "col": i % columns + 1}
        for name, table, hue in curves:
            colour = hue if name else VERMILLION if column in ("loss", "kl") else BLUE
            rows = table.dropna(subset=["multiple"])
            free = table[table["multiple"].isna()]
            look = {
                "mode": "lines+markers",
                "line": {"color": colour, "width": 1.5},
                "marker": {"color": colour, "size": 6},
            }
            key = {"name": name, "legendgroup": name, "showlegend": bool(name) and i == 0}
            fig.add_scatter(x=[f"{m:g}" for m in rows["multiple"]], y=rows[column], **key, **look, **position)
            if len(free) and (len(curves) == 1 or column == "loss"):
                fig.add_hline(y=float(free[column].iloc[0]), line=unchanged, **position)
    if fig.layout.shapes:
        fig.add_scatter(x=[None], y=[None], mode="lines", line=unchanged, name="unchanged model", showlegend=True)
    title = "Steering" if latent is None else f"Steering with latent {latent}"
    with_style(fig, title, height=300 if columns == 3 else 480).update_xaxes(type="category", tickangle=0)
    fig.update_xaxes(title_text="times its maximum", row=math.ceil(len(panels) / columns))
    return with_panel_titles(fig).update_yaxes(rangemode="tozero")
