"""Figures draw what they are given, with titles and units, and are written at the width of print."""

import itertools
import json
import re
import shutil
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest
from kaleido.errors import ChromeNotFoundError

from interp import figures
from interp.features.bins import merge_bins
from interp.features.firing_statistics import bin_edges
from interp.features.logit_chance import chance_span
from interp.figures.name_placement import (
    LETTER_WIDTH,
    N_DIRECTIONS,
    NAME_GAP,
    POINT_NAME,
    count_letters,
    place_names,
    plot_size,
    with_placed_names,
)
from interp.figures.print_layout import MIN_FONT, with_print_layout
from interp.figures.saving import warn_of_type_3, write_images
from interp.figures.theme import (
    BLUE,
    GREY,
    PALE,
    SKY,
    VERDICT_COLOURS,
    WIDTH,
    digit_ticks,
    share_ticks,
    visible_token,
    with_style,
)
from interp.statistics.estimates import wilson


@pytest.fixture
def ranking() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    verdicts = ["monosemantic", "polysemantic", "single-token", "too-rare", "dense", "dead"] * 10
    return pd.DataFrame(
        {
            "latent": range(60),
            "verdict": verdicts,
            "monosemanticity": generator.random(60),
            "concentration": generator.random(60),
            "density": np.where(np.array(verdicts) == "dead", 0, 10 ** -generator.uniform(1, 5, 60)),
            "x": generator.normal(size=60),
            "y": generator.normal(size=60),
            "best_label": ["dna", "hex", None] * 20,
        }
    )


@pytest.fixture
def metrics() -> pd.DataFrame:
    steps = np.arange(1, 21)
    return pd.DataFrame(
        {
            "tokens": steps * 100,
            "loss": 5 / steps,
            "val_loss": [None, 4.0] * 10,
            "fvu": 1 / steps,
            "l0": 20 + steps,
            "dead": steps / 100,
        }
    )


QUALITY = pd.DataFrame(
    {
        "dictionary": ["SAE", "PCA"],
        "l0": [16.0, 16.0],
        "fvu": [0.2, 0.5],
        "ce_recovered": [0.9, 0.4],
        "dead_share": [0.1, 0],
    }
)
CONCEPTS = pd.DataFrame({"label": ["dna", "a<b"], "f1_feature": [0.9, 0.7], "f1_neuron": [0.6, 0.8]})

DOSES = pd.DataFrame({"multiple": [np.nan, 0.0, 2.0], "loss": [3.0, 3.1, 4.0], "kl": [0, 0.1, 2.0], "fires": 0.5})


def test_every_figure_has_a_title_axes_with_titles_and_the_width_of_a_page(ranking, metrics):
    bins = pd.DataFrame({"latent": 0, "low": [0.5, 1.0], "high": [1.0, 2.0], "n": [3, 1]})
    row = pd.Series(
        {
            "latent": 3,
            "top_logit_tokens": [0, 1],
            "top_logits": [2.0, 1.0],
            "bottom_logit_tokens": [1],
            "bottom_logits": [-1.0],
        }
    )
    made = [
        figures.density_histogram(ranking),
        figures.density_histogram({"early": ranking, "late": ranking}),
        figures.activation_histogram(bins, latent=0),
        figures.logit_bars(row, ["a", "b"]),
        figures.training(metrics, panels=["loss"], levels={"unigram": 6.0, "bigram": 4.0}),
        figures.training(metrics),
        figures.training({"a": metrics, "b": metrics}),
        figures.quality(QUALITY),
        figures.score_distributions(ranking, score="monosemanticity"),
        figures.verdicts_by_density(ranking),
        figures.concept_dots(CONCEPTS),
        figures.concept_dots(CONCEPTS.assign(n_label=[10, 200]), n_tokens=1000),
        figures.precision_recall(ranking.assign(explanation_precision=0.5, explanation_recall=0.5)),
        figures.cosine_histogram({"twin": [0.1, 0.9], "chance": [0.1, 0.2]}, null="chance"),
        figures.coactivation_heatmap(pd.DataFrame({"latent": [0, 1], "other": [1, 2], "jaccard": [0.5, 0.2]})),
        figures.steering(DOSES),
        figures.steering({"a": DOSES.assign(concept=0.1), "b": DOSES.assign(concept=0.2)}),
        figures.scores_beside_nulls(ranking.assign(dictionary="SAE")),
    ]
    for figure in made:
        assert figure.layout.title.text and figure.layout.width == WIDTH
        axes = [figure.layout[name] for name in figure.to_dict()["layout"] if name.startswith(("xaxis", "yaxis"))]
        titled = {axis.title.text for axis in axes} - {None} | {note.text for note in figure.layout.annotations}
        has_rows = any(axis.ticktext for axis in figure.select_yaxes())  # whose names need no title
        assert len(titled) >= 2 - has_rows, figure.layout.title.text


def test_what_is_no_table_is_named():
    with pytest.raises(ValueError, match=r"a list is not a table: give a DataFrame, such as run.features.table\(\)"):
        figures.density_histogram([1])


def test_density_histogram_counts_every_latent_and_marks_the_dead_and_the_ultra_low():
    densities = [0.0] * 7 + [3e-7] * 4 + [0.01] * 5 + [1.0]
    figure = figures.density_histogram(pd.DataFrame({"density": densities}))
    alive, dead = figure.data
    assert sum(alive.y) == 10 and list(dead.y) == [7]
    assert max(dead.x) < min(alive.x)
    notes = " ".join(note.text for note in figure.layout.annotations)
    assert "dead: 7" in notes and "ultra-low: 4" in notes
    bracket, *ends, one, other = figure.layout.shapes
    assert max(dead.x) < one.x0 < other.x1 < min(alive.x), "the break of the axis"
    assert bracket.x1 == pytest.approx(-5) and [end.x0 for end in ends] == [bracket.x0, bracket.x1]


@pytest.mark.parametrize("lowest", [1e-9, 5e-9, 1e-7, 1e-3])
def test_a_latent_that_always_fires_is_in_the_density_histogram(lowest):
    alive, _ = figures.density_histogram(pd.DataFrame({"density": [lowest, 1.0]})).data
    assert sum(alive.y) == 2


def test_several_dictionaries_have_their_ultra_low_latents_numbered_on_one_line_above_the_bracket():
    early, late = (pd.DataFrame({"density": [3e-7] * n + [0.01] * 9}) for n in (4, 1))
    figure = figures.density_histogram({"early": early, "late": late})
    [note] = [note for note in figure.layout.annotations if "ultra-low" in note.text]
    counts = [(trace.line.color, n) for trace, n in zip(figure.data[::2], (4, 1), strict=True)]
    assert note.text == "ultra-low: " + ", ".join(f'<span style="color:{hue}">{n}</span>' for hue, n in counts)


