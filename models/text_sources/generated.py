"""Seeded text, labelled by construction: pages with values in a known format, and text in many languages.

In: a format or a language and a `random.Random`. Out: endless `Document`s in which the characters of that format or
language, and no others, carry its name as label. A page of a format (DNA, base64, hex, UUID, URL, e-mail, date, JSON,
HTML, LaTeX) mixes the format's own lines (a log, a letter, a listing …) with plain English. Words of a language are
from the word lists of Faker's locales, drawn by Zipf's law, P(rank r) ∝ 1 / (r + 10), sentences and paragraphs have the
language's own punctuation; every third document sets its sentences between lines of English, which carry no label.
"""

import functools
import importlib
import unicodedata
from collections.abc import Callable, Iterator
from itertools import accumulate, count
from random import Random
from typing import NamedTuple

from models.documents import Document
from models.sources import text_source
from models.text_sources import format_values
from models.text_sources.labelled_text import LabelledTextBuilder, english_sentence


class _Format(NamedTuple):
    write: Callable[[Random, LabelledTextBuilder], object]
    """Adds one value to the page, labelled."""
    lines: tuple[str, ...]
    """Templates around a value; one that ends in a line break may come several times in a row, as a listing does."""


def format_documents(name: str, rng: Random, size: int) -> Iterator[Document]:
    write, lines = FORMATS[name]

    def fill(builder: LabelledTextBuilder, target: int) -> None:
        while builder.length < target:
            line = rng.choice(lines)
            for _ in range(rng.randint(1, 4) if line.endswith("\n") else 1):
                builder.fill(line, rng, lambda builder: write(rng, builder))
            if not line.endswith("\n") or rng.random() < 0.4:
                english = " ".join(english_sentence(rng) for _ in range(rng.randint(0, 2)))
                builder.add("" if line.endswith("\n") or not english else " ").add(english + rng.choice(("\n", "\n\n")))

    return _generate(name, rng, size, fill)


