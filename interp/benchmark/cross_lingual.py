"""Latents that fire for one meaning in two languages, counted against a text in which nothing joins the two.

    m_L(j, i) = share of latent j's mass at words of meaning i in language L,    L: 0, 1
    j is cross-lingual  ⇔  for some i, in each L:  m_L(j, i) ≥ MIN_SHARE, and at least half of j's mass in L

Words that both languages spell alike (*David*, a comma) count in neither: one token shows nothing about languages.
The null is the same count for a model trained on the same verses, those of one language in random order: its text has
the same words, lemmas and contexts, but no verse beside its translation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float64, Int64

from interp.benchmark.lemma_text import MIN_SHARE, LemmaText
from interp.codes import SparseCodes
from interp.monosemanticity.verdicts import wilson

ALIKE = 0.01
"""A word is spelt alike in both languages if its rarer one has this share of its places."""


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
