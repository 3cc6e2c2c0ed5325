"""Do a latent's firings lie together in an embedding of text that was made without it?

With activation a_i and the embedding ê_i of firing i, pairs counted between groups g of neighbouring rows (`groups`):

    coherence = Σ_{g(i) ≠ g(j)} a_i a_j ê_i·ê_j / Σ_{g(i) ≠ g(j)} a_i a_j
              = (‖Σ_i a_i ê_i‖² − Σ_g ‖Σ_{i∈g} a_i ê_i‖²) / ((Σ_i a_i)² − Σ_g (Σ_{i∈g} a_i)²)

    residual   ê: the studied model's activation at a hook, centred by its mean and normalised
    n-grams    ê: hashed character n-grams of the tokens from `past` before to `future` behind, centred and normalised

Source: MonoScore, arXiv 2504.02821, in its linear form; centred, since of an anisotropic space every pair looks alike;
between groups, since neighbours do so whatever fires. A random projection P with E[PᵀP] = 1 keeps products unbiased.
Cost: one pass over the codes, L0 · dim multiplications a row, and for the residual one pass over the activations.
Failing: dense latents get the base rate; a broad meaning has unlike contexts; a union of two narrow ones keeps half of
its coherence. The residual's embedding holds the very direction that the latent reads, so any direction of large
variance looks coherent, in a random dictionary too.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Float64, Int, Int64
from numba import njit
from torch import Tensor

from interp.codes import CodeStore, SparseCodes
from interp.monosemanticity.firings import CodeChunk, PairSummer, chunks
from interp.monosemanticity.groups import rows_per_group

if TYPE_CHECKING:
    from interp.activations import ActivationStore
    from interp.features.feature_store import FeatureStore

Progress = Callable[[int, int, str], None]


class SequenceVectors(Protocol):
    """One vector a row of the sequences 0, every, 2 · every, …; zero where a row has none."""

    @property
    def n_ctx(self) -> int: ...

    @property
    def every(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def __call__(self, first: int, last: int, /) -> Float32[np.ndarray, "row dim"]:
        """Vectors of the rows of those of the sequences first .. last that have any."""
        ...


@dataclass(frozen=True)
class ResidualVectors:
    """Activations of a hook as unit vectors around their mean, projected, in token order and in memory."""

    vectors: Float16[np.ndarray, "row dim"]
    n_ctx: int
    every: int
    """Only each so-manieth sequence was kept."""

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    def __call__(self, first: int, last: int) -> Float32[np.ndarray, "row dim"]:
        low, high = (-(-sequence // self.every) * self.n_ctx for sequence in (first, last))
        return self.vectors[low:high].astype(np.float32)

    @classmethod
    @torch.no_grad()
    def from_store(
        cls, store: "ActivationStore", hook: str, *, dim: int | None = 128, buffer_mb: int = 256, seed: int = 0
    ) -> "ResidualVectors":
        """All rows of the hook, or those of evenly spread sequences, as many as `buffer_mb` holds.

        `dim`: width of the random projection; None, or at least the hook's width: none. The store's shards are read
        one by one. Raises ValueError if the store has no tokens.
        """
        if store.tokens is None or store.n_ctx is None:
            raise ValueError(f"{store.path} holds no tokens: rows of no text cannot be paired with a scan's")
        d, n_ctx = store.d(hook), store.n_ctx
        projection = _projection(d, dim, seed)
        width = projection.shape[1]
        every = max(1, -(-store.tokens.numel() * width * 2 // (buffer_mb << 20)))
        vectors = np.zeros((-(-len(store.tokens) // every) * n_ctx, width), np.float16)
        mean = store.statistics(hook).mean.float()
        for i in range(store.n_shards):
            shard = store.shard(i, hook)
            sequence, position = shard.row_ids // n_ctx, shard.row_ids % n_ctx
            kept = sequence % every == 0
            unit = torch.nn.functional.normalize(shard.acts[kept].float() - mean, dim=1)
            vectors[(sequence // every * n_ctx + position)[kept].numpy()] = (unit @ projection).numpy()
        return cls(vectors, n_ctx, every)


@dataclass(frozen=True, kw_only=True)
class NgramConfig:
    dim: int = 128
    shortest: int = 3
    longest: int = 5
    """Characters of an n-gram, the marks at a token's both ends among them; the whole token counts as one too."""
    past: int = 16
    future: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(f"shortest={self.shortest} must be in 1..longest={self.longest}")
        for name, least in (("dim", 1), ("past", 0), ("future", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")


@dataclass(frozen=True)
class NgramVectors:
    """Windows of tokens as unit vectors around the text's mean; made when they are asked for.

    A token's vector is ±1 at a hashed place for each of its n-grams, at unit length, times 1 / (1 + p / 10⁻³) for a
    token that is the share p of the text (Arora et al. 2017). The firing token itself is in the window.
    """

    tokens: Int[np.ndarray, "seq pos"]
    token_vectors: Float32[np.ndarray, "d_vocab dim"]
    mean: Float64[np.ndarray, " dim"]
    past: int
    future: int
    every: int = 1

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def dim(self) -> int:
        return self.token_vectors.shape[1]

    def __call__(self, first: int, last: int) -> Float32[np.ndarray, "row dim"]:
        return _windows(self.tokens[first:last], self.token_vectors, self.mean, self.past, self.future)

    @classmethod
    def from_tokens(
        cls, tokens: Int[Tensor, "seq pos"], vocab: list[str], config: NgramConfig | None = None
    ) -> "NgramVectors":
        config = config or NgramConfig()
        text = np.ascontiguousarray(tokens.numpy())
        share = np.bincount(text.reshape(-1), minlength=len(vocab)) / text.size
        vectors = _ngram_vectors(vocab, config) / (1 + share / 1e-3)[:, None]
        position = np.arange(text.shape[1])
        windows = np.minimum(position + config.past, position[-1]) - np.maximum(position - config.future, 0) + 1
        seen_from = np.tile(windows, len(text)).astype(float)
        mean = np.bincount(text.reshape(-1), seen_from, len(vocab)) @ vectors / text.size
        return cls(text, vectors.astype(np.float32), mean, config.past, config.future)


class CoherenceSummer:
    """Adds up the mean product of two firings' vectors chunk by chunk, whole groups at a time.

    Of `n_rows` rows each has the vector of the row that stands `moved` further on, in a ring: a shifted text's.
    """

    def __init__(self, d_sae: int, vectors: SequenceVectors, rows_per_group: int, n_rows: int, moved: int = 0):
        self._vectors, self._rows_per_group, self._n_rows, self._moved = vectors, rows_per_group, n_rows, moved
        self._sums = PairSummer(d_sae, vectors.dim)

    def add(self, chunk: CodeChunk) -> None:
        first = (chunk.start + self._moved) % self._n_rows
        here = min(chunk.stop - chunk.start, self._n_rows - first)
        embeddings, places = self._rows(first, first + here)
        if here < chunk.stop - chunk.start:
            others, behind = self._rows(0, chunk.stop - chunk.start - here)
            places = np.concatenate([places, np.where(behind < 0, -1, behind + len(embeddings))])
            embeddings = np.vstack([embeddings, others])
        self._sums.add(chunk, embeddings, self._rows_per_group, places)

    def _rows(self, start: int, stop: int) -> tuple[Float32[np.ndarray, "kept dim"], Int64[np.ndarray, " row"]]:
        """Vectors of the sequences that hold these rows, and the place of each row among them; −1 for one without."""
        n_ctx, every = self._vectors.n_ctx, self._vectors.every
        embeddings = self._vectors(start // n_ctx, -(-stop // n_ctx))
        sequence, position = np.divmod(np.arange(start, stop), n_ctx)
        first_kept = -(-(start // n_ctx) // every)
        places = np.where(sequence % every == 0, (sequence // every - first_kept) * n_ctx + position, -1)
        if places.max(initial=-1) >= len(embeddings):
            raise ValueError(f"the vectors end before row {stop - 1}: make them from the tokens that were scanned")
        return embeddings, places

    @property
    def coherence(self) -> Float64[np.ndarray, " d_sae"]:
        """Weighted by activation; NaN where all of a latent's is in one group."""
        return self._sums.result().coherence(0)


def embedding_coherence(
    codes: SparseCodes | CodeStore,
    vectors: SequenceVectors,
    *,
    sequences_per_group: int | None = None,
    progress: Progress | None = None,
) -> Float64[np.ndarray, " d_sae"]:
    """Activation-weighted mean product of the vectors of two firings in different groups of neighbouring rows.

    `codes` are of the rows seq * n_ctx + pos. sequences_per_group: None for groups as `groups` has them. NaN where all
    of a latent's activation is in one group.
    """
    n_ctx = vectors.n_ctx
    per_group = sequences_per_group * n_ctx if sequences_per_group else rows_per_group(len(codes) // n_ctx, n_ctx)
    summer = CoherenceSummer(codes.d_sae, vectors, per_group, len(codes))
    for chunk in chunks(codes, np.ones(codes.d_sae, np.float32), per_group, progress, "embedding firings"):
        summer.add(chunk)
    return summer.coherence


def residual_coherence(
    features: "FeatureStore", store: "ActivationStore", hook: str, *, dim: int | None = 128, seed: int = 0
) -> Float64[np.ndarray, " d_sae"]:
    """Coherence in the studied model's own activations at `hook`; `store` is of the tokens that were scanned."""
    if store.tokens is None or not torch.equal(store.tokens, features.tokens):
        raise ValueError(f"{store.path} holds other tokens than {features.path} is a scan of: harvest those")
    return embedding_coherence(features.codes, ResidualVectors.from_store(store, hook, dim=dim, seed=seed))


def ngram_coherence(features: "FeatureStore", config: NgramConfig | None = None) -> Float64[np.ndarray, " d_sae"]:
    """Coherence in hashed character n-grams; needs no model."""
    return embedding_coherence(features.codes, NgramVectors.from_tokens(features.tokens, features.vocab, config))


def _projection(d: int, dim: int | None, seed: int) -> Float[Tensor, "d dim"]:
    """Orthonormal columns times √(d / dim)."""
    if dim is None or dim >= d:
        return torch.eye(d)
    if dim < 1:
        raise ValueError(f"dim={dim} must be at least 1")
    square = torch.randn(d, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (torch.linalg.qr(square).Q * np.sqrt(d / dim)).float()


def _ngram_vectors(vocab: list[str], config: NgramConfig) -> Float64[np.ndarray, "d_vocab dim"]:
    vectors, salt = np.zeros((len(vocab), config.dim)), config.seed.to_bytes(8, "little")
    for i, token in enumerate(vocab):
        marked = f"\x02{token}\x03"
        sizes = {*range(config.shortest, config.longest + 1), len(marked)}
        for size in sizes:
            for start in range(len(marked) - size + 1):
                ngram = marked[start : start + size].encode("utf-8", "surrogatepass")
                bits = int.from_bytes(hashlib.blake2b(ngram, digest_size=8, salt=salt).digest(), "little")
                vectors[i, (bits >> 1) % config.dim] += 1 - 2 * (bits & 1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


@njit(cache=True, nogil=True)
def _windows(tokens, token_vectors, mean, past, future):
    """Sums over each position's window, less the mean, at unit length."""
    n_seq, n_ctx, dim = len(tokens), tokens.shape[1], token_vectors.shape[1]
    out, summed = np.empty((n_seq * n_ctx, dim), np.float32), np.zeros(dim)
    for sequence in range(n_seq):
        summed[:] = -mean
        for position in range(-future, n_ctx):
            if position + future < n_ctx:
                summed += token_vectors[tokens[sequence, position + future]]
            if position - past > 0:
                summed -= token_vectors[tokens[sequence, position - past - 1]]
            if position >= 0:
                out[sequence * n_ctx + position] = summed / max(np.sqrt((summed * summed).sum()), 1e-12)
    return out
