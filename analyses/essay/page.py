"""Write the page of the essay: prose, with the claims, figures and samples of the analyses in their places.

In: `walk.html` (the prose) and the folders that the analyses wrote. Out: one HTML file that works offline.

    <x-claims of="classifier"></x-claims>                  the claims of an analysis, with the command that repeats them
    <x-figure of="classifier/regions">caption</x-figure>   a figure; one with frames gets a slider
    <x-value of="shakespeare/2d.ratio.0" as=".0%"></x-value>   a number (`as` count: how many) of a claim, of its
                                                           `values`, or of its `setting`
    <x-samples of="shakespeare/samples"></x-samples>       texts among its `values`: title → text
    <x-contents></x-contents>, <x-banner></x-banner>       the sections with their claims as marks, and the marks'
                                                           key; what was run quickly

In place of the claims of an analysis that has not been run, the page names its command. All text from results is
escaped.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from analyses.record import HOLDS
from interp.storage.files import json_roundtrip, write_text

HERE = Path(__file__).parent
_TAG = re.compile(r'<x-(\w+)(?: of="([^"]+)")?(?: as="([^"]+)")?>(.*?)</x-\1>', re.DOTALL)
_SECTION = re.compile(r"<h2>(<small>.*?</small>)?(.*?)</h2>")
_CLASS = {True: "holds", False: "fails", None: "measured"}


@dataclass(frozen=True)
class Chapter:
    """What one analysis found."""

    name: str
    folder: Path
    command: str
    results: Mapping[str, Any] | None
    """The results of the analysis. None if it has not been run."""
    quick: bool = False
    """Whether it was run at its tiny size."""


def read_chapters(out: Path, commands: Mapping[str, str], quick: Mapping[str, Any]) -> dict[str, Chapter]:
    """Read the chapters.
    commands: analysis → the command that writes OUT/analysis.
    quick: analysis → its tiny setting."""
    chapters = {}
    for name, command in commands.items():
        file = out / name / "results.json"
        results = json.loads(file.read_text()) if file.exists() else None
        tiny = results is not None and results["setting"] == json_roundtrip(asdict(quick[name]))
        chapters[name] = Chapter(name, out / name, command, results, tiny)
    return chapters


def write_page(chapters: Mapping[str, Chapter], file: Path) -> Path:
    """Fill the prose and write the page. Raises ValueError if the prose asks for what no analysis has."""
    walk = (HERE / "walk.html").read_text(encoding="utf-8")
    page = _Page(chapters, walk)
    named = _SECTION.sub(lambda section: f'<h2 id="{_slug(section[2])}">{section[1]}{section[2]}</h2>', walk)
    body = _TAG.sub(page.fill, named).replace(" %", "\u00a0%")
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
    def __init__(self, chapters: Mapping[str, Chapter], walk: str):
        self.chapters, self.walk, self.figures = chapters, walk, dict[str, str]()

    def fill(self, tag: re.Match) -> str:
        kind, subject, form, inside = tag[1], tag[2] or "", tag[3] or "", tag[4]
        if kind in ("banner", "contents"):
            return self.banner() if kind == "banner" else self.contents()
        name, _, what = subject.partition("/")
        if name not in self.chapters:
            raise ValueError(f"walk.html asks for {subject!r}; the analyses are {', '.join(self.chapters)}")
        chapter, parts = self.chapters[name], {"figure": self.figure, "value": self.value, "samples": self.samples}
        if chapter.results is None:  # the command stands once, in place of the claims
            link = f'<a class="missing" href="#missing-{chapter.name}">(not run yet)</a>'
            return {"claims": _missing(chapter), "value": link}.get(kind, "")
        return _claims(chapter) if kind == "claims" else parts[kind](chapter, what, form, inside)

    def figure(self, chapter: Chapter, name: str, form: str, caption: str) -> str:
        file = chapter.folder / f"{name}.json"
        if name not in chapter.results["figures"] or not file.exists():
            raise ValueError(f"{chapter.name} has no figure {name!r}: it has {', '.join(chapter.results['figures'])}")
        key = f"{chapter.name}--{name}"
        self.figures[key] = file.read_text()
        caption_text = _TAG.sub(self.fill, caption.strip())
        return f'<figure><div class="plot" data-figure="{key}"></div><figcaption>{caption_text}</figcaption></figure>'

    def value(self, chapter: Chapter, path: str, form: str, inside: str) -> str:
        value = _look_up(chapter, path)
        return str(len(value)) if form == "count" else html.escape(format(value, form))

    def samples(self, chapter: Chapter, path: str, form: str, inside: str) -> str:
        texts = _look_up(chapter, path)
        named = ((html.escape(title), html.escape(text)) for title, text in texts.items())
        cells = (f"<div><p>{title}</p><pre tabindex=0>{text}</pre></div>" for title, text in named)
        return f'<div class="samples">{"".join(cells)}</div>'

    def banner(self) -> str:
        quick = [chapter.name for chapter in self.chapters.values() if chapter.quick]
        if not quick:
            return ""
        which = "All of it" if len(quick) == len(self.chapters) else ", ".join(quick)
        return (
            f'<p class="banner"><strong>A quick run.</strong> {which} was run at a tiny size, to test the code: its '
            "numbers and verdicts mean nothing, and the text beside them need not hold.</p>"
        )

    def contents(self) -> str:
        """Return the sections, each with its claims as dots that lead to them."""
        parts, items = _SECTION.split(self.walk), []
        for title, text in zip(parts[2::3], parts[3::3], strict=True):
            names = [tag[2] for tag in _TAG.finditer(text) if tag[1] == "claims"]
            dots = "".join(_dot(claim) for name in names for claim in self.claims(name))
            items.append(f'<li><a href="#{_slug(title)}">{title}</a> <span class="dots">{dots}</span></li>')
        verdicts = [claim["holds"] for name in self.chapters for claim in self.claims(name)]
        words = zip(HOLDS, ("claims held", "did not hold", "measured, with no claim to hold"), strict=True)
        counts = "".join(
            f'<span class="key {_CLASS[holds]}">{verdicts.count(holds)} {word}</span>'
            for holds, word in words
            if holds in verdicts
        )
        return f'<nav class="contents" aria-label="Contents"><ol>{"".join(items)}</ol><p>{counts}</p></nav>'

    def claims(self, name: str) -> Sequence[dict[str, Any]]:
        chapter = self.chapters.get(name)
        return chapter.results["claims"] if chapter and chapter.results else ()


def _dot(claim: Mapping[str, Any]) -> str:
    label = html.escape(f"{claim['row']}: {claim['text']} ({HOLDS[claim['holds']]})")
    return f'<a class="dot {_CLASS[claim["holds"]]}" href="#claim-{claim["row"]}" title="{label}"></a>'


def _claims(chapter: Chapter) -> str:
    items = "".join(
        f'<li id="claim-{c["row"]}"><span class="verdict {_CLASS[c["holds"]]}">{HOLDS[c["holds"]]}</span>'
        f"<p>{html.escape(c['text'])}</p><p class=found>{html.escape(c['found'])}</p></li>"
        for c in chapter.results["claims"]
    )
    minutes = chapter.results["seconds"] / 60
    took = f"{minutes:.1f} minutes" if minutes >= 1 else f"{minutes * 60:.0f} seconds"
    return (
        f'<aside class="claims" aria-label="Claims of {chapter.name}"><ul>{items}</ul>'
        f'<p class="repeat"><code>{html.escape(chapter.command)}</code>'
        f" <small>{took}</small></p></aside>"
    )


def _missing(chapter: Chapter) -> str:
    command = html.escape(chapter.command)
    return f'<p class="missing" id="missing-{chapter.name}">Not run yet: <code>{command}</code></p>'


def _look_up(chapter: Chapter, path: str) -> Any:
    results = chapter.results
    numbers_of_row = {claim["row"]: claim["numbers"] for claim in results["claims"]}
    value: Any = {**results["values"], **numbers_of_row, "setting": results["setting"]}
    for part in path.split("."):
        fields = dict(enumerate(value)) if isinstance(value, list) else value
        key = int(part) if isinstance(value, list) and part.isdecimal() else part
        if not isinstance(fields, Mapping) or key not in fields:
            raise ValueError(f"{chapter.name} has no value {path!r}: at {part!r} there is {value!r:.100}")
        value = fields[key]
    return value


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _harmless(text: str) -> str:
    """Return JSON that cannot end the script element that contains it."""
    return text.replace("<", "\\u003c")
