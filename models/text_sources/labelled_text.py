"""Text that is generated with labelled parts: a text under construction, and templates with word lists for the plain
English around the parts.

    builder = LabelledTextBuilder();  builder.add("Primer ").add("GATTACA", "dna")
    builder.document("dna", "dna-000001")

A template such as "{name} sent {x} on a {adjective} morning." is filled from word lists; `{x}` is where a labelled
value goes.
"""

import re
from collections.abc import Callable
from random import Random

from models.documents import Document, Span

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


class LabelledTextBuilder:
    """A text under construction, with the labels of its parts."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._spans: list[Span] = []
        self.length = 0

    def add(self, text: str, label: str | None = None) -> "LabelledTextBuilder":
        if label and text:
            self._spans.append(Span(self.length, self.length + len(text), label))
        self._parts.append(text)
        self.length += len(text)
        return self

    def fill(
        self, template: str, rng: Random, value: Callable[["LabelledTextBuilder"], object] | None = None
    ) -> "LabelledTextBuilder":
        """Add a template: words in its slots, and at `{x}` the output of `value(builder)`."""
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
    return LabelledTextBuilder().fill(template, rng).document("", "").text


def english_sentence(rng: Random) -> str:
    return fill_words(rng.choice(_SENTENCES), rng)
