"""The page of the essay: what the prose asks for, filled from results, whole and harmless."""

import html
import importlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from plotly.subplots import make_subplots

from analyses.essay import page as essay_page
from analyses.essay.__main__ import ANALYSES, main, module_name_of
from analyses.essay.page import read_chapters, write_page
from interp.figures.theme import with_style


@dataclass(frozen=True)
class TinySetting:
    size: int = 0


HOSTILE = "</script><img src=x onerror=alert(1)>"
WALK = (Path(essay_page.__file__).parent / "walk.html").read_text()
ASKED = re.findall(r'<x-(\w+) of="([^"]+)"', WALK)
COUNTED = set(re.findall(r'of="([^"]+)" as="count"', WALK))
TINY = {name: TinySetting() for name in ANALYSES}
DEFINED = (
    *("part three", "an essay of 2024", "intervals are 95 %", "penalty (l1)", "l=−1nt ∑i=1n∑t=1t∑c=1c"),
    *("four things", "each of the four", "five things to say", "all five", "five features in two dimensions"),
    *("two thirds for a triangle, two fifths", "0 is the first alone, 1 the second", "the features of base64"),
)
"""Numbers of the prose that no run can change: dates, definitions, geometry, what a figure draws at any size."""
NUMBER = (
    r"\d|\b(three|four|five|six|seven|eight|nine|ten|fifteen|twenty|thirty|dozens?|hundreds?|thousands?|millions?|"
    r"thirds?|quarters?|fifths?|sixths?|sevenths?|tenths?|fiftieth)\b"
)


@pytest.fixture
def out(tmp_path) -> Path:
    """Results with all that the prose asks for."""
    for row, name in enumerate(ANALYSES, 1):
        folder = tmp_path / name
        folder.mkdir()
        wanted = [(kind, of.partition("/")[2]) for kind, of in ASKED if of.partition("/")[0] == name]
        holds = (True, False, None)[row % 3]
        claims = [{"row": f"{row}a", "text": f"claim {HOSTILE}", "holds": holds, "found": "x < y", "numbers": {}}]
        values: dict = {}
        for kind, path in wanted:
            if kind in ("value", "samples"):
                *parents, last = path.split(".")
                place = values
                for parent in parents:
                    place = place.setdefault(parent, {})
                place[last] = {"before": HOSTILE} if kind == "samples" else 0.5
                if f"{name}/{path}" in COUNTED:
                    place[last] = [1, 2, 3]
        setting = values.pop("setting", {"size": row})
        for numbered in [key for key in values if re.fullmatch(r"\d+[a-z]", key)]:
            claims.append({**claims[0], "row": numbered, "numbers": values.pop(numbered)})
        figures = [path for kind, path in wanted if kind == "figure"]
        for figure in figures:
            (folder / f"{figure}.json").write_text(json.dumps({"data": [{"text": HOSTILE}], "layout": {}}))
        results = {"claims": claims, "values": values, "figures": figures, "seconds": 12.3, "setting": setting}
        (folder / "results.json").write_text(json.dumps(results))
    return tmp_path


def commands() -> dict[str, str]:
    return {name: f"python -m {module_name_of(name)}" for name in ANALYSES}


def test_page_has_every_claim_figure_and_command_and_runs_no_code(out):
    text = write_page(read_chapters(out, commands(), TINY), out / "page.html").read_text()
    assert "<x-" not in text and "<img" not in text.replace("\\u003cimg", "")
    for row, name in enumerate(ANALYSES, 1):
        assert f'id="claim-{row}a"' in text and f"python -m {module_name_of(name)}</code>" in text
    for kind, of in ASKED:
        if kind == "figure":
            key = of.replace("/", "--")
            assert f'data-figure="{key}"' in text
            stored = re.search(rf'id="{key}">(.*?)</script>', text, re.DOTALL)
            assert json.loads(stored[1])["data"][0]["text"] == HOSTILE
    boxes = [row for row in re.findall(r'id="claim-(\w+)"', text)]
    assert sorted(boxes) == sorted(set(boxes)) and all(text.count(f'href="#claim-{row}"') == 1 for row in boxes)
    assert text.count(f"<p>{html.escape(f'claim {HOSTILE}')}</p>") == len(boxes) > len(ANALYSES)
    linked = re.findall(r'<li><a href="#([^"]+)"', text)
    assert len(linked) == WALK.count("<h2>") and all(text.count(f'<h2 id="{slug}">') == 1 for slug in linked)
    assert "3 seeds" in text and "50%" in text and 'class="banner"' not in text
    assert not re.search(r'(src|href)="(https?:)?//', text.split("<script")[0]), "the page needs no network"


def test_page_mentions_every_analysis_of_the_essay():
    told = {of.partition("/")[0] for _, of in ASKED}
    assert told == set(ANALYSES)
    assert {of for kind, of in ASKED if kind == "claims"} == set(ANALYSES)


