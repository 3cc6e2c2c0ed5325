"""Edges between widths against dense numpy and a planted split."""

import numpy as np
import pytest

from interp.compare.latent_splitting import splitting
from tests.random_codes import codes_of

ROWS, NARROW, WIDE = 900, 5, 9


@pytest.fixture
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Narrow 0 is split into wide 0, 1 and 2; 1 is kept as 3; 2 is gone; the rest is noise, and 4 fires on few rows."""
    generator = np.random.default_rng(0)
    narrow = generator.random((ROWS, NARROW)) * (generator.random((ROWS, NARROW)) < 0.1)
    wide = generator.random((ROWS, WIDE)) * (generator.random((ROWS, WIDE)) < 0.05)
    part = generator.integers(0, 3, ROWS)
    for j in range(3):
        wide[:, j] = narrow[:, 0] * (part == j)
    wide[:, 3] = narrow[:, 1] * generator.uniform(0.8, 1.2, ROWS)
    narrow[4:, 4] = 0
    return narrow, wide


@pytest.mark.parametrize("buffer_mb", [256, 0])
def test_a_planted_split_is_found_and_edges_match_numpy(planted, buffer_mb, monkeypatch):
    monkeypatch.setattr("interp.features.latent_matches.BUFFER_MB", buffer_mb)
    narrow, wide = planted
    strict = splitting(codes_of(narrow), codes_of(wide))
    monkeypatch.setattr("interp.compare.latent_splitting.MIN_COSINE_OF_PARENT", 0.3)
    found = splitting(codes_of(narrow), codes_of(wide))
    for edge in found.edges.itertuples():
        a, b = narrow[:, edge.latent], wide[:, edge.other]
        on = b > 0
        assert edge.masked == pytest.approx((a[on] @ b[on]) / np.linalg.norm(a[on]) / np.linalg.norm(b[on]), rel=1e-4)
        assert edge.both == ((a > 0) & on).sum() and edge.share == pytest.approx(edge.both / on.sum())
    assert set(zip(strict.edges.latent, strict.edges.other, strict=True)) == {(0, 0), (0, 1), (0, 2), (1, 3)}
    assert strict.children.set_index("latent").children.to_dict() == {0: 3, 1: 1, 2: 0, 3: 0} and strict.n_split == 1
    assert strict.share_with_parent == pytest.approx(4 / WIDE) and strict.null == 0


def test_splitting_assigns_a_wide_latent_to_its_best_narrow_one(planted):
    narrow, wide = planted
    narrow[:, 2] = (narrow[:, 0] > 0) * (1 + np.random.default_rng(1).random(ROWS))  # on the same rows, less alike
    found = splitting(codes_of(narrow), codes_of(wide)).edges
    assert (found.groupby("other").is_best.sum() == 1).all() and found[found.latent == 2].is_best.sum() == 0
    assert len(found[found.latent == 2]) == 3


def test_mistakes_are_named(planted):
    narrow, wide = planted
    with pytest.raises(ValueError, match="swap them"):
        splitting(codes_of(wide), codes_of(narrow))
