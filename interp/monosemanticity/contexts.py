"""What stands around a firing, as vectors: its surroundings, learnt from the scanned tokens alone, and its place in the
line, sentence, paragraph, brackets and word, read off the text.

In: token ids. Out: a vector for each token and, from these, for the window around any position (`Contexts`).

    PMI(a, b) = log n(a, b) N / (n(a) n(b)^0.75 …),    n counted within WINDOW tokens;    max(PMI, 0) ≈ U S Vᵀ
    v(a)  = U_a √S, centred over the text and normalised                     (Levy, Goldberg & Dagan 2015)
    e(t)  = Σ_{−PAST ≤ δ ≤ FUTURE, δ ≠ 0} s(x_{t+δ}) v(x_{t+δ}),  s(a) = 1 / (1 + p(a) / 10⁻³)   (Arora et al. 2017)

e is centred by its mean over the text and normalised: without that every pair of contexts looks alike. The token at t
itself is left out, so that a token detector gets no credit for its token. Windows never cross the edge of a sequence.

In: tokens and how they are spelt. Out: for each position the value of each trait (`read_positions`), counts binned:

    line, sentence     tokens since it began          paragraph   tokens since an empty line
    sequence           tokens since it began          word        tokens since a space
    indent             characters of white space that the line began with
    depth, bracket     brackets that are open, and the innermost;    quotes   whether a double quote is open

Cost: one SVD of the co-occurrences (2 s of one core for 1.2 million tokens of 2048 kinds), then PAST + FUTURE vector
additions a position.
Failing: a bag of tokens has no order and no syntax. A rare token's vector is mostly noise, and little of a window's sum
is left of it. By a sequence's edge a context is of few tokens. In text of one topic all differences are of style. What
was open before the sequence began is not known, and a full stop in a number or name ends a sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Float32, Int, UInt8
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
SIZES = {"line": 8, "sentence": 8, "paragraph": 4, "sequence": 8, "word": 4, "indent": 5, "depth": 5, "bracket": 4,
         "quotes": 2}  # fmt: skip
"""Of each trait, how many values it has."""
WIDTH = sum(SIZES.values())
BRACKETS = "([{"
_FIRST = np.cumsum([0, *SIZES.values()])[:-1]
_NEWLINE, _EMPTY, _STOP, _SPACE, _INDENT, _OPENED, _KIND, _QUOTES = range(8)


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


def read_positions(
    tokens: Int[np.ndarray, "seq pos"], vocab: Sequence[str] | None, seen: Sequence[int]
) -> UInt8[np.ndarray, "row trait"]:
    """The value of each trait at every position. vocab: None where nothing is known of how tokens are spelt; seen: the
    ids that occur."""
    told = np.zeros((int(tokens.max(initial=0)) + 1, 8), np.int16)
    if vocab is not None:
        for token in seen:
            told[token] = _told(vocab[token])
    return _states(np.ascontiguousarray(tokens), told, vocab is not None)


def position_vectors(states: UInt8[np.ndarray, "row trait"]) -> Float32[np.ndarray, "row value"]:
    """1 for each value that holds at a row, 0 for the others."""
    out = np.zeros((len(states), WIDTH), np.float32)
    np.put_along_axis(out, states + _FIRST, 1, axis=1)
    return out


def _told(string: str) -> tuple[int, ...]:
    """What a token says of those after it, in the order of the constants."""
    bare, inner = string.rstrip(), string.strip()
    after_line = string.rpartition("\n")[2]
    opened = sum((c in BRACKETS) - (c in ")]}") for c in string)
    kinds = [BRACKETS.index(c) + 1 for c in string if c in BRACKETS]
    return (
        "\n" in string,
        string.count("\n") > 1,
        bool(bare) and bare[-1] in ".!?。！？؟",
        string[:1].isspace() or not inner[:1].isalnum(),
        len(after_line) - len(after_line.lstrip()) if not after_line.strip() or "\n" in string else 0,
        opened,
        kinds[-1] if kinds else 0,
        string.count('"') % 2,
    )


@njit(cache=True, nogil=True)
def _binned(n, most):
    value = n if n < 5 else 5 if n <= 8 else 6 if n <= 16 else 7
    return min(value, most - 1)


@njit(cache=True, nogil=True)
def _states(tokens, told, spelt):
    n_seq, n_ctx = tokens.shape
    out = np.zeros((n_seq * n_ctx, 9), np.uint8)
    kinds = np.zeros(n_ctx + 1, np.int64)
    for seq in range(n_seq):
        line = sentence = paragraph = word = indent = depth = quotes = 0
        for position in range(n_ctx):
            row, token = out[seq * n_ctx + position], told[tokens[seq, position]]
            row[3] = position if position < 2 else min(7, 1 + int(np.log2(position)))
            if not spelt:
                continue
            word = 0 if token[_SPACE] else word + 1
            row[0], row[1], row[4] = _binned(line, 8), _binned(sentence, 8), min(word, 3)
            row[2] = 0 if paragraph < 5 else 1 if paragraph < 17 else 2 if paragraph < 65 else 3
            row[5], row[6], row[7], row[8] = min(4, (indent + 3) // 4), min(depth, 4), kinds[depth], quotes
            if token[_NEWLINE]:
                paragraph = 0 if token[_EMPTY] or line == 0 else paragraph + 1
                line, sentence, indent = 0, 0, token[_INDENT]
            elif line == 0 and token[_INDENT]:
                indent += token[_INDENT]
            else:
                line, paragraph = line + 1, paragraph + 1
                sentence = 0 if token[_STOP] else sentence + 1
            quotes = (quotes + token[_QUOTES]) % 2
            if token[_OPENED] > 0 and depth < n_ctx:
                depth += 1
                kinds[depth] = token[_KIND]
            elif token[_OPENED] < 0 and depth > 0:
                depth -= 1
    return out