def test_what_has_not_been_run_is_named_with_its_command(out):
    (out / "grokking" / "results.json").unlink()
    text = write_page(read_chapters(out, commands(), TINY), out / "page.html").read_text()
    assert text.count("Not run yet: <code>python -m analyses.essay.grokking</code>") == 1
    assert '<a class="missing" href="#missing-grokking">' in text and 'id="missing-grokking"' in text


def test_prose_that_asks_for_what_is_not_there_is_refused(out, monkeypatch, tmp_path):
    chapters = read_chapters(out, commands(), TINY)
    for ask, message in (
        ('<x-claims of="grokkin"></x-claims>', "asks for 'grokkin'"),
        ('<x-figure of="grokking/none"></x-figure>', "has no figure 'none'"),
        ('<x-value of="grokking/a.b"></x-value>', "has no value 'a.b'"),
    ):
        here = tmp_path / "prose"
        here.mkdir(exist_ok=True)
        (here / "walk.html").write_text(ask)
        monkeypatch.setattr(essay_page, "HERE", here)
        with pytest.raises(ValueError, match=message):
            write_page(chapters, out / "page.html")


def test_the_essay_runs_what_is_missing_or_has_another_size_and_writes_its_page(out, monkeypatch):
    ran = []
    for name in ANALYSES:
        module, file = importlib.import_module(module_name_of(name)), out / name / "results.json"
        monkeypatch.setattr(module, "main", lambda words, name=name: ran.append((name, *words)))
        results = json.loads(file.read_text())
        file.write_text(json.dumps(results | {"setting": asdict(module.QUICK)}))
    (out / "geometry" / "results.json").unlink()
    page = main(["--quick", "--threads", "1", "--out", str(out)])
    assert ran == [("geometry", "--quick", "--threads=1", "--out", str(out / "geometry"))]
    assert page == out / "how-models-learn.html" and "A quick run." in page.read_text()
    ran.clear()
    main(["--only", "grokking", "--out", str(out)])
    main(["--only", "classifier", "grokking", "--quick", "--redo", "--out", str(out)])
    assert [words[:2] for words in ran] == [("grokking", "--out"), ("classifier", "--quick"), ("grokking", "--quick")]


def test_prose_has_no_number_that_a_run_could_contradict():
    prose = re.sub(r"<x-value.*?</x-value>|<[^>]+>", "", WALK)
    prose = " ".join(prose.split()).lower()
    for phrase in DEFINED:
        assert phrase in prose
        prose = prose.replace(phrase, "")
    assert not re.search(NUMBER, prose), [
        prose[max(0, m.start() - 40) : m.end() + 20] for m in re.finditer(NUMBER, prose)
    ]


def test_its_text_can_be_read_on_both_grounds_and_fits_a_phone(chromium, out):
    file = write_page(read_chapters(out, commands(), TINY | {"classifier": TinySetting(1)}), out / "page.html")
    chromium.size(390, 844)
    chromium.send("Page.navigate", url=file.as_uri())
    chromium.wait("document.readyState === 'complete' && document.querySelector('.banner') !== null")
    for dark in (False, True):
        chromium.size(390, 844, dark=dark)
        assert chromium.faint() == []
    assert chromium.evaluate("document.documentElement.scrollWidth") == 390


def test_page_stacks_panels_and_breaks_titles_on_a_phone(chromium, out):
    fig = make_subplots(rows=1, cols=2, shared_yaxes=True, subplot_titles=["first", "second"])
    for column in (1, 2):
        fig.add_scatter(x=[1, 2], y=[3, 4], name=f"panel {column}", row=1, col=column)
    with_style(fig, "What its caption says too").update_layout(meta={"min_width": 600})
    fig.update_xaxes(title="A title of an axis that is a good deal longer than a phone is wide")
    (out / "classifier/decision_slider.json").write_text(fig.to_json())
    file = write_page(read_chapters(out, commands(), TINY), out / "page.html")
    chromium.size(390, 844)
    chromium.send("Page.navigate", url=file.as_uri())
    chromium.wait("typeof places !== 'undefined'")
    chromium.evaluate("draw(places[0])")
    plot = "document.querySelector('.js-plotly-plot')"
    shown = "x: own.xaxis2.domain, y: own.yaxis.domain, y2: own.yaxis2.domain, labels: own.yaxis2.showticklabels, "
    shown += "title: own.xaxis2.title.text, height: own.height, notes: own.annotations.map((note) => note.y)"
    is_drawn = f"((own) => own?.legend?.yref === 'container' && {{ {shown} }})({plot}?._fullLayout)"
    drawn = chromium.wait(is_drawn)
    assert drawn["x"] == [0, 1] and drawn["y"][0] > drawn["y2"][1] and drawn["labels"]
    assert "<br>" in drawn["title"] and "What its" not in chromium.text(".plot")[0]
    assert drawn["notes"] == pytest.approx([drawn["y"][1], drawn["y2"][1]]) and drawn["height"] > 600
    place = "document.querySelector('.plot')"
    assert chromium.evaluate(f"{place}.scrollWidth <= {place}.clientWidth") and not chromium.complaints
