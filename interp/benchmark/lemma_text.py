"""Real text whose words carry lemmas that two languages share, as text with known factors.

In: verses of each language, in the same order, each a list of (word, lemma). Out: `FactorText`: each verse in one
language and then in the other, with a factor for every lemma (its words, in both languages) and every common word.

A word is tagged with each lemma that it carries at a tenth of its places, so that *right* (a side; just) and a word of
either lemma are no union of unlike meanings. Failing: lemmas are taken for meanings; synonyms count as two, and a lemma
with two meanings as one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from interp.benchmark.factors import MIN_ROWS, Factor, FactorText, factor, text_of

MIN_SHARE = 0.1
RARE = "…"
"""Stands for all words beyond the commonest."""
Verses = Sequence[Sequence[tuple[str, str]]]


def lemma_text(languages: Sequence[Verses], n_seq: int, n_ctx: int, *, n_words: int = 6000) -> FactorText:
    """`n_seq` rows of `n_ctx` words from the start; n_words: those of a name of their own, in any case of letters.

    Raises ValueError where the languages have unlike numbers of verses, or too few words.
    """
    if len({len(verses) for verses in languages}) != 1:
        numbers = ", ".join(str(len(verses)) for verses in languages)
        raise ValueError(f"languages of {numbers} verses: give the same ones of each")
    pairs = [
        (f" {word.lower()}", lemma) for verse in zip(*languages, strict=True) for own in verse for word, lemma in own
    ]
    if len(pairs) < n_seq * n_ctx:
        raise ValueError(f"the verses have {len(pairs):,} words, not n_seq={n_seq} × n_ctx={n_ctx}: ask for fewer")
    pairs = pairs[: n_seq * n_ctx]
    vocab = [RARE, *(word for word, _ in Counter(word for word, _ in pairs).most_common(n_words))]
    ids = {word: i for i, word in enumerate(vocab)}
    tokens = np.array([ids.get(word, 0) for word, _ in pairs], np.int32).reshape(n_seq, n_ctx)
    together = Counter((ids[each], lemma) for each, lemma in pairs if lemma and each in ids)
    counts, tags = np.bincount(tokens.reshape(-1), minlength=len(vocab)), defaultdict(list)
    for (token, lemma), n in together.items():
        if n >= MIN_SHARE * counts[token]:
            tags[token].append(f"lemma {lemma}")
    carried = np.array([lemma for _, lemma in pairs]).reshape(n_seq, n_ctx)

    def found() -> Iterator[Factor]:
        for lemma in sorted(
            lemma for lemma, n in Counter(lemma for _, lemma in pairs).items() if lemma and n >= MIN_ROWS
        ):
            yield factor(f"lemma {lemma}", carried == lemma, f"lemma {lemma}")

    return text_of(tokens, vocab, found(), [tuple(tags[i]) for i in range(len(vocab))], n_tokens=150, after=range(0))
