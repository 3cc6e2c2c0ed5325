"""A figure with a slider, at each of whose labels other traces are shown."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from interp.figures.theme import BLUE, HEIGHT, PALE, SLIDER_HEIGHT, escape_markup


def with_slider(
    fig: go.Figure, frames: Mapping[str, Sequence[BaseTraceType]], *, prefix: str, active: int = 0
) -> go.Figure:
    """Return `fig` with a slider below: at each of its labels the traces of `frames` take the place of all of the
    figure's, which are those of the label number `active` when it opens."""
    fig.frames = [go.Frame(data=list(traces), name=label) for label, traces in frames.items()]
    still = dict(mode="immediate", frame=dict(duration=0, redraw=True), transition=dict(duration=0))
    steps = [dict(label=escape_markup(label), method="animate", args=[[label], still]) for label in frames]
    look = dict(len=1, x=0, pad=dict(t=44, b=8), ticklen=4, bgcolor=PALE, bordercolor=PALE, activebgcolor=BLUE)
    bar = dict(active=active, currentvalue=dict(prefix=prefix, xanchor="left"), steps=steps, **look)
    return fig.update_layout(sliders=[bar], margin_b=120, height=(fig.layout.height or HEIGHT) + SLIDER_HEIGHT)
