"""Documents: pieces of text with labelled characters, and the division of a long work into documents.

A *work* is one play, one module, one file, one row; it is divided into pieces of at most `size` characters, each a
`Document` with the work's name. The pieces of a work, in order, concatenate to the work. Sources of works are
registered in `models.sources`.
"""

import bisect
from collections.abc import Iterator, Sequence
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
        """Return the characters start..end, with the labels in that range."""
        spans = [
            Span(max(s.start, start) - start, min(s.end, end) - start, s.label)
            for s in self.spans
            if s.start < end and s.end > start
        ]
        return Document(self.text[start:end], tuple(spans), self.source, self.name)


def cut_work(
    text: str, spans: Sequence[Span], source: str, name: str, *, size: int, rng: Random | None = None
) -> Iterator[Document]:
    """Divide a work into pieces at the last paragraph end, line end or space that fits.

    spans: sorted, not overlapping.
    size: the most characters of a piece; with `rng` each piece's own limit is drawn from size/6..size, so that contexts
    vary. A work that carries labels also carries its source as a label.
    """
    starts, ends = [s.start for s in spans], [s.end for s in spans]
    begin = 0
    while begin < len(text):
        end = piece_end(text, begin, rng.randint(max(1, size // 6), size) if rng else size)
        inside = spans[bisect.bisect_right(ends, begin) : bisect.bisect_left(starts, end)]
        kept = [Span(max(s, begin) - begin, min(e, end) - begin, label) for s, e, label in inside]
        spans_of_whole = [Span(0, end - begin, source)] if spans else []
        yield Document(text[begin:end], (*spans_of_whole, *kept), source, name)
        begin = end


def piece_end(text: str, begin: int, limit: int) -> int:
    """Return the end of a piece that starts at `begin` and has at most `limit` characters."""
    end = begin + limit
    if end >= len(text):
        return len(text)
    for mark in ("\n\n", "\n", " "):
        at = text.rfind(mark, begin + limit // 2, end)
        if at >= 0:
            return at + len(mark)
    return end