def test_a_density_histogram_marks_neither_dead_nor_ultra_low_latents_where_there_are_none():
    figure = figures.density_histogram(pd.DataFrame({"density": [0.01, 0.1]}))
    assert not figure.layout.annotations and not figure.layout.shapes
    assert "no latent is dead, and none has an ultra-low density" in figure.layout.meta["caption"]
    assert "none" not in figure.layout.xaxis.ticktext


def test_the_plot_of_one_row_is_high_enough_for_the_title_of_its_axis():
    drawn = with_print_layout(figures.quality(QUALITY[:1]))
    assert plot_size(drawn)[1] >= 64, "below that height plotly lets the title run over the numbers of the axis"
    assert drawn.layout.xaxis.title.text == "share kept (L0 16)"


def test_a_tall_spike_of_dead_latents_is_cut_off_and_numbered():
    few, many = (pd.DataFrame({"density": [0.0] * n + [0.01] * 10 + [1e-4] * 4}) for n in (15, 900))
    for tables, is_cut, number, height in (
        (few, False, "15 (51.7%)", 15),
        (many, True, "900 (98.5%)", 6),
        ({"a": few, "b": many}, True, ">900<", 0.6 * 10 / 29),
    ):
        figure = figures.density_histogram(tables)
        note = next(note.text for note in figure.layout.annotations if note.text.startswith("dead"))
        spikes = [max(trace.y) for trace in figure.data if len(trace.y) == 1]
        assert ("cut off" in note) == is_cut and number in note and max(spikes) == pytest.approx(height)


def test_dictionaries_of_unlike_sizes_are_drawn_in_shares_of_each():
    small, large = (pd.DataFrame({"density": [0.0] * n + [0.01] * 3 * n}) for n in (2, 50))
    figure = figures.density_histogram({"small": small, "large": large})
    assert [max(trace.y) for trace in figure.data] == [0.75, 0.25, 0.75, 0.25]
    assert figure.layout.yaxis.title.text == "share of each dictionary"


def test_the_level_of_an_ngram_model_is_named_where_the_falling_curve_is_not():
    losses = pd.DataFrame({"tokens": np.arange(50), "loss": np.linspace(8, 3, 50)})
    figure = figures.training(losses, levels={"high": 7.0, "low": 3.5, "below": 2.0})
    sides = [(note.yanchor, note.xanchor) for note in figure.layout.annotations]
    assert sides == [("bottom", "right"), ("bottom", "right"), ("top", "left")]


def test_density_histogram_of_latents_that_are_all_dead_has_only_the_spike():
    alive, dead = figures.density_histogram(pd.DataFrame({"density": [0.0, np.nan]})).data
    assert sum(alive.y) == 0 and list(dead.y) == [2]


@pytest.mark.parametrize(
    "first, last, at_most", [(300, 340, 32), (0, 5, 8), (200, 420, 32), (0, 639, 16), (333, 333, 4)]
)
def test_merged_bins_keep_every_firing_in_bars_about_equally_wide(first, last, at_most):
    edges = bin_edges()[first : last + 2].astype(float)
    counts = np.random.default_rng(0).integers(0, 50, last - first + 1)
    bars, sums = merge_bins(edges[:-1], edges[1:], counts, at_most=at_most)
    assert len(sums) <= at_most and len(bars) == len(sums) + 1
    assert sums.sum() == counts.sum() and bars[0] <= edges[1] and edges[-1] <= bars[-1]
    widths = np.log2(bars[1:] / bars[:-1])
    assert widths.max() < 1.25 * widths.min()
    for low, high, total in zip(bars[:-1], bars[1:], sums, strict=True):
        at = np.maximum(edges[:-1], edges[1] / 2)
        assert total == counts[(at >= low) & (at < high)].sum()


def test_activation_histogram_draws_the_bins_of_its_latent():
    edges = bin_edges()[384:401].astype(float)  # 1 to 2
    bins = pd.DataFrame({"latent": 0, "low": edges[:-1], "high": edges[1:], "n": [1, *[0] * 12, 1_000, 500, 0]})
    bins = pd.concat([bins, pd.DataFrame({"latent": [1], "low": [9.0], "high": [9.5], "n": [8]})])
    figure = figures.activation_histogram(bins, latent=0)
    assert list(figure.data[0].y) == [1_500] and list(figure.data[0].x) == [27 / 16]
    assert "The weakest firing is not drawn." in figure.layout.meta["caption"]
    with pytest.raises(ValueError, match="one latent"):
        figures.activation_histogram(bins)
    with pytest.raises(ValueError, match="latent 5"):
        figures.activation_histogram(bins, latent=5)


def test_training_draws_the_given_panels_and_a_line_for_each_level(metrics):
    figure = figures.training(metrics, panels=["loss"], levels={"unigram": 6.5, "bigram": 4.25})
    assert sorted(figure.data[1].x) == list(metrics["tokens"][1::2]) and len(figure.data) == 2
    assert [shape.y0 for shape in figure.layout.shapes] == [6.5, 4.25]
    beside = figures.training(metrics, panels=["l0", "loss"], levels={"unigram": 6.5})
    assert [shape.yref for shape in beside.layout.shapes] == ["y2"], "the panel of the loss"
    assert [trace.yaxis for trace in beside.data] == ["y", "y2", "y2"]
    with pytest.raises(ValueError, match="levels are losses, but the panels are l0: add loss"):
        figures.training(metrics, panels=["l0"], levels={"unigram": 6.5})
    with pytest.raises(ValueError, match="no metric 'val_loss' to draw; did you mean loss"):
        figures.training(metrics, panels=["val_loss"])
    both = figures.training(metrics, panels=["dead", "l0"])
    assert [list(trace.y) for trace in both.data] == [list(metrics["dead"]), list(metrics["l0"])]
    assert not both.layout.shapes
    with pytest.raises(ValueError, match="grad_norm"):
        figures.training(metrics, panels=["grad_norm"])


def written(folder, metrics, **config):
    """Return a finished training, whose log ends in half a line."""
    folder.mkdir(parents=True)
    lines = [json.dumps(row) for row in metrics.drop(columns="val_loss").to_dict(orient="records")]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"tokens": 9')
    (folder / "results.json").write_text(json.dumps({"config": config}))
    return folder


