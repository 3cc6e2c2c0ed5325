"""The tokens around a latent's firings: how concentrated they are at each offset, and how much is one word.

In: a FeatureStore, or the codes chunk by chunk. Out: arrays over latents. With P the tokens at an offset −3 … +1 from
the firings (0 is the firing token itself) and U the text's unigrams, both by count:

    entropy        H(P)                                     nats
    concentration  KL(P‖U) / (KL(P‖U) + H(P))               0: any text; 1: always one token

The concentration is the share of P's cross-entropy under U that P's own shape explains. A word is a token with all its
variants in case and space. Source: exact counts of the scan (table `offsets`).
Failing: this is token-ness. A feature of one abstract meaning (any French word) scores as a union would, and a token
detector perfectly, whatever its other senses are; rarely firing latents look concentrated by chance (of K tokens in N
firings, H is low by about (K − 1) / 2N).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float64, Int

from interp.explain.vocabulary import plain_strings
from interp.features.feature_store import FeatureStore
from interp.monosemanticity.firings import CodeChunk

MIN_SHARE = 0.5
"""An offset that has a token behind fewer than this share of a latent's firings is not where it looks."""


class TokensAround(NamedTuple):
    """NaN where no firing has a token at the offset."""

    offsets: tuple[int, ...]
    entropy: Float64[np.ndarray, "d_sae offset"]
    """Nats."""
    concentration: Float64[np.ndarray, "d_sae offset"]
    n_80: Float64[np.ndarray, "d_sae offset"]
    """The smallest number of tokens that hold 80 % of the firings."""
    top_share: Float64[np.ndarray, "d_sae offset"]
    """Share of firings on the most frequent token."""
    is_looked_at: Bool[np.ndarray, "d_sae offset"]


def tokens_around(features: FeatureStore) -> TokensAround:
    """One column an offset that was counted, ascending."""
    table = features.table("offsets").sort_values(["latent", "offset"])
    offsets = tuple(int(offset) for offset in np.unique(table["offset"]))
    names = ("n", "entropy", "kl", "n_80", "top_share")
    n, entropy, kl, n_80, top_share = (table[name].to_numpy(float).reshape(-1, len(offsets)) for name in names)
    whole = entropy + kl
    return TokensAround(
        offsets=offsets,
        entropy=entropy,
        concentration=np.divide(kl, whole, out=np.where(np.isnan(whole), np.nan, 0.0), where=whole > 0),
        n_80=np.where(n > 0, n_80, np.nan),
        top_share=top_share,
        is_looked_at=(n > 0) & (n >= MIN_SHARE * n.max(1, keepdims=True)),
    )


class WordMass:
    """Adds up each latent's activation on each word chunk by chunk."""

    def __init__(self, tokens: Int[torch.Tensor, "seq pos"], vocab: Sequence[str], d_sae: int):
        spelt = [string.strip().casefold() or string for string in plain_strings(vocab)]
        word = np.unique(spelt, return_inverse=True)[1]
        self._word, self._tokens = word, tokens.numpy().reshape(-1)
        self._mass = scipy.sparse.csr_matrix((d_sae, int(word.max()) + 1))

    def add(self, chunk: CodeChunk) -> None:
        entries = chunk.activations.astype(np.float64), (chunk.latents, self._word[self._tokens[chunk.rows]])
        self._mass = self._mass + scipy.sparse.csr_matrix(entries, shape=self._mass.shape)

    @property
    def largest_share(self) -> Float64[np.ndarray, " d_sae"]:
        """Of a latent's activation, what falls on its commonest word; NaN where it never fires."""
        total, most = np.asarray(self._mass.sum(1)).ravel(), np.asarray(self._mass.max(1).todense()).ravel()
        return np.divide(most, total, out=np.full(len(most), np.nan), where=total > 0)
