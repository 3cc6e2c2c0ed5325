"""Seeded text in many languages, from the word lists of Faker's locales.

In: a language and a `random.Random`. Out: endless `Document`s whose characters of that language carry its name as
label. Words are drawn by Zipf's law, P(rank r) ∝ 1 / (r + 10), sentences and paragraphs have the language's own
punctuation; every third document sets its sentences between lines of English, which carry no label.
"""

import functools
import importlib
import unicodedata
from collections.abc import Iterator
from itertools import accumulate
from random import Random
from typing import NamedTuple

from models.documents import SOURCES, Document, Source
from models.pages import Page, english_sentence


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
    """Endless documents of size/6..size characters (the last sentence may be cut off at `size`)."""
    language, words, weights = LANGUAGES[name], *_words(LANGUAGES[name].locale)
    number = 0
    while True:
        page, target = Page(), rng.randint(max(1, size // 6), size)
        quoted = rng.random() < 1 / 3
        while page.length < target:
            if quoted:
                page.add(english_sentence(rng) + rng.choice((" ", "\n", "\n\n")))
            count = rng.randint(1, 2) if quoted else rng.randint(2, 6)
            sentences = [_sentence(language, words, weights, rng) for _ in range(count)]
            page.add(language.between_sentences.join(sentences).strip(), name)
            page.add(rng.choice(("\n", "\n\n")))
        yield page.document(name, f"{name}-{number:06d}").part(0, size)
        number += 1


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
    """The locale's words in an order of frequency that never changes, and their cumulative weights."""
    provider = importlib.import_module(f"faker.providers.lorem.{locale}").Provider
    words = [w for w in dict.fromkeys(provider.word_list) if w and all(unicodedata.category(c)[0] in "LM" for c in w)]
    Random(0).shuffle(words)
    return words, list(accumulate(1 / (rank + 10) for rank in range(len(words))))


SOURCES |= {name: Source(functools.partial(language_documents, name), endless=True) for name in LANGUAGES}
