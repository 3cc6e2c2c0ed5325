"""How the library's objects display: a line in a terminal, self-contained HTML in a notebook."""

import dataclasses
import re

import pandas as pd
import pytest
import torch

from interp.codes.sparse_codes import SparseCodes
from interp.compare import stability
from interp.display.cards import Markup, card, interval_mark, marked_rule, show_facts, show_table, show_token
from interp.display.cards import show_rule as rule_markup
from interp.features.feature_store import FeatureStore
from interp.pipeline.run import Run
from interp.sae import SAE, Crosscoder, Threshold, TopK, TopKConfig, Transcoder
from interp.statistics.estimates import Estimate
from interp.text.short_rules import clauses_of, segments_of
from interp.verdict.ranking_tables import Ranking, ranking_evidence, read_ranking
from interp.verdict.verdict_shares import verdict_shares
from tests.planted_rules import a_rule, tokens

HOSTILE = "<script>alert(1)</script>"


def dictionary(kind=SAE, d_out=4, **given):
    zeros = dict(W_enc=torch.zeros(4, 6), W_dec=torch.zeros(6, d_out), b_enc=torch.zeros(6), b_dec=torch.zeros(d_out))
    return kind(**zeros, encoder=TopK(2), **given)


def test_a_dictionary_says_its_architecture_its_widths_and_its_place():
    config = TopKConfig(d_sae=6, k=2, tokens=100, lr=0.1)
    assert repr(dictionary(config=config, metadata={"hook_name": "h"})) == "TopK(4 → 6, k=2, h)"
    assert repr(dictionary()) == "TopK(4 → 6, k=2)"
    hooks = {"hook_name": "a", "hook_name_out": "b"}
    assert repr(dictionary(Transcoder, 3, metadata=hooks)) == "TopK transcoder(4 → 6 → 3, k=2, a → b)"
    two = dictionary(Crosscoder, metadata={"hook_names": ["a", "b"]}, widths=(2, 2))
    assert repr(two) == "TopK crosscoder(4 → 6, k=2, a → b)"
    page = dictionary(config=config, metadata={"hook_name": HOSTILE})._repr_html_()
    assert "100 tokens" in page and "lr</span> 0.1" in page and "warmup" not in page and "<script" not in page
    above = dictionary()
    above.encoder = Threshold(torch.zeros(6))
    assert repr(above) == "Threshold(4 → 6)" and "elsewhere" in above._repr_html_()


def test_a_runs_objects_display_without_scripts_and_without_their_own_colours(tiny_run):
    run = Run(tiny_run.path)
    latent = int(run.ranking.latent[0])
    shares, evidence = verdict_shares(run.ranking), run.ranking_evidence(latent)
    shown = [run, run.sae, run.store, run.features, run.feature(latent), run.ranking, shares, evidence]
    shown.append(run.activations(f"Once {HOSTILE}"))
    for each in shown:
        page = each._repr_html_()
        assert page.count("<div") == page.count("</div>") and not re.search(r"<script|https?://|<style| on\w+=", page)
        assert not re.search(r"[;\"]color:(?!inherit)", page), "text has the notebook's colour"
    assert repr(run).startswith("Run('") and repr(run.features).startswith(
        f"FeatureStore({run.features.d_sae:,} latents"
    )
    assert repr(run.store).startswith("ActivationStore(") and run.store.hook_names[0] in repr(run.store)
    assert "run.ranking" in run._repr_html_() and "run.sae" in run._repr_html_()
    assert str(run.ranking.verdict[0]).replace("_", " ") in run.feature(latent)._repr_html_()
    assert run.feature(latent).verdict.latent == latent and run.features[latent].verdict is None


def test_the_white_space_of_a_rule_is_marked_as_on_the_page():
    rule = a_rule(token=["\n       ", " a  b", r"\nabla"], topic_10=[tokens('"x')])
    words = rule_markup(segments_of(clauses_of(rule)))
    assert words == (
        'a newline and 7 spaces, "<bdi>␣a␣␣b</bdi>" or "<bdi>\\nabla</bdi>" in text with "<bdi>&quot;x</bdi>"'
    )
    as_text = 'a newline and 7 spaces, "␣a␣␣b" or "\\nabla" in text with ""x"'
    assert marked_rule(segments_of(clauses_of(rule))) == as_text


def test_a_token_on_its_own_is_marked_as_on_the_page():
    assert [show_token(token) for token in (" a", "a", " ", "\n ", "<")] == ["␣a", "a", "␣", "↵␣", "&lt;"]
    assert ">…a9 ש</bdi>" in show_token("⟨a9⟩⟨d7⟩")