def test_training_draws_the_same_from_a_folder_a_run_and_a_table(metrics, tmp_path):
    folder = written(tmp_path / "run/sae", metrics)
    (tmp_path / "run/run.toml").touch()
    table = metrics.drop(columns="val_loss")
    for source in (folder, str(folder), tmp_path / "run", SimpleNamespace(path=tmp_path / "run"), table):
        figure = figures.training(source)
        assert [list(trace.y) for trace in figure.data] == [list(table[c]) for c in ("fvu", "l0", "dead")]
        assert figure.layout.title.text == "Training of the dictionary"
    with pytest.raises(ValueError, match="holds no metrics.jsonl"):
        figures.training(tmp_path)


def test_training_of_a_sweep_is_named_by_what_differs(metrics, tmp_path):
    def names(*configs):
        sweep = tmp_path / str(len(list(tmp_path.iterdir())))
        for i, config in enumerate(configs):
            written(sweep / str(i), metrics, **config)
        return [trace.name for trace in figures.training(sweep).data if trace.showlegend]

    ks = [{"architecture": "topk", "k": 2**i, "lr": None} for i in range(11)]
    assert names(*ks) == [f"k={2**i}" for i in range(11)]
    relu = {"architecture": "relu", "l1": 5.0, "clip": 1.0}
    assert names(ks[0], relu) == ["topk", "relu"]
    assert names(ks[0], ks[1], relu) == ["topk k=1", "topk k=2", "relu"]
    assert names(relu, relu) == ["0", "1"]
    (tmp_path / "0/10/results.json").unlink()
    assert [trace.name for trace in figures.training(tmp_path / "0").data if trace.showlegend] == list(
        map(str, range(11))
    )
    assert len(figures.training({"old": tmp_path / "0", "new": metrics}).data) == 12 * 3


def test_training_of_a_model_has_its_held_out_loss(metrics):
    figure = figures.training(metrics[["tokens", "loss", "val_loss"]].assign(grad_norm=1.0, lr=1e-3))
    assert sorted(figure.data[-1].x) == list(metrics["tokens"][1::2]) and figure.data[-1].name == "validation"
    assert figure.layout.title.text == "Training of the model" and figure.layout.yaxis.type != "log"


def test_the_verdicts_of_a_bin_of_density_are_shares_of_its_latents(ranking):
    verdicts = ["monosemantic"] * 20 + ["too-rare"] * 10 + ["dense"] * 19 + ["dead"]
    rows = pd.DataFrame({"verdict": verdicts, "density": [0.01] * 30 + [0.3] * 19 + [0.0]})
    number, mono, rare = figures.verdicts_by_density(rows).data
    assert (number.y.sum(), mono.name, rare.name) == (49, "monosemantic", "untested"), "the dead one has no density"
    at = {float(n): share for n, share in zip(number.y, zip(mono.y, rare.y, strict=True), strict=True)}
    assert at[30.0] == pytest.approx((2 / 3, 1 / 3)) and at[19.0] == at[0.0] == (0, 0), "of so few there are no shares"
    assert [mono.marker.color, rare.marker.color] == [VERDICT_COLOURS["monosemantic"], PALE]
    poly = figures.verdicts_by_density(rows.replace("too-rare", "polysemantic")).data[2]
    assert poly.marker.pattern.shape and not mono.marker.pattern.shape, "neighbours differ without colours too"
    by_density = figures.verdicts_by_density(rows)
    low, high = by_density.layout.xaxis.range
    assert (
        low < np.log10(0.01) < high < np.log10(0.3) and "The 19 latents of lower" in by_density.layout.meta["caption"]
    )


def test_the_cells_of_precision_and_recall_are_shares_of_a_verdict():
    rows = [("monosemantic", 1.0, 0.35), ("monosemantic", 0.95, 0.33), *[("polysemantic", 0.0, 0.0)] * 298]
    rows += [("dense", 0.5, 0.5), ("dead", 1.0, 1.0)]
    table = pd.DataFrame(rows, columns=["verdict", "explanation_precision", "explanation_recall"])
    figure = figures.precision_recall(pd.concat([table[:2]] * 25 + [table]).assign(latent=1))
    titles = [note.text for note in figure.layout.annotations][:-4]  # and two F1 in each panel
    assert titles == ["monosemantic (52)", "polysemantic (298)"], "one latent is dense"
    cells = [10 ** np.array(trace.z) for trace in figure.select_traces({"type": "heatmap"})]
    assert [np.nansum(each) for each in cells] == pytest.approx([1, 1])
    assert cells[0][9, 3] == pytest.approx(1) and cells[1][0, 0] == pytest.approx(1)
    curve = next(figure.select_traces({"mode": "lines"}))
    recall, precision = np.array(curve.x), np.array(curve.y)
    f1 = 2 * recall * precision / (recall + precision)
    assert set(f1[~np.isnan(f1)].round(6)) == {0.5, 0.8} and np.nanmax(precision) == np.nanmax(recall) == 1


def test_the_recovered_cross_entropy_has_its_interval():
    explained, recovered = figures.quality(QUALITY.assign(ce_recovered_se=[0.01, 0.02])).data
    assert list(recovered.error_x.array) == pytest.approx([0.0196, 0.0392]) and explained.error_x.array is None
    assert figures.quality(QUALITY).data[1].error_x.array is None


def test_score_distributions_leave_out_what_was_not_tested():
    verdicts = ["monosemantic"] * 3 + ["polysemantic"] * 2 + ["too-rare", "dead", "unranked"]
    table = pd.DataFrame({"verdict": verdicts, "monosemanticity": [0.9, 0.8, 0.7, 0.1, 0.2, 0.0, 0.0, 0.0]})
    drawn = figures.score_distributions(table, score="monosemanticity")
    assert drawn.layout.yaxis.ticktext == ("monosemantic (3)",), "the others are fewer"
    assert "The 2 polysemantic latents are not drawn" in drawn.layout.meta["caption"]
    of_many = pd.concat([table[:5]] * 10)
    ridges = figures.score_distributions(of_many, score="monosemanticity")
    assert ridges.layout.yaxis.ticktext == ("monosemantic (30)", "polysemantic (20)")
    mono, poly, _, *medians = ridges.data
    assert [line.x[0] for line in medians] == pytest.approx([0.8, 0.15])
    assert (0 - min(mono.y)) / (1 - min(poly.y)) == pytest.approx((1 / 3) / (1 / 2)), "one scale"


def names_in(figure: go.Figure) -> list[go.layout.Annotation]:
    return [note for note in figure.layout.annotations if note.name == POINT_NAME]


def named_points(names: list[str], x: np.ndarray, y: np.ndarray) -> go.Figure:
    figure = go.Figure(go.Scatter(x=x, y=y, text=names, mode="markers+text"))
    with_style(figure, "Points with names", height=520).update_xaxes(range=[0, 1]).update_yaxes(range=[0, 1])
    return with_placed_names(figure)


