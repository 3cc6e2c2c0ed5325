"""Write the page: its code and style, and the data that it reads. The folder is written completely or not at all."""

import html
import json
import re
from codecs import BOM_UTF16_LE
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from interp.checks.errors import DamagedError, InterpError
from interp.compare.null_dictionaries import Nulls
from interp.display.cards import script_json
from interp.display.scripts import join_scripts
from interp.display.verdict_looks import verdict_css
from interp.features.label_masks import masks_of
from interp.report.inputs import ReportInputs, report_inputs
from interp.report.json_text import encode, pack
from interp.report.notes import features_key
from interp.report.page_data import PageData
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.folders import atomic_folder

PAGE = files("interp.report") / "page"
"""The folder of the page's modules and style."""

STYLES = ("base", "feature", "compare", "overview", "evidence", "summary", "phone", "print", "table", "map")
"""The files of the page's style, in order: of two rules that are equally specific, the later one holds."""


@shows_progress
def write_report(
    run_or_features: Any,
    out: str | Path,
    *,
    ranking: pd.DataFrame | None = None,
    quality: pd.DataFrame | None = None,
    curves: Mapping[str, pd.DataFrame] | None = None,
    nulls: Nulls | None = None,
    title: str | None = None,
    labels: Mapping[str, Any] | None = None,
    pages: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Write the page to the folder `out`, here or at an address such as s3://bucket/page, completely or not at all, and
    return the path of its index.html.

    If rows are not text, the page shows the pictures that `FeatureStore.render` draws, or otherwise the rows' numbers.

    run_or_features: a `Run`, whose ranking, nulls, quality, curves, wall times and panels are read, or a FeatureStore.
    ranking, nulls, quality, curves, title: replace those of the run. `quality` has one row per dictionary, and `curves`
    is {"model": rows of metrics, "sae": …}. If one is missing, its panel gives the reason.
    labels: masks of the scanned rows, as `scan_features` takes them, so that examples show which labels hold. A run has
    its own.
    pages: addresses of the pages of other hooks, relative to this page, by their names.
    seed: the seed of the map's layout.
    overwrite: replace a page of other features.

    Raises ValueError if `run_or_features` is neither, if a table belongs to other features, if a stage of the run was
    made from other inputs than the run has now, or if `out` contains something else than a report.

    Example:

        page = write_report(features, "page", ranking=ranking, title="My dictionary")
    """
    tables: dict[str, Any] = {"ranking": ranking, "quality": quality, "curves": curves, "nulls": nulls, "title": title}
    instead = {name: value for name, value in tables.items() if value is not None}
    if ranking is not None or labels is not None:
        instead["names"] = None  # those of a run are of its own ranking and labels
    inputs = replace(report_inputs(run_or_features), **instead)
    if labels is not None:
        inputs = replace(
            inputs, labels=masks_of(labels, inputs.features.tokens.shape, is_text=inputs.features.has_text)
        )
    made_of = {"kind": "page", "features": features_key(inputs.features)}
    with atomic_folder(out, made_of, overwrite=overwrite) as new:
        _write_assets(new, index(inputs.title, pages))
        _write_data(new / "data", inputs, seed, progress)
    return Path(out).expanduser() / "index.html"


def assets() -> dict[str, str]:
    """Return the style and code of the page, by the names of their files."""
    style = "\n".join((PAGE / "style" / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    for mark, hues in {"": verdict_css(), " on a dark screen": verdict_css(dark=True)}.items():
        style = style.replace(f"/* the colours of verdicts{mark} */", hues)
    return {"page.css": style, "start.js": join_scripts(PAGE, "start.js"), "page.js": join_scripts(PAGE, "main.js")}


def page_is_current(folder: str | Path) -> bool:
    """Return whether the code of the page in a folder is that of this version of interp."""
    files = {Path(folder) / "assets" / name: text.encode() for name, text in assets().items()}
    return all(file.is_file() and file.read_bytes() == text for file, text in files.items())


def index(title: str, pages: Mapping[str, str] | None = None) -> str:
    """Return the page without its data.
    pages: the addresses of other hooks' pages, by their names."""
    page = (PAGE / "page.html").read_text(encoding="utf-8")
    parts = {"title": html.escape(title), "pages": _list_of(pages or {})}
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], page)  # in one pass: a title may look like a mark


def _list_of(pages: Mapping[str, str]) -> str:
    links = "".join(f'<li><a href="{html.escape(to)}">{html.escape(name)}</a></li>' for name, to in pages.items())
    return f'<details class="pages"><summary>Other hooks</summary><ul>{links}</ul></details>' if pages else ""


def page_policy() -> str:
    """Return the content security policy of the page."""
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', index(""))
    assert policy is not None
    return policy[1]


@cache
def plotly_script() -> bytes:
    """Return plotly.js, packed. A process packs its five megabytes once, however many pages it writes."""
    from plotly.offline import get_plotlyjs

    return _script("plotly", pack(get_plotlyjs()))


def check_data_script(file: str, script: bytes) -> None:
    """Check that a data file of a page contains only data. Raises DamagedError if it does not."""
    start = f"receive({json.dumps(Path(file).stem)},"
    last = ");\n"
    try:
        text = script.decode("utf-16" if script.startswith(BOM_UTF16_LE) else "utf-8")
        if not (text.startswith(start) and text.endswith(last)):
            raise InterpError("it does not begin or end as data does")
        json.loads(text[len(start) : -len(last)])
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"data/{file} holds no data of a page ({error}): `interp report` writes it again") from None


def _write_assets(folder: Path, page: str) -> None:
    (folder / "assets").mkdir(parents=True)
    for name, text in assets().items():
        (folder / "assets" / name).write_text(text, encoding="utf-8")
    (folder / "assets" / "plotly.js").write_bytes(plotly_script())
    (folder / "index.html").write_text(page, encoding="utf-8")


def _write_data(folder: Path, inputs: ReportInputs, seed: int, progress: Progress) -> None:
    """Write every data file of the page."""
    data = PageData(inputs, seed)
    total = data.n_chunks + 3
    folder.mkdir()
    _write_script(folder, "page", data.first())
    _write_script(folder, "table", encode(data.table()))
    _write_script(folder, "vocab", encode(data.vocab()))
    _write_script(folder, "rows", encode(data.rows()))
    for name, content in data.text():
        _write_script(folder, name, encode(content))
    progress(1, total, "drawing the figures")
    _write_script(folder, "summary", encode(data.summary()))
    progress(2, total, "mapping the decoder")
    _write_script(folder, "map", encode(data.map()))
    progress(3, total, "writing features")
    for done, (name, content) in enumerate(data.chunks(), 4):
        _write_script(folder, name, encode(content))
        progress(done, total, "writing features")
    progress(total, total, "page written")


def _write_script(folder: Path, name: str, data: Any) -> None:
    (folder / f"{name}.js").write_bytes(_script(name, data))


def _script(name: str, data: Any) -> bytes:
    """Return a script with the data. Packed data are in UTF-16, after a byte order mark, which has priority over any
    other declaration in a browser."""
    text = f"receive({json.dumps(name)},{script_json(data)});\n"
    return BOM_UTF16_LE + text.encode("utf-16-le") if isinstance(data, str) else text.encode()
