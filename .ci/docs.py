"""Write the documentation as one site that needs no network: the README, the API, the notebooks, and the results.

    python .ci/docs.py [--run runs/demo-quick] [--out build/docs] [--keep]

Notebooks are run on a finished run folder. `make docs` makes that run first where there is none. With `--keep` they are
not made into pages, but what they show is kept in them: figures as pictures, and nothing that another run of the same
code on the same data would not show again, such as a time.
"""

import argparse
import base64
import html
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import markdown2
import nbformat
import plotly.io
import plotly.offline
from api_pages import write_api
from nbclient import NotebookClient
from nbconvert import HTMLExporter

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": ("index.html", "Overview"),
    "analyses/GUIDE.md": ("guide.html", "Guide"),
    "analyses/README.md": ("evidence.html", "Evidence"),
    "analyses/RESULTS.md": ("results.html", "Results"),
    "analyses/GLOSSARY.md": ("glossary.html", "Glossary"),
    "CONTRIBUTING.md": ("contributing.html", "Contributing"),
    "CHANGELOG.md": ("changelog.html", "Changes"),
}
NOTEBOOKS = sorted((ROOT / "analyses" / "notebooks").glob("*.ipynb"))
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1d2430; margin: 0; }
nav { background: #f3f5f8; border-bottom: 1px solid #d8dee6; padding: .6rem 1.2rem; }
nav a { margin-right: 1rem; }
a { color: #0b57a4; text-decoration: none; }
a:hover { text-decoration: underline; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem 1.2rem 4rem; }
img { max-width: 100%; }
pre, code { font: 13.5px/1.5 ui-monospace, monospace; background: #f3f5f8; border-radius: 4px; }
pre { padding: .7rem .9rem; overflow-x: auto; }
code { padding: .1em .3em; }
pre code { padding: 0; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; }
td, th { border: 1px solid #d8dee6; padding: .3rem .6rem; text-align: left; vertical-align: top; }
"""
EXTRAS = ["tables", "fenced-code-blocks", "header-ids", "code-friendly", "cuddled-lists"]
NAMED_RUN = "../../runs/demo"
"""The run that the notebooks open."""
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURE = 720, 420
"""Pixels of a figure that is kept in a notebook; the height where it has none of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo-quick", help="a finished run folder")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs")
    parser.add_argument("--keep", action="store_true", help="keep what the notebooks show in them, and write no site")
    options = parser.parse_args()
    if not (options.run / "ranking" / "manifest.json").is_file():
        parser.error(f"--run {options.run} is not a finished run: `make demo-quick` makes one")
    run = Path(os.path.relpath(options.run.resolve(), NOTEBOOKS[0].parent))  # as it is the same on every machine
    if options.keep:
        for source in NOTEBOOKS:
            notebook = executed(source, run)
            nbformat.write(kept(notebook), source)
            print(f"ran {source.stem}", flush=True)
        return
    out: Path = options.out
    shutil.rmtree(out, ignore_errors=True)
    (out / "notebooks").mkdir(parents=True)
    (out / "style.css").write_text(STYLE, encoding="utf-8")
    for source in PAGES:
        write_page(ROOT / source, out)
    write_list_of_notebooks(out)
    (out / "notebooks" / "plotly.min.js").write_text(plotly.offline.get_plotlyjs(), encoding="utf-8")
    for notebook in NOTEBOOKS:
        write_notebook(notebook, run, out / "notebooks" / f"{notebook.stem}.html")
        print(f"ran {notebook.stem}", flush=True)
    write_api(out / "api", navigation)
    print((out / "index.html").resolve())


def navigation(above: str) -> str:
    """The links at the top of each page; `above` leads from the page's folder to the site's."""
    links = list(PAGES.values())
    links.insert(1, ("api/interp.html", "API"))
    links.insert(3, ("notebooks.html", "Notebooks"))
    return "<nav>" + "".join(f'<a href="{above}{file}">{html.escape(title)}</a>' for file, title in links) + "</nav>"


def write_list_of_notebooks(out: Path) -> None:
    """The notebooks, each by its title, with what it says first."""
    lines = ["# Notebooks", ""]
    for path in NOTEBOOKS:
        title, *rest = nbformat.read(path, as_version=4).cells[0].source.split("\n\n")
        lines += [f"## [{title.lstrip('# ')}](notebooks/{path.stem}.html)", "", *rest[:1], ""]
    write_site_page(out / "notebooks.html", "Notebooks", str(markdown2.markdown("\n".join(lines), extras=EXTRAS)))


def write_page(source: Path, out: Path) -> None:
    """A Markdown file of the project as a page: links to other such files lead to their pages, pictures come along."""
    name, title = PAGES[str(source.relative_to(ROOT))]
    body = str(markdown2.markdown(source.read_text(encoding="utf-8"), extras=EXTRAS))

    def local(match: re.Match[str]) -> str:
        file = (source.parent / match[2]).resolve()
        known = {(ROOT / path).resolve(): page for path, (page, _) in PAGES.items()}
        known |= {path.resolve(): f"notebooks/{path.stem}.html" for path in NOTEBOOKS}
        known[NOTEBOOKS[0].parent.resolve()] = "notebooks.html"
        if file in known:
            return f'{match[1]}="{known[file]}{match[3]}"'
        if file.is_file() and match[1] == "src":
            shutil.copy(file, out / file.name)
            return f'{match[1]}="{file.name}"'
        return match[0]

    body = re.sub(r'\b(href|src)="([^":#]+)(#[^"]*|)"', local, body)
    write_site_page(out / name, title, body)


def write_site_page(file: Path, title: str, body: str) -> None:
    head = f'<meta charset="utf-8"><title>interp: {title}</title><link rel="stylesheet" href="style.css">'
    page = f"<!doctype html><html lang=en><head>{head}</head><body>{navigation('')}<main>{body}</main></body></html>"
    file.write_text(page, encoding="utf-8")


def executed(source: Path, run: Path) -> nbformat.NotebookNode:
    """The notebook with what it shows, run on `run` in place of the run that it names."""
    notebook = nbformat.read(source, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    written = [cell.source for cell in cells]
    for cell in cells:
        cell.source = cell.source.replace(NAMED_RUN, str(run))
    settings = {"record_timing": False, "store_widget_state": False, "resources": {"metadata": {"path": source.parent}}}
    NotebookClient(notebook, timeout=1200, **settings).execute()
    for cell, text in zip(cells, written, strict=True):
        cell.source = text
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    yield from (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)


def kept(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What a notebook that was run shows, as it is kept: figures as pictures, without times, progress and counters."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.execution_count = None
        cell.outputs = joined_prints([output for output in cell.outputs if output.get("name") != "stderr"])
    for output in outputs(notebook):
        if "execution_count" in output:
            output.execution_count = None
        data = output.get("data", {})
        data.pop(WIDGET, None)
        if PLOTLY in data:
            figure = plotly.io.from_json(json.dumps(data[PLOTLY]), skip_invalid=True)
            picture = figure.to_image("png", width=PICTURE[0], height=figure.layout.height or PICTURE[1])
            output.data = {"image/png": base64.b64encode(picture).decode()}
        for kind in ("text/html", "text/plain"):
            if kind in data:
                text = re.sub(r"<th[^>]*>time</th>|<td[^>]*>[\d,]+ s</td>", "", data[kind])
                data[kind] = re.sub(f"{re.escape(gettempdir())}/\\w+", "…", text)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def joined_prints(shown: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs with what is printed one after the other as one, however the kernel sent it."""
    joined: list[nbformat.NotebookNode] = []
    for output in shown:
        if output.output_type == "stream" and joined and joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def write_notebook(source: Path, run: Path, out: Path) -> None:
    """The notebook run on `run`, its figures drawn by the one copy of plotly that lies beside it."""
    notebook = executed(source, run)
    for output in outputs(notebook):
        if PLOTLY in output.get("data", {}):
            figure = plotly.io.from_json(json.dumps(output.data.pop(PLOTLY)), skip_invalid=True)
            output.data["text/html"] = figure.to_html(full_html=False, include_plotlyjs=False)
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": source.stem}})
    shared = f'<script src="plotly.min.js"></script>{navigation("../")}'
    style = '<link rel="stylesheet" href="../style.css">'
    page = page.replace("</head>", f"{style}</head>", 1)
    page = re.sub(r"<body[^>]*>", lambda match: match[0] + shared, page, count=1)
    out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    main()