def test_every_point_of_a_crowd_is_named_once_in_print():
    x, y = np.array([[0.4], [0.7]]) + np.random.default_rng(1).random((2, 8)) / 50
    names = ["python comment", "html", "python keyword", "dna", "python string", "latex", "uuid", "german"]
    figure = named_points(names, x, y)
    for drawn in (figure, *(with_print_layout(figure, width) for width in ("column", "icml", "page"))):
        assert sorted(name.text for name in names_in(drawn)) == sorted(names), "laid out anew, each stands once"
        assert list(drawn.data[0].hovertext) == names and {name.showarrow for name in names_in(drawn)} == {True, False}
        assert all("255,255,255" in name.bgcolor for name in names_in(drawn)), "a name is legible on other points"


def test_the_frequency_of_a_concept_stands_beside_what_detects_it():
    concepts = CONCEPTS.assign(n_label=[10, 200])
    alone, beside = figures.concept_dots(concepts), figures.concept_dots(concepts, n_tokens=1000)
    assert len(beside.data) == len(alone.data) + 2
    [always] = beside.select_traces({"name": "always yes"})
    assert list(always.x) == pytest.approx([2 * 0.01 / 1.01, 2 * 0.2 / 1.2])
    order = concepts["f1_feature"].argsort()[::-1]
    assert list(beside.data[-1].x) == (concepts["n_label"] / 1000).iloc[order].tolist()
    assert beside.layout.xaxis2.type == "log" and beside.layout.yaxis2.range == beside.layout.yaxis.range


def test_another_order_names_what_the_first_leaves_out():
    """From above, the names of the higher points take the places that the lowest needs."""
    x, y = np.array([60.0, 70.0, 80.0]), np.array([10.0, 25.0, 5.0])
    sides, leaders = place_names(x, y, ["a", "efghijk", "efghijk"], 10, (100, 30))
    assert all(side or i in leaders for i, side in enumerate(sides))


def test_names_side_by_side_stay_apart():
    """Two points in a row, the second a few pixels behind the end of the name of the first."""
    ends = NAME_GAP + LETTER_WIDTH * 10 * len("first")
    for gap, side in ((3.0, "middle left"), (20.0, "middle right")):
        x = np.array([100.0, 100 + ends + NAME_GAP + gap])
        assert place_names(x, np.array([50.0, 50.0]), ["first", "second"], 10, (400, 100))[0][0] == side


def test_the_line_to_a_name_passes_between_the_points_around_it():
    """A ring of points around one, without the point in one direction."""
    angles = (np.arange(N_DIRECTIONS) + 0.5) * 2 * np.pi / N_DIRECTIONS
    for missing in range(N_DIRECTIONS):
        ring = np.delete(angles, missing)
        x, y = 200 + np.append(26 * np.cos(ring), 0), 200 + np.append(26 * np.sin(ring), 0)
        _, leaders = place_names(x, y, [""] * len(ring) + ["in the middle"], 10, (400, 400))
        right, up = leaders[len(ring)]
        assert np.arctan2(up, right) % (2 * np.pi) == pytest.approx(angles[missing])


def test_the_name_of_a_line_does_not_stand_on_another_line():
    tall, low = np.full(100, 0.5), np.concatenate([np.full(40, 0.55), np.linspace(0.56, 0.9, 60)])
    drawn = with_print_layout(figures.cosine_histogram({"a line with a name": low, "tall": tall}, null="tall"))
    [name] = [note for note in drawn.layout.annotations if note.text == "a line with a name"]
    assert name.xanchor == "left", "above its peak is the tall line"


def test_long_labels_and_titles_leave_room_for_the_plot():
    rows = [(i, True, 0.2, 0.1, 0.3, "a rule in words that is long, <b>and then goes on") for i in range(3)]
    table = pd.DataFrame(rows, columns=["latent", "differs", "difference", "low", "high", "rule"])
    figure = figures.corpus_differences(table, names=("code in Python", "books"))
    for width in ("icml", "page"):
        drawn = with_print_layout(figure, width)
        most = 0.5 * drawn.layout.width / (LETTER_WIDTH * MIN_FONT)
        assert all(count_letters(label) <= most for label in drawn.layout.yaxis.ticktext)
        lines = drawn.layout.xaxis.title.text.split("<br>")
        assert len(lines) > 1 and max(map(len, lines)) < most and " ".join(lines) == figure.layout.xaxis.title.text
    assert with_print_layout(figure).layout.yaxis.ticktext[0] == "#0 a rule in words that is…"
    assert figure.layout.yaxis.ticktext[0] == "#0 a rule in words that is long, &lt;b&gt;and then goes…"


def test_ticks_of_shares_are_in_percent_and_do_not_crowd():
    assert share_ticks(2e-3, 0.5)["ticktext"] == ["1%", "10%"]
    assert share_ticks(1e-6, 1.0)["ticktext"] == ["0.0001%", "", "0.01%", "", "1%", "", "100%"]


def test_printed_lines_keep_every_corner():
    drawn = with_print_layout(figures.cosine_histogram({"a": [0.1, 0.2, 0.2]}, axis="cosine with a"))
    assert drawn.data[0].line.simplify is False and drawn.data[0].line.shape == "hv"
    assert len(drawn.data[0].x) == len(drawn.data[0].y) and drawn.layout.xaxis.title.text == "cosine with a"


def test_ridges_of_scores_have_one_scale():
    table = pd.DataFrame({"dictionary": ["SAE"] * 4 + ["null"] * 8, "verdict": "monosemantic"})
    table["monosemanticity"] = [0.1, 0.5, 0.9, 0.9, *np.linspace(0, 1, 8)]
    figure = figures.scores_beside_nulls(table)
    dictionary, null, _ = figure.data
    scale = figure.layout.yaxis2
    assert scale.ticktext == ("0", "0", "20%", "20%") and scale.range == figure.layout.yaxis.range
    assert scale.tickvals[2] == pytest.approx(min(dictionary.y) * 0.2 / 0.5), "well below the zero of the next row"
    assert dictionary.y[0] == dictionary.y[-1] == 0 and null.y[0] == null.y[-1] == 1
    assert (0 - min(dictionary.y)) / (1 - min(null.y)) == pytest.approx((2 / 4) / (1 / 8))


@pytest.mark.parametrize("levels, rows", [((16, 16), ["SAE", "PCA"]), ((16, 8), ["SAE (L0 16)", "PCA (L0 8)"])])
def test_an_l0_that_all_dictionaries_have_is_named_once(levels, rows):
    figure = figures.quality(QUALITY.assign(l0=levels))
    assert list(figure.layout.yaxis.ticktext) == rows
    assert ("L0 16" in figure.layout.xaxis.title.text) == (len(set(levels)) == 1)


