"""What a firing's surroundings look like as a vector, learnt from the scanned tokens alone.

In: token ids. Out: a vector for each token and, from these, for the window around any position (`Contexts`).

    PMI(a, b) = log n(a, b) N / (n(a) n(b)^0.75 …),    n counted within WINDOW tokens;    max(PMI, 0) ≈ U S Vᵀ
    v(a)  = U_a √S, centred over the text and normalised                     (Levy, Goldberg & Dagan 2015)
    e(t)  = Σ_{−PAST ≤ δ ≤ FUTURE, δ ≠ 0} s(x_{t+δ}) v(x_{t+δ}),  s(a) = 1 / (1 + p(a) / 10⁻³)   (Arora et al. 2017)

e is centred by its mean over the text and normalised: without that every pair of contexts looks alike. The token at t
itself is left out, so that a token detector gets no credit for its token; `token_vectors[x_t]` stands beside e(t).
Windows never cross the edge of a sequence. Cost: one SVD of the co-occurrences (2 s of one core for 1.2 million tokens
of 2048 kinds), then PAST + FUTURE vector additions a position.
Failing: a bag of tokens has no order and no syntax. A rare token's vector is mostly noise, and little of a window's sum
is left of it. By a sequence's edge a context is of few tokens. In text of one topic all differences are of style.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Float32, Int
from numba import njit
from torch import Tensor

DIM = 64
PAST, FUTURE = 16, 8
WINDOW = 8
"""Two tokens co-occur when they are at most this far apart."""
MAX_NEIGHBOURS = 1024
"""Commonest tokens beside which a token is counted for its role."""
MAX_TOKENS = 2_000_000
"""Co-occurrences are counted on at most this many tokens, in sequences spread evenly over the text."""


@dataclass(frozen=True)
class Contexts:
    """Token vectors and what is needed to embed any window of tokens with them."""

    token_vectors: Float32[np.ndarray, "d_vocab dim"]
    """Unit length; a token that was not seen has the zero vector."""
    roles: Float32[np.ndarray, "d_vocab dim"]
    """The same, of the tokens that stand right before and right after."""
    summands: Float32[np.ndarray, "d_vocab dim"]
    """s(a) v(a)."""
    mean: Float32[np.ndarray, " dim"]

    def embed(
        self, tokens: Int[np.ndarray, "seq pos"], rows: Int[np.ndarray, " row"]
    ) -> Float32[np.ndarray, "row dim"]:
        """The contexts of the positions `rows` = seq * n_ctx + pos: unit vectors, or zero where no other token is."""
        return embed_windows(tokens, rows, self.summands, past=PAST, future=FUTURE, mean=self.mean)


def embed_windows(
    tokens: Int[np.ndarray, "seq pos"],
    rows: Int[np.ndarray, " row"],
    summands: Float32[np.ndarray, "d_vocab dim"],
    *,
    past: int,
    future: int,
    mean: Float32[np.ndarray, " dim"] | None = None,
) -> Float32[np.ndarray, "row dim"]:
    """Sum of the summands of the tokens around each row, its own left out; with a mean, as unit vectors around it."""
    return _embed(tokens.reshape(-1), tokens.shape[1], rows, summands, past, future, mean)


def fit_contexts(tokens: Int[Tensor, "seq pos"], n_vocab: int) -> Contexts:
    """Learn token vectors from `tokens` (ids in 0..n_vocab-1) and the mean context over a sample of them."""
    step = max(1, -(-tokens.numel() // MAX_TOKENS))
    sample = np.ascontiguousarray(tokens[::step].numpy())
    low, high = int(sample.min()), int(sample.max())
    if low < 0 or high >= n_vocab:
        raise ValueError(f"token ids run from {low} to {high}, but the vocabulary has {n_vocab} entries")
    share = np.bincount(sample.reshape(-1), minlength=n_vocab) / sample.size
    vectors = _token_vectors(_cooccurrences(sample, n_vocab), share)
    roles = _token_vectors(_neighbours(sample, n_vocab, share), share)
    summands = (vectors / (1 + share / 1e-3)[:, None]).astype(np.float32)
    rows = np.arange(0, sample.size, max(1, sample.size // 200_000))
    sums = embed_windows(sample, rows, summands, past=PAST, future=FUTURE)
    return Contexts(vectors, roles, summands, sums.mean(0))


def _cooccurrences(tokens: Int[np.ndarray, "seq pos"], n_vocab: int) -> scipy.sparse.csr_matrix:
    """Symmetric counts of pairs of tokens at most WINDOW apart in one sequence."""
    counts = scipy.sparse.csr_matrix((n_vocab, n_vocab), dtype=np.float32)
    per_chunk = max(1, 1_000_000 // tokens.shape[1])
    for start in range(0, len(tokens), per_chunk):
        chunk = tokens[start : start + per_chunk]
        for distance in range(1, min(WINDOW, tokens.shape[1] - 1) + 1):
            left, right = chunk[:, :-distance].reshape(-1), chunk[:, distance:].reshape(-1)
            ones = np.ones(len(left), np.float32)
            counts += scipy.sparse.csr_matrix((ones, (left, right)), shape=counts.shape)
    return (counts + counts.T).tocsr()


def _neighbours(
    tokens: Int[np.ndarray, "seq pos"], n_vocab: int, share: Float32[np.ndarray, " d_vocab"]
) -> scipy.sparse.csr_matrix:
    """Counts of each token beside the MAX_NEIGHBOURS commonest: right before it, and in further columns right after."""
    common = np.full(n_vocab, -1)
    common[np.argsort(-share, kind="stable")[:MAX_NEIGHBOURS]] = np.arange(min(n_vocab, MAX_NEIGHBOURS))
    left, right = tokens[:, :-1].reshape(-1), tokens[:, 1:].reshape(-1)
    rows, columns = np.concatenate([right, left]), np.concatenate([common[left], common[right]])
    columns[len(left) :] += MAX_NEIGHBOURS * (columns[len(left) :] >= 0)
    known = columns >= 0
    given = np.ones(known.sum(), np.float32), (rows[known], columns[known])
    return scipy.sparse.csr_matrix(given, shape=(n_vocab, 2 * MAX_NEIGHBOURS))


def _token_vectors(
    counts: scipy.sparse.csr_matrix, share: Float32[np.ndarray, " d_vocab"]
) -> Float32[np.ndarray, "d_vocab dim"]:
    """The left factor of the truncated SVD of positive PMI, centred over the text, rows of unit length."""
    from sklearn.utils.extmath import randomized_svd

    total, context = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel() ** 0.75
    context /= max(context.sum(), 1e-12)
    pairs = counts.tocoo()
    pmi = np.log(pairs.data / (total[pairs.row] * context[pairs.col]))
    # A pair seen once says little: shrink as if one more pair had been seen at its chance rate.
    pmi *= pairs.data / (pairs.data + 1)
    keep = pmi > 0
    entries = pmi[keep].astype(np.float32), (pairs.row[keep], pairs.col[keep])
    positive = scipy.sparse.csr_matrix(entries, shape=counts.shape)
    dim = max(1, min(DIM, counts.shape[0] - 1))
    if positive.nnz == 0:
        return np.zeros((counts.shape[0], dim), np.float32)
    left, scale, _ = randomized_svd(positive, dim, n_iter=3, random_state=0)
    vectors = left * np.sqrt(scale)
    seen = share > 0
    vectors[seen] -= share[seen] @ vectors[seen]
    vectors[~seen] = 0
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


@njit(cache=True, nogil=True)
def _embed(tokens, n_ctx, rows, summands, past, future, mean):
    dim = summands.shape[1]
    out = np.zeros((len(rows), dim), np.float32)
    for i in range(len(rows)):
        position, vector = rows[i] % n_ctx, out[i]
        first = rows[i] - min(past, position)
        last = rows[i] + min(future, n_ctx - 1 - position)
        for row in range(first, last + 1):
            if row != rows[i]:
                summand = summands[tokens[row]]
                for d in range(dim):
                    vector[d] += summand[d]
        if mean is not None and first < last:
            square = np.float32(0)
            for d in range(dim):
                vector[d] -= mean[d]
                square += vector[d] * vector[d]
            if square > 0:
                vector /= np.sqrt(square)
    return out
