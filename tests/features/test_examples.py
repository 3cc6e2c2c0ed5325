"""Examples and counts use each window of a text once: checked with dictionaries of windows and sorted firings."""

import itertools

import numpy as np
import pytest
import torch

from interp.codes.sparse_codes import SparseCodes
from interp.features.examples import AFTER, first_windows
from interp.features.feature_store import FeatureStore
from interp.features.scan_config import ScanConfig
from interp.statistics.randomness import splitmix64
from tests.copied_text import N_CTX, copied_text, counted, window


@pytest.mark.parametrize("n_ctx", [1, 9, 16, 40])
@pytest.mark.parametrize("at_once", [1 << 21, 100])
def test_a_window_counts_in_the_first_sequence_that_has_it(n_ctx, at_once, monkeypatch):
    monkeypatch.setattr("interp.features.examples.MAX_WINDOWS", at_once)
    tokens = copied_text(np.random.default_rng(0), n_ctx=n_ctx)
    found, expected = first_windows(tokens), counted(tokens)
    np.testing.assert_array_equal(found, expected)
    assert 0 < (~found).sum() < found.size
    if n_ctx == N_CTX:  # the second half of the sequence that repeats itself counts too
        assert found.reshape(tokens.shape)[4, -AFTER - 4 : -AFTER].all()


def test_examples_are_of_different_text(tmp_path, monkeypatch):
    """The strongest firings and the interval's samples, in order, without those whose window came before."""
    rng, config = np.random.default_rng(1), ScanConfig(n_top=9, n_per_interval=7, seed=3)
    monkeypatch.setattr("interp.features.examples.N_INTERVALS", 2)
    tokens = copied_text(rng)
    tokens[30:60] = tokens[0]  # one sequence thirty-one times
    z = np.zeros((tokens.size, 3), np.float32)
    z[:, 0] = np.where(rng.random(len(z)) < 0.3, rng.integers(1, 9, len(z)), 0)
    z[:, 1] = np.tile(np.arange(N_CTX) == 20, len(tokens)) * rng.random(len(z))
    z[1240:2000, 2] = np.tile(np.arange(N_CTX) < 2, 19) * rng.random(760)  # in the copies alone
    store = FeatureStore.from_codes(
        torch.from_numpy(tokens), SparseCodes.from_dense(torch.from_numpy(z)), tmp_path, config=config
    )
    examples, counts = store.table("examples"), store.table("intervals").set_index(["latent", "interval"])
    for latent in range(3):
        rows = np.flatnonzero(z[:, latent])
        values, mine = z[rows, latent], examples[examples.latent == latent]
        interval = np.ceil(values.astype(float) * 2 / values.max()).astype(int) - 1
        key = splitmix64(splitmix64(np.array([3], np.uint64)) + np.uint64(latent))
        hashes = splitmix64(key + rows.astype(np.uint64))
        top = rows[np.lexsort((rows, -values))]
        assert mine[mine.kind == "top"].row.tolist() == distinct(top, tokens)[:9]
        for which in range(2):
            own = rows[interval == which][hashes[interval == which].argsort()]
            assert mine[(mine.kind == "interval") & (mine.interval == which)].row.tolist() == distinct(own, tokens)[:7]
            assert counts.n[latent, which] == len(own)
    assert (examples[(examples.latent == 2) & (examples.kind == "top")].row % N_CTX).tolist() in ([0, 1], [1, 0])


def test_latents_that_fire_on_the_same_rows_have_their_own_sample(tmp_path):
    """Neighbours too: their samples are not the same rows moved by one."""
    tokens = np.arange(120 * N_CTX, dtype=np.int32).reshape(120, N_CTX)
    z = torch.ones(tokens.size, 9)
    store = FeatureStore.from_codes(
        torch.from_numpy(tokens), SparseCodes.from_dense(z), tmp_path, config=ScanConfig(n_top=0, n_per_interval=40)
    )
    rows = store.table("examples").groupby("latent").row.agg(set)
    assert set(rows.map(len)) == {40}
    for shift in range(-9, 10):
        for latent, other in itertools.combinations(range(9), 2):
            common = rows[latent] & {row + shift for row in rows[other]}
            assert len(common) < 8, "by chance one in three pairs has one"


def distinct(rows, tokens):
    kept: dict = {}
    for row in rows:
        kept.setdefault(window(tokens, row), int(row))
    return list(kept.values())