def test_of_an_odd_number_of_panels_the_first_is_wide(metrics):
    figure = figures.training(metrics.drop(columns=["val_loss", "loss"]).assign(loss=1.0))
    assert [axis.domain == (0, 1) for axis in figure.select_xaxes()] == [True, False, False]
    assert figure.layout.annotations[0].text == "FVU (log scale)"


@pytest.mark.parametrize("span", (1.5, 2, 3, 5, 15, 50, 500, 1e5))
def test_a_logarithmic_axis_has_several_ticks_and_no_crowd_of_them(span):
    for low in np.geomspace(0.01, 0.1, 20):
        assert 2 <= sum(low <= tick <= span * low for tick in digit_ticks(low, span * low)) <= 8


def test_a_figure_that_was_read_from_json_is_laid_out_as_before():
    points = named_points(["a", "b"], np.array([0.6, 0.8]), np.array([0.9, 0.7]))
    for figure in (points, figures.cosine_histogram({"a": [0.1], "b": [0.9]})):
        read = plotly.io.from_json(figure.to_json())
        assert with_print_layout(read).to_json() == with_print_layout(figure).to_json()


def test_what_lines_and_colours_mean_is_in_the_key():
    keys = {trace.name for trace in figures.steering(DOSES).data if trace.showlegend}
    assert keys == {"unchanged model"}
    assert not [trace for trace in figures.steering(DOSES.dropna()).data if trace.name == "unchanged model"]
    correlations = pd.DataFrame({"correlation": [0.5, 0.9], "null": [0.1, 0.2]})
    assert "median" in {trace.name for trace in figures.universality(correlations).data}


def test_corpus_text_is_never_markup():
    hostile = "</script><img src=x onerror=alert(1)>"
    row = {"top_logit_tokens": [0], "top_logits": [1.0], "bottom_logit_tokens": [], "bottom_logits": []}
    ticks = figures.logit_bars(row, [hostile]).layout.yaxis.ticktext
    assert "↵␣×9x" in figures.logit_bars(row, ["\n" + 9 * " " + "x"]).layout.yaxis.ticktext[0]
    assert "<" not in ticks[0] and "&lt;" in ticks[0]
    assert visible_token("\x06\r\t ") == "␆⇥␣"
    assert visible_token(" ⟨e3⟩⟨82⟩") == "␣⟨e3 82… む–タ⟩", "the spaces of a name are not the token's"
    assert figures.concept_dots(CONCEPTS).layout.yaxis.ticktext[1].count("<") == 0


def test_a_table_without_its_columns_is_refused_by_name(ranking):
    with pytest.raises(ValueError, match="density"):
        figures.verdicts_by_density(ranking.drop(columns="density"))
    names = ("top_logit_tokens", "top_logits", "bottom_logit_tokens", "bottom_logits")
    for missing in (None, np.nan, pd.NA):
        with pytest.raises(ValueError, match="no logit effects"):
            figures.logit_bars(dict.fromkeys(names, missing), [])


def test_a_rule_that_is_missing_is_not_written():
    row = {"latent": 7, "differs": True, "difference": 0.2, "low": 0.1, "high": 0.3, "rule": np.nan}
    assert figures.corpus_differences(pd.DataFrame([row])).layout.yaxis.ticktext == ("#7",)


def test_verdict_shares_are_of_the_tested_latents_and_the_untested_stand_apart():
    counts = {"monosemantic": 20, "single-token": 10, "polysemantic": 10, "too-rare": 8, "dead": 9, "one_meaning": 30}
    names = ["SAE", "twin seed", "frozen decoder"]
    rows = [(name, verdict, n, n / 48) for name in names for verdict, n in counts.items()]
    table = pd.DataFrame(rows, columns=["dictionary", "verdict", "n", "share"])
    table["sure_share"] = np.where(table["verdict"] == "one_meaning", 24 / 48, np.nan)
    drawn = figures.verdict_shares(table)
    marks = [trace for trace in drawn.data if trace.x[0] is not None]
    for all_of_them, sure, untested in (marks[:3], marks[3:6], marks[6:]):
        assert (all_of_them.x[0], sure.x[0], untested.x[0]) == (30 / 40, 24 / 40, 8 / 48)
        assert [mark.xaxis for mark in (all_of_them, sure, untested)] == ["x", "x", "x2"]
        low, high = wilson(24, 40)
        assert sure.marker.symbol == "circle-open"
        assert sure.error_x.array[0] == pytest.approx(high - 0.6) and sure.error_x.arrayminus[0] == pytest.approx(
            0.6 - low
        )
    assert [mark.marker.color for mark in marks[::3]] == [BLUE, SKY, GREY], "the twin seed is no null"
    assert not any(trace.cliponaxis for trace in marks), "a mark at 0% is whole"
    keys = [trace for trace in drawn.data if trace.showlegend]
    assert [key.legendgroup for key in keys[:2]] == [mark.legendgroup for mark in marks[:2]], "a click hides its marks"
    assert list(drawn.layout.yaxis.ticktext) == [f"{name} (40)" for name in names], "with the latents of each share"
    scores = pd.DataFrame({"dictionary": "SAE", "verdict": ["monosemantic"] * 40 + ["too-rare"] * 8})
    beside = figures.scores_beside_nulls(scores.assign(monosemanticity=0.5))
    assert beside.layout.yaxis.ticktext == ("SAE (40)",), "the same number as in the distributions"
    with pytest.raises(ValueError, match="sure_share"):
        figures.verdict_shares(table.drop(columns="sure_share"))


def test_save_keeps_the_given_width_and_letters_of_7_points_or_more(ranking):
    figure = figures.density_histogram(ranking)
    figure.update_layout(annotations=[{"text": "x", "font": {"size": 4}}])
    narrow, wide, own = (with_print_layout(figure, width, title=True) for width in ("column", "page", 190))
    assert [round(each.layout.width * 25.4 / 96, 1) for each in (narrow, wide, own)] == [84.5, 139.7, 190.0]
    assert narrow.layout.annotations[0].font.size == pytest.approx(7 * 96 / 72)
    title, size = narrow.layout.yaxis.title, narrow.layout.font.size
    assert title.text == f'<span style="font-size:{size}px">number of latents</span>' and title.font.size > size, (
        "plotly leaves room for capitals of the font alone, at the edge of the picture"
    )
    assert MIN_FONT <= narrow.layout.title.font.size < figure.layout.title.font.size
    assert figure.layout.width == WIDTH and own.layout.font.size == figure.layout.font.size
    assert (
        with_print_layout(figure).layout.title.text is None
        and with_print_layout(figure).layout.height < narrow.layout.height
    )
    with pytest.raises(ValueError, match="width='wide' must be one of column, icml, page"):
        with_print_layout(figure, "wide")


