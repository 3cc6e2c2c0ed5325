"""Seeded pages with values in a known format: DNA, base64, hex, UUID, URL, e-mail, date, JSON, HTML, LaTeX.

In: a format and a `random.Random`. Out: endless `Document`s in which the format's characters, and no others, carry
its name as label. A page mixes the format's own lines (a log, a letter, a listing …) with plain English.
"""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import NamedTuple

from models import format_values
from models.documents import SOURCES, Document, Source
from models.pages import Page, english_sentence


class _Format(NamedTuple):
    write: Callable[[Random, Page], object]
    """Adds one value to the page, labelled."""
    lines: tuple[str, ...]
    """Templates around a value; one that ends in a line break may come several times in a row, as a listing does."""


def format_documents(name: str, rng: Random, size: int) -> Iterator[Document]:
    """Endless documents of size/6..size characters (the last value may be cut off at `size`)."""
    write, lines = FORMATS[name]
    number = 0
    while True:
        page, target = Page(), rng.randint(max(1, size // 6), size)
        while page.length < target:
            line = rng.choice(lines)
            for _ in range(rng.randint(1, 4) if line.endswith("\n") else 1):
                page.fill(line, rng, lambda page: write(rng, page))
            if not line.endswith("\n") or rng.random() < 0.4:
                english = " ".join(english_sentence(rng) for _ in range(rng.randint(0, 2)))
                page.add("" if line.endswith("\n") or not english else " ").add(english + rng.choice(("\n", "\n\n")))
        yield page.document(name, f"{name}-{number:06d}").part(0, size)
        number += 1


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
        format_values.write_json,
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

SOURCES |= {name: Source(partial(format_documents, name), endless=True) for name in FORMATS}
