"""Lemmas that are translated alike, as one meaning.

In: verses of each language, each a list of (word, lemma). Out: `Synonyms`. Lemmas are joined that are translated alike
in every language, and of one word those that the other languages translate alike, in the same verses:

    alike(a, b) = min over languages of  Σ_v min(P(v | a), P(v | b))        P(v | a): share of a's places with word v
    alike(a, b; w) = the same Σ over words v of the other languages that carry a, b where w does

A word with two meanings makes its lemmas alike in one language only: *right* (H3225) is *derecha*, *right* (H3477)
*recto*. *Saw* is *vió* as H7200 and as G1492, though of these one means *to see* and the other *to know* as well.

Lemmas are joined, the most alike first, while those of two groups are alike on average (UPGMA). Words are compared by
their first letters, so that forms of a verb are alike; those that are always written large (names) are compared whole.
Failing: *compassion* and *companion* begin alike, in Spanish too.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

MIN_ALIKE = 0.4
"""Of twenty random meanings of the Bible that this joins all were synonyms (*bed*, *trumpet*, *to seek*); of pairs of
lemmas from 0.3 on some are but related (a *cause* to plead, without *cause*)."""
STEM = 5
"""Letters. With four of them one in seven joins was wrong (*Ephraim*, *Ephratah*); whole words join a third fewer."""
MIN_PLACES = 10
"""A lemma with fewer places in a language is joined to none."""
Verses = Sequence[Sequence[tuple[str, str]]]


class Synonyms(NamedTuple):
    lemmas: dict[str, str]
    """Of each lemma with synonyms the name of their meaning: "G0444+H0120"."""
    senses: dict["Sense", str]
    """Of a word's meaning that other languages translate as a commoner one of the same word, that one."""


class Sense(NamedTuple):
    language: int
    word: str
    """In lower case."""
    meaning: str


def synonyms(languages: Sequence[Verses]) -> Synonyms:
    lemmas = _joined_lemmas(languages)
    return Synonyms(lemmas, _joined_senses(languages, lemmas))


def _joined_lemmas(languages: Sequence[Verses]) -> dict[str, str]:
    counts = [_words_of_lemmas(verses) for verses in languages]
    often = [{lemma for lemma, words in own.items() if words.total() >= MIN_PLACES} for own in counts]
    lemmas = sorted(set.intersection(*often))
    if len(lemmas) < 2:
        return {}
    alike = np.minimum.reduce([_alike([own[lemma] for lemma in lemmas]) for own in counts])
    distance = np.clip(1 - alike, 0, 1)
    np.fill_diagonal(distance, 0)
    cluster = fcluster(linkage(squareform(distance, checks=False), "average"), 1 - MIN_ALIKE, "distance")
    members: dict[int, list[str]] = defaultdict(list)
    for lemma, number in zip(lemmas, cluster.tolist(), strict=True):
        members[number].append(lemma)
    return {lemma: "+".join(own) for own in members.values() if len(own) > 1 for lemma in own}


def _joined_senses(languages: Sequence[Verses], joined: Mapping[str, str]) -> dict[Sense, str]:
    stems, places = [_stems(verses) for verses in languages], Counter[Sense]()
    heard: dict[Sense, Counter[str]] = defaultdict(Counter)
    for verse in zip(*languages, strict=True):
        for language, own in enumerate(verse):
            said: dict[str, list[str]] = defaultdict(list)
            for other, words in enumerate(verse):
                for word, lemma in words if other != language else ():
                    said[lemma].append(stems[other][word])
            for word, lemma in own:
                if lemma:
                    sense = Sense(language, word.lower(), joined.get(lemma, lemma))
                    places[sense] += 1
                    heard[sense].update(said.get(lemma, ()))
    kept: dict[tuple[int, str], list[Sense]] = defaultdict(list)
    commoner: dict[Sense, str] = {}
    for sense, _ in places.most_common():
        if heard[sense].total() >= MIN_PLACES:
            like = (own for own in kept[sense[:2]] if _shared(heard[own], heard[sense]) >= MIN_ALIKE)
            if first := next(like, None):
                commoner[sense] = first.meaning
            else:
                kept[sense[:2]].append(sense)
    return commoner


def _stems(verses: Verses) -> dict[str, str]:
    """Of each word what is compared: in lower case, and cut to STEM letters unless it is a name."""
    words = {word for verse in verses for word, _ in verse}
    common = {word for word in words if word.islower()}
    return {word: lower[:STEM] if (lower := word.lower()) in common else lower for word in words}


def _words_of_lemmas(verses: Verses) -> dict[str, Counter[str]]:
    stems, words = _stems(verses), defaultdict[str, Counter[str]](Counter)
    for verse in verses:
        for word, lemma in verse:
            if lemma:
                words[lemma][stems[word]] += 1
    return words


def _shared(a: Counter[str], b: Counter[str]) -> float:
    return sum(min(n / a.total(), b[word] / b.total()) for word, n in a.items())


def _alike(glosses: Sequence[Counter[str]]) -> Float32[np.ndarray, "lemma lemma"]:
    """The share of the words that each two lemmas have in common."""
    shares: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for lemma, words in enumerate(glosses):
        for word, n in words.items():
            shares[word].append((lemma, n / words.total()))
    alike = np.zeros((len(glosses), len(glosses)), np.float32)
    for own in shares.values():
        lemmas, share = np.array([lemma for lemma, _ in own]), np.array([share for _, share in own], np.float32)
        alike[np.ix_(lemmas, lemmas)] += np.minimum.outer(share, share)
    return alike