def test_in_print_the_key_is_a_text_and_lines_are_named_where_there_is_room(ranking):
    key = with_print_layout(figures.verdicts_by_density(ranking))
    [note] = [note for note in key.layout.annotations if "■" in note.text]
    assert (
        key.layout.showlegend is False and "single-token" in note.text and VERDICT_COLOURS["single-token"] in note.text
    )
    marks = go.Figure()
    for symbol in ("square-open", "square", "diamond-open", "circle"):
        marks.add_scatter(x=[1], y=[1], mode="markers", marker={"symbol": symbol, "color": "black"}, name=symbol)
    [note] = with_print_layout(marks).layout.annotations
    assert [note.text.count(glyph) for glyph in "□■◇●"] == [1, 1, 1, 1]
    lines = figures.cosine_histogram({"one": [0.1] * 9, "two": [0.9] * 8}, null="one")
    assert {note.text for note in with_print_layout(lines).layout.annotations} == {"one", "two"}
    flank = {"tall": [0.5] * 9 + [0.6] * 2, "low": [0.55] * 2 + [0.65] * 3 + [0.85] * 2}
    assert {note.text for note in with_print_layout(figures.cosine_histogram(flank)).layout.annotations} == {*flank}
    close = figures.cosine_histogram({f"a long name, number {i}": [0.5] * 9 for i in range(6)})
    assert any("━" in note.text for note in with_print_layout(close).layout.annotations), "without room there is a key"


def test_a_title_in_print_is_above_the_key():
    figure = figures.quality(QUALITY)
    with_title, without = (with_print_layout(figure, title=title).layout for title in (True, False))
    assert with_title.margin.t - without.margin.t > with_title.title.font.size > 0


def test_examples_are_laid_out_for_one_width():
    rows = {"tokens": [[3, 0, 1, 2, 3]], "values": [[0.0, 0.0, 2.0, 1.0, 0.0]], "row": [7], "start": [5]}
    vocab = [" a <b>", " firing", "\n" + "x" * 46, " cut"]
    figure = figures.example_text(pd.DataFrame(rows), vocab, latent=3)
    trace, shares = figure.data
    assert list(trace.text) == ["\u00a0cut", "\u00a0a\u00a0&lt;b&gt;", "␣firing"], "another does not fit"
    [key] = figure.layout.annotations
    assert key.text == "of the largest activation, 2" and key.y > max(trace.y)
    boxes = [shape.fillcolor for shape in figure.layout.shapes if shape.type == "rect"]
    shades = dict(zip(shares.text, boxes[1:], strict=True))
    assert boxes[0] == shades["100%"] == "rgba(230,159,0,0.87)", "the shades are explained below"
    [under] = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert (under.x0, under.x1) == (32, 39), "of 54 letters"
    assert with_print_layout(figure).layout.width == figure.layout.width
    with pytest.raises(ValueError, match="laid out 84.5 mm wide, not 139.7"):
        with_print_layout(figure, "page")
    with pytest.raises(ValueError, match="no examples"):
        figures.example_text(pd.DataFrame(rows).head(0), vocab)


def test_examples_begin_and_end_with_whole_words():
    vocab = ["ERT", "RUDE", " said", " HAM", "LET", " the", " pri", "北", "京", "<|bos|>"]

    def line(tokens, fires, width=60):
        values = [float(i == fires) for i in range(len(tokens))]
        rows = pd.DataFrame({"tokens": [tokens], "values": [values], "row": [fires], "start": [0]})
        trace = figures.example_text(rows, vocab, width=width).data[0]
        return "".join(trace.text).replace("\u00a0", " ").replace("␣", " ")

    assert line([0, 1, 2, 3, 4, 5, 6], 4) == " said HAMLET the", "without the words at its ends, which may be cut"
    assert line([0, 1, 2, 5, 6], 1) == "ERTRUDE said the", "the firing stays"
    assert line([2, 2, 2, 2, 3, 4, 5, 6], 4) == " said said said said HAMLET the"
    assert line([2, 2, 2, 0, 1, 2, 3, 4], 4, width=40) == " said saidERTRUDE said", "HAM would fit"
    assert line([7, 8, 7, 8], 1) == "京北", "each of these is a word"
    assert line([2, 2, 9, 2, 5, 5], 3) == " said the", "a document begins there"
    assert "|bos|" in line([2, 2, 9, 2, 5, 5], 2), "it fires there"


def test_examples_are_below_one_another_where_they_fire_and_unlike_ones_come_first():
    tokens = [[0, 1], [2, 1, 3], [0, 4], [0, 1, 3]]
    rows = pd.DataFrame({"tokens": tokens, "row": [1, 11, 21, 31], "start": [0, 10, 20, 30]})
    rows["values"] = rows["tokens"].map(lambda tokens: [1.0] * len(tokens))
    vocab = [" a", " be", " so", "*", " bee"]
    figure = figures.example_text(rows, vocab)
    under = [(shape.x0, shape.y0) for shape in figure.layout.shapes if shape.type == "line"]
    assert len({x for x, _ in under}) == 1 and len({y for _, y in under}) == 4
    texts = figures.example_text(rows, vocab, n=2).data[0].text
    shown = "".join(texts)
    assert shown == "␣a␣be␣a␣bee", "the second and the last fire in the word of the first"
    texts = figures.example_text(rows, vocab, n=4).data[0].text
    assert "".join(texts) == shown, "half of them are unlike, and no others are drawn"


def test_example_text_joins_the_bytes_of_a_letter_and_reads_arabic_from_the_right():
    vocab = [" ب⟨d9⟩", "⟨84⟩", "12", "34", "⟨d8⟩", "."]
    rows = [{"latent": 3, "tokens": [0, 1, 2, 3, 5, 4], "values": [0.0, 2, 0, 1, 0, 0], "row": 1, "start": 0}]
    figure = figures.example_text(pd.DataFrame(rows), vocab, latent=3)
    trace = figure.data[0]
    bare = [text.strip("\u2067\u2069") for text in trace.text]
    assert bare == [".⟨d8… ء–غ⟩", "1234", "\u00a0بل"], "the letters of a word are one text, in which they are joined"
    assert list(trace.x) == sorted(trace.x)
    of_line = [shape for shape in figure.layout.shapes if shape.type == "rect" and shape.y0 < max(trace.y)]
    shades = sorted((shape.x0, shape.fillcolor) for shape in of_line)
    assert [fill for _, fill in shades] == ["rgba(230,159,0,0.49)", "rgba(230,159,0,0.87)"]
    [under] = [shape for shape in figure.layout.shapes if shape.type == "line"]
    n_cells = figure.layout.xaxis.range[0] + figure.layout.xaxis.range[1]
    assert (under.x0, under.x1) == (int(0.6 * n_cells), int(0.6 * n_cells) + 1), "where other lines have the firing too"


