"""Is it always the same few tokens that stand at an offset from a latent's firings?

With P the tokens at an offset −3 … +1 (0 is the firing token itself) and U the text's unigrams, both by count:

    entropy        H(P)                                     nats
    concentration  KL(P‖U) / (KL(P‖U) + H(P))               0: any text; 1: always one token
    n_80           the smallest number of tokens that hold 80 % of the firings

The concentration is the share of P's cross-entropy under U that P's own shape explains. Best over offsets: the
concentration at the offset where it is largest, so that a latent is measured where it looks.

Source: exact counts of the scan (table `offsets`). Cost: none beyond it. Failing: this is token-ness. A feature of one
abstract meaning (any French word) scores as a union would, and a token detector perfectly, whatever its other senses
are; rarely firing latents look concentrated by chance (of K tokens in N firings, H is low by about (K − 1) / 2N).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64

from interp.features.feature_store import FeatureStore

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse

    from interp.monosemanticity.firings import CodeChunk

ENOUGH = 0.5
"""An offset that has a token behind fewer than this share of a latent's firings is not its best."""


@dataclass(frozen=True)
class TokenMeasures:
    offsets: tuple[int, ...]
    entropy: Float64[np.ndarray, "d_sae offset"]
    """Nats; NaN where no firing has a token there, as in all others."""
    concentration: Float64[np.ndarray, "d_sae offset"]
    n_80: Float64[np.ndarray, "d_sae offset"]
    top_share: Float64[np.ndarray, "d_sae offset"]
    """Share of firings on the most frequent token."""
    best_concentration: Float64[np.ndarray, " d_sae"]
    best_offset: Int64[np.ndarray, " d_sae"]
    """Where the concentration is largest; 0 where there is none."""
    least_entropy: Float64[np.ndarray, " d_sae"]


def token_measures(features: FeatureStore) -> TokenMeasures:
    """Measures of the tokens around firings, one column an offset that was counted, ascending."""
    return offset_measures(features.table("offsets"))


def offset_measures(table: "pd.DataFrame") -> TokenMeasures:
    """The same from a table `offsets`, of whichever text it was counted on."""
    table = table.sort_values(["latent", "offset"])
    offsets = tuple(int(offset) for offset in np.unique(table["offset"]))
    column = {
        name: table[name].to_numpy(float).reshape(-1, len(offsets))
        for name in ("n", "entropy", "kl", "n_80", "top_share")
    }
    n, entropy, kl = column["n"], column["entropy"], column["kl"]
    whole = entropy + kl
    concentration = np.divide(kl, whole, out=np.where(np.isnan(whole), np.nan, 0.0), where=whole > 0)
    eligible = (n > 0) & (n >= ENOUGH * n.max(1, keepdims=True))
    best = np.where(eligible, concentration, -np.inf).argmax(1)
    fires = eligible.any(1)
    return TokenMeasures(
        offsets=offsets,
        entropy=entropy,
        concentration=concentration,
        n_80=np.where(n > 0, column["n_80"], np.nan),
        top_share=column["top_share"],
        best_concentration=np.where(fires, concentration[np.arange(len(n)), best], np.nan),
        best_offset=np.where(fires, np.array(offsets)[best], 0),
        least_entropy=np.where(fires, np.where(eligible, entropy, np.inf).min(1), np.nan),
    )


def words_of(vocab: Sequence[str]) -> Int64[np.ndarray, " token"]:
    """The word of each token: one number for all its variants in case and space."""
    from interp.explain.vocabulary import plain_strings

    spelt = [string.strip().casefold() or string for string in plain_strings(vocab)]
    return np.unique(spelt, return_inverse=True)[1]


class WordMass:
    """Adds up each latent's activation on each word chunk by chunk."""

    def __init__(self, tokens: Int[torch.Tensor, "seq pos"], vocab: Sequence[str], d_sae: int):
        import scipy.sparse

        word = words_of(vocab)
        self._words = word[tokens.numpy().reshape(-1)]
        self._mass = scipy.sparse.csr_matrix((d_sae, int(word.max()) + 1))

    def add(self, chunk: "CodeChunk") -> None:
        import scipy.sparse

        entries = chunk.activations.astype(np.float64), (chunk.latents, self._words[chunk.rows])
        self._mass = self._mass + scipy.sparse.csr_matrix(entries, shape=self._mass.shape)

    @property
    def largest_share(self) -> Float64[np.ndarray, " d_sae"]:
        """Of a latent's activation, what falls on its commonest word; 0 where it never fires."""
        return largest_share(self._mass)


def largest_share(mass: "scipy.sparse.csr_matrix") -> Float64[np.ndarray, " row"]:
    """The largest entry of each row over the row's sum; 0 for an empty row."""
    total, most = np.asarray(mass.sum(1)).ravel(), np.asarray(mass.max(1).todense()).ravel()
    return np.divide(most, total, out=np.zeros(len(most)), where=total > 0)
