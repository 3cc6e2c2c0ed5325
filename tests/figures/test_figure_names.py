"""Plotly reads every text as markup: whatever name a figure is given, it shows it letter by letter."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from interp import figures
from interp.effects.graph import AttributionGraph
from interp.figures.figure import FIGURES, figure
from interp.figures.print_layout import MIN_FONT, with_print_layout
from interp.figures.theme import escape_markup, token_label

NAME = '<a href="https://x">x</a>&<b>'

ROWS = pd.DataFrame(dict.fromkeys(("latent", "n", "seed", "step", "iteration", "round"), range(1, 5)))
for (
    column
) in "density p share low high ci_low ci_high auroc auroc_low auroc_high sure_share sure_low sure_high".split():
    ROWS[column] = 0.5
for column in "fvu ce_recovered l0 tokens loss val_loss f1_feature f1_neuron r inverse kept ratio mean".split():
    ROWS[column] = 0.5
for column in "correlation cosine chance null similarity".split():
    ROWS[column] = 0.5
for column in "relative_norm nu_error nu_reconstruction exclusive genuine right size inside likely other proxy".split():
    ROWS[column] = 0.5
for (
    column
) in "dictionary verdict pair crosscoder label who score model question case stage task effect arm held".split():
    ROWS[column] = NAME
ROWS[NAME] = 0.5
LEVELS = ROWS.assign(verdict="monosemantic")
LOGITS = dict(top_logit_tokens=[0], top_logits=[1.0], bottom_logit_tokens=[0], bottom_logits=[-1.0])
PAIRS = pd.DataFrame({"latent": [1], "other": [2], "jaccard": [0.5]})
EXAMPLES = pd.DataFrame({"tokens": [[0]], "values": [[1.0]], "row": [0], "start": [0]})
GRID = np.eye(3) + 0.1
DOSES = ROWS.assign(multiple=[np.nan, 0, 1, 2], fires=0.5, kl=0.1, concept=0.5)

KINDS = ("embedding", "latent", "error", "logit", "bias", "rest")
NODES = pd.DataFrame({"type": KINDS, "dictionary": [-1, 0, 0, 1, -1, -1], "position": [0, 0, 0, 0, -1, -1]})
NODES = NODES.assign(latent=0, activation=1.0, reads=1.0, influence=[0.5, 0.5, 0.5, 0.0, 0.0, 0.0], effect=0.5)
EDGES = np.where(NODES["type"].isin(["latent", "logit"]), 0.1 + np.eye(6), 0.0).T
GRAPH = AttributionGraph([0], [NAME], {0: NAME}, ["blocks.0.mlp"], NODES, EDGES, 0.5, 0.5)
RANKING_COLUMNS = ("monosemanticity", "token_share", "explanation_f1", "explanation_precision", "explanation_recall")
RESULTS: dict[str, Any] = {
    "features": {NAME: ROWS, "other": ROWS},
    "ranking": ROWS.assign(**dict.fromkeys(RANKING_COLUMNS, 0.5)),
    "shares": LEVELS.head(1),
    "verdicts": ROWS,
    "quality_table": ROWS,
    "concepts": ROWS.assign(n_label=10),
    "n_tokens": 1000,
    "coactivations": PAIRS,
    "cosines": {NAME: [0.5]},
    "differences": ROWS.assign(differs=True, difference=[0.5, -0.5, 0.2, -0.1], rule=NAME),
    "doses": {NAME: DOSES, "other": DOSES},
    "tables": {NAME: ROWS},
    "levels": [ROWS.assign(other=ROWS.n, both=3, is_best=True)],
    "run": {NAME: ROWS, "other": ROWS},
    "feature": LOGITS,
    "vocab": [NAME],
    "examples": EXAMPLES,
    "graph": GRAPH,
    "histogram": pd.DataFrame({"low": [0.5, 1.0], "high": [1.0, 2.0], "n": [3, 1]}),
}
"""What figures of the library draw, by the names of their required parameters."""
OPTIONS: dict[str, Any] = {"title": NAME, "way": NAME, "score": NAME, "names": {1: NAME}}
"""Those of their other parameters that hold names."""
SPECIAL: dict[str, dict] = {
    "coactivation_heatmap": {"names": {1: "<a>&<b>"}},  # it shortens long ones
    "splitting": {"names": [{1: NAME}]},
    "corpus_differences": {"names": (NAME, NAME)},
}


def drawn_of(draw: Callable[..., go.Figure]) -> go.Figure:
    """Return a figure of the library with a hostile name wherever it takes one."""
    parameters = inspect.signature(draw).parameters
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    options = {name: value for name, value in OPTIONS.items() if name in parameters} | SPECIAL.get(draw.__name__, {})
    assert set(required) <= set(RESULTS), (
        f"add a result named {set(required) - set(RESULTS)} with names in it to RESULTS"
    )
    return draw(**{name: RESULTS[name] for name in required}, **options)


NAMELESS = {"activation_histogram"}
"""Numbers alone are given to it."""


@pytest.mark.parametrize("noun", figures.all_figures())
def test_every_figure_shows_names_letter_by_letter_and_is_laid_out_for_a_column(noun):
    drawn = laid_out(drawn_of(figures.all_figures()[noun]), has_names=noun not in NAMELESS)
    raised = [text for text in strings(json.loads(str(drawn.to_json()))) if "<sup>" in text or "<sub>" in text]
    assert not raised, "letters that are raised or lowered are set at 70 % of their size"


def laid_out(made: go.Figure, *, has_names: bool = True) -> go.Figure:
    """Return a figure with NAME in it as it is printed, after checking both."""
    texts = list(strings(json.loads(str(made.to_json()))))
    assert not [text for text in texts if "<a" in text or "&<b" in text]
    assert not has_names or any("&lt;a" in text and "&amp;&lt;b&gt;" in text for text in texts)
    drawn = with_print_layout(made, "column")
    assert drawn.layout.width == pytest.approx(84.5 / 25.4 * 96) and drawn.layout.title.text is None
    assert not [note.text for note in drawn.layout.annotations if "None" in (note.text or "")]
    sizes = list(font_sizes(json.loads(str(drawn.to_json()))))
    assert sizes and min(sizes) >= MIN_FONT - 1e-6
    return drawn


def test_the_key_of_a_graph_has_what_is_drawn():
    fig = figures.graph(GRAPH, nodes=1.0, edges=1.0, width="page")
    [key] = [re.sub("<[^>]*>", "", note.text) for note in fig.layout.annotations]
    assert key == "■ raises\u2003■ lowers\u2003• • • from an error"
    texts = [text for trace in fig.data if trace.mode == "text" for text in trace.text]
    shown = (
        [escape_markup(NAME.replace(" ", "␣"))] * 2
        + ["0", "error", "tokens", "layer 0", "next token", "100%"]
        + ["+0.50"] * 3
    )
    assert sorted(texts) == sorted(shown), "the latent has its number"


@pytest.mark.parametrize("width", ["column", "page"])
def test_no_line_of_a_graph_runs_behind_a_box(width):
    nodes = pd.DataFrame(
        [("embedding", -1, 0), ("embedding", -1, 1), *[("latent", layer, p) for layer in (0, 1, 2) for p in (0, 1)]],
        columns=["type", "dictionary", "position"],
    )
    ends = pd.DataFrame([("logit", 3, 1), ("bias", -1, -1), ("rest", -1, -1)], columns=nodes.columns)
    nodes = pd.concat([nodes, ends], ignore_index=True).assign(activation=1.0, reads=1.0, influence=0.1, effect=-0.2)
    nodes["latent"] = range(len(nodes))
    later = nodes["dictionary"].to_numpy()[:, None] > nodes["dictionary"].to_numpy()
    edges = np.where(later & nodes["type"].isin(["latent", "logit"]).to_numpy()[:, None], 0.5, 0.0)
    hooks = [f"blocks.{layer}.mlp" for layer in range(3)]
    drawn = AttributionGraph([0, 1], ["a", "b"], {8: "c"}, hooks, nodes, edges, 0.5, 0.5)
    fig = figures.graph(drawn, nodes=1.0, edges=1.0, max_latents=9, width=width)
    boxes = [shape for shape in fig.layout.shapes if shape.type == "rect" and shape.line.width]
    lines = [shape for shape in fig.layout.shapes if shape.type == "path"]
    assert len(boxes) == (5 if width == "column" else 9) and len(lines) >= 10
    placed = [text for trace in fig.data if trace.mode == "text" for text in trace.text if text.endswith(" @ a")]
    assert len(placed) == (3 if width == "column" else 0), "the latents that are not at the last token"
    texts = [text for trace in fig.data if trace.mode == "text" for text in trace.text]
    assert ("ab" in texts) == (width == "column"), "where the tokens have no columns, the prompt stands below"
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in re.findall(r"[-\d.e]+,[-\d.e]+", line.path)]
        at = np.linspace(np.array(points[:-1]), np.array(points[1:]), 20).reshape(-1, 2)  # of the control polygon
        for box in boxes:
            inside = (at > (box.x0 + 0.01, box.y0 + 0.1)) & (at < (box.x1 - 0.01, box.y1 - 0.1))
            assert not inside.all(1).any()


def test_the_public_list_follows_from_the_functions():
    library = {name for name, draw in figures.all_figures().items() if draw.__module__.startswith("interp.")}
    assert {*figures.__all__} == {*library, "all_figures", "save", "quality_latex"}, "interp/figures/__init__.pyi"
    assert {"density_histogram", "save", "quality_latex"} <= set(dir(figures))
    assert not {"with_style", "with_print_layout", "read_metrics", "merge_bins"} & set(dir(figures))
    assert all(callable(getattr(figures, name)) for name in dir(figures))
    with pytest.raises(AttributeError, match="no attribute 'densty_histogram'"):
        figures.densty_histogram  # noqa: B018


def test_a_figure_of_a_users_own_is_listed_with_the_others(monkeypatch):
    monkeypatch.setitem(FIGURES, "straight", None)  # registered below, and taken away behind the test
    monkeypatch.delitem(FIGURES, "straight")

    @figure
    def straight() -> go.Figure:
        return go.Figure()

    assert figures.straight is straight and "straight" in dir(figures)
    with pytest.raises(ValueError, match="the figure 'quality' is already registered: choose another name"):

        @figure
        def quality() -> go.Figure:
            return go.Figure()


def test_escaped_text_is_neither_markup_nor_an_entity_nor_tex():
    assert escape_markup(NAME) == '&lt;a href="https://x"&gt;x&lt;/a&gt;&amp;&lt;b&gt;'
    assert escape_markup("&lt;br>") == "&amp;lt;br&gt;"
    assert escape_markup("$x$") == "&#36;x&#36;" and token_label(" $") == "\u2068␣&#36;\u2069"


def font_sizes(part: Any, key: str = "") -> Iterator[float]:
    """Yield the sizes of all fonts."""
    if isinstance(part, list):
        for each in part:
            yield from font_sizes(each, key)
    elif isinstance(part, dict):
        if key.endswith("font") and "size" in part:
            yield part["size"]
        for name, value in part.items():
            if name not in ("template", "sliders", "updatemenus"):
                yield from font_sizes(value, name)


def strings(part: Any) -> Iterator[str]:
    """Yield all that plotly may show: not the arguments of a slider's steps, the names of frames, or the caption in
    `meta`, which is plain text."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for each in part:
            yield from strings(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == "frames":
                yield from strings([frame["data"] for frame in value])
            elif key not in ("args", "meta"):
                yield from strings(value)
