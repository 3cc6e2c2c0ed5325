"""Real text whose words carry lemmas that two languages share, as text with known factors.

In: verses of each language, in the same order, each a list of (word, lemma). Out: `LemmaText`: each verse in one
language and then in the other, with a factor for every meaning (a lemma and its synonyms: its words, in all languages)
and every common word.

A word is tagged with each meaning that it carries at a tenth of its places, so that *right* (a side; just) and a word
of either are no union of unlike ones. Of a phrase one word carries the lemma: a word with one tag, that it carries at
half of its places, means the same where it carries none.

`synonyms`: lemmas are joined that are translated alike in every language, and of one word those that the other
languages translate alike, in the same verses:

    alike(a, b) = min over languages of  Σ_v min(P(v | a), P(v | b))        P(v | a): share of a's places with word v
    alike(a, b; w) = the same Σ over words v of the other languages that carry a, b where w does

A word with two meanings makes its lemmas alike in one language only: *right* (H3225) is *derecha*, *right* (H3477)
*recto*. *Saw* is *vió* as H7200 and as G1492, though of these one means *to see* and the other *to know* as well.

Lemmas are joined, the most alike first, while those of two groups are alike on average (UPGMA). Words are compared by
their first letters, so that forms of a verb are alike; those that are always written large (names) are compared whole.
Failing: lemmas are taken for meanings; a lemma with two counts as one. *Compassion* and *companion* begin alike, in
Spanish too.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from interp.benchmark.factors import MIN_ROWS, Factor, FactorText, Tokens, text_of

MIN_SHARE = 0.1
N_TOKENS = 150
"""Of the commonest words each is a factor."""
MIN_KNOWN = 20
"""Places: fewer firings than so many are not judged."""
RARE = "…"
"""Stands for all words beyond the commonest."""
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


@dataclass(frozen=True)
class LemmaText(FactorText):
    languages: Int32[np.ndarray, "seq pos"]
    """0 for the first."""
    meanings: Int32[np.ndarray, "seq pos"]
    """A number of its own for each; −1 where a word carries no lemma."""

    names: Sequence[str]
    """Of the meanings."""

    def of_meanings(self, n_seq: int) -> "LemmaText":
        """The first rows, with a factor for every meaning that holds at MIN_KNOWN places there, and for nothing else:
        what the lemmas alone say. A word that the vocabulary lacks means nothing."""
        carried = np.where(self.tokens == 0, -1, self.meanings)[:n_seq]
        found = [f for f in _meanings(carried, self.names) if len(f.rows) >= MIN_KNOWN]
        return replace(self.first(n_seq), factors=found)

    def first(self, n_seq: int) -> "LemmaText":
        """The first rows, with the factors that hold often enough there."""
        n = n_seq * self.tokens.shape[1]
        kept = [replace(f, rows=f.rows[f.rows < n]) for f in self.factors]
        factors = [f for f in kept if MIN_ROWS <= len(f.rows) <= n // 4]
        rows = (self.tokens[:n_seq], self.vocab, factors, self.languages[:n_seq], self.meanings[:n_seq])
        return LemmaText(*rows, self.names)


def lemma_text(
    languages: Sequence[Verses],
    n_seq: int,
    n_ctx: int,
    *,
    joined: Synonyms | None = None,
    n_words: int = 6000,
) -> LemmaText:
    """`n_seq` rows of `n_ctx` words from the start; n_words: those of a name of their own, in any case of letters.

    Raises ValueError where the languages have unlike numbers of verses, or too few words.
    """
    said, carry, spoken = zip(*_places(languages, joined or Synonyms({}, {}), n_seq * n_ctx), strict=True)
    vocab = [RARE, *(word for word, _ in Counter(said).most_common(n_words))]
    ids = {word: i for i, word in enumerate(vocab)}
    tokens = np.array([ids.get(word, 0) for word in said], np.int32).reshape(n_seq, n_ctx)
    names = sorted(set(carry) - {""})
    number = {"": -1} | {name: i for i, name in enumerate(names)}
    carried = np.array([number[name] for name in carry], np.int32).reshape(n_seq, n_ctx)
    often = _often(tokens, carried, len(vocab))
    one = np.array([next(iter(own)) if len(own) == 1 and max(own.values()) >= 0.5 else -1 for own in often], np.int32)
    carried = np.where(carried < 0, one[tokens], carried)
    tags = [tuple(f"lemma {names[meaning]}" for meaning in own) for own in often]
    text = text_of(tokens, vocab, _meanings(carried, names), tags, n_tokens=N_TOKENS, after=range(0))
    return LemmaText(text.tokens, vocab, text.factors, np.array(spoken, np.int32).reshape(n_seq, n_ctx), carried, names)


def synonyms(languages: Sequence[Verses]) -> Synonyms:
    lemmas = _joined_lemmas(languages)
    return Synonyms(lemmas, _joined_senses(languages, lemmas))


def _places(languages: Sequence[Verses], joined: Synonyms, n: int) -> list[tuple[str, str, int]]:
    """Word, meaning and language of the first n places, each verse in one language after the other."""
    if len({len(verses) for verses in languages}) != 1:
        numbers = ", ".join(str(len(verses)) for verses in languages)
        raise ValueError(f"languages of {numbers} verses: give the same ones of each")
    places: list[tuple[str, str, int]] = []
    for verse in zip(*languages, strict=True):
        if len(places) >= n:
            break
        for language, own in enumerate(verse):
            for word, lemma in own:
                meaning = joined.lemmas.get(lemma, lemma)
                meaning = joined.senses.get(Sense(language, word.lower(), meaning), meaning)
                places.append((f" {word.lower()}", meaning, language))
    if len(places) < n:
        raise ValueError(f"the verses have {len(places):,} words, fewer than n_seq × n_ctx = {n:,}: ask for fewer")
    return places[:n]


def _often(tokens: Tokens, carried: Tokens, n_vocab: int) -> list[dict[int, float]]:
    """Of each word but RARE the meanings that it carries often, each with the share of its places."""
    counts = np.bincount(tokens.reshape(-1), minlength=n_vocab)
    often: list[dict[int, float]] = [{} for _ in range(n_vocab)]
    has = (carried >= 0) & (tokens > 0)
    pairs, together = np.unique(np.stack([tokens[has], carried[has]]), axis=1, return_counts=True)
    for (token, meaning), share in zip(pairs.T.tolist(), (together / counts[pairs[0]]).tolist(), strict=True):
        if share >= MIN_SHARE:
            often[token][meaning] = share
    return often


def _meanings(carried: Tokens, names: Sequence[str]) -> Iterator[Factor]:
    order = np.argsort(carried.reshape(-1), kind="stable")
    counts = np.bincount(carried.reshape(-1) + 1, minlength=len(names) + 1)
    for name, rows in zip(names, np.split(order, np.cumsum(counts[:-1]))[1:], strict=True):
        if len(rows):
            yield Factor(f"lemma {name}", frozenset({f"lemma {name}"}), rows)


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
