"""The list of related words is made from whitened rows of an unembedding."""

import numpy as np

from analyses.scorecard.related_words import whitened


def test_whitened_rows_have_the_cosines_of_the_formula():
    rows = np.random.default_rng(0).normal(size=(200, 5)) @ np.diag([9.0, 3, 1, 1, 0.5])
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov(centred.T, bias=True))
    naive = centred @ vectors @ np.diag(values**-0.5) @ vectors.T
    naive /= np.linalg.norm(naive, axis=1, keepdims=True)
    found = whitened(rows.astype(np.float32))
    np.testing.assert_allclose(found @ found.T, naive @ naive.T, atol=1e-3)
