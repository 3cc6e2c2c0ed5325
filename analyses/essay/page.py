"""The page of the essay: prose, with the claims, figures and samples of the analyses where they belong.

In: `walk.html` (the prose) and the folders that the analyses wrote. Out: one HTML file that works offline.

    <x-claims of="classifier"></x-claims>                  the claims of an analysis, with the command that repeats them
    <x-figure of="classifier/regions">caption</x-figure>   a figure; one with frames gets a slider
    <x-value of="shakespeare/causal.loss" as=".2f"></x-value>       a number among its `values`
    <x-samples of="shakespeare/samples"></x-samples>       texts among its `values`: title → text
    <x-glance></x-glance>, <x-table></x-table>             all claims as dots; all claims as a table

Whatever an analysis has not written yet is named with the command that makes it. All text from results is escaped.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from analyses.record import HOLDS
from interp.files import write_text

HERE = Path(__file__).parent
_TAG = re.compile(r'<x-(\w+)(?: of="([^"]+)")?(?: as="([^"]+)")?>(.*?)</x-\1>', re.DOTALL)
_CLASS = {True: "holds", False: "fails", None: "measured"}


@dataclass(frozen=True)
class Chapter:
    """What one analysis found."""

    name: str
    folder: Path
    command: str
    results: Mapping[str, Any] | None
    """None: it has not been run."""


def read_chapters(out: Path, commands: Mapping[str, str]) -> dict[str, Chapter]:
    """`commands`: analysis → the command that writes OUT/analysis."""
    chapters = {}
    for name, command in commands.items():
        file = out / name / "results.json"
        results = json.loads(file.read_text()) if file.exists() else None
        chapters[name] = Chapter(name, out / name, command, results)
    return chapters


def write_page(chapters: Mapping[str, Chapter], file: Path) -> Path:
    """Fill the prose and write the page. Raises ValueError where the prose asks for what no analysis has."""
    page = _Page(chapters)
    body = _TAG.sub(page.fill, (HERE / "walk.html").read_text(encoding="utf-8")).replace(" %", "\u00a0%")
    css, js = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    figures = "".join(
        f'<script type="application/json" id="{key}">{_harmless(text)}</script>\n' for key, text in page.figures.items()
    )
    whole = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>How models learn</title>\n<style>\n{css}</style>\n</head>\n<body>\n{body}\n{figures}"
        f"<script>{get_plotlyjs()}</script>\n<script>\n{js}</script>\n</body>\n</html>\n"
    )
    write_text(file, whole)
    return file


class _Page:
    def __init__(self, chapters: Mapping[str, Chapter]):
        self.chapters, self.figures = chapters, dict[str, str]()

    def fill(self, tag: re.Match) -> str:
        kind, of, form, inside = tag[1], tag[2] or "", tag[3] or "", tag[4]
        if kind in ("glance", "table"):
            return {"glance": self.glance, "table": self.table}[kind]()
        name, _, what = of.partition("/")
        if name not in self.chapters:
            raise ValueError(f"walk.html asks for {of!r}; the analyses are {', '.join(self.chapters)}")
        chapter, parts = self.chapters[name], {"figure": self.figure, "value": self.value, "samples": self.samples}
        if chapter.results is None:
            return _missing(chapter) if kind != "value" else "…"
        return _claims(chapter) if kind == "claims" else parts[kind](chapter, what, form, inside)

    def figure(self, chapter: Chapter, name: str, form: str, caption: str) -> str:
        file = chapter.folder / f"{name}.json"
        if name not in chapter.results["figures"] or not file.exists():
            raise ValueError(f"{chapter.name} has no figure {name!r}: it has {', '.join(chapter.results['figures'])}")
        key = f"{chapter.name}--{name}"
        self.figures[key] = file.read_text()
        return (
            f'<figure><div class="plot" data-figure="{key}"></div><figcaption>{caption.strip()}</figcaption></figure>'
        )

    def value(self, chapter: Chapter, path: str, form: str, inside: str) -> str:
        return html.escape(format(_look_up(chapter, path), form))

    def samples(self, chapter: Chapter, path: str, form: str, inside: str) -> str:
        texts = _look_up(chapter, path)
        cells = (f"<div><h4>{html.escape(t)}</h4><pre>{html.escape(text)}</pre></div>" for t, text in texts.items())
        return f'<div class="samples">{"".join(cells)}</div>'

    def glance(self) -> str:
        """Every claim a dot that leads to it."""
        dots = "".join(
            f'<a class="{_CLASS[c["holds"]]}" href="#claim-{c["row"]}" title="{html.escape(_one_line(c))}"></a>'
            for c in self.claims()
        )
        counts = [sum(c["holds"] is verdict for c in self.claims()) for verdict in HOLDS]
        words = ", ".join(
            f"{n} {word}" for n, word in zip(counts, ("held", "did not", "measured without a bar"), strict=True) if n
        )
        return f'<p class="glance"><span>{dots}</span> <small>{words}</small></p>'

    def table(self) -> str:
        rows = "".join(
            f'<tr><td><a href="#claim-{c["row"]}">{c["row"]}</a></td><td>{html.escape(c["text"])}</td>'
            f'<td><span class="verdict {_CLASS[c["holds"]]}">{HOLDS[c["holds"]]}</span></td>'
            f"<td>{html.escape(c['found'])}</td></tr>"
            for c in self.claims()
        )
        head = "<tr><th>row</th><th>claim</th><th>verdict</th><th>found</th></tr>"
        return f'<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'

    def claims(self) -> Sequence[dict[str, Any]]:
        found = [claim for chapter in self.chapters.values() if chapter.results for claim in chapter.results["claims"]]
        return sorted(found, key=lambda claim: _natural(claim["row"]))


def _claims(chapter: Chapter) -> str:
    items = "".join(
        f'<li id="claim-{c["row"]}"><span class="verdict {_CLASS[c["holds"]]}">{HOLDS[c["holds"]]}</span>'
        f"<p>{html.escape(c['text'])}</p><p class=found>{html.escape(c['found'])}</p></li>"
        for c in chapter.results["claims"]
    )
    minutes = chapter.results["seconds"] / 60
    took = f"{minutes:.1f} minutes" if minutes >= 1 else f"{minutes * 60:.0f} seconds"
    return (
        f'<aside class="claims"><ul>{items}</ul><p class="repeat"><code>{html.escape(chapter.command)}</code>'
        f" <small>{took}</small></p></aside>"
    )


def _missing(chapter: Chapter) -> str:
    return f'<p class="missing">Not run yet: <code>{html.escape(chapter.command)}</code></p>'


def _look_up(chapter: Chapter, path: str) -> Any:
    value: Any = chapter.results["values"]
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"{chapter.name} has no value {path!r}: at {part!r} there is {value!r:.100}")
        value = value[part]
    return value


def _one_line(claim: Mapping[str, Any]) -> str:
    return f"{claim['row']}: {claim['text']} ({HOLDS[claim['holds']]})"


def _natural(row: str) -> tuple[int, str]:
    digits = re.match(r"\d*", row)
    number = digits[0] if digits else ""
    return int(number or 0), row[len(number) :]


def _harmless(text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    return text.replace("<", "\\u003c")
