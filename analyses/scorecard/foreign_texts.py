"""Texts by another author: what machines write, and what people say. No calibration is fitted to either.

In: a random generator. Out: `MarkedText`, tokens and the spans in which something is true, each under a label
"home/name": two labels of one home are related.

    machines   log lines of five services, JSON records, Python and SQL about the same things
    talk       dialogues in four registers and eight languages, with stage directions, games of chess, lines of chords
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32
from numpy.random import Generator as Random

PIECES = re.compile(r" ?[A-Z]?[^\W\d_A-Z]+| ?[A-Z]+|\d{1,2}|\n| {2,}| ?[^\w\s]|_| ")
Spans = list[tuple[int, int]]


class MarkedText(NamedTuple):
    tokens: Int32[np.ndarray, "seq pos"]
    vocab: list[str]
    spans: dict[str, Spans]
    """The spans of each label: rows from the first number up to, but not including, the second."""


class Writer:
    """Writes text as tokens, and notes where each label holds."""

    def __init__(self, rng: Random):
        self.rng, self.pieces = rng, list[str]()
        self.spans: dict[str, Spans] = defaultdict(list)

    def put(self, text: str, *labels: str) -> None:
        with self.inside(*labels):
            self.pieces += PIECES.findall(text)

    @contextmanager
    def inside(self, *labels: str) -> Iterator[None]:
        start = len(self.pieces)
        yield
        for label in labels:
            self.spans[label].append((start, len(self.pieces)))

    def of(self, choices: Sequence[str], steepness: float = 0.6) -> str:
        """Return one of them, the first ones more often."""
        chances = np.arange(1, len(choices) + 1) ** -steepness
        return choices[int(self.rng.choice(len(choices), p=chances / chances.sum()))]

    def happens(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def text(self, n_seq: int, n_ctx: int) -> MarkedText:
        size, number = n_seq * n_ctx, {piece: i for i, piece in enumerate(dict.fromkeys(self.pieces))}
        tokens = np.array([number[piece] for piece in self.pieces[:size]], np.int32).reshape(n_seq, n_ctx)
        return MarkedText(tokens, list(number), dict(self.spans))


def written(draw: Callable[[Writer], None], rng: Random, n_seq: int, n_ctx: int) -> MarkedText:
    """Return as many documents as fill the sequences."""
    writer = Writer(rng)
    while len(writer.pieces) < n_seq * n_ctx:
        draw(writer)
    return writer.text(n_seq, n_ctx)


TOPICS = {
    "database": "query index replica shard cursor commit rollback tuple vacuum schema deadlock snapshot",
    "network": "socket packet gateway router handshake latency proxy peer subnet timeout tunnel beacon",
    "login": "password session token cookie user role captcha expiry lockout signin credential consent",
    "payment": "invoice refund card ledger balance currency merchant charge voucher dispute tax payout",
    "disk": "volume block inode mount sector journal quota swap partition backup archive checksum",
}
NOUNS = {topic: nouns.split() for topic, nouns in TOPICS.items()}
DOING = "opened closed failed retried started finished skipped expired accepted rejected dropped restored".split()
BETWEEN = "for with on after by from while during at because of".split()
METHODS = "load save find merge parse apply check send build split fetch reset".split()
KEYWORDS = {"SELECT", "FROM", "WHERE", "JOIN", "GROUP", "ORDER", "LIMIT"}


def machines(w: Writer) -> None:
    topic = w.of(list(NOUNS), 0)
    (_log, _json, _python, _sql)[int(w.rng.choice(4, p=(0.35, 0.25, 0.25, 0.15)))](w, topic)
    w.put("\n\n")


def _noun(w: Writer, topic: str, before: str = "") -> None:
    noun_topic = topic if w.happens(0.85) else w.of(list(NOUNS), 0)
    w.put(before + w.of(NOUNS[noun_topic]), f"topic/{noun_topic}")


def _log(w: Writer, topic: str) -> None:
    hour = int(w.rng.integers(24))
    for line in range(int(w.rng.integers(6, 16))):
        level = w.of(("INFO", "DEBUG", "WARN", "ERROR"), 0.7)
        w.put(f"{2020 + hour % 5}-{1 + hour % 12:02d}-{3 + hour:02d}T{hour:02d}:{line:02d}:{w.rng.integers(60):02d}",
              "log/time")  # fmt: skip
        w.put(f" {level}", "log/level")
        w.put(" [")
        w.put(f"{w.of(('worker', 'main', 'pool', 'timer'))}-{w.rng.integers(9)}", "log/thread")
        w.put("]")
        _noun(w, topic, " ")
        w.put(" " + w.of(DOING), "log/what happened")
        for _ in range(int(w.rng.integers(1, 4))):
            w.put(" " + w.of(BETWEEN))
            what = w.rng.random()
            if what < 0.25:
                w.put(" " + ".".join(str(w.rng.integers(10, 250)) for _ in range(4)), "log/address")
            elif what < 0.45:
                w.put(f" {w.rng.integers(10, 9000)}")
                w.put(" ms", "log/unit")
            elif what < 0.6:
                w.put(f" 0x{''.join(w.rng.choice(list('0123456789abcdef'), 6))}", "log/hexadecimal")
            else:
                _noun(w, topic, " ")
        w.put("\n")
        if level == "ERROR" and w.happens(0.6):
            for _ in range(int(w.rng.integers(1, 4))):
                w.put("  at")
                w.put(f" {w.of(METHODS).title()}{w.of(NOUNS[topic]).title()}.{w.of(METHODS)}", "log/trace")
                w.put(f"({w.of(METHODS)}.java:{w.rng.integers(10, 99)})\n")


SCHEMAS = {
    "sensor": "site unit reading alarm humidity pressure".split(),
    "order": "item price amount buyer address colour".split(),
    "staff": "name office salary manager skill birthday".split(),
}
STRINGS = "north red Oslo amber cotton Lima senior blue Quito oak junior south linen Perth grey".split()


def _json(w: Writer, topic: str) -> None:
    schema = w.of(list(SCHEMAS), 0)
    w.put("[")
    for _ in range(int(w.rng.integers(3, 8))):
        w.put("{")
        with w.inside(f"json/record of {schema}"):
            for key in w.rng.permutation(SCHEMAS[schema])[: int(w.rng.integers(2, 6))]:
                w.put('"')
                w.put(str(key), "json/key")
                w.put('": ')
                _value(w, topic, 0)
                w.put(", ")
        w.put("},\n")
    w.put("]\n")


def _value(w: Writer, topic: str, depth: int) -> None:
    what = w.rng.random()
    if what < 0.3:
        w.put(f"{w.rng.integers(1, 999)}", "json/number")
    elif what < 0.6:
        w.put('"')
        w.put(w.of(STRINGS), "json/string")
        w.put('"')
    elif what < 0.7 or depth == 2:
        w.put(w.of((" true", " false", " null")), "json/constant")
    else:
        w.put("[")
        with w.inside("json/array"):
            for _ in range(int(w.rng.integers(1, 4))):
                _value(w, topic, depth + 1)
                w.put(", ")
        w.put("]")


def _python(w: Writer, topic: str) -> None:
    for _ in range(int(w.rng.integers(1, 3))):
        w.put(f"from {w.of(list(NOUNS))} import {w.of(METHODS)}\n", "python/import")
    for _ in range(int(w.rng.integers(1, 4))):
        w.put(f"def {w.of(METHODS)}_")
        _noun(w, topic)
        w.put("(")
        for _ in range(int(w.rng.integers(1, 4))):
            w.put(w.of(NOUNS[topic]), "python/parameter")
            w.put(", ")
        w.put("):\n")
        if w.happens(0.5):
            w.put('    """')
            w.put(f"{w.of(METHODS).title()} the {w.of(NOUNS[topic])} {w.of(BETWEEN)} the {w.of(NOUNS[topic])}.",
                  "python/docstring")  # fmt: skip
            w.put('"""\n')
        for _ in range(int(w.rng.integers(2, 6))):
            w.put("    ")
            if w.happens(0.25):
                w.put(f"# {w.of(DOING)} {w.of(BETWEEN)} the {w.of(NOUNS[topic])}\n", "python/comment")
                continue
            if w.happens(0.6):
                w.put(w.of(NOUNS[topic]), "python/assigned")
                w.put(" = ")
            w.put(w.of(METHODS), "python/called")
            w.put(f"({w.of(NOUNS[topic])})\n")
        w.put(f"    return {w.of(NOUNS[topic])}\n\n")


