"""The documentation is one site that needs no network."""

import importlib.util
import re
import sys
import textwrap
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def docs():
    sys.path.insert(0, str(ROOT / ".ci"))
    spec = importlib.util.spec_from_file_location("docs", ROOT / ".ci" / "docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / ".ci"))


def test_pages_link_to_one_another_and_to_nothing_that_is_loaded_from_elsewhere(docs, tmp_path):
    for source in docs.PAGES:
        docs.write_page(ROOT / source, tmp_path)
    docs.write_list_of_notebooks(tmp_path)
    for page in tmp_path.glob("*.html"):
        text = page.read_text()
        assert "<h1" in text and not re.search(r'src="(?!(page|explorer|figure|graph)\.png)', text), page
        for link, section in re.findall(r'href="([\w./]*)(?:#([^"]+))?"', text.partition("<main>")[2]):
            assert not link.endswith(".md"), link
            target = tmp_path / link if link else page
            assert not section or f'id="{section}"' in target.read_text(), (page, link, section)
    assert '<a href="evidence.html">' in (tmp_path / "index.html").read_text()
    assert '<a href="notebooks/a_probe.html">A probe</a>' in (tmp_path / "notebooks.html").read_text()


@pytest.fixture(scope="module")
def twice(docs, tmp_path_factory):
    """Return what a kernel made of a notebook whose two cells have the same code."""
    file = tmp_path_factory.mktemp("notebook") / "one.ipynb"
    code = """
    import sys, tempfile, time, plotly.graph_objects as go
    from IPython.display import HTML, display
    print("on", "../../runs/demo")
    print("progress", time.time(), file=sys.stderr)
    display(HTML(f"<td>{time.time_ns() % 1000} s</td><p>{tempfile.mkdtemp()}/store</p>"))
    go.Figure(go.Bar(y=[1, 2]))"""
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(code)) for _ in range(2)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    return docs.executed(file, Path("/a/run"))


def test_a_notebook_is_run_and_its_figure_drawn_by_the_copy_beside_it(docs, twice, tmp_path, monkeypatch):
    monkeypatch.setattr(docs, "executed", lambda source, run: deepcopy(twice))
    docs.write_notebook(tmp_path / "one.ipynb", Path("/a/run"), tmp_path / "one.html")
    text = (tmp_path / "one.html").read_text()
    assert "on /a/run" in text and "Plotly.newPlot" in text and '<script src="plotly.min.js">' in text
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_what_is_kept_of_a_notebook_is_the_same_each_time_its_code_is_run(docs, twice, monkeypatch):
    monkeypatch.setattr("plotly.graph_objects.Figure.to_image", lambda figure, *_, **sizes: b"a picture")
    first, second = docs.kept(deepcopy(twice)).cells
    assert first.pop("id") != second.pop("id") and first == second
    printed, shown, drawn = first.outputs
    assert printed.text == "on /a/run\n" and list(drawn.data) == ["image/png"]
    assert shown.data["text/html"] == "<p>…/store</p>" and "runs/demo" in first.source