def _generate(
    name: str, rng: Random, size: int, fill: Callable[[LabelledTextBuilder, int], None]
) -> Iterator[Document]:
    """Yield documents of size/6..size characters (the last value or sentence may be cut off at `size`); fill(page,
    target) writes at least so many."""
    for number in count():
        builder = LabelledTextBuilder()
        target = rng.randint(max(1, size // 6), size)
        fill(builder, target)
        yield builder.document(name, f"{name}-{number:06d}").part(0, size)


FORMATS = {
    "dna": _Format(
        format_values.write_dna,
        (
            ">sample {number} from {place}\n{x}\n",
            "The {adjective} primer {x} binds upstream.",
            "Sequence {number}: {x}\n",
            "{name} aligned {x} with the reference strand.",
            "Exon {number} of the {noun} gene reads {x}.",
        ),
    ),
    "base64": _Format(
        format_values.write_base64,
        (
            "-----BEGIN CERTIFICATE-----\n{x}\n-----END CERTIFICATE-----\n",
            "Authorization: Basic {x}\n",
            "The {noun} is attached as base64:\n{x}\n",
            "data:image/png;base64,{x}\n",
            "{name} pasted {x} into the {noun}.",
            'payload = "{x}"\n',
        ),
    ),
    "hex": _Format(
        format_values.write_hex,
        (
            "{x}  {noun}.tar.gz\n",
            "The checksum of the {noun} is {x}.",
            "Fault at address {x} in the {noun} module.",
            "commit {x}\n",
            "{number}: {x}\n",
            "{name} {verb} the key {x} in {place}.",
        ),
    ),
    "uuid": _Format(
        format_values.write_uuid,
        (
            "request {x} {verb} after {number} ms\n",
            "The {noun} {x} belongs to {name}.",
            "{noun}_id: {x}\n",
            "device {x} is {adjective}\n",
            "Session {x} {verb}; {x} goes on.",
        ),
    ),
    "url": _Format(
        format_values.write_url,
        (
            "See {x} for the {adjective} {noun}.",
            "GET {x} {number} ms\n",
            "- [{noun}]({x})\n",
            "{name} shared {x} with {name}.",
            "Mirror: {x}\n",
            "The {noun} moved from {x} to {x} last week.",
        ),
    ),
    "email": _Format(
        format_values.write_email,
        (
            "From: {name} <{x}>\n",
            "To: {x}\n",
            "Write to {x} about the {adjective} {noun}.",
            "{name}, {place}, {x}\n",
            "{name} ({x}) {verb} the {noun}.",
            "Contact {x} or {x} before the {noun} {verb}.",
        ),
    ),
    "date": _Format(
        format_values.write_date,
        (
            "{x}  the {noun} {verb}\n",
            "On {x} the {noun} in {place} {verb}.",
            "Date: {x}\n",
            "{name} was born on {x} in {place}.",
            "The {noun} is open from {x} to {x}.",
            "{place}, {x}\n",
        ),
    ),
    "json": _Format(
        format_values.write_json_value,
        (
            "{x}\n",
            "The {noun} service answered {x}\n",
            "{name} sent this to the {noun}:\n{x}\n",
            "settings = {x}\n",
            "When the body is {x}, the {noun} {verb}.",
        ),
    ),
    "html": _Format(
        format_values.write_html,
        ("{x}\n", "{x}\n", "The {noun} page begins with {x} and {name} {verb} it.", "{x} {x}\n"),
    ),
    "latex": _Format(
        format_values.write_latex,
        (
            "Let {x} be the {adjective} {noun}.",
            "If {x} holds, then {x} holds in {place}.",
            "We obtain {x} from the {noun}.",
            "{x}\n",
            "The term {x} {verb} as {x} grows.",
        ),
    ),
}


class _Language(NamedTuple):
    locale: str
    comma: str = ", "
    stops: tuple[str, ...] = (".", ".", ".", ".", "?", "!")
    between_words: str = " "
    between_sentences: str = " "
    particles: tuple[str, ...] = ()
    """What may follow a word without a gap, where words alone would read as a list."""


_ARABIC_MARKS = ("، ", (".", ".", ".", "؟"))

LANGUAGES = {
    "arabic": _Language("ar_AA", *_ARABIC_MARKS),
    "persian": _Language("fa_IR", *_ARABIC_MARKS),
    "hebrew": _Language("he_IL"),
    "greek": _Language("el_GR", stops=(".", ".", ".", "·", ";", "!")),
    "armenian": _Language("hy_AM", stops=("։",)),
    "russian": _Language("ru_RU"),
    "ukrainian": _Language("uk_UA"),
    "bengali": _Language("bn_BD", stops=("।", "।", "।", "?")),
    "thai": _Language("th_TH", comma=" ", stops=(" ",), between_words="", between_sentences=""),
    "japanese": _Language(
        "ja_JP", "、", ("。",), "", "", ("は", "が", "を", "に", "の", "と", "で", "も", "から", "です")
    ),
    "chinese": _Language("zh_CN", "\uff0c", ("。", "。", "。", "\uff1f", "\uff01"), "", ""),
    "french": _Language("fr_FR"),
    "german": _Language("de_DE"),
    "spanish": _Language("es_ES"),
    "italian": _Language("it_IT"),
    "dutch": _Language("nl_NL"),
    "danish": _Language("da_DK"),
    "polish": _Language("pl_PL"),
    "czech": _Language("cs_CZ"),
    "latin": _Language("la"),
}


def language_documents(name: str, rng: Random, size: int) -> Iterator[Document]:
    language = LANGUAGES[name]
    words, weights = _words(language.locale)

    def fill(builder: LabelledTextBuilder, target: int) -> None:
        quoted = rng.random() < 1 / 3
        while builder.length < target:
            if quoted:
                builder.add(english_sentence(rng) + rng.choice((" ", "\n", "\n\n")))
            n = rng.randint(1, 2) if quoted else rng.randint(2, 6)
            sentences = [_sentence(language, words, weights, rng) for _ in range(n)]
            builder.add(language.between_sentences.join(sentences).strip(), name)
            builder.add(rng.choice(("\n", "\n\n")))

    return _generate(name, rng, size, fill)


def _sentence(language: _Language, words: list[str], weights: list[float], rng: Random) -> str:
    chosen = rng.choices(words, cum_weights=weights, k=rng.randint(3, 14))
    parts = [chosen[0][:1].upper() + chosen[0][1:]]
    for word in chosen[1:]:
        if language.particles:
            parts.append(rng.choice(language.particles))
        parts.append(language.comma if rng.random() < 0.12 else language.between_words)
        parts.append(word)
    return "".join(parts) + rng.choice(language.stops)


@functools.cache
def _words(locale: str) -> tuple[list[str], list[float]]:
    """Return the locale's words in an order of frequency that never changes, and their cumulative weights."""
    provider = importlib.import_module(f"faker.providers.lorem.{locale}").Provider
    words = [w for w in dict.fromkeys(provider.word_list) if w and all(unicodedata.category(c)[0] in "LM" for c in w)]
    Random(0).shuffle(words)
    return words, list(accumulate(1 / (rank + 10) for rank in range(len(words))))


def _register(generate: Callable[[str, Random, int], Iterator[Document]], name: str, content: str) -> None:
    def read(rng: Random, size: int) -> Iterator[Document]:
        return generate(name, rng, size)

    read.__name__ = read.__qualname__ = name
    read.__doc__ = content
    text_source(endless=True)(read)


for _name in FORMATS:
    _register(format_documents, _name, "values in this format among lines of English")
for _name in LANGUAGES:
    _register(language_documents, _name, "words of this language, drawn by Zipf's law")
