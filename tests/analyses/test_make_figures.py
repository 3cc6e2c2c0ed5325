"""Every figure of a run is drawn, saved with what made it, and shown in a gallery."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import make_figures
from interp.figures.print_layout import MIN_FONT, with_print_layout
from interp.pipeline.stages import LEFT_OUT, NOT_FOR_TRANSCODERS
from interp.verdict.measures import largest_cosines


@pytest.fixture(scope="module")
def drawn(tiny_run):
    return make_figures.draw_figures(tiny_run, [], "icml")


def test_the_figures_of_a_run_with_their_manifests_and_a_gallery(tiny_run, drawn, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(make_figures, "draw_figures", lambda run, *rest: asked.append(rest) or drawn)
    words = ["--width", "icml", "--formats", "html"]
    out = make_figures.main([str(tiny_run.path), "--out", str(tmp_path / "figures"), *words])
    assert asked == [([], "icml", "")]
    names = {file.stem for file in out.glob("*.html")} - {"index"}
    whole = {"density_histogram", "verdict_shares", "concept_dots", "coactivation_heatmap", "quality"}
    parts = {"training_sae", "cosine_histogram_twin_seed", "graph"}
    assert whole | parts <= names
    for noun in ("example_text", "logit_bars", "activation_histogram"):
        assert any(re.fullmatch(rf"{noun}_latent_\d+", name) for name in names)
    titles = [figure.layout.title.text for figure in drawn.values()]
    assert len(set(titles)) == len(titles) and all(
        figure.layout.meta["caption"][-1] == "." for figure in drawn.values()
    )
    page = (out / "index.html").read_text()
    assert "Firing density of the latents</b>. A histogram of the share of tokens" in page
    assert page.count("<figure>") == (out / "figures.tex").read_text().count(r"\caption{") == len(names)
    assert all(f'href="{name}.html"' in page for name in names) and "http" not in page
    manifest = json.loads((out / "verdict_shares.html.json").read_text())
    assert manifest["made_from"]["seed"]["sae"] == tiny_run.config.sae.seed
    assert set(manifest["made_from"]["stages"]) >= {"corpus", "sae", "nulls"} and manifest["made_from"]["config_sha256"]
    assert (out / "quality.tex").read_text().startswith(r"\begin{table}")


def test_no_letter_of_any_figure_is_below_7_points_in_a_column(drawn):
    for name, figure in drawn.items():
        sizes = [
            float(size)
            for size in re.findall(r'font":\{[^{}]*"size":([\d.]+)', str(with_print_layout(figure, "icml").to_json()))
        ]
        assert sizes and min(sizes) >= MIN_FONT - 0.01, name


class ScanWithoutDecoder:
    W_dec = None
    meta = {"n_tokens": 0}
    tokens = torch.zeros(0)

    def table(self, name="features"):
        return pd.DataFrame({"enc_dec_cosine": [np.nan]})

    def __getitem__(self, latent):
        return SimpleNamespace(facts=SimpleNamespace(n_active=0))


def test_what_a_run_left_out_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(make_figures, "coactivations_of", lambda store: store.table("coactivations"))
    left_out = {"results": {LEFT_OUT: NOT_FOR_TRANSCODERS}}
    run = SimpleNamespace(
        path=tmp_path,
        features=ScanWithoutDecoder(),
        model=None,
        has=lambda stage: stage == "features",
        manifest=lambda stage: left_out,
    )
    names = [set(results.named) for results in make_figures.results_of(run, [], "column")]
    assert names == [{"features", "coactivations", "names"}, set()]


def test_what_is_no_run_is_refused_in_a_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        make_figures.main([str(tmp_path)])
    assert "is not a run folder" in capsys.readouterr().err


def test_random_directions_are_as_unevenly_spread_as_those_of_the_decoder():
    even = torch.randn(400, 24, generator=torch.Generator().manual_seed(0))
    drawn = even * torch.linspace(0.1, 3, 24) ** 2
    nearest, nearest_of_even = (np.mean(largest_cosines(rows)) for rows in (drawn, even))
    assert (
        np.mean(make_figures.by_chance(drawn)) == pytest.approx(nearest, abs=0.03) and nearest_of_even < nearest - 0.1
    )


def test_the_prompts_of_the_graph_are_of_whole_words_first():
    vocab = ["<|bos|>", " the", " old", " house", "x", "=", " st", "ands"]
    tokens = torch.tensor([[0, 4, 5, 4, 5], [0, 1, 2, 3, 4], [0, 1, 2, 3, 1], [1, 2, 3, 6, 7]])
    first, *others = make_figures.wordy_prompts(tokens, vocab, n=4)
    assert first.tolist() == [0, 1, 2, 3] and len(others) == 3


def test_the_graph_is_of_the_prompt_of_which_the_drawn_latents_explain_most(tiny_run, drawn, monkeypatch):
    explained = []

    def noted(graph, of=make_figures.drawn_explanation):
        explained.append((of(graph), "".join(graph.tokens).strip()))
        return explained[-1][0]

    monkeypatch.setattr(make_figures, "drawn_explanation", noted)
    [results] = make_figures.graph_of(tiny_run, "", "column")
    assert len(explained) == make_figures.N_PROMPTS and results.note == f"The prompt is “{max(explained)[1]}”."


def test_a_name_that_is_cut_says_so():
    assert make_figures.without_ends("tokens at token 8 of a …; dna +2") == "tokens at token 8 of a …; dna"


def test_coactivations_of_all_drawn_pairs_are_counted(tiny_run):
    store = tiny_run.features
    pairs = make_figures.coactivations_of(store)
    fires = store.codes[:].dense().numpy() > 0
    a, b = (fires[:, pairs[end].to_numpy()] for end in ("latent", "other"))
    assert len(pairs) == 12 * 11, "closest or not"
    assert pairs["jaccard"].to_numpy() == pytest.approx((a & b).sum(0) / np.maximum((a | b).sum(0), 1))


@pytest.mark.parametrize("pca, is_said", [(0.64, True), (0.9, False)])
def test_random_directions_that_recover_as_much_as_pca_are_said(pca, is_said):
    quality = {"dictionary": ["SAE", "PCA", "random"], "fvu": [0.1, 0.3, 0.7], "ce_recovered": [0.95, pca, 0.66]}
    note = make_figures.note_on_quality(pd.DataFrame(quality).assign(n_tokens=90, n_spliced=[90, 50, 50]))
    assert "below the first row, the cross-entropy on 50" in note
    assert ("as PCA (66% and 64%), though they explain less of the variance (30% and 70%)" in note) == is_said
