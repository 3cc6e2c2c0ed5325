"""Real text whose words carry lemmas that two languages share, as text with known factors; and latents that fire for
one meaning in both, counted against a text in which nothing joins the two.

In: verses of each language, in the same order, each a list of (word, lemma). Out: `LemmaText`: each verse in one
language and then in the other, with a factor for every meaning (a lemma and its synonyms: its words, in all languages)
and every common word.

A word is tagged with each meaning that it carries at a tenth of its places, so that *right* (a side; just) and a word
of either are no union of unlike ones. Of a phrase one word carries the lemma: a word with one tag, that it carries at
half of its places, means the same where it carries none. Failing: lemmas are taken for meanings; a lemma with two
counts as one.

    m_L(j, i) = share of latent j's mass at words of meaning i in language L,    L: 0, 1
    j is cross-lingual  ⇔  for some i, in each L:  m_L(j, i) ≥ MIN_SHARE, and at least half of j's mass in L

Words that both languages spell alike (*David*, a comma) count in neither: one token shows nothing about languages.
The null is the same count for a model trained on the same verses, those of one language in random order: its text has
the same words, lemmas and contexts, but no verse beside its translation.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float64, Int32, Int64

from interp.benchmark.factors import MIN_ROWS, Factor, FactorText, Tokens, text_of
from interp.benchmark.glosses import Sense, Synonyms, Verses
from interp.codes import SparseCodes
from interp.monosemanticity.verdicts import wilson

MIN_SHARE = 0.1
N_TOKENS = 150
"""Of the commonest words each is a factor."""
MIN_KNOWN = 20
"""Places: fewer firings than so many are not judged."""
RARE = "…"
"""Stands for all words beyond the commonest."""
ALIKE = 0.01
"""A word is spelt alike in both languages if its rarer one has this share of its places."""


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


class Counted(NamedTuple):
    """Latents that fire, and which of them are cross-lingual, with the interval of the share (95 %, Wilson)."""

    n: int
    n_cross: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.n_cross / max(self.n, 1)


class Joined(NamedTuple):
    """Of each latent the meaning that it fires for in both languages, or −1; the share of the mass that its best one
    has in each; and whether it fires at all."""

    meaning: Int64[np.ndarray, " latent"]
    shares: Float64[np.ndarray, "language latent"]
    fires: Bool[np.ndarray, " latent"]


def cross_lingual(codes: SparseCodes, text: LemmaText) -> Joined:
    """codes: of the first rows of the text. Raises ValueError unless the text has two languages."""
    if text.languages.max() != 1:
        raise ValueError(f"the text has {text.languages.max() + 1} languages: cross-lingual latents need two")
    n = len(codes)
    z = codes.scipy().tocsr().maximum(0)
    tokens, spoken, meanings = (a.reshape(-1)[:n] for a in (text.tokens, text.languages, text.meanings))
    own_spelling = ~_spelt_alike(text)[tokens]
    total = np.maximum(np.asarray(z.sum(0)).ravel(), 1e-30)
    by_meaning, heard = [], []
    for language in (0, 1):
        rows = np.flatnonzero((spoken == language) & own_spelling)
        heard.append(np.asarray(z[rows].sum(0)).ravel() / total)
        rows = rows[meanings[rows] >= 0]
        place = scipy.sparse.csr_matrix(
            (np.ones(len(rows)), (meanings[rows], rows)), shape=(int(text.meanings.max()) + 1, n)
        )
        by_meaning.append((place @ z / total).tocsc())
    best = np.asarray(by_meaning[0].minimum(by_meaning[1]).argmax(0)).ravel()
    shares = np.stack([np.asarray(own[best, np.arange(z.shape[1])]).ravel() for own in by_meaning])
    joined = (shares >= MIN_SHARE).all(0) & (shares >= 0.5 * np.stack(heard)).all(0)
    return Joined(np.where(joined, best, -1), shares, total > 1e-30)


def counted(found: Sequence[Joined]) -> Counted:
    """Of all dictionaries together."""
    n = sum(int(joined.fires.sum()) for joined in found)
    n_cross = sum(int((joined.meaning >= 0).sum()) for joined in found)
    return Counted(n, n_cross, *wilson(n_cross, n))


def above_null(own: Counted, null: Counted) -> tuple[float, float, float]:
    """The difference of the shares, and its 95 % interval (Newcombe 1998, method 10)."""
    d = own.share - null.share
    low = d - np.hypot(own.share - own.low, null.high - null.share)
    high = d + np.hypot(own.high - own.share, null.share - null.low)
    return float(d), float(low), float(high)


def _spelt_alike(text: LemmaText) -> Bool[np.ndarray, " token"]:
    counts = np.stack([np.bincount(text.tokens[text.languages == each], minlength=len(text.vocab)) for each in (0, 1)])
    return counts.min(0) >= ALIKE * counts.sum(0)
