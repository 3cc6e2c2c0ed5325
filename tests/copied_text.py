"""Text with passages that are copied, and which of its windows count."""

import numpy as np

from interp.features.examples import AFTER, BEFORE

N_CTX = 40


def copied_text(rng, n_seq=120, n_ctx=N_CTX, vocab=50):
    """Return text in which every third sequence has a passage of the previous one, some elsewhere; the last half
    twice."""
    tokens = rng.integers(vocab, size=(n_seq, n_ctx)).astype(np.int32)
    length = n_ctx * 3 // 4 if n_ctx > 30 else n_ctx
    for at in range(2, n_seq, 3):
        shift = rng.integers(3) if n_ctx > 30 else 0
        tokens[at, shift:length] = tokens[at - 1, : length - shift]
    tokens[4, n_ctx // 2 :] = tokens[4, : n_ctx - n_ctx // 2]
    return tokens


def window(tokens, row):
    n_ctx = tokens.shape[1]
    sequence, position = divmod(int(row), n_ctx)
    start = max(0, min(position - BEFORE, n_ctx - BEFORE - 1 - AFTER))
    return position - start, *tokens[sequence, start : start + BEFORE + 1 + AFTER].tolist()


def counted(tokens):
    seen: dict = {}
    n_ctx = tokens.shape[1]
    return np.array([seen.setdefault(window(tokens, row), row // n_ctx) == row // n_ctx for row in range(tokens.size)])
