"""Figures draw what they are given, with titles and units, and are written at the width of print."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from kaleido.errors import ChromeNotFoundError

from interp import figures
from interp.figures.one_latent import merged_bins
from interp.figures.saving import MIN_FONT, for_print
from interp.figures.theme import VERDICT_COLOURS, WIDTH, visible


@pytest.fixture
def ranking() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    verdicts = ["monosemantic", "polysemantic", "lexical", "too_rare", "dense", "dead"] * 10
    return pd.DataFrame(
        {
            "latent": range(60),
            "verdict": verdicts,
            "monosemanticity": generator.random(60),
            "context_coherence": generator.random(60),
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
        "ce_recovered_mean": [0.9, 0.4],
        "dead_share": [0.1, 0],
    }
)
CONCEPTS = pd.DataFrame({"label": ["dna", "a<b"], "f1_feature": [0.9, 0.7], "f1_neuron": [0.6, 0.8]})


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
        figures.quality_bars(QUALITY),
        figures.score_distributions(ranking),
        figures.coherence_density(ranking),
        figures.concept_scatter(CONCEPTS),
    ]
    for figure in made:
        assert figure.layout.title.text and figure.layout.width == WIDTH
        axes = [figure.layout[name] for name in figure.to_dict()["layout"] if name.startswith(("xaxis", "yaxis"))]
        titled = {axis.title.text for axis in axes} - {None}
        assert len(titled) >= 2, figure.layout.title.text


def test_density_histogram_counts_every_latent_and_marks_the_dead_and_the_ultra_low():
    densities = [0.0] * 7 + [3e-7] * 4 + [0.01] * 5 + [1.0]
    figure = figures.density_histogram(pd.DataFrame({"density": densities}))
    alive, dead = figure.data
    assert sum(alive.y) == 10 and list(dead.y) == [7]
    assert max(dead.x) < min(alive.x)
    notes = " ".join(note.text for note in figure.layout.annotations)
    assert "dead<br>7" in notes and "ultra-low<br>4" in notes
    shade = figure.layout.shapes[0]
    assert shade.x1 == pytest.approx(-5)


def test_density_histogram_of_latents_that_are_all_dead_has_only_the_spike():
    alive, dead = figures.density_histogram(pd.DataFrame({"density": [0.0, np.nan]})).data
    assert sum(alive.y) == 0 and list(dead.y) == [2]


def test_merged_bins_keep_every_firing_and_the_outer_edges():
    edges = np.geomspace(0.1, 10, 102)
    counts = np.random.default_rng(0).integers(0, 50, 101)
    merged, sums = merged_bins(edges[:-1], edges[1:], counts, at_most=32)
    assert len(sums) <= 32 and len(merged) == len(sums) + 1
    assert sums.sum() == counts.sum() and merged[0] == edges[0] and merged[-1] == edges[-1]
    for low, high, total in zip(merged[:-1], merged[1:], sums, strict=True):
        assert total == counts[(edges[:-1] >= low) & (edges[:-1] < high)].sum()


def test_activation_histogram_draws_the_bins_of_the_latent_asked_for():
    bins = pd.DataFrame({"latent": [0, 0, 1], "low": [0.5, 1.0, 9.0], "high": [1.0, 2.0, 10.0], "n": [3, 1, 8]})
    intervals = pd.DataFrame({"latent": [0, 0], "low": [0.0, 1.0]})
    figure = figures.activation_histogram(bins, latent=0, intervals=intervals)
    assert list(figure.data[0].y) == [3, 1] and list(figure.data[0].x) == [0.5, 1.0]
    assert [shape.x0 for shape in figure.layout.shapes] == [1.0]
    with pytest.raises(ValueError, match="one latent"):
        figures.activation_histogram(bins)
    with pytest.raises(ValueError, match="latent 5"):
        figures.activation_histogram(bins, latent=5)


def test_training_draws_the_panels_asked_for_and_a_line_a_level(metrics):
    figure = figures.training(metrics, panels=["loss"], levels={"unigram": 6.5, "bigram": 4.25})
    assert list(figure.data[1].x) == list(metrics["tokens"][1::2]) and len(figure.data) == 2
    assert [shape.y0 for shape in figure.layout.shapes] == [6.5, 4.25]
    both = figures.training(metrics, panels=["dead", "l0"])
    assert [list(trace.y) for trace in both.data] == [list(metrics["dead"]), list(metrics["l0"])]
    assert not both.layout.shapes
    with pytest.raises(ValueError, match="grad_norm"):
        figures.training(metrics, panels=["grad_norm"])


def written(folder, metrics, **config):
    """A finished training, whose log ends in half a line."""
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
        assert [list(trace.y) for trace in figure.data] == [list(table[c]) for c in ("loss", "fvu", "l0", "dead")]
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
    assert len(figures.training({"old": tmp_path / "0", "new": metrics}).data) == 12 * 4 + 1


def test_training_of_a_model_has_its_held_out_loss(metrics):
    figure = figures.training(metrics[["tokens", "loss", "val_loss"]].assign(grad_norm=1.0, lr=1e-3))
    assert list(figure.data[-1].x) == list(metrics["tokens"][1::2]) and figure.data[-1].name == "validation"
    assert figure.layout.title.text == "Training of the model" and figure.layout.yaxis.type != "log"


def test_population_figures_split_by_verdict_in_its_colour_and_lose_no_latent(ranking):
    alive = ranking[ranking["density"] > 0]
    figure = figures.coherence_density(ranking)
    assert sorted(latent for trace in figure.data for latent in trace.customdata) == sorted(alive["latent"])
    assert [trace.marker.color for trace in figure.data] == [
        VERDICT_COLOURS[v] for v in dict.fromkeys(alive["verdict"])
    ]
    assert sum(len(trace.y) for trace in figures.score_distributions(ranking).data) == 40, (
        "of six verdicts four are tested"
    )


def test_score_distributions_leave_out_what_was_not_tested():
    verdicts = ["monosemantic"] * 3 + ["polysemantic"] * 2 + ["too_rare", "dead", "unranked"]
    table = pd.DataFrame({"verdict": verdicts, "monosemanticity": [0.9, 0.8, 0.7, 0.1, 0.2, 0.0, 0.0, 0.0]})
    drawn = figures.score_distributions(table).data
    assert [len(trace.y) for trace in drawn] == [3, 2] and min(min(trace.y) for trace in drawn) == 0.1


def test_concept_texts_do_not_lie_on_one_another():
    generator = np.random.default_rng(1)
    crowd = pd.DataFrame(
        {"label": ["python comment", "html", "python keyword", "dna"], "f1_neuron": 0.4 + generator.random(4) / 50}
    )
    crowd["f1_feature"] = 0.7 + generator.random(4) / 50
    points = figures.concept_scatter(crowd).data[1]
    assert len(set(points.textposition)) == 4


def test_corpus_text_is_never_markup():
    hostile = "</script><img src=x onerror=alert(1)>"
    row = {"top_logit_tokens": [0], "top_logits": [1.0], "bottom_logit_tokens": [], "bottom_logits": []}
    ticks = figures.logit_bars(row, [hostile]).layout.yaxis.ticktext
    assert "<" not in ticks[0] and "&lt;" in ticks[0]
    markup = str(figures.highlighted_text([hostile, " a\n"], [1.0, 0.0], firing=0))
    assert visible("\x06\r\t ") == "␆⇥·"
    assert "<img" not in markup and "&lt;img" in markup and "·a↵" in markup
    assert figures.concept_scatter(CONCEPTS).data[1].text[1].count("<") == 0


def test_highlighted_text_shades_by_value_and_outlines_the_firing_token():
    text = figures.highlighted_text(["a", "b", "c"], [0.0, 1.0, 2.0], firing=2)
    first, second, third = str(text).split("<wbr>")
    assert "background" not in first and "0.47" in second and "0.85" in third
    assert "outline" in third and "outline" not in second
    assert text._repr_html_() == str(text)
    with pytest.raises(ValueError, match="2 tokens and 1 values"):
        figures.highlighted_text(["a", "b"], [1.0])


def test_a_table_without_its_columns_is_refused_by_name(ranking):
    with pytest.raises(ValueError, match="context_coherence"):
        figures.coherence_density(ranking.drop(columns="context_coherence"))
    with pytest.raises(ValueError, match="no logit effects"):
        figures.logit_bars(
            {"top_logit_tokens": None, "top_logits": None, "bottom_logit_tokens": None, "bottom_logits": None}, []
        )


def test_scores_of_any_world_are_compared_the_best_on_top():
    def table(**auroc):
        rows = [(name, value, value - 0.1, value + 0.05) for name, value in auroc.items()]
        return pd.DataFrame(rows, columns=["score", "auroc", "auroc_low", "auroc_high"])

    drawn = figures.score_comparison({"A": table(core=0.9, token_set=0.6), "B": table(token_set=0.7, twin_cosine=0.8)})
    assert list(drawn.layout.yaxis.categoryarray) == ["token set", "twin cosine", "core"]
    points = {(world.name, score): x for world in drawn.data for score, x in zip(world.y, world.x, strict=True)}
    assert points == {("A", "core"): 0.9, ("A", "token set"): 0.6, ("B", "token set"): 0.7, ("B", "twin cosine"): 0.8}
    assert list(drawn.data[1].error_x.array) == pytest.approx([0.05, 0.05])
    assert list(drawn.data[1].error_x.arrayminus) == pytest.approx([0.1, 0.1])
    with pytest.raises(ValueError, match="auroc_low"):
        figures.score_comparison({"A": table(core=0.9).drop(columns="auroc_low")})


def test_verdict_shares_are_bars_of_a_sure_and_an_unsure_part_with_their_intervals_in_the_hue_of_the_verdict():
    verdicts, names = ["monosemantic", "lexical", "dead"], ["SAE", "neurons"]
    rows = [(n, v, s, s - 0.1, s + 0.2) for n in names for v, s in zip(verdicts, (0.5, 0.3, np.nan), strict=True)]
    table = pd.DataFrame(rows, columns=["dictionary", "verdict", "share", "ci_low", "ci_high"])
    is_one = table["verdict"] == "monosemantic"
    for column, value in (("sure_share", 0.4), ("sure_low", 0.35), ("sure_high", 0.43)):
        table[column] = np.where(is_one, value, np.nan)
    drawn = figures.verdict_shares(table)
    sure, unsure, lexical = (trace for trace in drawn.data if trace.type == "bar")
    assert [sure.name, lexical.name] == ["monosemantic", "single-token"] and not unsure.showlegend
    assert list(sure.x) == list(unsure.base) == [0.4, 0.4] and list(unsure.x) == pytest.approx([0.1, 0.1])
    assert list(lexical.x) == [0.3, 0.3] and unsure.opacity < 1
    colours = [VERDICT_COLOURS[verdict] for verdict in ("monosemantic", "monosemantic", "lexical")]
    assert [bar.marker.color for bar in (sure, unsure, lexical)] == colours
    ends = {trace.name: trace for trace in drawn.data if trace.type == "scatter"}
    expected = {
        "surely monosemantic": (0.4, 0.35, 0.43),
        "monosemantic": (0.5, 0.4, 0.7),
        "single-token": (0.3, 0.2, 0.5),
    }
    assert ends.keys() == expected.keys()
    for name, (share, low, high) in expected.items():
        assert list(ends[name].x) == [share, share]
        assert list(ends[name].error_x.array) == pytest.approx([high - share] * 2)
        assert list(ends[name].error_x.arrayminus) == pytest.approx([share - low] * 2)
    assert list(drawn.layout.yaxis.ticktext) == names
    with pytest.raises(ValueError, match="sure_share"):
        figures.verdict_shares(table.drop(columns="sure_share"))


def test_a_saved_figure_is_as_wide_as_asked_and_no_letter_is_below_7_points(ranking):
    figure = figures.density_histogram(ranking)
    figure.update_layout(annotations=[{"text": "x", "font": {"size": 4}}])
    narrow, wide, own = (for_print(figure, width) for width in ("column", "page", 190))
    assert [round(each.layout.width * 25.4 / 96, 1) for each in (narrow, wide, own)] == [84.5, 139.7, 190.0]
    assert narrow.layout.annotations[0].font.size == pytest.approx(7 * 96 / 72)
    assert MIN_FONT <= narrow.layout.title.font.size < figure.layout.title.font.size
    assert figure.layout.width == WIDTH and own.layout.font.size == figure.layout.font.size
    with pytest.raises(ValueError, match="width='wide' must be one of column, page"):
        for_print(figure, "wide")


def test_save_writes_what_the_ending_says(ranking, tmp_path):
    figure = figures.score_distributions(ranking)
    assert figures.save(figure, tmp_path / "scores.json").exists()
    assert json.loads((tmp_path / "scores.json").read_text())["layout"]["width"] == WIDTH
    assert "plotly.js" in figures.save(figure, tmp_path / "scores.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="scores.doc must end in one of .svg"):
        figures.save(figure, tmp_path / "scores.doc")
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.skipif(not (shutil.which("chromium") or shutil.which("google-chrome")), reason="needs Chrome or Chromium")
def test_images_have_the_width_of_print(ranking, tmp_path):
    figure = figures.score_distributions(ranking)
    assert 'width="319' in figures.save(figure, tmp_path / "scores.svg").read_text()
    assert figures.save(figure, tmp_path / "scores.pdf", width="page").read_bytes().startswith(b"%PDF")


def test_an_image_without_a_browser_is_refused_in_words(ranking, tmp_path, monkeypatch):
    def missing(specs, **options):
        raise ChromeNotFoundError

    monkeypatch.setattr("kaleido.write_fig_from_object_sync", missing)
    with pytest.raises(RuntimeError, match="install one, or save .html"):
        figures.save(figures.score_distributions(ranking), tmp_path / "scores.png")
