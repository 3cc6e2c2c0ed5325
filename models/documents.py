"""Documents: pieces of text with labelled characters, and the division of a long work into documents.

A *work* is one play, one module, one file, one row; it is divided into pieces of at most `size` characters, each a
`Document` with the work's name. The pieces of a work, in order, concatenate to the work. Sources of works are
registered in `models.sources`. Generated text is written on a `Page`, whose spans carry labels, with plain English
around them:

    page = Page();  page.add("Primer ").add("GATTACA", "dna");  page.document("dna", "dna-000001")

A template such as "{name} sent {x} on a {adjective} morning." is filled from word lists; `{x}` is where a labelled
value goes.
"""

import bisect
import re
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


_WORDS = {
    "name": "Alice Amir Anna Bashir Chen Clara Daniel Elena Emeka Farah George Hana Igor Ines James Julia Kofi Lena "
    "Malik Maria Nadia Oscar Paula Quentin Rosa Samuel Tara Usha Victor Wendy Yusuf Zoe",
    "noun": "archive bridge captain dataset engine farmer garden harbour island journal kitchen ladder machine "
    "neighbour office printer question river server teacher umbrella village window workshop report letter signal "
    "student market library camera record battery message folder ticket station doctor lantern",
    "place": "Athens Berlin Cairo Dublin Hanoi Kyoto Lagos Lima London Madrid Nairobi Oslo Paris Quito Rome Sydney",
    "adjective": "bright broken careful cheap cold curious distant famous gentle heavy hidden hollow late narrow "
    "plain quiet rapid recent rusty second secret small strange sudden usual warm yellow",
    "verb": "arrived changed closed crossed failed followed found helped kept left lost missed moved opened passed "
    "paused reached remembered repaired replaced returned saved sold started stopped studied tested watched",
    "number": " ".join(map(str, (2, 3, 4, 5, 7, 9, 11, 12, 16, 20, 24, 31, 40, 64, 72, 99, 100, 128, 250, 404, 512))),
}
_CHOICES = {slot: words.split() for slot, words in _WORDS.items()}

_SENTENCES = (
    "The {adjective} {noun} {verb} before the {noun} {verb}.",
    "{name} {verb} the {noun} in {place}.",
    "After {number} days the {noun} was {adjective} again.",
    "Nobody in {place} {verb} the {adjective} {noun}.",
    "We {verb} {number} of them, and {name} {verb} the rest.",
    "There is a {adjective} {noun} near the {noun}, said {name}.",
    "{name} and {name} {verb} it for the {noun}.",
    "Why was the {noun} so {adjective}?",
    "It {verb} slowly, like a {adjective} {noun} in {place}.",
    "Please tell {name} that the {noun} {verb}.",
)


class Page:
    """A text under construction, with the labels of its parts."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._spans: list[Span] = []
        self.length = 0

    def add(self, text: str, label: str | None = None) -> "Page":
        if label and text:
            self._spans.append(Span(self.length, self.length + len(text), label))
        self._parts.append(text)
        self.length += len(text)
        return self

    def fill(self, template: str, rng: Random, value: Callable[["Page"], object] | None = None) -> "Page":
        """Add a template: words in its slots, and at `{x}` the output of `value(page)`."""
        for part in re.split(r"(\{\w+\})", template):
            slot = part[1:-1] if part[:1] == "{" else ""
            if slot == "x" and value:
                value(self)
            else:
                self.add(rng.choice(_CHOICES[slot]) if slot else part)
        return self

    def document(self, source: str, name: str) -> Document:
        return Document("".join(self._parts), tuple(self._spans), source, name)


def fill_words(template: str, rng: Random) -> str:
    """Fill a template and return plain text."""
    return Page().fill(template, rng).document("", "").text


def english_sentence(rng: Random) -> str:
    return fill_words(rng.choice(_SENTENCES), rng)