def test_coactivation_heatmap_orders_by_coactivation_and_leaves_unknown_pairs_empty():
    pairs = pd.DataFrame([(0, 1, 0.5), (2, 3, 0.4), (1, 4, 0.3)], columns=["latent", "other", "jaccard"])
    figure = figures.coactivation_heatmap(pairs, n=3)
    heat, key = figure.data
    assert (heat.zmin, heat.zmax) == (0, 1) and heat.colorbar.title.text == "Jaccard index"
    known = ~np.isnan(np.array(heat.z))
    assert known.sum() == 4 and key.name == "a latent with itself, or a pair that is not known"
    assert key.marker.color == figure.layout.plot_bgcolor, "the grey behind the cells is explained"
    ticks = figure.layout.yaxis.ticktext
    assert set(ticks) == {"\u20680\u2069", "\u20681\u2069", "\u20684\u2069"}
    assert np.nansum(np.array(heat.z)) == pytest.approx(1.6)
    assert len(figures.coactivation_heatmap(pairs, n=50).layout.yaxis.ticktext) == 5
    named = figures.coactivation_heatmap(pairs, n=3, names=pd.Series({1: "one and many others " * 4}))
    [long] = set(named.layout.yaxis.ticktext) - set(ticks)
    assert long == "\u20681 one and many others one…\u2069"


def test_training_omits_a_constant_panel_unless_it_is_named(metrics):
    constant = metrics.assign(l0=8.0)
    titles = {note.text for note in figures.training(constant).layout.annotations}
    assert "FVU (log scale)" in titles and "L0 (latents a token)" not in titles
    assert figures.training(constant, panels=["l0"]).layout.yaxis.title.text == "L0 (latents a token)"


def test_the_quality_table_as_latex():
    table = QUALITY.assign(dictionary=["SAE", "a_b & 50%"], ce_recovered=[np.nan, -0.5])
    lines = figures.quality_latex(table).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrr}" and lines[-1] == r"\end{tabular}"
    assert lines[4] == r"SAE & 16.0 & 0.200 & -- & 10.0\% \\"
    assert lines[5] == r"a\_b \& 50\% & 16.0 & 0.500 & $-$0.500 & 0.0\% \\"


def test_save_writes_what_the_ending_says(ranking, tmp_path):
    figure = figures.score_distributions(ranking, score="monosemanticity")
    assert figures.save(figure, tmp_path / "new" / "scores.json").exists()
    assert figures.save(figure, tmp_path / "scores.json").exists()
    assert json.loads((tmp_path / "scores.json").read_text())["layout"]["width"] == WIDTH
    made_from = SimpleNamespace(provenance=lambda: {"seed": {"sae": 3}, "config_sha256": "ab"})
    figures.save(figure, tmp_path / "again.json", made_from=made_from)
    beside, again = (json.loads((tmp_path / f"{name}.json.json").read_text()) for name in ("scores", "again"))
    assert again["made_from"] == {"seed": {"sae": 3}, "config_sha256": "ab"} and beside["made_from"] == {}
    assert beside["figure_sha256"] == again["figure_sha256"] and "interp" in beside["versions"]
    assert beside["program"] == Path(sys.argv[0]).name and "command" not in beside
    assert "plotly.js" in figures.save(figure, tmp_path / "scores.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="scores.doc must end in one of .svg"):
        figures.save(figure, tmp_path / "scores.doc")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_figure_takes_the_place_of_a_figure_and_of_nothing_else(ranking, tmp_path):
    figure, file = figures.score_distributions(ranking, score="monosemanticity"), tmp_path / "scores.json"
    figures.save(figure, file)
    figures.save(figure, file)
    for name in ("mine.json", "beside.html.json"):
        (tmp_path / name).write_text("{}")
        path = tmp_path / name.replace(".html.json", ".html")
        with pytest.raises(ValueError, match=f"{name} already exists.*overwrite=True"):
            figures.save(figure, path)
        assert (tmp_path / name).read_text() == "{}"
        figures.save(figure, path, overwrite=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.toml").touch()
    with pytest.raises(ValueError, match="lies in the run folder"):
        figures.save(figure, tmp_path / "run" / "scores.html")
    for width in (float("inf"), float("nan"), 0, -1, 1e9):
        with pytest.raises(ValueError, match="must be above 0 mm and below"):
            figures.save(figure, tmp_path / "scores.svg", width=width)


@pytest.mark.skipif(not (shutil.which("chromium") or shutil.which("google-chrome")), reason="needs Chrome or Chromium")
def test_images_have_the_width_of_print(ranking, tmp_path):
    figure = figures.score_distributions(ranking, score="monosemanticity")
    column, dots, page_wide = (tmp_path / f"scores.{ending}" for ending in ("svg", "png", "pdf"))
    of_column = with_print_layout(figure)
    write_images({column: of_column, dots: of_column, page_wide: with_print_layout(figure, "page")})
    with pytest.importorskip("PIL.Image").open(dots) as image:
        assert 25.4 * image.width / image.info["dpi"][0] == pytest.approx(84.5, abs=0.2)
    assert 'width="319' in column.read_text()
    written = page_wide.read_bytes()
    page = [float(number) for number in re.search(rb"MediaBox \[([^]]*)", written)[1].split()]
    drawn = b"".join(_inflated(written[found.end() :]) for found in re.finditer(rb"stream\r?\n", written))
    scale = float(drawn.split()[0])
    clip = [scale * float(number) for number in re.search(rb"(.*) re\nW\* n", drawn)[1].split()]
    assert page == pytest.approx(clip, abs=1) and page[2] == pytest.approx(139.7 / 25.4 * 72, abs=1)


def test_only_a_figure_with_a_formula_asks_the_network_for_mathjax(tmp_path, monkeypatch):
    pages = []

    def drawn(specs, *, kopts, **_):
        pages.append(kopts["page_generator"].generate_index())
        Path(specs[0]["path"]).touch()

    monkeypatch.setattr("kaleido.write_fig_from_object_sync", drawn)
    for title in ("5 $", "$x^2$"):
        write_images({tmp_path / "figure.pdf": go.Figure(go.Bar(y=[1])).update_layout(title=title)})
    assert ["mathjax" in page for page in pages] == [False, True] and "https://" not in pages[0]


def _inflated(stream: bytes) -> bytes:
    """Return the decompressed stream of a PDF; nothing if it is not compressed."""
    try:
        return zlib.decompressobj().decompress(stream)
    except zlib.error:
        return b""


def test_type_3_letters_of_a_pdf_are_reported_with_the_font_to_install(tmp_path, caplog):
    warn_of_type_3(tmp_path / "a.pdf", b"<< /Type /Font /Subtype /CIDFontType2 >>")
    assert not caplog.text
    warn_of_type_3(tmp_path / "a.pdf", b"<< /Type /Font\n/Subtype /Type3 >>")
    assert "a.pdf holds letters as Type 3" in caplog.text and "WenQuanYi Zen Hei" in caplog.text


def test_names_stay_where_they_are_while_an_axis_has_no_range():
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], text=["a", "b"], mode="markers+text"))
    assert with_print_layout(figure).data[0].text == ("a", "b")