def _sql(w: Writer, topic: str) -> None:
    for _ in range(int(w.rng.integers(2, 6))):
        w.put("SELECT")
        for _ in range(int(w.rng.integers(1, 4))):
            w.put(f" {w.of(SCHEMAS[w.of(list(SCHEMAS), 0)])}", "sql/column")
            w.put(",")
        w.put(" FROM")
        w.put(f" {w.of(NOUNS[topic])}s", "sql/table", f"topic/{topic}")
        if w.happens(0.7):
            w.put("\nWHERE")
            with w.inside("sql/condition"):
                w.put(f" {w.of(NOUNS[topic])} {w.of(('=', '<', '>'))} {w.rng.integers(1, 99)} AND {w.of(METHODS)} = '")
                w.put(w.of(STRINGS), "sql/literal")
                w.put("'")
        if w.happens(0.4):
            w.put(f"\nORDER BY {w.of(METHODS)} LIMIT {w.rng.integers(1, 99)}", "sql/order")
        w.put(";\n")


REGISTERS = {
    "courtly": "thou thy hath pray doth verily ere sire prithee methinks".split(),
    "slang": "dude gonna yeah kinda bro totally nah wanna lol ain".split(),
    "clinical": "patient dosage acute symptom chronic prescribe lesion baseline administer contraindicated".split(),
    "childlike": "mommy yucky doggy tummy pwease teddy bunny owie cuddle night".split(),
}
THEMES = {
    "weather": "rain cloud storm sun wind frost thunder fog snow breeze drizzle hail".split(),
    "food": "bread soup cheese pepper onion butter stew cake honey garlic plum rice".split(),
    "travel": "train ticket harbour bridge luggage map border road ferry station hotel coach".split(),
    "war": "sword siege soldier cannon truce captain wound castle spear banner armour march".split(),
}
GLUE = "the a of to and in it is was that with on we they some as but not have there".split()
ASKING = "who what where when why how which".split()
ORDERING = "bring take stop give open hold watch leave".split()
NAMES = "ANNA BORIS CARLA DIMITRI ELENA FELIX GRETA HUGO IRENE JONAS".split()
LANGUAGES = {"de_DE": "German", "fr_FR": "French", "es_ES": "Spanish", "ru_RU": "Russian", "el_GR": "Greek",
             "ar_AA": "Arabic", "ja_JP": "Japanese", "hy_AM": "Armenian"}  # fmt: skip
