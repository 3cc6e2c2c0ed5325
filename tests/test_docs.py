"""The documentation is one site that needs no network."""

import importlib.util
import re
import textwrap
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def docs():
    spec = importlib.util.spec_from_file_location("docs", ROOT / ".ci" / "docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_link_to_one_another_and_to_nothing_that_is_loaded_from_elsewhere(docs, tmp_path):
    for source in docs.PAGES:
        docs.write_page(ROOT / source, tmp_path)
    for page in tmp_path.glob("*.html"):
        text = page.read_text()
        assert "<h1" in text and not re.search(r'src="(?!(page|explorer)\.png)', text), page
        for link in re.findall(r'<main>.*href="([\w./]+)"', text):
            assert (tmp_path / link).is_file() or link.startswith(("api/", "notebooks/")), link
    assert '<a href="evidence.html">' in (tmp_path / "index.html").read_text()


def test_a_notebook_is_run_and_its_figure_drawn_by_the_copy_beside_it(docs, tmp_path):
    notebook = nbformat.v4.new_notebook()
    code = "import os, plotly.graph_objects as go\nprint('on', os.environ['INTERP_RUN'])\ngo.Figure(go.Bar(y=[1, 2]))"
    notebook.cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(notebook, tmp_path / "one.ipynb")
    docs.write_notebook(tmp_path / "one.ipynb", Path("/a/run"), tmp_path / "one.html")
    text = (tmp_path / "one.html").read_text()
    assert "on /a/run" in text and "Plotly.newPlot" in text and '<script src="plotly.min.js">' in text
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_what_is_kept_of_a_notebook_is_the_same_of_each_run(docs, tmp_path, monkeypatch):
    monkeypatch.setattr("plotly.graph_objects.Figure.to_image", lambda figure, *_, **sizes: b"a picture")
    code = """
    import sys, tempfile, time, plotly.graph_objects as go
    from IPython.display import HTML, display
    print("progress", time.time(), file=sys.stderr)
    display(HTML(f"<td>{time.time_ns() % 1000} s</td><p>{tempfile.mkdtemp()}/store</p>"))
    go.Figure(go.Bar(y=[1, 2]))"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(code))])
    nbformat.write(notebook, tmp_path / "one.ipynb")
    first, second = (docs.kept(docs.executed(tmp_path / "one.ipynb", "runs/a")) for _ in range(2))
    for cell in (*first.cells, *second.cells):
        del cell["id"]  # drawn at random where a notebook of before has none
    assert first == second
    shown, drawn = first.cells[0].outputs
    assert shown.data["text/html"] == "<td>…</td><p>…/store</p>" and list(drawn.data) == ["image/png"]
