"""The explorer in a notebook: what the kernel answers against the explorer's own, and clicks."""

import json
import re

import pytest

from interp import Run, explore
from interp.display.byte_parts import name_byte_parts
from interp.display.cards import marked_rule
from interp.report.live import LiveModel
from interp.report.live.text_box import Answers, widget_module
from interp.text.short_rules import short_rule
from interp.verdict.ranking_tables import MIN_F1

TEXT = "Once upon a <b>time</b>"


@pytest.fixture(scope="module")
def run(tiny_run) -> Run:
    return Run(tiny_run.path)


def test_a_text_set_in_a_cell_is_read_and_a_feature_shows_its_card(run):
    pytest.importorskip("anywidget")
    widget, live = explore(run, TEXT), LiveModel(run)
    read, maxima = live.read(TEXT), run.features.table().set_index("latent")["max"]
    assert "".join(widget.reading["tokens"][1:]) == TEXT and len(widget.reading["firing"]) == len(read["tokens"])
    for own, theirs in zip(widget.reading["firing"], read["firing"], strict=True):
        expected = [[latent, z / maxima[latent]] for latent, z in theirs]
        assert own == [[latent, pytest.approx(share)] for latent, share in expected]
    latent, strength, places = widget.reading["features"][0]
    assert strength == pytest.approx(read["features"][0][1]) and places == len(read["features"][0][2])
    verdict, rule = widget.reading["about"][str(latent)]
    row = run.ranking.set_index("latent", drop=False).loc[latent]
    assert verdict in ("single-token", row.verdict.replace("_", " "))
    in_words = name_byte_parts(marked_rule(short_rule(row)))
    assert rule == (in_words if row.explanation_f1 >= MIN_F1 else "no rule in words holds")
    assert json.loads(json.dumps(widget.reading, allow_nan=False))
    widget.latent = latent
    assert widget.card == run.feature(latent)._repr_html_() and TEXT not in widget.card
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"] == f"Explore({TEXT!r})" and str(latent) in data["text/html"]
    assert "<b>" not in data["text/html"] and "&lt;" in data["text/html"], "what is typed is text"
    widget.text = "word " * 100
    assert len(widget.reading["tokens"]) == 64 and (left_out := widget.reading["left_out"]) > 0
    assert f"the first {left_out} tokens are left out" in widget._repr_mimebundle_()[0]["text/html"]
    widget.text, widget.latent = "", 99_999
    assert widget.reading == {} and widget.card == ""


def test_the_strength_of_a_latent_that_never_fired_in_the_scan_is_a_share_of_the_median_maximum(run, monkeypatch):
    """Each had the strength 1, and stood before those that fire nearly as strongly as they can."""
    latent, _, firings = LiveModel(run).read(TEXT)["features"][0]
    table = run.features.table()
    table["max"] = table["max"].where(table["latent"] != latent)
    strength = pytest.approx(max(value for _, value in firings) / table["max"].median())
    monkeypatch.setattr(run.features, "table", lambda: table)
    answers = Answers(run)
    assert [row[1] for row in answers.live.read(TEXT)["features"] if row[0] == latent] == [strength]
    reading = answers.reading(TEXT)
    assert [row[1:] for row in reading["features"] if row[0] == latent] == [[strength, len(firings)]]
    assert json.loads(json.dumps(reading, allow_nan=False))["features"] == reading["features"]


def test_without_anywidget_a_line_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr("interp.report.live.text_box.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install anywidget"):
        explore(run)


def test_a_token_chosen_lists_what_fires_there_and_a_feature_asks_for_its_card(run, chromium):
    reading = Answers(run).reading(TEXT)
    reading["tokens"][1] = "<img src=x onerror=alert(1)>\n"
    position = next(n for n, own in enumerate(reading["firing"]) if 1 <= len(own) < len(reading["features"]))
    code = widget_module()
    chromium.send("Page.navigate", url="about:blank")
    chromium.complaints.clear()
    chromium.evaluate(f"""(async () => {{
        const traits = {json.dumps({"text": TEXT, "latent": None, "reading": reading, "card": ""})}, heard = {{}};
        window.model = {{
            get: (name) => traits[name], on: (event, act) => heard[event] = act, off: (event) => delete heard[event],
            set(name, value) {{ traits[name] = value; heard[`change:${{name}}`]?.(); }}, save_changes() {{}},
        }};
        const module = URL.createObjectURL(new Blob([{json.dumps(code)}], {{ type: "text/javascript" }}));
        window.close = (await import(module)).default.render({{ model, el: document.body }});
        window.heard = heard;
    }})()""")
    assert "".join(chromium.text(".tokens button")) == "".join(reading["tokens"]).replace("\n", "↵")
    assert chromium.evaluate("document.querySelector('img')") is None
    assert len(chromium.text(".feature")) == len(reading["features"])
    chromium.click(f".tokens button:nth-of-type({position + 1})")
    shown = [int(re.match(r"Feature (\d+)", text)[1]) for text in chromium.text(".feature")]
    assert shown == [latent for latent, _ in reading["firing"][position]]
    chromium.click(".feature")
    assert chromium.evaluate("model.get('latent')") == shown[0]
    chromium.evaluate("model.set('card', '<b>the card</b>')")
    assert chromium.text(".card b") == ["the card"] and len(chromium.text(".feature[aria-pressed=true]")) == 1
    chromium.evaluate("model.set('reading', { ...model.get('reading'), left_out: 5 })")
    assert "the first 5 are left out" in chromium.text(".features")[0]
    chromium.evaluate("model.set('reading', {error: 'too <i>long</i>'})")
    assert chromium.text(".features") == ["too <i>long</i>"] and chromium.text(".tokens button") == []
    chromium.evaluate("window.close()")
    assert chromium.evaluate("Object.keys(heard)") == [] and not chromium.complaints