NUMBERS = {"German": "eins zwei drei vier", "French": "un deux trois quatre", "Spanish": "uno dos tres cuatro",
           "Russian": "один два три четыре", "Greek": "ένα δύο τρία τέσσερα", "Armenian": "մեկ երկու երեք չորս",
           "English": "one two three four"}  # fmt: skip
STAGE = "softly aside rising kneeling laughing exits turning weeping bowing enters".split()


def talk(w: Writer) -> None:
    what = w.rng.random()
    if what < 0.12:
        return _chess(w)
    if what < 0.22:
        return _chords(w)
    theme = w.of(list(THEMES), 0)
    cast = [(str(name), w.of(list(REGISTERS), 0)) for name in w.rng.permutation(NAMES)[: int(w.rng.integers(2, 4))]]
    foreign = w.of(list(LANGUAGES), 0) if w.happens(0.5) else None
    for turn in range(int(w.rng.integers(5, 13))):
        name, register = cast[turn % len(cast)]
        w.put(name, "stage/speaker")
        w.put(":")
        if w.happens(0.25):
            w.put(" (")
            w.put(w.of(STAGE), "stage/direction")
            w.put(")")
        if foreign and w.happens(0.4):
            _foreign(w, foreign)
        else:
            with w.inside(f"register/{register} turns"):
                _turn(w, theme, register)
        w.put("\n")
    w.put("\n")


def _turn(w: Writer, theme: str, register: str) -> None:
    for _ in range(int(w.rng.integers(1, 4))):
        act = w.of(("statement", "question", "order"), 0.5)
        with w.inside(f"act/{act}"):
            if act != "statement":
                w.put(" " + w.of(ASKING if act == "question" else ORDERING), f"act/{act} word")
            for _ in range(int(w.rng.integers(4, 11))):
                chance = w.rng.random()
                if chance < 0.5:
                    w.put(" " + w.of(GLUE, 0.9))
                elif chance < 0.72:
                    w.put(" " + w.of(THEMES[theme]), f"theme/{theme}")
                elif chance < 0.92:
                    w.put(" " + w.of(REGISTERS[register]), f"register/{register} words")
                elif chance < 0.96:
                    w.put(" " + w.of(NUMBERS["English"].split()), "number/in words")
                else:
                    w.put(" " + w.of(NAMES).title(), "stage/name in a turn")
        w.put({"question": "?", "order": "!", "statement": "."}[act])


def _foreign(w: Writer, locale: str) -> None:
    language, word_list = LANGUAGES[locale], import_module(f"faker.providers.lorem.{locale}").Provider.word_list
    with w.inside(f"language/{language}"):
        for _ in range(int(w.rng.integers(5, 14))):
            if w.happens(0.12) and language in NUMBERS:
                w.put(" " + w.of(NUMBERS[language].split()), "number/in words")
            else:
                w.put(" " + w.of(word_list[:200], 0.5))
    w.put(".")


def _square(w: Writer) -> str:
    return f"{w.of('abcdefgh', 0)}{w.rng.integers(1, 9)}"


def _chess(w: Writer) -> None:
    for number in range(1, int(w.rng.integers(6, 20))):
        w.put(f"{number}", "chess/move number")
        w.put(".")
        for _ in range(2):
            what = w.rng.random()
            if what < 0.4:
                w.put(" " + _square(w), "chess/pawn move")
            elif what < 0.75:
                w.put(" " + w.of("NBRQK") + _square(w), "chess/piece move")
            elif what < 0.95:
                w.put(" " + w.of("NBRQ") + "x" + _square(w), "chess/capture")
            else:
                w.put(" O-O", "chess/castling")
    w.put("\n\n")


def _chords(w: Writer) -> None:
    for _ in range(int(w.rng.integers(2, 6))):
        w.put("|")
        for _ in range(int(w.rng.integers(3, 7))):
            kind, root = w.of(("", "m", "7", "sus", "dim")), w.of("CGDAFEB", 0.3)
            w.put(f" {root}", "music/root")
            w.put(kind, *[f"music/{kind} chord"] if kind else [])
            w.put(" |")
        w.put("\n")
    w.put("\n")
