"""Vectors of tokens and of windows, by their neighbours."""

import numpy as np

from interp.statistics.estimates import count_ids
from interp.text import neighbours
from interp.text.neighbours import FUTURE, PAST, Neighbours


def test_a_window_sums_its_tokens_without_its_middle_and_stays_in_its_sequence():
    rng, n_ctx = np.random.default_rng(4), 40
    tokens = rng.integers(20, size=(50, n_ctx)).astype(np.int32)
    known = Neighbours.learn(tokens, 20)
    windows = known.windows(tokens, np.arange(tokens.size)).reshape(*tokens.shape, -1)
    for sequence, position in [(0, 0), (7, 20), (49, n_ctx - 1)]:
        reach = range(position - PAST, position + FUTURE + 1)
        window = [p for p in reach if 0 <= p < n_ctx and p != position]
        expected = known.summands[tokens[sequence, window]].sum(0) - known.mean
        np.testing.assert_allclose(windows[sequence, position], expected / np.linalg.norm(expected), atol=1e-5)


def test_tokens_of_one_topic_are_of_one_class():
    rng = np.random.default_rng(5)
    topic = rng.integers(4, size=(200, 1))
    tokens = (topic * 10 + rng.integers(10, size=(200, 32))).astype(np.int32)
    known = Neighbours.learn(tokens, 41)
    cosine = (known.topics @ known.topics.T)[:40, :40]
    alike = np.arange(40)[:, None] // 10 == np.arange(40)[None, :] // 10
    assert cosine[alike].mean() > 0.8 and cosine[~alike].mean() < 0.1
    assert not known.topics[40].any()


def test_neighbours_are_the_same_when_counted_in_blocks(monkeypatch):
    tokens = np.random.default_rng(6).integers(30, size=(50, 16)).astype(np.int32)
    whole = Neighbours.learn(tokens, 31)
    beside = neighbours._count_beside(tokens, 31, np.bincount(tokens.ravel(), minlength=31) / tokens.size)
    assert beside.sum() == 2 * 50 * 15
    assert beside[7, neighbours.MAX_NEIGHBOURS :].sum() == (tokens[:, :-1] == 7).sum()
    monkeypatch.setattr(neighbours, "TOKENS_AT_ONCE", 48)
    monkeypatch.setattr("interp.statistics.estimates._NUMBERS_AT_ONCE", 7)
    in_blocks = Neighbours.learn(tokens, 31)
    for name in ("roles", "topics", "counts", "summands", "mean"):
        np.testing.assert_array_equal(getattr(in_blocks, name), getattr(whole, name))
    np.testing.assert_array_equal(count_ids(tokens, 31), np.bincount(tokens.ravel(), minlength=31))