def test_a_ranking_is_a_table_that_shows_what_tells_a_latent(tmp_path):
    rows = {
        "latent": range(20),
        "verdict": ["monosemantic", "single-token"] * 10,
        "monosemanticity": 0.9,
        "ci_low": 0.8,
    }
    rows |= {"ci_high": 1.0, "sure": True, "explanation": HOSTILE, "explanation_f1": [0.9, 0.1] * 10, "z": 1.0}
    table = pd.DataFrame(rows)
    table.attrs = {"features": {"tokens": "a"}}
    table.to_parquet(tmp_path / "ranking.parquet")
    ranking = read_ranking(tmp_path / "ranking.parquet")
    assert isinstance(ranking, Ranking) and isinstance(ranking.head(3), Ranking) and ranking.attrs == table.attrs
    page, line = ranking._repr_html_(), repr(ranking).splitlines()[0]
    assert line == "Ranking of 20 latents: 10 monosemantic, 10 single-token"
    assert page.count("&lt;script&gt;") == 5 and "<script" not in page, "rules of a low F1 are left out"
    assert "10 more rows; 9 columns" in page and page.count("no rule in words holds") == 5
    assert "Ranking of" not in repr(ranking[["latent", "z"]]) and "<table" in ranking[["latent", "z"]]._repr_html_()


def test_shares_and_evidence_show_each_number_with_its_null():
    judged = pd.DataFrame({"verdict": ["monosemantic", "dead"], "sure": [True, True]})
    shares = verdict_shares(judged)
    page = shares._repr_html_()
    assert "one meaning" in page and page.count("0.21 to 1.00") == 2, "all of one, by Wilson"
    assert "Verdicts" not in shares[["verdict", "n"]]._repr_html_() and isinstance(shares.head(2), type(shares))
    row = {"measure": "evenness", "value": 0.9, "z": 3.0, "null_low": 0.1, "null_high": 0.5}
    rows = [row, row | {"measure": HOSTILE, "z": None, "null_low": None, "null_high": None}]
    evidence = ranking_evidence(pd.DataFrame({"latent": [7], "evidence": [rows]}), 7)
    page = evidence._repr_html_()
    assert "of latent 7" in page and "0.9, null 0.1 to 0.5" in page and "Evenness" in page
    assert page.count("<svg") == 1 and "<script" not in page
    assert "of latent" not in ranking_evidence(pd.DataFrame({"latent": [7], "evidence": [rows]}))._repr_html_()


def test_a_comparison_displays_in_a_line_and_with_its_intervals():
    half = Estimate(0.5, 0.25, 0.75)
    assert repr(half) == "Estimate(0.500 (0.250 to 0.750))" and "0.25 to 0.75" in half._repr_html_()
    assert Estimate(-1.0, -2.0, 0.0)._repr_html_() == "-1.000 (-2.000 to 0.000)"
    same = stability(torch.eye(4), torch.eye(4))
    assert repr(same).startswith("Stability(4 pairs, PW-MCC 1.000") and "1.00 to 1.00" in same._repr_html_()


def test_a_feature_is_named_by_its_rule_and_without_a_reliable_one_says_so(tmp_path):
    codes = SparseCodes.from_dense(torch.eye(3).repeat(8, 1))
    features = FeatureStore.from_codes(torch.arange(24).view(4, 6), codes, tmp_path)
    row = {"verdict": "monosemantic", "sure": True, "monosemanticity": 0.9, "ci_low": 0.8, "ci_high": 1.0}
    for rule, f1, said in (
        ("in capitals", 0.9, "in capitals (F1 0.90)"),
        ("in capitals", 0.0, "no rule in words holds; the nearest is in capitals (F1 0.00)"),
        ("", float("nan"), "no rule in words holds</div>"),
    ):
        verdict = pd.Series({**row, "explanation": rule, "explanation_f1": f1})
        shown = dataclasses.replace(features[1], verdict=verdict)
        assert f"latent 1: {said}" in shown._repr_html_()
        assert str(shown).startswith(f"latent 1: {said.removesuffix('</div>')}\nmonosemantic, one meaning 0.90\n")
    assert "no rule" not in dataclasses.replace(features[1], verdict=pd.Series(row))._repr_html_()


@pytest.mark.parametrize(
    "show", [card, lambda text: show_facts({text: text}), lambda text: show_table([text], [[text]])]
)
def test_text_is_escaped_unless_it_is_markup(show):
    assert "<script" not in show(HOSTILE) and "&lt;script" in show(HOSTILE)
    assert "<b>x</b>" in show(Markup("<b>x</b>"))


def test_a_latent_without_a_probability_has_no_interval():
    assert interval_mark(float("nan"), 0, 1) == ""
    assert "0.20 to 0.90" in interval_mark(0.5, 0.2, 0.9)