def test_an_image_without_a_browser_is_refused_in_words(ranking, tmp_path, monkeypatch):
    def missing(specs, **options):
        raise ChromeNotFoundError

    monkeypatch.setattr("kaleido.write_fig_from_object_sync", missing)
    with pytest.raises(RuntimeError, match="install one, or save .html"):
        figures.save(figures.score_distributions(ranking, score="monosemanticity"), tmp_path / "scores.png")


def test_an_image_without_its_packages_is_refused_in_words(ranking, tmp_path, monkeypatch):
    figure = figures.score_distributions(ranking, score="monosemanticity")
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(RuntimeError, match=r"pip install 'interp\[images\]'"):
        figures.save(figure, tmp_path / "scores.pdf")
    assert not list(tmp_path.iterdir())
    assert figures.save(figure, tmp_path / "scores.html").is_file()


def test_of_many_parts_the_largest_are_drawn_and_the_rest_as_one():
    with pytest.raises(ValueError, match="levels is empty"):
        figures.splitting([])
    parts = pd.DataFrame({"latent": 7, "other": range(60), "both": range(60, 0, -1), "is_best": True})
    figure = figures.splitting([parts], rows=10)
    (sankey,) = figure.data
    assert [name.strip("\u2068\u2069") for name in sankey.node.label] == [
        "#7",
        *(f"#{i}" for i in range(10)),
        "50 more",
    ]
    assert sum(sankey.link.value) == parts["both"].sum() and sankey.link.value[-1] == parts["both"][10:].sum()
    [note] = figure.layout.annotations
    assert note.text == "Width of a band: firings that both ends share, up to 1,275"
    drawn = with_print_layout(figure, "column")
    letters = count_letters(note.text) * LETTER_WIDTH * drawn.layout.font.size
    assert letters < drawn.layout.width, "it is whole in a column"


def test_of_effects_as_small_as_by_chance_only_those_of_tokens_that_follow_the_firings_are_drawn():
    counts = np.zeros(40, int)
    counts[[0, 18, 20, 22, 39]] = 1, 300, 398, 300, 1
    feature = {
        **{"top_logit_tokens": [0, 1, 5, 2], "top_logits": [2.0, 0.3, 0.25, 0.2], "logit_counts": counts},
        **{"bottom_logit_tokens": [3, 4], "bottom_logits": [-2.0, -0.1]},
    }
    vocab = [f"t{i}" for i in range(1000)]
    figure = figures.logit_bars(feature, vocab, following=[2])
    assert list(figure.data[0].x) == [2.0, 0.2, -2.0] and "(3 tokens) are not drawn" in figure.layout.meta["caption"]
    zero, low, high = (shape.x0 for shape in figure.layout.shapes)
    assert zero == 0 and (low, high) == pytest.approx(chance_span(feature, 1000)), "the null is drawn"
    notes = [note for note in figure.layout.annotations if note.text == "largest by chance"]
    assert [note.x for note in notes] == [low, high] and [note.xanchor for note in notes] == ["left", "right"]
    positive = figures.logit_bars(feature | {"bottom_logit_tokens": []}, vocab)
    assert [shape.x0 > 0 for shape in positive.layout.shapes] == [False, True], "beside bars alone"
    none = figures.logit_bars(feature | {f"{side}_logit_tokens": [] for side in ("top", "bottom")}, vocab)
    assert none.layout.meta["caption"].startswith("No token has an effect larger than chance gives.")
    assert "none beyond chance" in [note.text for note in none.layout.annotations]
    without_counts = {name: cell for name, cell in feature.items() if name != "logit_counts"}
    assert list(figures.logit_bars(without_counts, vocab).data[0].x) == [2.0, 0.3, 0.25, 0.2, -2.0, -0.1]


def test_lines_to_names_do_not_cross():
    generator = np.random.default_rng(0)
    x, y = 150 + 60 * generator.random((2, 16))
    sides, leaders = place_names(x, y, ["a name of a point"] * 16, 10, (360, 360))
    assert all(side or i in leaders for i, side in enumerate(sides)) and len(leaders) > 8
    ends = {i: (np.array([x[i], y[i]]), np.array([x[i], y[i]]) + way) for i, way in leaders.items()}

    def is_left(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
        return bool(np.linalg.det([b - a, c - a]) > 0)

    for (i, (a, b)), (j, (c, d)) in itertools.combinations(ends.items(), 2):
        crosses = is_left(a, b, c) != is_left(a, b, d) and is_left(c, d, a) != is_left(c, d, b)
        assert not crosses, (i, j)


def test_names_stand_beside_a_crowd_of_dots():
    x, y = np.meshgrid(np.arange(60.0, 240, 3), np.arange(60.0, 240, 3))
    dots = np.column_stack([x.ravel(), y.ravel()])
    at = np.array([[150.0, 100.0], [150.0, 200.0]])
    names = ["one", "two"]
    over, beside = (place_names(*at.T, names, 10, (300, 300), dots=each) for each in (None, dots))
    assert not over.leaders and set(beside.leaders) == {0, 1}
    for i, (right, up) in beside.leaders.items():
        end = at[i] + (right, up)
        assert not ((end > 60) & (end < 235)).all(), "its near end is outside the crowd"


def test_captions_say_what_is_drawn_of_these_results(metrics):
    def caption(figure: go.Figure) -> str:
        return figure.layout.meta["caption"]

    values = {"a": np.array([0.1, 0.5]), "b": np.array([0.2, 0.3])}
    assert "null" not in caption(figures.cosine_histogram(values))
    assert "The grey area is the null, b." in caption(figures.cosine_histogram(values, null="b"))
    assert "Dead latents" in caption(figures.training(metrics, panels=["dead"]))
    assert "ead latents" not in caption(figures.training(metrics, panels=["l0"]))
