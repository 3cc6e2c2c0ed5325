"""The page of the essay: what the prose asks for, filled from results, whole and harmless."""

import html
import json
import re
from pathlib import Path

import pytest

from analyses.essay import page as essay_page
from analyses.essay.__main__ import ANALYSES
from analyses.essay.page import read_chapters, write_page

HOSTILE = "</script><img src=x onerror=alert(1)>"
WALK = (Path(essay_page.__file__).parent / "walk.html").read_text()
ASKED = re.findall(r'<x-(\w+) of="([^"]+)"', WALK)


@pytest.fixture
def out(tmp_path) -> Path:
    """Results with all that the prose asks for."""
    for row, name in enumerate(ANALYSES, 1):
        folder = tmp_path / name
        folder.mkdir()
        wanted = [(kind, of.partition("/")[2]) for kind, of in ASKED if of.partition("/")[0] == name]
        values: dict = {}
        for kind, path in wanted:
            if kind in ("value", "samples"):
                *parents, last = path.split(".")
                place = values
                for parent in parents:
                    place = place.setdefault(parent, {})
                place[last] = {"before": HOSTILE} if kind == "samples" else 0.5
        figures = [path for kind, path in wanted if kind == "figure"]
        for figure in figures:
            (folder / f"{figure}.json").write_text(json.dumps({"data": [{"text": HOSTILE}], "layout": {}}))
        holds = (True, False, None)[row % 3]
        claims = [{"row": f"{row}a", "text": f"claim {HOSTILE}", "holds": holds, "found": "x < y", "numbers": {}}]
        results = {"claims": claims, "values": values, "figures": figures, "seconds": 12.3}
        (folder / "results.json").write_text(json.dumps(results))
    return tmp_path


def commands() -> dict[str, str]:
    return {name: f"python -m analyses.essay.{name}" for name in ANALYSES}


def test_the_page_holds_every_claim_figure_and_command_and_nothing_that_runs(out):
    text = write_page(read_chapters(out, commands()), out / "page.html").read_text()
    assert "<x-" not in text and "<img" not in text.replace("\\u003cimg", "")
    for row, name in enumerate(ANALYSES, 1):
        assert f'id="claim-{row}a"' in text and f"python -m analyses.essay.{name}</code>" in text
    for kind, of in ASKED:
        if kind == "figure":
            key = of.replace("/", "--")
            assert f'data-figure="{key}"' in text
            stored = re.search(rf'id="{key}">(.*?)</script>', text, re.DOTALL)
            assert json.loads(stored[1])["data"][0]["text"] == HOSTILE
    assert text.count(html.escape(f"claim {HOSTILE}")) >= 2 * len(ANALYSES)
    assert not re.search(r'(src|href)="(https?:)?//', text.split("<script")[0]), "the page needs no network"


def test_every_analysis_of_the_essay_is_told_of():
    told = {of.partition("/")[0] for _, of in ASKED}
    assert told == set(ANALYSES)
    assert {of for kind, of in ASKED if kind == "claims"} == set(ANALYSES)


def test_what_has_not_been_run_is_named_with_its_command(out):
    (out / "grokking" / "results.json").unlink()
    text = write_page(read_chapters(out, commands()), out / "page.html").read_text()
    assert "Not run yet: <code>python -m analyses.essay.grokking</code>" in text


def test_prose_that_asks_for_what_is_not_there_is_refused(out, monkeypatch, tmp_path):
    chapters = read_chapters(out, commands())
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
