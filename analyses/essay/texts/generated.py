"""How close is text that a model wrote to a corpus, by counting alone?

    M = (P + Q) / 2,   JS(P, Q) = ½ KL(P ‖ M) + ½ KL(Q ‖ M) in bits,   distance = √JS ∈ [0, 1]

P and Q are the distributions of runs of n tokens (Endres and Schindelin 2003: √JS is a metric). A small sample Q is
distant from P by chance alone, so distances are compared at equal numbers of tokens, next to that of as much real text.
A word is a run of letters, with apostrophes inside it, in lower case. Only words of three letters or more are checked,
since almost any one or two letters are a word.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch import Tensor

MIN_LETTERS = 3
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def ngram_distance(
    p_tokens: Int[Tensor, "seq pos"], q_tokens: Int[Tensor, "seq other_pos"], d_vocab: int, *, n: int = 2
) -> float:
    """Return the distance of the two distributions of n-grams, each taken inside its sequences. Raises ValueError if a
    sequence is shorter than n, a token is not in 0..d_vocab − 1, or d_vocab^n does not fit 63 bits."""
    p, q = (_ngrams(tokens, d_vocab, n) for tokens in (p_tokens, q_tokens))
    keys = np.union1d(p.keys, q.keys)
    both = np.zeros((2, len(keys)))
    for row, grams in zip(both, (p, q), strict=True):
        row[np.searchsorted(keys, grams.keys)] = grams.counts / grams.counts.sum()
    ratio = np.divide(both, both.mean(0), out=np.ones_like(both), where=both > 0)
    divergence = 0.5 * float((both * np.log2(ratio)).sum())
    return float(np.sqrt(min(max(divergence, 0.0), 1.0)))


def words_of(texts: Iterable[str]) -> set[str]:
    """Return the words of three letters or more that occur."""
    return set().union(*(_words(text) for text in texts))


def word_share(texts: Iterable[str], words: Collection[str]) -> float:
    """Return which share of the words in `texts`, each as often as it stands there, is among `words`; NaN without any.
    The first and last word of a text may be cut off, and do not count."""
    all_words = [word for text in texts for word in _words(text, whole=True)]
    return sum(word in words for word in all_words) / len(all_words) if all_words else float("nan")


class _Ngrams(NamedTuple):
    keys: np.ndarray
    counts: np.ndarray


def _ngrams(tokens: Int[Tensor, "seq pos"], d_vocab: int, n: int) -> _Ngrams:
    array = tokens.cpu().numpy().astype(np.int64)
    if array.ndim != 2 or len(array) == 0 or array.shape[1] < n or n < 1:
        raise ValueError(f"tokens of shape {array.shape} hold no run of n={n} tokens")
    if array.min() < 0 or array.max() >= d_vocab or d_vocab**n >= 1 << 63:
        raise ValueError(f"tokens must be in 0..d_vocab={d_vocab} − 1 and d_vocab^{n} below 2^63")
    windows = np.lib.stride_tricks.sliding_window_view(array, n, axis=1).reshape(-1, n)
    return _Ngrams(*np.unique(windows @ d_vocab ** np.arange(n, dtype=np.int64), return_counts=True))


def _words(text: str, *, whole: bool = False) -> list[str]:
    matches = _WORD.finditer(text)
    kept = (m for m in matches if not whole or (m.start() > 0 and m.end() < len(text)))
    return [word for m in kept if len(word := m[0].lower()) >= MIN_LETTERS]
