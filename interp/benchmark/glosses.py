"""Lemmas that are translated alike in every language, as one meaning.

In: verses of each language, each a list of (word, lemma). Out: of each lemma with synonyms, the name of its meaning.

    alike(a, b) = min over languages of  Σ_w min(P(w | a), P(w | b))        P(w | a): share of a's places with word w

A word with two meanings (*right*: a side; just) makes its lemmas alike in one language only: the other has two words.
Lemmas are joined where each two of them are alike (complete linkage): no chain joins unlike ends.
Failing: the forms of a verb that two languages inflect differently are unlike words, so that verbs are joined less.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

MIN_ALIKE = 0.4
"""Of twenty random meanings of the Bible that this joins all were synonyms (*wrath*, *blood*, *covenant*); from 0.3 on
some are but related (a *cause* to plead, without *cause*)."""
MIN_PLACES = 10
"""A lemma with fewer places in a language is joined to none."""
Verses = Sequence[Sequence[tuple[str, str]]]


def joined_lemmas(languages: Sequence[Verses]) -> dict[str, str]:
    """Of each lemma with a synonym, all of that meaning: "G0444+H0120"."""
    counts = [_words_of_lemmas(verses) for verses in languages]
    often = [{lemma for lemma, words in own.items() if words.total() >= MIN_PLACES} for own in counts]
    lemmas = sorted(set.intersection(*often))
    if len(lemmas) < 2:
        return {}
    alike = np.minimum.reduce([_alike([own[lemma] for lemma in lemmas]) for own in counts])
    distance = np.clip(1 - alike, 0, 1)
    np.fill_diagonal(distance, 0)
    cluster = fcluster(linkage(squareform(distance, checks=False), "complete"), 1 - MIN_ALIKE, "distance")
    members: dict[int, list[str]] = defaultdict(list)
    for lemma, number in zip(lemmas, cluster.tolist(), strict=True):
        members[number].append(lemma)
    return {lemma: "+".join(own) for own in members.values() if len(own) > 1 for lemma in own}


def _words_of_lemmas(verses: Verses) -> dict[str, Counter[str]]:
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for verse in verses:
        for word, lemma in verse:
            if lemma:
                words[lemma][word.lower()] += 1
    return words


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
