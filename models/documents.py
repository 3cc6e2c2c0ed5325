"""Documents: pieces of text with labelled characters, and the cutting of a long work into them.

A *work* is one play, one module, one file, one row; it is cut into pieces of at most `size` characters, each a
`Document` that keeps the work's name. The pieces of a work, in order, join to the work. Where works come from is a
`Source`: one decorated function, which a corpus then knows by its name.
"""

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple


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


Read = Callable[..., Iterator[Document]]


class Source(NamedTuple):
    """Where documents of at most `size` characters come from: read(rng, size), or read(*fields, size)."""

    read: Read
    endless: bool = False
    """It has no end, or one that is far: a corpus takes so many characters of it."""
    fields: tuple[str, ...] = ()
    """Of a user's own text: the fields of a `CorpusConfig` that say what to read. The first must be given."""
    remedy: str = ""
    """What to give it."""


SOURCES: dict[str, Source] = {}
"""By name."""


def source(*, endless: bool = False, fields: tuple[str, ...] = (), remedy: str = "") -> Callable[[Read], Read]:
    """Make a `Source` of the function below, of its name."""

    def register(read: Read) -> Read:
        SOURCES[read.__name__] = Source(read, endless, fields, remedy)
        return read

    return register


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
        end = piece_end(text, begin, rng.randint(max(1, size // 6), size) if rng else size)
        inside = spans[bisect.bisect_right(ends, begin) : bisect.bisect_left(starts, end)]
        kept = [Span(max(s, begin) - begin, min(e, end) - begin, label) for s, e, label in inside]
        whole = [Span(0, end - begin, source)] if spans else []
        yield Document(text[begin:end], (*whole, *kept), source, name)
        begin = end


def piece_end(text: str, begin: int, limit: int) -> int:
    """Where a piece that begins at `begin` and may hold `limit` characters ends."""
    end = begin + limit
    if end >= len(text):
        return len(text)
    for mark in ("\n\n", "\n", " "):
        at = text.rfind(mark, begin + limit // 2, end)
        if at >= 0:
            return at + len(mark)
    return end
