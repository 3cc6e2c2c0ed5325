"""Real text whose words carry lemmas that two languages share, as text with known factors.

In: verses of each language, in the same order, each a list of (word, lemma). Out: `LemmaText`: each verse in one
language and then in the other, with a factor for every meaning (a lemma and its synonyms: its words, in all languages),
for the common words and for what follows the commonest.

A word is tagged with each meaning that it carries at a tenth of its places; where those are several (*right*: a side;
just) it is no factor itself: its meanings are. Failing: lemmas are taken for meanings; a lemma with two meanings counts
as one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from interp.benchmark.factors import MIN_ROWS, Factor, FactorText, Tokens, factor, text_of
from interp.benchmark.glosses import Verses

MIN_SHARE = 0.1
N_AFTER, N_TOKENS = 20, 150
"""The commonest words: so many have a factor for what follows them, and for themselves."""
RARE = "…"
"""Stands for all words beyond the commonest."""


@dataclass(frozen=True)
class LemmaText(FactorText):
    languages: Int32[np.ndarray, "seq pos"]
    """0 for the first."""
    meanings: Int32[np.ndarray, "seq pos"]
    """A number of its own for each; −1 where a word carries no lemma."""

    def first(self, n_seq: int) -> "LemmaText":
        """The first rows, with the factors that hold often enough there."""
        n = n_seq * self.tokens.shape[1]
        kept = [replace(f, rows=f.rows[f.rows < n]) for f in self.factors]
        factors = [f for f in kept if MIN_ROWS <= len(f.rows) <= n // 4]
        return LemmaText(self.tokens[:n_seq], self.vocab, factors, self.languages[:n_seq], self.meanings[:n_seq])


class _Places(NamedTuple):
    words: list[str]
    meanings: list[str]
    languages: list[int]


def lemma_text(
    languages: Sequence[Verses],
    n_seq: int,
    n_ctx: int,
    *,
    meanings: Mapping[str, str] | None = None,
    n_words: int = 6000,
) -> LemmaText:
    """`n_seq` rows of `n_ctx` words from the start; n_words: those of a name of their own, in any case of letters.

    meanings: of the lemmas that share one (`glosses.joined_lemmas`), its name.
    Raises ValueError where the languages have unlike numbers of verses, or too few words.
    """
    places = _places(languages, meanings or {}, n_seq * n_ctx)
    vocab = [RARE, *(word for word, _ in Counter(places.words).most_common(n_words))]
    ids = {word: i for i, word in enumerate(vocab)}
    tokens = np.array([ids.get(word, 0) for word in places.words], np.int32).reshape(n_seq, n_ctx)
    names = sorted(set(places.meanings) - {""})
    number = {"": -1} | {name: i for i, name in enumerate(names)}
    carried = np.array([number[name] for name in places.meanings], np.int32).reshape(n_seq, n_ctx)
    tags = _tags(tokens, [f"lemma {names[i]}" for i in range(len(names))], carried, len(vocab))
    found = [*_meanings(carried, names), *_tokens(tokens, vocab, tags)]
    text = text_of(tokens, vocab, found, tags, n_tokens=0, after=range(1, min(1 + N_AFTER, len(vocab))))
    spoken = np.array(places.languages, np.int32).reshape(n_seq, n_ctx)
    return LemmaText(text.tokens, vocab, text.factors, spoken, carried)


def _places(languages: Sequence[Verses], meanings: Mapping[str, str], n: int) -> _Places:
    """The first n words, each verse in one language after the other."""
    if len({len(verses) for verses in languages}) != 1:
        numbers = ", ".join(str(len(verses)) for verses in languages)
        raise ValueError(f"languages of {numbers} verses: give the same ones of each")
    words, carried, spoken = _Places([], [], [])
    for verse in zip(*languages, strict=True):
        if len(words) >= n:
            break
        for language, own in enumerate(verse):
            words += [f" {word.lower()}" for word, _ in own]
            carried += [meanings.get(lemma, lemma) for _, lemma in own]
            spoken += [language] * len(own)
    if len(words) < n:
        raise ValueError(f"the verses have {len(words):,} words, fewer than n_seq × n_ctx = {n:,}: ask for fewer")
    return _Places(words[:n], carried[:n], spoken[:n])


def _tags(tokens: Tokens, names: Sequence[str], carried: Tokens, n_vocab: int) -> list[tuple[str, ...]]:
    """Of each word but RARE the meanings that it carries often."""
    counts, tags = np.bincount(tokens.reshape(-1), minlength=n_vocab), defaultdict(list)
    has = (carried >= 0) & (tokens > 0)
    pairs, together = np.unique(np.stack([tokens[has], carried[has]]), axis=1, return_counts=True)
    for token, meaning in pairs[:, together >= MIN_SHARE * counts[pairs[0]]].T.tolist():
        tags[token].append(names[meaning])
    return [tuple(tags[token]) for token in range(n_vocab)]


def _meanings(carried: Tokens, names: Sequence[str]) -> Iterator[Factor]:
    order = np.argsort(carried.reshape(-1), kind="stable")
    counts = np.bincount(carried.reshape(-1) + 1, minlength=len(names) + 1)
    for name, rows in zip(names, np.split(order, np.cumsum(counts[:-1]))[1:], strict=True):
        if len(rows) >= MIN_ROWS:
            yield Factor(f"lemma {name}", frozenset({f"lemma {name}"}), rows)


def _tokens(tokens: Tokens, vocab: Sequence[str], tags: Sequence[tuple[str, ...]]) -> Iterator[Factor]:
    """RARE and the commonest words, those with several meanings left out."""
    for token in range(min(len(vocab), N_TOKENS)):
        if len(tags[token]) < 2:
            yield factor(f"token {vocab[token]!r}", tokens == token, f"token {token}", *tags[token])
