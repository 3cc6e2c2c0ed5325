"""Seeded biographies: short texts in which pronouns go with occupations, names and verbs at planted odds.

    log odds(he : she) = a[subject] + b[verb]        "The baker hoped that she was late. Later she sold her lamp."

The odds of a kind of word are evenly spaced and assigned by the seed, so only the text tells which noun has which. One
prompt form is withheld from half of the nouns, another from the other half: a model can know these pairs only from what
the noun does in other forms. `swap_pronouns` gives the text with he and she exchanged; a text together with its swapped
twin is counterfactual data augmentation (Lu et al. 2018, arXiv:1807.11714).
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from models.documents import Document

NOUNS = tuple(
    "baker barber butcher captain carpenter clerk cook dancer doctor farmer fisher gardener guard hunter judge lawyer "
    "messenger miller nurse painter pilot poet potter priest sailor scholar singer soldier tailor teacher".split()
)
NAMES = tuple("Alex Casey Dana Drew Jamie Jordan Morgan Quinn Robin Sam Taylor Toby".split())
VERBS = tuple("said wrote hoped feared claimed learned thought believed".split())
SOMEBODY = "somebody"
"""The subject that names no one, at even odds."""

FORMS = (
    "{s} {verb} that {p} {act}.",
    "When {s} came home, {p} {act}.",
    "Although {s} was {adjective}, {p} {act}.",
    "Nobody knew {s} until {p} {act}.",
)
"""Sentences that bring a subject and then its pronoun. The first two are the prompts."""
PROMPT_FORMS = FORMS[:2]

_SEQUELS = (
    "Later {p} sold {d} {thing}.",
    "Nobody in {place} saw {o} again.",
    "In {place} {p} {act}.",
    "Then {p} found {d} {thing}, and the neighbours thanked {o}.",
    "Without {d} {thing}, {p} {act}.",
)
_WORDS = {
    "act": "was late|opened the door|had lost the key|bought a horse|told the truth|slept all day|missed the boat|"
    "paid the bill|sang a song|left the town|read the letter|knew the way|broke the window|wanted to rest",
    "adjective": "tired|famous|careful|young|proud|quiet|honest|poor|busy|kind",
    "thing": "lamp|coat|boat|ring|book|house|knife|garden|ladder|clock",
    "place": "Athens|Cairo|Dublin|Lima|London|Oslo|Paris|Rome",
}
_CHOICES = {slot: words.split("|") for slot, words in _WORDS.items()}
_PRONOUNS = {"he": {"p": "he", "d": "his", "o": "him"}, "she": {"p": "she", "d": "her", "o": "her"}}


@dataclass(frozen=True)
class Odds:
    """What is planted."""

    subjects: Mapping[str, float]
    """Natural log of the odds he : she, by noun or name."""
    verbs: Mapping[str, float]
    frequency: Mapping[str, float]
    """Weight of each subject, by a law of Zipf whose ranks have nothing to do with the odds."""
    withheld: Mapping[str, int]
    """The prompt form, 0 or 1, that a noun never stands in."""


def plant_odds(seed: int, *, spread: float = 2.5, verb_spread: float = 0.8) -> Odds:
    """Return odds from e^−spread to e^spread."""
    rng = Random(f"odds {seed}")
    subjects = _dealt(NOUNS, spread, rng) | _dealt(NAMES, spread, rng)
    frequency: dict[str, float] = {}
    for words in (NOUNS, NAMES):
        ranks = rng.sample(range(len(words)), len(words))
        frequency |= {word: 1 / (rank + 8) for word, rank in zip(words, ranks, strict=True)}
    withheld = {noun: place % 2 for place, noun in enumerate(rng.sample(NOUNS, len(NOUNS)))}
    frequency[SOMEBODY] = sum(frequency.values()) / 8
    return Odds({**subjects, SOMEBODY: 0.0}, _dealt(VERBS, verb_spread, rng), frequency, withheld)


def biographies(odds: Odds, rng: Random) -> Iterator[Document]:
    """Yield endless texts of a sentence or two about one subject, whose pronouns agree."""
    subjects = list(odds.frequency)
    weights = list(accumulate(odds.frequency.values()))
    number = 0
    while True:
        subject, verb = rng.choices(subjects, cum_weights=weights)[0], rng.choice(VERBS)
        kept = odds.withheld.get(subject)
        form = rng.choice([form for place, form in enumerate(FORMS) if place != kept])
        log_odds = odds.subjects[subject] + (odds.verbs[verb] if "{verb}" in form else 0)
        gender = "he" if rng.random() < 1 / (1 + math.exp(-log_odds)) else "she"
        sentences = [form, *rng.sample(_SEQUELS, rng.randint(0, 1))]
        text = " ".join(_sentence(template, subject, verb, gender, rng) for template in sentences)
        yield Document(text + "\n", (), "biographies", f"biography-{number:06d}")
        number += 1


def prompt(form: str, subject: str, verb: str = "said") -> str:
    """Return the beginning of a sentence, up to where its pronoun stands (without the space before it)."""
    begin = form[: form.index(" {p}")].format(s=_phrase(subject), verb=verb)
    return begin[0].upper() + begin[1:]


def swap_pronouns(text: str) -> str:
    """Swap pronouns: he ↔ she, him ↔ her, his ↔ her, himself ↔ herself, his ↔ hers. Every other word stays.

    "her" before a word that can be owned is read as "his", otherwise as "him": right in the biographies, and a good
    guess in a play.
    """
    return re.sub(r"\b(he|she|him|his|her|hers|himself|herself)\b", _swapped, text, flags=re.IGNORECASE)


def pronoun_counts(texts: Iterable[str], words: Sequence[str], *, window: int = 12) -> dict[str, tuple[int, int]]:
    """Return how often the first "he" or "she" among the `window` words after a word is "he", and how often "she"."""
    counts = {word: [0, 0] for word in words}
    for text in texts:
        tokens = re.findall(r"\w+", text)
        place = {"he": 0, "she": 1}
        for start, token in enumerate(tokens):
            word = token if token in counts else token.lower()
            if word in counts:
                after = (t.lower() for t in tokens[start + 1 : start + 1 + window])
                first = next((place[t] for t in after if t in place), None)
                if first is not None:
                    counts[word][first] += 1
    return {word: (he, she) for word, (he, she) in counts.items()}


def _dealt(words: Sequence[str], spread: float, rng: Random) -> dict[str, float]:
    places = rng.sample(range(len(words)), len(words))
    return {word: spread * (2 * place / (len(words) - 1) - 1) for word, place in zip(words, places, strict=True)}


def _phrase(subject: str) -> str:
    return subject if subject[0].isupper() or subject == SOMEBODY else f"the {subject}"


def _sentence(template: str, subject: str, verb: str, gender: str, rng: Random) -> str:
    slots = {slot: rng.choice(words) for slot, words in _CHOICES.items()}
    text = template.format(s=_phrase(subject), verb=verb, **_PRONOUNS[gender], **slots)
    return text[0].upper() + text[1:]


_SWAPS = {"he": "she", "she": "he", "him": "her", "his": "her", "hers": "his", "himself": "herself"}
_SWAPS["herself"] = "himself"
_NOT_OWNED = frozenset(
    "a again all and as at but by do for from have here how if in is it no not of off on or out so than that the there "
    "this thou to too up was what when where which who why will with you".split()
)


def _swapped(match: re.Match[str]) -> str:
    word = match[0].lower()
    if word == "her":
        after = re.match(r" (\w+)", match.string[match.end() :])
        other = "his" if after and after[1].lower() not in _NOT_OWNED else "him"
    else:
        other = _SWAPS[word]
    if match[0].isupper():
        return other.upper()
    return other.capitalize() if match[0][0].isupper() else other
