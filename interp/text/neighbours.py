"""Learn vectors of tokens and of windows from the neighbours of tokens, from the text alone.

In: token ids. Out: two unit vectors for each token, from its positive pointwise mutual information with others,

    PMI(a, b) = ln n(a, b) N / (n(a) n(b)^0.75 …),    max(PMI, 0) ≈ U S Vᵀ,    v(a) = U_a √S      (Levy et al. 2015)

`roles` counts the tokens right before and right after, and describes a token's grammatical role; `topics` counts the
tokens within WINDOW, and describes its topic. Both are centred over the text. A window's vector is the sum of the topic
vectors of its tokens, without the token at its position. Each is weighted by 1 / (1 + p / 10⁻³) (Arora et al. 2017).
The sum is centred and scaled to unit length.

Limits: the order of tokens is lost. A rare token's vector is mostly noise. In a text on a single topic, windows differ
only in style.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Float32, Float64, Int, Int64
from numba import njit

from interp.runtime.processes import SINGLE_PROCESS, Processes
from interp.statistics.directions import unit_rows
from interp.statistics.estimates import count_ids

DIM = 64
PAST, FUTURE = 16, 8
WINDOW = 8
"""Two tokens co-occur when they are at most this far apart."""
MAX_NEIGHBOURS = 1024
"""Number of the commonest tokens that are counted next to a token, for its role."""
MEAN_WINDOWS = 60_000
"""Least number of windows for the mean window."""
TOKENS_AT_ONCE = 1_000_000
"""Tokens whose neighbours are counted at once."""


@dataclass(frozen=True)
class Neighbours:
    """The vectors of a vocabulary, and the data for computing the vector of a window."""

    roles: Float32[np.ndarray, "d_vocab dim"]
    """Vectors of unit length. A token that does not occur has the zero vector."""
    topics: Float32[np.ndarray, "d_vocab dim"]
    counts: Int64[np.ndarray, " d_vocab"]
    """The number of times that each token occurs."""
    summands: Float32[np.ndarray, "d_vocab dim"]
    """The vector that each token adds to the sum of a window."""
    mean: Float32[np.ndarray, " dim"]
    """The mean of the windows' sums."""

    @classmethod
    def learn(cls, tokens: Int[np.ndarray, "seq pos"], n_vocab: int, world: Processes = SINGLE_PROCESS) -> "Neighbours":
        """Learn the vectors from a text of token ids below n_vocab, which the processes of a world divide."""
        counts = count_ids(tokens, n_vocab)
        share = counts / max(counts.sum(), 1)
        topics, roles = world.divide(
            [
                lambda: _vectors(_count_within(tokens, n_vocab), share),
                lambda: _vectors(_count_beside(tokens, n_vocab, share), share),
            ]
        )
        summands = (topics / (1 + share / 1e-3)[:, None]).astype(np.float32)
        rows = np.arange(0, tokens.size, max(1, tokens.size // MEAN_WINDOWS))
        sums = window_sums(tokens.reshape(-1), tokens.shape[1], rows, summands, PAST, FUTURE)
        return cls(roles, topics, counts, summands, sums.mean(0))

    def windows(
        self, tokens: Int[np.ndarray, "seq pos"], rows: Int64[np.ndarray, " row"]
    ) -> Float32[np.ndarray, "row dim"]:
        """Return the vectors of the windows around `rows` = seq * n_ctx + pos, their own tokens left out."""
        sums = window_sums(tokens.reshape(-1), tokens.shape[1], rows, self.summands, PAST, FUTURE) - self.mean
        return unit_rows(sums)


def _chunks(tokens: Int[np.ndarray, "seq pos"]) -> Iterator[Int[np.ndarray, "some pos"]]:
    """Yield the sequences, some at a time, since counting takes many bytes per token."""
    step = max(1, TOKENS_AT_ONCE // tokens.shape[1])
    for start in range(0, len(tokens), step):
        yield tokens[start : start + step]


def _count_within(tokens: Int[np.ndarray, "seq pos"], n_vocab: int) -> scipy.sparse.csr_matrix:
    """Count pairs at most WINDOW apart in one sequence, both ways."""
    counts = scipy.sparse.csr_matrix((n_vocab, n_vocab), dtype=np.float32)
    for chunk in _chunks(tokens):
        for distance in range(1, min(WINDOW, tokens.shape[1] - 1) + 1):
            left, right = chunk[:, :-distance].reshape(-1), chunk[:, distance:].reshape(-1)
            ones = np.ones(len(left), np.float32)
            counts += scipy.sparse.csr_matrix((ones, (left, right)), shape=counts.shape)
    return (counts + counts.T).tocsr()


def _count_beside(
    tokens: Int[np.ndarray, "seq pos"], n_vocab: int, share: Float64[np.ndarray, " d_vocab"]
) -> scipy.sparse.csr_matrix:
    """Count how often each of the MAX_NEIGHBOURS commonest tokens comes right before a token, and, in further columns,
    right after it."""
    common = np.full(n_vocab, -1)
    common[np.argsort(-share, kind="stable")[:MAX_NEIGHBOURS]] = np.arange(min(n_vocab, MAX_NEIGHBOURS))
    counts = scipy.sparse.csr_matrix((n_vocab, 2 * MAX_NEIGHBOURS), dtype=np.float32)
    for chunk in _chunks(tokens):
        left, right = chunk[:, :-1].reshape(-1), chunk[:, 1:].reshape(-1)
        rows = np.concatenate([right, left])
        columns = np.concatenate([common[left], common[right]])
        columns[len(left) :] += MAX_NEIGHBOURS * (columns[len(left) :] >= 0)
        exists = columns >= 0
        entries = np.ones(exists.sum(), np.float32), (rows[exists], columns[exists])
        counts += scipy.sparse.csr_matrix(entries, shape=counts.shape)
    return counts


def _vectors(
    counts: scipy.sparse.csr_matrix, share: Float64[np.ndarray, " d_vocab"]
) -> Float32[np.ndarray, "d_vocab dim"]:
    """Return the left factor of the truncated SVD of positive PMI. It is centred over the text, and its rows have unit
    length."""
    from sklearn.utils.extmath import randomized_svd

    total = np.asarray(counts.sum(1)).ravel()
    context = np.asarray(counts.sum(0)).ravel() ** 0.75
    context /= max(context.sum(), 1e-12)
    pairs = counts.tocoo()
    pmi = np.log(pairs.data / (total[pairs.row] * context[pairs.col]))
    # A pair that was seen once is weak evidence: shrink as if one more pair had been seen at its chance rate.
    pmi *= pairs.data / (pairs.data + 1)
    keep = pmi > 0
    entries = pmi[keep].astype(np.float32), (pairs.row[keep], pairs.col[keep])
    positive = scipy.sparse.csr_matrix(entries, shape=counts.shape)
    dim = max(1, min(DIM, counts.shape[0] - 1))
    if positive.nnz == 0:
        return np.zeros((counts.shape[0], dim), np.float32)
    left, scale, _ = randomized_svd(positive, dim, n_iter=3, random_state=0)
    vectors = left * np.sqrt(scale)
    occurs = share > 0
    vectors[occurs] -= share[occurs] @ vectors[occurs]
    vectors[~occurs] = 0
    return unit_rows(vectors).astype(np.float32)


@njit(cache=True, nogil=True)
def window_sums(tokens, n_ctx, rows, summands, past, future):
    """For each row, sum the summands of the tokens around it in its sequence, without its own."""
    out = np.zeros((len(rows), summands.shape[1]), np.float32)
    for i in range(len(rows)):
        position = rows[i] % n_ctx
        for row in range(rows[i] - min(past, position), rows[i] + min(future, n_ctx - 1 - position) + 1):
            if row != rows[i]:
                token = tokens[row]
                for d in range(summands.shape[1]):
                    out[i, d] += summands[token, d]
    return out
